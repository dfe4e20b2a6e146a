"""Whether one run may tune the threshold of another: it must score the same codes, on other notes."""

import math
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64
from scipy.special import entr

from shifamind_core.analysis.alignment import match_codes
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.oddities import FEWEST_CODES, alike, constant_rows, spread_of
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run

Rows: TypeAlias = Int64[np.ndarray, " shared"]
CHANCE_BITS = 64  # two label matrices that say this much are equal by chance once in 2^64


def require_validation(run: Run, validation: Run) -> int:
    """How many notes of `run` the validation run holds too: 0 where the threshold is tuned on other notes.

    Notes are the same if they have the same document id and the same labels, or, where a run has no ids, the same
    logits and labels to the last bit; all are, if both runs have the same labels in the same order.

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
        return _held(_rows(run, "document_ids"), _rows(validation, "document_ids"))
    if run.logits.shape[1] < FEWEST_CODES:
        return np.arange(0), np.arange(0)  # rows of few codes may well be equal by chance
    coarser = min(run.logits.dtype, validation.logits.dtype, key=lambda dtype: dtype.itemsize)
    ours, theirs = (replace(one, logits=one.logits.astype(coarser)) for one in (run, validation))
    rows, partners = _held(_rows(ours, "logits"), _rows(theirs, "logits"))
    notes = ~np.isin(rows, constant_rows(run))
    return rows[notes], partners[notes]


def _same_labels(run: Run, validation: Run) -> bool:
    """Equal label by label, and too many to be equal by chance: labels drawn at each code's own rate."""
    if run.labels is None or validation.labels is None or not np.array_equal(run.labels, validation.labels):
        return False
    rate = run.labels.mean(axis=0)
    bits = run.documents * float((entr(rate) + entr(1 - rate)).sum()) / math.log(2)
    return bits >= CHANCE_BITS


def _rows(run: Run, identity: str) -> list[bytes]:
    """Each note's identity and labels as one value."""
    assert run.labels is not None
    return [
        one.tobytes() + labels.tobytes()
        for one, labels in zip(getattr(run, identity), run.labels, strict=True)
    ]


def _held(ours: list[bytes], theirs: list[bytes]) -> tuple[Rows, Rows]:
    place = {row: position for position, row in enumerate(theirs)}
    rows = np.array([position for position, row in enumerate(ours) if row in place], np.int64)
    return rows, np.array([place[ours[row]] for row in rows], np.int64)
