"""A part of two large runs that a diagnosis can look at: the same notes and the same codes of both, each in its own order.

The cost of a diagnosis grows with the notes, and with the third power of the codes (the directions in which notes differ). A
part this large decides as the whole does: the cause model's features are averages, and the measured models had at most 17,266
notes and 50 codes.
"""

import numpy as np

from shifamind_core.runs.run import Run

MOST_CELLS = 10_000_000  # of a run that is looked at whole (6 s), if it has no more codes than
MOST_CODES = 512
PART_CELLS, PART_CODES = 1 << 21, 256  # of a part: more than any measured model had, and a few hundred MB


def sample(candidate: Run, reference: Run) -> tuple[Run, Run, str | None]:
    """Both runs, and what is left of them in words; as they are, and `None`, where they are small enough.

    Notes are taken by their ids where those of both runs meet, else every so-manieth row; codes by their names, evenly over all
    that either run has, else by their columns.
    """
    runs = candidate, reference
    notes, codes = (max(one.logits.shape[axis] for one in runs) for axis in (0, 1))
    if notes * codes <= MOST_CELLS and codes <= MOST_CODES:
        return candidate, reference, None
    columns = _columns(candidate, reference)
    rows = _rows(candidate, reference, PART_CELLS // max(1, *map(len, columns)))
    first, second = (run.select(r, c) for run, r, c in zip(runs, rows, columns, strict=True))
    said = (
        f"Looked at a part of these runs: {first.documents:,} of {candidate.documents:,} notes and {first.logits.shape[1]:,} of "
        f"{candidate.logits.shape[1]:,} codes. Numbers and verdicts are of that part."
    )
    if codes > max(map(len, columns)):
        said += " Whether columns stand under other codes' names is not seen in a part of the codes."
    return first, second, said


def _rows(candidate: Run, reference: Run, most: int) -> tuple[np.ndarray, np.ndarray]:
    step = -(-max(candidate.documents, reference.documents) // most)
    ours, theirs = candidate.document_ids, reference.document_ids
    if ours is not None and theirs is not None:
        shared = np.intersect1d(ours, theirs)
        if 2 * len(shared) > min(len(np.unique(ours)), len(np.unique(theirs))):
            kept = np.unique(np.concatenate([ours, theirs]))[::step]
            return np.flatnonzero(np.isin(ours, kept)), np.flatnonzero(np.isin(theirs, kept))
    return np.arange(0, candidate.documents, step), np.arange(0, reference.documents, step)


def _columns(candidate: Run, reference: Run) -> tuple[np.ndarray, np.ndarray]:
    if candidate.codes is None or reference.codes is None:
        counts = candidate.logits.shape[1], reference.logits.shape[1]
        step = -(-max(counts) // PART_CODES)
        return np.arange(0, counts[0], step), np.arange(0, counts[1], step)
    names = sorted({*candidate.codes, *reference.codes})
    kept = set(names[:: -(-len(names) // PART_CODES)])
    ours, theirs = (
        np.array([place for place, code in enumerate(run.codes or ()) if code in kept], np.int64)
        for run in (candidate, reference)
    )
    return ours, theirs
