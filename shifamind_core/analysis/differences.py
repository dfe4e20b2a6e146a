"""How far two runs' logits are apart, code by code and pooled: exact also where they are too many to be held at once.

Codes are taken one after the other; what is pooled over all cells is put together from them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Float64

Cells: TypeAlias = Float64[np.ndarray, " cells"]

PERCENTILES = (50, 90, 99)
HELD = 1 << 24  # of so many cells all sizes are held at once; of more, those about the percentiles alone
SAMPLED = 1 << 21  # cells, which say where the percentiles are, and how surely
ERRORS = 8  # standard errors of that to either side: what lies there is held, and where it was not enough, all is done again


@dataclass(frozen=True)
class DifferenceStatistics:
    """Candidate − reference logits in FP64, over the cells in which both are finite.

    `abs_percentiles` are NumPy's (linear interpolation) of |difference|, keyed by percent; `rms` is the root
    of the mean square; `correlation` is Pearson's r of the logits, `None` where one side is constant.
    With no finite cell everything is `None`.
    """

    cells: int
    mean: float | None
    rms: float | None
    max_abs: float | None
    abs_percentiles: dict[int, float | None]
    correlation: float | None


NOTHING = DifferenceStatistics(0, None, None, None, dict.fromkeys(PERCENTILES), None)


class Moments(NamedTuple):
    """Sums over cells: of the differences, of the logits, and of squares and products of the logits about their means."""

    cells: int
    difference: float
    difference_square: float
    max_abs: float
    candidate: float
    reference: float
    candidate_square: float
    reference_square: float
    product: float


class Part(NamedTuple):
    """Of some sizes, what falls into one interval: how many are below it, on its ends, and those between."""

    below: int
    on_low: int
    between: np.ndarray
    on_high: int


Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, eq=False)
class CodeDifferences:
    """One code: its statistics, and what it adds to those of all codes."""

    statistics: DifferenceStatistics
    moments: Moments | None
    parts: tuple[Part, ...]


def code_differences(
    candidate: Float[np.ndarray, " cells"],
    reference: Float[np.ndarray, " cells"],
    intervals: Sequence[Interval],
    room: Float64[np.ndarray, "3 most"] | None = None,
) -> CodeDifferences:
    """Statistics of candidate − reference over the finite cells of one code.

    Parameters
    ----------
    intervals : sequence of (low, high)
        Of |difference|: what falls into them is handed on.
    room : float64 [3, most cells], optional
        Written over. Memory that is asked for anew for every code costs as much time as the sums.
    """
    cells = candidate.size
    if not cells:
        return CodeDifferences(NOTHING, None, tuple(Part(0, 0, np.zeros(0), 0) for _ in intervals))
    x, y, size = (np.empty((3, cells)) if room is None else room)[:, :cells]
    x[:], y[:] = candidate, reference
    np.subtract(x, y, out=size)
    sums = float(size.sum()), _product(size, size)
    np.abs(size, out=size)
    totals = float(x.sum()), float(y.sum())
    x -= totals[0] / cells
    y -= totals[1] / cells
    squares = _product(x, x), _product(y, y), _product(x, y)
    moments = Moments(cells, *sums, float(size.max()), *totals, *squares)
    ranks = {percent: _rank(cells, percent) for percent in PERCENTILES}
    settled = settle(size, {near for low, _ in ranks.values() for near in (low, min(low + 1, cells - 1))})
    percentiles = {
        p: between(size[low], size[min(low + 1, cells - 1)], part) for p, (low, part) in ranks.items()
    }
    parts = tuple(_part(size, settled, *interval) for interval in intervals)
    return CodeDifferences(_statistics(moments, percentiles), moments, parts)


def pooled(codes: Iterable[CodeDifferences], intervals: Sequence[Interval]) -> DifferenceStatistics | None:
    """Statistics over all cells of all codes; `None` where a percentile lies in none of the intervals."""
    codes = [code for code in codes if code.moments is not None]
    if not codes:
        return NOTHING
    table = np.array([code.moments for code in codes], np.float64).T
    total = Moments(int(table[0].sum()), *table[1:].sum(axis=1).tolist())
    size, means, squares = table[0], table[4:6] / table[0], table[6:]
    x, y = means[0] - total.candidate / total.cells, means[1] - total.reference / total.cells
    about = squares + size * np.stack([x * x, y * y, x * y])  # about the means of all cells
    moments = total._replace(
        max_abs=float(table[3].max()),
        **dict(zip(Moments._fields[6:], about.sum(axis=1).tolist(), strict=True)),
    )
    cells = moments.cells
    ranks = {percent: _rank(cells, percent) for percent in PERCENTILES}
    asked = [near for rank, _ in ranks.values() for near in (rank, min(rank + 1, cells - 1))]
    sizes: dict[int, float] = {}
    for which, ends in enumerate(intervals):
        sizes |= _at(asked, [code.parts[which] for code in codes], ends)  # held one at a time
    percentiles: dict[int, float | None] = {}
    for percent, (rank, part) in ranks.items():
        low, high = sizes.get(rank), sizes.get(min(rank + 1, cells - 1))
        if low is None or high is None:
            return None
        percentiles[percent] = between(low, high, part)
    return _statistics(moments, percentiles)


def intervals_about(candidate: np.ndarray, reference: np.ndarray, wider: float = 1.0) -> list[Interval]:
    """Where the percentiles of |candidate − reference| should lie: by a sample, or anywhere where all sizes can be held."""
    if candidate.size <= HELD:
        return [(0.0, np.inf)]
    step = candidate.size // SAMPLED
    while math.gcd(step, candidate.shape[1]) > 1:
        step += 1  # so that all notes and all codes are met
    with np.errstate(invalid="ignore"):
        size = np.abs(candidate.ravel()[::step].astype(np.float64) - reference.ravel()[::step])
    size = np.sort(size[np.isfinite(size)])
    if not len(size):
        return [(0.0, np.inf)]

    def at(share: float) -> float:
        if not 0 < share < 1:
            return 0.0 if share <= 0 else np.inf  # beyond what the sample tells
        return float(size[int(share * (len(size) - 1))])

    shares = [percent / 100 for percent in PERCENTILES]
    near = [wider * ERRORS * math.sqrt(share * (1 - share) / len(size)) for share in shares]
    return [(at(share - most), at(share + most)) for share, most in zip(shares, near, strict=True)]


def _product(x: Cells, y: Cells) -> float:
    return float(np.einsum("i,i->", x, y))  # in one pass, and unlike BLAS in one order wherever it runs


def settle(values: Cells, ranks: Iterable[int]) -> list[int]:
    """Move values, in place, so that those of these ranks stand where a sort would put them, and no smaller one after them.

    One rank after the other, each among the values that are left: NumPy takes a third of the time of a sort (of several ranks
    in one call, longer than a sort). The ranks, ascending.
    """
    start, ranks = 0, sorted(ranks)
    for rank in ranks:
        rest = values[start:]
        if rank == start:
            least = rest.argmin()
            rest[0], rest[least] = rest[least], rest[0]
        else:
            rest.partition(rank - start)
        start = rank + 1
    return ranks


def _part(size: Cells, settled: Sequence[int], low: float, high: float) -> Part:
    start = max((rank + 1 for rank in settled if size[rank] < low), default=0)
    stop = min((rank for rank in settled if size[rank] > high), default=size.size)
    looked_at = size[start:stop]
    reached = looked_at >= low
    inside = looked_at[reached & (looked_at <= high)]
    inner = inside[(inside > low) & (inside < high)]
    below, on_low = start + np.count_nonzero(~reached), np.count_nonzero(inside == low)
    return Part(int(below), int(on_low), inner, int(inside.size - on_low - inner.size))


def _at(ranks: Iterable[int], parts: Sequence[Part], ends: Interval) -> dict[int, float]:
    """The sizes of those ranks that the interval holds."""
    inner = np.concatenate([part.between for part in parts])
    on_low, on_high = sum(part.on_low for part in parts), sum(part.on_high for part in parts)
    first = sum(part.below for part in parts) + on_low  # rank of the least between the ends
    places = {rank: rank - first for rank in ranks if -on_low <= rank - first < len(inner) + on_high}
    settle(inner, {place for place in places.values() if 0 <= place < len(inner)})
    return {
        rank: ends[0] if place < 0 else float(inner[place]) if place < len(inner) else ends[1]
        for rank, place in places.items()
    }


def _rank(cells: int, percent: int) -> tuple[int, float]:
    """Between which rank and the next a percentile lies, and which part of the way: as NumPy."""
    place = (cells - 1) * (percent / 100)
    return int(place), place - int(place)


def between(low: float, high: float, part: float) -> float:
    """NumPy's interpolation, to the last bit."""
    apart = high - low
    return float(high - apart * (1 - part)) if part >= 0.5 else float(low + apart * part)


def _statistics(moments: Moments, percentiles: Mapping[int, float | None]) -> DifferenceStatistics:
    scale = np.sqrt(moments.candidate_square) * np.sqrt(moments.reference_square)
    return DifferenceStatistics(
        cells=moments.cells,
        mean=moments.difference / moments.cells,
        rms=float(np.sqrt(moments.difference_square / moments.cells)),
        max_abs=moments.max_abs,
        abs_percentiles=dict(percentiles),
        correlation=float(np.clip(moments.product / scale, -1, 1)) if scale > 0 else None,
    )
