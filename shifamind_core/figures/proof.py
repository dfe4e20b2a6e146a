"""What F1 can become when no logit moves by more than ε, with the measured errors and the one that is needed."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from shifamind_core.analysis.flip_bound import SampledRange
from shifamind_core.diagnosis.proof import Need, Proof
from shifamind_core.figures.style import BAND_OPACITY, CANDIDATE, GUIDE, PALETTE, REFERENCE, plain, styled

Metric = Literal["macro_f1", "micro_f1"]
TITLES: dict[Metric, str] = {"macro_f1": "Macro F1", "micro_f1": "Micro F1"}
SAMPLED = PALETTE[2]
_LABEL_SHARE = 0.012  # of the axis, that one letter of a label takes
_ROW = 18  # pixels between two rows of labels


def proof_figure(
    proof: Proof, metric: Metric = "macro_f1", sampled: Mapping[str, SampledRange] | None = None
) -> go.Figure:
    """F1_min and F1_max against ε on a logarithmic axis.

    Parameters
    ----------
    proof : Proof
        Its policies become dotted vertical lines, what the gap needs a solid one, both scores dashed lines across.
    sampled : dict, optional
        Policy to what F1 became under errors drawn from its measured ones: a point with its 95 % interval.
    """
    figure = go.Figure()
    x = proof.curve.epsilons
    low, high = (getattr(proof.curve, metric)[:, side] for side in (0, 1))
    for name, values, fill in (("lowest F1", low, None), ("highest F1", high, "tonexty")):
        figure.add_scatter(
            x=x.astype(np.float32),
            y=values.astype(np.float32),
            name=name,
            mode="lines",
            line={"color": CANDIDATE, "width": 2},
            fill=fill,
            fillcolor=f"rgba(0, 114, 178, {BAND_OPACITY})",
            showlegend=False,
            hovertemplate=f"{name} %{{y:.4f}}",
        )
    for policy, drawn in (sampled or {}).items():
        _add_sampled(figure, policy, drawn, metric)
    need = next((need for need in proof.needs if need.metric == metric), None)
    if need is not None:
        _add_scores(figure, need)
    marks = [(plain(one.policy), one.epsilon, False) for one in proof.policies if one.epsilon > 0]
    if need is not None and need.epsilon:
        marks.append((f"needed: {need.epsilon:.2g}", need.epsilon, True))
    rows = _add_marks(figure, marks, float(x[0]), float(x[-1]))
    figure.update_xaxes(
        type="log",
        title_text="ε: no logit moves by more than this",
        exponentformat="power",
        dtick=1,
        range=[float(np.log10(x[0])), float(np.log10(x[-1]))],
        hoverformat=".2g",
    )
    figure.update_yaxes(title_text=TITLES[metric])
    return styled(
        figure, height=400 + _ROW * rows, margin={"l": 10, "r": 10, "t": 16 + _ROW * rows, "b": 10},
        hovermode="x unified", showlegend=False,
    )  # fmt: skip


def _add_sampled(figure: go.Figure, policy: str, drawn: SampledRange, metric: Metric) -> None:
    score = getattr(drawn, metric)
    figure.add_scatter(
        x=np.array([drawn.largest_error], np.float32),
        y=np.array([score.mean], np.float32),
        error_y={
            "array": np.array([score.interval[1] - score.mean], np.float32),
            "arrayminus": np.array([score.mean - score.interval[0]], np.float32),
            "width": 6,
        },
        name=f"{plain(policy)}, sampled",
        mode="markers",
        marker={"color": SAMPLED, "size": 9, "symbol": "diamond"},
        hovertemplate=f"{plain(policy)}, sampled %{{y:.4f}}<extra></extra>",
    )


def _add_scores(figure: go.Figure, need: Need) -> None:
    """Both scores as dashed lines; the higher one's label stands above its line, the lower one's below."""
    above = "here" if need.here >= need.there else "there"
    for name, value, shade in (("here", need.here, CANDIDATE), ("there", need.there, REFERENCE)):
        figure.add_hline(y=value, line={"color": shade, "width": 1.5, "dash": "dash"})
        figure.add_annotation(
            x=0,
            xref="paper",
            xanchor="left",
            y=value,
            yanchor="bottom" if name == above else "top",
            text=f"{name} {value:.4f}",
            showarrow=False,
        )


def _add_marks(figure: go.Figure, marks: list[tuple[str, float, bool]], low: float, high: float) -> int:
    """Vertical lines whose labels, above the plot, do not run into each other; how many rows these take."""
    ends: list[float] = []  # of the last label in each row, as a share of the axis
    for text, value, needed in sorted(marks, key=lambda mark: mark[1]):
        at = float(np.log(value / low) / np.log(high / low))
        half = _LABEL_SHARE * (len(text) + 1) / 2
        row = next((row for row, end in enumerate(ends) if at - half > end), len(ends))
        ends[row : row + 1] = [at + half]
        shade = REFERENCE if needed else GUIDE
        figure.add_vline(x=value, line={"color": shade, "width": 2 if needed else 1.5, "dash": "solid" if needed else "dot"})  # fmt: skip
        figure.add_annotation(
            x=float(np.log10(value)),
            y=1,
            yref="paper",
            yanchor="bottom",
            yshift=_ROW * row,
            text=f"<b>{text}</b>" if needed else text,
            font={"color": REFERENCE} if needed else {},
            showarrow=False,
        )
    return max(len(ends), 1)
