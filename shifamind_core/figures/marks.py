"""Vertical marks on a logarithmic axis, whose labels do not run into each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from shifamind_core.figures.style import GUIDE, REFERENCE

ROW = 18  # pixels between two rows of labels
_LABEL_SHARE = 0.018  # of a narrow axis, that one letter of a label takes


@dataclass(frozen=True)
class Mark:
    """A value on the axis; a `decisive` one is drawn solid and bold, the others dotted."""

    text: str
    value: float
    decisive: bool = False


def add_marks(figure: go.Figure, marks: Sequence[Mark], low: float, high: float) -> int:
    """Draw the marks, their labels above the plot; how many rows of pixels (`ROW`) the labels take.

    Parameters
    ----------
    low, high : float
        The axis' range. A label that would leave it is moved inwards, its line stays where it is.
    """
    ends: list[float] = []  # of the last label in each row, as a share of the axis
    for mark in sorted(marks, key=lambda mark: mark.value):
        share = float(np.log(mark.value / low) / np.log(high / low))
        half = _LABEL_SHARE * (len(mark.text) + 1) / 2
        at = min(max(share, half), 1 - half)
        row = next((row for row, end in enumerate(ends) if at - half > end), len(ends))
        ends[row : row + 1] = [at + half]
        shade = REFERENCE if mark.decisive else GUIDE
        line = {
            "color": shade,
            "width": 2 if mark.decisive else 1.5,
            "dash": "solid" if mark.decisive else "dot",
        }
        figure.add_vline(x=mark.value, line=line)
        figure.add_annotation(
            x=float(np.log10(low) + at * np.log10(high / low)),
            y=1,
            yref="paper",
            yanchor="bottom",
            yshift=ROW * row,
            text=f"<b>{mark.text}</b>" if mark.decisive else mark.text,
            showarrow=False,
        )
    return max(len(ends), 1)
