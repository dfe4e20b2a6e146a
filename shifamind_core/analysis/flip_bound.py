"""The flip bound: what F1 can become if no logit moves by more than ε. A proof, not an estimate.

If every logit moves by at most ε, only decisions whose |margin| = |logit − logit(threshold)| is at most ε can
flip. F1 of a code is 2·tp / (positives + predicted); each flip moves it one way only:

* a true positive lost: tp and predicted fall by one, F1 falls (2·tp ≤ positives + predicted);
* a false alarm gained: predicted rises by one, F1 falls or stays 0;
* a miss found, a false alarm removed: the reverse, F1 rises or stays 0 (0/0 = 0: a code without support scores
  0 whether it is predicted or not).

So the worst case turns every true positive in the band into a miss and every true negative into a false alarm,
and the best case turns every miss into a hit and every false alarm into a true negative. Codes share no
decision, so the macro mean is worst (best) where every code is, and the pooled counts are worst (best) there
too: all ranges here are reached, and by one and the same perturbation. Macro is over all codes.
"""

import bisect
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import logit

from shifamind_core.analysis import scores
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.counts import (
    CodeCounts,
    Counts,
    Decisions,
    check_threshold,
    counts_of_decisions,
    decisions,
    no_counts,
)
from shifamind_core.arrays import Labels, Logits
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import over_blocks
from shifamind_core.runs.run import Run

Range = tuple[float, float]
Epsilons = Float64[np.ndarray, " epsilons"]
MinMax = Float64[np.ndarray, "epsilons 2"]

# A decision is one of four; the number is 2 · assigned + true.
TRUE_NEGATIVE, FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE = range(4)


@dataclass(frozen=True, eq=False)
class F1Ranges:
    """Exact F1 ranges for several ε; the last axis is (minimum, maximum).

    Attributes
    ----------
    epsilons : float64 [epsilons]
        On logits.
    macro_f1, micro_f1 : float64 [epsilons, 2]
        Decision: >; macro over all codes; 0/0 = 0.
    per_code : float64 [epsilons, codes, 2]
    flippable : int64 [epsilons]
        Decisions within ε of the threshold, of all documents × codes.
    """

    epsilons: Epsilons
    macro_f1: MinMax
    micro_f1: MinMax
    per_code: Float64[np.ndarray, "epsilons codes 2"]
    flippable: Int64[np.ndarray, " epsilons"]


@dataclass(frozen=True, eq=False)
class F1Range:
    """Exact F1 range (minimum, maximum) for one ε. Decision: >; macro over all codes; 0/0 = 0."""

    epsilon: float
    macro_f1: Range
    micro_f1: Range
    per_code: Float64[np.ndarray, "codes 2"]
    flippable: int


@dataclass(frozen=True)
class SampledScore:
    """Mean and central 95 % interval of a score over random perturbations."""

    mean: float
    interval: Range


@dataclass(frozen=True)
class SampledRange:
    """What F1 became under randomly drawn errors: **sampled, not a bound**.

    Each logit's error is drawn by itself from the measured differences, so errors that depend on the note, on
    the code or on each other are not represented. `largest_error` is the largest that could be drawn.
    """

    samples: int
    seed: int
    largest_error: float
    macro_f1: SampledScore
    micro_f1: SampledScore
    flips: SampledScore


class FlipBound:
    """Exact F1 ranges of one run at one threshold, for any ε.

    Which side a decision is on is taken from the decision rule itself (FP32 sigmoid > threshold), so that at
    ε = 0 every range is the score; margins are FP64. The two disagree only within the rounding of an FP32
    sigmoid, less than 1e-6 of a logit on the seed's grid. A decision can flip if ε > 0 and |margin| ≤ ε: the
    band is closed, so a decision that would need slightly more than ε counts as flippable, never the other
    way round.

    Parameters
    ----------
    logits : float [documents, codes]
    labels : uint8 [documents, codes]
    threshold : float
        On probability.
    beyond, reach : float
        Margins that are kept: of decisions within `beyond` only the kinds are counted, and those beyond `reach` do not flip, so
        that ranges are for ε from `beyond` to `reach`. A large run is so looked at in parts.
    within : int64 [4, codes], optional
        The kinds of the decisions within `beyond`, where they are known already.

    Attributes
    ----------
    margins : float64 [cells]
        |margin| of every decision kept, ascending.

    >>> bound = FlipBound(np.array([[2.0], [-1.0]]), np.array([[1], [1]], np.uint8), 0.5)
    >>> bound.f1_range(1.0).macro_f1, bound.smallest_epsilon(macro_f1=0.0)
    ((0.6666666666666666, 1.0), 2.0)
    """

    def __init__(
        self,
        logits: Logits,
        labels: Labels,
        threshold: float = 0.5,
        beyond: float = 0.0,
        reach: float = np.inf,
        within: Int64[np.ndarray, "4 codes"] | None = None,
    ) -> None:
        check_threshold(threshold)
        self.threshold = threshold
        self.beyond, self.reach = beyond, reach
        self._codes = logits.shape[1]
        self._within = np.zeros((4, self._codes), np.int64) if within is None else within
        above = beyond if within is not None else 0.0

        def look(rows: slice) -> tuple[Counts, np.ndarray, np.ndarray]:
            if not np.isfinite(logits[rows]).all():
                raise ShifamindError(
                    "A flip bound needs finite logits; compare the run to see which are not."
                )
            assigned = decisions(logits[rows], threshold)
            counted = counts_of_decisions(assigned, labels[rows])
            return counted, *near_cells(logits[rows], labels[rows], assigned, threshold, above, reach)

        self.counts: Counts = no_counts(self._codes)
        margins, keys = [], []
        for counted, size, key in over_blocks(look, logits, labels):
            self.counts += counted
            if above < beyond:
                self._within += np.bincount(key[size <= beyond], minlength=4 * self._codes).reshape(4, -1)
                size, key = size[size > beyond], key[size > beyond]
            margins.append(size)
            keys.append(key)
        size = np.concatenate(margins)
        order = np.argsort(size)
        self.margins: Float64[np.ndarray, " cells"] = size[order]
        self._keys: Int64[np.ndarray, " cells"] = np.concatenate(keys)[order]

    @property
    def macro_f1(self) -> float:
        """The score itself, which every range contains."""
        return float(scores.macro_f1(self.counts)[0])

    @property
    def largest_margin(self) -> float:
        """Of the decisions kept."""
        return float(self.margins[-1])

    @property
    def micro_f1(self) -> float:
        """The score itself, which every range contains."""
        return float(scores.micro_f1(self.counts)[0])

    def f1_range(self, epsilon: float) -> F1Range:
        """The exact range for one ε."""
        ranges = self.f1_ranges(np.array([epsilon], np.float64))
        return F1Range(
            epsilon=epsilon,
            macro_f1=_pair(ranges.macro_f1[0]),
            micro_f1=_pair(ranges.micro_f1[0]),
            per_code=ranges.per_code[0],
            flippable=int(ranges.flippable[0]),
        )

    def f1_ranges(self, epsilons: Epsilons) -> F1Ranges:
        """The exact ranges for many ε (in any order) in one pass, e.g. for a curve."""
        if not (epsilons >= 0).all():
            raise ShifamindError(
                f"ε is how far a logit may move, but {epsilons[~(epsilons >= 0)][0]} was given; expected a number ≥ 0."
            )
        if (epsilons < self.beyond).any() or (epsilons > self.reach).any():
            raise ValueError(f"ranges are known for ε from {self.beyond} to {self.reach} alone")
        order = np.argsort(epsilons, kind="stable")
        inside = np.searchsorted(self.margins, epsilons[order], side="right")
        added = np.repeat(np.arange(len(epsilons)), np.diff(inside, prepend=0))
        size = 4 * self._codes
        tallies = np.bincount(added * size + self._keys[: len(added)], minlength=len(epsilons) * size)
        sums = tallies.reshape(-1, 4, self._codes).cumsum(axis=0) + self._within
        return ranges_of(self.counts, sums[np.argsort(order, kind="stable")], epsilons)

    def smallest_epsilon(
        self, *, macro_f1: float | None = None, micro_f1: float | None = None
    ) -> float | None:
        """The smallest ε for which F1 can become as low (or as high) as the target given.

        Exact: it is one of the margins, 0 for the score itself, `None` where no ε reaches the target. Any
        perturbation that moves every logit by less cannot produce that score.
        """
        name, target = one_target(macro_f1, micro_f1)
        if target == getattr(self, name):
            return 0.0

        def reached(cells: int) -> bool:
            return bool(reaches(self.counts, self._tally(cells), name, target)[0])

        movable = int(np.isfinite(self.margins).sum())
        if not reached(movable):
            return None
        cells = bisect.bisect_left(range(movable + 1), True, key=reached)
        return float(self.margins[cells - 1])

    def sampled_range(
        self, errors: Float64[np.ndarray, " errors"], samples: int = 200, seed: int = 0
    ) -> SampledRange:
        """F1 when every logit moves by an error drawn from measured ones. Sampled, not a bound.

        Parameters
        ----------
        errors : float64 [errors]
            Measured differences of logits, e.g. one policy against FP64; drawn with replacement.
        samples : int
            Number of perturbed runs.
        """
        if not errors.size or not np.isfinite(errors).all():
            raise ShifamindError("Errors to draw from must be finite numbers, at least one.")
        generator = np.random.default_rng(seed)
        largest = float(np.abs(errors).max())
        cells = int(np.searchsorted(self.margins, largest, side="right"))
        assigned = self._keys[:cells] >= FALSE_POSITIVE * self._codes
        needed = np.where(assigned, -1.0, 1.0)
        outcome = np.empty((samples, 3))
        for sample in range(samples):
            push = needed * errors[generator.integers(errors.size, size=cells)]
            flipped = self._flipped(self._keys[:cells][push >= self.margins[:cells]])
            outcome[sample] = (
                scores.macro_f1(flipped)[0],
                scores.micro_f1(flipped)[0],
                np.count_nonzero(push >= self.margins[:cells]),
            )
        return SampledRange(samples, seed, largest, *(_sampled(column) for column in outcome.T))

    def _tally(self, cells: int) -> Int64[np.ndarray, "1 4 codes"]:
        """Kinds of the `cells` decisions nearest to the threshold, per code."""
        return (
            np.bincount(self._keys[:cells], minlength=4 * self._codes).reshape(1, 4, self._codes)
            + self._within
        )

    def _flipped(self, keys: np.ndarray) -> Counts:
        """The counts after these decisions, and no others, have flipped."""
        flips = np.bincount(keys, minlength=4 * self._codes).reshape(4, self._codes)
        gained = flips[TRUE_NEGATIVE] + flips[FALSE_NEGATIVE]
        lost = flips[TRUE_POSITIVE] + flips[FALSE_POSITIVE]
        return _moved(
            self.counts, (flips[FALSE_NEGATIVE] - flips[TRUE_POSITIVE])[None], (gained - lost)[None]
        )


def near_cells(
    logits: Logits, labels: Labels, assigned: Decisions, threshold: float, beyond: float, reach: float
) -> tuple[Float64[np.ndarray, " cells"], Int64[np.ndarray, " cells"]]:
    """|margin| of the decisions farther than `beyond` and within `reach`, and each one's kind · codes + code."""
    centre = float(logit(threshold))
    flat = logits.ravel()
    cells = np.flatnonzero(_within(flat, centre, reach, 1) & ~_within(flat, centre, beyond, -1))
    # Any ε > 0 flips a decision exactly on the threshold, ε = 0 flips none.
    size = np.maximum(np.abs(flat[cells].astype(np.float64) - centre), np.nextafter(0, 1))
    kept = (size > beyond) & (size <= reach)
    if not kept.all():
        cells, size = cells[kept], size[kept]
    kind = 2 * assigned.ravel()[cells].astype(np.int64) + (labels.ravel()[cells] != 0)
    return size, kind * logits.shape[1] + cells % logits.shape[1]


def _within(logits: np.ndarray, centre: float, margin: float, more: int) -> np.ndarray:
    """Which margins may be (`more` = 1), or surely are (-1), at most this: compared in the logits' own dtype, which rounds."""
    kind = np.finfo(logits.dtype)
    reach = margin + more * 8 * float(kind.eps) * (1 + abs(centre) + margin)
    if not reach < float(kind.max) / 2:
        return np.ones(logits.shape, bool) if more > 0 else np.zeros(logits.shape, bool)
    return (logits >= centre - reach) & (logits <= centre + reach)


def flip_bound(run: Run, threshold: float = 0.5) -> FlipBound:
    """The bound of a run.

    Raises
    ------
    ShifamindError
        No labels, labels that are not 0 or 1, logits that are not finite, or a threshold not between 0 and 1.
    """
    labels = required_labels(run)
    refuse_non_finite(run)
    return FlipBound(run.logits, labels, threshold)


def ranges_of(
    counts: Counts, flippable: Int64[np.ndarray, "epsilons 4 codes"], epsilons: Epsilons
) -> F1Ranges:
    """The ranges, when for each ε decisions of these kinds may flip."""
    worst, best = extremes(counts, flippable)
    return F1Ranges(
        epsilons=epsilons,
        macro_f1=np.stack([scores.macro_f1(worst), scores.macro_f1(best)], axis=-1),
        micro_f1=np.stack([scores.micro_f1(worst), scores.micro_f1(best)], axis=-1),
        per_code=np.stack([scores.f1_per_code(worst), scores.f1_per_code(best)], axis=-1),
        flippable=flippable.sum(axis=(1, 2)),
    )


def one_target(
    macro_f1: float | None, micro_f1: float | None
) -> tuple[Literal["macro_f1", "micro_f1"], float]:
    """Which score a search is for; exactly one of the two must be given, and it must be a score."""
    if (macro_f1 is None) == (micro_f1 is None):
        raise ShifamindError("Give one target: either macro F1 or micro F1.")
    name, target = ("macro_f1", macro_f1) if macro_f1 is not None else ("micro_f1", micro_f1)
    if target is None or not 0 <= target <= 1:
        raise ShifamindError(f"The target for {name} is {target}; a score lies between 0 and 1.")
    return name, target


def reaches(
    counts: Counts,
    flippable: Int64[np.ndarray, "cases 4 codes"],
    name: Literal["macro_f1", "micro_f1"],
    target: float,
) -> Bool[np.ndarray, " cases"]:
    """Whether the score can become as low, or as high, as the target."""
    measure = scores.macro_f1 if name == "macro_f1" else scores.micro_f1
    worst, best = extremes(counts, flippable)
    if target < measure(counts)[0]:
        return measure(worst) <= target
    return measure(best) >= target


def extremes(counts: Counts, flippable: Int64[np.ndarray, "cases 4 codes"]) -> tuple[Counts, Counts]:
    """The counts of the worst and of the best case, when decisions of these kinds may flip."""
    lost, alarms = flippable[:, TRUE_POSITIVE], flippable[:, TRUE_NEGATIVE]
    found, removed = flippable[:, FALSE_NEGATIVE], flippable[:, FALSE_POSITIVE]
    return _moved(counts, -lost, alarms - lost), _moved(counts, found, found - removed)


def _moved(counts: Counts, true_positives: np.ndarray, predicted: np.ndarray) -> Counts:
    positives: CodeCounts = counts.positives
    return Counts(
        thresholds=np.full(len(predicted), counts.thresholds[0]),
        true_positives=counts.true_positives + true_positives,
        predicted_positives=counts.predicted_positives + predicted,
        positives=positives,
        documents=counts.documents,
    )


def _sampled(values: np.ndarray) -> SampledScore:
    return SampledScore(float(values.mean()), _pair(np.percentile(values, [2.5, 97.5])))


def _pair(values: np.ndarray) -> Range:
    return float(values[0]), float(values[1])
