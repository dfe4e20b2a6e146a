"""Checks that need the checkpoint: what it says against what the rest of the run directory says."""

from collections.abc import Mapping

import numpy as np
import torch

from shifamind_core.artifacts.code_order import Check, compare_codes
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.artifacts.splits import Split
from shifamind_core.errors import ShifamindError
from shifamind_core.model.checkpoint import Checkpoint, OtherWeights


def checkpoint_checks(
    checkpoint: Checkpoint, run_directory: RunDirectory, splits: Mapping[str, Split]
) -> list[Check]:
    """Code order against the JSON file and the splits, sizes against the config, concepts, finite weights."""
    summary = f"{checkpoint.architecture}: {checkpoint.record.parameters:,} parameters, {checkpoint.code_count} codes{_concepts_in_words(checkpoint)}."
    checks = [Check("checkpoint", "ok", " ".join([summary, *checkpoint.remarks]))]
    if checkpoint.non_finite:
        message = (
            f"{checkpoint.non_finite:,} weights are NaN or infinite; this checkpoint gives no usable logits."
        )
        checks.append(Check("finite_weights", "error", message))
    return [
        *checks,
        *_other_weights(checkpoint),
        *_code_order(checkpoint, run_directory, splits),
        *_stored_sizes(checkpoint),
        *_concepts(checkpoint, run_directory),
    ]


def _concepts_in_words(checkpoint: Checkpoint) -> str:
    return f", {checkpoint.concept_count} concepts" if checkpoint.concept_count else ""


def _other_weights(checkpoint: Checkpoint) -> list[Check]:
    """Other state dicts in the file: which model is meant, the file does not say."""
    return [
        Check(
            "other_weights",
            "warning",
            f"Beside {checkpoint.weights or 'the weights'}, which is used, the file holds {other.name} ({_distance(checkpoint, other)}). To "
            f"score with those instead: --weights {other.name}; replay tries them by itself.",
        )
        for other in checkpoint.others
    ]


def _distance(checkpoint: Checkpoint, other: OtherWeights) -> str:
    if other.architecture != checkpoint.architecture:
        return f"of another architecture, {other.architecture}"
    if other.max_difference is None:
        return "of other sizes"
    if other.max_difference == 0:
        return "the same numbers"
    return f"weights differ by up to {other.max_difference:.2g}"


def _code_order(
    checkpoint: Checkpoint, run_directory: RunDirectory, splits: Mapping[str, Split]
) -> list[Check]:
    checks = [
        _width(checkpoint, split)
        for split in splits.values()
        if split.labels.shape[1] != checkpoint.code_count
    ]
    if checkpoint.codes is None:
        message = "The checkpoint names no codes; those of the JSON file or the splits are taken by position."
        return [*checks, Check("code_order_checkpoint", "warning", message)]
    try:
        info = run_directory.code_info
    except ShifamindError:
        info = None  # reported where the JSON file is inspected
    others = {"json": (info.codes, "the JSON file")} if info else {}
    others |= {name: (s.codes, f"the {name} split") for name, s in splits.items() if s.codes is not None}
    return checks + [
        compare_codes(
            f"code_order_checkpoint_{key}",
            checkpoint.codes,
            "the checkpoint",
            codes,
            place,
            run_directory.is_classifier,
        )
        for key, (codes, place) in others.items()
    ]


def _width(checkpoint: Checkpoint, split: Split) -> Check:
    message = f"The checkpoint has {checkpoint.code_count} outputs, the {split.name} split {split.labels.shape[1]} label columns. Use files of one run."
    return Check(f"codes_{split.name}", "error", message)


def _stored_sizes(checkpoint: Checkpoint) -> list[Check]:
    """What the stored config says of sizes that the tensors show."""
    shown = {
        "num_classes": checkpoint.code_count,
        "num_concepts": checkpoint.concept_count,
        "fusion_layers": list(checkpoint.fusion_layers) or None,
    }
    return [
        Check(
            "checkpoint_config",
            "warning",
            f"config.{key} is {str(checkpoint.config[key])[:60]}, but the weights say {value}; the weights count.",
        )
        for key, value in shown.items()
        if value is not None
        and checkpoint.config.get(key) is not None
        and _plain(checkpoint.config[key]) != value
    ]


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _concepts(checkpoint: Checkpoint, run_directory: RunDirectory) -> list[Check]:
    """Concept embeddings stand up to three times in a run: as a weight, beside the weights, and in a file."""
    if not checkpoint.concept_count:
        return []
    checks = []
    wanted = (checkpoint.concept_count, checkpoint.hidden_size)
    copies: dict[str, np.ndarray] = {}
    if checkpoint.concept_embeddings is not None:
        copies["the copy beside the state dict"] = checkpoint.concept_embeddings.to(torch.float32).numpy()
    try:
        stored = run_directory.concept_embeddings()
    except ShifamindError:
        stored = None  # reported by inspect_run_directory
    if stored is not None:
        copies["concept_embeddings.npy"] = stored
    weight = checkpoint.state_dict.get("concept_embeddings")
    for place, copy in copies.items():
        if copy.shape != wanted:
            message = f"{place} is {list(copy.shape)}, but the checkpoint has {wanted[0]} concepts of size {wanted[1]}."
            checks.append(Check("concept_embeddings", "warning", message))
        elif weight is None:
            checks.append(
                Check(
                    "concept_embeddings",
                    "ok",
                    f"{place} has {wanted[0]} concepts; this architecture does not use it.",
                )
            )
        else:
            difference = float(np.abs(copy - weight.to(torch.float32).numpy()).max())
            status = "ok" if difference == 0 else "warning"
            equal = "equals the checkpoint's weight bit for bit."
            differs = f"differs from the checkpoint's weight by at most {difference:.3g}; the weight is used."
            message = f"{place} {equal if difference == 0 else differs}"
            checks.append(Check("concept_embeddings", status, message))
    return checks
