"""The seed's five hypotheses on a page: a line each, with the number that decides."""

import math
from collections.abc import Sequence

import streamlit as st

from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.claims import hardest, judge_by_bound
from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.diagnosis.hypotheses import Hypothesis, judge
from shifamind_core.diagnosis.proof import Proof
from shifamind_core.ui.diagnosis.findings import status_badge
from shifamind_core.ui.text import safe_text


def hypotheses_of(
    diagnosis: Diagnosis | None, proof: Proof | None, ladder: Ladder | None
) -> tuple[Hypothesis, ...]:
    """From the logits of both runs where they are known, else from the flip bound alone."""
    if diagnosis is None:
        return () if proof is None else judge_by_bound(proof)
    needed = None if proof is None else hardest(proof)
    return judge(
        diagnosis.observed,
        diagnosis.finding("numerics"),
        diagnosis.cause,
        diagnosis.provenance,
        None if ladder is None else ladder.rungs,
        None if needed is None or math.isinf(needed) else needed,
    )


def show_hypotheses(hypotheses: Sequence[Hypothesis]) -> None:
    """A line each."""
    with st.container(border=True):
        for one in hypotheses:
            st.markdown(f"{status_badge(one.verdict)} **{one.title}.** {safe_text(one.explanation, 700)}")
