"""Straight lines between functions of two runs' scores: of the run, a code or a note, as exact as what is stored tells."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool
from scipy.special import expit, log_expit, logit

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix
from shifamind_core.diagnosis.exact.formats import STEPS, SURE, UNIT32, UNIT64, Stored

Group = Literal["run", "code", "note"]
AXIS: dict[Group, int | None] = {"run": None, "code": 0, "note": 1}
STANDARD_ERRORS = 4.0  # by which fitted parameters may be off: one in 16,000 (normal)


@dataclass(frozen=True)
class Function:
    """An increasing function that scripts apply to scores, and between which values it is defined."""

    name: str
    apply: Callable[[np.ndarray], np.ndarray]
    low: float = -np.inf
    high: float = np.inf


IDENTITY = Function("score", lambda x: x)
SIGMOID = Function("sigmoid", expit)
LOG_SIGMOID = Function("log sigmoid", log_expit)
LOG = Function("log", np.log, low=0.0)
LOGIT = Function("logit", logit, low=0.0, high=1.0)
FUNCTIONS = (IDENTITY, SIGMOID, LOG_SIGMOID, LOG, LOGIT)


@dataclass(frozen=True, eq=False)
class Interval:
    """A function of one run's scores: where it lies, and within which bounds as far as the stored scores tell.

    A bound is infinite at an end that stands for all beyond it, and where a score says nothing.
    """

    function: Function
    middle: Matrix
    lower: Matrix
    upper: Matrix

    @property
    def width(self) -> Matrix:
        """Half of what is open."""
        finite = np.isfinite(self.lower) & np.isfinite(self.upper)
        return np.where(
            finite, np.subtract(self.upper, self.lower, where=finite, out=np.zeros(finite.shape)) / 2, np.inf
        )


@dataclass(frozen=True)
class Form:
    """Whose parameters a map has, and whether all share one slope."""

    group: Group
    one_slope: bool


RUN, NOTE_SHIFT, CODE_SHIFT = Form("run", True), Form("note", True), Form("code", True)
CODE_AFFINE, NOTE_AFFINE = Form("code", False), Form("note", False)
SIMPLER: dict[Form, tuple[Form, ...]] = {
    RUN: (),
    NOTE_SHIFT: (RUN,),
    CODE_SHIFT: (RUN,),
    CODE_AFFINE: (RUN, CODE_SHIFT),
    NOTE_AFFINE: (RUN, NOTE_SHIFT),
}


def interval_of(function: Function, stored: Stored, left_open: np.ndarray | None) -> Interval | None:
    """The function of a run's scores, unless it is not defined for all of them, or at its very edge for most."""
    logits = stored.logits
    if logits.min() < function.low or logits.max() > function.high:
        return None
    usable = (logits > function.low) & (logits < function.high)
    if usable.mean() <= 0.5:
        return None
    low, high = stored.bounds()
    below, above = np.maximum(low, function.low), np.minimum(high, function.high)
    if stored.lowest is not None:
        below[logits == stored.lowest] = function.low
    if stored.highest is not None:
        above[logits == stored.highest] = function.high
    inner = logits[usable].flat[0]
    with np.errstate(divide="ignore"):
        lower, upper = function.apply(below), function.apply(above)
    if left_open is not None:
        lower[left_open], upper[left_open] = -np.inf, np.inf
    return Interval(function, function.apply(np.where(usable, logits, inner)), lower, upper)


@dataclass(frozen=True, eq=False)
class Fit:
    """Slopes and offsets by weighted least squares; which scores they miss, and how much was open at each."""

    slope: np.ndarray
    offset: np.ndarray
    missed: Bool[np.ndarray, "documents codes"]
    width: Matrix


def affine(form: Form, target: Interval, source: Interval) -> tuple[np.ndarray, np.ndarray] | None:
    """Slopes and offsets that give every score within what is open, and not by chance; else `None`.

    Parameters of every code or note are taken only where most scores would be missed without them.
    """
    found = fit(form, target, source)
    if found is None or found.missed.any() or not bits(form, target.middle, found.width) >= SURE:
        return None
    for simpler in SIMPLER[form]:
        less = fit(simpler, target, source)
        if less is not None and less.missed.mean() <= 0.5:
            return None
    return found.slope, found.offset


@np.errstate(
    over="ignore", invalid="ignore"
)  # scores whose squares leave FP64 are open throughout, and show nothing
def fit(form: Form, target: Interval, source: Interval) -> Fit | None:
    axis = AXIS[form.group]
    x, y = source.middle, target.middle
    arithmetic = STEPS * UNIT32
    finite = np.isfinite(target.width) & np.isfinite(source.width)
    # An exact zero weighs no more than its neighbours.
    least = max(UNIT64 * float(np.ptp(y)), float(np.finfo(np.float32).tiny))
    own = np.where(finite, target.width, 1.0) + arithmetic * np.abs(y) + least
    others = np.where(finite, source.width, 1.0) + arithmetic * np.abs(x)
    slope = np.ones((1, 1))
    for _ in range(2):  # the weights depend on the slope
        widths = own + np.abs(slope) * others
        narrowest = float(widths.min())
        weight = finite * (narrowest / widths) ** 2
        total = np.maximum(weight.sum(axis, keepdims=True), 1e-300)
        mean_x = (weight * x).sum(axis, keepdims=True) / total
        mean_y = (weight * y).sum(axis, keepdims=True) / total
        centred = x - mean_x
        squares, products = weight * centred**2, weight * centred * (y - mean_y)
        fitted_over = None if form.one_slope else axis
        variance = squares.sum(fitted_over, keepdims=True)
        slope = products.sum(fitted_over, keepdims=True) / np.where(variance > 0, variance, 1.0)
        slope = np.where(variance > 0, slope, 1.0)
    if not np.isfinite(slope).all() or (slope == 0).any():
        return None
    offset = mean_y - slope * mean_x
    # Of errors that are uniform within those widths.
    lever = narrowest * np.sqrt((1 / total + centred**2 / np.where(variance > 0, variance, np.inf)) / 3)
    slack = STANDARD_ERRORS * lever + arithmetic * (np.abs(y) + np.abs(slope * x) + np.abs(offset))
    ends = slope * source.lower + offset, slope * source.upper + offset
    low, high = np.minimum(*ends) - slack, np.maximum(*ends) + slack
    width = np.where(finite, own + np.abs(slope) * others + slack, np.inf)
    return Fit(slope, offset, (low > target.upper) | (high < target.lower), width)


def bits(form: Form, y: Matrix, width: Matrix) -> float:
    """How unlikely it is that as many scores fall into intervals of these widths by chance, in bits.

    A score falls anywhere between its group's smallest and largest; as many scores as there are parameters are for free.
    """
    axis = AXIS[form.group]
    finite = np.isfinite(width)
    low = np.where(finite, y, np.inf).min(axis, keepdims=True)
    high = np.where(finite, y, -np.inf).max(axis, keepdims=True)
    varies = high > low
    extent = np.where(varies, high - low, 1.0)
    with np.errstate(over="ignore"):  # what is open may be infinitely wider than the values reach
        window = np.where(finite & varies, 2 * np.where(finite, width, 1.0) / extent, 1.0)
    surprise = -np.log2(np.clip(window, 1e-300, 1.0))
    counted = np.maximum(finite.sum(axis, keepdims=True), 1)
    free = np.minimum((1 if form.one_slope else 2) / counted, 1.0)
    return float((surprise.sum(axis, keepdims=True) * (1 - free)).sum())
