"""Put two runs side by side: notes by document id, codes by name, whatever their order in the files."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Int64

from shifamind_core.arrays import DocumentIds
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run

Indices = Int64[np.ndarray, " matched"]


class NothingInCommon(ShifamindError):
    """Two runs that cannot be put side by side; `what` says on which side of the matrix."""

    def __init__(self, what: Literal["documents", "codes"], message: str) -> None:
        super().__init__(message)
        self.what = what


@dataclass(frozen=True, eq=False)
class Matching:
    """Which rows (or columns) of the two runs are the same note (or code).

    Attributes
    ----------
    candidate, reference : int64 [matched]
        Positions in the original runs, pairwise the same thing, in the candidate's order.
    candidate_size, reference_size : int
        How many there were.
    assumed : bool
        Matched by position, because a run does not say which is which.
    """

    candidate: Indices
    reference: Indices
    candidate_size: int
    reference_size: int
    assumed: bool

    @property
    def matched(self) -> int:
        """How many both runs have."""
        return len(self.candidate)

    @property
    def dropped(self) -> tuple[int, int]:
        """How many of the candidate and of the reference have no partner."""
        return self.candidate_size - self.matched, self.reference_size - self.matched

    @property
    def order_differed(self) -> bool:
        """The reference holds the shared ones in another order than the candidate."""
        return bool((np.diff(self.reference) < 0).any())

    @cached_property
    def identity(self) -> bool:
        """Nothing dropped, nothing moved."""
        return self.dropped == (0, 0) and not self.order_differed


@dataclass(frozen=True, eq=False)
class AlignedRuns:
    """Two runs over the same notes and codes, row by row and column by column.

    Attributes
    ----------
    candidate, reference : Run
        What both have, in the candidate's order. Codes and labels that one run lacks are the other's.
    documents, codes : Matching
        What was matched, dropped, moved or assumed.
    label_conflicts : int
        Cells in which both runs have a label and the labels differ. Each run keeps its own.
    labels_taken_from : "candidate", "reference", optional
        The run that lent its labels to the other.
    remarks : tuple of str
        All of this in plain sentences.
    """

    candidate: Run
    reference: Run
    documents: Matching
    codes: Matching
    label_conflicts: int
    labels_taken_from: Literal["candidate", "reference"] | None
    remarks: tuple[str, ...]


def align(candidate: Run, reference: Run) -> AlignedRuns:
    """Match notes by document id (the k-th of a repeated id with the k-th) and codes by name.

    A run without ids, or without code names, is taken to hold the other's in the same order, if it has equally
    many; the remarks say so.

    Raises
    ------
    NothingInCommon
        No shared note or code, or nothing to match them by and unequal numbers.
    """
    documents = match_documents(candidate, reference)
    codes = match_codes(candidate, reference)
    aligned_candidate = _take(candidate, documents.candidate, codes.candidate)
    aligned_reference = _take(reference, documents.reference, codes.reference)
    names = aligned_candidate.codes or aligned_reference.codes
    aligned_candidate, aligned_reference = (
        run if run.codes == names else replace(run, codes=names)
        for run in (aligned_candidate, aligned_reference)
    )
    aligned_candidate, aligned_reference, lender = _share_labels(aligned_candidate, aligned_reference)
    conflicts = _label_conflicts(aligned_candidate, aligned_reference)
    return AlignedRuns(
        candidate=aligned_candidate,
        reference=aligned_reference,
        documents=documents,
        codes=codes,
        label_conflicts=conflicts,
        labels_taken_from=lender,
        remarks=tuple(_remarks(candidate, reference, documents, codes, lender, conflicts)),
    )


def match_documents(candidate: Run, reference: Run) -> Matching:
    """Rows of the same note.

    Raises
    ------
    NothingInCommon
        No shared id; or ids missing and another number of notes.
    """
    sizes = candidate.documents, reference.documents
    if candidate.document_ids is None or reference.document_ids is None:
        if sizes[0] != sizes[1]:
            raise NothingInCommon(
                "documents",
                f"{candidate.name} has {sizes[0]:,} notes and {reference.name} {sizes[1]:,}, and "
                f"{_without_ids(candidate, reference)} to match them by. Export both with "
                "`document_ids`, or over the same notes in the same order.",
            )
        return _by_position(sizes[0])
    rows = match_repeated(candidate.document_ids, reference.document_ids)
    if not len(rows[0]):
        raise NothingInCommon(
            "documents",
            f"{candidate.name} ({sizes[0]:,} notes) and {reference.name} ({sizes[1]:,}) share no document id. "
            "Compare runs over the same split; ids are digests of the notes' exact text.",
        )
    return Matching(*rows, *sizes, assumed=False)


def match_codes(candidate: Run, reference: Run) -> Matching:
    """Columns of the same code.

    Raises
    ------
    NothingInCommon
        No shared name; or names missing and another number of codes.
    """
    sizes = candidate.logits.shape[1], reference.logits.shape[1]
    if candidate.codes is None or reference.codes is None:
        if sizes[0] != sizes[1]:
            unnamed = candidate if candidate.codes is None else reference
            raise NothingInCommon(
                "codes",
                f"{candidate.name} has {sizes[0]:,} codes and {reference.name} {sizes[1]:,}, and {unnamed.name} "
                "has no code names to match them by. Export both with `codes`.",
            )
        return _by_position(sizes[0])
    column = {code: position for position, code in enumerate(reference.codes)}
    pairs = [(i, column[code]) for i, code in enumerate(candidate.codes) if code in column]
    if not pairs:
        raise NothingInCommon(
            "codes",
            f"{candidate.name} and {reference.name} share no code: {candidate.codes[0]!r} … against "
            f"{reference.codes[0]!r} …. Export both with the same codes.",
        )
    matched = np.array(pairs, np.int64)
    return Matching(matched[:, 0].copy(), matched[:, 1].copy(), *sizes, assumed=False)


def match_repeated(candidate: DocumentIds, reference: np.ndarray) -> tuple[Indices, Indices]:
    """Positions of equal values, the k-th of a repeated value with the k-th, in the candidate's order.

    >>> rows = match_repeated(np.array([7, 5, 7]), np.array([5, 7, 9, 7]))
    >>> rows[0].tolist(), rows[1].tolist()
    ([0, 1, 2], [1, 0, 3])
    """
    if np.array_equal(candidate, reference):
        return np.arange(len(candidate)), np.arange(len(candidate))
    _, value = np.unique(np.concatenate([candidate, reference]), return_inverse=True)
    ordinal = np.concatenate([_occurrence(candidate), _occurrence(reference)])
    key = value.astype(np.int64) * (len(value) + 1) + ordinal
    _, rows, partners = np.intersect1d(
        key[: len(candidate)], key[len(candidate) :], assume_unique=True, return_indices=True
    )
    order = np.argsort(rows, kind="stable")
    return rows[order], partners[order]


def _occurrence(values: np.ndarray) -> np.ndarray:
    """How many equal values came before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.append(True, ordered[1:] != ordered[:-1])
    place = np.arange(len(values))
    counted = np.empty(len(values), np.int64)
    counted[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return counted


def _by_position(size: int) -> Matching:
    return Matching(np.arange(size), np.arange(size), size, size, assumed=True)


def _take(run: Run, rows: np.ndarray, columns: np.ndarray) -> Run:
    whole = np.array_equal(rows, np.arange(run.documents)) and np.array_equal(
        columns, np.arange(run.logits.shape[1])
    )
    return run if whole else run.select(rows, columns)


def _share_labels(
    candidate: Run, reference: Run
) -> tuple[Run, Run, Literal["candidate", "reference"] | None]:
    if candidate.labels is None and reference.labels is not None:
        return replace(candidate, labels=reference.labels), reference, "reference"
    if reference.labels is None and candidate.labels is not None:
        return candidate, replace(reference, labels=candidate.labels), "candidate"
    return candidate, reference, None


def _label_conflicts(candidate: Run, reference: Run) -> int:
    if candidate.labels is None or reference.labels is None or candidate.labels is reference.labels:
        return 0
    return int(np.count_nonzero(candidate.labels != reference.labels))


def _without_ids(candidate: Run, reference: Run) -> str:
    names = [run.name for run in (candidate, reference) if run.document_ids is None]
    return f"{names[0]} has no document ids" if len(names) == 1 else "neither has document ids"


def _remarks(
    candidate: Run,
    reference: Run,
    documents: Matching,
    codes: Matching,
    lender: str | None,
    conflicts: int,
) -> Iterator[str]:
    yield from _matching_remarks(documents, "notes", "document id")
    yield from _matching_remarks(codes, "codes", "name")
    if documents.assumed:
        yield (
            f"Without document ids ({_without_ids(candidate, reference)}), both runs are assumed to hold the same "
            "notes in the same order."
        )
    if codes.assumed and not (candidate.codes is None and reference.codes is None):
        named, unnamed = (reference, candidate) if candidate.codes is None else (candidate, reference)
        yield (
            f"{unnamed.name} has no code names: its columns are assumed to be those of {named.name}, in order."
        )
    elif codes.assumed:
        yield "Neither run names its codes: columns are assumed to be the same, in the same order."
    if lender is not None:
        other = "reference" if lender == "candidate" else "candidate"
        yield f"The {other} has no labels: those of the {lender} are used for both."
    elif candidate.labels is None:
        yield "Neither run has labels: nothing is scored."
    if conflicts:
        yield f"{conflicts:,} labels differ between the runs; each run is scored with its own."


def _matching_remarks(matching: Matching, things: str, key: str) -> Iterator[str]:
    by = "position" if matching.assumed else key
    yield f"{matching.matched:,} {things} are in both runs (matched by {by})."
    for side, dropped, size in zip(
        ("candidate", "reference"),
        matching.dropped,
        (matching.candidate_size, matching.reference_size),
        strict=True,
    ):
        if dropped:
            yield f"{dropped:,} of the {side}'s {size:,} {things} have no partner and are left out."
    if matching.order_differed:
        yield f"The {things} stand in another order in the reference; they were brought into the candidate's."
