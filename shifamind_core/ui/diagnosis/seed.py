"""The seed's table, and beside it the one experiment that would settle the seed's case."""

from typing import Any

import pandas as pd
import streamlit as st

from shifamind_core.diagnosis.claims import SCORES, SEED_CLAIMS
from shifamind_core.ui.diagnosis.question import Question
from shifamind_core.ui.diagnosis.replay import submit_replay
from shifamind_core.ui.session.state import Workspace

CASINGS = ("lowercase=true", "lowercase=false")


def show_decisive_pair(
    question: Question, workspace: Workspace, asked: dict[str, Any] | None, openable: bool
) -> None:
    """What was reported, and a button that scores the whole split lower-cased, then cased."""
    if workspace.is_demo:
        st.warning(
            "The checkpoint here is the built-in demo's, not the one that these scores were reported of: what follows shows how the "
            "question is answered, not the answer. Open your own run directory on the overview.",
            icon=":material/info:",
        )
    table = pd.DataFrame(SEED_CLAIMS).rename(index=SCORES)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.caption(
            "The seed's table: claims of its author (17,266 notes, 50 codes, one checkpoint), not measured here."
        )
        config = {title: st.column_config.NumberColumn(format="%.4f") for title in table}
        st.dataframe(table, placeholder="–", column_config=config)
    with right:
        st.caption(
            "Decides it, on any one GPU. For the seed's checkpoint: 0.2934 lower-cased and 0.19 to 0.22 cased would settle it."
        )
        if st.button(
            "Casing on, casing off",
            type="primary",
            icon=":material/balance:",
            disabled=not openable or asked is None,
            help="Scores the whole split lower-cased, then cased, and ranks both by distance to the reported scores.",
        ):
            submit_replay(question, workspace, asked or {}, only=list(CASINGS))
