"""One run's scores as an exact function of the other's: per run, per code or per note; named for what it is.

A map is ``g(target) = slope · h(source) + offset`` with g and h from a few functions, and slope and offset of the whole
run, of a code or of a note; or, without a formula, any function that keeps (or reverses) the order of scores. It holds
where every score lies in the interval that rounding leaves open, and not by chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Bool
from scipy.special import expit, log_expit, logit, logsumexp

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix
from shifamind_core.diagnosis.exact.formats import SIDES, STEPS, SURE, UNIT32, UNIT64, Side, Stored, read
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed
from shifamind_core.diagnosis.views import scatter

Group = Literal["run", "code", "note"]
AXIS: dict[Group, int | None] = {"run": None, "code": 0, "note": 1}
SAMPLES = (64, 1500)  # notes on which a map must hold before it is looked for in all
HALF_PRECISION = 2.0**-11  # unit roundoff of FP16 and TF32
STANDARD_ERRORS = 4.0  # by which fitted parameters may be off: one in 16,000 (normal)
SUMS = 1e-3  # likewise, of sums over a note
ALIKE = 1e-5  # relative; parameters this near to a round number are called by it: for words, not for verdicts


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


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """A map that gives every score of `side` from the other run's.

    `kind` and `words` name it; `slope` and `offset` hold one value, one a code or one a note, and are `None` where there is
    no formula.
    """

    side: Side
    group: Group
    kind: str
    words: str
    slope: np.ndarray | None = None
    offset: np.ndarray | None = None

    @property
    def has_name(self) -> bool:
        """Is it a script's own way of writing scores, and not merely fitted?"""
        return self.kind not in NAMELESS and self.slope is not None


def score_map(examination: Examination) -> Examination:
    """Confirm that one run's scores are an exact function of the other's, and undo it.

    Expects rows and columns in place and mere rounding undone (`stored_precision`). Leaves nothing of the difference.
    """
    if examination.explained:
        return examination
    found = find_map(examination)
    if found is None:
        return examination
    pair = examination.logits
    other = pair.reference if found.side == "candidate" else pair.candidate
    return examination.found(pair.changed(**{found.side: other}), _finding(found, examination))


def find_map(examination: Examination) -> ScoreMap | None:
    """The simplest map that gives every score of one run from the other's; `None` if there is none."""
    pair = examination.logits
    runs = examination.evidence.candidate, examination.evidence.reference
    left_open = None if pair.tolerance is None else np.isinf(pair.tolerance)
    stored = [
        read(logits, bool(run.manifest.logits_from_probabilities), left_open)
        for logits, run in zip((pair.candidate, pair.reference), runs, strict=True)
    ]
    views = [_Sides(stored, left_open).drawn(notes) for notes in SAMPLES] + [_Sides(stored, left_open)]
    # Scores most of which are equal already were not converted; they may have been cut off at an end.
    if _meet(*views[0].stored).mean() > 0.5:
        return _cut_off(stored, left_open)
    for form in SIMPLER:
        found = None
        for place, target, source in product((0, 1), FUNCTIONS, FUNCTIONS):
            fitted = None
            for view in views:
                ends = view.interval(place, target), view.interval(1 - place, source)
                fitted = None if ends[0] is None or ends[1] is None else _affine(form, ends[0], ends[1])
                if fitted is None:
                    break
            if fitted is None:
                continue
            own, other = views[-1].interval(place, target), views[-1].interval(1 - place, source)
            assert own is not None and other is not None
            if not _takes_away(own, other, *fitted):
                continue
            named = _named(SIDES[place], form, own, other, *fitted)
            if named.has_name:
                return named
            found = found or named
        if found is not None:
            return found
    return _in_order(views)


def _takes_away(target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray) -> bool:
    """Does the map leave less of the difference in logits than there was without it?

    Most probabilities of a model that is very sure lie so near to 0 that every run's meet there, mapped or not.
    """
    if target.function is not source.function or target.function not in (SIGMOID, LOG_SIGMOID):
        return True
    written, mapped = target.middle, slope * source.middle + offset
    if target.function is SIGMOID:
        with np.errstate(divide="ignore", invalid="ignore"):
            written, mapped, before = np.log(written), np.log(mapped), np.log(source.middle)
    else:
        before = source.middle
    known = np.isfinite(written) & np.isfinite(mapped) & np.isfinite(before)
    left, there = (np.square(values[known] - written[known]).sum() for values in (mapped, before))
    return bool(left < there / 2)


class _Sides:
    """Both runs as they were stored, and functions of them, each computed once."""

    def __init__(self, stored: Sequence[Stored], left_open: np.ndarray | None) -> None:
        self.stored, self.left_open = tuple(stored), left_open
        self._known: dict[tuple[int, str], Interval | None] = {}

    def drawn(self, most: int) -> "_Sides":
        """The same for at most so many notes, evenly spaced."""
        notes = np.unique(np.linspace(0, len(self.stored[0].logits) - 1, most).astype(int))
        left_open = None if self.left_open is None else self.left_open[notes]
        return _Sides([one.selected(notes) for one in self.stored], left_open)

    def interval(self, place: int, function: Function) -> Interval | None:
        """The function of one run's scores, if it is defined for them."""
        key = place, function.name
        if key not in self._known:
            self._known[key] = _interval(function, self.stored[place], self.left_open)
        return self._known[key]


def _in_order(views: Sequence[_Sides]) -> ScoreMap | None:
    """Scores in exactly the other run's order, or its reverse, whatever the function."""
    for group, place in product(AXIS, (0, 1)):
        sign = 0
        for view in views:
            ends = view.interval(place, IDENTITY), view.interval(1 - place, IDENTITY)
            # That small noise would break the order shows only in many scores together.
            sign = _keeps_order(group, *ends, sure=view is not views[0])
            if not sign:
                break
        if sign:
            return ScoreMap(SIDES[place], group, f"order_within_{group}", _order_words(group, sign))
    return None


def _interval(function: Function, stored: Stored, left_open: np.ndarray | None) -> Interval | None:
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


def _meet(one: Stored, other: Stored) -> Bool[np.ndarray, "documents codes"]:
    """Cells in which two runs are equal as far as their rounding and FP32 arithmetic leave open."""
    (low, high), (other_low, other_high) = one.bounds(), other.bounds()
    slack = STEPS * UNIT32 * np.abs(one.logits)
    return (low <= other_high + slack) & (other_low <= high + slack)


def _cut_off(stored: list[Stored], left_open: np.ndarray | None) -> ScoreMap | None:
    """One run's scores are the other's, those beyond an end set to it."""
    if all(end is None for one in stored for end in (one.lowest, one.highest)):
        return None
    meet = _meet(*stored) if left_open is None else _meet(*stored) | left_open
    for place, side in enumerate(SIDES):
        own, other = stored[place].logits, stored[1 - place].logits
        ends = (stored[place].lowest, other < own), (stored[place].highest, other > own)
        beyond = [np.zeros(own.shape, bool) if end is None else (own == end) & there for end, there in ends]
        if not meet.all() and (meet | beyond[0] | beyond[1]).all():
            told = [
                f"{end:+.6g}" for (end, _), cells in zip(ends, beyond, strict=True) if (cells & ~meet).any()
            ]
            return ScoreMap(side, "run", "clip", f"the same, cut off at {' and '.join(told)}")
    return None


@dataclass(frozen=True, eq=False)
class Fit:
    """Slopes and offsets by weighted least squares; which scores they miss, and how much was open at each."""

    slope: np.ndarray
    offset: np.ndarray
    missed: Bool[np.ndarray, "documents codes"]
    width: Matrix


def _affine(form: Form, target: Interval, source: Interval) -> tuple[np.ndarray, np.ndarray] | None:
    """Slopes and offsets that give every score within what is open, and not by chance; else `None`.

    Parameters of every code or note are taken only where most scores would be missed without them.
    """
    fit = _fit(form, target, source)
    if fit is None or fit.missed.any() or not _bits(form, target.middle, fit.width) >= SURE:
        return None
    for simpler in SIMPLER[form]:
        less = _fit(simpler, target, source)
        if less is not None and less.missed.mean() <= 0.5:
            return None
    return fit.slope, fit.offset


@np.errstate(
    over="ignore", invalid="ignore"
)  # scores whose squares leave FP64 are open throughout, and show nothing
def _fit(form: Form, target: Interval, source: Interval) -> Fit | None:
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


def _bits(form: Form, y: Matrix, width: Matrix) -> float:
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
    bits = -np.log2(np.clip(window, 1e-300, 1.0))
    counted = np.maximum(finite.sum(axis, keepdims=True), 1)
    free = np.minimum((1 if form.one_slope else 2) / counted, 1.0)
    return float((bits.sum(axis, keepdims=True) * (1 - free)).sum())


def _keeps_order(group: Group, target: Interval | None, source: Interval | None, sure: bool = True) -> int:
    """1 if the order of all scores within a run, code or note is the other's, −1 if it is the reverse, else 0.

    By itself that shows little: small noise keeps the order of few scores too. So noise of half precision's size must break
    the order so often that chance is excluded, and so must what is left of a straight line, dealt out anew.
    """
    if target is None or source is None:
        return 0
    axis = AXIS[group]
    x, lower, upper = source.middle, target.lower, target.upper
    order = np.argsort(x, axis=axis, kind="stable")

    def sorted_(values: Matrix) -> Matrix:
        return np.take_along_axis(values, order, axis) if axis is not None else values.ravel()[order]

    across = axis or 0
    for sign in (1, -1):
        low, high = (sorted_(lower), sorted_(upper)) if sign > 0 else (-sorted_(upper), -sorted_(lower))
        reached = np.maximum.accumulate(low, axis=across)
        if (reached > high + STEPS * UNIT32 * np.abs(sorted_(target.middle))).any():
            continue
        y = sign * sorted_(target.middle)
        return sign if not sure or _would_break(sorted_(x), y, high - low, across) else 0
    return 0


def _would_break(x: np.ndarray, y: np.ndarray, open_: np.ndarray, axis: int) -> bool:
    """Does what is left of a straight line through sorted scores break their order, dealt out anew?"""
    centred = x - x.mean(axis, keepdims=True)
    variance = (centred**2).sum(axis, keepdims=True)
    slope = (centred * y).sum(axis, keepdims=True) / np.where(variance > 0, variance, 1.0)
    line = y.mean(axis, keepdims=True) + slope * centred
    random = np.random.default_rng(0)
    dealt = random.permuted((y - line).ravel()).reshape(y.shape)
    half_precision = y * random.standard_normal(y.shape) * HALF_PRECISION
    for noisy in (line + dealt, y + half_precision):
        falls = -np.diff(noisy, axis=axis)
        # By Poisson's law none occurs by chance in exp(−expected).
        if (falls > np.delete(open_, 0, axis)).sum() < SURE * np.log(2):
            return False
    return True


def _order_words(group: Group, sign: int) -> str:
    where = {"run": "", "code": " within every code", "note": " within every note"}[group]
    return f"some {'increasing' if sign > 0 else 'decreasing'} function: the order of all scores{where} is {'kept' if sign > 0 else 'reversed'} exactly"


def _named(
    side: Side, form: Form, target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray
) -> ScoreMap:
    """The map under the name that people have for it."""
    namer = {"run": _name_of_run, "code": _name_of_code, "note": _name_of_note}[form.group]
    kind, words = namer(target, source, slope, offset)
    return ScoreMap(side, form.group, kind, words, slope.ravel(), offset.ravel())


def _alike(values: np.ndarray, wanted: np.ndarray | float, target: Interval) -> bool:
    """Equal as far as fitted parameters tell: to five digits, or to the scores' own rounding."""
    width = target.width[np.isfinite(target.width)]
    near = ALIKE * np.maximum(np.abs(wanted), np.ptp(target.middle)) + (
        2 * float(np.median(width)) if width.size else 0.0
    )
    return bool((np.abs(values - wanted) <= near).all())


def _name_of_run(
    target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray
) -> tuple[str, str]:
    a, b = float(slope.item()), float(offset.item())
    functions = target.function, source.function
    no_offset, is_one = _alike(offset, 0.0, target), abs(a - 1) <= ALIKE
    if functions == (IDENTITY, IDENTITY):
        if no_offset and abs(a + 1) <= ALIKE:
            return "negation", "the scores with the other sign"
        if no_offset:
            return "factor", f"every score times {a:.6g}, which is a temperature of {1 / a:.6g}"
        if is_one:
            return "shift", f"{b:+.6g} on every score"
        known = _scaled(target, None)
        if known is not None:
            return f"{known[0]}_run", f"all scores brought to {known[1]}"
        return "affine", f"every score times {a:.6g}, {b:+.6g}"
    if functions == (IDENTITY, SIGMOID):
        if is_one and no_offset:
            inside = source.middle.min() >= 0.5 and source.middle.max() <= expit(
                1.0
            )  # the sigmoid's own, of [0, 1]
            return ("double_sigmoid" if inside else "sigmoid"), "the sigmoid of every score"
        if no_offset:
            return ("percent" if abs(a - 100) <= 100 * ALIKE else "factor_of_probability"), (
                f"the probability times {a:.6g}"
            )
        if abs(a + 1) <= ALIKE and _alike(offset, 1.0, target):
            return "complement", "one less the probability"
        return "affine_of_probability", f"the probability times {a:.6g}, {b:+.6g}"
    if functions == (IDENTITY, LOG_SIGMOID) and is_one and no_offset:
        return "log_probability", "the logarithm of the probability (log sigmoid)"
    if (
        functions in ((LOG, LOG_SIGMOID), (LOG_SIGMOID, LOG_SIGMOID), (LOG_SIGMOID, LOG), (LOG, LOG))
        and no_offset
    ):
        if is_one and target.function is not source.function:
            if source.function is LOG_SIGMOID:
                return "sigmoid", "the sigmoid of every score"
            return "logit", "the logit of every score"
        return "power", f"the probability to the power of {a:.6g}"
    if functions == (LOG, IDENTITY) and is_one and no_offset:
        return "odds", "the exponential of every score (the odds)"
    if functions == (IDENTITY, LOG) and is_one and no_offset:
        return "log", "the logarithm of every score"
    if functions == (IDENTITY, LOGIT) and is_one and no_offset:
        return "logit", "the logit of every score"
    told = "" if no_offset else f" {b:+.6g}"
    return "formula", f"{functions[0].name} = {a:.6g} × {functions[1].name}{told}"


def _scaled(target: Interval, axis: int | None) -> tuple[str, str] | None:
    """How scores were brought to a common scale, if each group has 0 and 1 as its ends, or as mean and spread."""
    y = target.middle
    if _alike(y.min(axis), 0.0, target) and _alike(y.max(axis), 1.0, target):
        return "min_max", "0 to 1"
    if _alike(y.mean(axis), 0.0, target) and (
        _alike(y.std(axis), 1.0, target) or _alike(y.std(axis, ddof=1), 1.0, target)
    ):
        return "standardised", "mean 0 and standard deviation 1"
    return None


def _log_sums(scores: Matrix, axis: int) -> np.ndarray:
    """What softmax takes off: the negative logarithm of the sum of exponentials."""
    return -np.asarray(logsumexp(scores, axis=axis, keepdims=True))


def _name_of_note(
    target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray
) -> tuple[str, str]:
    functions, x, y = (target.function, source.function), source.middle, target.middle
    scaled = slope * x
    temperature = "" if _alike(slope, 1.0, target) else f" at a temperature of {1 / slope.flat[0]:.6g}"
    if source.function is IDENTITY and slope.size == 1:
        if target.function is not IDENTITY:
            if _alike(offset, _log_sums(scaled, 1), target):
                return "softmax", f"softmax over the codes of every note{temperature}"
            return (
                "factor_of_exponential",
                "the exponential of every score times a number of every note's own",
            )
        if _alike(offset, _log_sums(scaled, 1), target):
            return "log_softmax", f"log-softmax over the codes of every note{temperature}"
        if not temperature and _alike(y.mean(axis=1), 0.0, target):
            return "centred_note", "every note's mean taken off its scores"
        if not temperature and _alike(y.max(axis=1), 0.0, target):
            return "less_largest", "every note's largest score taken off its scores"
        return "note_shift", f"a number of every note's own on all its scores{temperature}"
    words = "probability" if source.function in (SIGMOID, LOG_SIGMOID) else "score"
    logs = functions in ((LOG, LOG_SIGMOID), (LOG_SIGMOID, LOG_SIGMOID), (LOG, LOG)) and not temperature
    if logs or (target.function is IDENTITY and _alike(offset, 0.0, target)):
        written = np.exp(y) if logs else y
        if words == "probability" and np.allclose(written.sum(axis=1), 1.0, atol=SUMS):
            return "normalised_note", "the probabilities divided by their sum in every note"
        if np.allclose((written**2).sum(axis=1), 1.0, atol=SUMS):
            return "unit_length_note", "every note's scores divided by their length"
        return "note_factor", f"every {words} times a number of every note's own"
    known = _scaled(target, 1) if target.function is IDENTITY else None
    if known is not None:
        return f"{known[0]}_note", f"every note's {words} brought to {known[1]}"
    return "note_affine", f"a factor and a shift of every note's own on every {words}"


def _name_of_code(
    target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray
) -> tuple[str, str]:
    functions = target.function, source.function
    words = {IDENTITY: "score", SIGMOID: "probability"}.get(source.function, source.function.name)
    if functions in ((LOG, IDENTITY), (LOG_SIGMOID, IDENTITY)) and _alike(
        offset, _log_sums(slope * source.middle, 0), target
    ):
        return "softmax_over_notes", "softmax over the notes of every code, where codes were meant"
    if functions == (IDENTITY, IDENTITY) and _alike(slope, 1.0, target):
        return (
            "code_shift",
            f"a number of every code's own on all its scores ({offset.min():+.4g} to {offset.max():+.4g})",
        )
    if target.function is IDENTITY and _alike(offset, 0.0, target):
        return (
            "code_factor",
            f"every {words} times a number of every code's own ({slope.min():.4g} to {slope.max():.4g})",
        )
    known = _scaled(target, 0) if target.function is IDENTITY else None
    if known is not None:
        return f"{known[0]}_code", f"every code's {words} brought to {known[1]}"
    return "code_affine", f"a factor and a shift of every code's own on every {words}"


# Fitted, but no script's own way of writing scores: the other run as the map of this one may have a name.
NAMELESS = (
    "affine",
    "formula",
    "note_shift",
    "note_factor",
    "note_affine",
    "code_affine",
    "factor_of_exponential",
)
IN_THE_HEAD = (
    "code_shift",
    "code_factor",
    "code_affine",
)  # an output layer with other numbers leaves these too


def _finding(found: ScoreMap, examination: Examination) -> Finding:
    pair = examination.logits
    other = "reference" if found.side == "candidate" else "candidate"
    cause = {
        "sigmoid": "probabilities_as_logits",
        "logit": "probabilities_as_logits",
        "double_sigmoid": "double_sigmoid",
        # No formula: that every code's ranking is kept is all that is shown.
        "order_within_code": "calibration_shift",
    }.get(found.kind, "score_map")
    meaning = ""
    if cause == "calibration_shift":
        meaning = (
            "Within every code all notes keep their ranking, so that thresholds of every code's own give the same decisions: "
            "calibrated anew, or other weights whose change moves no two scores past each other."
        )
    if cause == "score_map":
        meaning = f"The {found.side}'s scores are the {other}'s, converted: {found.words}."
        if found.kind in IN_THE_HEAD:
            meaning += " Either they were converted when saved, or the output layer holds other numbers."
    parameters = {
        name: None
        if values is None
        else values
        if values.size == 1
        else [values.min(), np.median(values), values.max()]
        for name, values in (("slope", found.slope), ("offset", found.offset))
    }
    return confirmed(
        cause,
        f"This gives all {pair.candidate.size:,} of the {found.side}'s scores from the {other}'s, within what their "
        "storage leaves open.",
        meaning=meaning,
        evidence={
            "side": found.side,
            "kind": found.kind,
            "group": found.group,
            "words": found.words,
            **parameters,
        },
        view=scatter(
            "Scores as they stand", "reference", "candidate", "cells", pair.reference, pair.candidate
        ),
    )
