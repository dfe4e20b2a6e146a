"""How far each concept's scores moved."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from shifamind_core.figures.style import CANDIDATE, plain, styled


def concepts_figure(table: pd.DataFrame) -> go.Figure:
    """A bar a concept, in the table's order from the top: its mean |difference|.

    Parameters
    ----------
    table : DataFrame
        Columns `concept` (its name) and `mean_abs_difference` (see `analysis.concepts`).
    """
    figure = go.Figure()
    figure.add_bar(
        y=[plain(name) for name in table["concept"]],
        x=table["mean_abs_difference"].to_numpy(np.float32),
        orientation="h",
        marker={"color": CANDIDATE, "line": {"width": 0}},
        hovertemplate="%{y}: %{x:.2e}<extra></extra>",
    )
    figure.update_xaxes(title_text="Mean |difference| of the concept's score", side="top", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    return styled(figure, height=90 + 21 * len(table))
