"""One file holds the other's scores, rounded: decimals, significant digits, half precision, stand-ins for a stored 0 or 1."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool
from scipy.special import expit, logit

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix, Pair
from shifamind_core.diagnosis.exact.formats import BINARY, SIDES, STEPS, UNIT32, Side, Stored, read
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed, judged
from shifamind_core.diagnosis.views import EvidenceTable
from shifamind_core.runs.probability import is_stand_in

# Half precision may also be the arithmetic's. BF16 and FP16 arithmetic left 23 to 30 % of the demo's logits other than the
# rounded FP32 ones (BF16 autocast on an H200; autocast and weights of both formats on a CPU); noise a hundredth of a step
# wide leaves 1 %.
OTHER_THAN_ROUNDED = 0.01
Mode = Literal["nearest", "cut off", "down"]
MODES: tuple[Mode, ...] = ("nearest", "cut off", "down")
HOW: dict[Mode, str] = {"nearest": "rounded to", "cut off": "cut off after", "down": "rounded down to"}
SAMPLE = 200  # notes that decide whether the whole is worth looking at


@dataclass(frozen=True, eq=False)
class Rounded:
    """One run's scores held against the other's rounded to its format.

    Attributes
    ----------
    side : whose file was rounded
    stored : Stored
    mode : rounded to the nearest, digits cut off (towards zero), or rounded down
    excess : float64 [documents, codes]
        How far each value lies beyond what rounding the other's leaves open, with its sign; 0 where rounding gives it.
    beyond : bool [documents, codes]
        Cells at an end of the stored values, beyond which the other run reaches.
    """

    side: Side
    stored: Stored
    mode: Mode
    excess: Matrix
    beyond: Bool[np.ndarray, "documents codes"]

    @property
    def exact(self) -> bool:
        """Does rounding give every cell?"""
        return not self.excess.any()

    @property
    def given(self) -> float:
        """Share of the cells that rounding the other run gives."""
        return float((self.excess == 0).mean())


def stored_precision(examination: Examination) -> Examination:
    """Confirm that rounding one run to the other's format gives it cell by cell, and undo that.

    A value that lies on the border between two of the format's numbers, as far as FP32 tells, may fall to either side:
    formats break ties to even, away from zero or by their binary neighbours.
    """
    pair = examination.logits
    if examination.explained or examination.finding("stored_precision") is not None:
        return examination  # what it left was not stored: it is below a step of what was
    runs = examination.evidence.candidate, examination.evidence.reference
    left_open = None if pair.tolerance is None else np.isinf(pair.tolerance)
    stored = [
        read(logits, bool(run.manifest.logits_from_probabilities), left_open)
        for logits, run in zip((pair.candidate, pair.reference), runs, strict=True)
    ]
    for place, side in enumerate(SIDES):
        if not stored[place].coarse or stored[0].same_grid(stored[1]):
            continue
        found = _rounded(pair, side, stored[place], stored[1 - place])
        if found is not None and (found.exact or _rounding_and_noise(found)):
            return examination.found(_undone(pair, found), _finding(found, pair))
    return examination


def _rounded(pair: Pair, side: Side, stored: Stored, other: Stored) -> Rounded | None:
    """The run against the other one rounded to its format, in the way that a sample bears out; `None` where it bears out none."""
    few = np.arange(0, pair.documents, max(1, pair.documents // SAMPLE))
    unit = stored.format.unit(stored.values[few])
    tried = {mode: _excess(stored, other, mode, few)[0] for mode in MODES}
    mode = max(MODES, key=lambda mode: (tried[mode] == 0).mean())
    if (np.abs(tried[mode]) <= unit).mean() < 1 - OTHER_THAN_ROUNDED:
        return None
    excess, beyond = _excess(stored, other, mode)
    if pair.tolerance is not None:
        excess[np.isinf(pair.tolerance)] = 0.0
    return Rounded(side, stored, mode, excess, beyond)


def given_by_rounding(stored: Stored, other: Stored) -> Bool[np.ndarray, "documents codes"]:
    """Cells that rounding the other run gives, to the nearest number of the format."""
    return _excess(stored, other, "nearest")[0] == 0


def _excess(
    stored: Stored, other: Stored, mode: Mode, notes: np.ndarray | slice = slice(None)
) -> tuple[Matrix, Bool[np.ndarray, "documents codes"]]:
    """By how much values lie beyond what rounding leaves open, and which of them stand for all beyond an end."""
    values, logits, own = stored.values[notes], stored.logits[notes], other.logits[notes]
    on_scale = stored.scale == "probabilities"
    wanted = expit(own) if on_scale else own
    half = stored.format.unit(np.maximum(np.abs(values), np.abs(wanted))) / 2
    middle = values + half * {"nearest": 0.0, "cut off": np.sign(values), "down": 1.0}[mode]
    allowed = half + _part(stored, notes) + _part_on(stored, other, wanted, notes)
    if mode == "cut off":  # a zero may come from either sign
        allowed = np.where(values == 0, 2 * allowed, allowed)
    difference = middle - wanted
    excess = np.sign(difference) * np.maximum(np.abs(difference) - allowed, 0.0)
    low, high = (np.zeros(values.shape, bool) if end is None else logits == end for end in _ends(stored))
    one_sided = (low & (excess > 0)) | (high & (excess < 0))
    # A stored 0 or 1 leaves half a unit open, however near to it the stand-in for it lies.
    step = np.where(low, stored.format.unit(np.full(values.shape, stored.format.smallest)), half)
    near = (low | high) & (np.abs(difference) <= step + allowed)
    known = (low & _known(stored, stored.lowest)) | (high & _known(stored, stored.highest))
    return np.where(one_sided | near, 0.0, excess), one_sided | known


def _known(stored: Stored, end: float | None) -> bool:
    return end is not None and is_stand_in(end, stored.moved)


def _ends(stored: Stored) -> tuple[float | None, float | None]:
    return stored.lowest, stored.highest


def _part(stored: Stored, notes: np.ndarray | slice) -> Matrix:
    """What the numbers leave open that hold the rounded values, and the arithmetic before they were rounded."""
    return stored.slack(notes) + STEPS * UNIT32 * np.abs(stored.values[notes]) * (
        stored.scale == "probabilities"
    )


def _part_on(stored: Stored, other: Stored, wanted: Matrix, notes: np.ndarray | slice) -> Matrix:
    """The other run's own rounding and slack, on the scale of the rounded values."""
    if other.scale == stored.scale:
        half = other.half(notes) if other.coarse else 0.0
        return half + other.slack(notes)
    if stored.scale == "probabilities":
        slope = wanted * (1 - wanted)
        half = other.half(notes) if other.coarse else 0.0
        return (half + other.slack(notes)) * slope
    probability = other.values[notes]
    return (other.half(notes) + other.slack(notes)) / np.maximum(probability * (1 - probability), 1e-300)


def _rounding_and_noise(found: Rounded) -> bool:
    """Is what rounding does not give no more than noise below a step of the format?"""
    unit = found.stored.format.unit(found.stored.values)
    if found.stored.format.kind in BINARY:
        return found.given >= 1 - OTHER_THAN_ROUNDED
    # No arithmetic gives decimals; one step off is what noise below a step leaves.
    return bool((np.abs(found.excess) <= unit).all())


def _undone(pair: Pair, found: Rounded) -> Pair:
    """The rounded run brought to the other one; what rounding does not give stays."""
    other = pair.reference if found.side == "candidate" else pair.candidate
    brought = other
    left = found.excess != 0
    if left.any():
        brought = other.copy()
        if found.stored.scale == "logits":
            brought[left] += found.excess[left]
        else:
            moved = expit(other[left]) + found.excess[left]
            brought[left] = logit(np.clip(moved, UNIT32, 1 - UNIT32))
    return pair.changed(**{found.side: brought})


def _finding(found: Rounded, pair: Pair) -> Finding:
    stored, cells = found.stored, found.excess.size
    other = "reference" if found.side == "candidate" else "candidate"
    what = "scores" if stored.scale == "logits" else "probabilities"
    how = f"{HOW[found.mode]} {stored.format.words}"
    beyond = int(found.beyond.sum())
    ends = " and ".join(f"{end:+.4g}" for end in _ends(stored) if end is not None) if beyond else ""
    told = (
        f" {beyond:,} score{'s stand' if beyond > 1 else ' stands'} for a stored 0 or 1, or for all beyond where scores were cut off ({ends})."
        if beyond
        else ""
    )
    evidence = {
        "side": found.side,
        "format": stored.format.words,
        "scale": stored.scale,
        "decimals": stored.format.places if stored.format.kind == "decimals" else None,
        "mode": found.mode,
        "cells": cells,
        "cells_given": int((found.excess == 0).sum()),
        "stand_ins": beyond,
        "largest_left": float(np.abs(found.excess).max()),
    }
    table = _table(pair, found)
    meaning = f"The {found.side}'s file holds the {other}'s {what}, {how}: how it was saved is enough to make the difference. What changed a score by less than a step would not show."
    if found.exact:
        which = f"all {cells - beyond:,} others" if beyond else f"all {cells:,}"
        numbers = f"The {other}'s {what}, {how}, give {which} of the {found.side}'s.{told}"
        return confirmed("stored_precision", numbers, meaning=meaning, evidence=evidence, view=table)
    numbers = (
        f"The {other}'s {what}, {how}, give {found.given:.2%} of the {found.side}'s {cells:,}; the others are at most one step "
        f"of the format off, as noise below a step leaves them.{told}"
    )
    return judged(
        "stored_precision", found.given, numbers, found.given, meaning=meaning, evidence=evidence, view=table
    )


def _table(pair: Pair, found: Rounded) -> EvidenceTable:
    """The cells in which the two runs differ most."""
    worst = np.argsort(-np.abs(pair.candidate - pair.reference), axis=None)[:8]
    rows, codes = np.unravel_index(worst, pair.candidate.shape)
    names = ("note", "code", "candidate", "reference")
    return EvidenceTable(
        f"Scores that differ most, as logits (the {found.side}'s are {found.stored.format.words})",
        names,
        tuple(
            (int(row), int(code), float(pair.candidate[row, code]), float(pair.reference[row, code]))
            for row, code in zip(rows, codes, strict=True)
        ),
    )
