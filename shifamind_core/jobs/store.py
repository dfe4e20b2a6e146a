"""Jobs as folders: a worker process writes its state into a file, anybody may read it. No torch here.

A folder `cache/jobs/<id>/` holds `state.json` (written by the worker alone, replaced atomically), `process.json`
(pid and its creation time, written by whoever started it), `log.txt` and, once asked for, an empty `cancel`.
Nothing of it holds note text.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from shifamind_core.errors import ShifamindError
from shifamind_core.records import from_json, to_json
from shifamind_core.runs.manifest import digest_of

Status = Literal["queued", "running", "cancelling", "cancelled", "failed", "done", "lost"]
ACTIVE: tuple[Status, ...] = ("queued", "running", "cancelling")
KEPT = 50  # finished jobs whose folders are kept
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_started: list[
    subprocess.Popen[bytes]
] = []  # by this process: asked now and then, so that none stays a zombie


@dataclass(frozen=True)
class JobState:
    """A job as it stands. `spec` is what was asked for, `result` what came of it; both are JSON objects."""

    id: str
    kind: str
    spec: dict[str, Any]
    status: Status
    created_at_utc: str
    started_at_utc: str | None = None
    finished_at_utc: str | None = None
    message: str | None = None
    progress_done: int = 0
    progress_total: int = 0
    rate_per_second: float | None = None
    eta_seconds: float | None = None
    result: dict[str, Any] | None = None
    partial: dict[str, Any] | None = None
    error: str | None = None

    @property
    def active(self) -> bool:
        """Whether something may still happen."""
        return self.status in ACTIVE


def jobs_folder(cache: Path) -> Path:
    return cache / "jobs"


def submit(cache: Path, kind: str, spec: dict[str, Any]) -> str:
    """Start a worker for this job and return its id; a like job that is still active is returned instead."""
    for job in list_jobs(cache):
        if job.active and job.status != "cancelling" and (job.kind, job.spec) == (kind, spec):
            return job.id
    _forget_old(cache)
    now = datetime.now(UTC)
    identifier = f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}"
    folder = jobs_folder(cache) / identifier
    folder.mkdir(parents=True, mode=0o700)
    write_state(folder, JobState(identifier, kind, spec, "queued", now.isoformat(timespec="seconds")))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "shifamind_core.jobs.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the worker outlives a closed tab and the server's terminal
            cwd=PACKAGE_ROOT,
        )
    _started.append(process)
    with suppress(psutil.NoSuchProcess):
        _replace(
            folder / "process.json",
            {"pid": process.pid, "created": psutil.Process(process.pid).create_time()},
        )
    return identifier


def read_job(cache: Path, identifier: str) -> JobState:
    """The job as it stands; one whose process is gone without a last word is `lost` (or `cancelled`, if asked to).

    Raises
    ------
    ShifamindError
        No such job, or its state is unreadable.
    """
    _started[:] = [process for process in _started if process.poll() is None]
    folder = jobs_folder(cache) / identifier
    state = read_state(folder)
    if not state.active:
        return state
    cancelled = (folder / "cancel").exists()
    if _process(folder) is not None:
        return replace(state, status="cancelling") if cancelled else state
    if _just_started(folder, state):
        return state
    # The worker may have finished between the two looks.
    state = read_state(folder)
    if not state.active:
        return state
    if cancelled:
        return replace(state, status="cancelled", message="Cancelled.")
    return replace(
        state,
        status="lost",
        error="The worker process ended without a word: killed, or out of memory. Try a smaller batch.",
    )


def list_jobs(cache: Path) -> list[JobState]:
    """All jobs, newest first; folders that are none are passed over."""
    jobs = []
    for folder in sorted(jobs_folder(cache).glob("*-*"), reverse=True):
        with suppress(ShifamindError):
            jobs.append(read_job(cache, folder.name))
    return jobs


def cancel(cache: Path, identifier: str) -> None:
    """Ask a job to stop; it stops between two batches. A finished job stays as it is."""
    if not read_job(cache, identifier).active:
        return
    folder = jobs_folder(cache) / identifier
    (folder / "cancel").touch()
    process = _process(folder)
    if process is not None:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)


def write_state(folder: Path, state: JobState) -> None:
    """Replace a job's state file atomically; a checksum goes with it, since pages show its results as measured."""
    value = to_json(state)
    _replace(folder / "state.json", value | {"checksum": digest_of(value)})


def read_state(folder: Path) -> JobState:
    """The state file; one that is not as it was written is that of a lost job, and nothing of it is a result.

    Raises
    ------
    ShifamindError
        No such file, or none that can be read at all.
    """
    try:
        value = json.loads((folder / "state.json").read_bytes())
        checksum = value.pop("checksum", None)
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise ShifamindError(f"There is no job {folder.name} in {folder.parent}. Start it again.") from error
    state = from_json(JobState, value, "state")
    if checksum == digest_of(value):
        return state
    damaged = f"The record of this job ({folder / 'state.json'}) is damaged, and its result is not shown. Start it again."
    return replace(state, id=folder.name, status="lost", result=None, partial=None, error=damaged)


def _replace(path: Path, value: Any) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def _process(folder: Path) -> psutil.Process | None:
    """The job's process if it lives: same pid **and** same creation time, since pids are used again."""
    try:
        record = json.loads((folder / "process.json").read_text())
        process = psutil.Process(record["pid"])
        alive = process.create_time() == record["created"] and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, json.JSONDecodeError, psutil.NoSuchProcess):
        return None
    return process if alive else None


def _just_started(folder: Path, state: JobState) -> bool:
    """Between the folder and `process.json` lie some milliseconds."""
    age = datetime.now(UTC) - datetime.fromisoformat(state.created_at_utc)
    return not (folder / "process.json").exists() and age.total_seconds() < 10


def _forget_old(cache: Path) -> None:
    finished = [job for job in list_jobs(cache) if not job.active]
    for job in finished[KEPT:]:
        folder = jobs_folder(cache) / job.id
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
