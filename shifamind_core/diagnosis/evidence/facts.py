"""What two runs record beside their logits, one observation a fact: several fields that tell the same are one fact."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from shifamind_core.diagnosis.causes import OTHER_PARTS, OUTCOMES, Fact
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.model.architectures import architecture_named
from shifamind_core.runs.manifest import CAPTURED, OWN, TRAINING_MODE, Manifest

FEW = 0.5  # a minority: what the word means
LIMIT_FIELDS = ("tokenization.max_length", "tokenization.truncation_side")
TOKEN_FIELDS = (
    *LIMIT_FIELDS,
    "tokenization.lowercase",
    "tokenization.special_tokens",
    "tokenization.vocabulary_sha256",
)
WEIGHTS_FIELDS = tuple(f"checkpoint.weights_digest{form}" for form in ("", "_fp16", "_bf16"))
# The outcomes that a fact may have had; all of them where nothing is recorded.
Seen: TypeAlias = frozenset[str]


def observed(evidence: Evidence) -> dict[Fact, Seen]:
    """Every fact that both runs record."""
    found: dict[Fact, Seen] = {fact: look(evidence) for fact, look in OBSERVERS.items()}
    return {fact: seen for fact, seen in found.items() if seen and seen != frozenset(OUTCOMES[fact])}


def reads_padding(evidence: Evidence) -> bool:
    """Can padding reach this model's scores, as far as is known?"""
    checkpoint = evidence.candidate.manifest.checkpoint
    kind = architecture_named(checkpoint.architecture if checkpoint else None)
    return kind is None or kind.reads_padding is not None


def _two(differs: bool | None) -> Seen:
    return frozenset() if differs is None else frozenset({"other" if differs else "same"})


def _manifests(evidence: Evidence) -> tuple[Manifest, Manifest]:
    candidate, reference = evidence.whole
    return candidate.manifest, reference.manifest


def _by(manifest: Manifest, producer: str) -> bool:
    return (manifest.producer or "").startswith(producer)


def _weights(evidence: Evidence) -> bool | None:
    """Do they differ? Not where one is the other, saved in half precision: that is rounding."""
    parts = evidence.manifests.parts
    if not evidence.manifests.equal.isdisjoint(WEIGHTS_FIELDS) or (parts is not None and not parts.other):
        return False
    return evidence.manifests.differs(WEIGHTS_FIELDS[0]) or None


def _file_weights(evidence: Evidence) -> Seen:
    """Digests of what a file holds: where anybody else's manifest takes part, who may have read it and not loaded it.

    A captured run has the model's own digest, and that of the file.
    """
    if not _loaded_digests(evidence):
        return _two(_weights(evidence))
    captured = any(_by(one, CAPTURED) for one in _manifests(evidence))
    return _two(False if captured and "checkpoint.file_sha256" in evidence.manifests.equal else None)


def _model_weights(evidence: Evidence) -> Seen:
    """Digests of what the model really held: a captured one, or this product's, which loads strictly."""
    differs = _weights(evidence) if _loaded_digests(evidence) else None
    if not differs:
        return _two(differs)
    parts = evidence.manifests.parts
    return frozenset(OTHER_PARTS) if parts is None else frozenset({parts.where})


def made_here(evidence: Evidence) -> bool:
    """Are both runs this product's own?"""
    return all(_by(manifest, OWN) for manifest in _manifests(evidence))


def both_loaded(evidence: Evidence) -> bool:
    """Are the digests of both runs those of what their models held?"""
    return all(_by(one, CAPTURED) or _by(one, OWN) for one in _manifests(evidence))


def ids_are_digests(evidence: Evidence) -> bool:
    """Are the ids of both runs digests of the notes' text, as this product and its capture make them?"""
    return both_loaded(evidence)


def _loaded_digests(evidence: Evidence) -> bool:
    return any(_by(one, CAPTURED) for one in _manifests(evidence)) or made_here(evidence)


def _tokens(evidence: Evidence) -> Seen:
    """By the digests of the notes' token ids; without them by the fields that decide the ids, where one differs."""
    share = evidence.tokens.changed_share
    if share is None:
        differs = any(evidence.manifests.differs(field) for field in TOKEN_FIELDS)
        return frozenset({"few", "most"}) if differs else frozenset()
    return frozenset({"same" if not share else "few" if share < FEW else "most"})


def _limit(evidence: Evidence) -> Seen:
    """Where long notes are cut, and at which end."""
    manifests = evidence.manifests
    if any(manifests.differs(field) for field in LIMIT_FIELDS):
        return _two(True)
    return _two(False if manifests.equal.issuperset(LIMIT_FIELDS) else None)


def _padding(evidence: Evidence) -> Seen:
    """To what notes were filled up. A maximum length that cut notes is told by their tokens, and not again here."""
    manifests = evidence.manifests
    if "tokenization.padding" not in manifests.equal:
        return _two(True if manifests.differs("tokenization.padding") else None)
    record = _manifests(evidence)[0].tokenization
    longest = record is not None and record.padding == "longest"
    width = "batch_size" if longest else "tokenization.max_length"
    if manifests.differs(width):
        return _two(True) if longest or evidence.tokens.all_same else frozenset()
    return _two(False if width in manifests.equal else None)


def _watched(evidence: Evidence) -> Seen:
    """This product's runs and captured ones hold the scores as the model gave them."""
    return _two(False if all(_by(one, OWN) or _by(one, CAPTURED) for one in _manifests(evidence)) else None)


def _mode(evidence: Evidence) -> Seen:
    """This product always predicts in evaluation mode; a captured run notes where its model was not."""
    if any(TRAINING_MODE in manifest.notes for manifest in _manifests(evidence)):
        return _two(True)
    return _watched(evidence)


def _own_pipeline(evidence: Evidence) -> Seen:
    """This product always passes the mask, and loads every weight or refuses."""
    return _two(False if made_here(evidence) else None)


OBSERVERS: Mapping[Fact, Callable[[Evidence], Seen]] = {
    "weights of the file": _file_weights,
    "weights of the model": _model_weights,
    "tokens": _tokens,
    "limit": _limit,
    "padding": _padding,
    "mode": _mode,
    "mask": _own_pipeline,
    "loading": _own_pipeline,
    "scores": _watched,
}
