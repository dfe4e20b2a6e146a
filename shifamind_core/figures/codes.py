"""F1 of every code, candidate beside reference."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from shifamind_core.analysis.counts import counts_of_logits
from shifamind_core.analysis.scores import f1_per_code
from shifamind_core.figures.style import CANDIDATE, GUIDE, REFERENCE, plain, styled
from shifamind_core.runs.run import Run

_LONGEST_TICK = 38
SUPPORTS = (0, 1, 10, 100, 1_000, 10_000, 100_000)  # from where on a group of codes begins
CURVE = np.arange(1, 100) / 100  # thresholds of one code's curve


def codes_figure(
    table: pd.DataFrame, candidate_name: str = "candidate", reference_name: str = "reference"
) -> go.Figure:
    """One row a code, in the table's order from the top: a dot for each run and a line between them.

    Parameters
    ----------
    table : DataFrame
        Columns `code`, `title` (may be missing), `support`, and either `candidate_f1` and `reference_f1`, or
        `f1` where there is one run only; see `report.tables.codes_table`, which puts the largest gap first.
    """
    rows = [_tick(code, title) for code, title in zip(table["code"], table["title"], strict=True)]
    hover = [
        _hover(code, title, support)
        for code, title, support in zip(table["code"], table["title"], table["support"], strict=True)
    ]
    codes = [plain(code) for code in table["code"]]
    figure = go.Figure()
    alone = "f1" in table
    if not alone:
        _connect(figure, rows, table["candidate_f1"].to_numpy(), table["reference_f1"].to_numpy())
        theirs = table["reference_f1"].to_numpy()
        _dots(figure, rows, hover, codes, theirs, reference_name, REFERENCE, "circle-open")
    ours = table["f1" if alone else "candidate_f1"].to_numpy()
    _dots(figure, rows, hover, codes, ours, candidate_name, CANDIDATE, "circle")
    # The scale is on top, where reading begins; 50 rows put the bottom out of sight.
    figure.update_xaxes(title_text="F1 of the code", range=[-0.02, 1.02], side="top")
    figure.update_yaxes(type="category", range=[len(table) - 0.4, -0.6], showgrid=True, griddash="dot")
    return styled(figure, height=130 + 21 * len(table), legend={"traceorder": "reversed"}, margin_t=90)


def support_figure(table: pd.DataFrame, candidate_name: str, reference_name: str) -> go.Figure:
    """Mean F1 of codes that equally many notes carry, candidate beside reference: thousands of codes in a few bars.

    Parameters
    ----------
    table : DataFrame
        Columns `support`, `candidate_f1` and `reference_f1`.
    """
    place = np.searchsorted(SUPPORTS, table["support"].to_numpy(np.int64), side="right") - 1
    groups, sizes = np.unique(place, return_counts=True)
    titles = [
        f"{_support_title(group)}<br>{size:,} code{'s' if size > 1 else ''}"
        for group, size in zip(groups.tolist(), sizes.tolist(), strict=True)
    ]
    figure = go.Figure()
    for side, name, shade in (
        ("candidate", candidate_name, CANDIDATE),
        ("reference", reference_name, REFERENCE),
    ):
        f1 = table[f"{side}_f1"].to_numpy(np.float64)
        figure.add_bar(
            x=titles,
            y=np.array([f1[place == group].mean() for group in groups], np.float32),
            name=plain(name),
            marker={"color": shade},
            hovertemplate="%{x}<br>mean F1 %{y:.4f}",
        )
    figure.update_xaxes(title_text="Notes that carry the code", type="category")
    figure.update_yaxes(title_text="Mean F1 of the codes", rangemode="tozero")
    return styled(figure, height=360, barmode="group", bargap=0.35)


def _support_title(group: int) -> str:
    first = SUPPORTS[group]
    if group == len(SUPPORTS) - 1:
        return f"{first:,} and more"
    last = SUPPORTS[group + 1] - 1
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def code_curve_figure(candidate: Run, reference: Run, code: int, threshold: float) -> go.Figure:
    """F1 of one code (its column) against the decision threshold, candidate over reference, with the threshold in use.

    Runs are aligned and labelled.
    """
    figure = go.Figure()
    for run, shade in ((reference, REFERENCE), (candidate, CANDIDATE)):
        assert run.labels is not None
        counts = counts_of_logits(run.logits[:, [code]], run.labels[:, [code]], CURVE)
        figure.add_scatter(
            x=CURVE.astype(np.float32),
            y=f1_per_code(counts)[:, 0].astype(np.float32),
            mode="lines",
            name=plain(run.name),
            line={"color": shade, "width": 2},
            hovertemplate="threshold %{x:.2f}: F1 %{y:.4f}",
        )
    figure.add_vline(x=threshold, line={"color": GUIDE, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="Decision threshold", range=[0, 1])
    figure.update_yaxes(title_text="F1 of the code", range=[-0.02, 1.02])
    return styled(figure, height=480, legend={"traceorder": "reversed"})


def _connect(figure: go.Figure, rows: list[str], candidate: np.ndarray, reference: np.ndarray) -> None:
    """All lines as one trace: start, end, and a gap that lifts the pen."""
    ends = np.stack([candidate, reference, np.full(len(rows), np.nan)], axis=1)
    figure.add_scatter(
        x=ends.ravel().astype(np.float32),
        y=[row for row in rows for _ in range(3)],
        mode="lines",
        line={"color": GUIDE, "width": 3},
        name="gap",
        hoverinfo="skip",
        showlegend=False,
    )


def _dots(
    figure: go.Figure,
    rows: list[str],
    hover: list[str],
    codes: list[str],
    f1: np.ndarray,
    name: str,
    shade: str,
    symbol: str,
) -> None:
    figure.add_scatter(
        x=f1.astype(np.float32),
        y=rows,
        mode="markers",
        name=plain(name),
        marker={"color": shade, "size": 9, "symbol": symbol, "line": {"color": shade, "width": 2}},
        text=hover,
        customdata=codes,
        hovertemplate="%{text}<br>F1 %{x:.4f}",
    )


def _tick(code: str, title: object) -> str:
    label = plain(code) if not isinstance(title, str) else f"{plain(code)}  {plain(title)}"
    return label if len(label) <= _LONGEST_TICK else label[: _LONGEST_TICK - 1] + "…"


def _hover(code: str, title: object, support: int) -> str:
    name = plain(code) if not isinstance(title, str) else f"{plain(code)}, {plain(title)}"
    return f"{name}<br>{support:,} notes carry it"
