"""The certificate: how many decisions could come out differently on another machine under the portable policy.

What is promised and what is not: the error of this machine against FP64 is measured, not bounded. Another machine that errs
as much in the other direction is twice that away, and that is the ε of the certificate. It is no proof about hardware that
nobody measured; the counts and the F1 range at that ε, however, are exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import logit

from shifamind_core.analysis.checks import refuse_non_finite
from shifamind_core.analysis.counts import check_threshold
from shifamind_core.analysis.flip_search import f1_range
from shifamind_core.arrays import Logits
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import over_blocks
from shifamind_core.runs.run import Run

MACHINES = 2  # this one and another, each as far from FP64 as was measured here
MOST_MARGINS = 1 << 22  # that are sorted; of larger runs those of the nearest decisions
SAMPLED_NOTES = 256


@dataclass(frozen=True)
class Certificate:
    """Decisions within ε of the threshold, and what F1 could become if every one of them fell the worst or best way.

    Attributes
    ----------
    threshold : float
        On probability; a code is assigned where probability > threshold.
    decisions : int
        Documents × codes.
    measured_error : float
        Largest |logit − FP64 logit| on `measured_notes` notes.
    epsilon : float
        Twice that.
    at_risk : int
        Decisions with |logit − logit(threshold)| ≤ ε: only these could differ.
    smallest_margin : float
        Of the decision nearest to the threshold.
    macro_f1, micro_f1 : (float, float), optional
        Exact range at ε (macro over all codes; 0/0 = 0), where the run has labels.
    """

    threshold: float
    decisions: int
    measured_error: float
    measured_notes: int
    epsilon: float
    at_risk: int
    smallest_margin: float
    macro_f1: tuple[float, float] | None
    micro_f1: tuple[float, float] | None


def certificate(run: Run, portable: Logits, referee: Logits, threshold: float = 0.5) -> Certificate:
    """Certify `run`, whose policy errs on some notes as `portable` does against `referee`.

    Parameters
    ----------
    run : Run
        The decisions to certify, scored under the portable policy.
    portable, referee : float [notes, codes]
        The same notes under the same policy and under FP64.

    Raises
    ------
    ShifamindError
        Shapes that differ, logits that are not finite, or a threshold not between 0 and 1.
    """
    _check(run, threshold)
    error = largest_error(portable, referee)
    epsilon = MACHINES * error

    def look(rows: slice) -> tuple[int, float]:
        margins = _margins(run.logits[rows], threshold)
        return int(np.count_nonzero(margins <= epsilon)), float(margins.min())

    at_risk, smallest = zip(*over_blocks(look, run.logits), strict=True)
    labelled = f1_range(run, threshold, epsilon) if run.labels is not None else None
    return Certificate(
        threshold=threshold,
        decisions=run.logits.size,
        measured_error=error,
        measured_notes=len(referee),
        epsilon=epsilon,
        at_risk=sum(at_risk),
        smallest_margin=min(smallest),
        macro_f1=labelled.macro_f1 if labelled else None,
        micro_f1=labelled.micro_f1 if labelled else None,
    )


def sorted_margins(run: Run, threshold: float = 0.5) -> Float64[np.ndarray, " decisions"]:
    """|logit − logit(threshold)|, ascending: of every decision, or of about `MOST_MARGINS`, those nearest to the threshold.

    Raises
    ------
    ShifamindError
        Logits that are not finite, or a threshold not between 0 and 1.
    """
    _check(run, threshold)
    reach = np.inf
    if run.logits.size > MOST_MARGINS:
        notes = np.unique(np.linspace(0, run.documents - 1, SAMPLED_NOTES).astype(np.int64))
        reach = np.quantile(_margins(run.logits[notes], threshold), MOST_MARGINS / run.logits.size)

    def look(rows: slice) -> Float64[np.ndarray, " near"]:
        margins = _margins(run.logits[rows], threshold)
        return margins[margins <= reach]

    margins = np.concatenate(list(over_blocks(look, run.logits)))
    margins.sort()
    return margins


def _check(run: Run, threshold: float) -> None:
    check_threshold(threshold)
    refuse_non_finite(run)


def _margins(logits: Logits, threshold: float) -> Float64[np.ndarray, "documents codes"]:
    return np.abs(logits.astype(np.float64) - logit(threshold))


def largest_error(candidate: Logits, referee: Logits) -> float:
    """The largest |difference|, in float64.

    >>> largest_error(np.array([[1.0, 2.0]]), np.array([[1.0, 2.5]]))
    0.5
    """
    if candidate.shape != referee.shape:
        raise ShifamindError(
            f"{candidate.shape[0]} notes × {candidate.shape[1]} codes cannot be held against {referee.shape[0]} × {referee.shape[1]}."
        )
    difference = np.abs(candidate.astype(np.float64) - referee.astype(np.float64))
    if not np.isfinite(difference).all():
        raise ShifamindError("The error against FP64 is not finite: some logits are NaN or infinite.")
    return float(difference.max())


def certificate_json(found: Certificate) -> dict[str, Any]:
    """The JSON of `certify`."""
    return {
        "threshold": found.threshold,
        "decisions": found.decisions,
        "at_risk": found.at_risk,
        "measured_error": found.measured_error,
        "measured_notes": found.measured_notes,
        "epsilon": found.epsilon,
        "smallest_margin": found.smallest_margin,
        "macro_f1": None if found.macro_f1 is None else list(found.macro_f1),
        "micro_f1": None if found.micro_f1 is None else list(found.micro_f1),
        "explanation": explanation(found),
    }


def explanation(found: Certificate) -> str:
    """What the certificate says, in one sentence."""
    start = f"On {found.measured_notes:,} notes this machine was within {found.measured_error:.1e} of FP64 in every logit; "
    if not found.at_risk:
        return start + (
            f"no decision of {found.decisions:,} lies within twice that of the threshold (the nearest is {found.smallest_margin:.1e} away), "
            "so a machine that errs as little decides all of them alike."
        )
    return start + (
        f"{found.at_risk:,} of {found.decisions:,} decisions lie within twice that of the threshold and could differ on another machine."
    )
