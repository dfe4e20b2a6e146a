"""What no matcher explains, judged by the cause model: features → probabilities → findings."""

import math
from collections.abc import Mapping

from shifamind_core.diagnosis.classifier.cause_model import CauseModel, Judgement, load
from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.evidence.features import measure
from shifamind_core.diagnosis.evidence.levels import level_of_difference
from shifamind_core.diagnosis.evidence.narrower import Named, narrowed
from shifamind_core.diagnosis.evidence.prior import excluded_by_digests, of_something_unknown, prior_log_odds
from shifamind_core.diagnosis.evidence.reach import Reach
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import LISTED, Finding, judged
from shifamind_core.diagnosis.views import EvidencePlot, scatter

AT_LEAST = 3  # so many are listed however improbable; those left out are not ruled out


def judge_rest(examination: Examination) -> Examination:
    """Findings on what is left of the difference, most probable first; none where nothing is left."""
    if examination.explained:
        return examination
    evidence, logits = examination.evidence, examination.logits
    model = load()
    features = measure(logits.candidate, logits.reference, logits.token_counts, {*model.names, "grid"})
    facts = prior_log_odds(evidence, model.causes)
    reach = Reach.of(evidence, model.sizes)
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
    named = narrowed(judgement.probabilities, evidence)
    listed = [part for place, part in enumerate(named) if part.probability >= LISTED or place < AT_LEAST]
    return examination.noted(
        *(
            _finding(part, 1 - unknown, features, examination, model, reach)
            for part in listed
            if part.probability > 0
        )
    )


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
        meaning=part.meaning,
        evidence=evidence,
        view=_cells(logits),
    )


def _size(logits: Pair, left: float) -> str:
    what = "The runs differ" if left == 1 else "What the other findings leave differs"
    return (
        f"{what} by {logits.rms:.2g} in a logit (root mean square): {logits.size:.2g} times how far the logits of one code lie "
        "apart from note to note (their standard deviation)."
    )


def _unknown(judgement: Judgement, probability: float, left: float) -> Finding:
    names = ", ".join(judgement.outside)
    return judged(
        "unknown",
        probability,
        f"Outside what the cause model was fitted on: {names}. Of its guesses none is called likely that the logits alone speak for.",
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
