"""The flip bound of a run of any size: its decisions are looked at in parts, so that never all of them are sorted.

The answers are those of `flip_bound`, of which the last part is one.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import logit

from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.counts import (
    Bins,
    Counts,
    check_threshold,
    counts_of_decisions,
    decisions,
    no_counts,
)
from shifamind_core.analysis.flip_bound import (
    Epsilons,
    F1Range,
    F1Ranges,
    FlipBound,
    near_cells,
    one_target,
    ranges_of,
    reaches,
)
from shifamind_core.arrays import Labels
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import over_blocks
from shifamind_core.runs.run import Run

MOST_CELLS = 1 << 22  # sorted at once, at some 50 bytes each
EDGES = 64  # margins at which flips are counted in one pass
FIRST_SHARE = 1 / 16  # of the decisions, the nearest, which most targets need no more of, are looked at first
SAMPLED_NOTES = 256


def f1_ranges(run: Run, threshold: float, epsilons: Epsilons) -> F1Ranges:
    """`FlipBound.f1_ranges` (for ε ≥ 0, in any order) in one pass over blocks of notes, of which nothing but counts is kept.

    Raises
    ------
    ShifamindError
        As `flip_bound`.
    """
    labels = _required(run, threshold)
    edges, place = np.unique(epsilons, return_inverse=True)
    counts, sums = _flippable(
        run, labels, threshold, edges, 0.0, None, lambda margins: np.searchsorted(edges, margins)
    )
    return ranges_of(counts, sums[place], epsilons)


def f1_range(run: Run, threshold: float, epsilon: float) -> F1Range:
    """`FlipBound.f1_range` in one pass over blocks of notes, of which nothing but counts is kept.

    Raises
    ------
    ShifamindError
        As `flip_bound`, or an ε that is no number ≥ 0.
    """
    labels = _required(run, threshold)
    if not epsilon >= 0:
        raise ShifamindError(
            f"ε is how far a logit may move, but {epsilon} was given; expected a number ≥ 0."
        )
    return FlipBound(run.logits, labels, threshold, beyond=epsilon, reach=epsilon).f1_range(epsilon)


def smallest_epsilon(
    run: Run, threshold: float, *, macro_f1: float | None = None, micro_f1: float | None = None
) -> float | None:
    """`FlipBound.smallest_epsilon`: passes over blocks of notes narrow down where it is, until few decisions are left to sort.

    Raises
    ------
    ShifamindError
        As `flip_bound`, or not one target.
    """
    labels = _required(run, threshold)
    name, target = one_target(macro_f1, micro_f1)
    beyond, reach, within, left = 0.0, np.inf, None, run.logits.size
    share = FIRST_SHARE
    while left > MOST_CELLS:
        edges = _edges(run, threshold, beyond, reach, share)
        if not len(edges):
            break  # of one margin, as far as the sample tells
        bins = Bins(edges)
        counts, sums = _flippable(
            run,
            labels,
            threshold,
            edges,
            beyond,
            within,
            lambda margins, bins=bins: bins.of(_rounded_up(margins)),
        )
        reached = reaches(counts, sums, name, target)
        first = int(np.argmax(reached)) if reached.any() else len(edges)
        farther = int(sums[first].sum()) if first < len(edges) else run.logits.size
        if first < len(edges):
            reach = float(edges[first])
        if first:
            beyond, within = float(edges[first - 1]), sums[first - 1]
        left, share = farther - (0 if within is None else int(within.sum())), 1.0
    return FlipBound(run.logits, labels, threshold, beyond, reach, within).smallest_epsilon(
        macro_f1=macro_f1, micro_f1=micro_f1
    )


def _required(run: Run, threshold: float) -> Labels:
    labels = required_labels(run)
    check_threshold(threshold)
    refuse_non_finite(run)
    return labels


def _edges(
    run: Run, threshold: float, beyond: float, reach: float, share: float
) -> Float64[np.ndarray, " edges"]:
    """Margins, FP32 numbers all, that part the nearest `share` of the decisions between into about equal parts, by a sample."""
    notes = np.unique(np.linspace(0, run.documents - 1, SAMPLED_NOTES).astype(np.int64))
    margins = np.abs(run.logits[notes].astype(np.float64) - logit(threshold)).astype(np.float32)
    margins = margins[(margins > beyond) & (margins < reach)]
    if not len(margins):
        return np.zeros(0)
    parts = np.quantile(margins, np.arange(1, EDGES + 1) / EDGES * share, method="lower")
    return np.unique(parts).astype(np.float64)


def _flippable(
    run: Run,
    labels: Labels,
    threshold: float,
    edges: Float64[np.ndarray, " edges"],
    beyond: float,
    within: Int64[np.ndarray, "4 codes"] | None,
    place: Callable[[Float64[np.ndarray, " cells"]], np.ndarray],
) -> tuple[Counts, Int64[np.ndarray, "edges 4 codes"]]:
    """The counts, and which kinds of decisions have margins up to each edge; `within` are those up to `beyond`.

    `place` says of margins how many edges are below them.
    """
    size = 4 * run.logits.shape[1]
    tallies = np.zeros(len(edges) * size, np.int64)

    def look(rows: slice) -> tuple[Counts, np.ndarray]:
        logits, assigned = run.logits[rows], decisions(run.logits[rows], threshold)
        margins, keys = near_cells(logits, labels[rows], assigned, threshold, beyond, float(edges[-1]))
        return counts_of_decisions(assigned, labels[rows]), place(margins) * size + keys

    counts = no_counts(run.logits.shape[1])
    for counted, places in over_blocks(look, run.logits, labels):
        counts += counted
        np.add.at(tallies, places, 1)
    sums = tallies.reshape(len(edges), 4, -1).cumsum(axis=0)
    return counts, sums if within is None else sums + within


def _rounded_up(margins: Float64[np.ndarray, " cells"]) -> np.ndarray:
    """The least FP32 number at or above each: it is beyond an FP32 edge where the margin itself is."""
    nearest = margins.astype(np.float32)
    return np.where(nearest < margins, np.nextafter(nearest, np.float32(np.inf)), nearest)


class LargeFlipBound:
    """What is asked of a `FlipBound`, of a run of any size: each answer takes one pass or a few, and keeps no margin."""

    def __init__(self, run: Run, threshold: float) -> None:
        self._run, self._threshold = run, threshold
        ranges = f1_ranges(run, threshold, np.zeros(1))
        self.macro_f1, self.micro_f1 = float(ranges.macro_f1[0, 0]), float(ranges.micro_f1[0, 0])

    @property
    def largest_margin(self) -> float:
        """Of all decisions."""
        return max(abs(end - float(logit(self._threshold))) for end in self._run.ends)

    def f1_ranges(self, epsilons: Epsilons) -> F1Ranges:
        return f1_ranges(self._run, self._threshold, epsilons)

    def smallest_epsilon(
        self, *, macro_f1: float | None = None, micro_f1: float | None = None
    ) -> float | None:
        return smallest_epsilon(self._run, self._threshold, macro_f1=macro_f1, micro_f1=micro_f1)
