"""The decision threshold, shared by the pages that flip decisions on it."""

import streamlit as st

from shifamind_core.analysis.thresholds import FIXED_THRESHOLD


def pick_threshold() -> float:
    """A threshold on the probability; kept between pages and in the address."""
    return st.slider(
        "Decision threshold",
        0.05,
        0.95,
        FIXED_THRESHOLD,
        0.01,
        key="threshold",
        help="A code is assigned where its probability is above this.",
        persist_state="session",
        bind="query-params",
        width=440,
    )
