"""Would another machine decide alike?"""

import streamlit as st

from shifamind_core.ui.diagnosis.question import told
from shifamind_core.ui.portability.certificate import PROMISES, show_certificate
from shifamind_core.ui.portability.probes import show_probes
from shifamind_core.ui.portability.rounding import show_rounding
from shifamind_core.ui.session import state
from shifamind_core.ui.session.measured import last_ladder
from shifamind_core.ui.widgets.workspace import show_workspace

st.title("Portability")
st.caption(
    "Whether another GPU gives the same codes depends on how far rounding moves *this* model's logits, and on how many decisions lie "
    "that near to the threshold. Both are measured here."
)
directory = show_workspace()
workspace = state.current_workspace()
splits = () if directory is None else directory.splits

st.header("What this machine's rounding changes")
show_rounding(workspace, splits, directory is not None)

st.header("Certificate of the portable policy")
with told():
    show_certificate(workspace, splits, directory is not None, last_ladder(workspace))
with st.container(border=True):
    st.markdown(PROMISES)

st.header("Probes")
st.caption(
    "Small experiments with the checkpoint on this machine. The number is the largest difference of a logit."
)
show_probes(workspace, directory is not None)
