"""On the first start the demo computes its own runs, so that every page soon shows something real."""

from shifamind_core import demo, jobs
from shifamind_core.ui.state import Workspace, default_workspace

ALIVE = ("queued", "running", "cancelling")


def prepare_first_run() -> None:
    """Write the demo and queue its jobs, where the demo is what the dashboard opens on."""
    workspace = default_workspace()
    if not workspace.is_demo:
        return
    if not workspace.run_directory.is_dir():
        demo.write_demo(workspace.run_directory)
    for kind, spec in first_jobs(workspace):
        ensure_job(workspace, kind, spec)


def first_jobs(workspace: Workspace) -> list[tuple[str, dict]]:
    """Look at the checkpoint, then predict both splits the way the demo was trained: FP32, lower-cased."""
    predictions = [
        ("predict", prediction_spec(workspace, split=split, lowercase="true")) for split in ("test", "val")
    ]
    return [("inspect", dict(workspace.source)), *predictions]


def prediction_spec(workspace: Workspace, **choices: object) -> dict:
    """A `predict` job's specification: the defaults of the command line, then the choices."""
    return {
        **workspace.source,
        "split": "test",
        "policy": "fp32",
        "lowercase": "auto",
        "max_length": 512,
        "padding": "max_length",
        "attention": "sdpa",
        "batch_size": 32,
        "limit": None,
        "device": "auto",
        "deterministic": False,
        "cudnn_benchmark": False,
        **choices,
    }


def ensure_job(workspace: Workspace, kind: str, spec: dict) -> str:
    """The id of the job that does this, queued now unless one is under way or has done it."""
    for job in jobs.list_jobs(workspace.cache):
        if job.kind == kind and job.spec == spec and job.status in (*ALIVE, "done"):
            return job.id
    return jobs.submit(workspace.cache, kind, spec)
