"""F1 of every code, candidate beside reference."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from shifamind_core.figures.style import CANDIDATE, GUIDE, REFERENCE, plain, styled

_LONGEST_TICK = 38


def codes_figure(
    codes: Sequence[str],
    candidate: np.ndarray,
    reference: np.ndarray | None = None,
    support: np.ndarray | None = None,
    titles: Sequence[str | None] | None = None,
    candidate_name: str = "candidate",
    reference_name: str = "reference",
) -> go.Figure:
    """One row a code: a dot for each run and a line between them, the largest loss on top.

    Parameters
    ----------
    codes : sequence of str
    candidate, reference : float [codes]
        F1. With a reference, rows are sorted by gap (candidate − reference), else by F1; ties keep the
        order of `codes`.
    support : int [codes], optional
        Notes that carry the code.
    titles : sequence of str or None, optional
        What the code stands for.
    """
    order = np.argsort(candidate if reference is None else candidate - reference, kind="stable")
    titles = list(titles) if titles is not None else [None] * len(codes)
    ranks = [int(i) for i in order]
    rows = [_tick(codes[i], titles[i]) for i in ranks]
    hover = [_hover(codes[i], titles[i], None if support is None else int(support[i])) for i in ranks]
    figure = go.Figure()
    if reference is not None:
        # One trace for all connecting lines: start, end, gap (None lifts the pen).
        ends = np.stack([candidate[order], reference[order], np.full(len(order), np.nan)], axis=1)
        figure.add_scatter(
            x=ends.ravel().astype(np.float32),
            y=[row for row in rows for _ in range(3)],
            mode="lines",
            line={"color": GUIDE, "width": 3},
            name="gap",
            hoverinfo="skip",
            showlegend=False,
        )
    for values, name, shade, symbol in (
        (reference, reference_name, REFERENCE, "circle-open"),
        (candidate, candidate_name, CANDIDATE, "circle"),
    ):
        if values is not None:
            figure.add_scatter(
                x=values[order].astype(np.float32),
                y=rows,
                mode="markers",
                name=plain(name),
                marker={"color": shade, "size": 9, "symbol": symbol, "line": {"color": shade, "width": 2}},
                text=hover,
                hovertemplate="%{text}<br>F1 %{x:.4f}",
            )
    # The scale is on top, where reading begins; 50 rows put the bottom out of sight.
    figure.update_xaxes(title_text="F1 of the code", range=[-0.02, 1.02], side="top")
    figure.update_yaxes(type="category", range=[len(codes) - 0.4, -0.6], showgrid=True, griddash="dot")
    return styled(figure, height=130 + 21 * len(codes), legend={"traceorder": "reversed"}, margin_t=90)


def _tick(code: str, title: str | None) -> str:
    label = plain(code) if not title else f"{plain(code)}  {plain(title)}"
    return label if len(label) <= _LONGEST_TICK else label[: _LONGEST_TICK - 1] + "…"


def _hover(code: str, title: str | None, support: int | None) -> str:
    parts = [plain(code), *([plain(title)] if title else [])]
    return ", ".join(parts) + (f"<br>{support:,} notes carry it" if support is not None else "")
