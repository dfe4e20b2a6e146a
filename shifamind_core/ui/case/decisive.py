"""The one experiment that would settle the case: the whole split lower-cased, then cased, against what was reported."""

from typing import Any

import streamlit as st

from shifamind_core.diagnosis.claims import SEED_CLAIMS
from shifamind_core.report.diagnosis import trials_table
from shifamind_core.ui.session.measured import asked_about, last_replay
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.jobs import show_failure, show_jobs, start_job
from shifamind_core.ui.widgets.tables import show_table

CASINGS = ("lowercase=true", "lowercase=false")
OTHER_MACHINES = ("A100", "L4", "H100")


def show_decisive_pair(workspace: Workspace, openable: bool) -> None:
    """Whose scores, the button with its progress, and what came out."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        machine = st.segmented_control(
            "Reported on", list(OTHER_MACHINES), default="A100", key="case.machine", required=True
        )
        asked = asked_about(workspace, "test", None, SEED_CLAIMS[machine]) or {}
        if st.button(
            "Casing on, casing off",
            type="primary",
            icon=":material/balance:",
            disabled=not openable,
            help="Scores the whole split lower-cased, then cased, and ranks both by their distance to the reported scores.",
        ):
            start_job(workspace, "replay", {**asked, "only": list(CASINGS)})
    if show_jobs(workspace, kinds=("replay",)):
        return
    show_failure(workspace, "replay")
    result: dict[str, Any] | None = last_replay(workspace, asked, None)
    if result is not None:
        st.markdown(f"**{safe_text(result.get('sentence', ''), 900)}**")
        table = trials_table(result)
        show_table(table, list(table.columns))
