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
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.manifest import CheckpointRecord, Manifest, digest_of
from shifamind_core.runs.partner import validation_partner
from shifamind_core.runs.room import LEFTOVER_SECONDS
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import write_run_file

HERE, ELSEWHERE = "/data/run_1", "/data/run_2"
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
    assert cache.find(KEY) == (None, ()) and cache.entries() == [] and cache.problems() == []
    cache.remove(KEY)


def test_a_stored_run_is_found_with_name_and_manifest(cache):
    run = example_run()
    id = cache.store(run, KEY, FIELDS, HERE)
    found, remarks = cache.find(KEY)
    assert found.digest == run.digest and found.name == run.name and found.manifest == run.manifest
    assert remarks == () and cache.load(id).digest == run.digest
    assert cache.find(digest_of({**FIELDS, "batch_size": 16})) == (None, ())


def test_the_key_is_kept_for_people(cache):
    id = cache.store(example_run(), KEY, FIELDS, HERE)
    kept = json.loads((cache.runs / id / "key.json").read_text())
    assert kept["kind"] == "computed" and kept["key"] == KEY and digest_of(kept["fields"]) == KEY
    assert kept["owner"] == HERE


def test_entries_tell_what_is_there_from_the_headers(cache):
    run = example_run(labels=np.zeros((5, 3), np.uint8))
    made = cache.store(run, KEY, FIELDS, HERE)
    upload = example_run(seed=1, name="a100.npz", codes=None, manifest=Manifest())
    brought = cache.store_upload(upload, ELSEWHERE)
    entries = {entry.id: entry for entry in cache.entries()}
    assert set(entries) == {made, brought} and brought == cache.upload_id(upload, ELSEWHERE)
    computed, uploaded = entries[made], entries[brought]
    assert (computed.kind, computed.key, computed.digest) == ("computed", KEY, run.digest)
    assert (computed.name, computed.owner) == ("test · fp32", HERE)
    assert (computed.documents, computed.columns, computed.labelled) == (5, 3, True)
    assert computed.codes == ("A", "B", "C") and computed.manifest.split == "test"
    assert (uploaded.kind, uploaded.key, uploaded.codes, uploaded.labelled) == ("uploaded", None, None, False)
    assert uploaded.owner == ELSEWHERE


def test_the_latest_entry_comes_first(cache, monkeypatch):
    for day, seed in [("2026-01-02", 0), ("2026-02-11", 1), ("2026-01-30", 2)]:
        monkeypatch.setattr("shifamind_core.runs.cache._now", lambda day=day: f"{day}T00:00:00+00:00")
        cache.store_upload(example_run(seed, name=day), HERE)
    assert [entry.name for entry in cache.entries()] == ["2026-02-11", "2026-01-30", "2026-01-02"]


def test_the_same_upload_is_kept_once_for_each_run_directory(cache):
    run = example_run()
    assert (
        cache.store_upload(run, HERE) == cache.store_upload(run, HERE) != cache.store_upload(run, ELSEWHERE)
    )
    assert [entry.owner for entry in cache.entries() if entry.owner == HERE] == [HERE]
    assert len(cache.entries()) == 2


def test_equal_logits_from_two_machines_are_both_kept(cache):
    runs = [
        example_run(name=gpu, manifest=Manifest(split="test", environment=Environment(gpu=gpu)))
        for gpu in ("H100", "A100")
    ] + [example_run(name="somebody else's")]
    ids = [cache.store_upload(run, HERE) for run in runs]
    assert ids == [cache.store_upload(run, HERE) for run in runs] and len({*ids}) == 3
    assert [cache.load(id).name for id in ids] == ["H100", "A100", "somebody else's"]
    assert {entry.digest for entry in cache.entries()} == {runs[0].digest}


def test_the_logits_of_one_key_may_belong_to_several_runs(cache):
    """Case 08 b: other texts with equal tokens, or a checkpoint saved again; each keeps what is its own."""
    one, other = example_run(), example_run(document_ids=np.arange(5), name="of other texts")
    ids = [cache.store(run, KEY, FIELDS, owner) for run, owner in ((one, HERE), (other, ELSEWHERE))]
    assert [cache.load(id).digest for id in ids] == [one.digest, other.digest]
    assert {entry.key for entry in cache.entries()} == {KEY}
    assert np.array_equal(cache.find(KEY)[0].logits, one.logits)


def test_a_removed_entry_is_gone(cache):
    id = cache.store(example_run(), KEY, FIELDS, HERE)
    cache.remove(id)
    assert cache.find(KEY) == (None, ()) and list(cache.runs.iterdir()) == []
    with pytest.raises(ShifamindError, match="No run"):
        cache.load(id)


def test_folders_and_files_are_private_whatever_the_umask(cache):
    before = os.umask(0)
    try:
        cache.store(example_run(), KEY, FIELDS, HERE)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (cache.runs, *cache.runs.rglob("*"))}
    assert len(modes) == 5
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())


# --- damage --------------------------------------------------------------------------------------------------


def entry_of(place):
    """The files of an entry, for damages that need what is in them."""
    return place / "run.safetensors", place / "key.json"


def with_another_record(place, **changes):
    """A record that is sound by itself, but tells of another run."""
    stored = json.loads((place / "key.json").read_text()) | changes
    stored.pop("checksum")
    (place / "key.json").write_text(json.dumps(stored | {"checksum": digest_of(stored)}))


DAMAGES = {
    "cut off": lambda run, key: run.write_bytes(b"\x10"),
    "run file gone": lambda run, key: run.unlink(),
    "key gone": lambda run, key: key.unlink(),
    "key no JSON": lambda run, key: key.write_text("{"),
    "key no object": lambda run, key: key.write_text("[]"),
    "key of another shape": lambda run, key: key.write_text('{"kind": "guessed"}'),
    "another key": lambda run, key: key.write_text(key.read_text().replace(KEY, "0" * 64)),
    "another run's record": lambda run, key: with_another_record(run.parent, id="0" * 64),
    "a record of another kind": lambda run, key: with_another_record(run.parent, kind="guessed"),
    "another run's file": lambda run, key: write_run_file(example_run(9), run),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_named_thrown_away_and_can_be_computed_again(cache, damage):
    id = cache.store(example_run(0), KEY, FIELDS, HERE)
    sound = cache.store_upload(example_run(1), HERE)
    DAMAGES[damage](*entry_of(cache.runs / id))
    if damage != "another run's file":  # as long as the other: the headers are equal, the data is not
        assert "damaged" in the_problem(cache) or "earlier version" in the_problem(cache)
        assert [entry.id for entry in cache.entries()] == [sound]
    found, (remark,) = cache.find(KEY)
    assert found is None and "thrown away and is computed again" in remark and "\n" not in remark
    assert cache.problems() == [] and [entry.id for entry in cache.entries()] == [sound]
    assert cache.store(example_run(0), KEY, FIELDS, HERE) == id
    assert cache.find(KEY)[0].digest == example_run(0).digest


def test_a_damaged_upload_is_named_and_thrown_away_when_it_is_wanted(cache):
    id = cache.store_upload(example_run(), HERE)
    flip(cache.runs / id / "run.safetensors", -1)
    with pytest.raises(ShifamindError, match=r"is damaged: .* thrown away: compute or upload it again"):
        cache.load(id)
    assert cache.entries() == cache.problems() == []
    assert cache.store_upload(example_run(), HERE) == id and cache.load(id).digest == example_run().digest


def test_storing_over_a_damaged_entry_mends_it(cache):
    id = cache.store(example_run(), KEY, FIELDS, HERE)
    flip(cache.runs / id / "run.safetensors", -1)
    assert cache.store(example_run(), KEY, FIELDS, HERE) == id
    assert cache.find(KEY)[0].digest == example_run().digest


def flip(path, bit):
    """Flip one bit of a file, counted from its beginning or (negative) its end."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@given(data=st.data())
def test_no_flipped_bit_ever_gives_another_run(tmp_path_factory, data):
    """What `find`, `load` and `entries` say is what was stored, or nothing: of any bit, in either file."""
    cache = RunCache(tmp_path_factory.mktemp("flipped"))
    run = example_run(labels=np.eye(5, 3, dtype=np.uint8), document_ids=np.arange(5))
    id = cache.store(run, KEY, FIELDS, HERE)
    (entry,) = cache.entries()
    path = data.draw(st.sampled_from(entry_of(cache.runs / id)))
    flip(path, data.draw(st.integers(0, 8 * path.stat().st_size - 1)))
    assert cache.entries() in ([], [entry])
    found, remarks = cache.find(KEY)
    if found is None:
        assert len(remarks) == 1 and str(cache.runs / id) in remarks[0]
        assert cache.entries() == []
    else:  # JSON may be written in two ways: an escape in small letters or large ones
        assert (found.digest, found.name, found.manifest) == (run.digest, run.name, run.manifest)


def test_runs_of_an_earlier_version_are_one_line(cache):
    for seed in (0, 1):
        id = cache.store_upload(example_run(seed), HERE)
        key = cache.runs / id / "key.json"
        stored = json.loads(key.read_text())
        key.write_text(json.dumps({name: stored[name] for name in ("kind", "name", "run_digest")}))
    assert "2 runs" in the_problem(cache) and "earlier version" in the_problem(cache)
    assert cache.entries() == []


def test_a_stray_file_is_a_problem_and_nothing_more(cache):
    cache.store(example_run(), KEY, FIELDS, HERE)
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
    cache.store(example_run(), KEY, FIELDS, HERE)
    for name, age in [(".incoming-old", LEFTOVER_SECONDS + 60), (".damaged-new", 60)]:
        leftover = cache.runs / name
        leftover.mkdir()
        then = leftover.stat().st_mtime - age
        os.utime(leftover, (then, then))
    assert cache.problems() == [] and len(cache.entries()) == 1
    cache.store_upload(example_run(1), HERE)
    assert not (cache.runs / ".incoming-old").exists() and (cache.runs / ".damaged-new").exists()


def test_a_full_disk_leaves_no_entry(cache, monkeypatch):
    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shifamind_core.runs.atomic.os.fsync", full_disk)
    with pytest.raises(ShifamindError, match="No space left"):
        cache.store(example_run(), KEY, FIELDS, HERE)
    assert cache.find(KEY) == (None, ()) and list(cache.runs.iterdir()) == []


def _store_often(folder):
    cache = RunCache(folder)
    for _ in range(5):
        cache.store(example_run(), KEY, FIELDS, HERE)
        assert cache.find(KEY)[0].digest == example_run().digest


def test_two_processes_may_store_the_same_key(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_store_often, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    cache = RunCache(tmp_path)
    assert cache.find(KEY)[0].digest == example_run().digest and cache.problems() == []
    assert len([*cache.runs.iterdir()]) == 1


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
        cache.store(run, digest_of(run.manifest), {"split": run.manifest.split}, HERE)
    partner = validation_partner(test, cache.entries())
    assert partner.manifest.split == "val" and cache.load(partner.id).manifest == val.manifest


def test_a_validation_run_attached_to_an_upload_is_its_partner(cache):
    """Nothing is known of either file; the person says that they belong together."""
    test, val = (example_run(seed, name=f"{seed}.csv", manifest=Manifest()) for seed in (0, 1))
    other = cache.store_upload(recorded("val", configuration_digest="c1"), HERE)
    id = cache.attach_validation(cache.store_upload(test, HERE), val)
    attached = cache.load(id)
    assert attached.digest == test.digest and len(cache.entries()) == 3
    partner = validation_partner(attached, cache.entries())
    assert partner.digest == val.digest and partner.manifest.split == "val" and partner.owner == HERE
    assert any("validation run of 0.csv" in note for note in partner.manifest.notes)
    # Another one takes its place; what is attached no longer stands in the list.
    again = cache.attach_validation(id, example_run(2, name="2.csv", manifest=Manifest(split="validation")))
    partner = validation_partner(cache.load(again), cache.entries())
    assert partner.digest == example_run(2).digest and partner.manifest.split == "validation"
    cache.remove(partner.id)
    assert validation_partner(cache.load(again), [cache.load(other)]) is None


def test_a_copied_cache_folder_still_works(cache, tmp_path):
    cache.store(example_run(), KEY, FIELDS, HERE)
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    assert RunCache(tmp_path / "copy").find(KEY)[0].digest == example_run().digest
