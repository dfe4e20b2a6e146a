"""The seed's five hypotheses on a page: a line each, with the number that decides."""

from collections.abc import Sequence

import streamlit as st

from shifamind_core.diagnosis.claims import judge_by_bound
from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.diagnosis.evidence.levels import level_of_manifest
from shifamind_core.diagnosis.hypotheses import Hypothesis
from shifamind_core.diagnosis.proof import Proof
from shifamind_core.runs.run import Run
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.badges import status_badge


def hypotheses_of(candidate: Run, diagnosis: Diagnosis | None, proof: Proof | None) -> tuple[Hypothesis, ...]:
    """From the logits of both runs where they are known, else from the flip bound alone."""
    if diagnosis is not None:
        return diagnosis.hypotheses
    return () if proof is None else judge_by_bound(proof, level_of_manifest(candidate.manifest))


def show_hypotheses(hypotheses: Sequence[Hypothesis]) -> None:
    """A line each."""
    with st.container(border=True):
        for one in hypotheses:
            st.markdown(f"{status_badge(one.verdict)} **{one.title}.** {safe_text(one.explanation, 700)}")
