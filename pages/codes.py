"""Which codes carry the gap?"""

import streamlit as st

from shifamind_core.errors import ShifamindError
from shifamind_core.figures.codes import codes_figure, support_figure
from shifamind_core.ui.codes.one_code import codes_named, show_code, take_click
from shifamind_core.ui.session import cached
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.pick_runs import load_run, pick_pair, show_error
from shifamind_core.ui.widgets.side_by_side import show_settings, show_warnings
from shifamind_core.ui.widgets.tables import show_table
from shifamind_core.ui.widgets.threshold import pick_threshold

COLUMNS = ("code", "title", "support", "f1_gap", "candidate_f1", "reference_f1", "candidate_precision",
           "reference_precision", "candidate_recall", "reference_recall")  # fmt: skip

MOST_ROWS = 100  # of the chart; it grows by one for each code
MOST_LISTED = 500  # of the table, and of what can be chosen: the browser gets no more of a long list

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
    st.metric("Codes that score lower", f"{lower:,} of {len(table):,}")
    st.metric("Codes that score higher", f"{higher:,} of {len(table):,}")
    macro = aligned.macro_title
    st.metric(f"{macro}, candidate", f"{comparison.macro_f1.candidate:.4f}")
    st.metric(f"{macro}, reference", f"{comparison.macro_f1.reference:.4f}")
    st.metric(f"{macro} gap", f"{comparison.macro_f1.gap:+.4f}")
listed = found = table
if len(table) > MOST_ROWS:
    st.subheader("By support")
    show_figure(
        support_figure(table, candidate.name, reference.name),
        "codes-by-support",
        "Mean F1 of groups of codes, by how many notes carry them, for candidate and reference.",
    )
    st.subheader("The largest gaps")
    asked = st.text_input(
        "Find a code", placeholder="A part of its code or of its name", key="codes.find", width=520
    )
    found = codes_named(table, asked)
    listed = found.head(MOST_LISTED)
    if found.empty:
        st.info(
            f"No code and no name of the {len(table):,} codes holds this text.", icon=":material/search_off:"
        )
        st.stop()
chart, values = st.tabs(["Chart", "Table"])
with chart:
    st.caption(
        (f"The {MOST_ROWS} of {len(found):,} codes with the largest gaps. " if len(found) > MOST_ROWS else "")
        + "Sorted by the size of the gap, candidate − reference. A fault in the input or the weights moves nearly every code; a "
        "fault in the code list moves a few of them far. A click on a dot opens the code below."
    )
    show_figure(
        codes_figure(found.head(MOST_ROWS), candidate.name, reference.name),
        "codes",
        "F1 of every code for candidate and reference, sorted by the gap. The table tab holds the values.",
        on_select=take_click,
    )
with values:
    show_table(listed, COLUMNS, height=640)
    if len(found) > len(listed):
        st.caption(
            f"The {len(listed):,} of {len(found):,} codes with the largest gaps; *codes.csv* of the report holds all."
        )
st.header("One code")
show_code(aligned.candidate, aligned.reference, [str(code) for code in listed["code"]], threshold)
for remark in comparison.remarks:
    if remark not in comparison.warnings:
        st.caption(safe_text(remark))
