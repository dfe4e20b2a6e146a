"""The decision threshold, shared by the pages that flip decisions on it."""

import streamlit as st

from shifamind_core.analysis.thresholds import FIXED_THRESHOLD

KEY = "threshold"  # in the session and in links
LOWEST, HIGHEST, STEP = 0.05, 0.95, 0.01


def pick_threshold() -> float:
    """A threshold on the probability; kept between pages and, unless it is 0.5, in the address."""
    # Written on every run: a page that opens for the first time would otherwise begin at the default.
    st.session_state[KEY] = st.session_state.get(KEY, _linked())
    chosen = st.slider(
        "Decision threshold",
        LOWEST,
        HIGHEST,
        step=STEP,
        key=KEY,
        help="A code is assigned where its probability is above this.",
        persist_state="session",
        width=440,
    )
    if chosen != FIXED_THRESHOLD:
        st.query_params[KEY] = f"{chosen:.2f}"
    elif KEY in st.query_params:
        del st.query_params[KEY]
    return chosen


def _linked() -> float:
    """The threshold that the link names; 0.5 where it names none or nonsense."""
    try:
        linked = round(float(st.query_params.get(KEY, "")), 2)
    except (ValueError, OverflowError):
        return FIXED_THRESHOLD
    return linked if LOWEST <= linked <= HIGHEST else FIXED_THRESHOLD
