"""The flip bound of the tuned protocol: the threshold is chosen on validation, and may itself move."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.special import logit

from shifamind_core.analysis import scores
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.counts import Counts, check_thresholds, float32_below
from shifamind_core.analysis.flip_bound import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    TRUE_NEGATIVE,
    TRUE_POSITIVE,
    Range,
    extremes,
    one_target,
)
from shifamind_core.analysis.thresholds import FIXED_THRESHOLD, SEED_GRID
from shifamind_core.arrays import Thresholds, probabilities
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import code_by_code, in_order
from shifamind_core.runs.run import Run

MOST_CELLS = 1 << 24  # of a run that are held, those nearest to a threshold: 67 MB in FP32
SAMPLED_NOTES = 256


@dataclass(frozen=True)
class TunedRange:
    """F1 on test at a threshold tuned on validation, when no logit of either moves by more than ε.

    Attributes
    ----------
    epsilon : float
    thresholds : tuple of float
        Every threshold that tuning could choose. The seed's 0.5 is among them where nothing need score.
    exact : bool
        True where each of them can really be chosen, and so the ranges are reached: 2ε is less than the
        distance in logits between neighbouring thresholds, so that no decision can flip at two of them and
        each threshold's F1 moves independently (0.02 on the seed's grid). Else a sound outer bound: F1 at all
        thresholds comes from the same perturbation, which is not exploited.
    macro_f1, micro_f1 : (minimum, maximum)
        On test. Decision: >; macro over all codes; 0/0 = 0.
    """

    epsilon: float
    thresholds: tuple[float, ...]
    exact: bool
    macro_f1: Range
    micro_f1: Range


class TunedFlipBound:
    """F1 ranges under the tuned protocol: first best micro F1 on `validation` over `grid`, scored on `test`.

    Attributes
    ----------
    reach : float
        Ranges are known for ε up to this. Infinite but for large runs, of which only the decisions that are this near to a
        threshold of the grid are held.

    Raises
    ------
    ShifamindError
        Runs that cannot be scored.
    """

    def __init__(self, validation: Run, test: Run, grid: Thresholds = SEED_GRID) -> None:
        self.grid = grid
        self._validation = _Cells(validation, grid, pooled=True)  # of which micro F1 alone matters
        # 0.5 stands where nothing on validation scores above 0.
        self._test = _Cells(test, np.append(grid, FIXED_THRESHOLD), pooled=False)
        self._spacing = float(np.diff(logit(np.unique(grid))).min(initial=np.inf))
        self.reach = min(self._validation.reach, self._test.reach)

    def f1_range(self, epsilon: float) -> TunedRange:
        """The range for one ε."""
        if not epsilon >= 0:
            raise ShifamindError(
                f"ε is how far a logit may move, but {epsilon} was given; expected a number ≥ 0."
            )
        if epsilon > self.reach:
            raise ValueError(f"ranges are known for ε up to {self.reach} alone")
        possible = self._possible(epsilon)
        worst, best = self._test.extremes(possible, epsilon)
        return TunedRange(
            epsilon=epsilon,
            thresholds=tuple(self._test.grid[possible].tolist()),
            exact=2 * epsilon < self._spacing,
            macro_f1=(float(scores.macro_f1(worst).min()), float(scores.macro_f1(best).max())),
            micro_f1=(float(scores.micro_f1(worst).min()), float(scores.micro_f1(best).max())),
        )

    def smallest_epsilon(
        self,
        *,
        macro_f1: float | None = None,
        micro_f1: float | None = None,
        relative_tolerance: float = 1e-3,
    ) -> float | None:
        """An ε below which the tuned score cannot become as low (or as high) as the target.

        At most `relative_tolerance` below the smallest ε whose range reaches the target, or `reach`, where none up to it does; 0
        where none is needed, `None` where no ε up to the largest margin reaches it.
        """
        name, target = one_target(macro_f1, micro_f1)

        def reached(epsilon: float) -> bool:
            found = self.f1_range(epsilon)
            low, high = found.macro_f1 if name == "macro_f1" else found.micro_f1
            return low <= target <= high

        if reached(0.0):
            return 0.0
        largest = max(self._validation.largest_margin, self._test.largest_margin)
        below, above = 0.0, min(1e-6, self.reach)
        while not reached(above):
            if above >= largest:
                return None
            if above >= self.reach:
                return self.reach
            below, above = above, min(2 * above, self.reach)
        while above - below > relative_tolerance * above:
            middle = (below + above) / 2
            below, above = (below, middle) if reached(middle) else (middle, above)
        return below

    def _possible(self, epsilon: float) -> list[int]:
        """Positions in the grid that tuning could choose; the position after the last is the seed's 0.5.

        A threshold wins if its micro F1 is above 0, above every earlier one and not below any later one. So
        it cannot where its best case is beaten by another's worst case.
        """
        cases = self._validation.extremes(list(range(len(self.grid))), epsilon)
        worst, best = (scores.micro_f1(counts) for counts in cases)
        earlier = np.maximum.accumulate(np.append(0.0, worst))[:-1]
        later = np.append(np.maximum.accumulate(worst[::-1])[::-1][1:], 0.0)
        possible = np.flatnonzero((best > earlier) & (best >= later)).tolist()
        return possible + [len(self.grid)] * bool(worst.max() == 0)


class _Cells:
    """A run's decisions, of every code those of each label sorted by logit, so that those within ε of any threshold are a difference
    of two places. Of a large run only those within `reach` of a threshold are held. `pooled`: all codes as if they were one.
    """

    def __init__(self, run: Run, grid: Thresholds, pooled: bool) -> None:
        labels = required_labels(run)
        refuse_non_finite(run)
        check_thresholds(grid)
        self.grid = grid
        centers: Float64[np.ndarray, " thresholds"] = logit(grid)
        self._finite = np.isfinite(centers)
        self._centers = np.where(self._finite, centers, 0.0)
        self._dtype = run.logits.dtype
        cuts = float32_below(grid)
        self._first = first = _least(lambda x: probabilities(x) > cuts, self._dtype, len(grid))  # assigned
        about = np.unique(centers[self._finite])
        self.reach = _reach(run, about)
        ends = [abs(end - center) for end in run.ends for center in about]
        self.largest_margin = float(max(ends, default=0.0))
        low, high = _hull(np.concatenate([first, about - self.reach, about + self.reach]), self._dtype)
        parted = 2 * self.reach < np.diff(about).max(initial=0.0)  # what is near lies in parts

        def look(code: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
            """Logits that are held, of either label; how many of either are assigned [2, thresholds]; the support."""
            logits, true = code[0], code[1].view(bool)
            beyond = logits > high
            farther = np.count_nonzero(beyond & ~true), np.count_nonzero(beyond & true)
            among = np.flatnonzero((logits >= low) & ~beyond)
            among, truly = logits[among], true[among]
            without, carried = np.sort(among[~truly]), np.sort(among[truly])
            assigned = [
                more + len(side) - side.searchsorted(first)
                for side, more in zip((without, carried), farther, strict=True)
            ]
            if parted:
                without = without[_distance(without, about) <= self.reach]
                carried = carried[_distance(carried, about) <= self.reach]
            return without, carried, np.stack(assigned), int(np.count_nonzero(true))

        codes = (
            code
            for group in code_by_code(run.logits, labels)
            for code in in_order(look, zip(*group, strict=True))
        )
        false, true, assigned, positives = (list(parts) for parts in zip(*codes, strict=True))
        wrong, right = np.stack(assigned, axis=-1)
        counts = Counts(grid, right, wrong + right, np.array(positives), run.documents)
        if pooled:
            false, true = [_joined(false)], [_joined(true)]
            counts = _summed(counts)
        self._counts = counts
        self._sides = false, true  # without the label, with it: of each code its logits, ascending

    def extremes(self, indices: list[int], epsilon: float) -> tuple[Counts, Counts]:
        """The counts at these thresholds of the grid in the worst and in the best case."""
        counts = self._counts
        asked = Counts(
            counts.thresholds[indices],
            counts.true_positives[indices],
            counts.predicted_positives[indices],
            counts.positives,
            counts.documents,
        )
        return extremes(asked, self._flippable(indices, epsilon))

    def _flippable(self, indices: list[int], epsilon: float) -> Int64[np.ndarray, "thresholds 4 codes"]:
        """Kinds of the decisions with |margin| ≤ ε, per code; none for ε = 0."""
        flippable = np.zeros((len(indices), 4, len(self._sides[0])), np.int64)
        if not epsilon > 0:
            return flippable
        centers = self._centers[indices]
        low = _least(lambda x: x - centers >= -epsilon, self._dtype, len(indices))
        beyond = _least(lambda x: x - centers > epsilon, self._dtype, len(indices))
        beyond = np.where(self._finite[indices], beyond, low)  # an infinite threshold has nothing near it
        edges = np.stack([low, np.clip(self._first[indices], low, beyond), beyond])
        for codes, unassigned, assigned in (
            (self._sides[0], TRUE_NEGATIVE, FALSE_POSITIVE),
            (self._sides[1], FALSE_NEGATIVE, TRUE_POSITIVE),
        ):
            places = np.stack([code.searchsorted(edges) for code in codes], axis=-1)
            flippable[:, unassigned] = places[1] - places[0]
            flippable[:, assigned] = places[2] - places[1]
        return flippable


def _summed(counts: Counts) -> Counts:
    """Those of all codes, as if they were one."""
    return Counts(
        counts.thresholds,
        counts.true_positives.sum(axis=1, keepdims=True),
        counts.predicted_positives.sum(axis=1, keepdims=True),
        counts.positives.sum(keepdims=True),
        counts.documents,
    )


def _distance(
    logits: Float[np.ndarray, " cells"], about: Float64[np.ndarray, " centers"]
) -> Float64[np.ndarray, " cells"]:
    """From each logit to the nearest of these, which ascend."""
    outer = np.concatenate(([-np.inf], about, [np.inf]))
    place = np.searchsorted(about, logits.astype(np.float64))
    return np.minimum(logits - outer[place], outer[place + 1] - logits)


def _hull(values: np.ndarray, dtype: np.dtype) -> tuple[np.floating, np.floating]:
    """Numbers of this dtype below and above all of these."""
    low, high = np.array([values.min(), values.max()], dtype)
    return np.nextafter(low, -np.inf, dtype=dtype), np.nextafter(high, np.inf, dtype=dtype)


def _joined(codes: list[np.ndarray]) -> Float[np.ndarray, " cells"]:
    """The logits of all codes, ascending."""
    values = np.concatenate(codes)
    values.sort()
    return values


def _reach(run: Run, about: Float64[np.ndarray, " centers"]) -> float:
    """How near to one of these thresholds about `MOST_CELLS` decisions are, by a sample of the notes; infinite where all can be held."""
    if run.logits.size <= MOST_CELLS:
        return np.inf
    notes = np.unique(np.linspace(0, run.documents - 1, SAMPLED_NOTES).astype(np.int64))
    return float(np.quantile(_distance(run.logits[notes].ravel(), about), MOST_CELLS / run.logits.size))


def _least(
    holds: Callable[[np.ndarray], Bool[np.ndarray, " cases"]], dtype: np.dtype, cases: int
) -> Float[np.ndarray, " cases"]:
    """For every case the least number of this dtype for which it holds, as it does for all greater ones; infinity where for none.

    Halving goes over the numbers' bits, which order them as whole numbers do.
    """
    infinity = int(np.array(np.inf, dtype).view(f"i{dtype.itemsize}"))
    low, high = np.full(cases, -infinity, np.int64), np.full(cases, infinity, np.int64)  # does not, does

    while (apart := high - 1 > low).any():
        middle = low // 2 + high // 2 + (low & high & 1)
        with np.errstate(over="ignore"):  # the largest FP64 numbers are infinite in FP32
            found = holds(_numbers(middle, dtype))
        high, low = np.where(apart & found, middle, high), np.where(apart & ~found, middle, low)
    return _numbers(high, dtype)


def _numbers(bits: Int64[np.ndarray, " cases"], dtype: np.dtype) -> Float[np.ndarray, " cases"]:
    """The numbers of these bits; negative ones have those of their size, negated."""
    sizes = np.abs(bits).astype(f"i{dtype.itemsize}").view(dtype)
    return np.where(bits < 0, -sizes, sizes)
