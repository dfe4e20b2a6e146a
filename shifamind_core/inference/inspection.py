"""What a run directory holds, whether it fits together, and what this machine can do with it: `inspect`."""

from typing import Any

from transformers import __version__ as transformers_version

from shifamind_core.artifacts.code_order import Check
from shifamind_core.artifacts.hazards import hazards_for
from shifamind_core.artifacts.inspect import inspect_run_directory, read_splits
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.tokenization import NoteTokenizer, load_tokenizer
from shifamind_core.model.inspect import checkpoint_checks
from shifamind_core.precision.apply import observe_flags, refusal, resolve_device
from shifamind_core.precision.observe import observe_environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.records import to_json


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
    checks.append(_model_check(pipeline))
    tokenizer, casing_checks = _tokenizer(pipeline)
    device = resolve_device("auto")
    return {
        "architecture": checkpoint.architecture,
        "parameters": checkpoint.record.parameters,
        "codes": list(checkpoint.codes or next((s.codes for s in splits.values() if s.codes), None) or ()),
        "concepts": checkpoint.concept_count,
        "epoch": checkpoint.epoch,
        "stored_macro_f1": checkpoint.record.stored_macro_f1,
        "stored_micro_f1": checkpoint.record.stored_micro_f1,
        "splits": {name: len(split) for name, split in splits.items()},
        "checks": [to_json(check) for check in [*checks, *casing_checks]],
        "tokenizer": tokenizer,
        "environment": to_json(observe_environment(device)),
        "flags": to_json(observe_flags(POLICIES["default"], device, "sdpa")),
        "policies": [
            {"name": policy.name, "description": policy.description, "refused": refusal(policy, device)}
            for policy in POLICIES.values()
        ],
    }


def _model_check(pipeline: Pipeline) -> Check:
    """Whether the checkpoint loads strictly into the architecture its keys name."""
    try:
        parameters = sum(parameter.numel() for parameter in pipeline.model().parameters())
    except ShifamindError as error:
        return Check("model", "error", str(error))
    return Check("model", "ok", f"All keys load strictly: {parameters:,} parameters.")


def _tokenizer(pipeline: Pipeline) -> tuple[dict[str, Any], list[Check]]:
    """The tokenizer that the library's default gives, and the hazards of the installed version."""
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
    return describe(tokenizer), [Check("tokenizer", "ok", message), *hazards]


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
