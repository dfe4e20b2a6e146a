"""Scores that went through a sigmoid too many, told by where they lie and shown by doing the same to the other run's."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from shifamind_core.diagnosis.evidence.aligned_logits import FLAT, Matrix, Pair
from shifamind_core.diagnosis.exact.formats import SIDES, STEPS, UNIT32, UNIT64, Side, Stored, plain, read
from shifamind_core.diagnosis.exact.score_map import find_map
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed, judged, ruled_out
from shifamind_core.diagnosis.views import scatter

ENOUGH = 1500  # notes that tell whether another map holds
SAMPLE = 100_000  # cells whose distributions are compared where scores cannot be compared cell by cell


@dataclass(frozen=True)
class Squashing:
    """A way in which logits become bounded scores: the bounds, there, and back from strictly inside them."""

    name: str
    low: float
    high: float
    forward: Callable[[np.ndarray], np.ndarray]
    backward: Callable[[np.ndarray], np.ndarray]

    def back(self, scores: np.ndarray) -> np.ndarray:
        """Logits of scores, those at or beyond a bound taken as the nearest number inside."""
        return self.backward(np.clip(scores, self.low + 1e-300, self.high * (1 - UNIT64)))


TWICE = Squashing(
    "sigmoid twice", 0.5, float(expit(1.0)), lambda x: expit(expit(x)), lambda y: logit(logit(y).clip(1e-300))
)
ONCE = Squashing("sigmoid", 0.0, 1.0, expit, logit)
PERCENT = Squashing("percent", 0.0, 100.0, lambda x: 100 * expit(x), lambda y: logit(y / 100))


def sigmoids(examination: Examination) -> Examination:
    """Take sigmoids (and percent) off a run whose scores all went through one.

    Expects finite scores, rows and columns in any order: they are compared cell by cell, and where that fails sorted, which no
    order changes. Leaves that run as logits; equal to the other's where the match is exact and cell by cell. Where both
    runs reach beyond [0, 1], neither was squashed, and that is ruled out.
    """
    pair = examination.logits
    if examination.explained:
        return examination
    bounds = [_bounds(values) for values in (pair.candidate, pair.reference)]
    if all(low < 0 or high > 1 for low, high in bounds):
        examination = examination.noted(*_ruled_out(bounds))
    for side, own, other in zip(SIDES, bounds, bounds[::-1], strict=True):
        for way in (TWICE, ONCE, PERCENT):
            if _inside(way, own) and not _inside(way, other) and not (way is PERCENT and own[1] <= 1):
                undone = _undo(examination, side, way)
                if undone is not None:
                    return undone
    return examination


def _bounds(values: Matrix) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    # Scores that never vary went through nothing that can be told.
    return (low, high) if high - low > FLAT else (-np.inf, np.inf)


def _inside(way: Squashing, bounds: tuple[float, float]) -> bool:
    slack = way.high * 2.0**-8  # half precision may round a score beyond its bound: half a unit of BF16
    zero = 0.0 if way.low == 0 else slack
    return way.low - zero <= bounds[0] and bounds[1] <= way.high + (0.0 if way is ONCE else slack)


def _ruled_out(bounds: list[tuple[float, float]]) -> list[Finding]:
    reach = " and ".join(
        f"the {side}'s from {low:.3g} to {high:.3g}" for side, (low, high) in zip(SIDES, bounds, strict=True)
    )
    told = f"Scores reach beyond [0, 1], where no sigmoid puts any: {reach}."
    low, high = bounds[0]
    return [
        ruled_out(cause, told, lowest=low, highest=high)
        for cause in ("probabilities_as_logits", "double_sigmoid")
    ]


@dataclass(frozen=True, eq=False)
class Squashed:
    """One run's scores as what a squashing made of logits.

    Attributes
    ----------
    side : whose
    way : Squashing
    marked : the file called them probabilities, so that they were through one sigmoid more than `way` says
    stored : Stored
    exact : squashing the other run's scores gives them within what is stored
    in_place : cell by cell, and not only sorted
    """

    side: Side
    way: Squashing
    marked: bool
    stored: Stored
    exact: bool
    in_place: bool

    @property
    def cause(self) -> str:
        """Its name."""
        if self.way is PERCENT:
            return "score_map"
        return "double_sigmoid" if self.marked or self.way is TWICE else "probabilities_as_logits"


def _undo(examination: Examination, side: Side, way: Squashing) -> Examination | None:
    """The examination with that squashing taken off, if doing so brings the runs together."""
    pair = examination.logits
    runs = examination.evidence.candidate, examination.evidence.reference
    own, other = (pair.candidate, pair.reference) if side == "candidate" else (pair.reference, pair.candidate)
    marked = bool(runs[SIDES.index(side)].manifest.logits_from_probabilities)
    stored = read(own, from_probabilities=True) if marked else plain(own)
    others = read(other, bool(runs[1 - SIDES.index(side)].manifest.logits_from_probabilities))
    in_place = _gives(way, stored, others, pair.tolerance)
    exact = in_place or _gives(way, _ordered(stored), _ordered(others))
    back, tolerance = _backward(stored, way)
    share = 1.0 if exact else _closer(own, back, other)
    # An exact map of another kind may lie in the same bounds: softmax, or scores brought to [0, 1].
    if not exact:
        other_map = find_map(replace(examination, logits=pair.sampled(ENOUGH)))
        if share <= 0 or _sums_alike(stored) or (other_map is not None and other_map.has_name):
            return None
    after = pair.changed(
        **{
            side: other if in_place else back,
            "tolerance": tolerance + (0.0 if pair.tolerance is None else pair.tolerance),
        }
    )
    return examination.found(
        after, _finding(Squashed(side, way, marked, stored, exact, in_place), pair, after, share)
    )


def _ordered(stored: Stored) -> Stored:
    """The same with all cells in ascending order."""
    order = np.argsort(stored.logits, axis=None)
    return replace(
        stored, logits=stored.logits.ravel()[order][:, None], values=stored.values.ravel()[order][:, None]
    )


def _gives(way: Squashing, stored: Stored, other: Stored, tolerance: Matrix | None = None) -> bool:
    """Does squashing the other run's scores give these, within what both are stored in?"""
    few = slice(None, None, max(1, len(stored.logits) // 100))
    return bool(
        _near(way, stored, other, tolerance, few).all() and _near(way, stored, other, tolerance).all()
    )


def _near(
    way: Squashing, stored: Stored, other: Stored, tolerance: Matrix | None, notes: slice = slice(None)
) -> np.ndarray:
    least, most = (stored.on_scale(way.forward(end)) for end in other.bounds(notes))
    values = stored.values[notes]
    allowed = stored.half(notes) + stored.slack(notes) + STEPS * UNIT32 * np.abs(values)
    near = (least - allowed <= values) & (values <= most + allowed)
    return near if tolerance is None else near | np.isinf(tolerance[notes])


def _backward(stored: Stored, way: Squashing) -> tuple[Matrix, Matrix]:
    """Logits before the squashing, and how much each leaves open at the precision it was stored in."""
    low, high = stored.bounds()
    back = way.back(stored.logits)
    tolerance = np.maximum(way.back(high) - back, back - way.back(low))
    # A stored bound says only that the logit was beyond what the format holds.
    return back, np.where((low <= way.low) | (high >= way.high), np.inf, tolerance)


def _closer(own: Matrix, back: Matrix, other: Matrix) -> float:
    """Share of the squared difference between the two runs' sorted scores that is gone: no order of rows or columns acts on it."""
    step = max(1, own.size // SAMPLE)
    was, now, wanted = (np.sort(values.ravel()[::step]) for values in (own, back, other))
    return float(1 - ((now - wanted) ** 2).sum() / max(float(((was - wanted) ** 2).sum()), 1e-300))


def _sums_alike(stored: Stored) -> bool:
    """Do every note's scores add up to the same number, as far as their rounding tells? So softmax does."""
    open_ = (stored.half() + stored.slack() + STEPS * UNIT32 * np.abs(stored.values)).sum(axis=1)
    return float(np.ptp(stored.values.sum(axis=1))) <= 2 * float(open_.max())


def _finding(found: Squashed, before: Pair, after: Pair, share: float) -> Finding:
    values = before.candidate if found.side == "candidate" else before.reference
    low, high = float(values.min()), float(values.max())
    told = f"Every score of the {found.side} lies between {low:.4g} and {high:.4g}. "
    how = {
        TWICE.name: "a sigmoid taken twice",
        ONCE.name: "a sigmoid",
        PERCENT.name: "a sigmoid, times 100,",
    }[found.way.name]
    other = "reference" if found.side == "candidate" else "candidate"
    if found.in_place:
        told += f"The {other}'s scores after {how} are these, all {values.size:,} of them, to the last digit stored."
    elif found.exact:
        told += f"The {other}'s scores after {how}, both sorted, are these to the last digit stored; rows or columns stand elsewhere."
    else:
        told += f"Undoing {how.rstrip(',')} takes {share:.1%} of the difference between the two distributions away."
    evidence = {
        "side": found.side,
        "lowest": low,
        "highest": high,
        "sigmoids": 2 if found.way is TWICE else 1,
        "marked_as_probabilities": found.marked,
        "format": found.stored.format.words,
        "in_place": found.in_place,
        "kind": found.way.name,
        "left": after.size,
    }
    view = scatter("Scores as stored", "reference", "candidate", "cells", before.reference, before.candidate)
    meaning = PERCENT_MEANING.format(side=found.side) if found.way is PERCENT else ""
    if found.exact:
        return confirmed(found.cause, told, meaning=meaning, evidence=evidence, view=view)
    return judged(found.cause, share, told, share, meaning=meaning, evidence=evidence, view=view)


PERCENT_MEANING = "The {side} holds probabilities in percent, 0 to 100: the model is the same, and a threshold of 0.5 on such scores means nothing."
