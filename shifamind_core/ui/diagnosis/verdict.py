"""The answer in a few lines, before the evidence."""

from contextlib import nullcontext
from typing import Any

import streamlit as st

from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.answer import answer
from shifamind_core.diagnosis.claims import ranking_remark
from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.ui.diagnosis.findings import cause_title
from shifamind_core.ui.diagnosis.proof import claims_table, proof_of
from shifamind_core.ui.diagnosis.question import Question, show_codes_scored, told
from shifamind_core.ui.session import cached
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.answer import show_answer
from shifamind_core.ui.widgets.badges import status_badge, verdict_badge


def show_verdict(
    question: Question, diagnosis: Diagnosis | None, ladder: Ladder | None, result: dict[str, Any] | None
) -> str | None:
    """What it was, what that means and what to do; the numbers that show it are folded. Returns the cause that is named."""
    with st.container(border=True):
        said = answer(diagnosis.findings, diagnosis.hypotheses, result) if diagnosis is not None else None
        if said is not None:
            show_answer(said)
        folded = (
            st.expander("What shows it, in numbers", icon=":material/calculate:") if said else nullcontext()
        )
        with folded:
            if result is not None:
                st.markdown(f"{verdict_badge(result)} {safe_text(result.get('sentence', ''), 900)}")
            if diagnosis is not None and said is not None:
                best = diagnosis.findings[0]
                shows = best.numbers if said.cause == best.cause else best.explanation
                st.markdown(
                    f"{status_badge(best.status)} **{cause_title(best.cause)}.** {safe_text(shows, 1500)}"
                )
                if diagnosis.looked_at:
                    st.caption(f"The cause: {safe_text(diagnosis.looked_at)}")
            with told():
                proof = proof_of(question, ladder)
                if question.targets:
                    st.markdown(f":gray-badge[:material/straighten: Rounding] {safe_text(proof.sentence)}")
                    show_codes_scored(question)
        if question.reference is None:
            _show_claims(question, ladder)
    if said is None or diagnosis is None:
        return None
    return diagnosis.findings[0].cause if said.shown == "open" else said.cause


def _show_claims(question: Question, ladder: Ladder | None) -> None:
    if not question.reported:
        st.markdown("Type the scores that were reported, or fill in a row of the reported table.")
        return
    with told():
        fixed = proof_of(question, ladder)
        tuned = proof_of(question, ladder, tuned=True) if question.validation is not None else None
        claims = cached.claims(question.candidate, question.validation, question.reported, fixed, tuned)
        config = {
            name: st.column_config.NumberColumn(format="%+.4f" if name == "Gap" else "%.4f")
            for name in ("Here", "Reported", "Gap", "Sampling ±")
        }
        st.dataframe(claims_table(claims), hide_index=True, placeholder="–", column_config=config)
        show_codes_scored(question)
        remark = ranking_remark(claims)
        if remark:
            st.markdown(remark)
