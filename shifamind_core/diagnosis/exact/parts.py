"""What is exactly explained in a part of the rows or codes, where all the rest is equal.

A second process that wrote its rows otherwise, a table joined from two exports: the part alone is what a matcher of whole runs
would explain, and beside the rest it looks like anything.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.exact.non_finite import start
from shifamind_core.diagnosis.exact.order import order_of_rows_and_columns
from shifamind_core.diagnosis.exact.output_scale import sigmoids
from shifamind_core.diagnosis.exact.score_map import score_map
from shifamind_core.diagnosis.exact.stored_precision import stored_precision
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding

LOOKED_FOR: tuple[Callable[[Examination], Examination], ...] = (
    stored_precision, sigmoids, order_of_rows_and_columns, score_map,
)  # fmt: skip
FEWEST_ROWS = 3  # of fewer, whatever changed them is what `subsets` says of a few notes
MOST_NAMES = 4


def in_a_part(examination: Examination) -> Examination:
    """Confirm what explains the rows and codes that changed, and leaves nothing, where others did not change at all.

    Expects rows and columns in place, and nothing undone yet. An order of rows is left to the matcher of whole runs, and
    so is an order of codes that all rows share: it stands in the header.
    """
    pair = examination.logits
    if examination.explained or examination.left < 1 or examination.partner is not None:
        return examination
    rows, columns = np.flatnonzero(pair.changed_notes), np.flatnonzero(pair.changed_codes)
    all_rows, all_codes = len(rows) == pair.documents, len(columns) == pair.codes
    if (all_rows and all_codes) or len(rows) < FEWEST_ROWS:
        return examination
    evidence = examination.evidence
    # Rows and columns are in place already: without ids they stay there.
    candidate, reference = (
        replace(run.select(rows, columns), document_ids=None, token_digests=None)
        for run in (evidence.candidate, evidence.reference)
    )
    part = start(Evidence.of(candidate, reference))
    known = len(part.findings)
    for look in LOOKED_FOR:
        part = look(part)
    found = [finding for finding in part.findings[known:] if finding.status == "confirmed"]
    named = {finding.cause for finding in found}
    whole = part.logits.candidate.shape == (
        len(rows),
        len(columns),
    )  # no row or code was set aside as nobody's
    in_place = "document_order" not in named and not (all_rows and "code_order" in named)
    if not part.explained or not found or not whole or not in_place:
        return examination
    where = _where(rows, columns, examination)
    first, *others = (_placed(finding, where, rows, columns) for finding in found)
    undone = examination.found(pair.changed(candidate=pair.reference), first.changed(share=1.0))
    return undone.noted(*(other.changed(share=0.0) for other in others))


def _placed(finding: Finding, where: str, rows: np.ndarray, columns: np.ndarray) -> Finding:
    return finding.changed(
        meaning=f"In {where}, and nowhere else: {finding.meaning}",
        numbers=f"{finding.numbers} All other scores are equal.".strip(),
        evidence={
            "part": {"rows": len(rows), "first": int(rows[0]), "last": int(rows[-1]), "codes": len(columns)}
        },
    )


def _where(rows: np.ndarray, columns: np.ndarray, examination: Examination) -> str:
    """The rows and codes in words, as far as they are a part."""
    pair, parts = examination.logits, []
    if len(rows) < pair.documents:
        in_a_block = rows[-1] - rows[0] + 1 == len(rows)
        parts.append(
            f"rows {rows[0]:,}–{rows[-1]:,}" if in_a_block else f"{len(rows):,} of {pair.documents:,} rows"
        )
    if len(columns) < pair.codes:
        names = examination.evidence.candidate.codes
        told = "" if names is None else f" ({', '.join(names[column] for column in columns[:MOST_NAMES])}"
        told += "" if names is None else ", …)" if len(columns) > MOST_NAMES else ")"
        parts.append(f"{len(columns):,} of {pair.codes:,} codes{told}")
    return " and ".join(parts)
