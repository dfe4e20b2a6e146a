"""Jobs in trouble: asked for twice at once, full disks, damaged records, workers that do not listen."""

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shifamind_core import jobs, locks
from shifamind_core.errors import ShifamindError
from shifamind_core.jobs import store, worker
from shifamind_core.jobs.state import JobState, write_state
from tests.support.damage import DAMAGES, damage
from tests.support.disks import read_only, small_disk  # noqa: F401 - fixtures
from tests.support.waiting import until

SLEEPER = ("sh", "-c", "exec sleep 60")  # as quick to start as a process can be
DEAF = ("sh", "-c", "trap '' TERM; sleep 60 & sleep 60; sleep 60")
OLD = "2026-01-01T00:00:00+00:00"


@pytest.fixture(autouse=True)
def no_worker_outlives_its_test():
    yield
    for process in store._started:
        process.kill()
        process.wait()


@pytest.fixture
def sleepers(monkeypatch):
    monkeypatch.setattr(store, "WORKER", SLEEPER)


def make(cache: Path, name: str = "20260101T000000000000-abcdef", status: str = "done", **state) -> Path:
    """The folder of a job as its worker left it."""
    folder = store.jobs_folder(cache) / name
    folder.mkdir(parents=True)
    write_state(
        folder,
        JobState(
            **{"id": name, "kind": "probe", "spec": {}, "status": status, "created_at_utc": OLD} | state
        ),
    )
    return folder


def left_in(cache: Path) -> set[str]:
    return {path.name for path in store.jobs_folder(cache).glob("*")} - {"submit.lock", "device.lock"}


# Twice at once ------------------------------------------------------------------------------------------


def _at_once(callers: int, call) -> list:
    start, answers = threading.Barrier(callers), []
    threads = [
        threading.Thread(target=lambda: (start.wait(), answers.append(call()))) for _ in range(callers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_four_sessions_that_ask_at_once_start_one_job(tmp_path, sleepers):
    for trial in range(40):
        ids = _at_once(
            4, lambda trial=trial: jobs.submit(tmp_path, "probe", {"notes": trial, "policies": ("a",)})
        )
        assert len(ids) == 4 and len(set(ids)) == 1
        assert len(store._started) == 1, "nobody started a second one that nobody sees"
        store._started[-1].kill()
        until(lambda: not jobs.list_jobs(tmp_path)[0].active)


def _ask(cache, start, answers):
    store.WORKER = SLEEPER
    start.wait()
    answers.put(jobs.submit(cache, "probe", {"notes": 1}))


def test_two_servers_that_ask_at_once_start_one_job(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(4), context.Queue()
    processes = [context.Process(target=_ask, args=(tmp_path, start, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    ids = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    (job,) = jobs.list_jobs(tmp_path)
    assert ids == {job.id}
    jobs.cancel(tmp_path, job.id)
    until(lambda: not jobs.read_job(tmp_path, job.id).active)


def test_old_jobs_are_forgotten_by_several_at_once(tmp_path, sleepers, monkeypatch):
    monkeypatch.setattr(store, "KEPT", 2)
    for day in range(30):
        make(tmp_path, f"202601{day:02}T000000000000-abcdef")
    ids = _at_once(4, lambda: jobs.submit(tmp_path, "probe", {"thread": threading.get_ident()}))
    assert len(set(ids)) == 4
    finished = [job.id[:8] for job in jobs.list_jobs(tmp_path) if not job.active]
    assert finished == ["20260129", "20260128"]
    assert left_in(tmp_path) == {*ids, *(f"{day}T000000000000-abcdef" for day in finished)}


def test_what_a_killed_server_left_half_made_goes_with_the_next_job(tmp_path, sleepers):
    half = store.jobs_folder(tmp_path) / ".incoming-x"
    half.mkdir(parents=True)
    (half / "state.json").write_text("{")
    assert jobs.list_jobs(tmp_path) == []
    assert left_in(tmp_path) == {".incoming-x"}
    assert {jobs.submit(tmp_path, "probe", {})} == left_in(tmp_path)


def test_a_job_is_forgotten_when_asked_to_and_a_living_one_is_not(tmp_path, sleepers):
    done, living = make(tmp_path).name, jobs.submit(tmp_path, "probe", {})
    for name in (done, living, "nobody", "../jobs"):
        jobs.forget(tmp_path, name)
    assert left_in(tmp_path) == {living}


# Clocks and restarts ------------------------------------------------------------------------------------


def test_after_the_clock_was_set_back_the_newest_job_is_still_the_last_one_asked_for(tmp_path, sleepers):
    make(tmp_path, "29990101T000000000000-abcdef")
    first, second = (jobs.submit(tmp_path, "probe", {"notes": notes}) for notes in (1, 2))
    assert [job.id for job in jobs.list_jobs(tmp_path)][:2] == [second, first]


def test_a_job_survives_the_server_that_started_it(tmp_path):
    code = f"from shifamind_core import jobs; from pathlib import Path; print(jobs.submit(Path({str(tmp_path)!r}), 'inspect', {{'run_directory': 'nowhere'}}))"
    name = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert jobs.read_job(tmp_path, name).active
    assert jobs.submit(tmp_path, "inspect", {"run_directory": "nowhere"}) == name
    job = until(lambda: (state := jobs.read_job(tmp_path, name)).active is False and state)
    assert job.status == "failed" and "nowhere does not exist" in job.error


# Cancel -------------------------------------------------------------------------------------------------


def group(pid: int) -> list[str]:
    """The states of the living processes of a group."""
    found = subprocess.run(
        ["ps", "-o", "stat=", "-g", str(pid)], capture_output=True, text=True
    ).stdout.split()
    return [state for state in found if not state.startswith("Z")]


def test_a_worker_that_does_not_listen_is_killed_with_all_that_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "WORKER", DEAF)
    monkeypatch.setattr(store, "GRACE_SECONDS", 1.0)
    name = jobs.submit(tmp_path, "probe", {})
    pid = store._pid(store.jobs_folder(tmp_path) / name)
    until(
        lambda: len(group(pid)) == 3
    )  # two shells' worth: the one that does not listen, and what it waits for
    began = time.monotonic()
    jobs.cancel(tmp_path, name)
    assert jobs.read_job(tmp_path, name).status == "cancelling"
    assert until(lambda: not (job := jobs.read_job(tmp_path, name)).active and job).status == "cancelled"
    assert 0.9 < time.monotonic() - began < 10
    until(lambda: group(pid) == [])


def test_a_cancelled_job_is_ended_by_the_next_server_if_the_first_one_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "WORKER", DEAF)
    monkeypatch.setattr(store, "GRACE_SECONDS", 0.2)
    name = jobs.submit(tmp_path, "probe", {})
    (store.jobs_folder(tmp_path) / name / "cancel").touch()
    until(lambda: jobs.read_job(tmp_path, name).status == "cancelled")


def test_a_step_of_a_cancelled_job_stops_it_where_no_signal_can_reach_it(tmp_path):
    folder = make(tmp_path, status="running")
    (folder / "cancel").touch()
    with pytest.raises(worker.Cancelled):
        worker.Reporter(folder, JobState(folder.name, "probe", {}, "running", OLD)).progress("Scoring", 0, 1)


# Disks --------------------------------------------------------------------------------------------------


def test_on_a_full_disk_nothing_is_started_and_nothing_is_left(small_disk, sleepers):  # noqa: F811
    """However far it comes before the disk is full."""
    cache = small_disk.folder / "cache"
    refused = 0
    for pages in range(40):
        small_disk.fill(pages)
        try:
            name = jobs.submit(cache, "probe", {"notes": pages})
        except ShifamindError as error:
            refused += 1
            assert "No space left" in str(error) and "\n" not in str(error)
            assert left_in(cache) == set() and store._started == []
            continue
        assert jobs.read_job(cache, name).status == "queued"
        store._started[-1].kill()
        until(lambda: not jobs.read_job(cache, name).active)  # noqa: B023
        break
    else:
        pytest.fail("a whole megabyte was not enough")
    assert refused > 10


@pytest.mark.parametrize("refused", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_whatever_step_is_refused_nothing_is_started_and_nothing_is_left(
    tmp_path, monkeypatch, sleepers, refused
):
    steps = ("mkdir", "open", "fsync", "replace", "rename", "pwrite")
    originals = {step: getattr(os, step) for step in steps}
    countdown = 0

    def stumble(step):
        def call(*arguments, **options):
            nonlocal countdown
            writes = step != "open" or arguments[1] & os.O_CREAT
            countdown -= writes
            if writes and countdown == 0:
                raise OSError(refused, os.strerror(refused))
            return originals[step](*arguments, **options)

        return call

    for step in steps:
        monkeypatch.setattr(os, step, stumble(step))
    for nth in range(1, 40):
        countdown = nth
        try:
            name = jobs.submit(tmp_path, "probe", {"notes": nth})
        except ShifamindError as error:
            assert os.strerror(refused) in str(error) and "\n" not in str(error)
            assert left_in(tmp_path) == set() and [one for one in store._started if one.poll() is None] == []
            continue
        store._started[-1].kill()
        until(lambda: not jobs.read_job(tmp_path, name).active)  # noqa: B023
        if countdown > 0:  # every step was seen to fail
            break
        jobs.forget(tmp_path, name)  # a folder that is there need not be made
    assert nth > 8, "so many steps were seen to fail"


def test_a_process_that_cannot_be_started_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "WORKER", ("/no/such/program",))
    with pytest.raises(ShifamindError, match="No such file"):
        jobs.submit(tmp_path, "probe", {})
    assert left_in(tmp_path) == set()


def test_on_a_read_only_disk_jobs_are_shown_and_none_is_started(read_only):  # noqa: F811
    cache = read_only / "cache"
    with pytest.raises(
        ShifamindError, match=r"^No job can be started .*: (Read-only file system|Permission denied)\.$"
    ):
        jobs.submit(cache, "probe", {})
    assert jobs.list_jobs(cache) == [] and list(cache.iterdir()) == []


def work_on(folder, monkeypatch, work):
    """The worker's `main` in this process, with a task of the test's own."""
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    command = worker.COMMANDS["probe"]
    monkeypatch.setattr(
        worker,
        "COMMANDS",
        {"probe": type(command)("probe", "", worker.COMMANDS["capture"].spec, work, job=True)},
    )
    worker.main(folder)


@pytest.mark.parametrize("end", ["done", "failed"])
def test_a_worker_whose_disk_fills_up_still_says_so(small_disk, sleepers, monkeypatch, end):  # noqa: F811
    cache = small_disk.folder / "cache"
    name = jobs.submit(cache, "probe", {})
    folder = store.jobs_folder(cache) / name
    store._started[-1].kill()

    def work(spec, host):
        host.partial({"rows": list(range(2000))})
        small_disk.fill()
        host.progress("Scoring", 1, 2)  # cannot be written, and the work goes on
        host.progress("Writing", 1, 2)
        if end == "failed":
            raise ShifamindError("The run cannot be written: No space left on device.")
        return {"rows": "x" * 200_000}

    work_on(folder, monkeypatch, work)
    job = jobs.read_job(cache, name)
    assert job.status == "failed" and "No space left" in job.error and job.partial is None
    assert {path.name for path in folder.iterdir()} == {"state.json", "process.json", "log.txt"}


def test_what_the_system_refuses_a_worker_is_one_line(tmp_path, monkeypatch):
    folder = make(tmp_path, status="queued")

    def work(spec, host):
        raise OSError(errno.ENOSPC, "No space left on device", "/a/patient.csv")

    work_on(folder, monkeypatch, work)
    job = jobs.read_job(tmp_path, folder.name)
    assert job.status == "failed" and "No space left on device" in job.error and "patient" not in job.error


# Damaged records ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_state_is_one_line_and_the_other_jobs_are_as_before(tmp_path, how):
    good, bad = make(tmp_path), make(tmp_path, "20260102T000000000000-abcdef")
    damage(bad / "state.json", how)
    shown = jobs.list_jobs(tmp_path)
    assert [(job.id, job.status) for job in shown] == [(bad.name, "damaged"), (good.name, "done")]
    (line,) = jobs.damaged_jobs(tmp_path)
    assert "is damaged" in line and "\n" not in line
    jobs.forget(tmp_path, bad.name)
    assert [job.id for job in jobs.list_jobs(tmp_path)] == [good.name]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_process_file_is_that_of_no_process(tmp_path, how):
    folder = make(tmp_path, status="running")
    damage(folder / "process.json", how)
    assert jobs.read_job(tmp_path, folder.name).status == "lost"
    assert store._pid(folder) is None


def test_a_living_worker_whose_record_is_damaged_can_be_cancelled(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "WORKER", DEAF)
    monkeypatch.setattr(store, "GRACE_SECONDS", 0.2)
    name = jobs.submit(tmp_path, "probe", {})
    damage(store.jobs_folder(tmp_path) / name / "state.json", "{")
    job = jobs.read_job(tmp_path, name)
    assert job.status == "running" and "damaged" in job.message
    jobs.cancel(tmp_path, name)
    until(lambda: not jobs.read_job(tmp_path, name).active)


def test_a_state_with_a_right_checksum_and_a_senseless_time_is_damaged(tmp_path):
    for time_ in ("yesterday", "2026-01-01T00:00:00"):
        folder = make(tmp_path / time_, created_at_utc=time_)
        assert jobs.read_job(tmp_path / time_, folder.name).status == "damaged"


def test_a_folder_that_is_a_link_is_no_job(tmp_path):
    folder = make(tmp_path / "elsewhere")
    store.jobs_folder(tmp_path).mkdir()
    (store.jobs_folder(tmp_path) / folder.name).symlink_to(folder)
    assert jobs.list_jobs(tmp_path) == []


# Locks --------------------------------------------------------------------------------------------------


def test_a_lock_is_held_until_it_is_released_or_forgotten(tmp_path):
    path = tmp_path / "lock"
    first = locks.lock(path)
    assert locks.held(path) and locks.lock(path) is None
    first.release()
    first.release()
    assert not locks.held(path)
    one, other = locks.wait_to_share(path), locks.wait_to_share(path)
    assert one and other and locks.lock(path) is None and not locks.held(path)
    del one, other
    with locks.lock(path):
        assert locks.held(path)
    assert not locks.held(path)


def test_a_lock_ends_with_the_process_that_holds_it_and_not_with_the_one_that_made_it(tmp_path):
    path = tmp_path / "lock"
    with locks.lock(path) as mine:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(mine.descriptor,))
    assert locks.held(path)
    child.kill()
    child.wait()
    assert not locks.held(path)
