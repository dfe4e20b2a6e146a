"""Whether one run may tune the threshold of another: it must score the same codes, on other notes."""

import hashlib
import math
from dataclasses import replace
from typing import TypeAlias, TypeVar

import numpy as np
from jaxtyping import Int64
from scipy.special import entr

from shifamind_core.analysis.alignment import match_codes
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.oddities import FEWEST_CODES, alike, constant_rows, spread_of
from shifamind_core.analysis.row_matching import match_rows
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run

T = TypeVar("T")
Rows: TypeAlias = Int64[np.ndarray, " shared"]
NEAR_CELLS = 4_000_000  # scores of a run up to which rows are compared one with every other: some seconds
CHANCE_BITS = 64  # two label matrices that say this much are equal by chance once in 2^64


def require_validation(run: Run, validation: Run) -> int:
    """How many notes of `run` the validation run holds too: 0 where the threshold is tuned on other notes.

    Notes are the same if they have the same document id and the same labels, or, where a run has no ids, the same labels
    and equal logits (of runs that are not very large also logits that are nearest by far, as another machine's or a
    rounded copy's are); all are, if both runs have the same labels in the same order.

    Raises
    ------
    ShifamindError
        The validation run cannot be scored, is over other codes, or is the run itself, or a copy of it: no threshold is
        ever tuned on the run that is scored.
    """
    required_labels(validation)
    refuse_non_finite(validation)
    partner = _in_the_same_columns(run, validation)
    if run.labels is None:
        return 0
    rows, partners = _shared(run, partner)
    same = validation.digest == run.digest or (
        len(rows) == run.documents
        and bool(alike(run.logits[rows], partner.logits[partners], spread_of(run.logits)).all())
    )
    if same:
        raise ShifamindError(
            f"{validation.name} cannot tune {run.name}: it holds the same scores of the same {run.documents:,} notes, so that "
            "the threshold would be tuned on the run that is scored. Give the run over the validation split."
        )
    return len(rows)


def _in_the_same_columns(run: Run, validation: Run) -> Run:
    """The validation run, its codes in the order of the run's."""
    columns = run.logits.shape[1], validation.logits.shape[1]
    if columns[0] != columns[1] and (run.codes is None or validation.codes is None):
        raise ShifamindError(
            f"{validation.name} cannot tune {run.name}: it has {columns[1]} codes, not {columns[0]}. "
            "Export both splits with the same codes."
        )
    codes = match_codes(run, validation)
    if codes.dropped != (0, 0):
        assert run.codes is not None and validation.codes is not None
        unlike = sorted(
            {*run.codes} - {run.codes[i] for i in codes.candidate}
            | {*validation.codes} - {validation.codes[i] for i in codes.reference}
        )
        raise ShifamindError(
            f"{validation.name} cannot tune {run.name}: {len(unlike)} codes are in one of them only, e.g. "
            f"{unlike[0]!r}. Export both splits with the same codes."
        )
    return replace(validation.select(columns=codes.reference), codes=run.codes)


def _shared(run: Run, validation: Run) -> tuple[Rows, Rows]:
    """Rows of the same notes, in either run."""
    if _same_labels(run, validation):
        return np.arange(run.documents), np.arange(run.documents)
    if run.document_ids is not None and validation.document_ids is not None:
        rows, partners = _held(run.document_ids.tolist(), validation.document_ids.tolist())
    elif run.logits.shape[1] < FEWEST_CODES:
        return np.arange(0), np.arange(0)  # rows of few codes may well be equal by chance
    elif max(run.logits.size, validation.logits.size) <= NEAR_CELLS:
        partner = match_rows(run.logits, validation.logits, in_order=False).partner
        rows = np.flatnonzero(partner >= 0)
        partners = partner[rows]
    else:
        coarser = min(run.logits.dtype, validation.logits.dtype, key=lambda dtype: dtype.itemsize)
        rows, partners = _held(_digests(run.logits, coarser), _digests(validation.logits, coarser))
        notes = ~np.isin(rows, constant_rows(run))
        rows, partners = rows[notes], partners[notes]
    assert run.labels is not None and validation.labels is not None
    same = (run.labels[rows] == validation.labels[partners]).all(axis=1)
    return rows[same], partners[same]


def _same_labels(run: Run, validation: Run) -> bool:
    """Equal label by label, and too many to be equal by chance: labels drawn at each code's own rate."""
    if run.labels is None or validation.labels is None or not np.array_equal(run.labels, validation.labels):
        return False
    rate = run.labels.mean(axis=0)
    bits = run.documents * float((entr(rate) + entr(1 - rate)).sum()) / math.log(2)
    return bits >= CHANCE_BITS


def _digests(logits: np.ndarray, dtype: np.dtype) -> list[bytes]:
    """Of each note's scores in this dtype: equal for equal rows."""
    return [hashlib.blake2b(row.astype(dtype).tobytes(), digest_size=16).digest() for row in logits]


def _held(ours: list[T], theirs: list[T]) -> tuple[Rows, Rows]:
    """Positions of what is in both."""
    place = {one: position for position, one in reversed([*enumerate(theirs)])}
    rows = np.array([position for position, one in enumerate(ours) if one in place], np.int64)
    return rows, np.array([place[ours[row]] for row in rows], np.int64)
