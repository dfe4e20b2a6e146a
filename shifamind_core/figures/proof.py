"""What F1 can become when no logit moves by more than ε, with the measured errors and the one that is needed."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from shifamind_core.analysis.flip_bound import SampledRange
from shifamind_core.diagnosis.proof import Need, Proof
from shifamind_core.figures.marks import ROW, Mark, add_marks
from shifamind_core.figures.style import BAND_OPACITY, CANDIDATE, PALETTE, REFERENCE, plain, styled

Metric = Literal["macro_f1", "micro_f1"]
TITLES: dict[Metric, str] = {"macro_f1": "Macro F1", "micro_f1": "Micro F1"}
SAMPLED = PALETTE[2]


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
    marks = [Mark(plain(one.policy), one.epsilon) for one in proof.policies if one.epsilon > 0]
    if need is not None and need.epsilon:
        marks.append(Mark(f"needed: {need.epsilon:.2g}", need.epsilon, decisive=True))
    rows = add_marks(figure, marks, float(x[0]), float(x[-1]))
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
        figure, height=400 + ROW * rows, margin={"l": 10, "r": 10, "t": 16 + ROW * rows, "b": 10},
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
