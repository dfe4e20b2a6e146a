"""From a run directory to a run, the cache between, and what decides its key."""

import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shifamind_core.artifacts.digests import file_sha256
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import PolicyRefused, ShifamindError
from shifamind_core.inference import encoding
from shifamind_core.inference import pipeline as pipeline_module
from shifamind_core.inference import predict as predict_module
from shifamind_core.inference import tokenization as tokenization_module
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.predict import predict
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.model.checkpoint import weights_digest
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import OWN, PolicyRecord
from simulation.builders import tiny_run_directory

SHORT = Setting(tokenization=Tokenization(lowercase=True, max_length=32), batch_size=5, device="cpu")


@pytest.fixture(scope="module", params=["cls_fusion", "concept_attention"])
def pipeline(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Pipeline(RunDirectory(tiny_run_directory(folder, request.param)), cache=folder / "cache")


@pytest.fixture
def uncached(pipeline):
    return Pipeline(pipeline.directory)


def test_a_run_equals_the_seeds_own_loop_bitwise(pipeline):
    run = pipeline.score("test", SHORT).run
    split = pipeline.split("test")
    notes = pipeline.tokens(split, True).prepare(SHORT.tokenization)
    model = pipeline.model()
    expected = []
    with torch.no_grad():
        for start in range(0, len(notes), 5):
            ids = torch.tensor(notes.ids[start : start + 5], dtype=torch.long)
            mask = (torch.arange(32) < torch.tensor(notes.lengths[start : start + 5])[:, None]).long()
            expected.append(model(ids, mask)["logits"].numpy())
    assert np.array_equal(run.logits, np.vstack(expected))
    assert run.codes == pipeline.checkpoint.codes
    assert np.array_equal(run.labels, split.labels)
    assert (
        run.manifest.policy == PolicyRecord.of(POLICIES["fp32"]) and run.manifest.flags.weights == "float32"
    )
    assert run.manifest.producer.startswith(OWN)


def test_a_repeated_request_is_answered_from_the_cache_and_says_so(pipeline):
    setting = replace(SHORT, batch_size=7)
    first, second = pipeline.score("test", setting), pipeline.score("test", setting)
    assert (first.cached, second.cached) == (False, True)
    assert np.array_equal(first.run.logits, second.run.logits)
    assert first.run.digest == second.run.digest


@pytest.mark.parametrize(
    "changed",
    [
        replace(SHORT, batch_size=4),
        replace(SHORT, attention="eager"),
        replace(SHORT, policy=POLICIES["fp64"]),
        replace(SHORT, policy=replace(POLICIES["fp32"], deterministic=True)),
        replace(SHORT, tokenization=replace(SHORT.tokenization, lowercase=False)),
        replace(SHORT, tokenization=replace(SHORT.tokenization, max_length=24)),
        replace(SHORT, tokenization=replace(SHORT.tokenization, padding="longest")),
    ],
    ids=["batch", "attention", "policy", "deterministic", "casing", "length", "padding"],
)
def test_whatever_decides_the_logits_changes_the_key(pipeline, changed):
    base = pipeline.score("test", SHORT).run.manifest
    assert pipeline.score("test", changed).run.manifest.cache_key != base.cache_key


@pytest.fixture
def cached(tmp_path):
    return tmp_path / "cache", tiny_run_directory(tmp_path / "run_1", notes=6)


def resaved(folder, copy, **changes):
    """The run directory once more, its checkpoint saved again with other things beside the weights."""
    shutil.copytree(folder, copy)
    file = copy / "checkpoints" / "phase1" / "phase1_best.pt"
    torch.save(torch.load(file, weights_only=False) | changes, file)
    return copy


def with_texts(folder, copy, change):
    """The run directory once more, its test notes changed by `change`."""
    shutil.copytree(folder, copy)
    file = copy / "shared_data" / "test_split.pkl"
    table = pd.read_pickle(file)
    table.assign(text=table["text"].map(change)).to_pickle(file)
    return copy


def alone(folder, setting=SHORT):
    """What a pipeline without a cache says of this run directory."""
    return Pipeline(RunDirectory(folder)).score("test", setting).run


def said_by(run):
    """All that a run says but the clock."""
    return run.digest, run.name, replace(run.manifest, created_at_utc=None, duration_seconds=None)


@pytest.mark.parametrize("change", [lambda text: text.replace(" ", "\n"), lambda text: text + "  \r\n"])
def test_equal_tokens_under_other_texts_keep_their_own_document_ids(cached, change):
    """Cases 08 b and 40: line ends change no token, so the logits are shared, the ids are not."""
    cache, folder = cached
    other = with_texts(folder, folder.with_name("run_2"), change)
    first = Pipeline(RunDirectory(folder), cache=cache).score("test", SHORT).run
    outcome = Pipeline(RunDirectory(other), cache=cache).score("test", SHORT)
    assert outcome.cached and np.array_equal(outcome.run.logits, first.logits)
    assert not np.isin(outcome.run.document_ids, first.document_ids).any()
    assert said_by(outcome.run) == said_by(alone(other))
    assert outcome.run.manifest.run_directory == "run_2"
    again = Pipeline(RunDirectory(folder), cache=cache).score("test", SHORT)
    assert again.cached and said_by(again.run) == said_by(first)


def test_a_checkpoint_saved_again_keeps_its_own_record(cached):
    cache, folder = cached
    other = resaved(folder, folder.with_name("run_2"), epoch=3, macro_f1=np.float64(0.5))
    Pipeline(RunDirectory(folder), cache=cache).score("test", SHORT)
    outcome = Pipeline(RunDirectory(other), cache=cache).score("test", SHORT)
    record = outcome.run.manifest.checkpoint
    assert outcome.cached and (record.epoch, record.stored_macro_f1) == (3, 0.5)
    assert record.file_sha256 == file_sha256(other / "checkpoints" / "phase1" / "phase1_best.pt")
    assert said_by(outcome.run) == said_by(alone(other))


def test_other_labels_and_another_casing_asked_for_are_answered_with_their_own(cached):
    cache, folder = cached
    shutil.copytree(folder, other := folder.with_name("run_2"))
    file = other / "shared_data" / "test_split.pkl"
    table = pd.read_pickle(file)
    table["labels"] = [[1 - label for label in labels] for labels in table["labels"]]
    codes = table.columns[2:]
    table.assign(**{code: 1 - table[code] for code in codes}).to_pickle(file)
    first = Pipeline(RunDirectory(folder), cache=cache).score("test", SHORT).run
    outcome = Pipeline(RunDirectory(other), cache=cache).score("test", SHORT)
    assert outcome.cached and np.array_equal(outcome.run.labels, 1 - first.labels)
    default = replace(SHORT, tokenization=replace(SHORT.tokenization, lowercase=None))
    if alone(folder, default).manifest.tokenization.lowercase:
        outcome = Pipeline(RunDirectory(folder), cache=cache).score("test", default)
        assert outcome.cached and said_by(outcome.run) == said_by(alone(folder, default))


@settings(max_examples=12)
@given(data=st.data())
def test_whatever_bit_of_the_cache_is_flipped_the_answer_is_the_same(tmp_path_factory, once, data):
    """What fails is named, thrown away and computed again."""
    kept, folder, expected = once
    cache = tmp_path_factory.mktemp("flipped") / "cache"
    shutil.copytree(kept, cache)
    files = sorted(path for path in cache.rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    outcome = Pipeline(RunDirectory(folder), cache=cache).score("test", SHORT)
    assert said_by(outcome.run) == expected
    for remark in outcome.remarks:
        assert str(cache) in remark and "thrown away and is computed again" in remark
    assert outcome.remarks or outcome.cached


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A cache that has answered one question, the run directory it was about, and the answer."""
    place = tmp_path_factory.mktemp("once")
    folder = tiny_run_directory(place / "run_1", notes=3)
    run = Pipeline(RunDirectory(folder), cache=place / "cache").score("test", SHORT).run
    return place / "cache", folder, said_by(run)


def test_no_token_id_is_written_down_and_what_an_earlier_version_wrote_is_deleted(tmp_path):
    """Every file of the cache, searched for the ids of each note in any integer type."""
    cache = tmp_path / "cache"
    (cache / "tokens").mkdir(parents=True)
    (cache / "tokens" / "a.safetensors").write_bytes(b"ids")
    pipeline = Pipeline(RunDirectory(tiny_run_directory(tmp_path, notes=5)), cache=cache)
    pipeline.score("test", SHORT)
    ids = pipeline.tokens(pipeline.split("test"), True)
    written = [path.read_bytes() for path in cache.rglob("*") if path.is_file()]
    assert written and not (cache / "tokens").exists()
    for row in range(len(ids)):
        note = ids.flat[ids.offsets[row] : ids.offsets[row + 1]][:8]
        for dtype in ("<i2", "<i4", "<i8", "<f4"):
            assert not any(note.astype(dtype).tobytes() in content for content in written)


def test_a_split_is_tokenized_once_for_all_that_is_done_with_it(uncached, monkeypatch):
    calls = []
    monkeypatch.setattr(
        tokenization_module, "encode", lambda *given: calls.append(1) or encoding.encode(*given)
    )
    fresh = Pipeline(uncached.directory)
    for policy in ("fp32", "fp64"):
        fresh.score("test", replace(SHORT, policy=POLICIES[policy]))
    assert len(calls) == 1


def test_a_refusal_does_not_wait_for_the_notes(uncached, monkeypatch):
    told = []

    def slow(texts, backend):
        for done in range(400):
            time.sleep(0.01)
            told.append(done)
            yield []

    monkeypatch.setattr(tokenization_module, "encode", slow)
    with pytest.raises(ShifamindError, match="positions"):
        Pipeline(uncached.directory).score(
            "test", replace(SHORT, tokenization=Tokenization(max_length=10_000))
        )
    assert len(told) < 200


@pytest.mark.parametrize("padding", ["max_length", "longest"])
def test_notes_are_scored_while_others_are_tokenized_which_changes_nothing(
    pipeline, uncached, monkeypatch, padding
):
    """The last notes are held back until a batch was scored, which never comes where all notes decide the padding."""
    setting = replace(SHORT, tokenization=replace(SHORT.tokenization, padding=padding))
    uncached.tokens(uncached.split("test"), True)  # all are there before the first is scored
    expected = uncached.score("test", setting).run
    scored = threading.Event()

    def held_back(texts, backend):
        notes = [note for some in encoding.encode(texts, backend) for note in some]
        yield notes[:12]
        waited = scored.wait(60 if padding == "max_length" else 0.2)
        assert waited == (padding == "max_length")
        yield notes[12:]

    def tell(message, done, total):
        if message == "Scoring" and done >= 5:
            scored.set()

    monkeypatch.setattr(tokenization_module, "encode", held_back)
    run = Pipeline(pipeline.directory).score("test", setting, progress=tell).run
    assert run.logits.tobytes() == expected.logits.tobytes() and run.digest == expected.digest
    assert run.manifest.cache_key == expected.manifest.cache_key


def test_what_ends_the_tokenizing_is_said_and_nothing_is_scored_that_the_cache_may_know(
    pipeline, monkeypatch
):
    pipeline.score("test", SHORT)

    def broken(texts, backend):
        yield next(encoding.encode(texts, backend))[:7]
        raise ShifamindError("The disk is full.")

    def refused(*_):
        raise AssertionError("scored again")

    with monkeypatch.context() as patched:
        patched.setattr(tokenization_module, "encode", broken)
        with pytest.raises(ShifamindError, match="The disk is full"):
            Pipeline(pipeline.directory).score("test", SHORT)
    monkeypatch.setattr(pipeline_module, "predict", refused)
    assert Pipeline(pipeline.directory, cache=pipeline.cache).score("test", SHORT).cached
    with pytest.raises(AssertionError, match="scored again"):
        Pipeline(pipeline.directory, cache=pipeline.cache).score("test", replace(SHORT, batch_size=3))


def test_a_note_without_tokens_is_refused_before_others_are_scored(cached):
    _, folder = cached
    other = with_texts(folder, folder.with_name("run_2"), lambda text: text)
    file = other / "shared_data" / "test_split.pkl"
    table = pd.read_pickle(file)
    table.loc[5, "text"] = "\N{ZERO WIDTH JOINER}"
    table.to_pickle(file)
    unframed = replace(SHORT, batch_size=1, tokenization=replace(SHORT.tokenization, special_tokens=False))
    told = []
    with pytest.raises(ShifamindError, match="Note 6 has no tokens"):
        Pipeline(RunDirectory(other)).score("test", unframed, progress=lambda *said: told.append(said))
    assert not [done for message, done, _ in told if message == "Scoring" and done]


def test_a_length_that_no_note_has_takes_no_memory(uncached):
    tokenization = Tokenization(True, 10**12, "longest")
    with pytest.raises(ShifamindError, match="positions"):
        uncached.score("test", replace(SHORT, tokenization=tokenization))


def test_validation_and_test_share_a_configuration_but_no_key(pipeline):
    test, validation = (pipeline.score(name, SHORT).run.manifest for name in ("test", "val"))
    assert test.configuration_digest == validation.configuration_digest
    assert test.cache_key != validation.cache_key


def test_the_first_notes_of_a_split_score_as_in_the_whole(uncached):
    whole, part = uncached.score("test", SHORT).run, uncached.score("test", SHORT, limit=10).run
    assert part.documents == 10 and part.manifest.documents_of == whole.documents
    assert np.array_equal(part.logits, whole.logits[:10])


@pytest.mark.parametrize(
    "name", ["fp64", "bf16", "bf16-autocast", "fp16", "portable", "emulated-tf32", "emulated-bf16"]
)
def test_every_policy_stays_near_the_referee_and_says_its_dtype(uncached, name):
    referee = uncached.score("test", replace(SHORT, policy=POLICIES["fp64"])).run
    run = uncached.score("test", replace(SHORT, policy=POLICIES[name])).run
    spread = referee.logits.std()
    allowed = {"fp64": 0, "portable": 1e-5, "emulated-tf32": 2e-2}.get(name, 0.2)
    assert np.abs(run.logits - referee.logits).max() <= allowed * spread
    assert run.logits.dtype == {"fp64": np.float64, "fp16": np.float16}.get(name, np.float32)
    if name.startswith("emulated"):
        assert (run.logits != uncached.score("test", SHORT).run.logits).any()
    kept = uncached.checkpoint
    assert weights_digest(kept.state_dict) == kept.record.weights_digest  # passes have no copy of their own


def test_a_policy_leaves_the_model_it_was_given_alone(uncached):
    model = uncached.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    notes = uncached.tokens(uncached.split("test"), True).prepare(SHORT.tokenization)
    predict(model, notes, POLICIES["bf16"], torch.device("cpu"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_running_out_of_memory_halves_the_batch_of_the_whole_run_and_says_so(uncached, monkeypatch):
    real, widths = predict_module.batch, []

    def scarce(notes, start, stop, device):
        if stop - start > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        widths.append(stop - start)
        return real(notes, start, stop, device)

    expected = uncached.score("test", replace(SHORT, batch_size=3)).run
    monkeypatch.setattr(predict_module, "batch", scarce)
    run = uncached.score("test", replace(SHORT, batch_size=12)).run
    assert set(widths) == {3} and np.array_equal(run.logits, expected.logits)
    assert (run.manifest.batch_size_requested, run.manifest.batch_size) == (12, 3)
    assert run.manifest.notes == (
        "Out of memory with 12 notes a batch; ran with 6.",
        "Out of memory with 6 notes a batch; ran with 3.",
    )


def test_no_memory_for_one_note_is_one_clear_line(uncached, monkeypatch):
    def scarce(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(predict_module, "batch", scarce)
    with pytest.raises(ShifamindError, match="a single note of 32 tokens"):
        uncached.score("test", SHORT)


def test_non_finite_logits_are_counted_in_the_manifest(uncached, monkeypatch):
    real = uncached.model

    def broken(attention, own_weights):
        model = real(attention)
        list(model.children())[-1].bias.data[0] = float("nan")
        return model

    monkeypatch.setattr(uncached, "model", broken)
    run = uncached.score("test", SHORT).run
    assert run.non_finite == run.documents
    assert run.manifest.notes == (f"{run.documents} of {run.logits.size} logits are NaN or infinite.",)


def test_impossible_settings_are_refused_in_one_line(uncached):
    with pytest.raises(ShifamindError, match="batch size is 0"):
        replace(SHORT, batch_size=0)
    with pytest.raises(ShifamindError, match="portable needs padding to max_length"):
        Setting(POLICIES["portable"], Tokenization(padding="longest"))
    with pytest.raises(ShifamindError, match="positions"):
        uncached.score("test", replace(SHORT, tokenization=Tokenization(max_length=100_000)))
    with pytest.raises(PolicyRefused):
        uncached.score("test", replace(SHORT, policy=POLICIES["tf32"]))
