"""The cache of runs: what was stored is found, damage is named, and nothing is overwritten silently."""

import json
import multiprocessing
import os
import shutil
import stat
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.errors import ShifamindError
from shifamind_core.precision.environment import Environment
from shifamind_core.runs.cache import LEFTOVER_SECONDS, RunCache, validation_partner
from shifamind_core.runs.manifest import CheckpointRecord, Manifest, digest_of
from shifamind_core.runs.run import Run

FIELDS = {"weights": "ab" * 32, "policy": {"name": "fp32"}, "batch_size": 32}
KEY = digest_of(FIELDS)


def example_run(seed=0, **changes):
    logits = np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)
    return Run(
        logits,
        **{"name": "test · fp32", "codes": ("A", "B", "C"), "manifest": Manifest(split="test")} | changes,
    )


@pytest.fixture
def cache(tmp_path):
    return RunCache(tmp_path / "cache")


def the_problem(cache):
    """The only line that the cache has to say about damage."""
    (problem,) = cache.problems()
    assert "\n" not in problem
    return problem


# --- storing and finding -------------------------------------------------------------------------------------


def test_an_empty_cache_finds_and_lists_nothing(cache):
    assert cache.find(KEY) is None and cache.entries() == [] and cache.problems() == []
    cache.remove(KEY)


def test_a_stored_run_is_found_with_name_and_manifest(cache):
    run = example_run()
    cache.store(run, KEY, FIELDS)
    found = cache.find(KEY)
    assert found.digest == run.digest and found.name == run.name and found.manifest == run.manifest
    assert cache.load(KEY).digest == run.digest
    assert cache.find(digest_of({**FIELDS, "batch_size": 16})) is None


def test_the_key_is_kept_for_people(cache):
    cache.store(example_run(), KEY, FIELDS)
    kept = json.loads((cache.runs / KEY / "key.json").read_text())
    assert kept["kind"] == "computed" and kept["key"] == KEY and digest_of(kept["fields"]) == KEY


def test_entries_tell_what_is_there_from_the_headers(cache):
    run = example_run(labels=np.zeros((5, 3), np.uint8))
    cache.store(run, KEY, FIELDS)
    upload = example_run(seed=1, name="a100.npz", codes=None, manifest=Manifest())
    id = cache.store_upload(upload)
    entries = {entry.id: entry for entry in cache.entries()}
    assert set(entries) == {KEY, id} and id == upload.digest
    computed, uploaded = entries[KEY], entries[id]
    assert (computed.kind, computed.key, computed.digest, computed.name) == (
        "computed",
        KEY,
        run.digest,
        "test · fp32",
    )
    assert (computed.documents, computed.columns, computed.labelled) == (5, 3, True)
    assert computed.codes == ("A", "B", "C") and computed.manifest.split == "test"
    assert (uploaded.kind, uploaded.key, uploaded.codes, uploaded.labelled) == ("uploaded", None, None, False)


def test_the_latest_entry_comes_first(cache, monkeypatch):
    for day, seed in [("2026-01-02", 0), ("2026-02-11", 1), ("2026-01-30", 2)]:
        monkeypatch.setattr("shifamind_core.runs.cache._now", lambda day=day: f"{day}T00:00:00+00:00")
        cache.store_upload(example_run(seed, name=day))
    assert [entry.name for entry in cache.entries()] == ["2026-02-11", "2026-01-30", "2026-01-02"]


def test_the_same_upload_is_kept_once(cache):
    run = example_run()
    assert cache.store_upload(run) == cache.store_upload(replace(run, name="renamed")) == run.digest
    assert len(cache.entries()) == 1


def test_equal_logits_from_two_machines_are_both_kept(cache):
    runs = [
        example_run(name=gpu, manifest=Manifest(split="test", environment=Environment(gpu=gpu)))
        for gpu in ("H100", "A100")
    ]
    ids = [cache.store_upload(run) for run in runs]
    assert ids == [cache.store_upload(run) for run in runs] and ids[0] != ids[1]
    assert [cache.load(id).manifest.environment.gpu for id in ids] == ["H100", "A100"]
    assert {entry.digest for entry in cache.entries()} == {runs[0].digest}


def test_a_key_keeps_its_first_run(cache):
    """The key decides the logits, so a second run under it can only say the same; `remove` makes room."""
    cache.store(example_run(0), KEY, FIELDS)
    cache.store(example_run(1), KEY, FIELDS)
    assert cache.find(KEY).digest == example_run(0).digest
    cache.remove(KEY)
    cache.store(example_run(1), KEY, FIELDS)
    assert cache.find(KEY).digest == example_run(1).digest


def test_a_removed_entry_is_gone(cache):
    cache.store(example_run(), KEY, FIELDS)
    cache.remove(KEY)
    assert cache.find(KEY) is None and list(cache.runs.iterdir()) == []
    with pytest.raises(ShifamindError, match="No run"):
        cache.load(KEY)


def test_folders_and_files_are_private_whatever_the_umask(cache):
    before = os.umask(0)
    try:
        cache.store(example_run(), KEY, FIELDS)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (cache.runs, *cache.runs.rglob("*"))}
    assert len(modes) == 4
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())


# --- damage --------------------------------------------------------------------------------------------------


def damage_logits(place):
    """One flipped bit in the data, which no header shows."""
    content = bytearray((place / "run.safetensors").read_bytes())
    content[-1] ^= 1
    (place / "run.safetensors").write_bytes(content)


DAMAGES = {
    "cut off": lambda place: (place / "run.safetensors").write_bytes(b"\x10"),
    "run file gone": lambda place: (place / "run.safetensors").unlink(),
    "key gone": lambda place: (place / "key.json").unlink(),
    "key no JSON": lambda place: (place / "key.json").write_text("{"),
    "key of another shape": lambda place: (place / "key.json").write_text('{"kind": "guessed"}'),
    "another key": lambda place: (place / "key.json").write_text(
        (place / "key.json").read_text().replace(KEY, "0" * 64)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_named_and_never_overwritten(cache, damage):
    cache.store(example_run(0), KEY, FIELDS)
    sound = cache.store_upload(example_run(1))
    DAMAGES[damage](cache.runs / KEY)
    assert str(cache.runs / KEY) in the_problem(cache) and "Remove that folder" in the_problem(cache)
    assert [entry.id for entry in cache.entries()] == [sound]
    before = {path: path.read_bytes() for path in (cache.runs / KEY).iterdir()}
    for use in (cache.find, cache.load, lambda key: cache.store(example_run(0), key, FIELDS)):
        with pytest.raises(ShifamindError, match="is damaged"):
            use(KEY)
    assert before == {path: path.read_bytes() for path in (cache.runs / KEY).iterdir()}
    cache.remove(KEY)
    assert cache.problems() == [] and cache.find(KEY) is None


def test_a_flipped_bit_in_the_data_is_noticed_on_loading(cache):
    cache.store(example_run(), KEY, FIELDS)
    damage_logits(cache.runs / KEY)
    with pytest.raises(ShifamindError, match="not those that were stored"):
        cache.find(KEY)


def test_a_stray_file_is_a_problem_and_nothing_more(cache):
    cache.store(example_run(), KEY, FIELDS)
    (cache.runs / "notes.txt").write_text("mine")
    assert "no cache entry" in the_problem(cache) and len(cache.entries()) == 1


@given(st.text(max_size=80))
def test_no_id_leads_out_of_the_folder(tmp_path_factory, id):
    folder = tmp_path_factory.mktemp("cache")
    cache = RunCache(folder)
    for use in (cache.load, cache.find, cache.remove):
        try:
            use(id)
        except ShifamindError as error:
            assert "\n" not in str(error)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("id", ["../../etc", "..", "", "ABCDEF0123456789", "a" * 65, "0123456789\n"])
def test_an_id_is_hexadecimal(cache, id):
    with pytest.raises(ShifamindError, match="no run id"):
        cache.load(id)


def test_a_killed_writer_leaves_nothing_for_long(cache):
    cache.store(example_run(), KEY, FIELDS)
    for name, age in [(".incoming-old", LEFTOVER_SECONDS + 60), (".incoming-new", 60)]:
        leftover = cache.runs / name
        leftover.mkdir()
        then = leftover.stat().st_mtime - age
        os.utime(leftover, (then, then))
    assert cache.problems() == [] and len(cache.entries()) == 1
    cache.store_upload(example_run(1))
    assert not (cache.runs / ".incoming-old").exists() and (cache.runs / ".incoming-new").exists()


def test_a_full_disk_leaves_no_entry(cache, monkeypatch):
    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shifamind_core.runs.atomic.os.fsync", full_disk)
    with pytest.raises(ShifamindError, match="No space left"):
        cache.store(example_run(), KEY, FIELDS)
    assert cache.find(KEY) is None and list(cache.runs.iterdir()) == []


def _store_often(folder):
    cache = RunCache(folder)
    for _ in range(5):
        cache.store(example_run(), KEY, FIELDS)
        assert cache.find(KEY).digest == example_run().digest


def test_two_processes_may_store_the_same_key(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_store_often, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    cache = RunCache(tmp_path)
    assert cache.find(KEY).digest == example_run().digest and cache.problems() == []
    assert [path.name for path in cache.runs.iterdir()] == [KEY]


# --- the validation run --------------------------------------------------------------------------------------


def recorded(split, **known):
    return example_run(manifest=Manifest(split=split, **known))


def test_the_validation_run_has_the_same_configuration_digest():
    test = recorded("test", configuration_digest="c1", created_at_utc="2026-02-12")
    val = recorded("val", configuration_digest="c1", created_at_utc="2026-02-11")
    other = recorded("val", configuration_digest="c2")
    assert validation_partner(test, [recorded("test", configuration_digest="c1"), other, val]) is val
    assert validation_partner(test, [other]) is None


def test_without_that_digest_everything_known_must_agree():
    known = {"checkpoint": CheckpointRecord(epoch=15), "environment": Environment(gpu="L4")}
    test = recorded("test", **known, duration_seconds=1.0, notes=("a",))
    val = recorded("validation", **known, duration_seconds=2.0, documents_of=17265)
    elsewhere = recorded("val", **known | {"environment": Environment(gpu="A100")})
    assert validation_partner(test, [elsewhere, val]) is val
    assert validation_partner(test, [elsewhere]) is None
    assert validation_partner(test, [replace(val, codes=("A", "B", "D"))]) is None


def test_two_runs_of_which_nothing_is_known_are_no_pair():
    assert validation_partner(recorded("test"), [recorded("val")]) is None
    assert validation_partner(example_run(manifest=Manifest()), [recorded("val")]) is None


def test_a_validation_run_needs_no_partner():
    val = recorded("val", configuration_digest="c1")
    assert validation_partner(val, [val]) is None


def test_entries_pair_as_runs_do(cache):
    test, val = (recorded(split, configuration_digest="c1") for split in ("test", "val"))
    for run in (test, val):
        cache.store(run, digest_of(run.manifest), {"split": run.manifest.split})
    partner = validation_partner(test, cache.entries())
    assert partner.manifest.split == "val" and cache.load(partner.id).manifest == val.manifest


def test_a_copied_cache_folder_still_works(cache, tmp_path):
    cache.store(example_run(), KEY, FIELDS)
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    assert RunCache(tmp_path / "copy").find(KEY).digest == example_run().digest
