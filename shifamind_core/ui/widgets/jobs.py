"""Jobs on a page: progress, cancel, and the last word of what failed. It re-attaches by reading the jobs' files."""

from pathlib import Path
from typing import Any

import streamlit as st

from shifamind_core import jobs
from shifamind_core.errors import ShifamindError
from shifamind_core.jobs import BAD_ENDS, JobState
from shifamind_core.ui.session.measured import latest_job
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.pick_runs import show_error

CASING = {"true": "lower-cased", "false": "cased", "auto": "the library's casing"}
TITLES = {
    "ladder": "Precision ladder of",
    "replay": "Replay on",
    "layers": "Layers of",
    "probe": "Probes on",
    "certify": "Certificate of",
    "rounding": "What rounding changes on",
}


def start_job(workspace: Workspace, kind: str, asked: dict[str, Any]) -> None:
    """Start a worker on the selected run directory; one line where none can be started."""
    try:
        jobs.submit(workspace.cache, kind, {**workspace.source, **asked})
    except ShifamindError as error:
        show_error(error)


def show_jobs(workspace: Workspace, kinds: tuple[str, ...] = ()) -> list[JobState]:
    """Every active job (of these kinds) with its progress, looked at each second for as long as there is one."""
    active = active_jobs(workspace.cache, kinds)
    known = tuple(job.id for job in active)
    st.fragment(_panel, run_every="1s" if known else None)(workspace.cache, known, kinds)
    return active


def active_jobs(cache: Path, kinds: tuple[str, ...] = ()) -> list[JobState]:
    """Jobs that something may still happen to, of any run directory; all kinds where none is named."""
    return [job for job in jobs.list_jobs(cache) if job.active and (not kinds or job.kind in kinds)]


def show_failure(workspace: Workspace, kind: str) -> None:
    """What the latest job of this kind on this run directory ended with, where that was no good end."""
    last = latest_job(workspace, kind)
    if last is not None and last.status in BAD_ENDS:
        show_error(f"{job_title(last)}: {last.error or last.message or 'it ended without a word.'}")


def job_title(job: JobState) -> str:
    """What the job does, in a few words. Foreign text: pass it through `safe_text` where Markdown is read."""
    name = Path(str(job.spec.get("run_directory", ""))).name
    if job.kind == "inspect":
        return f"Looking at {name}"
    if job.kind == "predict":
        casing = CASING.get(str(job.spec.get("lowercase", "auto")), "")
        return f"{job.spec.get('split', 'test')} split of {name} under {job.spec.get('policy', 'fp32')}, {casing}"
    return f"{TITLES.get(job.kind, job.kind.capitalize())} {name}"


def progress_text(job: JobState) -> str:
    """Notes done, notes a second, time left.

    >>> progress_text(JobState("j", "predict", {}, "running", "", message="Scoring", progress_done=512,
    ...                        progress_total=1000, rate_per_second=20.0, eta_seconds=24.4))
    'Scoring · 512 of 1,000 · 20.0/s · 24 s left'
    """
    if job.status == "queued":
        return "Waiting for the device"
    if job.status == "cancelling":
        return "Stopping after this batch"
    parts = [job.message or "Running"]
    if job.progress_total > 1:
        # A search may find more to try on its way than it counted at first.
        parts.append(f"{min(job.progress_done, job.progress_total):,} of {job.progress_total:,}")
    if job.rate_per_second:
        parts.append(f"{job.rate_per_second:,.1f}/s")
    if job.eta_seconds:
        parts.append(f"{duration(job.eta_seconds)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """
    >>> duration(59.4), duration(61), duration(7320)
    ('59 s', '1 min 1 s', '2 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _panel(cache: Path, known: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    active = active_jobs(cache, kinds)
    if {job.id for job in active} != set(known):
        st.rerun()  # one ended, and the whole page may show what it found; or another tab began one
    for job in sorted(active, key=lambda job: job.status == "queued"):
        _show(cache, job)


def _show(cache: Path, job: JobState) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        begun = job.status != "queued" and job.progress_total  # what waits may have counted what it loaded
        share = job.progress_done / job.progress_total if begun else 0.0
        with st.container(width="stretch", gap="xsmall"):
            st.markdown(f"**{safe_text(job_title(job), 120)}**")
            st.progress(min(share, 1.0), text=safe_text(progress_text(job), 160))
        arguments: dict[str, Any] = {"args": (cache, job.id), "disabled": job.status == "cancelling"}
        st.button(
            "Cancel", key=f"cancel.{job.id}", icon=":material/close:", on_click=jobs.cancel, **arguments
        )
