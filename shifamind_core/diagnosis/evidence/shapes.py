"""Numbers that a matrix of differences shows: shares, spreads, gaps, neighbours. What the features are made of."""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float64
from scipy.stats import rankdata

Matrix: TypeAlias = Float64[np.ndarray, "documents codes"]

KERNEL_NOTES = 400  # for fits whose cost grows with the cube of the notes
NEAREST, NEAR_DIRECTIONS = 8, 12  # neighbours, and the directions in which they are near
TINY = 1e-9  # relative: what double precision may leave of an exact zero
STILL = 0.05  # of the root mean square: a note or code that moved less hardly moved; only where this feature's scale lies
RIDGES = 10.0 ** np.arange(-3, 2)  # the penalties that the kernel fit chooses from


def log10(value: float, least: float) -> float:
    return float(np.log10(max(value, least)))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation, equal values sharing their mean rank; 0 where either never varies.

    >>> spearman(np.array([1, 1, 2, 3]), np.array([5, 5, 7, 9]))
    1.0
    """
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return 0.0
    return float(np.round(np.corrcoef(rankdata(x), rankdata(y))[0, 1], 12))


def sample(keys: Matrix, most: int) -> np.ndarray:
    """At most so many rows, evenly spaced in the order of their sums: the same notes in whichever order they stand."""
    if len(keys) <= most:
        return np.arange(len(keys))
    order = np.argsort(keys.sum(axis=1), kind="stable")
    return order[np.linspace(0, len(keys) - 1, most).astype(int)]


def standard_scores(matrix: np.ndarray) -> np.ndarray:
    """Every column at mean 0 and standard deviation 1; a column that never varies becomes 0."""
    centred = matrix - matrix.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    flat = TINY * max(float(np.abs(matrix).max()), 1e-300)
    return centred / np.where(spread > flat, spread, np.inf)


def directions(scored: Matrix) -> np.ndarray:
    """Principal components of the notes, each of unit variance; few where notes are few."""
    values, vectors = np.linalg.eigh(scored.T @ scored / len(scored))
    most = max(1, min(scored.shape[1], len(scored) // 5))
    kept = np.argsort(-values)[:most]
    kept = kept[values[kept] > 1e-6]
    return scored @ (vectors[:, kept] / np.sqrt(values[kept]))


def predicted_share(target: Matrix, directions: np.ndarray, used: int = 0) -> float:
    """Median over codes of the share of variance that a linear fit explains, adjusted for chance."""
    notes, parameters = directions.shape
    variance = (target**2).mean(axis=0)
    live = variance > 0
    if not live.any() or notes <= parameters + 2 or not parameters:
        return 0.0
    explained = ((directions.T @ target[:, live] / notes) ** 2).sum(axis=0) / variance[live]
    chance = (notes - 1 - used) / (notes - 1 - parameters)
    return float(np.median(1 - (1 - explained) * chance))


def coherence(scored: Matrix) -> float:
    """How well codes predict each other: median share of a code's variance that all others explain."""
    notes, codes = scored.shape
    if codes < 3 or notes < 2 * codes:
        return 0.0
    inverse = np.linalg.inv(scored.T @ scored / notes + 1e-6 * np.eye(codes))
    left = 1 / np.diag(inverse) * (notes - 1) / (notes - codes)
    return float(np.clip(1 - np.median(left), 0.0, 1.0))


def information(share: float) -> float:
    """−log(1 − R²): additive where R² saturates."""
    return float(-np.log(np.clip(1 - share, 1e-4, 1.0)))


def slope_spread(slopes: np.ndarray, left: np.ndarray, notes: int) -> float:
    """Standard deviation of the codes' slopes beyond what chance gives, over the size of what they leave."""
    beyond = slopes.var() - (left**2).mean() / notes
    return float(np.sqrt(max(beyond, 0.0)) / np.median(left))


def beyond_typical(sizes: np.ndarray, least: float) -> float:
    """The largest over the median, which counts as `least` where it is smaller; 1 where there is none.

    >>> beyond_typical(np.array([1.0, 2.0, 30.0]), 0.1), beyond_typical(np.array([0.0, 0.0, 30.0]), 2.0)
    (15.0, 15.0)
    """
    return float(sizes.max() / max(np.median(sizes), least, 1e-300)) if len(sizes) else 1.0


def effective_rank(eigenvalues: np.ndarray) -> float:
    """Participation ratio: 1 for one direction, n for n equal ones."""
    squares = float((eigenvalues**2).sum())
    return float(eigenvalues.sum() ** 2 / squares) if squares else 1.0


def exponent(values: np.ndarray, amount: np.ndarray) -> float:
    """Power with which the amount grows with the eigenvalues."""
    if len(values) < 3 or np.ptp(np.log(values)) < 0.1:
        return 0.5
    return float(np.polyfit(np.log(values), np.log(np.maximum(amount, 1e-12)), 1)[0])


def near(scored: Matrix, rows: np.ndarray) -> np.ndarray:
    """Coordinates in the directions in which notes differ most."""
    values, vectors = np.linalg.eigh(scored.T @ scored / len(scored))
    return scored[rows] @ vectors[:, np.argsort(-values)[:NEAR_DIRECTIONS]]


def squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    distance = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.maximum(distance, 0.0)


def alike(source: Matrix, left: Matrix) -> float:
    """Mean cosine of what is left of a note with that of the notes nearest to it."""
    if len(source) <= 2 * NEAREST:
        return 0.0
    asked = sample(source, KERNEL_NOTES)
    axes = near(source, np.arange(len(source)))
    distance = squared_distances(axes[asked], axes)
    distance[np.arange(len(asked)), asked] = np.inf
    nearest = np.argpartition(distance, NEAREST, axis=1)[:, :NEAREST]
    unit = left / np.maximum(np.sqrt((left**2).sum(axis=1, keepdims=True)), 1e-300)
    return float(np.einsum("ij,ikj->ik", unit[asked], unit[nearest]).mean())


def smooth_share(source: Matrix, left: Matrix) -> float:
    """Share of what is left that a smooth function of the source's logits gives on notes it was not fitted to.

    Kernel ridge regression with a Gaussian kernel as wide as notes are apart; leaving one out is exact in closed form.
    Each note counts alike, so that a few that changed most do not decide.
    """
    rows = sample(source, KERNEL_NOTES)
    axes = near(source, rows)
    target = left[rows]
    target = target / np.maximum(np.sqrt((target**2).mean(axis=1, keepdims=True)), 1e-300)
    target = target - target.mean(axis=0)
    distance = squared_distances(axes, axes)
    typical = np.median(distance)
    total = float((target**2).sum())
    if not typical or not total:
        return 0.0
    values, vectors = np.linalg.eigh(np.exp(-distance / typical))
    turned = vectors.T @ target
    shares = []
    for ridge in RIDGES:
        shrunk = values / (values + ridge)
        own = (vectors**2) @ shrunk
        missed = (target - vectors @ (shrunk[:, None] * turned)) / np.maximum(1 - own, TINY)[:, None]
        shares.append(1 - float((missed**2).sum()) / total)
    return max(0.0, *shares)


def logs_of(sizes: np.ndarray) -> np.ndarray:
    """Decadic logarithms, nothing below a billionth of the largest."""
    largest = float(sizes.max())
    return np.log10(np.maximum(sizes, largest * TINY)) if largest else np.zeros(len(sizes))


def gap(sizes: np.ndarray) -> float:
    """Separation of small from large, where they fall apart most (Otsu's threshold on logarithms).

    The distance of the two groups' means over the sum of their standard deviations, no deviation counted below a
    twentieth of a decade. Two halves of one bell have 2.65.
    """
    logs = np.sort(logs_of(sizes))
    if len(logs) < 4 or not np.ptp(logs):
        return 0.0
    count = np.arange(1, len(logs))
    total = np.cumsum(logs)
    low, high = total[:-1] / count, (total[-1] - total[:-1]) / (len(logs) - count)
    cut = int(np.argmax(count * (len(logs) - count) * (high - low) ** 2)) + 1
    return float((logs[cut:].mean() - logs[:cut].mean()) / max(0.1, logs[cut:].std() + logs[:cut].std()))


def empty(sizes: np.ndarray) -> float:
    """The widest stretch, in decades, in which no size lies, with two sizes and a thousandth of them on either side."""
    logs = np.sort(logs_of(sizes))
    edge = max(2, len(logs) // 1000)
    steps = np.diff(logs)[edge - 1 : len(logs) - edge]
    return float(steps.max()) if len(steps) else 0.0


def still(sizes: np.ndarray) -> float:
    """Share that moved less than a twentieth of the root mean square."""
    typical = np.sqrt((sizes**2).mean())
    return float((sizes < STILL * typical).mean()) if typical else 1.0


def best_split(values: np.ndarray, logs: np.ndarray) -> float:
    """Share of the variance of log sizes that one threshold on `values` explains, larger ones above it."""
    order = np.argsort(values, kind="stable")
    ordered, sizes = values[order], logs[order]
    total = float(((sizes - sizes.mean()) ** 2).sum())
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    if not total or not len(cuts):
        return 0.0
    sums = np.cumsum(sizes)[cuts - 1]
    low, high = sums / cuts, (sizes.sum() - sums) / (len(sizes) - cuts)
    between = cuts * (len(sizes) - cuts) / len(sizes) * (high - low) ** 2
    return float(np.where(high > low, between, 0.0).max() / total)


def coarse_grid(values: np.ndarray) -> float:
    """2 where all values have at most BF16's 8 significant bits, 1 where at most FP16's 11, else 0."""
    mantissa = np.frexp(values)[0]
    for bits, found in ((8, 2.0), (11, 1.0)):
        steps = mantissa * 2.0**bits
        if (steps == np.round(steps)).all():
            return found
    return 0.0


def quantiles(sizes: np.ndarray, high: float, low: float) -> float:
    logs = np.quantile(logs_of(sizes), (high, low))
    return float(logs[0] - logs[1])
