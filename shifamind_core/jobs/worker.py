"""The worker process: `python -m shifamind_core.jobs.worker JOB_FOLDER`.

One job at a time runs on this machine's device: workers queue on a file lock, which the kernel releases however a
worker ends. torch's precision switches are process-wide, so every job has a process of its own.
"""

import fcntl
import signal
import sys
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from shifamind_core.commands import COMMANDS, Host
from shifamind_core.errors import ShifamindError
from shifamind_core.jobs.store import JobState, read_state, write_state
from shifamind_core.records import from_json
from shifamind_core.runs.cache import RunCache

WRITE_EVERY_SECONDS = 0.3


class Cancelled(BaseException):
    """Raised by SIGTERM. No `Exception`: nothing on the way may mistake it for a failure and go on."""


class Reporter:
    """Writes progress into the state file, a few times a second at most."""

    def __init__(self, folder: Path, state: JobState) -> None:
        self.folder, self.state = folder, state
        self._stage: str | None = None
        self._stage_began = (0.0, 0)
        self._written = 0.0

    def write(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        write_state(self.folder, self.state)
        self._written = time.monotonic()

    def progress(self, message: str, done: int, total: int) -> None:
        """A step: notes (or trials) done of how many, in a stage named by `message`."""
        now = time.monotonic()
        if message != self._stage or done < self._stage_began[1]:
            self._stage, self._stage_began = message, (now, done)
        elif now - self._written < WRITE_EVERY_SECONDS and done < total:
            return
        began, before = self._stage_began
        rate = (done - before) / (now - began) if done > before and now > began else None
        eta = (total - done) / rate if rate else None
        self.write(
            message=message, progress_done=done, progress_total=total, rate_per_second=rate, eta_seconds=eta
        )

    def partial(self, value: dict[str, Any]) -> None:
        """Results so far, for a live table."""
        self.write(partial=value)


def _on_sigterm(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Cancelled


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(folder: Path) -> None:
    """Run the job in `folder` to one of its ends: done, failed, cancelled."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    state = read_state(folder)
    reporter = Reporter(folder, state)
    if state.status == "lost":  # what was asked for is not to be read any more
        return reporter.write(status="failed", finished_at_utc=_now())
    try:
        if (folder / "cancel").exists():
            raise Cancelled
        command = COMMANDS[state.kind]
        assert command.job, f"{command.name} is no job"
        cache = folder.parent.parent
        host = Host(cache, RunCache(cache).load, reporter.progress, reporter.partial)
        import_module("shifamind_core.tasks")  # torch: seconds, while others may hold the device
        with (folder.parent / "device.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            reporter.write(status="running", started_at_utc=_now(), message="Starting")
            result = command.run(from_json(command.spec, state.spec, "spec"), host)
        reporter.write(status="done", finished_at_utc=_now(), result=result, eta_seconds=None)
    except Cancelled:
        reporter.write(status="cancelled", finished_at_utc=_now(), message="Cancelled.")
    except ShifamindError as error:
        reporter.write(status="failed", finished_at_utc=_now(), error=str(error))
    except Exception as error:  # noqa: BLE001 - the last line of defence: the person gets one line, the log the rest
        traceback.print_exc()
        line = f"The worker failed unexpectedly ({type(error).__name__}). Its log: jobs/{folder.name}/log.txt in the cache."
        reporter.write(status="failed", finished_at_utc=_now(), error=line)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
