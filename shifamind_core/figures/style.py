"""What every figure shares: colours, transparent ground, and names that cannot carry a link."""

from typing import Any

import plotly.graph_objects as go

# Okabe and Ito's colours (Wong, Nature Methods 8, 441, 2011), told apart under every common colour
# blindness; ordered, and without yellow and black, so that each stands out on white and on near-black.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CANDIDATE, REFERENCE = PALETTE[:2]
# For counts: every stop is readable on both grounds (Viridis begins in a purple that a dark page swallows).
SCALE = ("#6A6FD8", "#C65BB2", "#F2845C", "#F6C945")
GUIDE = "rgba(128, 128, 128, 0.75)"
BAND_OPACITY = 0.13

_LONGEST_NAME = 60


def plain(text: object) -> str:
    """Foreign text (a file's name, a code's title) as one short line without markup.

    Plotly renders `<a href=…>` in names, titles and hover boxes as a live link.

    >>> plain('a<a href="http://x">b</a>')
    'aa href="http://x"b/a'
    """
    line = "".join(c for c in str(text) if c not in "<>" and (c.isprintable() or c == " "))
    return line if len(line) <= _LONGEST_NAME else line[: _LONGEST_NAME - 1] + "…"


def colour(position: int) -> str:
    """The colour of the run at this position of the selection."""
    return PALETTE[position % len(PALETTE)]


def styled(figure: go.Figure, height: int, **layout: Any) -> go.Figure:
    """The figure with the house's layout: transparent in light and dark, legend on top, room for labels."""
    figure.update_layout(
        height=height,
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        margin={"l": 10, "r": 10, "t": 44, "b": 10},
        legend={"orientation": "h", "x": 0, "y": 0.995, "yanchor": "top", "yref": "container"},
        hoverlabel={"namelength": -1},
    )
    figure.update_layout(**layout)
    figure.update_xaxes(automargin=True, zeroline=False)
    figure.update_yaxes(automargin=True, zeroline=False)
    return figure


def chart_config(name: str) -> dict[str, object]:
    """Settings for `st.plotly_chart`: no logo, and a camera button that saves `name`.svg."""
    return {
        "displaylogo": False,
        "toImageButtonOptions": {"format": "svg", "filename": name},
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    }
