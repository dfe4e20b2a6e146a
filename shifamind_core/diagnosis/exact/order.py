"""Rows or columns out of order: find who is who, undo it, and say what kind of order it was."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.stats import binom, poisson

from shifamind_core.analysis.neighbours import LEVEL, neighbours
from shifamind_core.analysis.row_matching import RowMatch, equal_rows, match_repeated, match_rows, row_keys
from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.exact.labels import f1_at
from shifamind_core.diagnosis.exact.order_names import Map, describe_columns, describe_rows
from shifamind_core.diagnosis.exact.rows import absences
from shifamind_core.diagnosis.exact.stand_ins import near_the_others
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed, judged, ruled_out
from shifamind_core.diagnosis.views import EvidenceTable, scatter
from shifamind_core.runs.run import Run

ColumnsBy = Literal["notes", "unchanged notes", "values"]
QUANTILES = np.linspace(0.005, 0.995, 67)  # enough to draw a distribution; which ones decides nothing


def order_of_rows_and_columns(examination: Examination) -> Examination:
    """Bring columns, then rows, back to where they belong.

    Codes show themselves note by note only where rows are right, and rows can be found only with the right columns. So
    columns are looked for note by note, then by the values they hold in whatever order, and rows with either.
    """
    examination = _order_before_alignment(examination)
    if examination.explained:
        told = "Every score equals the one at its own place."
        found = {finding.cause for finding in examination.findings}
        orders = [cause for cause in ("document_order", "code_order") if cause not in found]
        return examination.noted(*(ruled_out(cause, told) for cause in orders))
    moved = closed(columns_of_unchanged_notes(examination.logits))
    if moved is not None:
        return document_order(_with_columns(examination, moved, "unchanged notes"))
    by_notes = columns_by_notes(examination.logits)
    moved = closed(by_notes)
    if moved is not None:
        return document_order(_with_columns(examination, moved, "notes"))
    by_values = _columns_of_equal_values(examination.logits)
    rows = _with_rows(examination, by_values) or document_order(examination)
    if rows.partner is not None:
        if by_values is None and not rows.explained:  # with these rows, do the columns show themselves?
            rows = _with_rows(examination, closed(columns_by_notes(rows.logits))) or rows
        return rows
    if (by_notes == np.arange(len(by_notes))).any():  # rows correspond: their order hides no column
        return rows
    return _with_rows(rows, _columns_of_near_values(rows.logits)) or rows


def _with_rows(examination: Examination, columns: Map | None) -> Examination | None:
    """These columns brought back and then the rows; `None` where no row moves then."""
    if columns is None:
        return None
    both = document_order(_with_columns(examination, columns, "values"))
    return both if both.partner is not None else None


# --- columns


def columns_by_notes(pair: Pair) -> Map:
    """Which column of the reference every column equals, note by note, or is nearest to by far; -1 for none."""
    unknown = np.full(pair.codes, -1)
    if pair.codes < 2 or pair.documents < 2:
        return unknown
    candidate, reference = (np.ascontiguousarray(matrix.T) for matrix in (pair.candidate, pair.reference))
    exact = equal_rows(candidate, reference, ~pair.changed_codes)
    if closed(exact) is not None:
        return exact
    candidate, reference = (np.ascontiguousarray(matrix.T) for matrix in pair.scored)
    live = np.flatnonzero(np.count_nonzero(reference, axis=1))
    if not len(live):
        return unknown
    near = neighbours(candidate, reference[live])
    return np.where(near.found, live[near.nearest], -1)


def columns_of_unchanged_notes(pair: Pair) -> Map:
    """Which column every column equals in the notes that hold the reference's values, in whatever order; -1 for none.

    Whatever else was at work, it left those notes as they were. Where there are so few that chance can have exchanged the same two
    columns in each of them, they say nothing.
    """
    same_values = [row_keys(matrix, ordered=False) for matrix in (pair.candidate, pair.reference)]
    kept = pair.select(notes=same_values[0] == same_values[1])
    chance = (pair.codes * (pair.codes - 1) / 2) ** -max(float(kept.changed_notes.sum()) - 1, 0.0)
    if pair.codes < 2 or chance > LEVEL:
        return np.full(pair.codes, -1)
    candidate, reference = (np.ascontiguousarray(matrix.T) for matrix in (kept.candidate, kept.reference))
    return equal_rows(candidate, reference, ~kept.changed_codes)


def _columns_of_equal_values(pair: Pair) -> Map | None:
    """The same whatever the order of the rows: columns that hold the very values of another."""
    keys = [row_keys(matrix.T, ordered=False) for matrix in (pair.candidate, pair.reference)]
    rows, partners = match_repeated(keys[0], keys[1])
    partner = np.full(pair.codes, -1)
    partner[rows] = partners
    return closed(np.where(keys[0] == keys[1], np.arange(pair.codes), partner))


def _columns_of_near_values(pair: Pair) -> Map | None:
    """Columns whose distribution is nearest to that of another by far."""
    shapes = [
        np.quantile(matrix, QUANTILES, axis=0, method="nearest").T
        for matrix in (pair.candidate, pair.reference)
    ]
    near = neighbours(shapes[0], shapes[1])
    return closed(np.where(near.found, near.nearest, -1))


def closed(partner: Map) -> Map | None:
    """The moves of columns that exchange places among themselves; the others stay. `None` without any."""
    identity = np.arange(len(partner))
    moved = (partner >= 0) & (partner != identity)
    while moved.any():
        filled, counts = np.unique(partner[moved], return_counts=True)
        kept = moved & np.isin(identity, filled) & np.isin(partner, np.flatnonzero(moved))
        kept &= ~np.isin(partner, filled[counts > 1])
        if np.array_equal(kept, moved):
            return np.where(moved, partner, identity)
        moved = kept
    return None


def _with_columns(examination: Examination, partner: Map, by: ColumnsBy) -> Examination:
    """The candidate's columns brought back. Of two orders undone together, each is taken for half of the difference."""
    pair = examination.logits
    back = np.argsort(partner)
    tolerance = None if pair.tolerance is None else pair.tolerance[:, back]
    after = pair.changed(candidate=pair.candidate[:, back], tolerance=tolerance)
    share = 0.5 if by == "values" else _gone(pair, after)
    finding = _code_order_finding(examination, partner, after, share, by)
    return examination.found(after, finding)


def _code_order_finding(
    examination: Examination, partner: Map, after: Pair, share: float, by: ColumnsBy
) -> Finding:
    evidence, pair = examination.evidence, examination.logits
    names = evidence.reference.codes or evidence.candidate.codes
    labels = evidence.reference.labels
    kind = describe_columns(partner, names, None if labels is None else labels.sum(axis=0))
    moved = np.flatnonzero(partner != np.arange(len(partner)))
    equal = ~after.difference[:, moved].any(axis=1)  # those that moved exchanged places among themselves
    exact = _same_values(after, moved) if by == "values" else bool(equal.all()) or by == "unchanged notes"
    where = f" in {equal.sum():,} of {after.documents:,} notes" * (
        by == "unchanged notes" and not equal.all()
    )

    def name(code: int) -> str:
        return names[code] if names else f"column {code}"

    cycle = ", ".join(f"{name(int(code))} holds {name(int(partner[code]))}" for code in moved[:4])
    told = (
        f"{len(moved)} of {len(partner)} columns are those of another code ({cycle}{', …' if len(moved) > 4 else ''}); "
        f"assigned anew they {'are equal' if exact else 'are the nearest by far'}{where}."
    )
    if kind:
        told += f" The candidate's columns are in {kind} order."
    scores = {} if by == "values" else _scores(examination, after)
    return _tiered(exact)(
        "code_order",
        told + _scores_once_undone(scores, evidence.aligned.macro_title),
        share,
        evidence={
            "codes_moved": len(moved),
            "permutation": partner,
            "order": kind,
            "exact": exact,
            "by": by,
            "explained": share,
            **scores,
        },
        view=EvidenceTable(
            "Columns that hold another code",
            ("column", "holds", "r with its own", "r with the partner"),
            tuple(
                (
                    name(int(code)),
                    name(int(partner[code])),
                    float(pair.correlations[code, code]),
                    float(pair.correlations[code, partner[code]]),
                )
                for code in moved
            ),
        ),
    )


def _same_values(after: Pair, moved: np.ndarray) -> bool:
    """Sorted, the columns that moved are those of the reference."""
    return bool(
        (np.sort(after.candidate[:, moved], axis=0) == np.sort(after.reference[:, moved], axis=0)).all()
    )


# --- rows


def document_order(examination: Examination) -> Examination:
    """Find rows that stand elsewhere, and say which are not there at all; the same examination if all stay."""
    pair = examination.logits
    exact = equal_rows(pair.candidate, pair.reference, ~pair.changed_notes)
    match = match_rows(*near_the_others(pair, examination.evidence), in_order=True, exact=exact)
    if not match.moved.any() or _of_strangers(pair, match):
        return examination
    found = match.rows[np.argsort(match.target)]
    kept = np.sort(match.target)
    after = Pair(
        pair.candidate[found],
        pair.reference[kept],
        None if pair.tolerance is None else pair.tolerance[found],
        None if pair.token_counts is None else pair.token_counts[kept],
    )
    share = _gone(pair, after, lost=np.setdiff1d(np.arange(pair.documents), found))
    beside = _beside_order(examination, match)
    finding = _document_order_finding(examination, match, after, share)
    return replace(examination, partner=match.partner).found(after, finding).noted(*beside)


def _of_strangers(pair: Pair, match: RowMatch) -> bool:
    """Are as few rows found as among other notes of the same kind: the nearest by far by chance, and texts that come up again?

    How often two notes have one text, those say that stand twice in one run.
    """
    if 2 * len(match.rows) > pair.documents:
        return False
    equal = int((pair.candidate[match.rows] == pair.reference[match.target]).all(axis=1).sum())
    if len(match.rows) - equal > binom.ppf(1 - LEVEL, pair.documents, LEVEL):
        return False
    twice = sum(_equal_pairs(matrix) for matrix in (pair.candidate, pair.reference))
    expected = (twice + 1) * pair.documents / (pair.documents - 1)  # of twice as many pairs as one run has
    return bool(poisson.sf(equal - 1, expected) > LEVEL)


def _equal_pairs(matrix: np.ndarray) -> int:
    _, counts = np.unique(row_keys(matrix), return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _gone(before: Pair, after: Pair, lost: np.ndarray | None = None) -> float:
    """Share of the squared difference that is gone; rows without a partner keep theirs."""
    total = before.squares.sum()
    left = ((after.difference / before.spread) ** 2).sum()
    if lost is not None:
        left += before.squares[lost].sum()
    return float(np.clip(1 - left / total, 0.0, 1.0)) if total else 0.0


def _beside_order(examination: Examination, match: RowMatch) -> list[Finding]:
    """Repeats and absences by contents."""
    pair = examination.logits
    runs = Run(pair.candidate, "candidate"), Run(pair.reference, "reference")
    return list(absences(match, runs, whole=False, by_id=False))


def _tiered(exact: bool) -> Callable[..., Finding]:
    """Confirmed where values are equal; else all but the one in a hundred of the partners that may be chance."""

    def likely(cause: str, numbers: str, share: float = 1.0, **more: Any) -> Finding:
        return judged(cause, 1 - LEVEL, numbers, share, **more)

    return confirmed if exact else likely


def _document_order_finding(examination: Examination, match: RowMatch, after: Pair, share: float) -> Finding:
    evidence = examination.evidence
    text, kind = describe_rows(match.partner, examination.logits.token_counts)
    along = labels_moved_along(evidence.candidate.labels, evidence.reference.labels, match.partner)
    scores = _scores(examination, after)
    exact = not after.difference.any()
    told = (
        f"{len(match.rows):,} of the candidate's {len(match.partner):,} rows are found among the reference's, "
        f"{int(match.moved.sum()):,} at another place: {text}."
    )
    return _tiered(exact)(
        "document_order",
        told + (_ALONG if along else _scores_once_undone(scores, evidence.aligned.macro_title)),
        share,
        evidence={
            "found": len(match.rows) / len(match.partner),
            "exact": exact,
            "explained": share,
            "labels_moved_along": along,
            **kind,
            **scores,
        },
        view=_where(match),
    )


_ALONG = " The labels moved with the rows, so neither score suffers; only comparing by position does."


def _where(match: RowMatch) -> Any:
    return scatter(
        "Where each row of the candidate stands in the reference",
        "row in the candidate",
        "row in the reference",
        "notes",
        match.rows,
        match.target,
    )


def _order_before_alignment(examination: Examination) -> Examination:
    """Notes that were matched by their contents stood in another order: by position they would not have met."""
    evidence = examination.evidence
    documents = evidence.aligned.documents
    if documents.by not in ("token_digest", "content") or not documents.order_differed:
        return examination
    match = documents.rows
    if not documents.exact and match.out_of_order <= LEVEL * len(match.rows):
        return examination  # so few partners may be false
    runs = evidence.whole
    counts = runs[1].token_counts if runs[1].token_counts is not None else None
    text, kind = describe_rows(match.partner, counts)
    along = labels_moved_along(runs[0].labels, runs[1].labels, match.partner)
    told = (
        f"{len(match.rows):,} of the candidate's {runs[0].documents:,} rows are found among the reference's "
        f"{runs[1].documents:,}, in another order: {text}."
    )
    finding = _tiered(documents.exact)(
        "document_order",
        told + (_ALONG if along else ""),
        1.0 if examination.explained else _in_another_order(examination),
        evidence={
            "found": len(match.rows) / runs[0].documents,
            "exact": documents.exact,
            "labels_moved_along": along,
            **kind,
        },
        view=_where(match),
    )
    return examination.found(examination.logits, finding)


def _in_another_order(examination: Examination) -> float:
    """The share of what the two runs would differ by, row by row at their old places, that the order accounts for."""
    documents, pair = examination.evidence.aligned.documents, examination.logits
    if pair.documents != documents.matched:
        return 1.0
    old_places = np.argsort(np.argsort(documents.reference))
    inverse = np.empty_like(old_places)
    inverse[old_places] = np.arange(len(old_places))
    before = pair.changed(reference=pair.reference[inverse], tolerance=None)
    return _gone(before, pair)


def labels_moved_along(mine: np.ndarray | None, theirs: np.ndarray | None, partner: Map) -> bool | None:
    """Do the candidate's own labels stand in the candidate's row order? `None` where that cannot be told."""
    if (
        mine is None
        or theirs is None
        or mine is theirs
        or mine.shape[1:] != theirs.shape[1:]
        or len(partner) != len(mine)
    ):
        return None
    rows = np.flatnonzero((partner >= 0) & (np.arange(len(partner)) < len(theirs)))
    moved = (mine[rows] != theirs[partner[rows]]).mean()
    stayed = (mine[rows] != theirs[rows]).mean()
    return None if moved == stayed else bool(moved < stayed)


Scores: TypeAlias = dict[str, dict[str, float]]


def _scores(examination: Examination, after: Pair) -> Scores:
    """F1 at 0.5 of the candidate as it came and with the order undone, and of the reference."""
    evidence = examination.evidence
    labels = evidence.reference.labels
    before = examination.logits.candidate
    if labels is None or len(labels) != len(after.candidate) or len(before) != len(labels):
        return {}
    own = evidence.candidate.labels if evidence.candidate.labels is not None else labels
    return {
        "scores": f1_at(before, own),
        "scores_once_undone": f1_at(after.candidate, labels),
        "scores_of_reference": f1_at(after.reference, labels),
    }


def _scores_once_undone(scores: Scores, macro: str) -> str:
    if not scores:
        return ""
    before, undone = scores["scores"], scores["scores_once_undone"]
    return (
        f" Undone, {macro[0].lower()}{macro[1:]} at 0.5 goes from {before['macro_f1']:.4f} to {undone['macro_f1']:.4f} and micro F1 from "
        f"{before['micro_f1']:.4f} to {undone['micro_f1']:.4f}."
    )
