"""What a job's `state.json` holds: written whole by one, read by all, and believed only as it was written."""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from shifamind_core.errors import ShifamindError
from shifamind_core.records import from_json, read_small_json, to_json
from shifamind_core.runs.atomic import replace_file
from shifamind_core.runs.manifest import digest_of

Status = Literal["queued", "running", "cancelling", "cancelled", "failed", "done", "lost", "damaged"]
ACTIVE: tuple[Status, ...] = ("queued", "running", "cancelling")
BAD_ENDS: tuple[Status, ...] = ("failed", "lost", "damaged")
STATE_FILE = "state.json"
MOST_STATE_BYTES = 16 << 20  # the longest result, a replay's trials, has less than one


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


def write_state(folder: Path, state: JobState) -> None:
    """Replace a job's state file atomically; a checksum goes with it, since pages show its results as measured.

    Raises
    ------
    OSError
        The disk is full, or nothing can be written there.
    """
    value = to_json(state)
    replace_file(folder / STATE_FILE, json.dumps(value | {"checksum": digest_of(value)}).encode())


def read_state(folder: Path) -> JobState:
    """The job in `folder` as it was written; if that cannot be told, one whose status is `damaged`, without a result.

    Raises
    ------
    ShifamindError
        There is no such job.
    """
    path = folder / STATE_FILE
    try:
        found = path.lstat()
    except OSError as error:
        if folder.is_dir() and not folder.is_symlink():
            return _damaged(folder)
        raise ShifamindError(f"There is no job {folder.name} in {folder.parent}. Start it again.") from error
    return _read(path, (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))


@lru_cache(maxsize=256)
def _read(path: Path, written: tuple[int, ...]) -> JobState:
    """Pages look at every job on every rerun; a file that was not `written` anew is not read anew."""
    try:
        value = read_small_json(path, MOST_STATE_BYTES)
        checksum = value.pop("checksum", None)
        state = from_json(JobState, value, "state")
        sound = checksum == digest_of(value) and state.id == path.parent.name
        sound = sound and datetime.fromisoformat(state.created_at_utc).tzinfo is not None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, ShifamindError):
        return _damaged(path.parent)
    return state if sound else _damaged(path.parent, state)


def _damaged(folder: Path, as_read: JobState | None = None) -> JobState:
    """What is left to say of it; what it was about is kept, where it can be read, to show the line there."""
    known = as_read or JobState(folder.name, "", {}, "damaged", "")
    line = f"The record of this job ({folder / STATE_FILE}) is damaged, and its result is not shown. Start it again."
    return replace(known, id=folder.name, status="damaged", result=None, partial=None, error=line)
