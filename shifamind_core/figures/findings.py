"""The evidence of a finding, drawn; and the parts of a gap."""

import numpy as np
import plotly.graph_objects as go

from shifamind_core.analysis.bootstrap import Estimate
from shifamind_core.analysis.gap_split import GapParts, GapSplit
from shifamind_core.diagnosis.views import EvidencePlot
from shifamind_core.figures.style import CANDIDATE, GUIDE, PALETTE, colour, plain, styled

PARTS = {
    "gap": "the whole gap",
    "labels": "labels",
    "threshold": "threshold",
    "run_calibration": "calibration of the run",
    "code_calibration": "calibration of codes",
    "ranking": "ranking",
}


def evidence_figure(plot: EvidencePlot) -> go.Figure:
    """Points, lines or bars, as the finding asks."""
    figure = go.Figure()
    for position, series in enumerate(plot.series):
        x, y = np.asarray(series.x), np.asarray(series.y).astype(np.float32)
        x = x.astype(np.float32) if x.dtype.kind in "fiub" else [plain(value) for value in x]
        shade, name = colour(position), plain(series.name)
        hover = "%{x}: %{y:.4g}"
        if plot.kind == "bar":
            figure.add_bar(
                x=x, y=y, name=name, marker={"color": shade, "line": {"width": 0}}, hovertemplate=hover
            )
        elif plot.kind == "line":
            figure.add_scatter(x=x, y=y, name=name, mode="lines", line={"color": shade}, hovertemplate=hover)
        else:
            marker = {"color": shade, "size": 5, "opacity": 0.6}
            figure.add_scatter(x=x, y=y, name=name, mode="markers", marker=marker, hovertemplate=hover)
    figure.update_xaxes(title_text=plain(plot.x_title))
    figure.update_yaxes(title_text=plain(plot.y_title), type="log" if plot.log_y else "linear")
    return styled(figure, height=320, showlegend=len(plot.series) > 1)


def gap_split_figure(split: GapSplit) -> go.Figure:
    """Each part of both gaps as a bar with its 95 % interval; parts that are zero by construction are left out."""
    shown = [
        part
        for part in PARTS
        if part not in ("labels", "threshold")
        or any(_estimate(metric, part).value for metric in (split.macro_f1, split.micro_f1))
    ]
    figure = go.Figure()
    for name, metric, shade in (
        ("macro F1", split.macro_f1, CANDIDATE),
        ("micro F1", split.micro_f1, PALETTE[4]),
    ):
        found = [_estimate(metric, part) for part in shown]
        values = np.array([one.value for one in found])
        figure.add_bar(
            y=[PARTS[part] for part in shown],
            x=values.astype(np.float32),
            orientation="h",
            name=name,
            marker={"color": shade, "line": {"width": 0}, "opacity": [1.0] + [0.75] * (len(shown) - 1)},
            error_x={
                "array": np.array([one.high for one in found], np.float32) - values.astype(np.float32),
                "arrayminus": values.astype(np.float32) - np.array([one.low for one in found], np.float32),
                "color": GUIDE,
                "thickness": 1.5,
                "width": 4,
            },
            hovertemplate=f"{name}: %{{x:+.4f}}<extra></extra>",
        )
    figure.add_vline(x=0, line={"color": GUIDE, "width": 1})
    figure.update_xaxes(title_text="F1, candidate − reference", tickformat="+.3~g")
    figure.update_yaxes(autorange="reversed")
    return styled(figure, height=110 + 48 * len(shown), barmode="group", bargap=0.35)


def _estimate(metric: GapParts, part: str) -> Estimate:
    return getattr(metric, part)
