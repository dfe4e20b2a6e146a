"""The worker process: `python -m shifamind_core.jobs.worker JOB_FOLDER`, or `--wait SOCKET` for one that is told later (`spare`).

One job at a time computes on this machine's device: workers read their files, then queue on a file lock, which the kernel
releases however a worker ends. torch's precision switches are process-wide, so every job has a process of its own.
"""

import fcntl
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import IO, Any

from shifamind_core.artifacts.limited import while_reading
from shifamind_core.commands import COMMANDS, Host, import_transformers, prepare
from shifamind_core.errors import ShifamindError, stack_of
from shifamind_core.jobs.spare import wait_for_job
from shifamind_core.jobs.state import JobState, Status, read_state, write_state
from shifamind_core.jobs.store import CANCEL_FILE, DEVICE_LOCK, RESERVE_FILE
from shifamind_core.logs import write_places_only
from shifamind_core.records import from_json
from shifamind_core.runs.cache import RunCache

WRITE_EVERY_SECONDS = 0.3
LOADED = (
    "shifamind_core.tasks",
    "shifamind_core.replay.task",
    "shifamind_core.inference.inspection",
    "shifamind_core.experiments.ladder",
    "transformers.models.bert.modeling_bert",
)


class Cancelled(BaseException):
    """Raised by SIGTERM. No `Exception`: nothing on the way may mistake it for a failure and go on."""


class Reporter:
    """Writes progress into the state file, a few times a second at most."""

    def __init__(self, folder: Path, state: JobState) -> None:
        self.folder, self.state = folder, state
        self._stage: str | None = None
        self._stage_began = (0.0, 0)
        self._written = 0.0
        self._writing = threading.Lock()  # files are read by a thread of their own, which tells of it

    def write(self, **changes: Any) -> None:
        """A step; on a full disk the work goes on without it. The person may have asked to stop meanwhile."""
        if (self.folder / CANCEL_FILE).exists():
            raise Cancelled
        with self._writing:
            self.state = replace(self.state, **changes)
            with suppress(OSError):
                write_state(self.folder, self.state)
        self._written = time.monotonic()

    def end(self, status: Status, **changes: Any) -> None:
        """The last word. Where there is no room for it, the reserve and the results so far make some."""
        reserve = self.folder / RESERVE_FILE
        self.state = replace(self.state, status=status, finished_at_utc=_now(), **changes)
        try:
            write_state(self.folder, self.state)
        except OSError as error:
            with suppress(OSError):
                reserve.unlink(missing_ok=True)
                unsaid = (
                    f"Its result could not be written: {error.strerror}."
                    if status == "done"
                    else self.state.error
                )
                status = "failed" if status == "done" else status
                write_state(
                    self.folder, replace(self.state, status=status, result=None, partial=None, error=unsaid)
                )
        with suppress(OSError):
            reserve.unlink(missing_ok=True)

    def progress(self, message: str, done: int, total: int) -> None:
        """A step: notes (or trials) done of how many, in a stage named by `message`; what follows ` · ` is a detail of it."""
        now = time.monotonic()
        stage = message.partition(" · ")[0]
        if stage != self._stage or done < self._stage_began[1]:
            self._stage, self._stage_began = stage, (now, done)
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


def load() -> None:
    """Import what jobs need: seconds, and no step of any job's own. Nothing here touches a device."""
    import_transformers()
    for module in LOADED:
        import_module(module)


@contextmanager
def _counting_seconds(reporter: Reporter) -> Iterator[None]:
    """Inside, the person sees the seconds pass."""
    over, message = threading.Event(), reporter.state.message

    def count() -> None:
        began = time.monotonic()
        with suppress(Cancelled):  # the main thread finds that by itself
            while not over.wait(1.0):
                reporter.write(message=f"{message} · {time.monotonic() - began:.0f} s")

    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    try:
        yield
    finally:
        over.set()
        counting.join()


def _on_sigterm(_signal: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Cancelled


def _take(lock: IO[str], reporter: Reporter) -> None:
    """Wait for the device, and keep it until the job ends; files have been read by then."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        reporter.write(status="queued")
        fcntl.flock(lock, fcntl.LOCK_EX)
        reporter.write(status="running")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def main(folder: Path) -> None:
    """Run the job in `folder` to one of its ends: done, failed, cancelled."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    state = read_state(folder)
    reporter = Reporter(folder, state)
    if state.status == "damaged":  # what was asked for is not to be read any more
        return reporter.end("failed")
    try:
        if (folder / CANCEL_FILE).exists():
            raise Cancelled
        command = COMMANDS[state.kind]
        assert command.job, f"{command.name} is no job"
        cache = folder.parent.parent
        host = Host(cache, RunCache(cache).load, reporter.progress, reporter.partial)
        reporter.write(status="running", started_at_utc=_now(), message="Loading libraries")
        prepare(command)
        with _counting_seconds(reporter):
            load()
        before_computing = import_module("shifamind_core.precision.apply").before_computing
        with (
            (folder.parent / DEVICE_LOCK).open("w") as lock,
            while_reading(reporter.progress),
            before_computing(partial(_take, lock, reporter)),
        ):
            result = command.run(from_json(command.spec, state.spec, "spec"), host)
        reporter.end("done", result=result, eta_seconds=None)
    except Cancelled:
        reporter.end("cancelled", message="Cancelled.")
    except ShifamindError as error:
        reporter.end("failed", error=str(error))
    except Exception as error:  # noqa: BLE001 - the last line of defence: the person gets one line, the log the rest
        line = f"The worker failed unexpectedly ({type(error).__name__}). Its log: jobs/{folder.name}/log.txt in the cache."
        if isinstance(error, OSError):
            line = f"The system refused the worker something: {error.strerror}. Its log: jobs/{folder.name}/log.txt in the cache."
        reporter.end("failed", error=line)
        with suppress(OSError):
            print(stack_of(error), file=sys.stderr)


if __name__ == "__main__":
    write_places_only()
    if sys.argv[1] == "--wait":
        load()
        main(wait_for_job(int(sys.argv[2])))
    else:
        main(Path(sys.argv[1]))
