"""The last ladder and replay of the selected run directory: run here, or recorded elsewhere and laid in its `results/`."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import streamlit as st

from shifamind_core import jobs
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.artifacts.regular_file import read_regular
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import ShifamindError
from shifamind_core.html_report.story import RECORDED
from shifamind_core.jobs import JobState
from shifamind_core.records import from_json
from shifamind_core.report.diagnosis import is_replay
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.run import Run
from shifamind_core.ui.session.offers import Offer, load_run
from shifamind_core.ui.session.state import Workspace

NOTHING: Mapping[str, float] = MappingProxyType({})
MOST_BYTES = 4_000_000  # of a recorded result; a replay's trials take some 100 kB


def latest_job(workspace: Workspace, kind: str, status: str | None = None) -> JobState | None:
    """The newest job of this kind on the selected run directory."""
    for job in jobs.list_jobs(workspace.cache):
        if job.kind == kind and status in (None, job.status) and workspace.owns(job.spec):
            return job
    return None


def last_ladder(workspace: Workspace) -> Ladder | None:
    """The newest finished ladder of the selected run directory, else the one recorded in it."""
    job = latest_job(workspace, "ladder", "done")
    for found in [job and job.result, *(content for content in _recorded(workspace, "ladder"))]:
        try:
            if found:
                return from_json(Ladder, found, "ladder")
        except ShifamindError:
            continue  # written by another version: it can be run again
    return None


def ladder_is_recorded(workspace: Workspace) -> bool:
    """Whether `last_ladder` was run elsewhere."""
    return latest_job(workspace, "ladder", "done") is None


def last_replay(
    workspace: Workspace, asked: dict[str, Any] | None, reference: Run | None
) -> dict[str, Any] | None:
    """The JSON of the newest finished replay of this very question (`asked_about`), else of the one recorded on it.

    A recorded one holds `recorded`: True.
    """
    finished = [job for job in replays_about(workspace, asked) if job.status == "done"]
    if finished:
        return finished[0].result
    if asked is None:
        return None
    about = {
        "split": asked["split"],
        "reference": reference and reference.digest,
        "reported": asked.get("reported"),
    }
    for content in _recorded(workspace, "replay"):
        if content.get("about") == about and is_replay(content):
            return content | {RECORDED: True}
    return None


def asked_about(
    workspace: Workspace, split: str | None, reference: Offer | None, reported: Mapping[str, float] = NOTHING
) -> dict[str, Any] | None:
    """The part of a replay's specification that says what it is about; `None` while nothing is given.

    A reference beside the run directory is named by the id that it has, or would have, in the cache.
    """
    about = {**workspace.source, "split": split or "test"}
    if reference is not None:
        source = reference.source
        if isinstance(source, Path):
            source = RunCache(workspace.cache).upload_id(load_run(reference, workspace), workspace.owner)
        return {**about, "reference": source}
    written = ",".join(f"{name}={value:g}" for name, value in reported.items())
    return {**about, "reported": written} if written else None


def replays_about(workspace: Workspace, asked: dict[str, Any] | None) -> list[JobState]:
    """Replays of this question, newest first."""
    if asked is None:
        return []
    return [
        job
        for job in jobs.list_jobs(workspace.cache)
        if job.kind == "replay" and all(job.spec.get(name) == value for name, value in asked.items())
    ]


def _recorded(workspace: Workspace, kind: Literal["ladder", "replay"]) -> list[dict[str, Any]]:
    """What lies in the run directory's `results/`, as far as it is JSON of the kind; the rest is not shown."""
    try:
        files = RunDirectory(workspace.run_directory).results(kind)
    except ShifamindError:
        return []  # the overview says what is wrong with the directory
    found = []
    for file in files:
        try:
            state = file.stat()
            found.append(
                _read(str(file), (state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_size))
            )
        except (OSError, ShifamindError):
            continue
    return [content for content in found if isinstance(content, dict)]


@st.cache_resource(max_entries=16, show_spinner=False)
def _read(path: str, state: tuple[int, ...]) -> Any:
    try:
        return json.loads(read_regular(Path(path), MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise ShifamindError(f"{Path(path).name} is no JSON, or was cut off; copy it again.") from error
