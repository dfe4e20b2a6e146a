"""At which layer do two precisions part?"""

import streamlit as st

from shifamind_core.ui.layers.profiles import (
    ask_layers,
    finished_profiles,
    pick_profile,
    show_live,
    show_profile,
)
from shifamind_core.ui.session import state
from shifamind_core.ui.site.navigation import page_path
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets import inspection
from shifamind_core.ui.widgets.jobs import show_failure, show_jobs, start_job
from shifamind_core.ui.widgets.workspace import show_workspace

st.title("Layers")
st.caption(
    "Runs the same notes through the model twice and compares every module's output: under other precision policies, or with "
    "another implementation of attention. Nothing but sums is kept."
)
directory = show_workspace()
workspace = state.current_workspace()
if directory is not None:
    found = inspection.inspection_of(workspace)
    offered = inspection.policies_of(found)
    with st.container(border=True):
        settings = ask_layers([name for name, refused in offered.items() if not refused], directory.splits)
        for name, refused in offered.items():
            if refused:
                st.caption(f":material/block: **{safe_text(name)}** is refused here: {safe_text(refused)}")
    if st.button("Compare layers", type="primary", icon=":material/layers:", disabled=settings is None):
        start_job(workspace, "layers", settings or {})
if show_jobs(workspace, kinds=("layers",)):
    st.fragment(show_live, run_every="1s")(workspace.cache)
    st.stop()
show_failure(workspace, "layers")
finished = finished_profiles(workspace)
if not finished:
    st.info("Not run yet. A few notes are enough: press the button above.", icon=":material/info:")
    st.stop()
result = pick_profile(finished)
show_profile(result, str((result.get("model") or {}).get("weights_digest"))[:8])
st.caption(
    "Equal bits on another GPU are promised by nobody; what can be promised instead is on the page about portability."
)
st.page_link(page_path("portability"), label="Would another machine decide alike?", icon=":material/public:")
