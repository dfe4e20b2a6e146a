"""What no matcher explains, judged by the cause model: features → probabilities → findings."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from shifamind_core.diagnosis.classifier.cause_model import CauseModel, Judgement, load
from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.evidence.features import FEATURES, measure
from shifamind_core.diagnosis.evidence.levels import level_of_difference
from shifamind_core.diagnosis.evidence.narrower import Named, narrowed
from shifamind_core.diagnosis.evidence.prior import excluded_by_digests, of_something_unknown, prior_log_odds
from shifamind_core.diagnosis.evidence.reach import Reach
from shifamind_core.diagnosis.exact.stand_ins import stored_variance, within_a_step
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import LISTED, Finding, judged
from shifamind_core.diagnosis.views import EvidencePlot, scatter

AT_LEAST = 3  # so many are listed however improbable; those left out are not ruled out
# What was behind 237 simulated pairs whose files differed, but nowhere by more than a step of 6, 4 or 3 decimals: a part of the
# corpus of the families that the cause model was fitted on, both runs rounded, none of it drowned in rounding beside the fault
# (`within_a_step` in simulation/decimals.json).
WITHIN_A_STEP = {
    "numerics": 171, "few_codes_changed": 20, "calibration_shift": 16, "weights_changed": 14, "input_changed": 9,
    "few_documents_changed": 4, "different_documents": 2, "dropout_active": 1,
}  # fmt: skip


def judge_rest(examination: Examination) -> Examination:
    """Findings on what is left of the difference, most probable first; none where nothing is left."""
    if examination.explained:
        return examination
    evidence, logits = examination.evidence, examination.logits
    model = load()
    facts = prior_log_odds(evidence, model.causes)
    reach = Reach.of(evidence, model.sizes)
    if within_a_step(logits, evidence):
        return _judged_within_a_step(examination.noted(*excluded_by_digests(evidence)), facts)
    wanted, stored = {*model.names, "grid"}, stored_variance(logits, evidence)
    features = measure(logits.candidate, logits.reference, logits.token_counts, wanted, stored)
    rounding = facts["numerics"] + reach.log_odds(logits, model.beyond_ladder)
    judgement = model.judge(features, {**facts, "numerics": rounding})
    examination = examination.noted(*excluded_by_digests(evidence))
    unknown = 0.0
    if judgement.outside:
        known = sum(
            share * math.exp(facts[cause]) for cause, share in model.judge(features).probabilities.items()
        )
        unknown = of_something_unknown(evidence, known)
        examination = examination.noted(_unknown(judgement, unknown, examination.left))
    listed = _listed(narrowed(judgement.probabilities, evidence))
    return examination.noted(
        *(_finding(part, 1 - unknown, features, examination, model, reach) for part in listed)
    )


def _judged_within_a_step(examination: Examination, facts: Mapping[str, float]) -> Examination:
    """Findings where the files' decimals hide all but that something moved some scores a little: no shape to look at."""
    logits = examination.logits
    weights = {cause: count * math.exp(facts[cause]) for cause, count in WITHIN_A_STEP.items()}
    total = sum(weights.values())  # nothing recorded excludes rounding
    told = (
        f"{np.count_nonzero(logits.difference):,} of {logits.difference.size:,} scores differ, each by no more than a step of the "
        "decimals that the files hold: too little to tell by its shape what moved them. Simulated pairs that differ so, and what "
        "both runs record, give it "
    )
    named = narrowed({cause: weight / total for cause, weight in weights.items()}, examination.evidence)
    return examination.noted(
        *(
            judged(
                part.cause,
                part.probability * (1 - 1e-9),
                f"{part.numbers} {told}{part.probability:.1%}.".strip(),
                examination.left,
                meaning=part.meaning or _of_a_few(part.cause, logits),
                evidence={"probability": part.probability, "size": logits.size, "rms": logits.rms},
                view=_cells(logits),
            )
            for part in _listed(named)
        )
    )


def _listed(named: Iterable[Named]) -> list[Named]:
    """Those that are told, of causes ordered by their probability."""
    return [
        part
        for place, part in enumerate(named)
        if part.probability > 0 and (part.probability >= LISTED or place < AT_LEAST)
    ]


def _finding(
    part: Named,
    known: float,
    features: Mapping[str, float],
    examination: Examination,
    model: CauseModel,
    reach: Reach,
) -> Finding:
    logits = examination.logits
    # Outside what the model was fitted on its probabilities are not calibrated: nothing that logits alone say is called likely.
    probability = part.probability * known * (1 - 1e-9)
    numbers = f"{part.numbers} {_size(logits, examination.left)}".strip()
    evidence: dict[str, object] = {"probability": part.probability, "size": logits.size, "rms": logits.rms}
    if part.cause == "numerics":
        level = level_of_difference(
            examination.evidence, logits.rms, logits.size, features["grid"], model.sizes
        )
        numbers = f"{numbers} {reach.told(logits)}"
        evidence |= {"level": level, "limit": reach.rms, "limit_measured": reach.measured}
    return judged(
        part.cause,
        probability,
        numbers,
        examination.left,
        meaning=part.meaning or _of_a_few(part.cause, logits),
        evidence=evidence,
        view=_cells(logits),
    )


def _of_a_few(cause: str, logits: Pair) -> str:
    """How few, where a few are the cause: counted, since no exact match says that the others are as they were."""
    axes = {"few_documents_changed": (1, "notes"), "few_codes_changed": (0, "codes")}
    if cause not in axes:
        return ""
    axis, what = axes[cause]
    squares = np.sort(logits.squares.sum(axis=axis))[::-1]
    half = 1 + int(np.searchsorted(np.cumsum(squares), squares.sum() / 2))
    still = int((squares == 0).sum())
    rest = f"{still:,} did not change at all" if still else "All changed at least a little"
    return f"A few {what} changed far more than the others: half of the squared change lies in {half:,} of {len(squares):,}. {rest}."


def _size(logits: Pair, left: float) -> str:
    what = "The runs differ" if left == 1 else "What the other findings leave differs"
    return (
        f"{what} by {logits.rms:.2g} in a logit (root mean square): {logits.size:.2g} times how far the logits of one code lie "
        "apart from note to note (their standard deviation)."
    )


def _unknown(judgement: Judgement, probability: float, left: float) -> Finding:
    what = "; ".join(feature.meaning.rstrip(".") for feature in FEATURES if feature.name in judgement.outside)
    return judged(
        "unknown",
        probability,
        f"The difference lies outside what simulated faults showed, so the scores alone make no cause likely. Outside lies: {what}.",
        left,
        evidence={"outside": judgement.outside},
    )


def _cells(logits: Pair) -> EvidencePlot:
    return scatter(
        "A dot is one score of one note: where it stands in the reference, and how far the candidate's lies above or below.",
        "Reference logit",
        "Candidate − reference (logits)",
        "scores",
        logits.reference,
        logits.difference,
    )
