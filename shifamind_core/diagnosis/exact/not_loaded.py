"""Weights that digests show were not loaded: the base model's encoder under the checkpoint's head, or parts as the library makes them."""

from collections.abc import Sequence

from shifamind_core.artifacts.weight_parts import EMBEDDINGS, ENCODER, HEAD
from shifamind_core.diagnosis.evidence.facts import both_loaded, made_here
from shifamind_core.diagnosis.evidence.weight_parts import Where, holds_encoder
from shifamind_core.diagnosis.exact.rounded_weights import share_of_same_tokens
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import confirmed
from shifamind_core.runs.manifest import CheckpointRecord

CAUSES: dict[Where, str] = {
    "head": "head_not_loaded",
    "encoder": "encoder_not_loaded",
    "part of the encoder": "weights_changed",
}
SIDES = ("candidate", "reference")


def not_loaded(examination: Examination) -> Examination:
    """Confirm from what two models held that one of them did not load what the other did; all else in them is equal.

    Either every part of its encoder is the base model's and the other's is not, or every part that differs is in it as the library
    makes it and in the other not. Leaves the scores as they are, as `rounded_weights` does, and has the same share. Two runs of this
    product say nothing here: it loads all of a checkpoint, which is then another one.
    """
    evidence = examination.evidence
    records, parts = [run.manifest.checkpoint for run in evidence.whole], evidence.manifests.parts
    if parts is None or parts.where not in CAUSES or not both_loaded(evidence):
        return examination
    if examination.explained or made_here(evidence):
        return examination
    known = [record for record in records if record is not None]
    if parts.all_same(HEAD) and (place := _one_of(_with_base_encoder(known))) is not None:
        told = f"Every part of the {SIDES[place]}'s encoder is the base model's (equal digests); the head is the same in both."
        meaning = (
            f"The {SIDES[place]}'s model held the encoder of the base model, as it was before training; the "
            f"{SIDES[1 - place]}'s held another."
        )
        cause = "encoder_not_loaded"
    elif (place := _one_of(_as_made(known, parts.other))) is not None:
        told = f"{parts.sentence} In the {SIDES[place]}'s model every bias there is 0 and every layer norm's weight 1."
        meaning = (
            f"A part of the {SIDES[place]}'s model is as the library makes it: it was not loaded, or never trained. "
            "All other weights are those of the other run."
        )
        cause = CAUSES[parts.where]
    else:
        return examination
    share = share_of_same_tokens(examination)
    return examination.noted(confirmed(cause, told, share, meaning=meaning, evidence={"run": SIDES[place]}))


def _one_of(held: Sequence[bool | None]) -> int | None:
    """Which of two it is, where it is one of them alone and that is known of both."""
    return list(held).index(True) if sorted(map(str, held)) == ["False", "True"] else None


def _with_base_encoder(records: Sequence[CheckpointRecord]) -> list[bool]:
    bases = [record.base_model_digests for record in records if record.base_model_digests is not None]
    return [any(holds_encoder(record, base) for base in bases) for record in records]


def _as_made(records: Sequence[CheckpointRecord], other: frozenset[str]) -> list[bool | None]:
    """Whether all of these parts are untrained in a model, or none is; `None` for neither. Embeddings have no bias to tell."""
    telling = other - {f"{ENCODER}{EMBEDDINGS}"}
    found: list[bool | None] = []
    for record in records:
        untrained = telling & set(record.untrained_parts or ())
        known = record.untrained_parts is not None and telling and untrained in (telling, set())
        found.append(bool(untrained) if known else None)
    return found
