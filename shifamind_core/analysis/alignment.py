"""Put two runs side by side: notes by document id, codes by name, whatever their order in the files.

Content beats ids: notes whose ids do not meet are the same if their token ids or their logits are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Int64

from shifamind_core.analysis.checks import over_codes
from shifamind_core.analysis.code_spelling import (
    Pairs,
    all_numbers,
    as_positions,
    match_names,
    spelling_differs_in,
)
from shifamind_core.analysis.oddities import RepeatedIds, odd_rows, oddities, repeated_ids
from shifamind_core.analysis.row_matching import (
    RowMatch,
    equal_rows,
    match_repeated,
    match_rows,
    repeats_of,
)
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import over_blocks
from shifamind_core.runs.run import Run

Indices = Int64[np.ndarray, " matched"]
Codes: TypeAlias = tuple[str, ...] | None
By = Literal["id", "token_digest", "content", "position"]
SAID: dict[By, str] = {
    "id": "document id",
    "token_digest": "their token ids, as their document ids do not meet",
    "content": "their scores, as their document ids do not meet",
    "position": "position",
}


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
    by : "id", "token_digest", "content", "position"
        What paired most notes.
    otherwise : int
        Notes that something else paired: ids that met for some, token ids or scores for others.
    exact : bool
        No note was paired by being merely the nearest by far.
    repeats : (int64 [candidate_size], int64 [reference_size]), optional
        For a row without a partner that repeats one that has one: which row of its own run that is; else -1.
    respelled : tuple of (candidate's name, reference's name)
        Codes matched although their names differ in spelling.
    """

    candidate: Indices
    reference: Indices
    candidate_size: int
    reference_size: int
    assumed: bool
    by: By = "id"
    otherwise: int = 0
    exact: bool = True
    repeats: tuple[np.ndarray, np.ndarray] | None = None
    respelled: tuple[tuple[str, str], ...] = ()

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

    @property
    def repeated(self) -> tuple[int, int]:
        """How many of those without a partner repeat one that has one: candidate, reference."""
        if self.repeats is None:
            return 0, 0
        return int((self.repeats[0] >= 0).sum()), int((self.repeats[1] >= 0).sum())

    @property
    def rows(self) -> RowMatch:
        """The same as a map of the candidate's rows."""
        partner = np.full(self.candidate_size, -1)
        partner[self.candidate] = self.reference
        none = np.full(self.candidate_size, -1), np.full(self.reference_size, -1)
        return RowMatch(partner, self.repeats or none, self.exact)

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
        All of this in plain sentences, and what is odd about either run by itself.
    warnings : tuple of str
        Those of them that limit what a score of the pair says: what was assumed, left out, moved, taken over or is odd.
    codes_of : int
        Of how many codes the shared ones are a part: those of the run that has more.
    repeated : tuple of RepeatedIds, optional
        Document ids that stand on several rows of the candidate, and of the reference.
    """

    candidate: Run
    reference: Run
    documents: Matching
    codes: Matching
    label_conflicts: int
    labels_taken_from: Literal["candidate", "reference"] | None
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]
    codes_of: int
    repeated: tuple[RepeatedIds | None, RepeatedIds | None]

    @property
    def over(self) -> str:
        """What a macro mean of either run is over, in words."""
        return over_codes(self.codes.matched, self.codes_of)

    @property
    def macro_title(self) -> str:
        """What a macro F1 of either run is called: beside one over a part of the codes stands which part."""
        return "Macro F1" if self.codes.matched == self.codes_of else f"Macro F1 over {self.over}"


def align(candidate: Run, reference: Run) -> AlignedRuns:
    """Match notes by document id (the k-th of a repeated id with the k-th) and codes by name.

    Notes whose ids do not meet are matched by their token ids or their logits. A run without ids, or without code
    names, is taken to hold the other's in the same order, if it has equally many. The remarks say all of this.

    Raises
    ------
    NothingInCommon
        No shared note or code, or nothing to match them by and unequal numbers.
    """
    codes = match_codes(candidate, reference)
    documents = match_documents(candidate, reference, codes)
    aligned_candidate = _take(candidate, documents.candidate, codes.candidate)
    aligned_reference = _take(reference, documents.reference, codes.reference)
    names = aligned_candidate.codes or aligned_reference.codes
    aligned_candidate, aligned_reference = (
        run if run.codes == names else replace(run, codes=names)
        for run in (aligned_candidate, aligned_reference)
    )
    aligned_candidate, aligned_reference, lender = _share_labels(aligned_candidate, aligned_reference)
    conflicts = _label_conflicts(aligned_candidate, aligned_reference)
    matched = _matched_by_what(candidate, reference, documents), _matched_codes(codes)
    warnings = tuple(_remarks(candidate, reference, documents, codes, lender, conflicts))
    return AlignedRuns(
        candidate=aligned_candidate,
        reference=aligned_reference,
        documents=documents,
        codes=codes,
        label_conflicts=conflicts,
        labels_taken_from=lender,
        remarks=(*matched, *warnings),
        warnings=warnings if documents.exact else (matched[0], *warnings),
        codes_of=max(candidate.codes_of, reference.codes_of),
        repeated=(repeated_ids(candidate), repeated_ids(reference)),
    )


def match_documents(candidate: Run, reference: Run, codes: Matching) -> Matching:
    """Rows of the same note.

    Parameters
    ----------
    codes : Matching
        Which columns belong together, so that contents can be compared.

    Raises
    ------
    NothingInCommon
        No shared id and no shared content; or ids missing, another number of notes and no shared content.
    """
    sizes = candidate.documents, reference.documents
    keys = _keys(candidate, reference)
    for by, values in keys.items():
        rows, partners = match_repeated(*values)
        if len(rows) == min(sizes):
            repeats = _repeats(values, (rows, partners), sizes)
            return Matching(rows, partners, *sizes, assumed=False, by=by, repeats=repeats)
    if "id" not in keys and sizes[0] == sizes[1]:
        return _by_position(sizes[0])
    logits = candidate.logits[:, codes.candidate], reference.logits[:, codes.reference]
    matching = _by_most(keys, logits, sizes)
    if not matching.matched:
        raise NothingInCommon("documents", _nothing_shared(candidate, reference))
    return matching


Values = tuple[np.ndarray, np.ndarray]  # of the candidate's notes and of the reference's


def _keys(candidate: Run, reference: Run) -> dict[By, Values]:
    """What both runs say of their notes, the deciding one first."""
    keys: dict[By, Values] = {}
    if candidate.document_ids is not None and reference.document_ids is not None:
        keys["id"] = candidate.document_ids, reference.document_ids
    if candidate.token_digests is not None and reference.token_digests is not None:
        keys["token_digest"] = candidate.token_digests, reference.token_digests
    return keys


def _by_most(keys: dict[By, Values], logits: Values, sizes: tuple[int, int]) -> Matching:
    """Pairs by what pairs most notes, then by what pairs others, at last by logits that are nearest by far.

    Ids that meet by accident, as cut or counted ones do, so lose to contents that are equal.
    """
    equal = equal_rows(*logits)
    pairs: dict[By, Values] = {by: match_repeated(*values) for by, values in keys.items()}
    pairs["content"] = np.flatnonzero(equal >= 0), equal[equal >= 0]
    partner, used = np.full(sizes[0], -1), np.zeros(sizes[1], bool)
    counts: dict[By, int] = {}
    for by, (rows, partners) in sorted(pairs.items(), key=lambda pair: -len(pair[1][0])):
        new = (partner[rows] < 0) & ~used[partners]
        partner[rows[new]] = partners[new]
        used[partners[new]] = True
        counts[by] = int(new.sum())
    repeats = [np.full(size, -1) for size in sizes]
    for values in keys.values():
        for mine, found in zip(
            repeats,
            _repeats(values, (np.flatnonzero(partner >= 0), partner[partner >= 0]), sizes),
            strict=True,
        ):
            mine[mine < 0] = found[mine < 0]
    match = match_rows(*logits, in_order=False, exact=partner)
    counts["content"] += int((match.partner >= 0).sum()) - int((partner >= 0).sum())
    by = max(counts, key=lambda by: counts[by])
    return Matching(
        match.rows,
        match.target,
        *sizes,
        assumed=False,
        by=by,
        otherwise=len(match.rows) - counts[by],
        exact=match.exact,
        repeats=(
            np.where(match.partner < 0, np.maximum(match.repeats[0], repeats[0]), -1),
            np.maximum(match.repeats[1], repeats[1]),
        ),
    )


def _repeats(values: Values, pairs: tuple[np.ndarray, np.ndarray], sizes: tuple[int, int]) -> Values:
    """Rows without a partner whose value one with a partner has too, on either side."""
    found = []
    for value, rows, size in zip(values, pairs, sizes, strict=True):
        paired = np.zeros(size, bool)
        paired[rows] = True
        found.append(repeats_of(value, paired))
    return found[0], found[1]


def _nothing_shared(candidate: Run, reference: Run) -> str:
    sizes = candidate.documents, reference.documents
    if candidate.document_ids is None or reference.document_ids is None:
        return (
            f"{candidate.name} has {sizes[0]:,} notes and {reference.name} {sizes[1]:,}, "
            f"and {_without_ids(candidate, reference)} to match them by, nor do any scores agree. Export both with "
            f"`document_ids`, or over the same notes in the same order.{_why_longer(candidate, reference)}"
        )
    return (
        f"{candidate.name} ({sizes[0]:,} notes) and {reference.name} ({sizes[1]:,}) share no document id, and no note "
        "of one has the scores of a note of the other. Compare runs over the same split; ids are digests of the notes' "
        "exact text."
    )


def match_codes(candidate: Run, reference: Run) -> Matching:
    """Columns of the same code: of equal names, of names that differ in spelling only (`code_spelling`), or, where a run
    has no names or numbers for names, of equal positions.

    Raises
    ------
    NothingInCommon
        No shared name; names missing and another number of codes; or spellings that leave it open which code is meant.
    """
    sizes = candidate.logits.shape[1], reference.logits.shape[1]
    try:
        numbered = _by_number(candidate.codes, reference.codes, sizes)
        if numbered is not None:
            return numbered
        if candidate.codes is not None and reference.codes is not None:
            equal, respelled = match_names(candidate.codes, reference.codes)
            return _by_name(candidate, reference, equal, respelled)
    except ShifamindError as error:
        raise NothingInCommon("codes", f"{candidate.name} and {reference.name}: {error}") from error
    if sizes[0] != sizes[1]:
        _require_upright(candidate, reference)
        unnamed = candidate if candidate.codes is None else reference
        raise NothingInCommon(
            "codes",
            f"{candidate.name} has {sizes[0]:,} codes and {reference.name} {sizes[1]:,}, and {unnamed.name} "
            "has no code names to match them by. Export both with `codes`.",
        )
    return _by_position(sizes[0])


def _require_upright(*runs: Run) -> None:
    """Refuse a run without code names whose rows are as many as the other's codes, and its columns as the other's notes."""
    for run, other in (runs, runs[::-1]):
        rows, columns = run.logits.shape
        crossed = run.codes is None and (columns, rows) == other.logits.shape
        if crossed and (other.codes is not None or rows < columns):
            raise NothingInCommon(
                "codes",
                f"{run.name} lies on its side: {rows:,} × {columns:,}, where {other.name} has {columns:,} notes × {rows:,} codes. Save the "
                "transpose (.T): one row a note, one column a code.",
            )


def _by_number(candidate: Codes, reference: Codes, sizes: tuple[int, int]) -> Matching | None:
    """Numbers for names are positions in both runs or in none: `None` where both have names, or numbers, or nothing."""
    if all_numbers(candidate) == all_numbers(reference):
        return None
    numbers, columns = (candidate, sizes[1]) if all_numbers(candidate) else (reference, sizes[0])
    assert numbers is not None
    positions = as_positions(numbers, columns)
    if positions is None:
        return None
    if numbers is candidate:
        return Matching(np.arange(sizes[0]), np.array(positions), *sizes, assumed=True)
    order = np.argsort(positions)  # in the candidate's order
    return Matching(np.array(positions)[order], order, *sizes, assumed=True)


def _by_name(candidate: Run, reference: Run, equal: Pairs, respelled: Pairs) -> Matching:
    assert candidate.codes is not None and reference.codes is not None
    if not equal and not respelled:
        raise ShifamindError(
            f"they share no code: {candidate.codes[0]!r} … against {reference.codes[0]!r} …. "
            "Export both with the same codes."
        )
    matched = np.array(sorted(equal + respelled), np.int64)
    return Matching(
        matched[:, 0].copy(),
        matched[:, 1].copy(),
        len(candidate.codes),
        len(reference.codes),
        assumed=False,
        respelled=tuple((candidate.codes[i], reference.codes[j]) for i, j in respelled),
    )


def _by_position(size: int) -> Matching:
    return Matching(np.arange(size), np.arange(size), size, size, assumed=True, by="position")


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
    ours, theirs = candidate.labels, reference.labels
    return sum(over_blocks(lambda rows: int(np.count_nonzero(ours[rows] != theirs[rows])), ours))


def _why_longer(candidate: Run, reference: Run) -> str:
    """What is odd about the rows of the longer run, and may be all that it has more."""
    longer = max(candidate, reference, key=lambda run: run.documents)
    return "".join(f" {longer.name}: {remark}" for remark in odd_rows(longer))


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
    yield from _document_remarks(candidate, reference, documents)
    yield from _pairing_remarks(candidate, reference, documents)
    yield from _code_remarks(codes)
    if codes.respelled:
        yield _spelling_remark(codes)
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
    for side, run in (("Candidate", candidate), ("Reference", reference)):
        yield from (f"{side}: {remark}" for remark in (*run.manifest.notes, *oddities(run)))


def _pairing_remarks(candidate: Run, reference: Run, documents: Matching) -> Iterator[str]:
    """Notes that stand on another number of rows in one run than in the other: which of them were paired."""
    if documents.assumed or candidate.document_ids is None or reference.document_ids is None:
        return
    ids = [np.unique(one, return_counts=True) for one in (candidate.document_ids, reference.document_ids)]
    _, mine, yours = np.intersect1d(ids[0][0], ids[1][0], assume_unique=True, return_indices=True)
    counts = ids[0][1][mine], ids[1][1][yours]
    for side, other, more, run in (
        ("candidate", "reference", counts[0] > counts[1], candidate),
        ("reference", "candidate", counts[1] > counts[0], reference),
    ):
        if more.any():
            found = repeated_ids(run)
            assert found is not None
            windows = (
                f"rows of one note hold different scores there ({found.unlike:,} notes), as windows of a note do, so "
                "that notes were compared with one window of them."
            )
            yield (
                f"{np.count_nonzero(more):,} notes stand on more rows in the {side} than in the {other}, and only the first "
                f"of their rows were compared; {windows if found.unlike else 'the others hold the same scores.'}"
            )


def _spelling_remark(codes: Matching) -> str:
    differ = dict.fromkeys(part for pair in codes.respelled for part in spelling_differs_in(*pair))
    examples = ", ".join(f"{mine!r} is {yours!r}" for mine, yours in codes.respelled[:3])
    more = ", …" if len(codes.respelled) > 3 else ""
    return (
        f"{len(codes.respelled):,} codes are spelled otherwise in the reference ({' and '.join(differ)}: {examples}{more}) "
        "and were taken as the same."
    )


def _matched_by_what(candidate: Run, reference: Run, documents: Matching) -> str:
    key = SAID[documents.by]
    if documents.by != "id" and (candidate.document_ids is None or reference.document_ids is None):
        key = key.partition(",")[0]
    if not documents.exact:
        key += "; some are only the nearest by far"
    return f"{documents.matched:,} notes are in both runs (matched by {key})."


def _document_remarks(candidate: Run, reference: Run, documents: Matching) -> Iterator[str]:
    """Which notes were matched otherwise, and which were not; repeats are no notes without a partner."""
    if documents.otherwise:
        others = [
            SAID[by].partition(",")[0] for by in ("id", "token_digest", "content") if by != documents.by
        ]
        yield f"{documents.otherwise:,} of them were matched by {' or '.join(others)}."
    sides = ("candidate", candidate), ("reference", reference)
    for (side, run), dropped, repeated in zip(sides, documents.dropped, documents.repeated, strict=True):
        if repeated and documents.by != "id":  # where ids meet, what stands on their rows is said below
            yield (
                f"{repeated:,} of the {side}'s {run.documents:,} rows are further rows of notes that stand there already: "
                "each note is compared by its first row."
            )
        if dropped > repeated:
            yield (
                f"{dropped - repeated:,} of the {side}'s {run.documents:,} notes have no partner and are left out."
            )
    if documents.order_differed:
        yield "The notes stand in another order in the reference; they were brought into the candidate's."


def _matched_codes(codes: Matching) -> str:
    by = "position" if codes.assumed else "name"
    return f"{codes.matched:,} codes are in both runs (matched by {by})."


def _code_remarks(codes: Matching) -> Iterator[str]:
    sizes = codes.candidate_size, codes.reference_size
    for side, dropped, size in zip(("candidate", "reference"), codes.dropped, sizes, strict=True):
        if dropped:
            yield f"{dropped:,} of the {side}'s {size:,} codes have no partner and are left out."
    if codes.order_differed:
        yield "The codes stand in another order in the reference; they were brought into the candidate's."
