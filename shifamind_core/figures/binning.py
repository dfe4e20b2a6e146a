"""Raw values to few numbers, in NumPy: a browser never receives the 863,300 logits of a test split."""

from dataclasses import dataclass

import numpy as np

SMALLEST_DECADE = -18  # below any difference of two FP64 logits that is not exactly zero


@dataclass(frozen=True, eq=False)
class SymmetricLogHistogram:
    """Counts of signed values in bins that are equally wide in log10 |value|, mirrored about zero.

    Attributes
    ----------
    exponents : float64 [bins + 1]
        Edges of log10 |value|, ascending; shared by both signs.
    negative, positive : int64 [bins]
        Counts, the bin nearest zero first.
    zeros : int
        Values that are exactly 0.
    nearer_zero, farther, non_finite : int
        Values outside the edges, and NaN or infinite ones. All counts together are the number of values.
    """

    exponents: np.ndarray
    negative: np.ndarray
    positive: np.ndarray
    zeros: int
    nearer_zero: int
    farther: int
    non_finite: int


def symmetric_log_histogram(
    values: np.ndarray, bins_per_decade: int = 8, outside: float = 1e-4
) -> SymmetricLogHistogram:
    """Histogram of signed values over whole decades of magnitude.

    Parameters
    ----------
    values : float array of any shape
    outside : float
        Share of the non-zero values that may lie nearer to zero than the first decade shown, so that one
        value at 1e-17 does not stretch the axis. The largest value is always inside.

    >>> h = symmetric_log_histogram(np.array([-1e-3, 0.0, 0.0, 0.5]), bins_per_decade=1)
    >>> h.exponents.tolist(), h.negative.tolist(), h.positive.tolist(), h.zeros
    ([-3.0, -2.0, -1.0, 0.0], [1, 0, 0], [0, 0, 1], 2)
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    finite = values[np.isfinite(values)]
    signed = finite[finite != 0]
    magnitude = np.log10(np.abs(signed))
    low, high = (
        (
            int(np.floor(np.quantile(magnitude, outside, method="lower"))),
            int(np.floor(magnitude.max())) + 1,
        )
        if signed.size
        else (-7, -6)
    )
    low = max(low, SMALLEST_DECADE)
    high = max(high, low + 1)
    bins = (high - low) * bins_per_decade
    # Bins by arithmetic, not by search: edges that are powers of ten then fall on the upper side exactly.
    index = np.floor((magnitude - low) * bins_per_decade).astype(np.int64)
    inside = (index >= 0) & (index < bins)
    counts = [
        np.bincount(index[inside & side], minlength=bins).astype(np.int64)
        for side in (signed < 0, signed > 0)
    ]
    return SymmetricLogHistogram(
        exponents=low + np.arange(bins + 1) / bins_per_decade,
        negative=counts[0],
        positive=counts[1],
        zeros=int(finite.size - signed.size),
        nearer_zero=int((index < 0).sum()),
        farther=int((index >= bins).sum()),
        non_finite=int(values.size - finite.size),
    )


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of signed values in bins of equal width about zero.

    Attributes
    ----------
    edges : float64 [bins + 1]
    counts : int64 [bins]
    below, above, non_finite : int
        Values outside the edges, and NaN or infinite ones. All counts together are the number of values.
    """

    edges: np.ndarray
    counts: np.ndarray
    below: int
    above: int
    non_finite: int


def histogram(values: np.ndarray, bins: int = 81, outside: float = 1e-3) -> Histogram:
    """Histogram of signed values, zero in the middle of the middle bin.

    Parameters
    ----------
    values : float array of any shape
    bins : int, odd
    outside : float
        Share of the values that may lie beyond the edges, so that a few far ones do not flatten the rest.

    >>> found = histogram(np.array([-1.0, 0.0, 0.1, 1.0]), bins=3, outside=0.0)
    >>> found.counts.tolist(), found.below + found.above
    ([1, 2, 1], 0)
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    finite = values[np.isfinite(values)]
    reach = float(np.quantile(np.abs(finite), 1 - outside, method="higher")) if finite.size else 0.0
    width = reach / (bins / 2) * (1 + 1e-9) or 1.0
    index = np.floor(finite / width + bins / 2).astype(np.int64)
    inside = (index >= 0) & (index < bins)
    return Histogram(
        edges=(np.arange(bins + 1) - bins / 2) * width,
        counts=np.bincount(index[inside], minlength=bins).astype(np.int64),
        below=int((index < 0).sum()),
        above=int((index >= bins).sum()),
        non_finite=int(values.size - finite.size),
    )


@dataclass(frozen=True, eq=False)
class Density:
    """How many pairs fall into each cell of a square grid.

    Attributes
    ----------
    counts : int64 [cells, cells]
        Rows are the vertical coordinate.
    centres : float64 [cells]
        Shared by both axes.
    non_finite : int
        Pairs left out because one of their values is NaN or infinite.
    """

    counts: np.ndarray
    centres: np.ndarray
    non_finite: int


def density(horizontal: np.ndarray, vertical: np.ndarray, cells: int = 200) -> Density:
    """Count pairs on `cells` × `cells` squares that span the range of both.

    >>> density(np.array([0.0, 1.0]), np.array([0.0, 1.0]), cells=2).counts.tolist()
    [[1, 0], [0, 1]]
    """
    # float64 first: the difference of two float16 extremes overflows float16
    x = np.asarray(horizontal, dtype=np.float64).ravel()
    y = np.asarray(vertical, dtype=np.float64).ravel()
    finite = np.isfinite(x) & np.isfinite(y)
    left_out = int(x.size - finite.sum())
    if left_out:
        x, y = x[finite], y[finite]
    low = min(x.min(), y.min()) if x.size else 0.0
    high = max(x.max(), y.max()) if x.size else 1.0
    width = (high - low) / cells or 1.0
    column = np.minimum(((x - low) / width).astype(np.int64), cells - 1)
    row = np.minimum(((y - low) / width).astype(np.int64), cells - 1)
    counts = np.bincount(row * cells + column, minlength=cells * cells).reshape(cells, cells)
    return Density(
        counts=counts.astype(np.int64),
        centres=low + width * (np.arange(cells) + 0.5),
        non_finite=left_out,
    )
