"""Findings on a page: most likely first, each with its evidence behind a click."""

import pandas as pd
import streamlit as st

from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.diagnosis.findings import EvidencePlot, EvidenceTable, Finding, Status
from shifamind_core.figures.findings import evidence_figure
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.diagnosis import findings_table
from shifamind_core.ui.text import plain_text, safe_text
from shifamind_core.ui.widgets.charts import show_figure

# Word, icon, colour of the badge: never the colour alone.
STATUS: dict[Status, tuple[str, str, str]] = {
    "confirmed": ("Confirmed", ":material/verified:", "green"),
    "likely": ("Likely", ":material/trending_up:", "blue"),
    "possible": ("Possible", ":material/help:", "orange"),
    "ruled_out": ("Ruled out", ":material/block:", "gray"),
}
TITLES = {
    "numerics": "Numerics: precision or kernels",
    "document_order": "Order of notes",
    "different_documents": "Different notes",
    "code_order": "Order of codes",
    "probabilities_as_logits": "Probabilities saved as logits",
    "double_sigmoid": "Sigmoid applied twice",
    "calibration_shift": "Calibration shifted, ranking kept",
    "few_documents_changed": "A few notes changed",
    "few_codes_changed": "A few codes changed",
    "dropout_active": "Dropout left on",
    "input_changed": "The model's input changed",
    "tokenizer_casing": "Casing of the tokenizer",
    "max_length": "Maximum length",
    "attention_mask_ignored": "Attention mask ignored",
    "weights_changed": "Other weights",
    "metric_definition": "Threshold or definition of the metric",
    "non_finite": "Values that are not finite",
    "identical": "The runs are identical",
    "unknown": "Nothing known explains it",
}


def cause_title(cause: str) -> str:
    """The cause's name in words.

    >>> cause_title("head_not_loaded"), cause_title("code_order")
    ('Head not loaded', 'Order of codes')
    """
    return TITLES.get(cause) or cause.replace("_", " ").capitalize()


def status_badge(status: Status) -> str:
    """The status as Markdown: icon, word, colour.

    >>> status_badge("ruled_out")
    ':gray-badge[:material/block: Ruled out]'
    """
    word, icon, colour = STATUS[status]
    return f":{colour}-badge[{icon} {word}]"


def show_findings(diagnosis: Diagnosis, stem: str) -> None:
    """All of them: what speaks for something first, what is ruled out behind one more click."""
    held = [finding for finding in diagnosis.findings if finding.status != "ruled_out"]
    refuted = [finding for finding in diagnosis.findings if finding.status == "ruled_out"]
    for position, finding in enumerate(held):
        label = f"{status_badge(finding.status)} **{cause_title(finding.cause)}** · score {finding.score:.2f}"
        # Drawn when it is opened: a figure in a closed box would travel all the same.
        box = st.expander(
            label, expanded=position == 0, on_change="rerun", key=f"finding.{stem}.{finding.cause}"
        )
        if box.open:
            with box:
                show_finding(finding)
    if refuted:
        label = f"{status_badge('ruled_out')} {len(refuted)} other causes"
        box = st.expander(label, on_change="rerun", key=f"finding.{stem}.ruled_out")
        if box.open:
            with box:
                _show_refuted(refuted)
    st.download_button(
        "Findings as CSV",
        lambda: csv_text(findings_table(diagnosis)),
        f"shifamind-findings-{stem}.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
    )


def _show_refuted(refuted: list[Finding]) -> None:
    """Why each is not it, and the evidence of the one that is asked for."""
    for finding in refuted:
        st.markdown(f"**{cause_title(finding.cause)}.** {safe_text(finding.explanation, 900)}")
    by_cause = {finding.cause: finding for finding in refuted if finding.evidence or finding.view is not None}
    if by_cause:
        asked = st.selectbox(
            "Evidence of",
            list(by_cause),
            index=None,
            format_func=cause_title,
            placeholder="Choose a cause",
            width=420,
        )
        if asked is not None:
            show_finding(by_cause[asked])


def show_finding(finding: Finding) -> None:
    """What it says, how to confirm it, its evidence drawn, and its numbers."""
    st.markdown(safe_text(finding.explanation, 1200))
    if finding.how_to_confirm:
        st.markdown(f":material/science: **To confirm:** {safe_text(finding.how_to_confirm, 600)}")
    if finding.view is not None and finding.evidence:
        left, right = st.columns([5, 3])
    else:
        left = right = st.container()
    with left:
        _show_view(finding)
    if finding.evidence:
        with right:
            st.dataframe(evidence_table(finding), hide_index=True, placeholder="")


def evidence_table(finding: Finding) -> pd.DataFrame:
    """Its numbers, one row each: columns Evidence and Value, both text."""
    return pd.DataFrame(
        {
            "Evidence": [name.replace("_", " ") for name in finding.evidence],
            "Value": [_short(value) for value in finding.evidence.values()],
        }
    )


def _show_view(finding: Finding) -> None:
    view = finding.view
    if isinstance(view, EvidencePlot):
        st.caption(safe_text(view.title))
        show_figure(
            evidence_figure(view), f"evidence-{finding.cause}", "The evidence of this finding, drawn."
        )
    elif isinstance(view, EvidenceTable):
        st.caption(safe_text(view.title))
        st.dataframe(pd.DataFrame(view.rows, columns=list(view.columns)), hide_index=True, placeholder="")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else plain_text(value, 300)
