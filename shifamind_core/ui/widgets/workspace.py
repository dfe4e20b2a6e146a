"""Which run directory the pages work on, and the way to choose another."""

import streamlit as st

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import ShifamindError
from shifamind_core.ui.session import state
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.site import first_run
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.pick_runs import show_error


def show_workspace() -> RunDirectory | None:
    """The selected run directory with a way to change it; `None`, with one line why, where it cannot be opened."""
    workspace = state.current_workspace()
    name = "the built-in demo" if workspace.is_demo else safe_text(workspace.run_directory, 120)
    with st.expander(f"Run directory: **{name}**. Change it", icon=":material/folder_open:"):
        _choose(workspace)
    return _opened(workspace)


def _choose(workspace: Workspace) -> None:
    with st.form("workspace", border=False):
        directory = st.text_input(
            "Run directory on this server",
            value="" if workspace.is_demo else str(workspace.run_directory),
            placeholder="/data/run_20260102_203225",
            help="The folder with `checkpoints/` and `shared_data/`. Empty: back to where the dashboard was started.",
        )
        base_model = st.text_input(
            "Base model folder",
            value=str(workspace.base_model or ""),
            placeholder="config.json and vocab.txt of Bio_ClinicalBERT",
            help="Only its configuration and vocabulary are read. Empty: `base_model/` in the run directory, else the hub's cache.",
        )
        if st.form_submit_button("Open", type="primary"):
            state.choose(directory, base_model)
            st.rerun()


def _opened(workspace: Workspace) -> RunDirectory | None:
    if workspace.is_demo and not workspace.run_directory.is_dir():
        if first_run.problems:
            show_error(first_run.problems[-1])
        else:
            st.fragment(_wait_for_demo, run_every="1s")(workspace)
        return None
    try:
        directory = RunDirectory(workspace.run_directory)
    except ShifamindError as error:
        show_error(error)
        return None
    for remark in directory.remarks:
        st.caption(safe_text(remark))
    return directory


def _wait_for_demo(workspace: Workspace) -> None:
    if workspace.run_directory.is_dir():
        st.rerun()
    st.info("The demo is being written: a few seconds.", icon=":material/hourglass_top:")
