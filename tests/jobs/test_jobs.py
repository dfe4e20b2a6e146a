"""Jobs: progress, cancel, and every way in which a worker can end."""

import json
import os
import pickle
import signal
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core import jobs, locks
from shifamind_core.commands import Command
from shifamind_core.errors import ShifamindError
from shifamind_core.jobs import store, worker
from shifamind_core.jobs.state import JobState, read_state, write_state
from shifamind_core.jobs.worker import Cancelled, Reporter
from shifamind_core.specs import NoSpec
from simulation.builders import tiny_run_directory
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def no_worker_outlives_its_test():
    yield
    for process in store._started:
        process.kill()
        process.wait()


@pytest.fixture
def predict_spec(tmp_path):
    run = tiny_run_directory(tmp_path, "cls_fusion", notes=40)
    return {"run_directory": str(run), "max_length": 32, "device": "cpu", "lowercase": "true"}


@pytest.fixture
def waiting(tmp_path):
    """A cache whose device another process holds, so that jobs stay queued."""
    import fcntl

    cache = tmp_path / "cache"
    store.jobs_folder(cache).mkdir(parents=True)
    with (store.jobs_folder(cache) / "device.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache
        for job in jobs.list_jobs(cache):
            jobs.cancel(cache, job.id)
    until(lambda: not any(job.active for job in jobs.list_jobs(cache)))


def test_a_job_runs_to_its_result_and_a_like_one_is_answered_from_the_cache(tmp_path, predict_spec):
    cache = tmp_path / "cache"
    first = jobs.submit(cache, "predict", predict_spec)
    assert jobs.submit(cache, "predict", predict_spec) == first  # still active: not started twice
    job = until(lambda: (state := jobs.read_job(cache, first)).active is False and state)
    assert job.status == "done", job.error
    assert (job.result["documents"], job.result["cached"]) == (40, False)
    assert job.progress_done == job.progress_total == 40
    second = jobs.submit(cache, "predict", predict_spec)
    assert until(lambda: (s := jobs.read_job(cache, second)).active is False and s).result["cached"] is True
    assert [job.id for job in jobs.list_jobs(cache)] == [second, first]
    assert "synthetic" not in (store.jobs_folder(cache) / first / "state.json").read_text().lower()


def test_bad_input_fails_with_its_one_line(tmp_path):
    identifier = jobs.submit(tmp_path, "inspect", {"run_directory": str(tmp_path / "nowhere")})
    job = until(lambda: (state := jobs.read_job(tmp_path, identifier)).active is False and state)
    assert job.status == "failed" and "nowhere does not exist" in job.error


def test_a_queued_job_can_be_cancelled(waiting, predict_spec):
    identifier = jobs.submit(waiting, "predict", predict_spec)
    assert jobs.read_job(waiting, identifier).status == "queued"
    jobs.cancel(waiting, identifier)
    assert (
        until(lambda: (state := jobs.read_job(waiting, identifier)).active is False and state).status
        == "cancelled"
    )


def test_files_are_read_while_another_job_computes_and_cancel_ends_the_reading(
    waiting, predict_spec, tmp_path
):
    """A key that is hashed for ever: it held the device for good, and no other job ran."""
    nested = ()
    for _ in range(40):
        nested = (nested, nested)
    pickled = pickle.dumps(nested, protocol=2)[:-1].replace(b"\x80\x02", b"\x80\x02}", 1) + b"Ns."
    checkpoint = next(Path(predict_spec["run_directory"]).glob("checkpoints/**/*.pt"))
    with zipfile.ZipFile(checkpoint, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
    identifier = jobs.submit(waiting, "predict", predict_spec)
    until(lambda: "Reading phase1_best.pt" in (jobs.read_job(waiting, identifier).message or ""))
    jobs.cancel(waiting, identifier)
    began = time.monotonic()
    ended = until(lambda: (state := jobs.read_job(waiting, identifier)).active is False and state)
    assert ended.status == "cancelled" and time.monotonic() - began < 10


def test_a_job_that_has_read_its_files_waits_for_the_device(waiting, predict_spec):
    identifier = jobs.submit(waiting, "predict", predict_spec)
    until(lambda: jobs.read_job(waiting, identifier).message == "Tokenizing")
    until(lambda: jobs.read_job(waiting, identifier).status == "queued")


def test_of_two_steps_that_are_told_at_once_none_is_lost(tmp_path, monkeypatch):
    """That a file is read, by the thread that reads it, and that the job waits for the device."""
    folder = folder_of(tmp_path)
    reporter = Reporter(folder, jobs.read_job(tmp_path, folder.name))

    def slowly(state, **changes):
        time.sleep(0.1)
        return replace(state, **changes)

    monkeypatch.setattr(worker, "replace", slowly)
    told = ({"message": "Tokenizing"}, {"status": "queued"})
    threads = [threading.Thread(target=reporter.write, kwargs=changes) for changes in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = read_state(folder)
    assert (state.message, state.status) == ("Tokenizing", "queued")


def test_a_killed_worker_is_lost_not_running(waiting, predict_spec):
    identifier = jobs.submit(waiting, "predict", predict_spec)
    process = json.loads((store.jobs_folder(waiting) / identifier / "process.json").read_text())
    os.kill(process["pid"], signal.SIGKILL)
    job = until(lambda: (state := jobs.read_job(waiting, identifier)).active is False and state)
    assert job.status == "lost" and "without a word" in job.error


def folder_of(tmp_path, **state):
    folder = store.jobs_folder(tmp_path) / "20260101T000000000000-abcdef"
    folder.mkdir(parents=True)
    defaults = {
        "kind": "fake",
        "spec": {},
        "status": "running",
        "created_at_utc": "2026-01-01T00:00:00+00:00",
    }
    write_state(folder, JobState(id=folder.name, **(defaults | state)))
    return folder


def test_a_worker_lives_while_its_lock_is_held_whatever_the_clock_and_the_pid_say(tmp_path):
    """Pids are used again, and a creation time changes when the clock is set."""
    folder = folder_of(tmp_path, created_at_utc="2999-01-01T00:00:00+00:00")
    (folder / "process.json").write_text(json.dumps({"pid": os.getpid()}))
    assert jobs.read_job(tmp_path, folder.name).status == "lost"
    with locks.lock(folder / "process.json"):
        assert jobs.read_job(tmp_path, folder.name).status == "running"
    assert jobs.read_job(tmp_path, folder.name).status == "lost"


@pytest.fixture
def task(monkeypatch):
    """The worker's `main` in this process, with a task of the test's own."""
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)

    def run(folder, work):
        fake = Command("fake", "", NoSpec, work, job=True)
        monkeypatch.setattr("shifamind_core.jobs.worker.COMMANDS", {"fake": fake})
        worker.main(folder)
        return json.loads((folder / "state.json").read_text())

    return run


def test_an_unexpected_error_gives_one_line_and_leaves_the_rest_in_the_log(tmp_path, task, capsys):
    folder = folder_of(tmp_path, status="queued")
    state = task(folder, lambda *_: {}["secret"])
    assert state["status"] == "failed" and "KeyError" in state["error"] and "secret" not in state["error"]
    log = capsys.readouterr().err
    assert "KeyError" in log and "test_jobs.py" in log and "secret" not in log


def test_cancelling_between_two_batches_ends_as_cancelled(tmp_path, task):
    folder = folder_of(tmp_path, status="queued")

    def work(spec, host):
        host.progress("Scoring", 1, 2)
        raise Cancelled

    assert task(folder, work)["status"] == "cancelled"


def test_progress_gives_rate_and_remaining_time(tmp_path, monkeypatch):
    clock = iter([100.0, 100.0, 102.0, 102.0, 103.0, 103.0]).__next__
    monkeypatch.setattr(worker.time, "monotonic", clock)
    folder = folder_of(tmp_path)
    reporter = Reporter(folder, JobState(folder.name, "fake", {}, "running", "2026-01-01T00:00:00+00:00"))
    reporter.progress("Scoring", 0, 100)
    reporter.progress("Scoring", 20, 100)
    assert (reporter.state.rate_per_second, reporter.state.eta_seconds) == (10.0, 8.0)


@given(data=st.data())
def test_no_flipped_bit_gives_another_result(tmp_path_factory, data):
    """Measured numbers (a layer profile, a ladder) are shown as they were written, or not at all."""
    cache = tmp_path_factory.mktemp("flipped")
    written = {"std": [0.125, 3.5e-7], "relative_error": None, "names": ["encoder.0", "größe"]}
    folder = folder_of(cache, status="done", result=written)
    content = bytearray((folder / "state.json").read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    (folder / "state.json").write_bytes(content)
    for job in jobs.list_jobs(cache):
        assert job.id == folder.name
        if job.status == "done":
            assert job.result == written
        else:
            assert job.status == "damaged" and job.result is None and "is damaged" in job.error


def test_an_unknown_job_is_one_clear_line(tmp_path):
    with pytest.raises(ShifamindError, match="no job x"):
        jobs.read_job(tmp_path, "x")


def test_old_finished_jobs_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "KEPT", 2)
    state = JobState("", "fake", {}, "done", "2026-01-01T00:00:00+00:00")
    for day in range(5):
        folder = store.jobs_folder(tmp_path) / f"2026010{day}T000000000000-abcdef"
        folder.mkdir(parents=True)
        write_state(folder, replace(state, id=folder.name))
    store._forget_old(tmp_path)
    assert [job.id[:8] for job in jobs.list_jobs(tmp_path)] == ["20260104", "20260103"]
