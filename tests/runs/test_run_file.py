"""The run file: what goes in comes out, and what is no run file gets one line."""

import json
import re
import stat
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as torch_save

from shifamind_core.errors import ShifamindError
from shifamind_core.precision.policy import POLICIES, NumericFlags, policy_named
from shifamind_core.records import to_json
from shifamind_core.runs.assemble import ARRAYS
from shifamind_core.runs.manifest import (
    CheckpointRecord,
    Environment,
    Manifest,
    PolicyRecord,
    TokenizationRecord,
    digest_of,
)
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file, read_run_header, write_run_file
from tests.support.strategies import runs

MANIFEST = Manifest(
    producer="test",
    split="test",
    checkpoint=CheckpointRecord(epoch=15, stored_macro_f1=0.2797),
    tokenization=TokenizationRecord(lowercase=True, max_length=512, padding="max_length"),
    policy=PolicyRecord.of(policy_named("tf32")),
    flags=NumericFlags(tf32_measured=True, sdpa_backends=("flash", "math")),
    environment=Environment(gpu="NVIDIA L4", multiprocessors=58),
    duration_seconds=3.5,
    notes=("recorded by hand",),
)


def full_run(dtype=np.float32):
    """Two notes × three codes with every part that a run can have."""
    return Run(
        logits=np.array([[0.5, -1.25, np.nan], [np.inf, 3.0, -0.0]], dtype),
        name="full",
        codes=("E785", "I10", "é 1"),
        labels=np.array([[1, 0, 1], [0, 0, 1]], np.uint8),
        document_ids=np.array([-(2**63), 7]),
        token_digests=np.array([1, 2**63 - 1]),
        token_counts=np.array([600, 12], np.int32),
        concept_scores=np.array([[0.25, 0.5], [0.0, 1.0]], np.float32),
        manifest=MANIFEST,
    )


def file_of(tensors, codes=("A", "B"), manifest=None, format="shifamind-run/1"):
    """A run file as another program would write it."""
    metadata = {"format": format, "codes": codes, "manifest": manifest}
    text = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in metadata.items()
        if value is not None
    }
    return safetensors.numpy.save(tensors, text)


def logits(documents=3, codes=2, dtype=np.float32):
    return np.arange(documents * codes, dtype=dtype).reshape(documents, codes) - 2


def refusal(content):
    """The one line with which these bytes are refused."""
    with pytest.raises(ShifamindError) as refused:
        read_run_file(content, "upload.safetensors")
    message = str(refused.value)
    assert "upload.safetensors" in message and "\n" not in message
    return message


# --- round trips ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_run_comes_back_bit_for_bit_with_its_manifest(tmp_path, dtype):
    run = full_run(dtype)
    write_run_file(run, tmp_path / "full.safetensors")
    back = read_run_file(tmp_path / "full.safetensors", "full")
    assert back.digest == run.digest and back.manifest == run.manifest and back.name == "full"
    assert back.logits.tobytes() == run.logits.tobytes() and back.logits.dtype == dtype
    assert back.non_finite == 2


@given(runs())
def test_any_run_comes_back(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("run") / "run.safetensors"
    write_run_file(run, path)
    assert read_run_file(path).digest == run.digest
    assert read_run_file(path.read_bytes()).digest == run.digest


def test_the_file_is_named_by_its_writer_in_the_documented_way(tmp_path):
    write_run_file(full_run(), tmp_path / "full.safetensors")
    with safetensors.safe_open(tmp_path / "full.safetensors", framework="numpy") as file:
        assert file.metadata()["format"] == "shifamind-run/1"
        assert json.loads(file.metadata()["codes"]) == ["E785", "I10", "é 1"]
        assert json.loads(file.metadata()["manifest"]) == to_json(MANIFEST)
        kinds = {part: file.get_slice(part).get_dtype() for part in file.keys()}  # noqa: SIM118
    assert kinds == {
        "logits": "F32",
        "labels": "U8",
        "document_ids": "I64",
        "token_digests": "I64",
        "token_counts": "I32",
        "concept_scores": "F32",
    }


def test_the_header_alone_tells_manifest_codes_and_shapes(tmp_path):
    write_run_file(full_run(), tmp_path / "full.safetensors")
    manifest, codes, shapes = read_run_header(tmp_path / "full.safetensors")
    assert manifest == MANIFEST and codes == ("E785", "I10", "é 1")
    assert shapes["logits"] == (2, 3) and shapes["concept_scores"] == (2, 2)


def test_a_file_is_private_and_leaves_no_temporary_behind(tmp_path):
    path = tmp_path / "full.safetensors"
    path.write_bytes(b"what was there before")
    write_run_file(full_run(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "full.safetensors"
    write_run_file(full_run(), path)
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shifamind_core.runs.atomic.os.fsync", full_disk)
    with pytest.raises(ShifamindError, match="No space left"):
        write_run_file(full_run(np.float64), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(ShifamindError, match=r"cannot be written: No such file or directory\."):
        write_run_file(full_run(), tmp_path / "nowhere" / "run.safetensors")


def test_a_missing_file_is_one_line(tmp_path):
    for read in (read_run_file, read_run_header):
        with pytest.raises(ShifamindError, match=r"none\.safetensors cannot be read"):
            read(tmp_path / "none.safetensors")


# --- foreign writers -----------------------------------------------------------------------------------------


def test_logits_alone_are_a_run():
    run = read_run_file(safetensors.numpy.save({"logits": logits()}), "bare.safetensors")
    assert run.codes is None and run.labels is None and run.manifest.policy is None
    assert run.manifest.notes == ("The file does not name its format; it was read as shifamind-run/1.",)


def test_unknown_tensors_and_manifest_fields_are_ignored_with_a_note():
    content = file_of(
        {"logits": logits(), "attention": np.zeros(3), "z": np.zeros(1)},
        manifest={"split": "val", "invented_later": {"a": 1}},
    )
    run = read_run_file(content)
    assert run.manifest.split == "val"
    assert run.manifest.notes == ("Ignored tensors of other names: 'attention', 'z'.",)


@pytest.mark.parametrize(
    "part", [field.name for field in fields(Manifest) if isinstance(to_json(MANIFEST).get(field.name), dict)]
)
def test_any_part_of_a_manifest_may_be_partial_and_nothing_is_filled_in(tmp_path, part):
    known = to_json(MANIFEST)[part]
    for partial in ({}, *({name: value} for name, value in known.items())):
        run = read_run_file(file_of({"logits": logits()}, manifest={part: partial}))
        assert to_json(run.manifest) == {part: partial, "notes": []}
        write_run_file(run, tmp_path / "again.safetensors")
        assert read_run_file(tmp_path / "again.safetensors").manifest == run.manifest


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_comes_back_as_it_was(name):
    manifest = Manifest(policy=PolicyRecord.of(POLICIES[name]))
    assert read_run_file(file_of({"logits": logits()}, manifest=to_json(manifest))).manifest == manifest


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint16, np.float16, np.float32, np.float64])
def test_labels_of_any_dtype_become_uint8(dtype):
    given_labels = np.array([[0, 1], [1, 1], [0, 0]], dtype)
    run = read_run_file(file_of({"logits": logits(), "labels": given_labels}))
    assert run.labels.dtype == np.uint8 and run.labels.tolist() == [[0, 1], [1, 1], [0, 0]]


def test_bf16_logits_are_widened_exactly_and_said_to_be():
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    run = read_run_file(torch_save({"logits": values}, {"format": "shifamind-run/1"}))
    assert run.logits.dtype == np.float32
    assert np.array_equal(run.logits, values.float().numpy())
    assert run.manifest.notes == ("logits were BF16 and are held as float32, exactly.",)


def test_unsigned_ids_are_the_same_eight_bytes_as_signed_ones():
    ids = np.array([2**64 - 1, 5, 2**63], np.uint64)
    run = read_run_file(file_of({"logits": logits(), "document_ids": ids}))
    assert run.document_ids.tolist() == [-1, 5, -(2**63)]


# --- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty, cut off or damaged"),
        (b"<html>", "empty, cut off or damaged"),
        (file_of({"logits": logits()})[:-1], "empty, cut off or damaged"),
        (file_of({"scores": logits()}), r"no tensor 'logits' \(found: 'scores'\)"),
        (safetensors.numpy.save({}), r"no tensor 'logits' \(found: none\)"),
        (file_of({"logits": logits()}, format="shifamind-run/2"), "format 'shifamind-run/2'"),
        (file_of({"logits": logits()}, codes=("A",)), "1 code names for 2 columns"),
        (file_of({"logits": logits()}, codes=("A", "A")), "'A' names more than one column"),
        (file_of({"logits": logits()}, codes=("A", 3)), "name of code 1 is 3"),
        (file_of({"logits": logits()}, codes=("A", "B\n")), "name of code 1 is 'B"),
        (file_of({"logits": logits()}, codes=("A", "\ud800")), "name of code 1 is"),
        (file_of({"logits": logits()}, codes={"A": 1}), "expected a JSON list"),
        (file_of({"logits": logits()}, codes='["A", '), "'codes' is no JSON"),
        (file_of({"logits": logits()}, codes="[" * 100_000), "'codes' is no JSON"),
        (file_of({"logits": logits()[0]}), "two axes"),
        (file_of({"logits": logits(dtype=np.int32)}), "logits are int32"),
        (file_of({"logits": np.zeros((0, 2), np.float32)}), "is empty: 0 notes"),
        (file_of({"logits": logits(), "labels": logits(2) * 0}), "labels has 2 rows, logits have 3"),
        (file_of({"logits": logits(), "labels": logits(3, 1) * 0}), "labels have 1 columns, logits 2"),
        (
            file_of({"logits": logits(), "labels": logits()}),
            "4 of 6 labels are neither 0 nor 1, the first at note 0",
        ),
        (file_of({"logits": logits(), "labels": logits() * np.nan}), "6 of 6 labels"),
        (file_of({"logits": logits(), "document_ids": np.full(3, 0.5)}), "document_ids are float64"),
        (file_of({"logits": logits(), "document_ids": np.zeros((3, 1), int)}), "document_ids has shape"),
        (file_of({"logits": logits(), "token_counts": np.array([1, -1, 2])}), "token_counts are not all"),
        (file_of({"logits": logits(), "token_counts": np.array([1, 2**31, 2])}), "token_counts are not all"),
        (file_of({"logits": logits(), "concept_scores": np.zeros(3)}), "concept_scores has shape"),
        (file_of({"logits": logits()}, manifest=[1]), "manifest is a list; expected dict"),
        (
            file_of({"logits": logits()}, manifest={"tokenization": {"max_length": "512"}}),
            "manifest.tokenization.max_length is a str; expected int",
        ),
        (file_of({"logits": logits()}, manifest={"duration_seconds": 10**400}), "too large"),
        (
            file_of({"logits": logits()}, manifest='{"batch_size": ' + "9" * 5000 + "}"),
            "'manifest' is no JSON",
        ),
        (
            file_of({"logits": logits()}, manifest={"split": ["a" * 10_000]}),
            "manifest.split is a list; expected str",
        ),
    ],
)
def test_what_is_no_run_gets_one_clear_line(content, says):
    message = refusal(content)
    assert re.search(says, message), message
    assert len(message) < 700


@given(st.binary(max_size=400))
def test_random_bytes_are_refused(content):
    refusal(content)


VALID = file_of({"logits": logits(), "labels": np.zeros((3, 2), np.uint8)}, manifest=to_json(MANIFEST))


@given(st.integers(0, len(VALID) - 1))
def test_every_truncation_is_refused(length):
    refusal(VALID[:length])


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused_but_never_crashes(changes):
    content = bytearray(VALID)
    for place, value in changes:
        content[place] = value
    try:
        read_run_file(bytes(content), "upload.safetensors")
    except ShifamindError as error:
        assert "\n" not in str(error)


def test_the_header_of_a_damaged_file_is_refused_as_the_file_is(tmp_path):
    for name, content in {
        "cut": VALID[:-1],
        "other": file_of({"scores": logits()}),
        "format": file_of({"logits": logits()}, format="9"),
        "manifest": file_of({"logits": logits()}, manifest={"split": 3}),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ShifamindError):
            read_run_header(tmp_path / name)


# --- the run itself ------------------------------------------------------------------------------------------


def test_the_digest_covers_arrays_and_codes_but_neither_name_nor_manifest():
    run = full_run()
    assert replace(run, name="other", manifest=Manifest()).digest == run.digest
    changed = run.logits.copy()
    changed[0, 0] = np.nextafter(changed[0, 0], np.float32(1))
    for other in (
        replace(run, logits=changed),
        replace(run, logits=run.logits.astype(np.float64)),
        replace(run, codes=("E785", "I10", "I11")),
        replace(run, codes=None),
        replace(run, labels=1 - run.labels),
        replace(run, labels=None),
        replace(run, document_ids=run.token_digests, token_digests=run.document_ids),
    ):
        assert other.digest != run.digest


def test_a_run_refuses_labels_that_are_not_0_or_1():
    with pytest.raises(ShifamindError, match="is 7; expected 0 or 1"):
        Run(logits(), labels=np.full((3, 2), 7, np.uint8))


def test_a_digest_of_settings_ignores_the_order_of_keys():
    assert digest_of({"a": 1, "b": [2]}) == digest_of({"b": [2], "a": 1}) != digest_of({"a": 1, "b": [3]})


def test_the_documented_example_writes_a_run_file(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "run-format.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    run = read_run_file(tmp_path / "run.safetensors")
    assert run.codes == ("E785", "I10") and run.labels.tolist() == [[0, 1], [1, 0]]
    assert run.manifest == Manifest(split="test", environment=Environment(gpu="NVIDIA L4", torch="2.13.0"))


def test_every_tensor_and_manifest_field_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "run-format.md").read_text()
    named = set(re.findall(r"`([a-z0-9_]+)`", page))
    assert {*ARRAYS, *(field.name for field in fields(Manifest))} <= named
    for record in (CheckpointRecord, TokenizationRecord):
        assert {field.name for field in fields(record)} <= named
