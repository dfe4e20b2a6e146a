"""A replay's winner: how far the logits lay from the reference before, and how far after."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from shifamind_core.figures.style import CANDIDATE, REFERENCE, styled


def before_after_figure(compared: Mapping[str, Any]) -> go.Figure:
    """Two histograms of |difference| from the reference on one logarithmic axis.

    Parameters
    ----------
    compared : mapping
        `exponents` (edges of log10 |difference|), `before` and `after` (counts), as a replay's JSON holds them.
    """
    edges = np.asarray(compared["exponents"], np.float64)
    centres = 10 ** ((edges[:-1] + edges[1:]) / 2)
    figure = go.Figure()
    for name, shade in (("before", REFERENCE), ("after", CANDIDATE)):
        counts: Sequence[int] = compared[name]
        figure.add_scatter(
            x=centres.astype(np.float32),
            y=np.asarray(counts, np.int32),
            name=name,
            mode="lines",
            line={"color": shade, "width": 2, "shape": "hvh"},
            fill="tozeroy",
            hovertemplate=f"{name}: %{{y:,}} logits near %{{x:.1e}}<extra></extra>",
        )
    figure.update_xaxes(
        type="log", title_text="|difference| from the reference, in logits", exponentformat="power", dtick=1
    )
    figure.update_yaxes(title_text="Logits")
    return styled(figure, height=320)
