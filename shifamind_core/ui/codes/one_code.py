"""One code of two runs: its curve, its differences, and the decisions that flipped."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from shifamind_core.artifacts.code_titles import code_title
from shifamind_core.figures.binning import histogram
from shifamind_core.figures.codes import code_curve_figure
from shifamind_core.figures.differences import linear_histogram, linear_note
from shifamind_core.report.tables import flipped_decisions
from shifamind_core.runs.run import Run
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.tables import show_table

CODE = "codes.one"
MOST_ROWS = 500
COLUMNS = ("note", "label", "candidate_probability", "reference_probability", "difference", "decision")


def take_click() -> None:
    """Runs before the page does: the clicked dot's code becomes the chosen one."""
    for point in st.session_state["chart.codes"].selection.points:
        for value in _texts(point.get("customdata")):
            st.session_state[CODE] = value


def codes_named(table: pd.DataFrame, text: str) -> pd.DataFrame:
    """The rows whose code or title holds the text, in any case; all where nothing is asked."""
    wanted = text.strip()
    inside = [
        table[column].fillna("").astype(str).str.contains(wanted, case=False, regex=False)
        for column in ("code", "title")
    ]
    return table.loc[inside[0] | inside[1]]


def show_code(candidate: Run, reference: Run, codes: list[str], threshold: float) -> None:
    """Of two aligned runs; the code with the largest gap unless another was chosen."""
    if st.session_state.get(CODE) not in codes:
        st.session_state[CODE] = codes[0]
    chosen = st.selectbox(
        "Code", codes, key=CODE, help="Or click a dot of the chart.", width=520, format_func=_named
    )
    at = list(candidate.codes or codes).index(chosen)
    left, right = st.columns(2)
    with left:
        show_figure(
            code_curve_figure(candidate, reference, at, threshold),
            "code-curve",
            "F1 of this code against the decision threshold, for candidate and reference.",
        )
    difference = candidate.logits[:, at].astype(float) - reference.logits[:, at]
    with right:
        binned = histogram(difference, bins=41)
        show_figure(
            linear_histogram(binned), "code-differences", "Histogram of this code's logit differences."
        )
        st.caption(f"Candidate − reference, this code alone. {linear_note(binned)}")
    flipped = flipped_decisions(candidate, reference, at, threshold)
    st.markdown(f"**{len(flipped):,} decisions on this code differ** at a threshold of {threshold:.2f}.")
    if len(flipped):
        show_table(flipped.head(MOST_ROWS), COLUMNS, height=min(35 * (len(flipped) + 1) + 3, 320))
        if len(flipped) > MOST_ROWS:
            st.caption(f"The {MOST_ROWS:,} that moved most.")


def _named(code: str) -> str:
    title = code_title(code)
    return safe_text(code if title is None else f"{code}  {title}", 90)


def _texts(value: Any) -> list[str]:
    # a text, a list, or a mapping from positions, by version
    inner = (
        list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    )
    return [one for one in inner if isinstance(one, str)]
