"""The steps of an examination that undo something: each takes a pair and returns it without one cause."""

from dataclasses import dataclass, field, replace
from typing import SupportsIndex

import numpy as np

from shifamind_core.diagnosis.dense import predictability
from shifamind_core.diagnosis.evidence.aligned_logits import Matrix, Pair, explained_share
from shifamind_core.diagnosis.exact import order, output_scale
from shifamind_core.diagnosis.exact.labels import f1_at
from shifamind_core.diagnosis.exact.stored_precision import within_fp32
from shifamind_core.diagnosis.exact.subsets import changed_items
from shifamind_core.diagnosis.findings import EvidencePlot, EvidenceTable, Finding, Series, ruled_out, thinned
from shifamind_core.runs.run import Run

# Without doubt in place; fewer rows in place are looked for elsewhere.
ALL_IN_PLACE = 0.999
STRANGERS = 0.5  # share of rows in place; beyond it an order would have left rows to be found
HIDES = 0.3  # spreads: two notes differ by 1.4, so that rows changed less than this are found again
NEGLIGIBLE = 1e-5  # spreads: of FP32's size, and no recalibration worth the name


@dataclass(frozen=True, eq=False)
class State:
    """Where an examination stands: the pair with everything found so far undone.

    Attributes
    ----------
    candidate, reference : Run
        The aligned runs, as they came (for labels, names and stored values).
    pair : Pair
    left : share of the squared difference not accounted for yet
    findings : what was found on the way
    partner : int64 [candidate rows], optional
        The row order that was undone.
    """

    candidate: Run
    reference: Run
    pair: Pair
    left: float = 1.0
    findings: tuple[Finding, ...] = ()
    partner: np.ndarray | None = field(default=None)

    def found(self, pair: Pair, finding: Finding, share: float) -> "State":
        """The next state: this finding noted, its share of the difference gone."""
        return replace(self, pair=pair, left=self.left * (1 - share), findings=(*self.findings, finding))

    def has(self, cause: str) -> bool:
        """Was this cause found, and not merely ruled out?"""
        return self.finding(cause) is not None

    def finding(self, cause: str) -> Finding | None:
        """The finding on a cause, unless there is none or it was ruled out."""
        return next((f for f in self.findings if f.cause == cause and f.score > 0), None)

    def noted(self, *findings: Finding) -> "State":
        """The same state with more findings."""
        return replace(self, findings=(*self.findings, *findings))


def start(candidate: Run, reference: Run) -> State:
    """Finite logits of both runs; cells that are not finite are counted and taken out of the comparison."""
    values = [run.logits.astype(np.float64) for run in (candidate, reference)]
    broken = [~within_fp32(matrix) for matrix in values]
    for own, other, bad, other_bad in ((0, 1, broken[0], broken[1]), (1, 0, broken[1], broken[0])):
        values[own][bad] = np.where(other_bad[bad], 0.0, values[other][bad])
    counts = reference.token_counts if reference.token_counts is not None else candidate.token_counts
    pair = Pair(values[0], values[1], _tolerance(candidate, reference, values), counts)
    state = State(candidate, reference, pair)
    return state.noted(_non_finite_finding(broken, candidate)) if (broken[0] | broken[1]).any() else state


def _tolerance(candidate: Run, reference: Run, values: list[Matrix]) -> Matrix | None:
    """Logits made from stored probabilities are as sharp as those were."""
    parts = [
        output_scale.probability_tolerance(matrix)
        for run, matrix in zip((candidate, reference), values, strict=True)
        if run.manifest.logits_from_probabilities
    ]
    return sum(parts) if parts else None  # type: ignore[return-value]


def _non_finite_finding(broken: list[np.ndarray], candidate: Run) -> Finding:
    both = broken[0] | broken[1]
    counts = [int(bad.sum()) for bad in broken]
    rows, codes = both.any(axis=1), both.any(axis=0)
    names = candidate.codes
    return Finding(
        "non_finite",
        "confirmed",
        0.7,
        f"{counts[0]:,} logits of the candidate and {counts[1]:,} of the reference are NaN, infinite or beyond FP32, in "
        f"{int(rows.sum()):,} notes and {int(codes.sum())} codes. They are left out of everything below.",
        "Predict these notes again under fp32: FP16 overflows beyond 65,504.",
        {
            "candidate": counts[0],
            "reference": counts[1],
            "documents": int(rows.sum()),
            "codes": int(codes.sum()),
            "first_row": int(np.flatnonzero(rows)[0]),
        },
        EvidenceTable(
            "Cells that are not finite, by code",
            ("code", "candidate", "reference"),
            tuple(
                (
                    names[code] if names else str(code),
                    int(broken[0][:, code].sum()),
                    int(broken[1][:, code].sum()),
                )
                for code in np.flatnonzero(codes)[:50]
            ),
        ),
    )


def undo_sigmoid(state: State) -> State:
    """Take the sigmoids off a run whose values all went through one."""
    pair = state.pair
    marked = tuple(bool(run.manifest.logits_from_probabilities) for run in (state.candidate, state.reference))
    what = output_scale.squashed(pair.candidate, pair.reference, (marked[0], marked[1]))
    if what is None:
        low, high = float(pair.candidate.min()), float(pair.candidate.max())
        reason = f"Logits of the candidate reach from {low:.3g} to {high:.3g}: no sigmoid was applied to them alone."
        return state.noted(
            ruled_out("probabilities_as_logits", reason, lowest=low, highest=high),
            ruled_out("double_sigmoid", reason, lowest=low, highest=high),
        )
    values = pair.candidate if what.side == "candidate" else pair.reference
    logits, tolerance = output_scale.unsquash(values, what.sigmoids)
    after = pair.changed(**{what.side: logits}, tolerance=tolerance)
    share = explained_share(pair, after) if after.difference.any() else 1.0
    share = max(share, 0.5)
    return state.found(after, output_scale.squashed_finding(what, pair, after, share), share)


def undo_calibration(state: State) -> State:
    """Take off a shift, temperature or other map that keeps the ranking, if one explains what is left."""
    pair = state.pair
    codes = changed_items(pair.code_size) if pair.size else None
    if pair.size < NEGLIGIBLE or (codes is not None and codes.share <= 0.5):
        return state  # nothing, or single codes: those are looked at one by one
    found = output_scale.calibration(pair)
    if found is None:
        return state
    after = output_scale.apply_calibration(pair, found)
    share = 1 - found.left_over
    finding = output_scale.calibration_finding(found, pair, state.left * share)
    return _columns_before_calibration(state, after).found(after, finding, share)


def _columns_before_calibration(state: State, after: Pair) -> State:
    """Columns that were moved are the graver fault, however much a shift of all logits adds to the difference.

    Correlation tells them whatever the calibration; exact once both are undone is an exact match.
    """
    order_found = state.finding("code_order")
    if order_found is None or order_found.evidence["by"] != "notes":
        return state
    exact = after.size < NEGLIGIBLE
    raised = order_found.changed(score=0.99, status="confirmed" if exact else order_found.status)
    others = tuple(finding for finding in state.findings if finding is not order_found)
    return replace(state, findings=(raised, *others))


def undo_code_order(state: State) -> State:
    """Bring columns that sit on another code back to their own."""
    pair = state.pair
    match = order.match_columns(pair) if pair.size else None
    if match is None and pair.size and np.median(pair.correlation) < order.RELATED:
        match = order.match_columns_by_marginals(pair.candidate, pair.reference)
    if match is None:
        lowest = float(pair.correlation.min())
        return state.noted(
            ruled_out(
                "code_order",
                f"Every code matches its own column best (lowest r {lowest:.3f}).",
                lowest_r=lowest,
            )
        )
    back = np.argsort(match.partner)
    after = pair.changed(
        candidate=pair.candidate[:, back],
        tolerance=None if pair.tolerance is None else pair.tolerance[:, back],
    )
    share = max(explained_share(pair, after), 0.0)
    finding = _code_order_finding(state, match, after, share)
    if match.by == "marginals":  # rows do not correspond yet: what it explains shows only once they do
        return replace(state.noted(finding), pair=after)
    return state.found(after, finding, share)


def _code_order_finding(state: State, match: order.ColumnMatch, after: Pair, share: float) -> Finding:
    names = state.reference.codes or state.candidate.codes
    labels = state.reference.labels
    kind = order.describe_columns(match.partner, names, None if labels is None else labels.sum(axis=0))
    moved = match.moved
    exact = bool((after.code_size[match.partner[moved]] == 0).all())

    def name(code: SupportsIndex) -> str:
        return names[code] if names else f"column {int(code)}"

    cycle = ", ".join(f"{name(code)} holds {name(match.partner[code])}" for code in moved[:4])
    called = f" The candidate's columns are in {kind} order." if kind else ""
    return Finding(
        "code_order",
        "confirmed" if exact else "likely",
        0.5 + 0.49 * state.left * (share if match.by == "notes" else 1.0),
        f"{len(moved)} of {len(match.partner)} columns are those of another code ({cycle}"
        f"{', …' if len(moved) > 4 else ''}); assigned anew they {'are equal' if exact else 'correlate'}, where "
        f"{len(match.partner) - len(moved)} codes already did.{called}{_scores_once_undone(state, after)}",
        "Compare the two code lists, and export code names with the logits.",
        {
            "codes_moved": len(moved),
            "permutation": match.partner,
            "order": kind,
            "exact": exact,
            "by": match.by,
            "explained": share,
            **_scores(state, after),
        },
        EvidenceTable(
            "Columns that hold another code",
            ("column", "holds", "r with its own", "r with the partner"),
            tuple(
                (
                    name(int(code)),
                    name(int(match.partner[code])),
                    float(match.own[code]),
                    float(match.best[code]),
                )
                for code in moved
            ),
        ),
    )


def undo_document_order(state: State) -> State:
    """Find rows that stand elsewhere, and notes that are not there at all."""
    pair = state.pair
    if not pair.size:
        return state
    match = _row_match(pair)
    if match is None or not _convincing(match, pair):
        placed = 1.0 if match is None else match.in_place
        reason = f"{placed:.1%} of the notes resemble their own row more than {order.RIVALS} others."
        if placed > STRANGERS:
            return state.noted(ruled_out("document_order", reason, in_place=placed))
        lost = Finding(
            "document_order",
            "possible",
            0.1 * (1 - placed),
            f"Only {reason} None was found elsewhere: another order is possible only beside another change as large.",
            "Export document ids with the logits.",
            {"in_place": placed, "found": 0.0 if match is None else match.found},
        )
        return state.noted(lost)
    found = np.flatnonzero(match.partner >= 0)
    target = match.partner[found]
    reorder = found[np.argsort(target)]
    kept = np.sort(target)
    after = Pair(
        pair.candidate[reorder],
        pair.reference[kept],
        None if pair.tolerance is None else pair.tolerance[reorder],
        None if pair.token_counts is None else pair.token_counts[kept],
    )
    share = explained_share(pair, after)
    state = replace(state, partner=match.partner)
    if match.moved.any():
        state = state.found(after, _document_order_finding(state, match, after, share), share)
    missing = len(match.partner) - len(found)
    if missing > max(1, 0.02 * len(match.partner)):
        state = replace(state.noted(_missing_notes_finding(match, missing, after.size)), pair=after)
    return state


def _row_match(pair: Pair) -> order.RowMatch | None:
    """Look for rows elsewhere unless all are in place, or another head reads the same rows."""
    placed = order.in_place(*pair.scored)
    if placed.mean() >= ALL_IN_PLACE and not _exchanged(pair):
        return None
    if np.median(np.abs(pair.correlation)) < 0.4 and predictability(pair) > 0.3:
        return None
    return order.match_rows(pair.candidate, pair.reference)


def _exchanged(pair: Pair) -> bool:
    """Few rows changed, and each equals another of the changed ones: a handful that swapped places."""
    changed = np.flatnonzero(pair.note_size > 0)
    if not 1 < len(changed) < 0.5 * pair.documents:
        return False
    partner = order.match_equal_rows(pair.candidate[changed], pair.reference[changed])
    return bool((partner >= 0).mean() > 0.5)


def _convincing(match: order.RowMatch, pair: Pair) -> bool:
    """Enough of the rows that are not in place were found elsewhere, and at home they look like strangers.

    Under heavy noise a row may resemble another more than its own; but then it still resembles its own.
    """
    out_of_place = 1 - match.in_place
    rows = np.flatnonzero(match.moved)
    if len(rows) < 2 or len(rows) / len(match.partner) < 0.3 * out_of_place:
        return False
    if match.exact or pair.documents <= rows[-1]:
        return True
    candidate, reference = pair.scored
    own = order.resemblance(candidate[rows], reference[rows])
    partner = order.resemblance(candidate[rows], reference[match.partner[rows]])
    return float(own.mean()) < 0.3 * float(partner.mean())


def _document_order_finding(state: State, match: order.RowMatch, after: Pair, share: float) -> Finding:
    text, evidence = order.describe_rows(match.partner, state.pair.token_counts)
    rows = np.flatnonzero(match.partner >= 0)
    x, y = thinned(rows, match.partner[rows])
    with_labels = _labels_moved_along(state, match.partner)
    told = (
        " The labels moved with the rows, so neither score suffers; only comparing by position does."
        if with_labels
        else _scores_once_undone(state, after)
    )
    exact = match.exact or not after.difference.any()
    score = 0.5 + 0.49 * state.left * share
    return Finding(
        "document_order",
        "confirmed" if exact else "likely",
        min(score, 0.85) if match.found < 0.95 else score,
        f"{match.found:.1%} of the candidate's rows are found among the reference's, {match.moved.mean():.1%} at another "
        f"place: {text}.{told}",
        "Export document ids with the logits, or predict without shuffling, in one process.",
        {
            "found": match.found,
            "in_place": match.in_place,
            "exact": exact,
            "explained": share,
            "labels_moved_along": with_labels,
            **evidence,
            **_scores(state, after),
        },
        EvidencePlot(
            "scatter",
            "Where each row of the candidate stands in the reference",
            "row in the candidate",
            "row in the reference",
            (Series("notes", x, y),),
        ),
    )


def _labels_moved_along(state: State, partner: np.ndarray) -> bool | None:
    """Do the candidate's own labels stand in the candidate's row order? `None` where that cannot be told."""
    mine, theirs = state.candidate.labels, state.reference.labels
    if mine is None or theirs is None or mine.shape != theirs.shape or len(partner) != len(mine):
        return None
    rows = np.flatnonzero(partner >= 0)
    moved = (mine[rows] != theirs[partner[rows]]).mean()
    stayed = (mine[rows] != theirs[rows]).mean()
    return bool(moved < stayed)


def _missing_notes_finding(match: order.RowMatch, missing: int, size: float) -> Finding:
    """Rows without a partner: other notes, if the partners that were found are near; else the change hides them."""
    near = size < HIDES
    hidden = f" But rows that were found differ by {size:.2g} spreads: so large a change may hide the others."
    return Finding(
        "different_documents",
        "likely" if near else "possible",
        0.9 + 0.09 * missing / len(match.partner) if near else 0.3,
        f"{missing:,} of the candidate's {len(match.partner):,} notes are not among the reference's; the others are."
        f"{'' if near else hidden}",
        "Export document ids with the logits: they show which notes both runs hold.",
        {"missing": missing, "found": match.found, "size_of_found": size},
    )


def _scores(state: State, after: Pair) -> dict[str, dict[str, float]]:
    """F1 at 0.5 of the candidate as it came and with the order undone, and of the reference."""
    labels = state.reference.labels
    if labels is None or len(labels) != len(after.candidate) or len(state.candidate.logits) != len(labels):
        return {}
    own = state.candidate.labels if state.candidate.labels is not None else labels
    return {
        "scores": f1_at(state.pair.candidate, own),
        "scores_once_undone": f1_at(after.candidate, labels),
        "scores_of_reference": f1_at(after.reference, labels),
    }


def _scores_once_undone(state: State, after: Pair) -> str:
    scores = _scores(state, after)
    if not scores:
        return ""
    before, undone = scores["scores"], scores["scores_once_undone"]
    return (
        f" Undone, macro F1 at 0.5 goes from {before['macro_f1']:.4f} to {undone['macro_f1']:.4f} and micro F1 from "
        f"{before['micro_f1']:.4f} to {undone['micro_f1']:.4f}."
    )
