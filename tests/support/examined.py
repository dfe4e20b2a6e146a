"""Two runs as the exact matchers get them."""

import numpy as np

from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.exact.labels import different_labels
from shifamind_core.diagnosis.exact.order import order_of_rows_and_columns
from shifamind_core.diagnosis.exact.rows import different_codes, which_documents
from shifamind_core.diagnosis.exact.subsets import few_codes_changed, some_documents_changed
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, ranked
from shifamind_core.runs.run import Run

MATCHERS = (
    which_documents,
    different_codes,
    order_of_rows_and_columns,
    different_labels,
    few_codes_changed,
    some_documents_changed,
)


def examined(candidate: Run, reference: Run) -> Examination:
    """What the matchers of rows, columns, labels and subsets find, one after the other."""
    evidence = Evidence.of(candidate, reference)
    counts = evidence.reference.token_counts
    values = [run.logits.astype(np.float64) for run in (evidence.candidate, evidence.reference)]
    examination = Examination(evidence, Pair(values[0], values[1], token_counts=counts))
    for match in MATCHERS:
        examination = match(examination)
    return examination


def found(candidate: Run, reference: Run) -> dict[str, Finding]:
    """The findings that are not ruled out, by cause, strongest first."""
    return {f.cause: f for f in ranked(examined(candidate, reference).findings) if f.status != "ruled_out"}
