"""A worker that waits: the next job starts at once, it is used once, and it ends with whoever keeps it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shifamind_core import jobs
from shifamind_core.jobs import spare, store
from simulation.builders import tiny_run_directory
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
# As the worker does it, without what takes seconds to load.
LIGHT = (
    sys.executable,
    "-c",
    "import sys; from shifamind_core.jobs.spare import wait_for_job; print(wait_for_job(int(sys.argv[2])))",
)


@pytest.fixture
def allowed():
    spare.allow()
    yield
    spare.end()
    for process in store._started:
        process.kill()
        process.wait()


def waiting() -> spare._Spare:
    until(lambda: spare._spare is not None and spare._spare.is_ready())
    assert spare._spare is not None
    return spare._spare


def test_the_second_job_starts_sooner_in_a_process_that_did_no_other(tmp_path, allowed) -> None:
    cache, run = tmp_path / "cache", str(tiny_run_directory(tmp_path, "cls_fusion", notes=10))
    took, pids = [], []
    for _ in range(2):
        began = time.monotonic()
        name = jobs.submit(cache, "inspect", {"run_directory": run})
        until(lambda: not (jobs.read_job(cache, name).message or "Load").startswith("Load"))  # noqa: B023
        took.append(time.monotonic() - began)
        pids.append(json.loads((store.jobs_folder(cache) / name / "process.json").read_text())["pid"])
        until(lambda: not jobs.read_job(cache, name).active)  # noqa: B023
        assert jobs.read_job(cache, name).status == "done"
        until(lambda: all(process.poll() is not None for process in store._started))
        jobs.keep_warm()
        pids.append(waiting().process.pid)
    assert took[1] < took[0] / 2
    assert pids[2] == pids[1] and len(set(pids)) == 3, "the one that waited took it, and another waits now"


def test_it_ends_when_whoever_keeps_it_is_killed(tmp_path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from shifamind_core.jobs import spare; spare.allow(); "
        f"spare.keep({LIGHT!r}, Path.cwd()); print(spare._spare.process.pid, flush=True); time.sleep(60)"
    )
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert server.stdout is not None
    worker = psutil.Process(int(server.stdout.readline()))
    server.send_signal(signal.SIGKILL)
    server.wait()
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    server.stdout.close()


def test_one_that_was_killed_leaves_the_job_to_a_new_process(tmp_path, allowed) -> None:
    (tmp_path / "log").touch()
    spare.keep(LIGHT, ROOT)
    found = waiting()
    os.kill(found.process.pid, signal.SIGKILL)
    found.process.wait()
    with (tmp_path / "log").open("w") as log:
        assert spare.hand_over(tmp_path, log.fileno(), log.fileno()) is None
        assert spare.hand_over(tmp_path, log.fileno(), log.fileno()) is None, "and none is there any more"


def test_who_does_not_keep_one_has_none(tmp_path) -> None:
    spare.keep(LIGHT, ROOT)
    assert spare._spare is None


def test_none_is_started_beside_a_job_that_computes(allowed) -> None:
    store._started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
    jobs.keep_warm()
    assert spare._spare is None
