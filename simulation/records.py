"""What two runs would record beside their logits, had a planted fault really come about."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.precision.environment import Environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import (
    CAPTURED,
    OWN,
    CheckpointRecord,
    Manifest,
    PolicyRecord,
    TokenizationRecord,
)
from shifamind_core.runs.run import Run

OTHER_BATCH, BATCH = 48, 50  # notes; the first as in `simulation.arithmetic`, which needs torch
# The name that manifests allow, by the field in which the runs differ.
NARROWER = {
    "tokenization.lowercase": {"tokenizer_casing"},
    "tokenization.max_length": {"max_length"},
    "tokenization.truncation_side": {"truncation_side"},
    "tokenization.padding": {"padding"},
    "tokenization.special_tokens": {"input_changed"},
    "checkpoint.weights_digest": {"other_checkpoint", "weights_changed"},
}
# Where manifests say that length and side are equal, long notes were cut in a way that no field names: another input.
UNRECORDED = {"head and tail": {"input_changed"}}
# Causes and faults of somebody else's pipeline, which this product's own cannot have: it passes the mask, loads strictly, saves
# scores as the model gave them; and by its ids another text is another note.
FOREIGN = ("dropout_active", "calibration_shift", "different_documents", "few_documents_changed")
OF_OTHERS = (
    "not loaded", "base model's encoder", "mask ignored", "head and tail", "segments", "special tokens", "few codes: noise",
    "few codes: shifted", "few codes: rescaled", "beginnings cut", "tokens lost", "unknown tokens", "line ends", "parts swapped",
    "words removed", "another vocabulary", "by way of", "stored in", "head in fp32",
)  # fmt: skip
LOST = ("not loaded", "base model's encoder")  # on the way from the file into the model
POLICY_OF = {"fp32": "fp32", "tf32": "tf32", "fp16": "fp16-autocast", "bf16": "bf16-autocast"}
# Settings by the beginning of the fault's name.
SETTINGS = (
    ("casing", "tokenization.lowercase", False),
    ("max_length", "tokenization.max_length", 64),
    ("truncation_side", "tokenization.truncation_side", "left"),
    ("padding to", "tokenization.padding", "longest"),
    ("no special tokens", "tokenization.special_tokens", False),
)
OTHER_TOKENS = ("input_changed", "max_length", "few_documents_changed")
MAX_LENGTH = 511  # of a run without the fault: no plan of the fleet is cut to this
NOTES = 20  # of runs without logits
LAYERS = 6  # of the encoder as records have it; how many a model really has decides nothing
PARTS = {
    "encoder.embeddings": "a" * 64,
    "encoder.embeddings.norms": "a" * 64,
    **{f"encoder.layer.{layer}{norms}": "a" * 64 for layer in range(LAYERS) for norms in ("", ".norms")},
    "head.classifier": "a" * 64,
}
# Of other weights, the parts that differ, by the beginning of the fault's name: all of them where none fits.
OTHER_PARTS = (
    ("noise on the encoder", lambda part: part.startswith("encoder.") and not part.endswith(".norms")),
    ("noise on the head", lambda part: part.startswith("head.")),
    ("noise on all", lambda part: not part.endswith(".norms")),
    ("pruned", lambda part: "embeddings" not in part and not part.endswith(".norms")),
    ("layer norms", lambda part: part.startswith("encoder.layer.") and part.endswith(".norms")),
    ("layer ", lambda part: part.startswith("encoder.layer.1")),
    ("encoder not", lambda part: part.startswith("encoder.")),
    ("the base model's encoder", lambda part: part.startswith("encoder.")),
    ("head not", lambda part: part.startswith("head.")),
    ("all but the encoder", lambda part: part.startswith("head.")),
    ("few codes: other heads", lambda part: part.startswith("head.")),
    ("other biases of the head", lambda part: part.startswith("head.")),
)


def names(case: Mapping[str, Any]) -> set[str]:
    """What the fault may be called besides, by what manifests say of it."""
    found = set(UNRECORDED.get(case["fault"], ()))
    return found.union(*(NARROWER.get(name, ()) for name, _ in case["fields"] if not _lost(case)))


def manifests(case: Mapping[str, Any]) -> tuple[Manifest, Manifest]:
    """What the reference's and the candidate's manifests would record where such a fault really comes about.

    A fault that this product cannot make is of somebody else's pipeline, which says nothing of itself; what was not loaded
    in half of the cases of a captured one, which has the digest of what its model held. Of precision, settings and other
    checkpoints half are this product's.
    """
    known = case["architecture"] if case["architecture"] in ("cls_fusion", "concept_attention") else None
    half = bool(zlib.crc32(f"{case['model']}/{case['key']}".encode()) % 2)
    lost = _lost(case)
    captured = lost and half
    fault = case["fault"]
    stored = case["nuisance"].startswith(("store", "probability"))
    foreign = stored or case["cause"] in FOREIGN or any(name in fault for name in OF_OTHERS)
    told = captured or not (foreign or half)  # who records the parts of the weights
    base = Manifest(
        producer=CAPTURED if captured else None if foreign or half else f"{OWN} 0.1.0",
        checkpoint=CheckpointRecord(
            file_sha256="f" * 64 if captured else None,
            weights_digest="a" * 64,
            part_digests=PARTS if told else None,
            architecture=known,
        ),
        tokenization=TokenizationRecord(
            lowercase=True, max_length=MAX_LENGTH, padding="max_length", truncation_side="right", special_tokens=True
        ),
        environment=Environment(device="cpu"),
    )  # fmt: skip
    mine, _, theirs = fault.partition(" against ")
    policy = _policy(mine) if case["level"] else POLICY_OF.get(case["nuisance"], "fp32")
    other = _policy(theirs or (mine if "other batch" in mine else ""))
    batch = OTHER_BATCH if "batch" in f"{mine} {case['nuisance']}" else BATCH
    fields = {name: value for name, value in case["fields"] if not name.startswith("policy.")}
    if captured or "other heads" in fault:
        fields["checkpoint.weights_digest"] = "b" * 64  # of the model, or of another file
    elif lost:
        fields.pop("checkpoint.weights_digest", None)  # of the file, which is the same
    if told and "checkpoint.weights_digest" in fields:
        fields["checkpoint.part_digests"] = other_parts(case)
    candidate = _arithmetic(base, policy, batch)
    for name, value in fields.items():
        room, field = name.split(".")
        candidate = replace(candidate, **{room: replace(getattr(candidate, room), **{field: value})})
    return _arithmetic(base, other, BATCH), candidate


def other_parts(case: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the parts that hold other weights under such a fault, and of the rest as they were."""
    frozen = case["model"].endswith("-frozen")  # in training only the head moves
    differs = next(
        (differs for start, differs in OTHER_PARTS if case["fault"].startswith(start)),
        lambda part: part.startswith("head.") or not frozen,
    )
    return {part: "b" * 64 if differs(part) else digest for part, digest in PARTS.items()}


def _lost(case: Mapping[str, Any]) -> bool:
    return any(name in case["fault"] for name in LOST)


def _policy(arithmetic: str) -> str:
    """The policy that such arithmetic is recorded under."""
    level = arithmetic[:4].rstrip()
    if level == "fp64":
        return level
    whole = "weights" in arithmetic or "throughout" in arithmetic
    return level if whole and level in POLICY_OF else POLICY_OF.get(level, "fp32")


def _arithmetic(manifest: Manifest, policy: str, batch: int) -> Manifest:
    return replace(manifest, policy=PolicyRecord.of(POLICIES[policy]), batch_size=batch)


def fields_of(row: Mapping[str, Any]) -> tuple[tuple[str, object], ...]:
    """The fields in which the runs of a row of the corpus differ, as `simulation.faults` gives them with a case."""
    if row["cause"] == "weights_changed" or row["fault"] == "other biases of the head":
        return (("checkpoint.weights_digest", "b" * 64),)
    return next((((name, value),) for start, name, value in SETTINGS if row["fault"].startswith(start)), ())


def evidence_of(row: Mapping[str, Any], key: str) -> Evidence:
    """What the runs of a row of the corpus would record, without their logits; `key` draws whose runs they are."""
    theirs, ours = manifests({**row, "key": key, "fields": fields_of(row)})
    ids = np.arange(NOTES, dtype=np.int64)
    reads_other = row["cause"] in OTHER_TOKENS and row["fault"] != "segments of ones"
    few = row["alone"] == "few_documents_changed" and row["fault"] != "no special tokens"
    other = ids < (NOTES // 10 if few else NOTES) * reads_other
    known = row["cause"] != "different_documents"
    logits = np.zeros((NOTES, 1), np.float32)
    reference = Run(logits, document_ids=ids, token_digests=ids + 1, manifest=theirs)
    candidate = replace(
        reference,
        document_ids=ids if known else None,
        token_digests=np.where(other, -ids - 1, ids + 1) if known else None,
        manifest=ours,
    )
    return Evidence.of(candidate, reference)
