"""How do the logits of two runs differ?"""

import streamlit as st

from shifamind_core.artifacts.code_titles import code_title
from shifamind_core.errors import ShifamindError
from shifamind_core.figures.differences import (
    density_figure,
    difference_histogram,
    histogram_note,
    linear_histogram,
    linear_note,
)
from shifamind_core.ui.differences.brush import show_decisions
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.state import current_workspace
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.pick_runs import load_run, pick_pair, show_error
from shifamind_core.ui.widgets.side_by_side import show_settings, show_warnings
from shifamind_core.ui.widgets.tables import show_table
from shifamind_core.ui.widgets.threshold import pick_threshold
from shifamind_core.ui.widgets.uploads import upload_reference

COLUMNS = ("code", "title", "support", "mean_difference", "max_abs_difference", "abs_p50", "abs_p99",
           "decisions_flipped", "decisions_gained", "decisions_lost", "correlation", "non_finite_cells")  # fmt: skip
MOST_ROWS = 500

st.title("Differences")
with st.expander("Bring a run from another machine", icon=":material/upload:"):
    upload_reference()
pair = pick_pair()
if pair is None:
    st.stop()
threshold = pick_threshold()
try:
    candidate, reference = load_run(pair[0]), load_run(pair[1])
    comparison = cached.comparison(candidate, reference, threshold)
    binned = cached.differences(candidate, reference, threshold)
except ShifamindError as error:
    show_error(error)
    st.stop()
if candidate.digest == reference.digest:
    st.info("Both are the same run: choose another one to see a difference.", icon=":material/info:")
show_settings(pair)
show_warnings(comparison)

difference = comparison.difference
with st.container(horizontal=True):
    for label, value in {
        "Mean difference": difference.mean,
        "Largest |difference|": difference.max_abs,
        **{
            f"{percent} % differ by less than": value for percent, value in difference.abs_percentiles.items()
        },
    }.items():
        st.metric(label, "–" if value is None else f"{value:.3g}")
    st.metric("Decisions that differ", f"{comparison.decisions_flipped:,} of {difference.cells:,}")
scale = st.segmented_control(
    "Scale of the differences",
    ["Linear", "Logarithmic"],
    default="Linear",
    key="differences.scale",
    help="The logarithmic one shows 1e-6 and 1 at once, either side of zero.",
    required=True,
)
left, right = st.columns(2)
with left:
    if scale == "Linear":
        histogram = linear_histogram(binned.linear)
        histogram.update_layout(dragmode="select", selectdirection="h")
        show_figure(
            histogram,
            "differences",
            "Histogram of logit differences, candidate minus reference.",
            on_select="rerun",
            select="box",
        )
    else:
        show_figure(
            difference_histogram(binned.histogram, difference.abs_percentiles),
            "differences-log",
            "Histogram of logit differences, candidate minus reference, on a symmetric logarithmic axis.",
        )
    note = linear_note(binned.linear) if scale == "Linear" else histogram_note(binned.histogram)
    st.caption(
        f"Candidate − reference. {note} {binned.looked_at} For BERT checkpoints that we measured, rounding moved logits by 1e-6 to 1e-5 in FP32, 1e-3 "
        "to 1e-2 in TF32 and FP16, 1e-2 to 1e-1 in BF16; how far it moves yours, a run under another policy shows."
    )
with right:
    show_figure(
        density_figure(binned.density, threshold),
        "density",
        "How many logits lie at each pair of reference and candidate value; equal runs lie on the diagonal.",
    )
    st.caption(
        "Equal logits lie on the dashed diagonal. The dotted lines are the threshold: what lies in the upper left or "
        "the lower right quarter is a flipped decision."
    )
if scale == "Linear":
    show_decisions(
        current_workspace(),
        comparison.aligned.candidate,
        comparison.aligned.reference,
        "differences",
        threshold,
    )
st.subheader("By code")
table = comparison.per_code
table = table.assign(
    title=table["code"].map(code_title),
    decisions_flipped=table["decisions_gained"] + table["decisions_lost"],
)
show_table(table.sort_values("max_abs_difference", ascending=False, kind="stable").head(MOST_ROWS), COLUMNS)
if len(table) > MOST_ROWS:
    st.caption(
        f"The {MOST_ROWS:,} of {len(table):,} codes with the largest differences; *comparison.csv* of the report holds all."
    )
for remark in comparison.remarks:
    if remark not in comparison.warnings:
        st.caption(safe_text(remark))
