"""Figures on a page: full width, in the page's theme, with a description for those who cannot see them."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import streamlit as st

from shifamind_core.figures.style import chart_config
from shifamind_core.html_report.page import Figure, figure_page

_HAS_ALT = "alt" in inspect.signature(st.plotly_chart).parameters


def show_figure(
    figure: Any,
    name: str,
    description: str,
    on_select: Callable[[], None] | Literal["rerun"] | None = None,
    select: Literal["points", "box"] = "points",
) -> None:
    """Draw a Plotly figure; a screen reader reads `description`.

    The camera button saves `name`.svg; the button below saves a page that opens anywhere and gives SVG and PNG.

    `description` is the page's own text: no file's name and no code's title belongs in it. `on_select` is called when
    points are clicked (or a box is drawn, by `select`), before the page runs again; what was selected is in the session under
    ``chart.name``.
    """
    more: dict[str, Any] = {"alt": description} if _HAS_ALT else {}
    if on_select is not None:
        more |= {"on_select": on_select, "selection_mode": select}
    st.plotly_chart(
        figure, width="stretch", theme="streamlit", config=chart_config(name), key=f"chart.{name}", **more
    )
    st.download_button(
        "Save the figure",
        partial(figure_page, Figure(figure, name, description)),
        f"shifamind-{name}.html",
        "text/html",
        help="A page that opens without a network: the figure to explore, and to save as SVG or PNG.",
        on_click="ignore",
        key=f"chart.{name}.save",
        type="tertiary",
        icon=":material/download:",
    )
