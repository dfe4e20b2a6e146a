"""A replay's winner: how far the logits lay from the reference before, and how far after."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from shifamind_core.figures.style import CANDIDATE, REFERENCE, styled


def before_after_figure(compared: Mapping[str, Any]) -> go.Figure:
    """Two histograms of |difference| from the reference; logits that are exactly equal have bars of their own.

    Parameters
    ----------
    compared : mapping
        `exponents` (edges of log10 |difference|), `before` and `after` (counts), `zeros` (a count for each), as a
        replay's JSON holds them.
    """
    edges = np.asarray(compared["exponents"], np.float64)
    step = edges[1] - edges[0]
    equal = edges[0] - 4 * step  # where exact equality stands: apart from every size
    between = 10 ** np.stack([edges[:-1], edges[1:]], axis=1)
    figure = go.Figure()
    for name, shade, side in (("before", REFERENCE, -1), ("after", CANDIDATE, 1)):
        figure.add_bar(
            x=(edges[:-1] + step / 2).astype(np.float32),
            y=np.asarray(compared[name], np.int32),
            width=step,
            name=name,
            legendgroup=name,
            opacity=0.75,
            marker={"color": shade, "line": {"width": 0}},
            customdata=between.astype(np.float32),
            hovertemplate=f"{name}: %{{y:,}} logits from %{{customdata[0]:.1e}} to %{{customdata[1]:.1e}}<extra></extra>",
        )
        figure.add_bar(
            x=np.array([equal + side * step / 2], np.float32),
            y=np.array([compared["zeros"][name]], np.int32),
            width=step,
            name=f"{name}, exactly equal",
            legendgroup=name,
            showlegend=False,
            marker={"color": shade, "line": {"width": 0}},
            hovertemplate=f"{name}: %{{y:,}} logits exactly equal<extra></extra>",
        )
    decades = np.arange(np.ceil(edges[0]), edges[-1] + 1e-9)
    every = -(-len(decades) // 6)
    shown = decades[::-1][::every][::-1]
    figure.update_xaxes(
        title_text="|difference| from the reference, in logits (log scale)",
        tickvals=np.concatenate([[equal], shown]).astype(np.float32),
        ticktext=["equal"] + [f"1e{int(exponent)}" for exponent in shown],
        tickangle=0,
    )
    figure.update_yaxes(title_text="Logits")
    return styled(figure, height=320, barmode="overlay", bargap=0)
