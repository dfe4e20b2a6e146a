"""Rows or columns out of order: find who is who, undo it, and say what kind of order it was."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix, Pair, standard_scores

# Two matrices whose rows correspond have one shape (`Matrix`); else they share their columns alone.
Left: TypeAlias = Float64[np.ndarray, "left columns"]
Right: TypeAlias = Float64[np.ndarray, "right columns"]
Map: TypeAlias = Int64[np.ndarray, " left"]  # position in the reference, -1 where there is none

# A note resembles itself more than this many random others do.
RIVALS = 16
# A partner counts as found if the next best is this much farther (Lowe's ratio).
DISTINCT = 0.75
# Beyond this share of equal rows the others need no search.
ALL_EQUAL = 0.999
# A code sits on the wrong column if another leaves at most this share of the unexplained variance.
CLEARLY_BETTER = 1 / 3
# A partner is no partner if it is this many times as far as partners are in the median.
STRAY = 5.0
NEAR = 0.05  # spreads a code: no two notes are that much alike
RELATED = 0.8  # correlation that right columns reach in the median, whatever else changed
NEIGHBOURHOOD = 31  # notes looked at together when noise hides single ones


@dataclass(frozen=True, eq=False)
class RowMatch:
    """Which note of the reference every row of the candidate is.

    Attributes
    ----------
    partner : int64 [candidate]
        Row in the reference, or -1.
    in_place : float
        Share of the rows that resemble their own row, before anything is moved.
    found : float
        Share of the rows with a partner.
    exact : bool
        Every partner was found by equal values, bit by bit.
    """

    partner: Map
    in_place: float
    found: float
    exact: bool

    @property
    def moved(self) -> Bool[np.ndarray, " candidate"]:
        """Rows whose partner stands elsewhere."""
        return (self.partner >= 0) & (self.partner != np.arange(len(self.partner)))


def in_place(candidate: Matrix, reference: Matrix, seed: int = 0) -> Bool[np.ndarray, " documents"]:
    """Which rows resemble their own row of the reference more than `RIVALS` other rows do (standard scores)."""
    documents = len(candidate)
    left, right = _directions(candidate), _directions(reference)
    own = np.einsum("ij,ij->i", left, right)
    steps = np.random.default_rng(seed).integers(1, max(2, documents), RIVALS)
    placed = np.ones(documents, bool)
    for step in steps:
        placed &= own > np.einsum("ij,ij->i", left, np.roll(right, step, axis=0))
    return placed


def _directions(matrix: Matrix) -> np.ndarray:
    """Rows at length 1, in FP32: enough to tell which of two is nearer."""
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    return (matrix / np.maximum(lengths, 1e-300)[:, None]).astype(np.float32)


def resemblance(left: Matrix, right: Matrix) -> np.ndarray:
    """Cosine of every row with its counterpart: 1 for the same note, about 0 for two different ones."""
    return np.einsum("ij,ij->i", _directions(left), _directions(right))


def match_rows(candidate: Left, reference: Right) -> RowMatch:
    """Find every row's partner: by equal values, where it stands, by shifted blocks, by nearest neighbour.

    Columns must correspond. Values are compared exactly first; after that in standard scores a code, so that
    a shift or temperature of the logits does not hide a permutation. A later proposal replaces an earlier one
    only if it is clearly nearer: among many rows out of place a few resemble their own row by chance.
    """
    exact = match_equal_rows(candidate, reference)
    scored = standard_scores(candidate), standard_scores(reference)
    same_size = len(candidate) == len(reference)
    placed = in_place(*scored) if same_size else np.zeros(len(candidate), bool)
    if (exact >= 0).mean() > ALL_EQUAL:
        return RowMatch(exact, float(placed.mean()), float((exact >= 0).mean()), bool((exact >= 0).all()))
    partners = _Partners(*scored)
    partners.propose(exact)
    partners.propose(np.where(placed & (exact < 0), np.arange(len(candidate)), -1))
    if (partners.partner < 0).mean() > 0.02:
        partners.propose(match_blocks(*scored))
    for _ in range(2):  # once more for those whose first choice was another's
        partners.propose(match_nearest(*scored, partners.doubtful()))
        partners.settle()
    return RowMatch(partners.partner, float(placed.mean()), float((partners.partner >= 0).mean()), False)


class _Partners:
    """Partners proposed so far, with their distances; an equal row has distance 0."""

    def __init__(self, candidate: Left, reference: Right) -> None:
        self.candidate, self.reference = candidate, reference
        self.partner = np.full(len(candidate), -1)
        self.distance = np.full(len(candidate), np.inf)

    def propose(self, proposal: Map) -> None:
        """Take what is clearly nearer than what a row had."""
        rows = np.flatnonzero(proposal >= 0)
        distance = np.linalg.norm(self.candidate[rows] - self.reference[proposal[rows]], axis=1)
        better = distance < DISTINCT * self.distance[rows]
        self.partner[rows[better]] = proposal[rows[better]]
        self.distance[rows[better]] = distance[better]

    def settle(self) -> None:
        """One row of the reference for one of the candidate: of several the nearest keeps it."""
        rows = np.flatnonzero(self.partner >= 0)
        order = rows[np.argsort(self.distance[rows], kind="stable")]
        _, first = np.unique(self.partner[order], return_index=True)
        lost = np.setdiff1d(rows, order[first])
        self.partner[lost], self.distance[lost] = -1, np.inf

    def doubtful(self) -> np.ndarray:
        """Rows without a partner, and rows much farther from theirs than rows are in the median."""
        found = self.partner >= 0
        typical = np.median(self.distance[found]) if found.any() else np.inf
        return np.flatnonzero(~found | (self.distance > 2 * typical + 1e-9))


def match_equal_rows(candidate: Left, reference: Right) -> Map:
    """Partners by bitwise equal rows, the k-th of equal ones with the k-th; -1 where there is none."""
    keys = [_row_hash(matrix) for matrix in (candidate, reference)]
    orders = [np.lexsort((np.arange(len(key)), key)) for key in keys]
    ranked = [_occurrences(key[order]) for key, order in zip(keys, orders, strict=True)]
    pairs = [
        np.stack([key[order], rank], axis=1) for key, order, rank in zip(keys, orders, ranked, strict=True)
    ]
    tokens = [_as_token(pair) for pair in pairs]
    _, left, right = np.intersect1d(*tokens, assume_unique=True, return_indices=True)
    partner = np.full(len(candidate), -1)
    partner[orders[0][left]] = orders[1][right]
    found = np.flatnonzero(partner >= 0)
    wrong = (candidate[found] != reference[partner[found]]).any(axis=1)  # a collision of hashes
    partner[found[wrong]] = -1
    return partner


def _row_hash(matrix: Matrix) -> np.ndarray:
    bits = np.ascontiguousarray(matrix + 0.0).view(np.uint64)  # + 0.0 makes -0 equal 0
    odd = np.random.default_rng(0).integers(1, 2**63, matrix.shape[1], dtype=np.uint64) * 2 + 1
    mixed = (bits ^ (bits >> np.uint64(29))) * odd
    return (mixed ^ (mixed >> np.uint64(32))).sum(axis=1, dtype=np.uint64)


def _as_token(pairs: np.ndarray) -> np.ndarray:
    return (
        np.ascontiguousarray(pairs.astype(np.uint64)).view([("hash", np.uint64), ("nth", np.uint64)]).ravel()
    )


def _occurrences(ordered: np.ndarray) -> np.ndarray:
    first = np.append(True, ordered[1:] != ordered[:-1])
    place = np.arange(len(ordered))
    return (place - np.maximum.accumulate(np.where(first, place, 0))).astype(np.uint64)


def match_blocks(candidate: Left, reference: Right, most: int = 6) -> Map:
    """Partners where long stretches moved by one offset: found by cross-correlation, whatever the noise.

    Every offset that stands out is tried on every row; a stretch takes the offset under which its
    neighbourhood resembles the reference most.
    """
    offsets = _offsets(candidate, reference, most)
    if not len(offsets):
        return np.full(len(candidate), -1)
    rows = np.arange(len(candidate))
    scores = np.full((len(offsets), len(candidate)), -1.0)
    for score, offset in zip(scores, offsets, strict=True):
        target = rows + offset
        valid = (target >= 0) & (target < len(reference))
        score[valid] = resemblance(candidate[valid], reference[target[valid]])
    width = min(NEIGHBOURHOOD, len(candidate))
    smooth = np.stack([np.convolve(score, np.ones(width) / width, mode="same") for score in scores])
    best = np.argmax(smooth, axis=0)
    partner = rows + offsets[best]
    clear = (smooth[best, rows] > 0.3) & (scores[best, rows] > 0.3) & (offsets[best] != 0)
    return np.where(clear & (partner >= 0) & (partner < len(reference)), partner, -1)


def _offsets(candidate: Left, reference: Right, most: int) -> np.ndarray:
    """Offsets at which the rows' cross-correlation stands out of its noise, strongest first."""
    length = 1 << (len(candidate) + len(reference)).bit_length()
    product = np.conj(np.fft.rfft(candidate, length, axis=0)) * np.fft.rfft(reference, length, axis=0)
    strength = np.fft.irfft(product.sum(axis=1), length)
    noise = np.median(np.abs(strength)) / 0.6745
    strongest = np.argsort(-strength)[:most]
    strongest = strongest[strength[strongest] > 8 * noise]
    return np.where(strongest > length // 2, strongest - length, strongest)


def match_nearest(candidate: Left, reference: Right, rows: np.ndarray) -> Map:
    """Partners of these rows by nearest neighbour, in the principal directions of the reference.

    A partner is taken only if it is clearly nearer than the next, and about as near as partners are elsewhere.
    """
    proposal = np.full(len(candidate), -1)
    if len(reference) < 2 or not len(rows):
        return proposal
    left = candidate[rows]
    search = _search_for(left, reference)
    if search is None:
        return proposal
    nearest, distinct = search(left, reference)
    if not distinct.any():
        return proposal
    distance = np.linalg.norm(left - reference[nearest], axis=1)
    close = distinct & (
        distance <= np.maximum(STRAY * np.median(distance[distinct]), NEAR * np.sqrt(left.shape[1]))
    )
    proposal[rows[close]] = nearest[close]
    return proposal


Search: TypeAlias = Callable[[Left, Right], tuple[np.ndarray, np.ndarray]]


def _search_for(left: Left, right: Right, sample: int = 400) -> Search | None:
    """The cheaper search that finds partners for a sample of the rows; `None` if neither does."""
    chosen = left[:: max(1, len(left) // sample)]
    found = [(search, search(chosen, right)[1].mean()) for search in (_nearest_in_tree, _nearest_of_all)]
    tree, thorough = found[0][1], found[1][1]
    if max(tree, thorough) < 0.1:
        return None
    return _nearest_in_tree if tree > 0.9 * thorough else _nearest_of_all


def _nearest_in_tree(
    left: Left, right: Right, directions: int = 8, near: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    sample = right[:: max(1, len(right) // 4000)]
    axes = np.linalg.eigh(sample.T @ sample)[1][:, -directions:]
    tree = KDTree(right @ axes)
    _, shortlist = tree.query(left @ axes, k=min(near, len(right)), workers=2)
    distances = np.linalg.norm(right[shortlist] - left[:, None, :], axis=2)
    order = np.argsort(distances, axis=1)
    ordered = np.take_along_axis(distances, order, axis=1)
    nearest = np.take_along_axis(shortlist, order, axis=1)[:, 0]
    return nearest, _distinct(ordered[:, 0], ordered[:, 1])


def _nearest_of_all(left: Left, right: Right, block: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """The same by comparing every row with every other, in whitened directions: slower, bears more noise."""
    axes = _whitening(right)
    left32, right32 = (left @ axes).astype(np.float32), (right @ axes).astype(np.float32)
    half = np.einsum("ij,ij->i", right32, right32) / 2
    nearest = np.empty(len(left), np.int64)
    first, second = np.empty(len(left), np.float32), np.empty(len(left), np.float32)
    for start in range(0, len(left), block):
        rows = slice(start, start + block)
        closeness = left32[rows] @ right32.T - half  # larger is nearer
        best = closeness.argmax(axis=1)
        nearest[rows], first[rows] = best, closeness[np.arange(len(best)), best]
        closeness[np.arange(len(best)), best] = -np.inf
        second[rows] = closeness.max(axis=1)
    own = np.einsum("ij,ij->i", left32, left32)
    near, next_near = (np.sqrt(np.maximum(own - 2 * value, 0.0)) for value in (first, second))
    return nearest, _distinct(near, next_near)


def _whitening(matrix: Matrix) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix.T @ matrix / len(matrix))
    kept = values > 0.02 * values.max()
    return vectors[:, kept] / np.sqrt(values[kept])


def _distinct(nearest: np.ndarray, second: np.ndarray) -> np.ndarray:
    return nearest < DISTINCT * np.maximum(second, 1e-12)


@dataclass(frozen=True, eq=False)
class ColumnMatch:
    """Which code of the reference every column of the candidate is: `partner` int64 [codes]."""

    partner: Map
    by: Literal["notes", "marginals"]
    own: Float64[np.ndarray, " codes"]
    best: Float64[np.ndarray, " codes"]

    @property
    def moved(self) -> np.ndarray:
        """Columns whose partner stands elsewhere."""
        return np.flatnonzero(self.partner != np.arange(len(self.partner)))


def match_columns(pair: Pair) -> ColumnMatch | None:
    """Codes that correlate with another column and not with their own; `None` if each sits best where it is.

    Assignment over the correlations of all columns (rows must correspond, at least most of them). A column is
    moved only if its partner leaves at most a third of the variance that its own leaves unexplained, and only
    if the moved ones exchange places among themselves.
    """
    own = pair.correlation
    cost = -pair.correlations - 1e-3 * np.eye(pair.codes)
    partner = linear_sum_assignment(cost)[1]
    best = pair.correlations[np.arange(pair.codes), partner]
    ceiling = np.median(np.maximum(own, best))  # what a right column reaches in these two runs
    clear = (ceiling - best < CLEARLY_BETTER * (ceiling - own)) & (best > 0.3) & (ceiling - own > 0.003)
    partner = _closed(partner, clear)
    if partner is None:
        return None
    moved = partner != np.arange(pair.codes)
    # Codes that stayed tell what a right column reaches here; where all moved, or none is right, nothing does.
    usual = 0.9 * np.median(own[~moved]) if 2 * moved.sum() <= pair.codes else RELATED
    if np.median(best[moved]) < min(RELATED, max(usual, 8 / np.sqrt(pair.documents))):
        return None
    return ColumnMatch(partner, "notes", own, pair.correlations[np.arange(pair.codes), partner])


def match_columns_by_marginals(candidate: Left, reference: Right) -> ColumnMatch | None:
    """The same when rows do not correspond: by the sorted values of every column, in standard scores."""
    levels = np.linspace(0.005, 0.995, 67)
    shapes = [np.quantile(matrix, levels, axis=0, method="nearest").T for matrix in (candidate, reference)]
    distance = np.sqrt(((shapes[0][:, None] - shapes[1][None]) ** 2).mean(axis=2))
    spread = np.median(reference.std(axis=0)) or 1.0
    partner = linear_sum_assignment(distance - 1e-6 * spread * np.eye(len(distance)))[1]
    own, best = np.diag(distance), distance[np.arange(len(distance)), partner]
    clear = (best < 0.1 * own) & (best < 0.02 * spread)
    partner = _closed(partner, clear)
    return None if partner is None else ColumnMatch(partner, "marginals", own, best)


def _closed(partner: Map, clear: np.ndarray) -> Map | None:
    """Keep the moves that are clear; the columns they vacate and fill must be the same ones."""
    identity = np.arange(len(partner))
    moved = (partner != identity) & clear
    while moved.any():
        filled = np.zeros(len(partner), bool)
        filled[partner[moved]] = True
        stay = moved & filled
        if np.array_equal(stay, moved) and np.array_equal(filled, moved):
            return np.where(moved, partner, identity)
        kept = stay & np.isin(partner, np.flatnonzero(stay))
        if np.array_equal(kept, moved):
            return None
        moved = kept
    return None


def describe_rows(partner: Map, token_counts: np.ndarray | None = None) -> tuple[str, dict]:
    """What kind of order a row map is, in words and as evidence."""
    rows = np.flatnonzero(partner >= 0)
    target = partner[rows]
    steps = np.flatnonzero((np.diff(target) != 1) | (np.diff(rows) != 1)) + 1
    starts = np.append(0, steps)
    moved = int((target != rows).sum())
    evidence = {"rows_moved": moved, "blocks": len(starts)}
    if len(rows) > 2 and (np.diff(target) == -1).all():
        return "the rows are reversed", {**evidence, "kind": "reversed"}
    stride = _stride(target)
    if stride is not None:
        text = f"the rows are interleaved as {stride} processes write them one after the other"
        return text, {**evidence, "kind": "interleaved", "processes": stride}
    if len(starts) <= 12:
        return _describe_blocks(rows, target, starts, evidence)
    if token_counts is not None and _sorted_by(token_counts, rows, target):
        return "the rows are sorted by length", {**evidence, "kind": "sorted_by_length"}
    share = moved / max(len(rows), 1)
    return f"{share:.0%} of the rows are permuted without a pattern", {**evidence, "kind": "permutation"}


def _describe_blocks(
    rows: np.ndarray, target: np.ndarray, starts: np.ndarray, evidence: dict
) -> tuple[str, dict]:
    ends = np.append(starts[1:], len(rows)) - 1
    offsets = target[starts] - rows[starts]
    blocks = [
        {"first": int(rows[start]), "last": int(rows[end]), "offset": int(offset)}
        for start, end, offset in zip(starts, ends, offsets, strict=True)
    ]
    shifted = [block for block in blocks if block["offset"]]
    evidence = {**evidence, "kind": "blocks", "moved_blocks": shifted}
    if len(shifted) == 1 and shifted[0]["last"] == rows[-1]:
        block = shifted[0]
        text = f"from row {block['first']} on every row is shifted by {block['offset']}"
        return text, {**evidence, "kind": "shift"}
    if len(blocks) == 2 and len(shifted) == 2:
        return f"the rows are rotated by {-shifted[0]['offset']}", {**evidence, "kind": "rotation"}
    listed = ", ".join(f"rows {b['first']}–{b['last']} by {b['offset']:+d}" for b in shifted[:4])
    return f"{len(shifted)} blocks of rows moved ({listed}{', …' if len(shifted) > 4 else ''})", evidence


def _stride(target: np.ndarray) -> int | None:
    """Number of processes if the rows were dealt out in turn and gathered process by process, or the inverse."""
    for order in (target, np.argsort(target)):
        if len(order) > 3 and order[0] == 0 and 1 < order[1] < len(order) / 2:
            step = int(order[1])
            dealt = np.concatenate([np.arange(first, len(order), step) for first in range(step)])
            if np.array_equal(order, dealt):
                return step
    return None


def _sorted_by(token_counts: np.ndarray, rows: np.ndarray, target: np.ndarray) -> bool:
    lengths = token_counts[target] if len(token_counts) > target.max() else token_counts[rows]
    steps = np.diff(lengths)
    return bool((steps >= 0).all() or (steps <= 0).all())


def describe_columns(
    partner: Map, codes: tuple[str, ...] | None, prevalence: np.ndarray | None
) -> str | None:
    """A name for the candidate's true column order, if it has one: alphabetical, by frequency or reversed."""
    identity = np.arange(len(partner))
    if np.array_equal(partner, identity[::-1]):
        return "reversed"
    if len(set((partner - identity) % len(partner))) == 1:
        return "rotated"
    if codes is not None and [codes[i] for i in partner] == sorted(codes):
        return "alphabetical"
    if prevalence is not None and (np.diff(prevalence[partner]) <= 0).all():
        return "frequency"
    return None
