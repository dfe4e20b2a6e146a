"""The flip bound of the tuned protocol: the threshold is chosen on validation, and may itself move."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.special import logit

from shifamind_core.analysis import scores
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.counts import Counts, float32_below
from shifamind_core.analysis.flip_bound import Range, extremes, one_target
from shifamind_core.analysis.thresholds import FIXED_THRESHOLD, SEED_GRID, run_counts
from shifamind_core.arrays import Thresholds, probabilities
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run


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

    Raises
    ------
    ShifamindError
        Runs that cannot be scored.
    """

    def __init__(self, validation: Run, test: Run, grid: Thresholds = SEED_GRID) -> None:
        self.grid = grid
        self._validation = _SortedCells(validation, grid)
        # 0.5 stands where nothing on validation scores above 0.
        self._test = _SortedCells(test, np.append(grid, FIXED_THRESHOLD))
        self._spacing = float(np.diff(logit(np.unique(grid))).min(initial=np.inf))

    def f1_range(self, epsilon: float) -> TunedRange:
        """The range for one ε."""
        if not epsilon >= 0:
            raise ShifamindError(
                f"ε is how far a logit may move, but {epsilon} was given; expected a number ≥ 0."
            )
        possible = self._possible(epsilon)
        ranges = [self._test.f1_range(index, epsilon) for index in possible]
        return TunedRange(
            epsilon=epsilon,
            thresholds=tuple(float(self._test.grid[index]) for index in possible),
            exact=2 * epsilon < self._spacing,
            macro_f1=(min(r[0][0] for r in ranges), max(r[0][1] for r in ranges)),
            micro_f1=(min(r[1][0] for r in ranges), max(r[1][1] for r in ranges)),
        )

    def smallest_epsilon(
        self,
        *,
        macro_f1: float | None = None,
        micro_f1: float | None = None,
        relative_tolerance: float = 1e-3,
    ) -> float | None:
        """An ε below which the tuned score cannot become as low (or as high) as the target.

        At most `relative_tolerance` below the smallest ε whose range reaches the target; 0 where none is
        needed, `None` where no ε up to the largest margin reaches it.
        """
        name, target = one_target(macro_f1, micro_f1)

        def reached(epsilon: float) -> bool:
            found = self.f1_range(epsilon)
            low, high = found.macro_f1 if name == "macro_f1" else found.micro_f1
            return low <= target <= high

        if reached(0.0):
            return 0.0
        largest = max(self._validation.largest_margin, self._test.largest_margin)
        below, above = 0.0, 1e-6
        while not reached(above):
            if above >= largest:
                return None
            below, above = above, 2 * above
        while above - below > relative_tolerance * above:
            middle = (below + above) / 2
            below, above = (below, middle) if reached(middle) else (middle, above)
        return below

    def _possible(self, epsilon: float) -> list[int]:
        """Positions in the grid that tuning could choose; the position after the last is the seed's 0.5.

        A threshold wins if its micro F1 is above 0, above every earlier one and not below any later one. So
        it cannot where its best case is beaten by another's worst case.
        """
        worst, best = np.array(
            [self._validation.f1_range(index, epsilon)[1] for index in range(len(self.grid))]
        ).T
        earlier = np.maximum.accumulate(np.append(0.0, worst))[:-1]
        later = np.append(np.maximum.accumulate(worst[::-1])[::-1][1:], 0.0)
        possible = np.flatnonzero((best > earlier) & (best >= later)).tolist()
        return possible + [len(self.grid)] * bool(worst.max() == 0)


class _SortedCells:
    """A run's decisions sorted by logit, so that those within ε of any threshold lie side by side."""

    def __init__(self, run: Run, grid: Thresholds) -> None:
        labels = required_labels(run)
        refuse_non_finite(run)
        logits = run.logits.astype(np.float64).ravel()
        order = np.argsort(logits)
        self.grid = grid
        self.centers: Float64[np.ndarray, " thresholds"] = logit(grid)
        self._counts: Counts = run_counts(run, grid)
        self._cuts: Float32[np.ndarray, " thresholds"] = float32_below(grid)
        self._logits: Float64[np.ndarray, " cells"] = logits[order]
        self._scores: Float32[np.ndarray, " cells"] = probabilities(run.logits).ravel()[order]
        self._true: Bool[np.ndarray, " cells"] = labels.ravel()[order] != 0
        self._code: Int64[np.ndarray, " cells"] = order % run.logits.shape[1]
        self._codes = run.logits.shape[1]

    @property
    def largest_margin(self) -> float:
        """The largest |margin| at any finite threshold of the grid."""
        finite = self.centers[np.isfinite(self.centers)]
        return float(np.abs(self._logits[[0, -1]] - finite[:, None]).max(initial=0.0))

    def f1_range(self, index: int, epsilon: float) -> tuple[Range, Range]:
        """((macro minimum, maximum), (micro minimum, maximum)) at one threshold of the grid."""
        worst, best = extremes(self._counts.at(index), self._flippable(index, epsilon))
        return (
            (float(scores.macro_f1(worst)[0]), float(scores.macro_f1(best)[0])),
            (float(scores.micro_f1(worst)[0]), float(scores.micro_f1(best)[0])),
        )

    def _flippable(self, index: int, epsilon: float) -> Int64[np.ndarray, "1 4 codes"]:
        """Kinds of the decisions with |margin| ≤ ε, per code; none for ε = 0."""
        center = self.centers[index]
        slack = 1e-12 * (1 + abs(center) + epsilon)  # the slice may be too wide; |margin| decides
        edges = np.array([center - epsilon - slack, center + epsilon + slack])
        start, stop = np.searchsorted(self._logits, edges) if epsilon > 0 else (0, 0)
        band = slice(start, stop)
        inside = np.abs(self._logits[band] - center) <= epsilon
        assigned = self._scores[band][inside] > self._cuts[index]
        kind = 2 * assigned + self._true[band][inside]
        keys = kind * self._codes + self._code[band][inside]
        return np.bincount(keys, minlength=4 * self._codes).reshape(1, 4, self._codes)
