"""Whether one run may tune the threshold of another: it must score the same codes, on other notes."""

from dataclasses import replace

import numpy as np
from scipy.special import entr

from shifamind_core.analysis.alignment import match_codes
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.oddities import FEWEST_CODES, constant_rows
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run

CHANCE_BITS = 64  # two label matrices that say this much are equal by chance once in 2^64


def require_validation(run: Run, validation: Run) -> int:
    """How many notes of `run` the validation run holds too: 0, as a rule, and for a threshold tuned on other notes.

    Notes are the same if they have the same document id and the same labels, or, where a run has no ids, the same
    logits and labels to the last bit.

    Raises
    ------
    ShifamindError
        The validation run cannot be scored, is over other codes, or is the run itself: no threshold is ever tuned on
        the notes that are scored.
    """
    required_labels(validation)
    refuse_non_finite(validation)
    partner = _in_the_same_columns(run, validation)
    if run.labels is None:
        return 0
    shared = _shared(run, partner)
    if shared == run.documents:
        raise ShifamindError(
            f"{validation.name} cannot tune {run.name}: it holds all of its {run.documents:,} notes, so that the "
            "threshold would be tuned on the notes that are scored. Give the run over the validation split."
        )
    return shared


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


def _shared(run: Run, validation: Run) -> int:
    if _same_labels(run, validation):
        return run.documents  # the same notes, whatever became of their ids, their scores and their format
    if run.document_ids is not None and validation.document_ids is not None:
        return _held(_rows(run, "document_ids"), _rows(validation, "document_ids"))
    if run.logits.shape[1] < FEWEST_CODES:
        return 0  # rows of few codes may well be equal by chance
    apart = np.setdiff1d(np.arange(run.documents), constant_rows(run))
    coarser = min(run.logits.dtype, validation.logits.dtype, key=lambda dtype: dtype.itemsize)
    ours, theirs = (replace(one, logits=one.logits.astype(coarser)) for one in (run, validation))
    return _held(_rows(ours, "logits")[apart], _rows(theirs, "logits"))


def _same_labels(run: Run, validation: Run) -> bool:
    """Equal label by label, and too many to be equal by chance: labels drawn at each code's own rate."""
    if run.labels is None or validation.labels is None or not np.array_equal(run.labels, validation.labels):
        return False
    rate = run.labels.mean(axis=0)
    return run.documents * float((entr(rate) + entr(1 - rate)).sum()) / np.log(2) >= CHANCE_BITS


def _rows(run: Run, identity: str) -> np.ndarray:
    """Each note's identity and labels as one value."""
    assert run.labels is not None
    parts = [getattr(run, identity).reshape(run.documents, -1), run.labels]
    content = np.hstack([np.ascontiguousarray(part).view(np.uint8) for part in parts])
    return np.ascontiguousarray(content).view(np.dtype((np.void, content.shape[1]))).ravel()


def _held(ours: np.ndarray, theirs: np.ndarray) -> int:
    return int(np.isin(ours, theirs).sum())
