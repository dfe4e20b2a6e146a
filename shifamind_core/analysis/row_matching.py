"""Which row of one matrix is which row of another: the one with equal bits, or the nearest by far (see `neighbours`)."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from shifamind_core.analysis.neighbours import (
    SAMPLE,
    Among,
    Left,
    Neighbours,
    Right,
    in_blocks,
    nearest_two,
    neighbours,
)

# For every row a position in the other matrix, or among the same rows; -1 for none.
Map: TypeAlias = Int64[np.ndarray, " _"]

# A column that never varies has no spread: its standard scores are 0.
FLAT = 1e-12
COPIES = 10.0  # which copy of a note is called the original: of words alone
RIVALS = 16  # a stranger resembles its own row more than so many others with probability 1 ⁄ 17: then it is looked at later


@dataclass(frozen=True, eq=False)
class RowMatch:
    """Which note of the reference every row of the candidate is.

    Attributes
    ----------
    partner : int64 [candidate]
        Row in the reference, or -1; no row of the reference twice.
    repeats : (int64 [candidate], int64 [reference])
        For a row that repeats another of its own run: which one; else -1.
    exact : bool
        Every partner and repeat was found by equal bits.
    """

    partner: Map
    repeats: tuple[np.ndarray, np.ndarray]
    exact: bool

    @property
    def rows(self) -> Map:
        """Rows of the candidate that have a partner."""
        return np.flatnonzero(self.partner >= 0)

    @property
    def target(self) -> Map:
        """Their partners."""
        return self.partner[self.partner >= 0]

    @property
    def moved(self) -> Bool[np.ndarray, " candidate"]:
        """Rows whose partner stands elsewhere."""
        return (self.partner >= 0) & (self.partner != np.arange(len(self.partner)))

    @cached_property
    def absent(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the candidate, and of the reference, that the other run does not hold at all."""
        unused = np.ones(len(self.repeats[1]), bool)
        unused[self.target] = False
        candidate = (self.partner < 0) & (self.repeats[0] < 0)
        return np.flatnonzero(candidate), np.flatnonzero(unused & (self.repeats[1] < 0))

    @property
    def out_of_order(self) -> int:
        """How few rows must be taken out for the others to stand in one order in both (longest increasing subsequence)."""
        ends: list[int] = []  # the smallest end of an increasing run of every length
        for place in self.target.tolist():
            at = bisect_left(ends, place)
            ends[at : at + 1] = [place]
        return len(self.target) - len(ends)


def standard_scores(matrix: Left) -> np.ndarray:
    """Every column at mean 0 and standard deviation 1; a column that never varies becomes 0."""
    centred = matrix - matrix.mean(axis=0)
    spread = np.sqrt(np.einsum("ij,ij->j", centred, centred) / len(centred))
    return centred / np.where(spread > FLAT, spread, np.inf)


def row_keys(matrix: Left, ordered: bool = True) -> UInt64[np.ndarray, " left"]:
    """A key of 64 bits a row, equal for equal rows (0 and -0 count as equal); unless `ordered`, in any order of columns.

    The finalizer of SplitMix (Steele, Lea, Flood, 2014) on every cell, summed. Of 20,000 rows two different ones
    have one key with probability 1e-11.
    """
    mixed = (np.ascontiguousarray(matrix, np.float64) + 0.0).view(np.uint64)
    if ordered:
        mixed = mixed + np.random.default_rng(0).integers(0, 2**64, matrix.shape[1], np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))).sum(axis=1, dtype=np.uint64)


def match_repeated(candidate: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of equal values, the k-th of a repeated value with the k-th, in the candidate's order.

    >>> rows = match_repeated(np.array([7, 5, 7]), np.array([5, 7, 9, 7]))
    >>> rows[0].tolist(), rows[1].tolist()
    ([0, 1, 2], [1, 0, 3])
    """
    if np.array_equal(candidate, reference):
        return np.arange(len(candidate)), np.arange(len(candidate))
    _, value = np.unique(np.concatenate([candidate, reference]), return_inverse=True)
    ordinal = np.concatenate([_occurrence(candidate), _occurrence(reference)])
    key = value.astype(np.int64) * (len(value) + 1) + ordinal
    _, rows, partners = np.intersect1d(
        key[: len(candidate)], key[len(candidate) :], assume_unique=True, return_indices=True
    )
    order = np.argsort(rows, kind="stable")
    return rows[order], partners[order]


def _occurrence(values: np.ndarray) -> np.ndarray:
    """How many equal values came before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.append(True, ordered[1:] != ordered[:-1])
    place = np.arange(len(values))
    counted = np.empty(len(values), np.int64)
    counted[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return counted


def first_of_equal(values: np.ndarray) -> np.ndarray:
    """Position of the first equal value of each; its own where it is the first.

    >>> first_of_equal(np.array([7, 5, 7])).tolist()
    [0, 1, 0]
    """
    _, first, value = np.unique(values, return_index=True, return_inverse=True)
    return first[value]


def equal_rows(candidate: Left, reference: Right, same: np.ndarray | None = None) -> Map:
    """Partners by equal bits, the k-th of equal rows with the k-th; -1 where there is none.

    Where most rows of a run equal others of the same run (one code, coarse values), an equal row says nothing, and none
    is a partner but those said to be.

    Parameters
    ----------
    same : bool [left], optional
        Rows that equal the row at their own place, and stay with it.
    """
    partner = np.full(len(candidate), -1)
    rows, others = np.arange(len(candidate)), np.arange(len(reference))
    if same is not None:
        partner[same] = rows[same]
        rows, others = rows[~same], others[~same]
        if not len(rows):
            return partner
    keys = row_keys(candidate), row_keys(reference)
    if all(2 * len(np.unique(key)) > len(key) for key in keys):
        found, partners = match_repeated(keys[0][rows], keys[1][others])
        partner[rows[found]] = others[partners]
    return partner


def constant_rows(matrix: Left) -> Bool[np.ndarray, " left"]:
    """Rows that hold one value in every column: no scores, but what a program fills up with."""
    same = (matrix == matrix[:, :1]).all(axis=1)
    return same if matrix.shape[1] > 1 and not same.all() else np.zeros(len(matrix), bool)


def repeats_of(values: np.ndarray, paired: np.ndarray) -> np.ndarray:
    """For every value that is not `paired` and equals one that is: the place of the first of those; else -1.

    >>> repeats_of(np.array([7, 5, 7, 9, 9]), np.array([True, True, False, False, False])).tolist()
    [-1, -1, 0, -1, -1]
    """
    places = np.flatnonzero(paired)
    repeats = np.full(len(values), -1)
    if len(places):
        known, first = np.unique(values[places], return_index=True)
        at = np.minimum(np.searchsorted(known, values), len(known) - 1)
        again = ~paired & (known[at] == values)
        repeats[again] = places[first[at[again]]]
    return repeats


def match_rows(candidate: Left, reference: Right, in_order: bool, exact: Map | None = None) -> RowMatch:
    """Find every row's partner: by equal bits, as the nearest by far, or moved along with its block.

    Columns must correspond. What is not equal is compared in standard scores, so that neither a shift nor a
    temperature of the logits hides a permutation. Rows that are not finite, or hold one value throughout, have
    no partner unless an equal one.

    Parameters
    ----------
    in_order : bool
        Rows are said to be in the same order already: then they stay unless it is certain that some moved, or most did.
    exact : int64 [candidate], optional
        Partners by equal bits, where they are known already.
    """
    partner = equal_rows(candidate, reference) if exact is None else exact.copy()
    keys = row_keys(candidate), row_keys(reference)
    used = np.zeros(len(reference), bool)
    used[partner[partner >= 0]] = True
    repeats = repeats_of(keys[0], partner >= 0), repeats_of(keys[1], used)
    sound = _sound(candidate, keys[0]), _sound(reference, keys[1])
    rows = np.flatnonzero(sound[0] & (partner < 0) & (repeats[0] < 0))
    if not len(rows) or not sound[1].any():
        return RowMatch(partner, repeats, True)
    by_bits = int((partner >= 0).sum())
    away = int((partner[partner >= 0] != np.flatnonzero(partner >= 0)).sum())
    stays = in_order and 2 * away <= by_bits  # where most rows moved, nothing says that the others stayed
    search = _Search.over(candidate, reference, sound)
    near = np.full(len(candidate), -1), np.full(len(reference), -1)
    proposal, certain = search.proposals(rows, stays)
    _settle(search, rows, proposal, certain, partner, near[0])
    used[partner[partner >= 0]] = True
    left_over = np.flatnonzero(sound[1] & ~used & (repeats[1] < 0))
    if len(left_over) and used.any():
        _find_repeats(search.turned(), left_over, partner, near[1])
    by_nearness = int((partner >= 0).sum()) - by_bits + sum(int((one >= 0).sum()) for one in near)
    repeats = (
        np.maximum(repeats_of(keys[0], partner >= 0), near[0]),
        np.maximum(repeats_of(keys[1], used), near[1]),
    )
    _pair_repeats(partner, repeats)
    return RowMatch(partner, repeats, exact=not by_nearness)


def _pair_repeats(partner: Map, repeats: tuple[np.ndarray, np.ndarray]) -> None:
    """What both runs repeat is no repeat: the k-th copy of a note is the k-th copy in the other run."""
    copies = np.flatnonzero(repeats[0] >= 0), np.flatnonzero(repeats[1] >= 0)
    mine, theirs = match_repeated(partner[repeats[0][copies[0]]], repeats[1][copies[1]])
    partner[copies[0][mine]] = copies[1][theirs]
    repeats[0][copies[0][mine]] = -1
    repeats[1][copies[1][theirs]] = -1


def _sound(matrix: Left, keys: np.ndarray) -> Bool[np.ndarray, " left"]:
    """Rows that can be looked for: finite, no fill, and the first of those that are equal."""
    first = first_of_equal(keys) == np.arange(len(keys))
    return first & np.isfinite(matrix).all(axis=1) & ~constant_rows(matrix)


@dataclass(frozen=True, eq=False)
class _Search:
    """Both matrices in standard scores over their sound rows; a row that is not sound is 0 and found nowhere."""

    left: np.ndarray
    right: np.ndarray
    sound: tuple[np.ndarray, np.ndarray]

    @classmethod
    def over(cls, left: Left, right: Right, sound: tuple[np.ndarray, np.ndarray]) -> "_Search":
        scored = []
        for matrix, good in zip((left, right), sound, strict=True):
            scores = np.zeros(matrix.shape)
            scores[good] = standard_scores(matrix[good].astype(np.float64, copy=False))
            scored.append(scores)
        return cls(scored[0], scored[1], (sound[0], sound[1]))

    def turned(self) -> "_Search":
        """The same from the other side."""
        return _Search(self.right, self.left, (self.sound[1], self.sound[0]))

    def neighbours(self, rows: np.ndarray) -> Neighbours:
        """Nearest sound rows of the right side, as its row numbers."""
        found = neighbours(self.left[rows], self._sound_right, rows, self._among)
        return Neighbours(np.flatnonzero(self.sound[1])[found.nearest], found.chance)

    @cached_property
    def _sound_right(self) -> np.ndarray:
        return self.right[self.sound[1]]

    @cached_property
    def _among(self) -> "Among":
        return Among.of(self._sound_right)

    def distance(self, rows: np.ndarray, partners: np.ndarray) -> np.ndarray:
        """How far these rows are from those."""
        return np.linalg.norm(self.left[rows] - self.right[partners], axis=1)

    def proposals(self, rows: np.ndarray, stays: bool) -> tuple[Map, np.ndarray]:
        """A partner for each of these rows, or -1; and which are certain, not only probable or left where they stand."""
        if not stays:
            return self._accepted(rows, self.neighbours(rows))
        placed = self._in_place(rows)
        away, home = rows[~placed], rows[placed]
        near = self.neighbours(away)
        moved = near.nearest != away
        if not (moved & (near.certain | in_blocks(away, near.nearest, len(self.right)))).any():
            return rows, np.zeros(len(rows), bool)
        order = np.argsort(np.concatenate([away, home]))
        return self._accepted(rows, near.and_(self.neighbours(home)).take(order))

    def _accepted(self, rows: np.ndarray, near: Neighbours) -> tuple[Map, np.ndarray]:
        blocks = in_blocks(rows, near.nearest, len(self.right))
        proposal = _filled(np.where(near.found | blocks, near.nearest, -1), rows, blocks)
        return proposal, near.certain

    def _in_place(self, rows: np.ndarray) -> Bool[np.ndarray, " rows"]:
        """Which of these rows are nearer to their own row than to `RIVALS` others."""
        left, right = self.left[rows].astype(np.float32), self.right.astype(np.float32)
        half = np.einsum("ij,ij->i", right, right) / 2

        def closeness(at: np.ndarray) -> np.ndarray:
            return np.einsum("ij,ij->i", left, right[at]) - half[at]

        own = closeness(rows)
        placed = self.sound[1][rows]
        for step in np.random.default_rng(0).integers(1, max(2, len(right)), RIVALS):
            placed &= own > closeness((rows + step) % len(right))
        return placed


def mostly_in_place(candidate: Left, reference: Right) -> bool:
    """Is the nearest row for most rows (of a sample) the one at their own place? By chance it is for one in all."""
    rows = np.arange(0, len(candidate), max(1, len(candidate) // SAMPLE))
    nearest, _, _ = nearest_two(standard_scores(candidate)[rows], standard_scores(reference))
    return bool(2 * (nearest == rows).sum() > len(rows))


def _filled(proposal: Map, rows: np.ndarray, blocks: np.ndarray) -> Map:
    """A row between two that moved by one offset moved with them."""
    support = np.flatnonzero(blocks)
    if not len(support):
        return proposal
    offset = proposal[support] - rows[support]
    place = np.arange(len(rows))
    before = np.clip(np.searchsorted(support, place, side="right") - 1, 0, len(support) - 1)
    after = np.clip(np.searchsorted(support, place), 0, len(support) - 1)
    between = (support[before] < place) & (place < support[after]) & (offset[before] == offset[after])
    return np.where(between & (proposal < 0), rows + offset[before], proposal)


def _settle(
    search: _Search, rows: np.ndarray, proposal: Map, certain: np.ndarray, partner: Map, repeats: Map
) -> None:
    """One row of the reference for one of the candidate: the nearest keeps it, others that are certain repeat that one.

    Copies under rounding are about as near as each other, and which is the nearest is chance: of those that are within `COPIES`
    times the nearest, the one that stands in its place is the original, else the first.
    """
    owner = np.full(len(search.right), -1)
    owner[partner[partner >= 0]] = np.flatnonzero(partner >= 0)
    taking = np.flatnonzero(proposal >= 0)
    distance = search.distance(rows[taking], proposal[taking])
    least = np.full(len(search.right), np.inf)
    np.minimum.at(least, proposal[taking], distance)
    alike = distance <= COPIES * least[proposal[taking]]
    place = np.where(rows[taking] == proposal[taking], -1, rows[taking])
    order = taking[np.lexsort((np.where(alike, place, 0), np.where(alike, 0.0, distance)))]
    for_each, first = np.unique(proposal[order], return_index=True)
    new = owner[for_each] < 0
    owner[for_each[new]] = rows[order[first[new]]]
    own = owner[proposal[taking]]
    wins = own == rows[taking]
    partner[rows[taking[wins]]] = proposal[taking[wins]]
    again = ~wins & certain[taking]
    repeats[rows[taking[again]]] = own[again]


def _find_repeats(search: _Search, rows: np.ndarray, partner: Map, repeats: Map) -> None:
    """Rows of the reference nobody took, though the row nearest to them has a partner for certain: they repeat that one."""
    near = search.neighbours(rows)
    again = near.certain & (partner[near.nearest] >= 0)
    repeats[rows[again]] = partner[near.nearest[again]]
