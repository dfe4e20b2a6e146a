"""One checkpoint, three GPUs, three scores: what is known?"""

import pandas as pd
import streamlit as st

from shifamind_core.diagnosis.case import what_follows
from shifamind_core.diagnosis.claims import SCORES, SEED_CLAIMS
from shifamind_core.ui.case.decisive import show_decisive_pair
from shifamind_core.ui.case.experiments import show_experiments
from shifamind_core.ui.session import state
from shifamind_core.ui.site.navigation import page_path
from shifamind_core.ui.widgets.workspace import show_workspace

BADGES = {
    "follows": ":green-badge[:material/check: Follows from the numbers]",
    "likely": ":blue-badge[:material/trending_up: Likely]",
    "open": ":gray-badge[:material/help: Not proven]",
}

st.title("The case")
st.markdown("The same checkpoint, the same notes, three GPUs. Is it the GPU?")
workspace = state.current_workspace()
table = pd.DataFrame(SEED_CLAIMS).rename(index=SCORES).T
columns = {name: st.column_config.NumberColumn(format="%.4f") for name in table}
columns["Best threshold"] = st.column_config.NumberColumn(format="%.2f")
st.dataframe(table, placeholder="–", column_config=columns)
st.caption("As its author reported it (17,266 notes, 50 codes); nothing of it was measured here.")

st.header("What follows from these numbers alone")
for one in what_follows():
    st.markdown(f"{BADGES[one.shown]} **{one.title}** {one.reason}")

st.header("The experiment that decides")
directory = show_workspace()
if workspace.is_demo:
    st.warning(
        "The built-in demo's checkpoint is another one and cannot stand in for it: the button would hold the demo's scores against the "
        "case's. The demo has a gap of its own, and its answer.",
        icon=":material/info:",
    )
    st.page_link(page_path("overview"), label="The demo's own gap, and what it was", icon=":material/home:")
else:
    st.markdown(
        "Any one GPU will do, and a CPU too. The whole test split is scored twice, lower-cased and cased, and both are held against "
        "what was reported."
    )
show_decisive_pair(workspace, directory is not None)

st.header("The five experiments, and the environment")
show_experiments(workspace)

st.header("With the real checkpoint at hand")
st.markdown(
    """
1. Open its folder under **Run directory** above, or start with `make run RUN_DIR=… BASE_MODEL=…`. `checkpoints/`, `shared_data/` and
   the base model's `config.json` and `vocab.txt` are enough.
2. Press **Casing on, casing off** above. If one of the two gives 0.2934 and the other 0.19 to 0.22, it was the casing: set
   `do_lower_case` explicitly in both notebooks.
3. If not, save the other machine's logits (`python -m shifamind_core capture` prints the lines) and bring them here: the diagnosis
   says what the difference looks like, and a replay searches for the change that reproduces it.
4. To take the GPU out of the question for good, predict under `bitwise` on both machines and compare one line, the fingerprint.
"""
)
st.page_link(page_path("portability"), label="Take the GPU out of the question", icon=":material/public:")
