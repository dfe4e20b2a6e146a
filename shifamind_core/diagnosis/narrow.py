"""From the general name that logits give to the narrower one that manifests and token digests allow.

Logits alone say that the input changed; a manifest may say that casing did. Both must agree: a difference
between manifests without its trace in the logits stays `possible`, and a trace that provenance contradicts loses.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shifamind_core.diagnosis.evidence.manifests import Provenance
from shifamind_core.diagnosis.exact.stored_precision import level_of_manifest
from shifamind_core.diagnosis.findings import Cause, EvidenceTable, Finding, ruled_out
from shifamind_core.runs.run import Run

# How much a differing field raises the odds of the cause it stands for.
LEAD = 6.0
# Logarithms of odds: of what manifests show by their digests, and of what ids and token digests exclude.
STRONG, IMPOSSIBLE = 8.0, 50.0
INPUT_CAUSES: tuple[Cause, ...] = ("input_changed", "tokenizer_casing", "max_length", "truncation_side")
# A narrower cause, the field that tells, and the general cause whose trace it leaves.
NARROWER: tuple[tuple[Cause, str, Cause], ...] = (
    ("tokenizer_casing", "tokenization.lowercase", "input_changed"),
    ("max_length", "tokenization.max_length", "input_changed"),
    ("truncation_side", "tokenization.truncation_side", "input_changed"),
    ("other_checkpoint", "checkpoint.weights_digest", "weights_changed"),
)
REPLAY: dict[str, str] = {
    "tokenizer_casing": "Predict with lower-casing on, then off: one of the two gives the other run's logits.",
    "max_length": "Predict with the other run's length.",
    "truncation_side": "Predict with truncation_side=left.",
    "other_checkpoint": "Predict with the other checkpoint: it should give the other run's logits.",
}


@dataclass(frozen=True)
class Tokens:
    """What token digests and counts of aligned runs say; `None` where a run has none.

    `same` is the share of notes with equal token ids; `length_ratio` the candidate's tokens over the
    reference's; `explained` the share of notes for which "other tokens" and "other logits" agree.
    """

    same: float | None = None
    length_ratio: float | None = None
    explained: float | None = None


def compare_tokens(candidate: Run, reference: Run, changed: np.ndarray | None) -> Tokens:
    """Compare token digests and counts row by row; `changed` says which notes' logits differ beyond rounding."""
    same = explained = ratio = None
    if candidate.token_digests is not None and reference.token_digests is not None:
        equal = candidate.token_digests == reference.token_digests
        same = float(equal.mean())
        if changed is not None and len(changed) == len(equal):
            explained = float((equal != changed).mean())
    if candidate.token_counts is not None and reference.token_counts is not None:
        ratio = float(candidate.token_counts.sum() / max(int(reference.token_counts.sum()), 1))
    return Tokens(same, ratio, explained)


def prior_odds(candidate: Run, reference: Run, provenance: Provenance) -> dict[Cause, float]:
    """Logarithms of the odds of dense causes by what is known beside the logits; a cause not named stands at 0."""
    odds: dict[Cause, float] = {}
    tokens = compare_tokens(candidate, reference, None)
    if tokens.same is not None:
        odds["input_changed"] = -IMPOSSIBLE if tokens.same == 1.0 else STRONG * (1 - tokens.same)
    elif any(provenance.differs(field) for _, field, general in NARROWER if general == "input_changed"):
        odds["input_changed"] = STRONG
    elif provenance.hazards and not _casing_known(provenance):
        odds["input_changed"] = STRONG / 2
    if "checkpoint.weights_digest" in provenance.equal:
        odds["weights_changed"] = -STRONG / 2  # they may still be lost on the way
    elif provenance.differs("checkpoint.weights_digest"):
        odds["weights_changed"] = STRONG
    levels = [level_of_manifest(run.manifest) for run in (candidate, reference)]
    if tokens.same == 1.0 and "checkpoint.weights_digest" in provenance.equal and levels[0] != levels[1]:
        odds["numerics"] = STRONG / 4  # same input, same weights, other arithmetic
    if candidate.document_ids is not None and reference.document_ids is not None:
        odds["different_documents"] = -IMPOSSIBLE
    return odds


def narrow(findings: Iterable[Finding], provenance: Provenance, tokens: Tokens) -> list[Finding]:
    """The findings with narrower causes added and contradicted ones ruled out."""
    best: dict[Cause, Finding] = {finding.cause: finding for finding in findings}
    _use_tokens(best, tokens)
    _use_weights(best, provenance)
    for cause, field, general in NARROWER:
        if provenance.differs(field):
            _add(best, cause, general, field, provenance)
    _use_hazards(best, provenance)
    _use_padding(best, provenance)
    return list(best.values())


def _score(best: dict[Cause, Finding], cause: Cause) -> float:
    return best[cause].score if cause in best else 0.0


def _raised(score: float) -> float:
    """A score after a lead: its odds grow."""
    return LEAD * score / (LEAD * score + 1 - score) if score < 1 else 1.0


def _add(
    best: dict[Cause, Finding], cause: Cause, general: Cause, field: str, provenance: Provenance
) -> None:
    """A differing field, weighed with the trace of its kind in the logits."""
    trace = max(_score(best, general), _score(best, cause))
    difference = next(item for item in provenance.differences if item.field == field)
    if not trace:
        best[cause] = ruled_out(cause, f"{difference.sentence} The logits show no trace of it.", field=field)
        return
    score = min(0.985, max(0.3, _raised(trace)))
    best[cause] = Finding(
        cause,
        "likely" if score >= 0.5 else "possible",
        score,
        difference.sentence + (f" {best[general].explanation}" if general in best else ""),
        REPLAY[cause],
        {
            "field": field,
            "candidate": difference.candidate,
            "reference": difference.reference,
            "trace": trace,
        },
        best[general].view if general in best else _difference_table(provenance),
    )
    if general in best and best[general].score >= score:
        best[general] = best[general].changed(score=max(0.5, score - 0.05))


def _difference_table(provenance: Provenance) -> EvidenceTable:
    return EvidenceTable(
        "Manifest fields that differ",
        ("field", "candidate", "reference"),
        tuple((item.field, item.candidate, item.reference) for item in provenance.differences),
    )


def _use_tokens(best: dict[Cause, Finding], tokens: Tokens) -> None:
    if tokens.same == 1.0:
        for cause in INPUT_CAUSES:
            best[cause] = ruled_out(cause, "Every note has the same token ids in both runs.", same_tokens=1.0)
        return
    trace = _score(best, "input_changed")
    if tokens.same is not None and trace:
        told = f"{1 - tokens.same:.1%} of the notes have other token ids"
        if tokens.length_ratio is not None:
            told += f" ({tokens.length_ratio:.3f} times as many tokens)"
        agree = tokens.explained or 0.0
        also = f", and those are the ones whose logits changed ({agree:.1%} agree)" if agree > 0.9 else ""
        best["input_changed"] = best["input_changed"].changed(
            status="likely",
            score=max(trace, 0.96 if agree > 0.9 else min(0.95, _raised(trace))),
            explanation=f"{told}{also}. {best['input_changed'].explanation}",
            evidence={
                "same_tokens": tokens.same,
                "length_ratio": tokens.length_ratio,
                "agree": tokens.explained,
            },
        )


def _use_weights(best: dict[Cause, Finding], provenance: Provenance) -> None:
    if "checkpoint.weights_digest" not in provenance.equal:
        return
    best["other_checkpoint"] = ruled_out(
        "other_checkpoint", "Both runs read the same weights (equal digests)."
    )
    if _score(best, "weights_changed"):
        finding = best["weights_changed"]
        best["weights_changed"] = finding.changed(
            status="possible",
            score=min(finding.score, 0.4),
            explanation=f"{finding.explanation} But both manifests name the same weights: they would have to be lost "
            "on the way into the model.",
        )


def _casing_known(provenance: Provenance) -> bool:
    return "tokenization.lowercase" in provenance.equal or provenance.differs("tokenization.lowercase")


def _use_hazards(best: dict[Cause, Finding], provenance: Provenance) -> None:
    """A version that changes casing by default, where neither run says which casing it had."""
    trace = _score(best, "input_changed")
    if _casing_known(provenance) or not trace:
        return
    for met in provenance.hazards:
        score = min(0.95, _raised(trace))
        best["tokenizer_casing"] = Finding(
            "tokenizer_casing",
            "likely" if score >= 0.5 else "possible",
            score,
            f"{met.hazard.library} {met.candidate} in the candidate, {met.reference} in the reference. "
            f"{met.hazard.message} {best['input_changed'].explanation}",
            REPLAY["tokenizer_casing"],
            {
                "hazard": met.hazard.name,
                "candidate": met.candidate,
                "reference": met.reference,
                "trace": trace,
            },
            best["input_changed"].view,
        )


def _use_padding(best: dict[Cause, Finding], provenance: Provenance) -> None:
    """Padding is known of both: where it agrees and batches do not depend on it, it is none."""
    if "tokenization.padding" in provenance.equal and "tokenization.max_length" in provenance.equal:
        if _score(best, "padding") and "batch_size" in provenance.equal:
            best["padding"] = ruled_out("padding", "Both runs padded alike, in batches of the same size.")
    elif (
        provenance.differs("tokenization.padding") and "padding" not in best and _score(best, "input_changed")
    ):
        best["padding"] = Finding(
            "padding",
            "possible",
            min(0.49, _raised(_score(best, "input_changed"))),
            next(item for item in provenance.differences if item.field == "tokenization.padding").sentence,
            "Predict again with padding=longest and with padding=max_length.",
        )
