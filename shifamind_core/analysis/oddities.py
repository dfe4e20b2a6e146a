"""What is odd about a run by itself: rows that are no notes of their own, scores that are no logits.

Nothing here is left out of a score: it is counted and said, so that no number stands without it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shifamind_core.runs.assemble import FILL
from shifamind_core.runs.run import Run

FEWEST_CODES = 4  # below, rows of one number, or equal rows, come about by chance
# Rows of one note are alike if they differ by less than this share of what two notes differ by (root mean square).
# Measured on the demo's checkpoint, 120 notes: BF16 against FP32 at most 0.0065; two windows of 200 words at least 0.34
# where they share half of their words, 0.17 where three quarters, 0.12 where seven eighths.
ALIKE = 0.1

MANY_SCORES = 1000  # of fewer, all may well be below 0: a rare code's are

AS_LOADERS_DO = "as where a loader fills its last batch with notes that it gave before"
REPETITIONS = "Every row counts in a score: leave the repetitions out."


@dataclass(frozen=True)
class RepeatedIds:
    """Document ids that stand on several rows.

    Attributes
    ----------
    distinct : int
        Ids in all.
    repeated : int
        Ids that stand on more than one row.
    rows : int
        Rows that carry those.
    most : int
        Rows of the most frequent id.
    unlike : int
        Of the repeated ids, those whose rows hold other scores: windows of one note, say, and no copies.
    """

    distinct: int
    repeated: int
    rows: int
    most: int
    unlike: int


def repeated_ids(run: Run) -> RepeatedIds | None:
    """How often ids repeat; `None` where none does, or where there are none."""
    if run.document_ids is None:
        return None
    _, first, which, counts = np.unique(
        run.document_ids, return_index=True, return_inverse=True, return_counts=True
    )
    if len(counts) == run.documents:
        return None
    later = np.flatnonzero(np.arange(run.documents) != first[which])
    same = alike(run.logits[later], run.logits[first[which[later]]], spread_of(run.logits))
    unlike = later[~same]
    return RepeatedIds(
        distinct=len(counts),
        repeated=int(np.count_nonzero(counts > 1)),
        rows=int(counts[counts > 1].sum()),
        most=int(counts.max()),
        unlike=len(np.unique(which[unlike])),
    )


def alike(ours: np.ndarray, theirs: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Whether rows hold the scores of the same notes, up to what rounding and company in a batch do.

    `spread` is what two notes differ by, code by code (`spread_of`).
    """
    varied = spread > 0
    if not varied.any():
        return np.ones(len(ours), bool)
    apart = (_finite(ours)[:, varied] - _finite(theirs)[:, varied]) / spread[varied]
    return np.sqrt((apart**2).mean(axis=1)) <= ALIKE


def spread_of(logits: np.ndarray) -> np.ndarray:
    """Root mean square difference of two notes drawn at random, code by code."""
    return np.sqrt(2) * _finite(logits).std(axis=0)


def _finite(logits: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(logits), logits, 0).astype(np.float64)


def constant_rows(run: Run) -> np.ndarray:
    """Rows whose logits are one and the same number throughout: fill, no notes."""
    first = run.logits[:, :1]
    rows = np.flatnonzero(
        (run.logits[:, :FEWEST_CODES] == first).all(axis=1)
    )  # few: large runs are not copied
    rows = rows[(run.logits[rows] == first[rows]).all(axis=1)]
    return rows if run.logits.shape[1] >= FEWEST_CODES else rows[run.logits[rows, 0] == FILL]


def oddities(run: Run) -> tuple[str, ...]:
    """All of it, in plain sentences."""
    return (*odd_rows(run), *_about_scores(run))


def odd_rows(run: Run) -> tuple[str, ...]:
    """Rows that are no notes of their own, in plain sentences."""
    fill = constant_rows(run)
    copies = _about_copies(run, fill) if run.document_ids is None else ()
    return (*_about_ids(run), *_about_fill(run, fill), *copies)


def _about_ids(run: Run) -> Iterator[str]:
    found = repeated_ids(run)
    if found is None:
        return
    occur = "twice" if found.most == 2 else "more than once"
    counted = (
        f"{run.documents:,} rows carry {found.distinct:,} document ids: {found.repeated:,} of them occur {occur}, on "
        f"{found.rows:,} rows"
    )
    if not found.unlike:
        yield f"{counted} that hold the same scores, {AS_LOADERS_DO}. {REPETITIONS}"
    else:
        yield (
            f"{counted}; the rows of {found.unlike:,} of them hold different scores, as those of windows of one note do. "
            "Every row counts in a score: bring one row a note, e.g. the maximum over its windows."
        )


def _about_fill(run: Run, rows: np.ndarray) -> Iterator[str]:
    if not len(rows):
        return
    values = np.unique(run.logits[rows, 0])
    number = f"{values[0]:g}" if len(values) == 1 else "one number"
    yield (
        f"{len(rows):,} of {run.documents:,} rows are {number} throughout, first row {rows[0]:,}: fill with which batches "
        "are padded, and no notes. Every row counts in a score: leave these out."
    )


def _about_copies(run: Run, fill: np.ndarray) -> Iterator[str]:
    if run.logits.shape[1] < FEWEST_CODES:
        return
    copies = np.setdiff1d(_copies(run), fill)
    if len(copies):
        yield (
            f"{len(copies):,} of {run.documents:,} rows repeat an earlier row to the last bit, first row "
            f"{copies[0]:,}, {AS_LOADERS_DO}. {REPETITIONS}"
        )


def _copies(run: Run) -> np.ndarray:
    """Rows that equal an earlier one in every logit and label."""
    with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs, and values beyond FP32
        sums = run.logits.sum(axis=1, dtype=np.float64)  # equal rows have equal sums, and few others do
    _, first, which = np.unique(sums, return_index=True, return_inverse=True)
    rows = np.flatnonzero(np.arange(run.documents) != first[which])
    others = first[which[rows]]
    equal = [
        (part[rows] == part[others]).all(axis=1) for part in (run.logits, run.labels) if part is not None
    ]
    return rows[np.logical_and.reduce(equal)]


def _about_scores(run: Run) -> Iterator[str]:
    low, high = run.ends
    if high <= 0 and low < high and run.logits.size >= MANY_SCORES:
        yield (
            f"No logit is above 0, so that at 0.5 no code is assigned to any note. If these values (from {low:.4g}) are logarithms of "
            "probabilities, they are no logits: store the scores before the sigmoid, or probabilities under the name `probabilities`."
        )
    if low < 0 or high <= 0 or not np.isfinite(high):
        return
    like = "probabilities" if high <= 1 else "percentages" if high <= 100 else "no logits"
    yield (
        f"No logit is below 0, so that at 0.5 nearly every code is assigned to every note; the values (up to {high:.4g}) "
        f"look like {like}. Logits are scores before the sigmoid; probabilities belong under the name `probabilities`."
    )
