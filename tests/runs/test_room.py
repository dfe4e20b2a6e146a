"""Room in the cache: what goes first, what never goes, and what killed writers leave."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.errors import ShifamindError
from shifamind_core.runs import atomic, room
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.manifest import digest_of
from shifamind_core.runs.room import LEFTOVER_SECONDS, everything_kept, make_room, throw_away
from shifamind_core.runs.run import Run
from shifamind_core.runs.sealed import read_sealed, write_sealed
from shifamind_core.settings import CACHE_LIMIT, cache_limit_bytes
from tests.support.disks import small_disk  # noqa: F401 - a fixture

OWNER = "/data/run_1"


def run(seed: int = 0) -> Run:
    """Four notes, three codes: some hundred bytes."""
    logits = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    return Run(logits, f"run {seed}", ("A", "B", "C"))


def compute(cache: RunCache, seed: int) -> str:
    return cache.store(run(seed), digest_of({"seed": seed}), {"seed": seed}, OWNER)


def age(cache: RunCache, id: str, days: int) -> None:
    then = time.time() - days * 86_400
    os.utime(cache.runs / id / "used", (then, then))


def kept(cache: RunCache) -> set[str]:
    return {path.name for path in cache.runs.iterdir()}


def total(cache: RunCache) -> int:
    return sum(one.bytes for one in everything_kept(cache.folder))


@pytest.fixture
def cache(tmp_path: Path) -> RunCache:
    return RunCache(tmp_path / "cache")


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch):
    """Set the limit, in bytes."""
    return lambda size: monkeypatch.setenv("SHIFAMIND_CACHE_LIMIT", str(size))


# What goes ------------------------------------------------------------------------------------------------


def test_what_was_used_least_recently_goes_first(cache, limit):
    ids = [compute(cache, seed) for seed in range(4)]
    for id, days in zip(ids, (3, 4, 1, 2), strict=True):
        age(cache, id, days)
    assert cache.find(digest_of({"seed": 1}))[0] is not None  # the oldest is used once more
    limit(total(cache) - 1)
    make_room(cache.folder)
    assert kept(cache) == {ids[1], ids[2], ids[3]}


def test_the_limit_holds_after_every_run_that_is_stored(cache, limit):
    compute(cache, 0)
    most = 3 * total(cache) + 200
    limit(most)
    for seed in range(1, 12):
        id = compute(cache, seed)
        assert id in kept(cache) and total(cache) <= most
    assert len(kept(cache)) == 3


@given(ages=st.permutations(range(6)), uploads=st.sets(st.integers(0, 5)), room_for=st.integers(0, 6))
def test_computed_runs_go_by_age_and_uploads_only_when_they_are_gone(
    tmp_path_factory, ages, uploads, room_for
):
    cache = RunCache(tmp_path_factory.mktemp("room"))
    ids = [cache.store_upload(run(n), OWNER) if n in uploads else compute(cache, n) for n in range(6)]
    for id, days in zip(ids, ages, strict=True):
        age(cache, id, days)
    order = sorted(range(6), key=lambda n: (n in uploads, -ages[n]))
    sizes = {one.path.name: one.bytes for one in everything_kept(cache.folder)}
    stay = {ids[n] for n in order[6 - room_for :]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFAMIND_CACHE_LIMIT", str(sum(sizes[id] for id in stay)))
        make_room(cache.folder)
    assert kept(cache) == stay


def test_a_stray_file_in_the_place_of_a_run_gives_way(cache):
    id = compute(cache, 0)
    cache.remove(id)
    (cache.runs / id).write_text("mine")
    assert compute(cache, 0) == id and cache.load(id).digest == run(0).digest


def test_trials_count_and_go_by_their_last_use(cache, limit):
    folders = ("trials", "trials", "trials")
    files = [cache.folder / folder / f"{n}.safetensors" for n, folder in enumerate(folders)]
    for days, file in enumerate(files, 1):
        write_sealed(file, file.stem, {"logits": np.zeros((10, 10))})
        os.utime(file, (time.time() - days * 86_400,) * 2)
    assert {one.kind for one in everything_kept(cache.folder)} == {"trial"}
    assert read_sealed(files[1], "1") is not None
    limit(files[1].stat().st_size)
    make_room(cache.folder)
    assert [file.exists() for file in files] == [False, True, False]


def test_a_damaged_entry_counts_and_can_be_thrown_away(cache):
    id = compute(cache, 0)
    (cache.runs / id / "key.json").write_text("{")
    (cache.runs / "stray.txt").write_text("mine")
    os.mkfifo(cache.runs / "pipe")
    (cache.runs / "link").symlink_to(cache.folder)
    found = everything_kept(cache.folder)
    assert {one.kind for one in found} == {"damaged"} and len(found) == 4
    assert all(throw_away(one) for one in found)
    assert kept(cache) == set() and cache.folder.is_dir()


# What stays -----------------------------------------------------------------------------------------------


def test_a_run_in_use_stays_even_if_the_limit_has_to_wait(cache, limit):
    shown, other = compute(cache, 0), compute(cache, 1)
    used = cache.use(shown)
    age(cache, shown, 9)
    limit(1)
    make_room(cache.folder)
    assert kept(cache) == {shown} and other != shown
    assert cache.load(shown).digest == run(0).digest
    used.release()
    make_room(cache.folder)
    assert kept(cache) == set()


def _show(folder, id, ready):
    used = RunCache(folder).use(id)
    ready.set()
    time.sleep(600)
    assert used


def test_a_run_that_another_server_shows_stays_until_that_server_is_gone(cache, limit):
    id = compute(cache, 0)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    server = context.Process(target=_show, args=(cache.folder, id, ready), daemon=True)
    server.start()
    assert ready.wait(60)
    limit(1)
    make_room(cache.folder)
    assert kept(cache) == {id} and room.in_use(everything_kept(cache.folder)[0])
    server.kill()
    server.join()
    make_room(cache.folder)
    assert kept(cache) == set()


def _use_often(folder, failures):
    cache = RunCache(folder)
    for turn in range(40):
        try:
            id = compute(cache, turn % 5)
            held = cache.use(id)
            if held is not None and (cache.runs / id).exists():
                assert cache.load(id).digest == run(turn % 5).digest
        except ShifamindError as error:
            failures.put(str(error))


def test_processes_that_store_use_and_make_room_at_once_lose_nothing_that_is_in_use(cache, limit):
    limit(2500)
    context = multiprocessing.get_context("spawn")
    failures = context.Queue()
    processes = [context.Process(target=_use_often, args=(cache.folder, failures)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [failures.get() for _ in range(failures.qsize())] == [] and cache.problems() == []
    make_room(cache.folder)
    assert total(cache) <= 2500


# Killed writers, and disks --------------------------------------------------------------------------------


def _store_for_ever(folder, started):
    atomic.os.fsync = lambda descriptor: (started.set(), time.sleep(600))
    compute(RunCache(folder), 0)


def _write_for_ever(folder, started):
    atomic.os.fsync = lambda descriptor: (started.set(), time.sleep(600))
    write_sealed(folder / "trials" / "k.safetensors", "k", {"logits": np.zeros(9)})


@pytest.mark.parametrize("write", [_store_for_ever, _write_for_ever])
def test_what_is_being_written_stays_and_what_a_killed_writer_left_goes(cache, write):
    cache.folder.mkdir()
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    writer = context.Process(target=write, args=(cache.folder, started), daemon=True)
    writer.start()
    assert started.wait(60)

    def halves():
        found = [*cache.folder.rglob(".*")]
        for path in found:  # of yesterday, as a clock that was set may have it
            os.utime(path, (time.time() - 2 * LEFTOVER_SECONDS,) * 2)
        return found

    assert halves()
    make_room(cache.folder)
    assert halves(), "its writer lives"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    make_room(cache.folder)
    assert not halves() and everything_kept(cache.folder) == []


def test_a_writer_that_has_not_come_to_its_lock_yet_is_left_alone_for_an_hour(cache):
    compute(cache, 0)
    young, old, removed = (
        cache.runs / f".{name}" for name in ("incoming-young", "incoming-old", "removed-x")
    )
    demo = cache.folder / ".demo-x"
    for place in (young, old, demo, removed):
        place.mkdir()
    for place in (old, demo):
        os.utime(place, (time.time() - LEFTOVER_SECONDS - 60,) * 2)
    make_room(cache.folder)
    assert (young.exists(), old.exists(), demo.exists(), removed.exists()) == (True, False, False, False)


def test_on_a_read_only_disk_runs_are_read_and_what_cannot_be_done_is_one_line(small_disk):  # noqa: F811
    cache = RunCache(small_disk.folder / "cache")
    id = compute(cache, 0)
    small_disk.make_read_only()
    assert cache.load(id).digest == run(0).digest and cache.use(id) is not None
    make_room(cache.folder)
    for change in (lambda: cache.remove(id), lambda: compute(cache, 1)):
        with pytest.raises(ShifamindError, match="Read-only file system"):
            change()
    assert kept(cache) == {id}


def test_a_full_disk_leaves_nothing_however_far_a_run_comes(small_disk):  # noqa: F811
    cache = RunCache(small_disk.folder / "cache")
    large = Run(np.zeros((5000, 3), np.float32), "large", ("A", "B", "C"))  # 60 kB
    refused = 0
    for pages in range(40):
        small_disk.fill(pages)
        try:
            cache.store_upload(large, OWNER)
        except ShifamindError as error:
            refused += 1
            assert "No space left" in str(error) and "\n" not in str(error)
            assert not cache.runs.exists() or kept(cache) == set()
        else:
            break
    assert refused > 12 and len(kept(cache)) == 1


# The limit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500 MB", 5 * 10**8), ("2.5gb", 25 * 10**8), (" 1 TiB ", 2**40), ("10", 10), ("", 10**10)],
)
def test_a_limit_is_a_number_with_or_without_a_unit(monkeypatch, text, size):
    monkeypatch.setenv("SHIFAMIND_CACHE_LIMIT", text)
    assert cache_limit_bytes() == size


@pytest.mark.parametrize("text", ["much", "-1", "1 PB", "1e9", "nan", "10 GB!", "9" * 30])
def test_another_limit_is_one_line(monkeypatch, cache, text):
    monkeypatch.setenv("SHIFAMIND_CACHE_LIMIT", text)
    with pytest.raises(ShifamindError, match=r"SHIFAMIND_CACHE_LIMIT is .* expected a number of bytes"):
        compute(cache, 0)
    assert kept(cache) == set()


def test_the_document_says_the_limit():
    documents = Path(__file__).resolve().parents[2] / "docs"
    assert f"`SHIFAMIND_CACHE_LIMIT` | {CACHE_LIMIT} " in (documents / "deployment.md").read_text()
