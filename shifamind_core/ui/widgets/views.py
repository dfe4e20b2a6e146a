"""The parts of the diagnosis page in tabs: the one that is looked at is computed, the others are not."""

from collections.abc import Callable, Mapping
from typing import Literal

import streamlit as st

View = Literal["looks", "rounding", "gap", "replay"]
TITLES: Mapping[View, str] = {
    "looks": "What it looks like",
    "rounding": "Could rounding do it?",
    "gap": "What the gap is made of",
    "replay": "Which change reproduces it?",
}
PARAMETER = "view"  # in a link


def show_views(views: Mapping[View, Callable[[], None]]) -> None:
    """Each under its title; a link's `?view=rounding` opens that one."""
    linked = st.query_params.get(PARAMETER)
    default = next((TITLES[view] for view in views if view == linked), None)
    tabs = st.tabs([TITLES[view] for view in views], default=default, key="diagnosis.view", on_change="rerun")
    for tab, draw in zip(tabs, views.values(), strict=True):
        if tab.open:
            with tab:
                draw()
