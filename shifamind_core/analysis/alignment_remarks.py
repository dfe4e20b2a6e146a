"""How two runs were put side by side, in sentences: by what, what was assumed, and what is left out."""

from collections.abc import Iterator

import numpy as np

from shifamind_core.analysis.code_spelling import spelling_differs_in
from shifamind_core.analysis.matching import By, Matching
from shifamind_core.analysis.oddities import odd_rows, oddities, repeated_ids
from shifamind_core.runs.run import Run

SAID: dict[By, str] = {
    "id": "document id",
    "token_digest": "their token ids, as their document ids do not meet",
    "content": "their scores, as their document ids do not meet",
    "position": "position",
}


def nothing_shared(candidate: Run, reference: Run) -> str:
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


def _why_longer(candidate: Run, reference: Run) -> str:
    """What is odd about the rows of the longer run, and may be all that it has more."""
    longer = max(candidate, reference, key=lambda run: run.documents)
    return "".join(f" {longer.name}: {remark}" for remark in odd_rows(longer))


def _without_ids(candidate: Run, reference: Run) -> str:
    names = [run.name for run in (candidate, reference) if run.document_ids is None]
    return f"{names[0]} has no document ids" if len(names) == 1 else "neither has document ids"


def remarks(
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


def matched_by_what(candidate: Run, reference: Run, documents: Matching) -> str:
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


def matched_codes(codes: Matching) -> str:
    by = "position" if codes.assumed else "name"
    return f"{codes.matched:,} codes are in both runs (matched by {by})."


def _code_remarks(codes: Matching) -> Iterator[str]:
    sizes = codes.candidate_size, codes.reference_size
    for side, dropped, size in zip(("candidate", "reference"), codes.dropped, sizes, strict=True):
        if dropped:
            yield f"{dropped:,} of the {side}'s {size:,} codes have no partner and are left out."
    if codes.order_differed:
        yield "The codes stand in another order in the reference; they were brought into the candidate's."
