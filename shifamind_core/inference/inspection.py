"""What a run directory holds, whether it fits together, and what this machine can do with it: `inspect`."""

from typing import Any

from torch import nn
from transformers import __version__ as transformers_version

from shifamind_core.artifacts.code_order import Check
from shifamind_core.artifacts.hazards import hazards_for
from shifamind_core.artifacts.inspect import inspect_run_directory, read_splits
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.tokenizer import NoteTokenizer, check_vocabulary, load_tokenizer
from shifamind_core.model.build import positions_of, words_of
from shifamind_core.model.inspect import checkpoint_checks
from shifamind_core.precision.apply import observe_flags, refusal, resolve_device
from shifamind_core.precision.observe import observe_environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.records import to_json

ROUNDED_UP = 128  # a vocabulary is often padded to a multiple of this


def inspect(pipeline: Pipeline) -> dict[str, Any]:
    """The JSON of `inspect`: checks are a list of `{name, status, message}`; what cannot be known is null.

    Raises
    ------
    ShifamindError
        No checkpoint, or one that cannot be read: without it nothing else matters.
    """
    directory, checkpoint = pipeline.directory, pipeline.checkpoint
    splits, checks = read_splits(directory)
    checks = [
        *inspect_run_directory(directory, splits),
        *checks,
        *checkpoint_checks(checkpoint, directory, splits),
    ]
    model, model_check = _model(pipeline)
    checks.append(model_check)
    tokenizer, tokenizer_checks = _tokenizer(pipeline, model)
    device = resolve_device("auto")
    return {
        "architecture": checkpoint.architecture,
        "model_class": type(model).__name__ if model is not None else None,
        "parameters": checkpoint.record.parameters,
        "codes": list(checkpoint.codes or next((s.codes for s in splits.values() if s.codes), None) or ()),
        "concepts": checkpoint.concept_count,
        "positions": None if model is None else positions_of(model),
        "weights": [checkpoint.weights, *(one.name for one in checkpoint.others)],
        "epoch": checkpoint.epoch,
        "stored_macro_f1": checkpoint.record.stored_macro_f1,
        "stored_micro_f1": checkpoint.record.stored_micro_f1,
        "splits": {name: len(split) for name, split in splits.items()},
        "checks": [to_json(check) for check in [*checks, *tokenizer_checks]],
        "tokenizer": tokenizer,
        "environment": to_json(observe_environment(device)),
        "flags": to_json(observe_flags(POLICIES["default"], device, "sdpa")),
        "policies": [
            {"name": policy.name, "description": policy.description, "refused": refusal(policy, device)}
            for policy in POLICIES.values()
        ],
    }


def _model(pipeline: Pipeline) -> tuple[nn.Module | None, Check]:
    """The model, if the checkpoint loads strictly into the architecture its keys name."""
    try:
        model = pipeline.model()
    except ShifamindError as error:
        return None, Check("model", "error", str(error))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return model, Check("model", "ok", f"All keys load strictly: {parameters:,} parameters.")


def _tokenizer(pipeline: Pipeline, model: nn.Module | None) -> tuple[dict[str, Any], list[Check]]:
    """The tokenizer that the library's default gives, the hazards of the installed version, and whether the model has a row
    for every token."""
    try:
        hazards = [
            Check(hazard.name, "warning", f"Installed: transformers {transformers_version}. {hazard.message}")
            for hazard in hazards_for(pipeline.base_model, transformers_version)
        ]
        tokenizer = load_tokenizer(pipeline.base_model)
    except ShifamindError as error:
        return {}, [Check("tokenizer", "error", str(error))]
    casing = "lower-cases notes" if tokenizer.lowercase else "keeps their case"
    message = f"transformers {transformers_version} {casing} by default ({tokenizer.source})."
    checks = [Check("tokenizer", "ok", message), *hazards]
    checks += [Check("tokenizer_files", "warning", remark) for remark in tokenizer.remarks]
    if model is not None and (rows := words_of(model)) is not None:
        checks.append(_vocabulary(pipeline, tokenizer, rows))
    return describe(tokenizer), checks


def _vocabulary(pipeline: Pipeline, tokenizer: NoteTokenizer, rows: int) -> Check:
    try:
        check_vocabulary(tokenizer, rows, pipeline.base_model, pipeline.checkpoint.path.name)
    except ShifamindError as error:
        return Check("vocabulary", "error", str(error))
    spare = rows - tokenizer.size
    message = f"The embedding has {rows:,} rows, the tokenizer {tokenizer.size:,} tokens"
    if spare < ROUNDED_UP:
        return Check("vocabulary", "ok", f"{message}{': no token reaches the rest' if spare else ''}.")
    return Check(
        "vocabulary",
        "warning",
        f"{message}. That is harmless if rows were added for tokens that these notes do not have; else this is not the vocabulary "
        "that the checkpoint was trained with.",
    )


def describe(tokenizer: NoteTokenizer) -> dict[str, Any]:
    """What a person wants to know of a tokenizer."""
    return {
        "lowercase": tokenizer.lowercase,
        "source": tokenizer.source,
        "normalizer": tokenizer.normalizer,
        "tokenizer_class": tokenizer.tokenizer_class,
        "vocabulary_size": tokenizer.backend.get_vocab_size(),
        "vocabulary_sha256": tokenizer.vocabulary_sha256,
    }
