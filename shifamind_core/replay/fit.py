"""How near values come to the target: element by element, in distribution where a recipe is random, in another order."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from shifamind_core.replay.reference_rows import Rows, Target
from shifamind_core.replay.runner import Values

Matrix = Float64[np.ndarray, "notes codes"]
REORDERED = 0.5  # share of the squared distance that another order of rows must take away to be believed
NO_DRAW = 0.5  # share of the squared difference that a random recipe leaves where the target is no draw of it
VAGUE = 0.5  # share of the squared difference by which draws may miss what they predict of each other
DEVIATIONS = 5.0  # from the draws' own statistics, in their spreads: about one in a thousand
NEARER, FARTHER = 0.7, 1.4  # of the draws' least and largest distance from the base
MORE_ALIKE = 0.1  # correlation with the base by which a draw may exceed those that were drawn
ORDER_ROWS = 8  # fewest notes on which an order is looked for


@dataclass(frozen=True, eq=False)
class Fit:
    """How near values come to the target on some notes.

    Attributes
    ----------
    explained : float
        Share of the squared difference between base and target that is gone, 0 to 1. For random recipes the
        variance between draws counts as explained, and only where the target looks like one more draw. Where values
        were put on another scale, the difference is no larger than the target's own from its means over notes.
    promise : float
        Share of that difference that lies in the direction of this change, 0 to 1: how much a change can explain once
        others are made beside it.
    max_abs_residual, rms_residual : float
        Of target − values (of their mean over draws).
    residual : float64 [notes, codes], optional
        The same, number by number; `None` where the values are not finite.
    document_order : str, optional
        How the target's rows had to be moved for this, if they had to be.
    """

    explained: float
    promise: float
    max_abs_residual: float
    rms_residual: float
    residual: Matrix | None = None
    document_order: str | None = None


NO_FIT = Fit(0.0, 0.0, float("inf"), float("inf"))


def fit(
    values: Values, base: Matrix, target: Target, rows: Rows, reorder: bool = True, rescaled: bool = False
) -> Fit:
    """Measure values [draws, notes, codes] against the target's rows; rows are matched anew where that helps.

    `rescaled` values are probabilities where the base has logits: any probabilities lie nearer to others than logits do,
    so that these have more to explain than how far the base is off.
    """
    if not np.isfinite(values).all():
        return NO_FIT
    wanted = target.values[rows]
    squares = float(((wanted - base) ** 2).sum())
    if rescaled:
        squares = min(squares, float(((wanted - wanted.mean(axis=0)) ** 2).sum()))
    direct = _fit(values, wanted, base, squares)
    if not reorder or direct.explained > 0.9999 or len(rows) < ORDER_ROWS:
        return direct
    order = match_rows(values.mean(axis=0), target.values, rows)
    if order is None:
        return direct
    moved, name = order
    matched = _fit(values, target.values[moved], base, squares)
    if 1 - matched.explained > REORDERED * (1 - direct.explained):
        return direct
    return replace(matched, document_order=name)


def _fit(values: Values, wanted: Matrix, base: Matrix, base_squares: float) -> Fit:
    mean = values.mean(axis=0)
    residual, missing, change = wanted - mean, wanted - base, mean - base
    squares = float((residual**2).sum())
    if len(values) > 1 and is_a_draw(values, base, wanted):
        # A recipe whose draws differ so much that they predict nothing is granted no more than another.
        granted = min(_slack(values), VAGUE * base_squares)
        squares = max(abs(squares - _noise(values)) - granted, 0.0)
    elif len(values) > 1:
        # Draws that the target is not like may still lie nearer to it than the base does: no explanation.
        squares = max(squares, NO_DRAW * base_squares)
    explained = 1.0 if base_squares == 0 and squares == 0 else 1 - squares / max(base_squares, 1e-300)
    along = float((missing * change).sum())
    promise = max(along, 0.0) ** 2 / max(float((missing**2).sum() * (change**2).sum()), 1e-300)
    return Fit(
        float(np.clip(explained, 0, 1)),
        max(float(np.clip(explained, 0, 1)), min(promise, 1.0)),
        float(np.abs(residual).max()),
        float(np.sqrt((residual**2).mean())),
        residual,
    )


def could_be_a_draw(two: Values, base: Matrix, wanted: Matrix) -> bool:
    """Whether two draws leave it open that `wanted` is a third: if they do not, more draws are a waste.

    It must be about as far from them as they are from each other and from the base as they are, and vary as much from
    note to note.
    """
    if not np.isfinite(two).all() or not as_far_from(base, two, wanted, slack=2.0):
        return False
    apart = np.sqrt(((two[0] - two[1]) ** 2).mean())
    away = np.sqrt(((two - wanted) ** 2).mean(axis=(1, 2)))
    varies = wanted.std(axis=0).mean() / (two.std(axis=1).mean(axis=1) + 1e-300)
    return bool(
        (away < 2 * apart).all()
        and (away > 0.4 * apart).all()
        and (varies < 4).all()
        and (varies > 0.25).all()
    )


def is_a_draw(values: Values, base: Matrix, wanted: Matrix) -> bool:
    """Whether `wanted` lies among the draws as one more of them would."""
    return (
        as_far_from(base, values, wanted)
        and forgets_as_much(base, values, wanted)
        and like_a_draw(values, wanted)
    )


def forgets_as_much(base: Matrix, values: Values, wanted: Matrix) -> bool:
    """Whether `wanted` resembles the base no more than the draws do: what is made anew remembers nothing."""
    most = max(_correlation(draw, base) for draw in values)
    return _correlation(wanted, base) <= most + MORE_ALIKE


def as_far_from(base: Matrix, values: Values, wanted: Matrix, slack: float = 1.0) -> bool:
    """Whether `wanted` lies as far from the base as the draws do: wild draws explain no small change.

    `slack` widens the bounds on both sides, for draws too few to know their own least and largest distance.
    """
    draws = np.sqrt(((values - base) ** 2).mean(axis=(1, 2)))
    own = np.sqrt(((wanted - base) ** 2).mean())
    return bool(NEARER / slack * draws.min() <= own <= FARTHER * slack * draws.max())


def like_a_draw(values: Values, wanted: Matrix) -> bool:
    """Is `wanted` one more draw of the same random recipe? Its statistics must lie where those of the draws lie.

    Each draw is held against the others, as `wanted` is held against all (`_statistics`).
    """
    if len(values) < 3:
        return False
    shapes = [_Shape.of(draw) for draw in values]
    others = []
    for i in range(len(values)):
        rest = [shape for place, shape in enumerate(shapes) if place != i]
        others.append(_statistics(np.delete(values, i, axis=0), rest, values[i], shapes[i]))
    mean, spread = np.mean(others, axis=0), np.std(others, axis=0, ddof=1)
    deviation = np.abs(_statistics(values, shapes, wanted, _Shape.of(wanted)) - mean)
    # Few draws know their own spread badly, hence the floor beside the factor.
    return bool((deviation <= DEVIATIONS * spread + 0.1).all())


@dataclass(frozen=True, eq=False)
class _Shape:
    """What a draw keeps under changes that others do not: how notes lie to each other, how codes do, and code by code
    the mean over notes."""

    notes: np.ndarray
    codes: np.ndarray
    means: np.ndarray

    @staticmethod
    def of(values: Matrix) -> "_Shape":
        centred = values - values.mean(axis=0)
        unit = centred / (np.linalg.norm(centred, axis=0) + 1e-12)
        notes, codes = (unit @ unit.T), (unit.T @ unit)
        return _Shape(
            notes[np.triu_indices(len(notes), 1)], codes[np.triu_indices(len(codes), 1)], values.mean(axis=0)
        )


def _statistics(values: Values, shapes: list[_Shape], one: Matrix, shape: _Shape) -> np.ndarray:
    """How `one` lies to these draws.

    The typical size of a cell's deviation in units of the draws' spread, how that size follows the spread from cell to
    cell, how it varies between notes; how far deviations are common to all notes, and how far to one direction (other
    weights shift all notes alike, dropout does not); how much the values vary from note to note; and how far the
    shapes agree.
    """
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
    # Cells share information: a spread from few draws is drawn towards that of its code.
    spread = np.sqrt((spread**2 + spread.mean(axis=0) ** 2) / 2) + 1e-12
    deviation = one - mean
    relative = deviation / spread
    by_note = np.sqrt((deviation**2).mean(axis=1))
    singular = np.linalg.svd(relative, compute_uv=False)
    size = np.log(np.abs(relative) + 1e-6)
    agreements = [
        _correlation(getattr(shape, part), np.mean([getattr(other, part) for other in shapes], axis=0))
        for part in ("notes", "codes", "means")
    ]
    return np.array(
        [
            np.median(size),
            _correlation(np.log(np.abs(deviation) + 1e-9), np.log(spread)),
            by_note.std() / (by_note.mean() + 1e-12),
            np.log(np.sqrt((relative.mean(axis=0) ** 2).mean()) + 1e-6),
            np.log(singular[0] ** 2 / ((singular**2).sum() + 1e-300) + 1e-6),
            np.log(one.std(axis=0).mean() / (values.std(axis=1).mean() + 1e-300) + 1e-6),
            *agreements,
        ]
    )


def _noise(values: Values) -> float:
    """How far one more draw is expected to be from the mean of these, squared and summed."""
    return float(values.var(axis=0, ddof=1).sum()) * (1 + 1 / len(values))


def _slack(values: Values) -> float:
    """By how much the draws themselves miss that expectation, each held against the others."""
    misses = []
    for i in range(len(values)):
        rest = np.delete(values, i, axis=0)
        misses.append(abs(float(((values[i] - rest.mean(axis=0)) ** 2).sum()) - _noise(rest)))
    return max(misses)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.ravel() - one.mean(), other.ravel() - other.mean()
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-300))


def match_rows(mean: Matrix, every: Float64[np.ndarray, "all codes"], rows: Rows) -> tuple[Rows, str] | None:
    """The target's row nearest to each note, if the notes find rows of their own and mostly not those of their place."""
    finite = np.flatnonzero(np.isfinite(every).all(axis=1))
    if len(finite) < 2:
        return None
    pool = every[finite]
    squares = (mean**2).sum(axis=1)[:, None] + (pool**2).sum(axis=1) - 2 * mean @ pool.T  # [notes, all]
    first, second = np.partition(squares, 1, axis=1)[:, :2].clip(min=1e-12).T
    moved = finite[squares.argmin(axis=1)]
    own = len(np.unique(moved)) / len(rows)
    if own < 0.9 or np.median(first / second) > 0.7 or (moved == rows).mean() > 0.9:
        return None
    return moved, _order_name(rows, moved, len(every))


def _order_name(rows: Rows, moved: Rows, total: int) -> str:
    shift = moved - rows
    if (moved == total - 1 - rows).mean() > 0.9:
        return "document_order=reversed"
    shifts, counts = np.unique(shift[shift != 0], return_counts=True)
    if counts.max(initial=0) > 0.9 * (shift != 0).sum():
        start = rows[shift != 0].min()
        where = "" if (shift != 0).all() else f"_from_row_{start + 1}"
        return f"document_order=shifted_by_{shifts[counts.argmax()]}{where}"
    return "document_order=permuted"
