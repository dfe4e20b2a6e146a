"""From the general name that logits give to the narrower one that manifests allow.

Logits say that the input changed; a manifest says that casing did. The probability of the general cause goes to the narrower
one whose field differs, and to each of several, since all of them were at work; it is dealt out among those that nothing
tells apart. One part in a hundred (`prior.TRUST`) stays with the general name.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.facts import made_here, observed
from shifamind_core.diagnosis.evidence.manifests import ManifestDifference
from shifamind_core.diagnosis.evidence.prior import TRUST, likelihoods

KEPT = math.exp(-TRUST)
OF_WEIGHTS = ("few_codes_changed", "head_not_loaded", "encoder_not_loaded")  # beside `weights_changed`


@dataclass(frozen=True)
class Named:
    """A cause with its part of a probability, or its weight among parts; `meaning` and `numbers` where the manifests say more than its record."""

    cause: str
    probability: float
    meaning: str = ""
    numbers: str = ""


def narrowed(probabilities: Mapping[str, float], evidence: Evidence) -> list[Named]:
    """The cause model's probabilities under the names that the evidence allows, most probable first."""
    named: dict[str, Named] = {}
    for general, probability in probabilities.items():
        for part in _parts(general, probability, evidence):
            known = named.get(part.cause)
            total = part.probability + (known.probability if known else 0.0)
            named[part.cause] = Named(
                part.cause,
                total,
                part.meaning or (known.meaning if known else ""),
                part.numbers or (known.numbers if known else ""),
            )
    return sorted(named.values(), key=lambda part: -part.probability)


def _parts(general: str, probability: float, evidence: Evidence) -> Iterator[Named]:
    narrower = {
        "input_changed": _of_the_input,
        "max_length": _of_length,
        "padding": _of_padding,
        "weights_changed": _of_weights,
    }.get(general)
    found = list(narrower(evidence)) if narrower else []
    if not found:
        parts = evidence.manifests.parts if general in OF_WEIGHTS else None
        yield Named(general, probability, numbers="" if parts is None else parts.sentence)
        return
    # Twins that nothing tells apart share all of it; what a manifest names leaves a little to the general name.
    kept = 0.0 if any(part.cause == general for part in found) else KEPT
    recorded = all(part.numbers for part in found)
    total = sum(part.probability for part in found)
    for part in found:
        share = 1.0 if recorded else part.probability / total
        yield Named(part.cause, probability * (1 - kept) * share, part.meaning, part.numbers)
    if kept:
        yield Named(general, probability * kept)


def _of_the_input(evidence: Evidence) -> Iterator[Named]:
    recorded = list(_recorded(evidence))
    yield from recorded
    if recorded or "tokenization.lowercase" in evidence.manifests.equal:
        return
    for met in evidence.manifests.hazards:
        yield Named(
            "tokenizer_casing",
            1.0,
            f"The runs were made under versions of {met.hazard.library} ({met.candidate} and {met.reference}) that lower-case "
            "notes differently by default.",
            met.hazard.message,
        )


def _recorded(evidence: Evidence) -> Iterator[Named]:
    """What both manifests record of the tokens, and differently: all of it was at work."""
    casing, length, side = (
        evidence.manifests.difference(f"tokenization.{name}")
        for name in ("lowercase", "max_length", "truncation_side")
    )
    if casing is not None:
        lower, other = ("candidate", "reference") if casing.candidate else ("reference", "candidate")
        yield Named(
            "tokenizer_casing",
            1.0,
            f"The {lower} lower-cased the notes, the {other} did not.",
            _reach(casing),
        )
    if length is not None:
        yield Named(
            "max_length",
            1.0,
            f"The candidate cut notes after {length.candidate} tokens, the reference after {length.reference}.",
            _reach(length),
        )
    if side is not None:
        yield Named("truncation_side", 1.0, numbers=side.sentence)


def _reach(difference: ManifestDifference) -> str:
    """What a difference can explain, where the meaning has said already how the runs differ."""
    return f"That can explain {difference.can_explain}; it cannot explain {difference.cannot_explain}."


def _of_length(evidence: Evidence) -> Iterator[Named]:
    """Only long notes changed: cut earlier, or at the other end? The manifests' lengths and sides tell.

    A casing that differs explains why long notes changed most, too.
    """
    found = list(_of_the_input(evidence))
    yield from found
    if found:
        return
    equal = evidence.manifests.equal
    open_ones = [cause for cause in ("max_length", "truncation_side") if f"tokenization.{cause}" not in equal]
    for cause in open_ones or ["input_changed"]:  # cut at one length and one end: then in some other way
        yield Named(cause, 1.0)


def _of_padding(evidence: Evidence) -> Iterator[Named]:
    """Only short notes changed: other padding, or padding that was read as text? As probable as what both runs record."""
    manifests = evidence.manifests
    padded = manifests.difference("tokenization.padding") or manifests.difference("tokenization.max_length")
    for cause, likelihood in likelihoods("padding", evidence).items():
        yield Named(
            cause, likelihood, numbers=padded.sentence if padded is not None and cause == "padding" else ""
        )


def _of_weights(evidence: Evidence) -> Iterator[Named]:
    manifests, parts = evidence.manifests, evidence.manifests.parts
    told = "" if parts is None else parts.sentence
    weights = manifests.difference("checkpoint.weights_digest")
    same_file = observed(evidence).get("weights of the file") == {"same"}
    if same_file and (weights is None or "checkpoint.file_sha256" in manifests.equal):
        yield Named(
            "weights_changed",
            1.0,
            f"Both runs read the same weights, but one model {'held' if told else 'seems to have held'} others: a part was not loaded, "
            f"or changed later. {told}".strip(),
        )
    elif weights is not None and (parts is None or parts.where == "both" or made_here(evidence)):
        meaning = f"{CAUSES['other_checkpoint'].meaning} {told}" if told else ""
        yield Named("other_checkpoint", 1.0, meaning, weights.sentence)
    elif weights is not None:
        yield Named(
            "weights_changed",
            1.0,
            f"{told} They are another checkpoint's, or were not loaded.",
            weights.sentence,
        )
