"""The decisions in a part of the histogram that was marked, and a note's text for who may see it."""

from functools import partial
from typing import Any

import numpy as np
import streamlit as st

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import ShifamindError
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.tables import decisions_within, note_name
from shifamind_core.runs.run import Run
from shifamind_core.settings import notes_may_be_shown
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.widgets.pick_runs import show_error
from shifamind_core.ui.widgets.tables import COLUMNS as TITLES
from shifamind_core.ui.widgets.tables import column_config

MOST_ROWS = 500
COLUMNS = (
    "note",
    "code",
    "label",
    "candidate_probability",
    "reference_probability",
    "difference",
    "decision",
)


def marked(chart: str) -> tuple[float, float] | None:
    """From where to where on the chart's axis a box was drawn, if one was."""
    boxes = st.session_state.get(f"chart.{chart}", {}).get("selection", {}).get("box", [])
    if not boxes:
        return None
    low, high = sorted(float(one) for one in boxes[-1]["x"])
    return low, high


def show_decisions(
    workspace: Workspace, candidate: Run, reference: Run, chart: str, threshold: float
) -> None:
    """What lies in the marked part, of two aligned runs: digests, scores, and whether the decision is another."""
    between = marked(chart)
    if between is None:
        st.caption("Drag across the histogram to list the decisions in a part of it.")
        return
    table, total = decisions_within(candidate, reference, *between, threshold, MOST_ROWS)
    flipped = np.count_nonzero(table["decision"] != "same")
    st.subheader(f"Decisions that moved by {between[0]:.3g} to {between[1]:.3g}")
    if total > len(table):
        st.markdown(
            f"**{total:,} decisions**; the {len(table):,} that moved furthest are listed, {flipped:,} of them with another outcome."
        )
    else:
        st.markdown(f"**{total:,} decisions**, {flipped:,} of them with another outcome.")
    if not total:
        return
    chosen: Any = st.dataframe(
        table,
        hide_index=True,
        placeholder="",
        column_order=COLUMNS,
        column_config=column_config(table, COLUMNS),
        on_select="rerun",
        selection_mode="single-row",
        key="differences.decisions",
    )
    st.download_button(
        "This list as CSV",
        partial(csv_text, table),
        "shifamind-decisions.csv",
        "text/csv",
        on_click="ignore",
        key="download.decisions",
        type="tertiary",
        icon=":material/download:",
    )
    rows = chosen.selection.rows
    if rows and rows[0] < len(table):
        show_note(workspace, candidate.manifest.split or "test", str(table["note"].iloc[rows[0]]))
    else:
        st.caption(f"{TITLES['note'][2]} Choose a row for the note itself, where that is allowed.")


def show_note(workspace: Workspace, split: str, note: str) -> None:
    """The text, from where it lies, for as long as the row is chosen; nothing keeps it."""
    if not (workspace.is_demo or notes_may_be_shown()):
        st.info(
            "Notes are not shown here. Who runs this server can allow it with SHIFAMIND_SHOW_NOTES=1; they then go to the browser.",
            icon=":material/lock:",
        )
        return
    try:
        found = RunDirectory(workspace.run_directory).read_split(split)
    except ShifamindError as error:
        show_error(error)
        return
    text = next(
        (
            one
            for one, digest in zip(found.texts, found.document_ids, strict=True)
            if note_name(int(digest)) == note
        ),
        None,
    )
    if text is None:
        st.info(f"The {split} split of this run directory has no note {note}.", icon=":material/info:")
        return
    with st.container(height=320):
        st.text(text)
