"""On the first start the demo computes its own runs, so that every page soon shows something real."""

from datetime import UTC, datetime
from typing import Any

from shifamind_core import demo, jobs
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.room import make_room
from shifamind_core.ui.session.state import Workspace, default_workspace

STARTED = datetime.now(UTC)

# What went wrong while the demo was prepared, for the overview; this process's only run of it.
problems: list[str] = []


def prepare_first_run() -> None:
    """Keep the cache within its limit; write the demo and queue its jobs, where the dashboard opens on it."""
    workspace = default_workspace()
    make_room(workspace.cache)
    if not workspace.is_demo:
        return
    try:
        if not workspace.run_directory.is_dir():
            demo.write_demo(workspace.run_directory)
    except (ShifamindError, OSError) as error:
        problems.append(f"The demo could not be written to {workspace.run_directory}: {error}")
        return
    try:
        for kind, spec in first_jobs(workspace):
            ensure_job(workspace, kind, spec)
    except ShifamindError as error:
        problems.append(str(error))


def first_jobs(workspace: Workspace) -> list[tuple[str, dict[str, Any]]]:
    """Look at the checkpoint, then predict both splits the way the demo was trained: FP32, lower-cased."""
    return [
        ("inspect", workspace.source),
        *(
            ("predict", {**workspace.source, "split": split, "lowercase": "true"})
            for split in ("test", "val")
        ),
    ]


def ensure_job(workspace: Workspace, kind: str, spec: dict[str, Any]) -> str:
    """The id of the job that does this, started now unless one is under way or has done it.

    An inspection tells of the machine and its libraries, so one from before this start does not count; a
    prediction counts as long as its run is in the cache.

    Raises
    ------
    ShifamindError
        No job can be started.
    """
    entries = RunCache(workspace.cache).entries()
    kept = {entry.digest for entry in entries if entry.owner == str(workspace.owner)}
    for job in jobs.list_jobs(workspace.cache):
        if job.status == "damaged" or (job.kind, job.spec) != (kind, spec):
            continue
        fresh = datetime.fromisoformat(job.created_at_utc) >= STARTED.replace(microsecond=0)
        done = job.status == "done" and (
            fresh if kind == "inspect" else (job.result or {}).get("run_digest") in kept
        )
        if job.active or done or (fresh and kind == "inspect"):
            return job.id
    return jobs.submit(workspace.cache, kind, spec)
