"""F1 against threshold, for any number of runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from shifamind_core.analysis.thresholds import FIXED_THRESHOLD, ThresholdCurve, TunedThreshold
from shifamind_core.figures.style import BAND_OPACITY, GUIDE, colour, plain, styled

DASHES = {"test": "solid", "validation": "dash"}


@dataclass(frozen=True, eq=False)
class ThresholdLine:
    """One run on one split.

    Attributes
    ----------
    name : str
        Lines of one name share a colour.
    split : str
        "test" (solid), "validation" (dashed); any other split is dotted.
    thresholds, micro_f1, macro_f1 : float [thresholds]
    tuned : float, optional
        Threshold chosen on the validation split; marked on this line where the line has it.
    plateau : (float, float), optional
        Lowest and highest threshold that are as good as the tuned one.
    """

    name: str
    split: str
    thresholds: np.ndarray
    micro_f1: np.ndarray
    macro_f1: np.ndarray
    tuned: float | None = None
    plateau: tuple[float, float] | None = None


def threshold_lines(
    name: str,
    scored: ThresholdCurve,
    validation: ThresholdCurve | None = None,
    tuned: TunedThreshold | None = None,
) -> list[ThresholdLine]:
    """The lines of one run: its validation split, where there is one, and the split that is scored."""
    threshold = None if tuned is None else tuned.threshold
    plateau = None if tuned is None else (tuned.plateau.lowest, tuned.plateau.highest)
    lines = [ThresholdLine(name, "test", scored.thresholds, scored.micro_f1, scored.macro_f1, threshold)]
    if validation is not None:
        lines.insert(
            0,
            ThresholdLine(
                name,
                "validation",
                validation.thresholds,
                validation.micro_f1,
                validation.macro_f1,
                threshold,
                plateau,
            ),
        )
    return lines


def thresholds_figure(lines: Sequence[ThresholdLine]) -> go.Figure:
    """Micro F1 above, macro F1 below, over one threshold axis: a vertical line reads both at one threshold."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    names = list(dict.fromkeys(line.name for line in lines))
    for line in lines:
        position = names.index(line.name)
        shade = colour(position)
        # Earlier runs are drawn broader, so that a run under an equal one still shows at its edges.
        broader = min(1.2 * (len(names) - 1 - position), 4)
        label = f"{plain(line.name)} · {plain(line.split)}"
        for row, (metric, values) in enumerate(
            (("micro F1", line.micro_f1), ("macro F1", line.macro_f1)), start=1
        ):
            figure.add_scatter(
                x=line.thresholds.astype(np.float32),
                y=values.astype(np.float32),
                name=label,
                legendgroup=label,
                showlegend=row == 1,
                mode="lines",
                line={"color": shade, "width": 2 + broader, "dash": DASHES.get(line.split, "dot")},
                hovertemplate=f"{metric} %{{y:.4f}}",
                row=row,
                col=1,
            )
            if line.tuned is not None:
                _mark_tuned(figure, line, label, values, row, shade, 11 + broader)
        if line.plateau is not None:
            low, high = line.plateau
            figure.add_shape(
                type="rect",
                x0=low,
                x1=high,
                y0=0,
                y1=1,
                yref="y domain",
                fillcolor=shade,
                opacity=BAND_OPACITY,
                line_width=0,
            )
    figure.add_vline(x=FIXED_THRESHOLD, line={"color": GUIDE, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=FIXED_THRESHOLD,
        y=1,
        yref="y domain",
        yanchor="top",
        xanchor="left",
        text=f"{FIXED_THRESHOLD:g}",
        showarrow=False,
    )
    figure.update_yaxes(title_text="Micro F1", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="Macro F1", rangemode="tozero", row=2, col=1)
    figure.update_xaxes(title_text="Threshold on the probability", row=2, col=1)
    figure.update_xaxes(hoverformat=".2f")
    return styled(figure, height=620, hovermode="x unified")


def _mark_tuned(
    figure: go.Figure,
    line: ThresholdLine,
    label: str,
    values: np.ndarray,
    row: int,
    shade: str,
    size: float,
) -> None:
    at = int(np.argmin(np.abs(line.thresholds - line.tuned)))
    figure.add_scatter(
        x=line.thresholds[[at]].astype(np.float32),
        y=values[[at]].astype(np.float32),
        name=f"{label} · tuned",
        legendgroup=label,
        showlegend=False,
        mode="markers",
        marker={"color": shade, "size": size, "symbol": "diamond", "line": {"color": "white", "width": 1}},
        hovertemplate="tuned: threshold %{x:.2f}, F1 %{y:.4f}<extra></extra>",
        row=row,
        col=1,
    )
