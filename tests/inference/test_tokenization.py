"""Token ids: the library's own, for every length and side, under a casing that is observed."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.errors import ShifamindError
from shifamind_core.inference import _encode, encoding
from shifamind_core.inference.reading import Arriving
from shifamind_core.inference.tokenization import Tokenization, tokenize
from shifamind_core.inference.tokenizer import load_tokenizer
from simulation.builders import tiny_run_directory


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    return tiny_run_directory(tmp_path_factory.mktemp("tokens"), "cls_fusion") / "base_model"


NOTES = [
    "Chief Complaint: CHEST PAIN. Ätiology unclear [SEP] x" * 9,
    "HTN",
    "",
    "pt c/o   pain\n\nPMH: DM2 " * 30,
]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("special_tokens", [True, False])
@pytest.mark.parametrize("max_length", [16, 64, 512])
def test_slices_of_whole_notes_equal_the_librarys_own_truncation(
    base_model, lowercase, side, special_tokens, max_length
):
    library = BertTokenizer.from_pretrained(str(base_model), do_lower_case=lowercase, truncation_side=side)
    texts = [note for note in NOTES if note or special_tokens]
    expected = library(texts, truncation=True, max_length=max_length, add_special_tokens=special_tokens)[
        "input_ids"
    ]
    tokens = tokenize(texts, load_tokenizer(base_model, lowercase))
    tokenization = Tokenization(lowercase, max_length, truncation_side=side, special_tokens=special_tokens)
    assert [tokens.note(row, tokenization).tolist() for row in range(len(texts))] == expected


@pytest.mark.parametrize("padding", ["max_length", "longest"])
def test_padding_equals_the_librarys_own(base_model, padding):
    library = BertTokenizer.from_pretrained(str(base_model), do_lower_case=True)
    expected = library(NOTES, truncation=True, max_length=40, padding=padding)
    prepared = tokenize(NOTES, load_tokenizer(base_model, True)).prepare(Tokenization(True, 40, padding))
    assert prepared.ids.tolist() == expected["input_ids"]
    assert prepared.lengths.tolist() == np.sum(expected["attention_mask"], axis=1).tolist()


def test_counts_are_before_truncation_and_digests_after_it(base_model):
    tokens = tokenize(NOTES, load_tokenizer(base_model, True))
    short, long = (tokens.prepare(Tokenization(True, length)) for length in (16, 512))
    assert short.token_counts.tolist() == long.token_counts.tolist()
    changed = short.token_digests != long.token_digests
    assert changed.tolist() == (short.token_counts > 16).tolist()
    assert short.token_digests[1] == text_digest(short.ids[1, : short.lengths[1]].astype("<i4").tobytes())


def test_casing_is_observed_and_explicit_casing_wins(base_model):
    assert load_tokenizer(base_model, True).lowercase is True
    assert load_tokenizer(base_model, False).lowercase is False
    assert load_tokenizer(base_model, True).source == "vocabulary only"
    assert json.loads(load_tokenizer(base_model, False).normalizer)["lowercase"] is False


def test_rows_that_were_filled_as_notes_arrived_are_what_the_model_gets(base_model):
    tokenizer, asked = load_tokenizer(base_model, True), Tokenization(True, 16)
    tokens, arriving = tokenize(NOTES, tokenizer), Arriving(len(NOTES), tokenizer, asked)
    for row in range(len(NOTES)):
        arriving.add([tokens.flat[tokens.offsets[row] : tokens.offsets[row + 1]]])
    found, expected = tokens.prepare(asked, arriving), tokens.prepare(asked)
    assert found.digest == expected.digest and np.shares_memory(found.ids, arriving.ids)
    for part in ("token_digests", "token_counts", "lengths", "document_ids"):
        assert np.array_equal(getattr(found, part), getattr(expected, part))


def test_a_note_without_tokens_is_named(base_model):
    tokens = tokenize(NOTES, load_tokenizer(base_model, True))
    with pytest.raises(ShifamindError, match="Note 3 has no tokens"):
        tokens.prepare(Tokenization(True, 16, special_tokens=False))


def test_a_folder_without_a_tokenizer_is_one_clear_line(tmp_path):
    with pytest.raises(ShifamindError, match=r"config\.json and vocab\.txt") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=5), st.integers(3, 30))
def test_any_text_becomes_ids_within_the_length(base_model, texts, max_length):
    prepared = tokenize(texts, load_tokenizer(base_model, True)).prepare(Tokenization(True, max_length))
    assert prepared.ids.shape == (len(texts), max_length)
    assert ((prepared.lengths >= 2) & (prepared.lengths <= max_length)).all()


@pytest.mark.parametrize("lost", [False, True])
def test_processes_of_their_own_give_the_same_ids_and_losing_one_loses_no_note(base_model, monkeypatch, lost):
    tokenizer = load_tokenizer(base_model, True)
    texts = [f"{note} {number} \N{GREEK SMALL LETTER MU}g" for number in range(100) for note in NOTES]
    expected = list(encoding.encode(texts, tokenizer.backend))
    started, begin = [], subprocess.Popen

    def one(*given, **named):
        started.append(begin(*given, **named))
        if lost and len(started) == 1:
            started[0].kill()
        return started[-1]

    monkeypatch.setattr(encoding.subprocess, "Popen", one)
    monkeypatch.setattr(encoding, "MANY_CHARACTERS", 0)
    monkeypatch.setattr(encoding, "processors", lambda: 2)
    found = list(encoding.encode(texts, tokenizer.backend))
    assert len(started) == 2 and all(process.poll() is not None for process in started)
    assert len(expected) == 1 and len(found) == -(-len(texts) // encoding.SENT)
    assert [note.tolist() for some in found for note in some] == [note.tolist() for note in expected[0]]
    assert {note.dtype for some in found for note in some} == {np.dtype(np.int32)}


@pytest.mark.parametrize("lowercase", [None, True, False])
def test_special_tokens_that_are_words_in_notes_stay_words_wherever_notes_are_tokenized(
    base_model, tmp_path, monkeypatch, lowercase
):
    """A tokenizer's own text leaves `split_special_tokens` out."""
    folder = shutil.copytree(base_model, tmp_path / "base_model")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "split_special_tokens": True})
    )
    texts, backend = NOTES * 20, load_tokenizer(folder, lowercase).backend
    expected = [note.tolist() for some in encoding.encode(texts, backend) for note in some]
    separator = backend.token_to_id("[SEP]")
    assert separator not in expected[0]
    monkeypatch.setattr(encoding, "MANY_CHARACTERS", 0)
    monkeypatch.setattr(encoding, "processors", lambda: 2)
    found = [note.tolist() for some in encoding.encode(texts, backend) for note in some]
    assert found == expected


def test_a_process_that_was_not_heard_to_the_end_is_asked_no_more(base_model, monkeypatch):
    """Else its next answer would begin with the rest of this one; and who waits for a free one would wait for ever."""
    backend = load_tokenizer(base_model, True).backend
    read, failures = _encode.read, [MemoryError]

    def scarce(file, size):
        if failures:
            raise failures.pop()
        return read(file, size)

    monkeypatch.setattr(_encode, "read", scarce)
    found = []
    with encoding.Encoders(backend, 1) as encoders:
        with pytest.raises(MemoryError):
            encoders.encode(NOTES)
        waiting = threading.Thread(target=lambda: found.extend(encoders.encode(NOTES[:2])), daemon=True)
        waiting.start()
        waiting.join(20)
    (expected,) = encoding.encode(NOTES[:2], backend)
    assert [note.tolist() for note in found] == [note.tolist() for note in expected]


def test_a_path_that_python_skips_keeps_no_process_from_starting(base_model, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, Path("modules")])
    backend = load_tokenizer(base_model, True).backend
    with encoding.Encoders(backend, 1) as encoders:
        assert len(encoders.encode(NOTES)) == len(NOTES)
