"""Which notes the runs hold: the same under other ids, some twice, some left out, others altogether; and which codes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from shifamind_core.analysis.matching import Matching
from shifamind_core.analysis.neighbours import LEVEL
from shifamind_core.analysis.row_matching import RowMatch, constant_rows
from shifamind_core.artifacts.digests import text_digest
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.facts import ids_are_digests
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed, judged, ruled_out
from shifamind_core.runs.run import Run

SIDES = ("candidate", "reference")


def which_documents(examination: Examination) -> Examination:
    """Notes under other ids, repeated, left out, or of the other run alone, as `align` matched them.

    Rows were compared note by note already, so nothing is undone here but rows of a fill, which stand for no note.
    """
    examination = filled_rows(examination)
    evidence = examination.evidence
    documents = evidence.aligned.documents
    if documents.assumed:  # nobody says which row is which note: their order is looked at first
        return examination
    whole = not examination.logits.difference.any()
    findings = [
        *_other_ids(evidence, documents),
        *absences(documents.rows, evidence.whole, whole, documents.by == "id"),
    ]
    if not any(documents.dropped):
        told = f"All {documents.matched:,} notes are in both runs, and each once."
        # Ids that anybody may have given say that none is missing, and not that the same text stands behind them.
        proven = documents.by != "id" or whole or ids_are_digests(evidence)
        causes = ("different_documents",) * proven + ("missing_documents", "repeated_documents")
        findings += [ruled_out(cause, told) for cause in causes]
    return examination.noted(*findings)


def different_codes(examination: Examination) -> Examination:
    """Codes that only one run names."""
    codes = examination.evidence.aligned.codes
    if codes.assumed:
        return examination
    if not any(codes.dropped):
        return examination.noted(
            ruled_out("different_codes", f"All {codes.matched:,} codes are in both runs.")
        )
    names = [run.codes or () for run in examination.evidence.whole]
    alone = [
        [name for place, name in enumerate(own) if place not in set(kept.tolist())]
        for own, kept in zip(names, (codes.candidate, codes.reference), strict=True)
    ]
    told = "; ".join(
        f"{len(own):,} of the {side}'s {size:,} codes are not in the other run ({_listed(own)})"
        for side, own, size in zip(SIDES, alone, (codes.candidate_size, codes.reference_size), strict=True)
        if own
    )
    share = _share(codes.dropped, (codes.candidate_size, codes.reference_size))
    return examination.noted(
        confirmed(
            "different_codes",
            f"{told}. {codes.matched:,} codes are compared.",
            1.0 if not examination.logits.difference.any() else share,
            evidence={
                "shared": codes.matched,
                "only_candidate": codes.dropped[0],
                "only_reference": codes.dropped[1],
                "codes": alone,
            },
        )
    )


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _share(dropped: tuple[int, int], sizes: tuple[int, int]) -> float:
    """What a part of the rows counts beside a difference of all others: its share of the rows."""
    return max(part / size for part, size in zip(dropped, sizes, strict=True))


# --- fill, repeats, absences


def filled_rows(examination: Examination) -> Examination:
    """Rows of one constant where the other run holds scores: what fills the last batch up."""
    pair = examination.logits
    fill = constant_rows(pair.candidate), constant_rows(pair.reference)
    rows = fill[0] ^ fill[1]
    if not rows.any():
        return examination
    side = SIDES[int(fill[1][rows].any())]
    share = float(pair.squares[rows].sum() / pair.squares.sum())
    value = float((pair.candidate if side == "candidate" else pair.reference)[rows][0, 0])
    finding = confirmed(
        "repeated_documents",
        f"{_upper(placed(np.flatnonzero(rows), len(rows)))} of the {side} {_verb(rows.sum())} {value:g} in every code: "
        "a fill, and no scores of a note.",
        share,
        evidence={"kind": "fill", "side": side, "rows": int(rows.sum()), "value": value},
    )
    return examination.found(pair.select(notes=~rows), finding)


def absences(match: RowMatch, runs: tuple[Run, Run], whole: bool, by_id: bool) -> Iterator[Finding]:
    """Findings on rows without a partner: repeats, fill, notes left out, other notes.

    Parameters
    ----------
    whole : bool
        Nothing else differs: then what stands in one run alone is the whole difference.
    by_id : bool
        Ids say which notes these are. Contents alone cannot tell another note from one that changed beyond recognition:
        where both runs hold rows that the other has not, either is as probable if all partners are equal, and nothing is
        said if they are only near.
    """
    sizes = runs[0].documents, runs[1].documents
    repeats = [np.flatnonzero(repeated >= 0) for repeated in match.repeats]
    fill = [rows[constant_rows(run.logits)[rows]] for run, rows in zip(runs, match.absent, strict=True)]
    alone = [np.setdiff1d(rows, filled) for rows, filled in zip(match.absent, fill, strict=True)]
    told, evidence = [], {}
    for side, run, rows, source, filled in zip(SIDES, runs, repeats, match.repeats, fill, strict=True):
        if len(rows):
            told.append(_repeats_told(side, run, rows, source[rows]))
            evidence[side] = _repeats_evidence(run, rows, source[rows])
        if len(filled):
            value = float(run.logits[filled[0], 0])
            told.append(
                f"{_upper(placed(filled, run.documents))} of the {side} {_verb(len(filled))} {value:g} in every code: a fill, "
                "and no scores of a note."
            )
            evidence[f"{side}_fill"] = {"rows": len(filled), "value": value}
    make = _maker(match.exact)
    if told:
        extra = tuple(len(rows) + len(filled) for rows, filled in zip(repeats, fill, strict=True))
        share = 1.0 if whole else _share((extra[0], extra[1]), sizes)
        yield make("repeated_documents", " ".join(told), share, evidence=evidence)
    if len(alone[0]) or len(alone[1]):
        yield from _absent(match, alone, sizes, whole, by_id)


def _maker(exact: bool) -> Callable[..., Finding]:
    """Confirmed where bits or ids are equal; where partners are the nearest by far, one in a hundred may be false."""

    def likely(cause: str, numbers: str, share: float = 1.0, **more: Any) -> Finding:
        return judged(cause, 1 - LEVEL, numbers, share, **more)

    return confirmed if exact else likely


def _absent(
    match: RowMatch, alone: list[np.ndarray], sizes: tuple[int, int], whole: bool, by_id: bool
) -> Iterator[Finding]:
    counts = len(alone[0]), len(alone[1])
    share = 1.0 if whole else _share(counts, sizes)
    evidence = {"shared": len(match.rows), "only_candidate": counts[0], "only_reference": counts[1]}
    if all(counts):
        told = "; ".join(
            f"{count:,} of the {side}'s {size:,} notes are not in the other run ({placed(rows, size)})"
            for side, rows, count, size in zip(SIDES, alone, counts, sizes, strict=True)
        )
        told = f"{told}. {len(match.rows):,} are compared."
        if by_id:
            yield confirmed("different_documents", told, share, evidence=evidence)
        elif match.exact:
            told += " They are other notes, or the same ones changed beyond recognition: contents alone cannot tell."
            yield judged("different_documents", 0.5, told, share, evidence=evidence)
        return
    holder = int(counts[1] > 0)
    rows, size = alone[holder], sizes[holder]
    first = f" It holds the first {rows[0]:,}." if _block(rows) and rows[-1] == size - 1 and rows[0] else ""
    told = (
        f"The {SIDES[1 - holder]} leaves out {placed(rows, size)} of the {SIDES[holder]}'s {size:,} notes.{first} All "
        f"{len(match.rows):,} notes that it holds are in the {SIDES[holder]}."
    )
    yield _maker(match.exact)("missing_documents", told, share, evidence={**evidence, "rows": rows[:100]})


def _repeats_told(side: str, run: Run, rows: np.ndarray, source: np.ndarray) -> str:
    """How many rows repeat which, where; or that notes stand on several rows with other scores each."""
    where = _upper(placed(rows, run.documents))
    again = "repeats" if len(rows) == 1 else "repeat"
    if not _equal_scores(run, rows, source):
        notes = len(np.unique(source))
        most = int(np.bincount(source).max()) + 1
        return (
            f"{len(rows):,} of the {side}'s {run.documents:,} rows are further rows of {notes:,} notes that stand there "
            f"already, with other scores (up to {most} rows a note): windows of a long note, say. Each note was compared by "
            "its first row."
        )
    return f"{where} of the {side} {again} {placed(np.unique(source), run.documents)}."


def _repeats_evidence(run: Run, rows: np.ndarray, source: np.ndarray) -> dict[str, Any]:
    equal = _equal_scores(run, rows, source)
    return {
        "kind": "repeats" if equal else "windows",
        "rows": len(rows),
        "notes": len(np.unique(source)),
        "most_rows_of_a_note": int(np.bincount(source).max()) + 1,
        "first_row": int(rows[0]),
        "repeats_row": int(source[0]),
    }


def _equal_scores(run: Run, rows: np.ndarray, source: np.ndarray) -> bool:
    """Most of these rows have the scores of the rows that they repeat, or differ from them by less than from the row before."""
    apart, usual = (
        np.abs(run.logits[rows] - other).astype(np.float64).mean(axis=1)
        for other in (run.logits[source], np.roll(run.logits, 1, axis=0)[rows])
    )
    return bool(2 * ((apart == 0) | (apart < usual)).sum() > len(rows))


def _block(rows: np.ndarray) -> bool:
    return bool(len(rows)) and rows[-1] - rows[0] + 1 == len(rows)


def placed(rows: np.ndarray, size: int) -> str:
    """Where sorted rows stand, in words.

    >>> placed(np.array([8, 9]), 10), placed(np.array([0, 1, 2]), 10), placed(np.array([4, 5]), 10)
    ('the last 2 rows', 'the first 3 rows', 'rows 4 to 5')
    >>> placed(np.array([3]), 10), placed(np.array([1, 5]), 10)
    ('row 3', '2 rows (1, 5)')
    """
    count = len(rows)
    if count == size:
        return f"all {size:,} rows"
    if count > 1 and _block(rows):
        if rows[-1] == size - 1:
            return f"the last {count:,} rows"
        return f"the first {count:,} rows" if rows[0] == 0 else f"rows {rows[0]} to {rows[-1]}"
    if count == 1:
        return f"row {rows[0]}"
    return f"{count:,} rows ({', '.join(map(str, rows[:4]))}{', …' if count > 4 else ''})"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _verb(count: int) -> str:
    return "holds" if count == 1 else "hold"


# --- ids


def _other_ids(evidence: Evidence, documents: Matching) -> Iterator[Finding]:
    """The same notes under other ids, and why where it can be seen."""
    ids = [run.document_ids for run in evidence.whole]
    if ids[0] is None or ids[1] is None:
        return
    mine, theirs = ids[0][documents.candidate], ids[1][documents.reference]
    other = np.flatnonzero(mine != theirs)
    if not len(other):
        yield ruled_out(
            "document_ids", f"All {documents.matched:,} notes that both hold have one id in both runs."
        )
        return
    reason = reason_of_ids(mine[other], theirs[other])
    digests = evidence.candidate.token_digests, evidence.reference.token_digests
    same_tokens = None
    if digests[0] is not None and digests[1] is not None:
        same_tokens = bool((digests[0][other] == digests[1][other]).all())
    if not reason:
        reason = (
            "Their token ids are equal: the texts differ only in what the tokenizer does not read, such as line ends or spaces."
            if same_tokens
            else "What makes the ids differ cannot be seen from them: texts that differ in line ends or spaces, or ids made "
            "otherwise."
        )
    by = (
        "equal token ids"
        if same_tokens
        else "their scores" + (" (equal)" if documents.exact else " (the nearest by far)")
    )
    exact = documents.exact or bool(same_tokens)
    whole = not (evidence.candidate.logits != evidence.reference.logits).any() and not any(documents.dropped)
    yield _maker(exact)(
        "document_ids",
        f"{len(other):,} of {documents.matched:,} notes that both runs hold have other ids; {by} show that they are the same "
        f"notes. {reason}",
        # Ids alone change no score: the whole of the difference where nothing else differs, else no part of it.
        1.0 if whole else 0.0,
        evidence={
            "other_ids": len(other),
            "shared": documents.matched,
            "reason": reason,
            "same_tokens": same_tokens,
        },
    )


# Ways to write a whole number as text. An id that is no number is the digest of its text.
WRITINGS: tuple[tuple[str, Callable[[int], str]], ...] = (
    ("as they stand", str),
    ("with a decimal point (123.0)", lambda number: f"{number}.0"),
    ("with commas (1,234)", lambda number: f"{number:,}"),
    ("as 16 hexadecimal digits", lambda number: f"{number % 2**64:016x}"),
    *(
        (f"with leading zeros, {width} digits", lambda number, width=width: f"{number:0{width}d}")
        for width in range(2, 21)
    ),
)


def reason_of_ids(mine: np.ndarray, theirs: np.ndarray) -> str:
    """Why ids of the same notes differ, if one rule gives every one of them; else an empty text.

    >>> reason_of_ids(np.array([2**60 + 1]), np.array([2**60]))[:18]
    'Their ids were cut'
    >>> reason_of_ids(np.array([7]), np.array([text_digest(b"7.0")]))
    "The reference's ids are digests of the candidate's, written with a decimal point (123.0)."
    """
    for float_type, digits in ((np.float64, 15), (np.float32, 7)):
        cut = [ids.astype(float_type).astype(np.float64) for ids in (mine, theirs)]
        round_ = [
            np.array_equal(part, ids.astype(np.longdouble))
            for part, ids in zip(cut, (mine, theirs), strict=True)
        ]
        if any(round_) and np.array_equal(cut[0], cut[1]):
            return (
                f"Their ids were cut: they went through a number with a decimal point, which holds about {digits} digits "
                "(a spreadsheet, or a column with a missing value)."
            )
    if np.array_equal(mine.byteswap(), theirs):
        return "Their ids hold the same bytes in another order."
    if len(mine) > 1 and len(np.unique(mine - theirs)) == 1:
        return f"Their ids are counted from another number (the candidate's are {int(mine[0] - theirs[0]):+d} throughout)."
    for side, other, numbers, digests in (
        ("reference", "candidate", mine, theirs),
        ("candidate", "reference", theirs, mine),
    ):
        for written, write in WRITINGS:
            if all(
                text_digest(write(n).encode()) == d
                for n, d in zip(numbers.tolist(), digests.tolist(), strict=True)
            ):
                return f"The {side}'s ids are digests of the {other}'s, written {written}."
    return ""
