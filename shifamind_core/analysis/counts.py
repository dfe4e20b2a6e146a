"""The one counting kernel: every score of this package is arithmetic on its integers.

The decision rule is the seed's: a code is assigned where probability **>** threshold, strictly, an FP32
probability against a double threshold, compared in FP64 (as NumPy 2 does; NEP 50).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.special import logit

from shifamind_core.arrays import Labels, Logits, Probabilities, Thresholds, frozen, probabilities
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import in_order, over_blocks
from shifamind_core.runs.mapped import refuse_if_cut

ThresholdCounts: TypeAlias = Int64[np.ndarray, "thresholds codes"]
CodeCounts: TypeAlias = Int64[np.ndarray, " codes"]
Decisions: TypeAlias = Bool[np.ndarray, "documents codes"]

# A logit that is 0.01 beside the threshold's has a probability that is at least 0.01 % beside the threshold, where thresholds are at
# most 0.99; an FP32 sigmoid is right to about 1e-7 of itself, and so are FP16 logits to 0.002 up to 8 (0.001 is at −6.9).
CLEAR, CLEAR_FROM, CLEAR_TO = 0.01, 0.001, 0.99

# Cells counted at once: small enough for the caches, large enough that the per-block tables do not dominate.
BLOCK_CELLS = 1 << 18
FEW = 2  # thresholds up to which one by one is faster


@dataclass(frozen=True, eq=False)
class Counts:
    """What was predicted and what of it was right, per threshold and code.

    Attributes
    ----------
    thresholds : float64 [thresholds]
        In the order asked for.
    true_positives, predicted_positives : int64 [thresholds, codes]
    positives : int64 [codes]
        The support: notes that truly carry the code.
    documents : int
    """

    thresholds: Thresholds
    true_positives: ThresholdCounts
    predicted_positives: ThresholdCounts
    positives: CodeCounts
    documents: int

    def __post_init__(self) -> None:
        for name in ("thresholds", "true_positives", "predicted_positives", "positives"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def false_positives(self) -> ThresholdCounts:
        """Predicted, not true."""
        return self.predicted_positives - self.true_positives

    @property
    def false_negatives(self) -> ThresholdCounts:
        """True, not predicted."""
        return self.positives - self.true_positives

    def __add__(self, other: "Counts") -> "Counts":
        """The counts of both sets of notes together (same thresholds, same codes)."""
        if not np.array_equal(self.thresholds, other.thresholds, equal_nan=True):
            raise ShifamindError(
                "Counts at different thresholds cannot be added; count both on the same grid."
            )
        return Counts(
            self.thresholds,
            self.true_positives + other.true_positives,
            self.predicted_positives + other.predicted_positives,
            self.positives + other.positives,
            self.documents + other.documents,
        )

    def at(self, index: int) -> "Counts":
        """The counts at one threshold, still two-dimensional."""
        chosen = slice(index, index + 1) if index >= 0 else slice(index, index + 1 or None)
        return Counts(
            self.thresholds[chosen],
            self.true_positives[chosen],
            self.predicted_positives[chosen],
            self.positives,
            self.documents,
        )


def counts_at_thresholds(scores: Probabilities, labels: Labels, thresholds: Thresholds) -> Counts:
    """Count at every threshold, exactly as `scores > threshold` would, in one pass over the scores.

    A score's bin is the number of thresholds strictly below it; one histogram of (bin, code) and a reverse
    cumulative sum then give the counts above every threshold. Scores at or below the lowest threshold are
    never touched, so a long label space costs little. Notes are taken in blocks: beyond its input the kernel
    holds a few [thresholds, codes] tables, and the input may be a memory map.

    Parameters
    ----------
    scores : float32 [documents, codes]
        Probabilities. A NaN is never above a threshold, as in NumPy; `evaluate` refuses it before.
    labels : uint8 [documents, codes]
        0 or 1.
    thresholds : float64 [thresholds]
        In any order, each in [0, 1].

    >>> counts = counts_at_thresholds(
    ...     np.array([[0.5, 0.9], [0.2, 0.1]], np.float32), np.array([[1, 1], [0, 1]], np.uint8), np.array([0.5]))
    >>> counts.true_positives.tolist(), counts.predicted_positives.tolist(), counts.positives.tolist()
    ([[0, 1]], [[0, 1]], [1, 2])
    """
    documents, codes = scores.shape
    check_thresholds(thresholds)
    order = np.argsort(thresholds, kind="stable")
    bins = Bins(thresholds[order])
    tallies = np.zeros((2, len(thresholds) + 1, codes), np.int64)  # predicted, truly positive
    for rows in _blocks(documents, codes, len(thresholds)):
        tallies += _tally(scores[rows], labels[rows], bins)
    above = np.cumsum(tallies[:, ::-1], axis=1)[:, ::-1]
    inverse = np.argsort(order, kind="stable") + 1
    return Counts(
        thresholds=np.array(thresholds, np.float64),
        true_positives=above[1, inverse],
        predicted_positives=above[0, inverse],
        positives=above[1, 0],
        documents=documents,
    )


def counts_of_logits(logits: Logits, labels: Labels, thresholds: Thresholds) -> Counts:
    """`counts_at_thresholds` of the FP32 sigmoid, taken block by block, so that no second matrix is held."""
    documents, codes = logits.shape

    def count(rows: slice) -> Counts:
        refuse_if_cut(logits, labels)
        if len(thresholds) <= FEW:
            return counts_one_by_one(logits[rows], labels[rows], thresholds)
        return counts_at_thresholds(probabilities(logits[rows]), labels[rows], thresholds)

    check_thresholds(thresholds)
    blocks = in_order(count, _blocks(documents, codes, len(thresholds), 8 * BLOCK_CELLS))
    return sum(blocks, next(blocks))


def counts_one_by_one(logits: Logits, labels: Labels, thresholds: Thresholds) -> Counts:
    """The same, threshold by threshold: faster where there are very few, since hardly a sigmoid has to be taken."""
    each = [counts_of_decisions(decisions(logits, threshold), labels) for threshold in thresholds]
    return Counts(
        thresholds=np.array(thresholds, np.float64),
        true_positives=np.concatenate([counts.true_positives for counts in each]),
        predicted_positives=np.concatenate([counts.predicted_positives for counts in each]),
        positives=each[0].positives,
        documents=len(labels),
    )


def decisions(logits: Logits, threshold: float) -> Decisions:
    """Where a code is assigned: FP32 sigmoid > threshold, strictly. One threshold of the kernel, kept per cell.

    Where a logit is `CLEAR` of the threshold's, it tells by itself, and no sigmoid is taken: a tenth of the time.
    """
    below, centre = _cut(threshold)
    if not CLEAR_FROM <= threshold <= CLEAR_TO:
        return probabilities(logits) > below
    assigned = logits > centre + CLEAR
    near = np.flatnonzero((logits > centre - CLEAR) & ~assigned)
    assigned.ravel()[near] = probabilities(logits.ravel()[near]) > below
    return assigned


@lru_cache(maxsize=8)
def _cut(threshold: float) -> tuple[np.float32, float]:
    """Where the decision falls: on FP32 probability, and on logit."""
    return float32_below(np.array([threshold]))[0], float(logit(threshold))


def counts_of_decisions(predicted: Decisions, labels: Labels) -> Counts:
    """Counts of decisions already taken, as if at one threshold, recorded as NaN: it is not known here."""
    true = labels != 0
    return Counts(
        thresholds=np.array([np.nan]),
        true_positives=_per_code(predicted & true)[None],
        predicted_positives=_per_code(predicted)[None],
        positives=_per_code(true),
        documents=len(labels),
    )


def true_positives(labels: Labels, threshold: float, *runs: Logits) -> tuple[CodeCounts, list[CodeCounts]]:
    """Of every code its support, and for each of these runs' logits how many of the notes that carry it get it.

    Few cells of a large run are positive: the logits of those alone are looked at.
    """
    codes = labels.shape[1]

    def look(rows: slice) -> np.ndarray:
        cells = np.flatnonzero(labels[rows].view(bool))
        which = cells % codes
        taken = (decisions(logits[rows].ravel()[cells][None], threshold)[0] for logits in runs)
        each = [which, *(which[right] for right in taken)]
        return np.stack([np.bincount(one, minlength=codes) for one in each])

    positives, *right = sum(over_blocks(look, labels, *runs), np.zeros((1 + len(runs), codes), np.int64))
    return positives, right


def no_counts(codes: int) -> Counts:
    """The counts of no note, to which those of decisions are added."""
    none = np.zeros((1, codes), np.int64)
    return Counts(np.array([np.nan]), none, none, none[0], 0)


def _per_code(cells: Decisions) -> CodeCounts:
    """How many are true, code by code: added up in bytes, which hold the sum of 255 notes."""
    bits = cells.view(np.uint8)
    sums = (
        np.add.reduce(bits[start : start + 255], axis=0, dtype=np.uint8) for start in range(0, len(bits), 255)
    )
    return sum(sums, np.zeros(cells.shape[1], np.int64))


def float32_below(thresholds: Thresholds) -> Float32[np.ndarray, " thresholds"]:
    """The largest FP32 number at or below each double.

    For an FP32 score s and a double t, `s > t` in FP64 is `s > float32_below(t)` in FP32: no FP32 number lies
    between the two. So the kernel compares in FP32, exactly.
    """
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def check_thresholds(thresholds: Thresholds) -> None:
    """Refuse an empty grid and anything that is no probability."""
    if not len(thresholds):
        raise ShifamindError("No threshold given; expected at least one in [0, 1].")
    outside = ~((thresholds >= 0) & (thresholds <= 1))
    if outside.any():
        raise ShifamindError(
            f"The threshold {thresholds[outside][0]} is no probability; expected 0 ≤ threshold ≤ 1."
        )


def check_threshold(threshold: float) -> None:
    """Refuse a threshold from which no margin can be measured: at 0 and 1 its logit is infinite."""
    if not 0 < threshold < 1:
        raise ShifamindError(f"The threshold is {threshold}; it must be strictly between 0 and 1.")


def _blocks(documents: int, codes: int, thresholds: int, cells: int = BLOCK_CELLS) -> Iterator[slice]:
    """Row slices of at least `cells` cells, and enough that summing the tables stays cheap."""
    step = max(1, max(cells, 6 * thresholds * codes) // codes)
    return (slice(start, start + step) for start in range(0, documents, step))


def _tally(scores: np.ndarray, labels: np.ndarray, bins: "Bins") -> np.ndarray:
    """Histograms over (bin, code): of the scores above the lowest edge, of the truly positive."""
    codes = scores.shape[1]
    scores, labels = scores.ravel(), labels.ravel()
    predicted = np.flatnonzero(scores > bins.edges[0])
    positive = np.flatnonzero(labels != 0)
    return np.stack([_histogram(cells, scores, bins, codes) for cells in (predicted, positive)])


def _histogram(cells: np.ndarray, scores: np.ndarray, bins: "Bins", codes: int) -> np.ndarray:
    size = len(bins.edges) * codes
    return np.bincount(bins.of(scores[cells]) * codes + cells % codes, minlength=size).reshape(-1, codes)


class Bins:
    """How many thresholds lie strictly below an FP32 score, by table: `np.searchsorted`, six times faster.

    The upper 16 bits of an FP32 number ≥ 0 order it (they are its BF16 truncation). A table gives the number
    of thresholds below the smallest score of each such bucket; what is left are the thresholds inside the
    bucket, one step each. NaN has bin 0: `NaN > t` is False.
    """

    MOST_STEPS = 8  # a finer grid goes through np.searchsorted

    def __init__(self, ascending: Thresholds) -> None:
        edges = float32_below(ascending)
        starts = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
        self.edges = np.append(edges, np.float32(np.inf))
        self._below = np.searchsorted(edges, starts, side="left")
        self._below[np.isnan(starts)] = 0
        self._steps = np.bincount(edges.view(np.uint32) >> 16).max()

    def of(self, scores: Float32[np.ndarray, " scores"]) -> Int64[np.ndarray, " scores"]:
        """The bin of every score."""
        if self._steps > self.MOST_STEPS:
            bins = np.searchsorted(self.edges[:-1], scores, side="left")
            bins[np.isnan(scores)] = 0
            return bins
        bins = self._below[scores.view(np.uint32) >> 16]
        for _ in range(self._steps):
            bins += scores > self.edges[bins]
        return bins
