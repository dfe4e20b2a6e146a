"""Which codes carry the gap?"""

import streamlit as st

from shifamind_core.errors import ShifamindError
from shifamind_core.figures.codes import codes_figure
from shifamind_core.ui.codes.one_code import show_code, take_click
from shifamind_core.ui.session import cached
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.pick_runs import load_run, pick_pair, show_error
from shifamind_core.ui.widgets.side_by_side import show_settings, show_warnings
from shifamind_core.ui.widgets.tables import show_table
from shifamind_core.ui.widgets.threshold import pick_threshold

COLUMNS = ("code", "title", "support", "f1_gap", "candidate_f1", "reference_f1", "candidate_precision",
           "reference_precision", "candidate_recall", "reference_recall")  # fmt: skip

st.title("Codes")
pair = pick_pair()
if pair is None:
    st.stop()
threshold = pick_threshold()
try:
    candidate, reference = load_run(pair[0]), load_run(pair[1])
    comparison = cached.comparison(candidate, reference, threshold)
    aligned = comparison.aligned
    table = cached.codes(aligned.candidate, aligned.reference, threshold)
except ShifamindError as error:
    show_error(error)
    st.stop()
if candidate.digest == reference.digest:
    st.info("Both are the same run: choose another one to see a difference.", icon=":material/info:")
show_settings(pair)
show_warnings(comparison)

lower, higher = (table["f1_gap"] < 0).sum(), (table["f1_gap"] > 0).sum()
with st.container(horizontal=True):
    st.metric("Codes that score lower", f"{lower} of {len(table)}")
    st.metric("Codes that score higher", f"{higher} of {len(table)}")
    macro = aligned.macro_title
    st.metric(f"{macro}, candidate", f"{comparison.macro_f1.candidate:.4f}")
    st.metric(f"{macro}, reference", f"{comparison.macro_f1.reference:.4f}")
    st.metric(f"{macro} gap", f"{comparison.macro_f1.gap:+.4f}")
chart, values = st.tabs(["Chart", "Table"])
with chart:
    st.caption(
        "Sorted by the size of the gap, candidate − reference. A fault in the input or the weights moves nearly every code; a "
        "fault in the code list moves a few of them far. A click on a dot opens the code below."
    )
    show_figure(
        codes_figure(table, candidate.name, reference.name),
        "codes",
        "F1 of every code for candidate and reference, sorted by the gap. The table tab holds the values.",
        on_select=take_click,
    )
with values:
    show_table(table, COLUMNS, height=640)
st.header("One code")
show_code(aligned.candidate, aligned.reference, [str(code) for code in table["code"]], threshold)
for remark in comparison.remarks:
    if remark not in comparison.warnings:
        st.caption(safe_text(remark))
