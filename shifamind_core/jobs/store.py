"""Jobs as folders: a worker process writes its state into a file, anybody may read it. No torch here.

A folder `cache/jobs/<id>/` holds `state.json` (written by the worker alone, replaced atomically), `process.json` (its pid;
locked by the worker for as long as it lives), `log.txt`, `reserve` (room for a last word on a full disk) and, once asked
for, an empty `cancel`. Nothing of it holds note text.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shifamind_core import locks
from shifamind_core.errors import ShifamindError
from shifamind_core.jobs import spare
from shifamind_core.jobs.state import JobState, read_state, write_state
from shifamind_core.locks import Lock
from shifamind_core.records import read_small_json

KEPT = 50  # finished jobs whose folders are kept
GRACE_SECONDS = 10.0  # between asking a worker to stop and killing it with all that it started
RESERVE_BYTES = 64 << 10
PROCESS_FILE, LOG_FILE, RESERVE_FILE, CANCEL_FILE = "process.json", "log.txt", "reserve", "cancel"
DEVICE_LOCK = "device.lock"
WORKER = (sys.executable, "-m", "shifamind_core.jobs.worker")
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
STAMP = "%Y%m%dT%H%M%S%f"
_started: list[
    subprocess.Popen[bytes]
] = []  # by this process: asked now and then, so that none stays a zombie
_ending: set[Path] = set()  # folders of jobs that a thread of this process is bringing to their end
_guard = threading.Lock()


def jobs_folder(cache: Path) -> Path:
    return cache / "jobs"


def submit(cache: Path, kind: str, spec: dict[str, Any]) -> str:
    """Start a worker for this job and return its id; a like job that is still active is returned instead.

    One submission at a time looks and starts, in whatever process or thread, so that what is asked for twice at once
    runs once.

    Raises
    ------
    ShifamindError
        The folder cannot be written, or no process can be started; then nothing was started and nothing is left.
    """
    spec = json.loads(json.dumps(spec))  # as it will be read
    with _alone(cache):
        for job in list_jobs(cache):
            if job.active and job.status != "cancelling" and (job.kind, job.spec) == (kind, spec):
                return job.id
        _forget_old(cache)
        return _start(cache, kind, spec)


def read_job(cache: Path, identifier: str) -> JobState:
    """The job as it stands; one whose process is gone without a last word is `lost` (or `cancelled`, if asked to).

    Raises
    ------
    ShifamindError
        No such job.
    """
    _started[:] = [process for process in _started if process.poll() is None]
    folder = jobs_folder(cache) / identifier
    state = read_state(folder)
    if not (state.active or state.status == "damaged"):
        return state
    cancelled = (folder / CANCEL_FILE).exists()
    if locks.held(folder / PROCESS_FILE):
        if cancelled:
            _bring_to_end(folder)  # again, if the server that was asked to is no more
            return replace(state, status="cancelling")
        if state.status == "damaged":  # it writes anew with its next step; until then it can be cancelled
            return replace(state, status="running", error=None, message="Running; its record is damaged")
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
        error="The worker process ended without a word: killed, out of memory, or on a full disk. Try a smaller batch, or make room.",
    )


def list_jobs(cache: Path) -> list[JobState]:
    """All jobs, newest first, damaged ones among them; folders that are none are passed over."""
    jobs = []
    for name in _names(cache):
        with suppress(ShifamindError):  # forgotten meanwhile
            jobs.append(read_job(cache, name))
    return jobs


def damaged_jobs(cache: Path) -> list[str]:
    """One line for each job whose record is not as it was written."""
    return [job.error or "" for job in list_jobs(cache) if job.status == "damaged"]


def cancel(cache: Path, identifier: str) -> None:
    """Ask a job to stop; it stops between two batches, or is killed after a grace period. A finished one stays as it is."""
    if not read_job(cache, identifier).active:
        return
    folder = jobs_folder(cache) / identifier
    with suppress(OSError):  # on a full disk the worker is still told
        (folder / CANCEL_FILE).touch()
    _bring_to_end(folder)


def forget(cache: Path, identifier: str) -> None:
    """Delete what is kept of a finished or damaged job; an active one stays, and nothing happens if there is none.

    Raises
    ------
    ShifamindError
        The folder cannot be written.
    """
    with _alone(cache):
        if identifier in _names(cache) and not read_job(cache, identifier).active:
            _remove(jobs_folder(cache) / identifier)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Nobody else starts or forgets jobs meanwhile. What the system refuses in here is one line."""
    folder = jobs_folder(cache)
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        with locks.wait_for_lock(folder / "submit.lock"):
            yield
    except OSError as error:
        raise ShifamindError(f"No job can be started or removed in {folder}: {error.strerror}.") from error


def _start(cache: Path, kind: str, spec: dict[str, Any]) -> str:
    """Make the folder aside, and show it when it is whole; on any failure neither folder nor process is left."""
    jobs = jobs_folder(cache)
    (jobs / DEVICE_LOCK).touch(0o600)
    now = datetime.now(UTC)
    identifier = f"{_later_than_all(cache, now)}-{secrets.token_hex(3)}"
    folder = jobs / identifier
    incoming = Path(tempfile.mkdtemp(dir=jobs, prefix=".incoming-"))  # mode 0700
    try:
        write_state(incoming, JobState(identifier, kind, spec, "queued", now.isoformat(timespec="seconds")))
        (incoming / RESERVE_FILE).write_bytes(os.urandom(RESERVE_BYTES))  # what cannot be compressed
        (incoming / LOG_FILE).touch(0o600)
        with locks.wait_for_lock(incoming / PROCESS_FILE) as alive:  # the worker goes on holding it
            os.pwrite(alive.descriptor, b" " * 64, 0)  # so that there is room for its pid
            incoming.rename(folder)
            _run_worker(folder, alive)
    except BaseException:
        for place in (incoming, folder):
            shutil.rmtree(place, ignore_errors=True)
        raise
    return identifier


def _run_worker(folder: Path, alive: Lock) -> None:
    """The worker that waits takes the job, else a new one does."""
    with (folder / LOG_FILE).open("wb") as log:
        process = spare.hand_over(folder, alive.descriptor, log.fileno()) or subprocess.Popen(
            [*WORKER, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the worker outlives a closed tab and the server's terminal
            pass_fds=(alive.descriptor,),
            cwd=PACKAGE_ROOT,
        )
    try:
        os.pwrite(alive.descriptor, json.dumps({"pid": process.pid}).encode(), 0)
    except OSError:
        process.kill()
        process.wait()
        raise
    _started.append(process)


def keep_warm() -> None:
    """See that a worker waits for the next job, in a process that may keep one; not beside one that still computes."""
    if all(process.poll() is not None for process in list(_started)):
        spare.keep(WORKER, PACKAGE_ROOT)


def _later_than_all(cache: Path, now: datetime) -> str:
    """A time stamp for a job's name, later than any there: names tell which job is newest, and clocks are set back."""
    newest = next(iter(_names(cache)), "").partition("-")[0]
    with suppress(ValueError, OverflowError):
        now = max(now, datetime.strptime(newest, STAMP).replace(tzinfo=UTC) + timedelta(microseconds=1))
    return f"{now:{STAMP}}"


def _names(cache: Path) -> list[str]:
    """Names of the jobs' folders, newest first."""
    try:
        with os.scandir(jobs_folder(cache)) as found:
            names = [one.name for one in found if "-" in one.name and one.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted((name for name in names if not name.startswith(".")), reverse=True)


def _bring_to_end(folder: Path) -> None:
    """Tell the worker to stop, and after the grace period kill it with all that it started; once at a time."""
    with _guard:
        if folder in _ending:
            return
        _ending.add(folder)
    threading.Thread(target=_end, args=(folder,), name=f"end {folder.name}", daemon=True).start()


def _end(folder: Path) -> None:
    try:
        pid = _pid(folder)
        if pid is None or not locks.held(folder / PROCESS_FILE):
            return  # a worker whose pid cannot be read finds `cancel` with its next step
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while locks.held(folder / PROCESS_FILE) and time.monotonic() < deadline:
                time.sleep(0.05)
            os.killpg(pid, signal.SIGKILL)  # the worker leads a group of its own
    finally:
        with _guard:
            _ending.discard(folder)


def _pid(folder: Path) -> int | None:
    """The worker's pid, as whoever started it wrote it down. Only while its lock is held does it mean anything."""
    try:
        pid = read_small_json(folder / PROCESS_FILE, 64)["pid"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return pid if type(pid) is int and pid > 1 else None


def _forget_old(cache: Path) -> None:
    """Delete all but the newest finished jobs, and what a killed process left half made. Only while `_alone`."""
    finished = [job for job in list_jobs(cache) if not job.active]
    for job in finished[KEPT:]:
        _remove(jobs_folder(cache) / job.id)
    for leftover in jobs_folder(cache).glob(".*-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Out of everybody's sight at once, then for good."""
    doomed = folder.with_name(f".forgotten-{folder.name}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
