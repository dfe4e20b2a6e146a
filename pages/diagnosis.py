"""What caused the gap?"""

from collections.abc import Callable
from functools import partial

import streamlit as st

from shifamind_core.ui.diagnosis.findings import show_findings
from shifamind_core.ui.diagnosis.gap import show_gap_split
from shifamind_core.ui.diagnosis.hypotheses import hypotheses_of, show_hypotheses
from shifamind_core.ui.diagnosis.ladder import show_ladder
from shifamind_core.ui.diagnosis.proof import show_proof, try_proof
from shifamind_core.ui.diagnosis.provenance import show_provenance
from shifamind_core.ui.diagnosis.question import ask_question, told
from shifamind_core.ui.diagnosis.replay import show_replay
from shifamind_core.ui.diagnosis.verdict import show_verdict
from shifamind_core.ui.session import cached, state
from shifamind_core.ui.session.measured import asked_about, last_ladder, last_replay
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.measured_on import can_run, show_model
from shifamind_core.ui.widgets.views import View, show_views


def looks() -> None:
    """What the two runs' difference looks like, and what their manifests say."""
    assert diagnosis is not None and question is not None and question.whole is not None
    show_findings(diagnosis, stem, named)
    with st.expander("Provenance: both manifests side by side", icon=":material/compare:"):
        show_provenance(*question.whole, diagnosis.provenance)


def rounding() -> None:
    """The bound, the ladder, and the five hypotheses on the GPU."""
    assert question is not None
    with told():
        show_proof(question, ladder, workspace)
    st.subheader("Precision ladder")
    show_ladder(workspace, question.candidate.manifest, ladder, openable)
    if diagnosis is not None or question.targets:
        st.subheader("Is it the GPU? Five hypotheses")
        show_hypotheses(hypotheses_of(question.candidate, diagnosis, try_proof(question, ladder)))


def gap() -> None:
    """Which part of the gap is calibration, and which is ranking."""
    assert question is not None
    with told():
        show_gap_split(question)


st.title("Diagnosis")
workspace = state.current_workspace()
question = ask_question()
if question is None:
    st.stop()
ladder = last_ladder(workspace)
other = question.reference.digest[:8] if question.reference is not None else "reported"
stem = f"{question.candidate.digest[:8]}-{other}"

diagnosis = None
if question.whole is not None:
    with told():
        diagnosis = cached.diagnosis(*question.whole, ladder)
asked = asked_about(workspace, question.candidate.manifest.split, question.reference_offer, question.reported)
openable = can_run(workspace)
replayed = last_replay(workspace, asked, question.whole and question.whole[1])
named = show_verdict(question, diagnosis, ladder, replayed)
show_model(question.candidate.manifest, question.reference and question.reference.manifest, ladder)

views: dict[View, Callable[[], None]] = {}
if diagnosis is not None and question.whole is not None:
    views["looks"] = looks
views["rounding"] = rounding
if diagnosis is not None and question.whole is not None:
    views["gap"] = gap
views["replay"] = partial(show_replay, question, workspace, openable, stem)
show_views(views)
remarks = question.remarks or (() if diagnosis is None else diagnosis.remarks)
st.caption("  \n".join(safe_text(remark) for remark in remarks))
