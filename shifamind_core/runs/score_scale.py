"""What scale foreign scores are on: logits, probabilities, or percentages; and logits of all of them.

A name is believed as far as the values can be what it says; scores without a name are looked at.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.probability import logits_of

Read = tuple[
    np.ndarray, list[str]
]  # logits, and what to say; nothing to say where they are taken as they stand

ROUNDING = 1e-6  # a mean of float32 probabilities may be this much above 1
FEWEST_PERCENT = 2.0  # named probabilities up to this are no percentages, but wrong
SURELY_PERCENT = 50.0  # no logits without a name are all from 0 to 100 and go beyond this


def unnamed(name: str, scores: np.ndarray) -> Read:
    """Scores without a name: probabilities if all lie in [0, 1], percentages if they look like them, else logits.

    Raises
    ------
    ShifamindError
        All are exactly 0 or 1: labels or decisions, from which no score can be had.
    """
    scores, filled = _without_fill(scores)
    low, high = _range(scores[np.isfinite(scores)])
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        logits, said = probabilities(name, scores)
        return logits, [
            "No name says what the scores are; all lie in [0, 1], so they were taken as probabilities.",
            *filled,
            *said,
            *_of_softmax(scores),
        ]
    if low >= 0 and SURELY_PERCENT < high <= 100:
        return percentages(name, scores)
    return scores, []


def probabilities(name: str, scores: np.ndarray) -> Read:
    """Scores that are named as probabilities.

    Raises
    ------
    ShifamindError
        Some lie outside [0, 1] and they are no percentages either, or all are exactly 0 or 1.
    """
    scores, filled = _without_fill(scores)
    low, high = _range(scores)
    if low >= 0 and FEWEST_PERCENT < high <= 100:
        return percentages(name, scores)
    if low < -ROUNDING or high > 1 + ROUNDING:
        outside = (scores < 0) | (scores > 1)
        row, column = np.argwhere(outside)[0]
        raise ShifamindError(
            f"{name}: {int(outside.sum()):,} of {scores.size:,} probabilities lie outside [0, 1], the first at note "
            f"{row}, code {column}: {scores[row, column]:.4g}. Scores before the sigmoid belong under 'logits'."
        )
    finite = scores[np.isfinite(scores)]
    if finite.size and ((finite == 0) | (finite == 1)).all():
        raise ShifamindError(
            f"{name} holds nothing but 0 and 1: labels or decisions. Upload the scores before thresholding."
        )
    logits, said = logits_of(scores.clip(0, 1))
    beyond = int(np.count_nonzero(scores != scores.clip(0, 1)) - np.isnan(scores).sum())
    rounding = f"{beyond:,} were outside [0, 1] by rounding, and were taken as 0 or 1."
    return logits, [*filled, said, *([rounding] if beyond else [])]


def percentages(name: str, scores: np.ndarray) -> Read:
    """Percentages, as probabilities.

    Raises
    ------
    ShifamindError
        Some lie outside [0, 100].
    """
    low, high = _range(scores)
    if low < 0 or high > 100:
        raise ShifamindError(
            f"{name}: percentages lie outside [0, 100]: they go from {low:.4g} to {high:.4g}. Save probabilities."
        )
    logits, said = probabilities(name, scores / 100)
    return logits, [
        f"The scores go from {low:.4g} to {high:.4g}: they were taken as percentages and divided by 100.",
        *said,
    ]


def _without_fill(scores: np.ndarray) -> Read:
    """Scores with NaN for -1 where every other number is a probability: -1 stands for a score that is missing there."""
    fill = scores == -1
    if not fill.any():
        return scores, []
    others = scores[~fill & ~np.isnan(scores)]
    inside = others.size and (others >= -ROUNDING).all() and (others <= 1 + ROUNDING).all()
    if not inside or not ((others > 0) & (others < 1)).any():
        return scores, []
    told = f"{int(fill.sum()):,} scores are -1 and all others lie in [0, 1]: -1 was taken as missing."
    return np.where(fill, np.nan, scores), [told]


def _range(scores: np.ndarray) -> tuple[float, float]:
    """Least and greatest of the scores, infinities among them; NaN, to be below and above nothing, if there are none."""
    numbers = scores[~np.isnan(scores)]
    return (float(numbers.min()), float(numbers.max())) if numbers.size else (np.nan, np.nan)


def _of_softmax(scores: np.ndarray) -> list[str]:
    sums = scores.sum(axis=1, dtype=np.float64)
    if scores.shape[1] < 2 or not (np.abs(sums - 1) <= 1e-3).all():
        return []
    return [
        "Every note's scores add up to 1: a softmax over the codes, as a model gives that chooses one code a note, and no "
        "probabilities of each code by itself."
    ]


READ_SCORES: Mapping[str, Callable[[str, np.ndarray], Read]] = MappingProxyType(
    {"probabilities": probabilities, "percentages": percentages, "scores": unnamed}
)
