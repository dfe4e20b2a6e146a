"""Probes on a page: small experiments with the checkpoint, each with a verdict, a number and a sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.measurements import probes_table
from shifamind_core.ui.session.measured import latest_job
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.choices import KEEP
from shifamind_core.ui.widgets.jobs import active_jobs, show_failure, show_jobs, start_job
from shifamind_core.ui.widgets.measured_on import show_measured_on

# Word, icon, colour: never the colour alone.
BADGES = {
    "ok": ":green-badge[:material/check_circle: Ok]",
    "warning": ":orange-badge[:material/warning: Warning]",
    "failed": ":red-badge[:material/error: Failed]",
    "skipped": ":gray-badge[:material/do_not_disturb_on: Skipped]",
}
TITLES = {
    "strict_load": "Every weight loads",
    "head_not_random": "The head was trained",
    "eval_mode": "Evaluation mode",
    "parameters_in_memory": "Weights in memory are the file's",
    "repeatability": "The same batch twice",
    "batch_size": "Another batch size",
    "company": "Alone or in company",
    "padding": "With and without padding",
    "attention": "Eager against SDPA",
    "tf32": "TF32, measured",
    "two_processes": "Two processes",
    "cpu_against_gpu": "FP64 on CPU and GPU",
}


def show_probes(workspace: Workspace, openable: bool) -> None:
    """The button, the running probes as they come in, and the last ones."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        notes = st.number_input(
            "Notes", min_value=2, max_value=256, value=8, key="probe.notes", width=120, **KEEP
        )
        if st.button("Run the probes", type="primary", icon=":material/science:", disabled=not openable):
            start_job(workspace, "probe", {"notes": int(notes)})
    if show_jobs(workspace, kinds=("probe",)):
        st.fragment(_show_live, run_every="1s")(workspace.cache)
        return
    show_failure(workspace, "probe")
    result = last_probes(workspace)
    if result is None:
        st.info(
            "Not run yet. They ask whether the checkpoint loads whole, whether a note's scores depend on its batch or its padding, "
            "and what this machine does with TF32.",
            icon=":material/info:",
        )
        return
    show_results(result)
    show_measured_on(result)
    st.download_button(
        "Probes as CSV",
        lambda: csv_text(probes_table(result)),
        "shifamind-probes.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
    )


def last_probes(workspace: Workspace) -> Mapping[str, Any] | None:
    """The JSON of the newest probes of the selected run directory."""
    job = latest_job(workspace, "probe", "done")
    return None if job is None else job.result


def show_results(result: Mapping[str, Any]) -> None:
    """One row a probe: verdict, name, number, sentence. No table widget: its cells would cut the sentences."""
    with st.container(border=True):
        for probe in result["probes"]:
            number = probe.get("max_abs_difference")
            name, found = st.columns([5, 12], gap="small")
            badge = BADGES.get(str(probe["status"]), safe_text(probe["status"]))
            name.markdown(f"{badge} **{TITLES.get(probe['name'], safe_text(probe['name']))}**")
            found.markdown(
                ("" if number is None else f"**{number:.1e}** · ") + safe_text(probe["message"], 900)
            )


def _show_live(cache: Path) -> None:
    """What the running probes have found so far."""
    for job in active_jobs(cache, ("probe",)):
        if job.partial and job.partial.get("probes"):
            show_results(job.partial)
