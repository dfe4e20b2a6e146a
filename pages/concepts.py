"""Does the gap start at the concepts?"""

import numpy as np
import streamlit as st

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import ShifamindError
from shifamind_core.figures.concepts import concepts_figure
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.state import current_workspace
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.pick_runs import load_run, pick_pair, show_error
from shifamind_core.ui.widgets.side_by_side import show_settings, show_warnings
from shifamind_core.ui.widgets.tables import show_table

COLUMNS = (
    "concept",
    "candidate_mean",
    "reference_mean",
    "mean_difference",
    "max_abs_difference",
    "crossed",
    "correlation",
)
MOST_SHOWN = 30


def names_of(concepts: int) -> list[str]:
    """As the run directory's list has them, where it has as many; else by number."""
    try:
        known = RunDirectory(current_workspace().run_directory).concept_names
    except ShifamindError:
        known = None
    return (
        list(known)
        if known and len(known) == concepts
        else [f"concept {place + 1}" for place in range(concepts)]
    )


st.title("Concepts")
st.caption(
    "The model predicts concepts on the way to its codes. A gap that is there already points at the tokens, the encoder or its weights; one "
    "that is not, at what comes after."
)
pair = pick_pair()
if pair is None:
    st.stop()
try:
    candidate, reference = load_run(pair[0]), load_run(pair[1])
    comparison = cached.comparison(candidate, reference, 0.5)
except ShifamindError as error:
    show_error(error)
    st.stop()
show_settings(pair)
show_warnings(comparison)
try:
    found = cached.concepts(candidate, reference)
except ShifamindError as error:
    st.info(safe_text(error), icon=":material/info:")
    st.stop()
names = names_of(len(found.per_concept))
table = found.per_concept.assign(concept=[names[place] for place in found.per_concept["concept"]])
st.markdown(f"**{safe_text(found.sentence)}**")
moved = int(np.count_nonzero(table["mean_abs_difference"]))
with st.container(horizontal=True):
    st.metric("Concepts whose scores moved", f"{moved} of {len(table)}")
    st.metric("Largest |difference|", f"{table['max_abs_difference'].max():.3g}")
    st.metric(
        "Scores across 0.5",
        f"{table['crossed'].sum():,} of {comparison.aligned.candidate.documents * len(table):,}",
    )
if moved:
    shown = table.head(MOST_SHOWN)
    show_figure(
        concepts_figure(shown),
        "concepts",
        "Mean absolute difference of the concepts' scores, the largest first.",
    )
    if len(table) > len(shown):
        st.caption(f"The {len(shown)} of {len(table)} concepts that moved most; the table has all.")
show_table(table, COLUMNS)
