"""Candidate minus reference: how far the logits lie apart, and where."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from shifamind_core.analysis.alignment import AlignedRuns
from shifamind_core.figures.binning import (
    Density,
    Histogram,
    SymmetricLogHistogram,
    density,
    histogram,
    symmetric_log_histogram,
)
from shifamind_core.figures.style import CANDIDATE, GUIDE, PALETTE, SCALE, styled

_MOST_TICKS = 5  # a side
MOST_CELLS = 1 << 23  # of larger runs, notes spread evenly over all are binned: a shape needs no more
HEIGHT = 480  # of both figures, which stand side by side


@dataclass(frozen=True, eq=False)
class BinnedDifferences:
    """What both figures need of two aligned runs: some ten thousand numbers instead of all logits."""

    linear: Histogram
    histogram: SymmetricLogHistogram
    density: Density
    looked_at: str = ""


def bin_differences(aligned: AlignedRuns) -> BinnedDifferences:
    """Bin candidate − reference, taken in FP64, and the pairs of logits themselves; `looked_at` says of which notes, if not of all."""
    notes, codes = aligned.candidate.logits.shape
    step = -(-notes * codes // MOST_CELLS)
    candidate, reference = (
        run.logits[::step].astype(np.float64) for run in (aligned.candidate, aligned.reference)
    )
    part = "" if step == 1 else f"Drawn from {len(candidate):,} of {notes:,} notes, spread evenly."
    with np.errstate(invalid="ignore"):  # infinity − infinity is NaN, and is counted as not finite
        return BinnedDifferences(
            linear=histogram(candidate - reference),
            histogram=symmetric_log_histogram(candidate - reference),
            density=density(reference, candidate),
            looked_at=part,
        )


def linear_histogram(found: Histogram) -> go.Figure:
    """Logit differences as they are, zero in the middle: what a person expects of a histogram."""
    centres = (found.edges[:-1] + found.edges[1:]) / 2
    between = np.stack([found.edges[:-1], found.edges[1:]], axis=1).astype(np.float32)
    figure = go.Figure()
    figure.add_bar(
        x=centres.astype(np.float32),
        y=found.counts,
        width=float(found.edges[1] - found.edges[0]),
        customdata=between,
        marker={"color": CANDIDATE, "line": {"width": 0}},
        hovertemplate="%{customdata[0]:.2e} to %{customdata[1]:.2e}: %{y:,} logits<extra></extra>",
    )
    figure.add_vline(x=0, line={"color": GUIDE, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="Logit difference, candidate − reference")
    figure.update_yaxes(title_text="Logits")
    return styled(figure, height=HEIGHT, bargap=0, showlegend=False)


def linear_note(found: Histogram) -> str:
    """What lies beyond the figure's ends, as one sentence; empty where nothing does."""
    end = found.edges[-1]
    parts = [
        (found.below, f"below −{end:.2g}"),
        (found.above, f"above {end:.2g}"),
        (found.non_finite, "are NaN or infinite"),
    ]
    said = [f"{count:,} {where}" for count, where in parts if count]
    return "Beyond the figure: " + ", ".join(said) + "." if said else ""


def difference_histogram(
    histogram: SymmetricLogHistogram, percentiles: Mapping[int, float | None] | None = None
) -> go.Figure:
    """Logit differences on a symmetric log axis: 1e-6 and 1 are both visible, exact zeros have their own bar.

    Parameters
    ----------
    histogram : SymmetricLogHistogram
    percentiles : dict, optional
        Percentile → |difference|; each is marked on both sides.

    Notes
    -----
    The axis is linear in its own coordinate: zero in the middle, log10 |difference| outwards from the first
    decade shown. Values outside are counted in the note under the figure.
    """
    low = histogram.exponents[0]
    step = histogram.exponents[1] - low
    offset = 2 * step  # between zero and the first decade, so that the bar of the zeros stands alone
    centre = histogram.exponents[:-1] - low + step / 2 + offset
    edges = histogram.exponents[:, None]
    between = np.stack([10 ** edges[:-1, 0], 10 ** edges[1:, 0]], axis=1).astype(np.float32)
    figure = go.Figure()
    for counts, position, sign, name in (
        (histogram.negative, -centre, "−", "candidate lower"),
        (histogram.positive, centre, "+", "candidate higher"),
    ):
        figure.add_bar(
            x=position.astype(np.float32),
            y=counts,
            width=step,
            name=name,
            customdata=between,
            marker={"color": CANDIDATE, "line": {"width": 0}},
            hovertemplate=f"{sign}%{{customdata[0]:.2e}} to {sign}%{{customdata[1]:.2e}}: %{{y:,}} logits<extra></extra>",
        )
    figure.add_bar(
        x=np.zeros(1, np.float32),
        y=np.array([histogram.zeros]),
        width=step,
        name="exactly equal",
        marker={"color": PALETTE[2], "line": {"width": 0}},
        hovertemplate="exactly equal: %{y:,} logits<extra></extra>",
    )
    marked = {
        p: v for p, v in sorted((percentiles or {}).items()) if v is not None and np.isfinite(v) and v > 0
    }
    for value in marked.values():
        for side in (-1, 1):
            at = side * max(float(np.log10(value) - low + offset), offset)
            figure.add_vline(x=at, line={"color": GUIDE, "width": 1, "dash": "dot"})
    if marked:
        figure.add_annotation(
            x=0,
            y=1,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            text="|difference|: " + ", ".join(f"p{p:g} {v:.2g}" for p, v in marked.items()),
        )
    decades = np.arange(np.ceil(low), histogram.exponents[-1] + 0.5)
    every = int(np.ceil(len(decades) / _MOST_TICKS))
    shown = decades[::-1][::every][::-1]
    if len(shown) > 1 and (shown[0] - low + offset) < (shown[-1] - low + offset) / 8:
        shown = shown[1:]  # its label would run into that of zero
    ticks = shown - low + offset
    figure.update_xaxes(
        title_text="Logit difference (symmetric log scale)",
        tickvals=np.concatenate([-ticks[::-1], [0.0], ticks]).astype(np.float32),
        ticktext=[f"−1e{int(e)}" for e in shown[::-1]] + ["0"] + [f"1e{int(e)}" for e in shown],
        tickangle=0,
        range=[-ticks[-1] - step, ticks[-1] + step],
    )
    highest = max(histogram.zeros, int(histogram.negative.max()), int(histogram.positive.max()), 1)
    figure.update_yaxes(
        title_text="Logits (log scale)",
        type="log",
        dtick=1,
        exponentformat="power",
        range=[-0.3, np.log10(highest) + 0.3],  # from just under one logit, which a log axis would hide
    )
    return styled(figure, height=HEIGHT, bargap=0, barmode="overlay", showlegend=False)


def histogram_note(histogram: SymmetricLogHistogram) -> str:
    """What the figure cannot show, as one sentence; empty if it shows everything."""
    low, high = 10 ** histogram.exponents[0], 10 ** histogram.exponents[-1]
    parts = [
        (histogram.nearer_zero, f"are smaller than {low:.0e} but not zero"),
        (histogram.farther, f"are larger than {high:.0e}"),
        (histogram.non_finite, "are NaN or infinite"),
    ]
    said = [f"{count:,} {what}" for count, what in parts if count]
    return "Outside the figure: " + ", ".join(said) + "." if said else ""


def density_figure(cells: Density, threshold: float | None = None) -> go.Figure:
    """Candidate logits against reference logits as a map of counts with a logarithmic colour.

    With a `threshold` on probability, its logit is drawn on both axes: whatever lies in the upper left or
    the lower right quarter is a flipped decision.
    """
    counts = cells.counts
    largest = max(int(counts.max()), 1)
    # 255 shades of log10(count) as bytes and the counts themselves for the hover box: 270 kB where a float32
    # colour and counts would be 430. Shade 0 is an empty cell and stays transparent.
    log_largest = np.log10(max(largest, 2))
    shade = np.where(counts > 0, 1 + np.round(254 * np.log10(np.maximum(counts, 1)) / log_largest), 0)
    ticks = 10 ** np.arange(int(np.floor(np.log10(largest))) + 1)
    figure = go.Figure(
        go.Heatmap(
            x=cells.centres.astype(np.float32),
            y=cells.centres.astype(np.float32),
            z=shade.astype(np.uint8),
            customdata=counts.astype(np.min_scalar_type(largest)),
            zmin=0,
            zmax=255,
            colorscale=[
                [0, "rgba(0, 0, 0, 0)"],
                [0.5 / 255, "rgba(0, 0, 0, 0)"],
                *([(1 + i * 254 / (len(SCALE) - 1)) / 255, c] for i, c in enumerate(SCALE)),
            ],
            colorbar={
                "title": {"text": "Logits", "side": "top"},
                "orientation": "h",
                "y": 1,
                "yanchor": "bottom",
                "len": 0.6,
                "tickvals": (1 + 254 * np.log10(ticks) / log_largest).astype(np.float32),
                "ticktext": [f"{tick:,}" for tick in ticks],
                "thickness": 10,
            },
            hovertemplate="reference %{x:.2f}<br>candidate %{y:.2f}<br>%{customdata:,} logits<extra></extra>",
            name="logits",
        )
    )
    first, last = cells.centres[[0, -1]]
    figure.add_shape(
        type="line",
        name="no difference",
        x0=first,
        y0=first,
        x1=last,
        y1=last,
        layer="below",
        line={"color": GUIDE, "width": 1.5, "dash": "dash"},
    )
    if threshold is not None:
        at = float(np.log(threshold / (1 - threshold)))
        figure.add_vline(x=at, line={"color": GUIDE, "width": 1, "dash": "dot"})
        figure.add_hline(y=at, line={"color": GUIDE, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="Reference logit", constrain="domain")
    figure.update_yaxes(title_text="Candidate logit", scaleanchor="x", constrain="domain")
    return styled(figure, height=HEIGHT, margin_t=60)
