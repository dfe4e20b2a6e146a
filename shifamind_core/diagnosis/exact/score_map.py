"""One run's scores as an exact function of the other's: per run, per code or per note; named for what it is.

A map is ``g(target) = slope · h(source) + offset`` with g and h from a few functions, and slope and offset of the whole
run, of a code or of a note; or, without a formula, any function that keeps (or reverses) the order of scores. It holds
where every score lies in the interval that rounding leaves open, and not by chance.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Bool

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix
from shifamind_core.diagnosis.exact.formats import SIDES, STEPS, SURE, UNIT32, Stored, read
from shifamind_core.diagnosis.exact.map_fit import (
    AXIS,
    FUNCTIONS,
    IDENTITY,
    LOG_SIGMOID,
    SIGMOID,
    SIMPLER,
    Function,
    Group,
    Interval,
    affine,
    interval_of,
)
from shifamind_core.diagnosis.exact.map_names import IN_THE_HEAD, ScoreMap, named, order_words
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed
from shifamind_core.diagnosis.views import scatter

SAMPLES = (64, 1500)  # notes on which a map must hold before it is looked for in all
HALF_PRECISION = 2.0**-11  # unit roundoff of FP16 and TF32


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
                fitted = None if ends[0] is None or ends[1] is None else affine(form, ends[0], ends[1])
                if fitted is None:
                    break
            if fitted is None:
                continue
            own, other = views[-1].interval(place, target), views[-1].interval(1 - place, source)
            assert own is not None and other is not None
            if not _takes_away(own, other, *fitted):
                continue
            map_ = named(SIDES[place], form, own, other, *fitted)
            if map_.has_name:
                return map_
            found = found or map_
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
            self._known[key] = interval_of(function, self.stored[place], self.left_open)
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
        # Of codes it is said that thresholds of their own give the same decisions: no two scores may have become one.
        if sign and group == "code":
            sign *= (
                _keeps_order(
                    group, *(views[-1].interval(at, IDENTITY) for at in (1 - place, place)), sure=False
                )
                == sign
            )
        if sign:
            return ScoreMap(SIDES[place], group, f"order_within_{group}", order_words(group, sign))
    return None


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
