"""The highest F1 that any threshold gives a run: at every distinct probability, not on a grid.

Chosen on the scored run itself, so a ceiling and never a result: a score above it needs other logits or another definition
of the score, whatever threshold was used.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from shifamind_core.analysis import scores
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.counts import counts_at_thresholds
from shifamind_core.arrays import Labels, Probabilities, frozen, probabilities
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run

MOST_CELLS = 5_000_000  # sorted at once, at some 50 bytes each: `evaluate` stays below 400 MB
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
    ordered, right, code = (
        probability.ravel()[order],
        labels.ravel()[order] != 0,
        (order % codes).astype(np.min_scalar_type(codes)),
    )
    del order
    taken = _states(ordered).nonzero()[0][::-1]  # how many cells are assigned, most first

    micro_f1 = scores.f1(_of_the_first(np.cumsum(right), taken), taken, positives.sum(keepdims=True))
    micro = _highest(micro_f1, taken, ordered)
    del micro_f1

    code_f1, code_thresholds = np.zeros(codes), np.zeros(codes)
    # Each cell changes the F1 of its own code alone. In whole steps the changes add up exactly, however many they are.
    one = 2.0 ** (62 - codes.bit_length())  # the sum over all codes stays below 2^62
    changes = np.empty(probability.size, np.int64)
    by_code = np.argsort(code, kind="stable").reshape(codes, documents)  # still descending within a code
    for number, cells in enumerate(by_code):
        f1 = scores.f1(np.cumsum(right[cells]), np.arange(1, documents + 1), positives[[number]])
        code_f1[number], code_thresholds[number] = _own(f1, ordered[cells])
        changes[cells] = np.diff(np.rint(f1 * one).astype(np.int64), prepend=0)
    del by_code

    rounding = int(codes * one * 2.0**-47)  # 64 roundings of each F1
    candidates = taken[_near_the_best(changes, taken, rounding)]
    macro_f1 = _macro_f1(probability, labels, np.append(ordered, np.float32(0))[candidates])
    macro = _highest(macro_f1, candidates, ordered)
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


def _states(ordered: Float32[np.ndarray, " cells"]) -> np.ndarray:
    """Which numbers of first cells, from none to all, some threshold from 0 to 1 assigns: bool [cells + 1].

    Equal probabilities are assigned together, and one of 0 never is.
    """
    states = np.ones(len(ordered) + 1, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=states[1:-1])
    states[-1] = ordered[-1] > 0
    return states


def _of_the_first(cumulative: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Sums over the first so many cells; 0 over none."""
    return np.where(taken > 0, cumulative[taken - 1], 0)


def _threshold(ordered: Float32[np.ndarray, " cells"], taken: int) -> float:
    """The lowest threshold at which so many cells are assigned."""
    return float(ordered[taken]) if taken < len(ordered) else 0.0


def _highest(f1: np.ndarray, taken: np.ndarray, ordered: Float32[np.ndarray, " cells"]) -> Highest:
    best = int(np.argmax(f1))
    count = int(taken[best])
    below = float(ordered[count - 1]) if count else math.inf
    return Highest(float(f1[best]), _threshold(ordered, count), below)


def _near_the_best(changes: Int64[np.ndarray, " cells"], taken: np.ndarray, rounding: int) -> np.ndarray:
    """Positions in `taken` whose mean F1 may be the highest: at most `rounding` steps below it.

    Only as many are left as are level to some fifteen digits. Where nothing changes, only the lowest threshold.
    """
    state = np.cumsum(changes != 0, dtype=np.uint32)
    sums = _of_the_first(np.cumsum(changes, out=changes), taken)
    near = np.flatnonzero(sums >= sums.max() - rounding)
    found = _of_the_first(state, taken[near])
    return near[np.append(True, found[1:] != found[:-1])]


def _macro_f1(probability: Probabilities, labels: Labels, thresholds: np.ndarray) -> np.ndarray:
    parts = np.split(thresholds.astype(np.float64), range(CANDIDATES, len(thresholds), CANDIDATES))
    return np.concatenate(
        [scores.macro_f1(counts_at_thresholds(probability, labels, part)) for part in parts]
    )


def _own(f1: Float64[np.ndarray, " cells"], ordered: np.ndarray) -> tuple[float, float]:
    """Highest F1 of a code whose cells are assigned in this order, and the lowest threshold that gives it."""
    reached = np.where(_states(ordered), np.append(0.0, f1), -1.0)
    best = len(f1) - int(np.argmax(reached[::-1]))
    return float(reached[best]), _threshold(ordered, best)
