"""Put two runs side by side: notes by document id, codes by name, whatever their order in the files.

Content beats ids: notes whose ids do not meet are the same if their token ids or their logits are.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from shifamind_core.analysis.alignment_remarks import matched_by_what, matched_codes, nothing_shared, remarks
from shifamind_core.analysis.checks import over_codes
from shifamind_core.analysis.code_spelling import (
    Pairs,
    all_numbers,
    as_positions,
    match_names,
)
from shifamind_core.analysis.matching import By, Matching
from shifamind_core.analysis.oddities import RepeatedIds, repeated_ids
from shifamind_core.analysis.row_matching import (
    equal_rows,
    match_repeated,
    match_rows,
    repeats_of,
)
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import over_blocks
from shifamind_core.runs.mapped import refuse_if_cut
from shifamind_core.runs.run import Run

Codes: TypeAlias = tuple[str, ...] | None


class NothingInCommon(ShifamindError):
    """Two runs that cannot be put side by side; `what` says on which side of the matrix."""

    def __init__(self, what: Literal["documents", "codes"], message: str) -> None:
        super().__init__(message)
        self.what = what


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
    ShifamindError
        A run's file was cut short since it was mapped.
    """
    refuse_if_cut(candidate.logits, reference.logits)
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
    matched = matched_by_what(candidate, reference, documents), matched_codes(codes)
    warnings = tuple(remarks(candidate, reference, documents, codes, lender, conflicts))
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
        raise NothingInCommon("documents", nothing_shared(candidate, reference))
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
    return sum(over_blocks(lambda rows: int(np.count_nonzero(ours[rows] != theirs[rows])), ours, theirs))
