"""How many decisions could fall the other way, against how far a logit may move."""

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from shifamind_core.figures.marks import ROW, Mark, add_marks
from shifamind_core.figures.style import CANDIDATE, plain, styled

POINTS = 240


def at_risk_figure(
    margins: Float64[np.ndarray, " near"], decisions: int, epsilon: float, measured: Mapping[str, float]
) -> go.Figure:
    """Decisions within ε of the threshold against ε, both logarithmic; before the first, and beyond what is known, there is no line.

    Parameters
    ----------
    margins : float64 [near]
        |logit − logit(threshold)|, ascending: of all decisions, or of those nearest to the threshold.
    decisions : int
        How many there are in all.
    epsilon : float
        Of the certificate: a solid mark.
    measured : mapping
        Policy to the largest error that a ladder measured: dotted marks. 0 is left out.
    """
    marks = [Mark(plain(name), value) for name, value in measured.items() if value > 0]
    if epsilon > 0:
        marks.append(Mark(f"certified: {epsilon:.1e}", epsilon, decisive=True))
    nearest = float(margins[margins > 0].min(initial=1.0))
    low = min([nearest, *(mark.value for mark in marks)]) / 3
    high = max([10 * nearest, 3 * low, 1.0, *(3 * mark.value for mark in marks)])
    x = np.geomspace(low, high, POINTS)
    within = np.searchsorted(margins, x, side="right")
    known = (within > 0) & ((x <= margins[-1]) | (len(margins) == decisions))
    figure = go.Figure(
        go.Scatter(
            x=x.astype(np.float32),
            y=np.where(known, within, np.nan).astype(np.float32),
            name="decisions within ε",
            mode="lines",
            line={"color": CANDIDATE, "width": 2, "shape": "hv"},
            hovertemplate="%{y:,} decisions within %{x:.2g}<extra></extra>",
        )
    )
    rows = add_marks(figure, marks, low, high)
    figure.update_xaxes(
        type="log",
        title_text="ε: how far a logit may move",
        exponentformat="power",
        dtick=1,
        range=[float(np.log10(low)), float(np.log10(high))],
    )
    figure.update_yaxes(
        type="log",
        title_text="Decisions within ε of the threshold",
        exponentformat="power",
        dtick=1,
        range=[-0.3, float(np.log10(decisions)) + 0.3],
    )
    return styled(
        figure,
        height=340 + ROW * rows,
        margin={"l": 10, "r": 10, "t": 16 + ROW * rows, "b": 10},
        showlegend=False,
    )
