"""Figures on a page: full width, in the page's theme, with a description for those who cannot see them."""

import inspect
from collections.abc import Callable
from typing import Any

import streamlit as st

from shifamind_core.figures.style import chart_config

_HAS_ALT = "alt" in inspect.signature(st.plotly_chart).parameters


def show_figure(
    figure: Any, name: str, description: str, on_select: Callable[[], None] | None = None
) -> None:
    """Draw a Plotly figure; the camera button saves `name`.svg, a screen reader reads `description`.

    `description` is the page's own text: no file's name and no code's title belongs in it. `on_select` is called when a
    point is clicked, before the page runs again; what was clicked is in the session under ``chart.name``.
    """
    more: dict[str, Any] = {"alt": description} if _HAS_ALT else {}
    if on_select is not None:
        more |= {"on_select": on_select, "selection_mode": "points"}
    st.plotly_chart(
        figure, width="stretch", theme="streamlit", config=chart_config(name), key=f"chart.{name}", **more
    )
