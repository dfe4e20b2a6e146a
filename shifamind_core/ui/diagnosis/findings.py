"""Findings on a page: most likely first, each with its evidence behind a click."""

import pandas as pd
import streamlit as st

from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.diagnosis.findings import LISTED, Finding, percent
from shifamind_core.diagnosis.views import EvidencePlot, EvidenceTable
from shifamind_core.figures.findings import evidence_figure
from shifamind_core.listing import named
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.diagnosis import findings_table
from shifamind_core.ui.text import plain_text, safe_text
from shifamind_core.ui.widgets.badges import status_badge
from shifamind_core.ui.widgets.charts import show_figure


def cause_title(cause: str) -> str:
    """The cause's name in words.

    >>> cause_title("head_not_loaded"), cause_title("code_order")
    ('Head not loaded', 'Order of codes')
    """
    return CAUSES[cause].title


def show_findings(diagnosis: Diagnosis, stem: str, told: str | None) -> None:
    """All of them: what speaks for something first; what hardly anything speaks for, and what is ruled out, behind one more click.

    `told` is the cause of which the head of the page has said what it means and what to do.
    """
    refuted = [finding for finding in diagnosis.findings if finding.status == "ruled_out"]
    faint = [finding for finding in diagnosis.findings if finding.faint]
    held = [finding for finding in diagnosis.findings if finding not in refuted and finding not in faint]
    for position, finding in enumerate(held):
        label = f"{status_badge(finding.status)} **{cause_title(finding.cause)}**{_how_sure(finding)}"
        # Drawn when it is opened: a figure in a closed box would travel all the same.
        box = st.expander(
            label, expanded=position == 0, on_change="rerun", key=f"finding.{stem}.{finding.cause}"
        )
        if box.open:
            with box:
                show_finding(finding, finding.cause == told)
    folded = (
        ("faint", f":gray-badge[Less than {percent(LISTED)} each] {_count(faint)}", faint),
        ("ruled_out", f"{status_badge('ruled_out')} {_count(refuted)}", refuted),
    )
    for name, label, findings in folded:
        if findings:
            box = st.expander(label, on_change="rerun", key=f"finding.{stem}.{name}")
            if box.open:
                with box:
                    _show_folded(findings)
    st.download_button(
        "Findings as CSV",
        lambda: csv_text(findings_table(diagnosis)),
        f"shifamind-findings-{stem}.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
    )


def _how_sure(finding: Finding) -> str:
    """The probability, unless it was shown; and how much of the difference it is about, unless all."""
    parts = [] if finding.status == "confirmed" else [percent(finding.probability)]
    if finding.share < 0.995:
        parts.append(f"accounts for {percent(finding.share)} of the difference")
    return "".join(f" · {part}" for part in parts)


def _count(findings: list[Finding]) -> str:
    return "1 other cause" if len(findings) == 1 else f"{len(findings)} other causes"


def _show_folded(findings: list[Finding]) -> None:
    """A line on each, and the evidence of the one that is asked for."""
    for finding in findings:
        st.markdown(f"**{cause_title(finding.cause)}.** {safe_text(finding.sentence, 900)}")
    by_cause = {
        finding.cause: finding for finding in findings if finding.evidence or finding.view is not None
    }
    if by_cause:
        asked = st.selectbox(
            "Evidence of",
            list(by_cause),
            index=None,
            format_func=cause_title,
            placeholder="Choose a cause",
            width=420,
            key=f"evidence.{findings[0].status}",
        )
        if asked is not None:
            show_finding(by_cause[asked])


def show_finding(finding: Finding, told: bool = False) -> None:
    """What it means and what to do, unless that was told; its evidence drawn; the numbers folded."""
    if not told:
        st.markdown(safe_text(finding.sentence, 900))
    if not told and finding.status != "ruled_out":
        st.markdown(f":material/science: **What to do:** {safe_text(finding.action, 600)}")
    _show_view(finding)
    if finding.numbers or finding.evidence:
        with st.expander("The numbers", icon=":material/calculate:"):
            if finding.status != "ruled_out":  # then they are the sentence
                st.markdown(safe_text(finding.numbers, 1500))
            if finding.evidence:
                st.dataframe(evidence_table(finding), hide_index=True, placeholder="")


def evidence_table(finding: Finding) -> pd.DataFrame:
    """Its numbers, one row each: columns Evidence and Value, both text."""
    return pd.DataFrame(
        {
            "Evidence": [named(name) for name in finding.evidence],
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
