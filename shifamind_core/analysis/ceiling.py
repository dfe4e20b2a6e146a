"""The highest F1 that any threshold gives a run: at every distinct probability, not on a grid.

Chosen on the scored run itself, so a ceiling and never a result: a score above it needs other logits or another definition
of the score, whatever threshold was used.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from shifamind_core.analysis import scores
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.counts import CodeCounts, counts_at_thresholds
from shifamind_core.arrays import Labels, Probabilities, frozen, probabilities
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run

MOST_CELLS = 1 << 24  # all are sorted at once, at some 100 bytes each
CANDIDATES = 256  # thresholds counted at once


@dataclass(frozen=True)
class Highest:
    """The highest F1 and where it is: every threshold from `threshold` up to, not including, `below` decides alike.

    Of several such ranges the lowest. `threshold` is 0 or one of the probabilities; `below` is the next higher probability,
    infinite where there is none.
    """

    f1: float
    threshold: float
    below: float


@dataclass(frozen=True, eq=False)
class Ceiling:
    """The highest F1 over all thresholds from 0 to 1. Decision: >; macro over all codes; 0/0 = 0.

    Attributes
    ----------
    distinct : int
        Thresholds that decide unlike one another.
    macro_f1, micro_f1 : Highest
        With one threshold for all codes; each score at the threshold that is best for it.
    macro_f1_own_thresholds : float
        With the best threshold for each code.
    code_f1, code_thresholds : float64 [codes]
        The highest F1 of each code, and the lowest threshold that gives it.
    """

    distinct: int
    macro_f1: Highest
    micro_f1: Highest
    macro_f1_own_thresholds: float
    code_f1: Float64[np.ndarray, " codes"]
    code_thresholds: Float64[np.ndarray, " codes"]

    def __post_init__(self) -> None:
        for name in ("code_f1", "code_thresholds"):
            object.__setattr__(self, name, frozen(getattr(self, name)))


def ceiling(run: Run) -> Ceiling:
    """The highest F1 of a run, from one sort of its probabilities.

    Raises
    ------
    ShifamindError
        No labels, logits that are not finite, or more than `MOST_CELLS` cells.

    >>> run = Run(np.array([[-0.8], [-1.4], [0.5]]), labels=np.array([[1], [0], [1]], np.uint8))  # 0.31, 0.198, 0.62
    >>> found = ceiling(run).micro_f1
    >>> found.f1, round(found.threshold, 3), round(found.below, 3)
    (1.0, 0.198, 0.31)
    """
    labels = required_labels(run)
    refuse_non_finite(run)
    if run.logits.size > MOST_CELLS:
        raise ShifamindError(
            f"{run.name} has {run.logits.size:,} scores; the highest F1 at any threshold is sought among at most "
            f"{MOST_CELLS:,}. Take a part of the notes or of the codes."
        )
    return ceiling_of(probabilities(run.logits), labels)


def ceiling_of(probability: Probabilities, labels: Labels) -> Ceiling:
    """`ceiling` of finite probabilities [documents, codes] and their labels."""
    documents, codes = probability.shape
    positives = np.count_nonzero(labels, axis=0).astype(np.int64)
    order = _descending(probability)
    ordered, right, code = probability.ravel()[order], labels.ravel()[order] != 0, order % codes
    taken = _states(ordered[None])[0].nonzero()[0][::-1]  # how many cells are assigned, most first
    thresholds, below = np.append(ordered, 0)[taken], np.append(np.inf, ordered)[taken]

    micro_f1 = scores.f1(np.append(0, np.cumsum(right))[taken], taken, positives.sum(keepdims=True))
    best = int(np.argmax(micro_f1))
    micro = Highest(float(micro_f1[best]), float(thresholds[best]), float(below[best]))

    by_code = np.argsort(
        code.astype(np.min_scalar_type(codes)), kind="stable"
    )  # still descending within a code
    f1 = _f1_of_the_first(right[by_code].reshape(codes, documents), positives)
    candidates = _near_the_best_mean(f1, by_code, taken)
    macro_f1 = _macro_f1(probability, labels, thresholds[candidates])
    best = int(np.argmax(macro_f1))
    at = candidates[best]
    macro = Highest(float(macro_f1[best]), float(thresholds[at]), float(below[at]))

    code_f1, code_thresholds = _own(f1, ordered[by_code].reshape(codes, documents))
    return Ceiling(
        distinct=len(taken),
        macro_f1=macro,
        micro_f1=micro,
        macro_f1_own_thresholds=float(scores.mean_over_codes(code_f1[None])[0]),
        code_f1=code_f1,
        code_thresholds=code_thresholds,
    )


def ceiling_json(found: Ceiling) -> dict[str, Any]:
    """What `evaluate` prints of it; `below` is `null` where there is none."""
    return {
        "explanation": "Highest F1 that any threshold gives this run. Chosen on the scored notes: a ceiling, not a result.",
        "distinct_thresholds": found.distinct,
        "macro_f1": vars(found.macro_f1),
        "micro_f1": vars(found.micro_f1),
        "macro_f1_own_thresholds": found.macro_f1_own_thresholds,
    }


def _descending(probability: Probabilities) -> Int64[np.ndarray, " cells"]:
    """Cells, the most probable first. FP32 numbers ≥ 0 are ordered as their bits, and one sort of 64-bit keys that end in the
    cell's place is five times as fast as `np.argsort`."""
    keys = (~probability.ravel().view(np.uint32)).astype(np.uint64) << np.uint64(32)
    keys += np.arange(probability.size, dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _states(ordered: Float32[np.ndarray, "rows cells"]) -> np.ndarray:
    """Which numbers of first cells, from none to all, some threshold from 0 to 1 assigns: bool [rows, cells + 1].

    Equal probabilities are assigned together, and one of 0 never is.
    """
    states = np.ones((len(ordered), ordered.shape[1] + 1), bool)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=states[:, 1:-1])
    states[:, -1] = ordered[:, -1] > 0
    return states


def _f1_of_the_first(right: np.ndarray, positives: CodeCounts) -> Float64[np.ndarray, "codes cells"]:
    """F1 of every code when its first 1, 2, … cells are assigned."""
    return scores.f1(np.cumsum(right, axis=1), np.arange(1, right.shape[1] + 1), positives[:, None])


def _near_the_best_mean(f1: np.ndarray, by_code: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Positions in `taken` whose mean F1 may be the highest: those within rounding of it.

    Each cell changes the F1 of its own code alone. In whole steps the changes add up exactly, however many they are, and
    only as many candidates are left as are level to some fifteen digits. Where nothing changes, only the lowest threshold.
    """
    codes = len(f1)
    one = 2.0 ** (62 - codes.bit_length())  # the sum over all codes stays below 2^62
    steps = np.rint(f1 * one).astype(np.int64)
    changes = np.empty(f1.size, np.int64)
    changes[by_code] = np.diff(steps, axis=1, prepend=0).ravel()
    sums = np.append(0, np.cumsum(changes))[taken]
    state = np.append(0, np.cumsum(changes != 0))[taken]
    near = np.flatnonzero(sums >= sums.max() - int(codes * one * 2.0**-47))  # 64 roundings of each F1
    return near[np.append(True, state[near][1:] != state[near][:-1])]


def _macro_f1(probability: Probabilities, labels: Labels, thresholds: np.ndarray) -> np.ndarray:
    parts = np.split(thresholds.astype(np.float64), range(CANDIDATES, len(thresholds), CANDIDATES))
    return np.concatenate(
        [scores.macro_f1(counts_at_thresholds(probability, labels, part)) for part in parts]
    )


def _own(f1: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest F1 of each code and the lowest threshold that gives it."""
    codes, documents = f1.shape
    reached = np.where(_states(ordered), np.hstack([np.zeros((codes, 1)), f1]), -1)
    best = documents - np.argmax(reached[:, ::-1], axis=1)
    lowest = np.where(best < documents, ordered[np.arange(codes), np.minimum(best, documents - 1)], 0)
    return reached[np.arange(codes), best], lowest.astype(np.float64)
