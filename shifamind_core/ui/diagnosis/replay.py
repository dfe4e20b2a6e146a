"""Replay on a page: start it, watch its trials, read the winner."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from shifamind_core import jobs
from shifamind_core.errors import ShifamindError
from shifamind_core.figures.replay import before_after_figure
from shifamind_core.jobs import JobState
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.diagnosis import trials_table
from shifamind_core.runs.cache import RunCache
from shifamind_core.ui.diagnosis.question import Question
from shifamind_core.ui.session.measured import RECORDED, asked_about, last_replay, replays_about
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.badges import verdict_badge
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.jobs import active_jobs, show_jobs, start_job
from shifamind_core.ui.widgets.pick_runs import load_run, show_error
from shifamind_core.ui.widgets.tables import show_table

SHOWN = 12
ROW_PIXELS = 35
TITLES = {"macro_f1": "Macro F1 @0.5", "micro_f1": "Micro F1 @0.5"}


def show_replay(question: Question, workspace: Workspace, openable: bool, stem: str) -> None:
    """The buttons, the running search with its trials, and the last one's result."""
    asked = asked_about(
        workspace, question.candidate.manifest.split, question.reference_offer, question.reported
    )
    if asked is None:
        st.info(
            "Fill in at least one reported score above, or a row of the reported table.",
            icon=":material/info:",
        )
        return
    st.caption(
        "Changes the pipeline here in the ways such pipelines go wrong (casing, length, padding, weights, order, …), one by one "
        "and then together, until the checkpoint gives the other side's "
        + ("logits." if question.reference is not None else "scores.")
    )
    _start(question, workspace, asked, openable)
    if show_jobs(workspace, kinds=("replay",)):
        st.fragment(_live, run_every="1s")(workspace.cache)
        return
    _show_failure(replays_about(workspace, asked))
    result = last_replay(workspace, asked, question.whole and question.whole[1])
    if result is not None:
        if result.get(RECORDED):
            st.caption(
                f"Recorded on {safe_text(result['device'], 60)}, not run here: the button runs it here."
            )
        show_result(result, stem)


def show_result(result: dict[str, Any], stem: str) -> None:
    """The verdict's sentence, before and after, and every trial."""
    st.markdown(f"{verdict_badge(result)} {safe_text(result.get('sentence', ''), 1200)}")
    compared = result.get("before_after")
    if compared:
        left, right = st.columns([3, 2], gap="large")
        with left:
            show_figure(
                before_after_figure(compared),
                "replay",
                "Histogram of absolute logit differences from the reference, before and after the change.",
            )
        with right:
            st.dataframe(before_after_table(result), hide_index=True, placeholder="–")
            st.caption(
                f"Before: this pipeline as it is. After: with {safe_text(' + '.join(result['best']['interventions']) or 'no change', 120)}. "
                f"On the {result['best']['notes']:,} notes that confirm it, not on the whole split."
            )
    table = trials_table(result)
    show_table(table, list(table.columns), height=min(ROW_PIXELS * (len(table) + 1) + 3, 460))
    for remark in result.get("remarks", []):
        st.caption(safe_text(remark))
    st.download_button(
        "Trials as CSV",
        lambda: csv_text(table),
        f"shifamind-trials-{stem}.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
    )


def before_after_table(result: dict[str, Any]) -> pd.DataFrame:
    """What the winner changed: residuals and F1, before, after, and of the reference."""
    before, after = result["base"], result["best"]
    rows: list[tuple[str | None, ...]] = [
        (title, *(f"{trial[name]:.3g}" for trial in (before, after)), None)
        for title, name in (("Largest |difference|", "max_abs_residual"), ("rms difference", "rms_residual"))
    ]
    for name, values in (result["before_after"].get("scores") or {}).items():
        rows.append((TITLES[name], *(f"{values[side]:.4f}" for side in ("before", "after", "reference"))))
    return pd.DataFrame(rows, columns=["", "Before", "After", "Reference"])


def _start(question: Question, workspace: Workspace, asked: dict[str, Any], openable: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if question.reference is None:
            if st.button("All interventions", icon=":material/manage_search:", disabled=not openable):
                submit_replay(question, workspace, asked)
            return
        notes = st.number_input(
            "Notes", min_value=8, max_value=4096, value=64, step=8, key="replay.notes", width=140
        )
        depth = st.number_input(
            "Changes at once", min_value=1, max_value=3, value=3, key="replay.depth", width=140,
            help="Up to how many changes are combined.",
        )  # fmt: skip
        if st.button("Start the replay", type="primary", icon=":material/replay:", disabled=not openable):
            submit_replay(question, workspace, asked, notes=int(notes), depth=int(depth))


def submit_replay(question: Question, workspace: Workspace, asked: dict[str, Any], **more: Any) -> None:
    """Start a worker. It reads runs from the cache alone, so a reference beside the run directory is copied there."""
    offer = question.reference_offer
    try:
        if offer is not None and isinstance(offer.source, Path):
            RunCache(workspace.cache).store_upload(load_run(offer), workspace.owner)
    except ShifamindError as error:
        show_error(error)
        return
    start_job(workspace, "replay", {**asked, **more})


def _live(cache: Path) -> None:
    """The running replay's best trials so far."""
    for job in active_jobs(cache, ("replay",)):
        if job.partial and job.partial.get("trials"):
            table = trials_table({"trials": job.partial["trials"][:SHOWN]})
            show_table(table, list(table.columns))


def _show_failure(about: list[JobState]) -> None:
    """What the newest of them ended with, where that was no good end."""
    if not about:
        return
    last = about[0]
    if last.status in jobs.BAD_ENDS:
        show_error(f"Replay: {last.error or last.message or 'it ended without a word.'}")
    elif last.status == "cancelled":
        st.info("The last replay was cancelled.", icon=":material/cancel:")
