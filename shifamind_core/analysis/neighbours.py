"""The nearest rows of another matrix, and how probable it is that chance gives one so near.

How far is "by far" is computed from the data. Between unrelated rows the nearest neighbour is nearer than the second by
chance alone: around a point with neighbours at even density in d dimensions, log(second ⁄ first) is exponential with
mean 1 ⁄ d, whatever the density (Facco, d'Errico, Rodriguez, Laio: Estimating the intrinsic dimension of datasets by a
minimal neighborhood information, Scientific Reports 7, 2017). The mean is measured on the rows of one matrix among
themselves, and gives every match the probability that chance makes a neighbour stand out so far.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num
from scipy.stats import false_discovery_control, poisson

Left: TypeAlias = Num[np.ndarray, "left columns"]
Right: TypeAlias = Num[np.ndarray, "right columns"]
# One in a hundred: how many of the partners accepted may be false (Benjamini, Hochberg: Controlling the false discovery
# rate, 1995), and how often chance may give any match at all where a single one decides (Bonferroni). It is the
# conventional level; true partners under rounding lie many orders of magnitude below it, unrelated rows above.
LEVEL = 0.01
# Of speed alone: how many rows are looked at to see whether anything is to be found, how many are compared at once, and
# how often a quicker way is tried.
SAMPLE, BLOCK, TRIES = 500, 256, 4
Found: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]  # nearest row, its distance, that of the second


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest row of each, and the probability that an unrelated one stands out as far."""

    nearest: Int64[np.ndarray, " left"]
    chance: Float64[np.ndarray, " left"]

    def and_(self, other: "Neighbours") -> "Neighbours":
        """These rows and others."""
        return Neighbours(
            np.concatenate([self.nearest, other.nearest]), np.concatenate([self.chance, other.chance])
        )

    def take(self, rows: np.ndarray) -> "Neighbours":
        """Some of them, in this order."""
        return Neighbours(self.nearest[rows], self.chance[rows])

    @property
    def found(self) -> Bool[np.ndarray, " left"]:
        """Those that are no chance, but for one in a hundred of them."""
        return false_discovery_control(self.chance) <= LEVEL if len(self.chance) else np.zeros(0, bool)

    @property
    def certain(self) -> Bool[np.ndarray, " left"]:
        """Those of which chance would give not even one, ninety-nine times in a hundred."""
        return self.chance * len(self.chance) <= LEVEL


def in_blocks(rows: np.ndarray, nearest: np.ndarray, size: int) -> Bool[np.ndarray, " rows"]:
    """Rows whose nearest stands at an offset that too many share for chance.

    Unrelated rows hit one offset with probability 1 ⁄ size each: a Poisson number, tested for every offset that occurs.
    """
    offsets, which, counts = np.unique(nearest - rows, return_inverse=True, return_counts=True)
    chance = poisson.sf(counts - 1, len(rows) / size) * len(offsets)
    return (chance <= LEVEL)[which]


def neighbours(
    left: Left, right: Right, places: np.ndarray | None = None, among: "Among | None" = None
) -> Neighbours:
    """The nearest row of `right` for each of `left`, and how probable it is that chance gives one so near.

    Parameters
    ----------
    places : int64 [left], optional
        Where the rows of `left` stand, so that blocks that moved together are seen in a sample.
    among : optional
        What the rows of `right` show of each other, where that is known already.
    """
    if not len(left) or len(right) < 3:
        return Neighbours(np.zeros(len(left), np.int64), np.ones(len(left)))
    among = among or Among.of(right)
    if len(left) <= 2 * SAMPLE:
        return among.judged(*nearest_two(left, right))
    some = np.arange(0, len(left), len(left) // SAMPLE)
    first = among.judged(*nearest_two(left[some], right))
    if not (first.found | (places is not None and in_blocks(places[some], first.nearest, len(right)))).any():
        return Neighbours(np.zeros(len(left), np.int64), np.ones(len(left)))  # nothing is to be found
    nearest, distance = _on_one_side(left, right)
    near = among.judged(nearest, distance, np.full(len(left), among.closest))
    others = np.flatnonzero(~near.certain)
    rest = among.judged(*nearest_two(left[others], right))
    near.nearest[others], near.chance[others] = rest.nearest, rest.chance
    return near


@dataclass(frozen=True, eq=False)
class Among:
    """What rows of one matrix show of each other, each without itself: the nearest that unrelated rows come.

    `gaps` are log(second ⁄ first) of a sample, `closest` the smallest distance in it. Rows that stand there twice tell
    nothing.
    """

    gaps: np.ndarray
    closest: float

    @classmethod
    def of(cls, right: Right) -> "Among":
        rows = np.arange(0, len(right), max(1, len(right) // SAMPLE))
        _, first, second = nearest_two(right[rows], right, own=rows)
        apart = first > 0
        return cls(
            _gap(first, second)[apart], float(first[apart].min(initial=np.inf)) if apart.any() else 0.0
        )

    def judged(self, nearest: np.ndarray, first: np.ndarray, second: np.ndarray) -> Neighbours:
        """Chance of so wide a gap: exponential, its mean known from so many gaps (a Lomax law, Jeffreys' prior)."""
        if not self.gaps.any():
            return Neighbours(nearest, np.ones(len(nearest)))
        gap = np.maximum(_gap(first, second), 0.0)
        return Neighbours(nearest, (1 + gap / self.gaps.sum()) ** -len(self.gaps))


def _gap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """log(second ⁄ first); 0 where both are 0: two equal rows are no distinct neighbour."""
    tiny = np.finfo(np.float64).tiny
    return np.log(np.maximum(second, tiny)) - np.log(np.maximum(first, tiny))


def _on_one_side(left: Left, right: Right) -> tuple[np.ndarray, np.ndarray]:
    """A row of `right` on the same side of 64 random planes, if one alone is, and its distance (infinite without).

    Quick where the noise is as small as rounding. It only proposes: how near the row is decides.
    """
    nearest, distance = np.zeros(len(left), np.int64), np.full(len(left), np.inf)
    rng = np.random.default_rng(0)
    for _ in range(TRIES):
        planes = rng.standard_normal((right.shape[1], 64))
        sides = [np.packbits(matrix @ planes > 0, axis=1).view(np.uint64).ravel() for matrix in (left, right)]
        keys, first, counts = np.unique(sides[1], return_index=True, return_counts=True)
        at = np.minimum(np.searchsorted(keys, sides[0]), len(keys) - 1)
        met = np.flatnonzero((keys[at] == sides[0]) & (counts[at] == 1) & np.isinf(distance))
        nearest[met] = first[at[met]]
        distance[met] = np.linalg.norm(left[met] - right[nearest[met]], axis=1)
    return nearest, distance


def nearest_two(left: Left, right: Right, own: np.ndarray | None = None) -> Found:
    """Every row compared with every other (but its `own`)."""
    left32, right32 = left.astype(np.float32), right.astype(np.float32)
    half = np.einsum("ij,ij->i", right32, right32) / 2
    best = np.empty((2, len(left)), np.int64)
    for start in range(0, len(left), BLOCK):
        part = slice(start, min(start + BLOCK, len(left)))
        row = np.arange(part.stop - start)
        closeness = left32[part] @ right32.T - half  # larger is nearer
        if own is not None:
            closeness[row, own[part]] = -np.inf
        best[0, part] = closeness.argmax(axis=1)
        closeness[row, best[0, part]] = -np.inf
        best[1, part] = closeness.argmax(axis=1)
    first, second = np.sort([np.linalg.norm(left - right[places], axis=1) for places in best], axis=0)
    return best[0], first, second
