"""The exact matchers, in the order in which they look: each explains a part of the difference, undoes it and hands on the rest."""

from collections.abc import Mapping

from shifamind_core.analysis.alignment import NothingInCommon
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.prior import TRUSTED
from shifamind_core.diagnosis.exact import non_finite
from shifamind_core.diagnosis.exact.labels import different_labels
from shifamind_core.diagnosis.exact.metric_definition import metric_definition
from shifamind_core.diagnosis.exact.not_loaded import not_loaded
from shifamind_core.diagnosis.exact.order import order_of_rows_and_columns
from shifamind_core.diagnosis.exact.output_scale import sigmoids
from shifamind_core.diagnosis.exact.parts import in_a_part
from shifamind_core.diagnosis.exact.rounded_weights import rounded_weights
from shifamind_core.diagnosis.exact.rows import different_codes, which_documents
from shifamind_core.diagnosis.exact.score_map import score_map
from shifamind_core.diagnosis.exact.stand_ins import stand_ins_aside
from shifamind_core.diagnosis.exact.stored_precision import stored_precision
from shifamind_core.diagnosis.exact.subsets import few_codes_changed, some_documents_changed
from shifamind_core.diagnosis.examination import Examination, Matcher
from shifamind_core.diagnosis.findings import Finding, confirmed, judged
from shifamind_core.progress import steps

MATCHERS: tuple[Matcher, ...] = (
    # Which notes and codes these are, by ids and names; labels and definitions of F1.
    different_codes,
    which_documents,
    # How scores were written. Before orders: a row is found by its values.
    stored_precision,
    sigmoids,
    in_a_part,
    score_map,
    # Where they stand, and again how they were written: codes or notes have to be right for a map of their own.
    order_of_rows_and_columns,
    stored_precision,
    score_map,
    different_labels,
    metric_definition,
    # Manifests that prove rounding of the weights, or weights that were not loaded.
    rounded_weights,
    not_loaded,
    # What alone changed, of what is known.
    stand_ins_aside,
    few_codes_changed,
    some_documents_changed,
)

# What a page says while each looks.
LOOKS_FOR: Mapping[Matcher, str] = {
    different_codes: "which codes both runs have",
    which_documents: "which notes both runs have",
    stored_precision: "whether scores were rounded when saved",
    sigmoids: "whether probabilities were saved as logits",
    in_a_part: "whether one part of the notes or codes differs",
    score_map: "whether scores were converted",
    order_of_rows_and_columns: "whether notes or codes stand in another order",
    different_labels: "whether labels differ",
    metric_definition: "whether F1 was defined otherwise",
    rounded_weights: "whether weights were rounded",
    not_loaded: "whether weights were not loaded",
    stand_ins_aside: "scores saved as exactly 0 or 1",
    few_codes_changed: "whether a few codes alone changed",
    some_documents_changed: "whether some notes alone changed",
}


def examine(evidence: Evidence) -> tuple[Examination, Examination]:
    """The examination before anything was looked for, and with everything exact found and undone."""
    begun = examination = non_finite.start(evidence)
    for match in steps(MATCHERS, LOOKS_FOR.__getitem__):
        examination = match(examination)
    return begun, examination


def nothing_in_common(problem: NothingInCommon) -> Finding:
    """Two runs that neither ids nor names nor contents bring together."""
    if problem.what == "codes":
        return confirmed("different_codes", str(problem), evidence={"shared": 0})
    # Ids could be made otherwise while the scores changed too.
    return judged("different_documents", TRUSTED, str(problem), evidence={"shared": 0})
