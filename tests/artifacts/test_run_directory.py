"""Run directories: both layouts are found, what is missing is said in one line, what is said twice is compared."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.artifacts.base_model import REPOSITORY, vocabulary_sha256
from shifamind_core.artifacts.code_order import Check, compare_codes
from shifamind_core.artifacts.digests import file_sha256
from shifamind_core.artifacts.hazards import hazards_for
from shifamind_core.artifacts.inspect import inspect_run_directory, read_splits
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.model.checkpoint import read_checkpoint
from shifamind_core.model.inspect import checkpoint_checks
from simulation.builders import split_table, tiny_notes, tiny_run_directory, write_base_model
from tests.support.refused import refused


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run_directory(tmp_path_factory.mktemp("runs") / "template", notes=6)


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "runs" / "run_20260102_203225")


def parquet(run: Path, table: pd.DataFrame, name: str = "test") -> None:
    """Replace a split by one that is read without a subprocess."""
    (run / "shared_data" / f"{name}_split.pkl").unlink(missing_ok=True)
    table.to_parquet(run / "shared_data" / f"{name}_split.parquet")


def table_of(run: Path, name: str = "test") -> pd.DataFrame:
    return pd.read_pickle(run / "shared_data" / f"{name}_split.pkl")


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def statuses(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


# Finding


def test_the_seeds_layout_is_found(run: Path) -> None:
    found = RunDirectory(run)
    assert found.path == run.resolve() and found.name == "run_20260102_203225"
    assert found.checkpoint == run / "checkpoints" / "phase1" / "phase1_best.pt"
    assert found.split_path("test") == run / "shared_data" / "test_split.pkl"
    assert found.splits == ("train", "val", "test")
    assert found.code_info is not None and found.code_info.codes[0] == "E785"
    assert found.code_info.counts["E785"] == 1000 and found.code_info.valid_admissions == 2500
    embeddings = found.concept_embeddings()
    assert embeddings is not None and embeddings.shape == (5, 32) and embeddings.dtype == np.float32
    assert found.base_model() == run / "base_model"
    assert (found.siblings(), found.references(), found.remarks, found.concept_names) == ((), (), (), None)


def test_the_richer_layout_is_found(run: Path) -> None:
    shared = run / "shared_data"
    (shared / "concept_list.json").write_text(json.dumps(["pain", "fever", "sepsis", "fall", "edema"]))
    (shared / "split_info.json").write_text("{}")
    np.save(shared / "test_concept_labels.npy", np.zeros((6, 5)))
    (run / "results").mkdir()
    (run / "references").mkdir()
    for name in ("tf32.safetensors", "cased.npz", "README.md", ".hidden.npz"):
        (run / "references" / name).touch()
    found = RunDirectory(run)
    assert found.concept_names == ("pain", "fever", "sepsis", "fall", "edema")
    assert [path.name for path in found.references()] == ["cased.npz", "tf32.safetensors"]


def test_a_path_to_the_checkpoint_or_to_a_folder_of_one_run_will_do(run: Path) -> None:
    from_file = RunDirectory(run / "checkpoints" / "phase1" / "phase1_best.pt")
    from_parent = RunDirectory(str(run.parent))
    assert from_file.path == from_parent.path == run
    assert len(from_file.remarks) == len(from_parent.remarks) == 1
    assert from_file.checkpoint == run / "checkpoints" / "phase1" / "phase1_best.pt"


def test_siblings_are_the_other_runs_beside_it(run: Path) -> None:
    for name in ("run_20260102_061815", "run_20260102_053548"):
        (run.parent / name / "checkpoints").mkdir(parents=True)
    (run.parent / "scripts").mkdir()
    assert [sibling.name for sibling in RunDirectory(run).siblings()] == [
        "run_20260102_053548",
        "run_20260102_061815",
    ]
    with refused("holds 3 runs", "run_20260102_203225", "give one of them"):
        RunDirectory(run.parent)


def test_another_checkpoint_is_found_if_it_is_the_only_one(run: Path) -> None:
    phase = run / "checkpoints" / "phase1"
    (phase / "phase1_best.pt").rename(phase / "epoch15.pt")
    assert RunDirectory(run).checkpoint.name == "epoch15.pt"
    (phase / "epoch16.pt").touch()
    with refused("2 checkpoints", "epoch15.pt, epoch16.pt"):
        _ = RunDirectory(run).checkpoint
    assert RunDirectory(phase / "epoch16.pt").checkpoint.name == "epoch16.pt"
    assert RunDirectory(phase / "epoch16.pt").path == run


def test_optional_files_may_be_absent(run: Path) -> None:
    for name in ("top50_icd10_info.json", "concept_embeddings.npy", "train_split.pkl", "val_split.pkl"):
        (run / "shared_data" / name).unlink()
    found = RunDirectory(run)
    assert (found.code_info, found.concept_embeddings(), found.splits) == (None, None, ("test",))
    assert len(found.read_split("test")) == 6


@pytest.mark.parametrize("given_path", ["nowhere", "nul\0byte"])
def test_a_path_that_does_not_exist_gets_one_clear_line(given_path: str, tmp_path: Path) -> None:
    with refused("does not exist"):
        RunDirectory(tmp_path / given_path)


def test_a_folder_without_a_run_gets_one_clear_line(tmp_path: Path) -> None:
    with refused("no run directory", "it holds nothing"):
        RunDirectory(tmp_path)
    (tmp_path / "notes.txt").touch()
    with refused("no run directory", "it holds notes.txt"):
        RunDirectory(tmp_path)
    with refused("notes.txt is no checkpoint"):
        RunDirectory(tmp_path / "notes.txt")


def test_a_missing_file_gets_one_clear_line(run: Path) -> None:
    found = RunDirectory(run)
    found.checkpoint.unlink()
    with refused("has no checkpoint", "phase1_best.pt is missing", "Copy it there"):
        _ = RunDirectory(run).checkpoint
    (run / "shared_data" / "test_split.pkl").unlink()
    with refused("has no test split", "test_split.pkl (or .parquet) is missing"):
        found.read_split("test")
    with refused("'holdout' is no split", "train, val, test"):
        found.split_path("holdout")


# Small files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["empty"]),
        ("{", ["no JSON"]),
        ("[" * 100_000, ["no JSON"]),
        ("[]", ["list", "expected an object"]),
        ("{}", ["no list of code names", "'top_50_codes'"]),
        ('{"top_50_codes": []}', ["no list of code names"]),
        ('{"top_50_codes": [1, 2]}', ["no list of code names"]),
        ('{"top_50_codes": ["I10", "I10"]}', ["'I10' more than once"]),
    ],
)
def test_code_info_that_cannot_be_read_gets_one_clear_line(content: str, words: list[str], run: Path) -> None:
    (run / "shared_data" / "top50_icd10_info.json").write_text(content)
    with refused("top50_icd10_info.json", *words):
        _ = RunDirectory(run).code_info
    assert statuses(inspect_run_directory(RunDirectory(run), {}))["code_info"] == "error"


@pytest.mark.parametrize(
    "array",
    [np.zeros(5), np.zeros((5, 32), dtype=int), np.array([[object()]]), np.zeros((2, 2), dtype=complex)],
)
def test_concept_embeddings_of_another_kind_get_one_clear_line(array: np.ndarray, run: Path) -> None:
    np.save(run / "shared_data" / "concept_embeddings.npy", array, allow_pickle=True)
    with refused("concept_embeddings.npy"):
        RunDirectory(run).concept_embeddings()


def test_concept_embeddings_cut_off_get_one_clear_line(run: Path) -> None:
    path = run / "shared_data" / "concept_embeddings.npy"
    whole = path.read_bytes()
    for kept in (0, 20, 200):
        path.write_bytes(whole[:kept])
        with refused("concept_embeddings.npy", "cut off" if kept else "empty"):
            RunDirectory(run).concept_embeddings()


@pytest.mark.parametrize(
    "change",
    [
        (b"(5, 32)", b"(9, 99)"),
        (b"(5, 32)", b"(9" + b"9" * 4 + b")"),
        (b"(5, 32)", b"[[[[[[["),
        (b"'<f4'", b"'|O8'"),
        (b"'<f4'", b"'xyz'"),
        (b"\x01\x00", b"\x03\x00"),
    ],
)
def test_concept_embeddings_that_lie_get_one_clear_line(run: Path, change: tuple[bytes, bytes]) -> None:
    path = run / "shared_data" / "concept_embeddings.npy"
    whole = path.read_bytes()
    assert change[0] in whole
    path.write_bytes(whole.replace(*change, 1))
    with refused("concept_embeddings.npy"):
        RunDirectory(run).concept_embeddings()


def test_a_sparse_file_of_gigabytes_is_refused_unread(run: Path) -> None:
    for name in ("concept_embeddings.npy", "top50_icd10_info.json"):
        with (run / "shared_data" / name).open("r+b") as file:
            file.truncate(3 << 30)
    with refused("concept_embeddings.npy", "3,221,225,472 bytes"):
        RunDirectory(run).concept_embeddings()
    with refused("top50_icd10_info.json", "3,221,225,472 bytes"):
        _ = RunDirectory(run).code_info


def test_links_in_references_that_lead_out_of_the_run_are_told_apart(run: Path, tmp_path: Path) -> None:
    references = run / "references"
    references.mkdir()
    (tmp_path / "secret.csv").write_text("a secret\n1\n")
    (references / "own.csv").write_text("A\n1.5\n")
    (references / "inside.csv").symlink_to("own.csv")
    (references / "out.csv").symlink_to(tmp_path / "secret.csv")
    (references / "nowhere.csv").symlink_to("missing.csv")
    found = RunDirectory(run)
    assert [path.name for path in found.references()] == ["inside.csv", "own.csv"]
    assert [path.name for path in found.references_and_links_out()[1]] == ["nowhere.csv", "out.csv"]


# Base model


def test_the_base_model_named_comes_before_the_one_inside(run: Path, tmp_path: Path) -> None:
    other = write_base_model(tmp_path / "other")
    assert RunDirectory(run).base_model(other) == other
    assert RunDirectory(run).base_model() == run / "base_model"
    assert vocabulary_sha256(other) == file_sha256(other / "vocab.txt")


def test_the_base_model_is_found_in_the_hubs_cache_without_network(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "base_model").rename(tmp_path / "moved")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with refused("No base model", REPOSITORY, "--base-model"):
        RunDirectory(run).base_model()
    cached = tmp_path / "hub" / ("models--" + REPOSITORY.replace("/", "--"))
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("d5892b39a4adaed74b92212a44081509db72f87b")
    snapshot = write_base_model(cached / "snapshots" / "d5892b39a4adaed74b92212a44081509db72f87b")
    assert RunDirectory(run).base_model() == snapshot


def test_a_base_model_that_lacks_a_file_gets_one_clear_line(run: Path, tmp_path: Path) -> None:
    with refused("does not exist"):
        RunDirectory(run).base_model(tmp_path / "nowhere")
    (run / "base_model" / "vocab.txt").unlink()
    with refused("has no vocab.txt"):
        RunDirectory(run).base_model()
    (run / "base_model" / "config.json").unlink()
    with refused("has no config.json"):
        RunDirectory(run).base_model()


# Hazards


@pytest.mark.parametrize(
    ("version", "applies"),
    [
        ("4.57.6", False),
        ("5.0.0rc1", False),
        ("5.0.0", True),
        ("5.1.0", True),
        ("5.2.0", True),
        ("5.2.0.dev0", True),
        ("5.3.0", False),
        ("5.23.0", False),
    ],
)
def test_a_vocabulary_alone_is_a_hazard_under_transformers_5_0_to_5_2(
    version: str, applies: bool, tmp_path: Path
) -> None:
    base_model = write_base_model(tmp_path)
    assert [hazard.name for hazard in hazards_for(base_model, version)] == [
        "vocabulary_only_keeps_case"
    ] * applies


def test_a_base_model_that_states_its_casing_is_no_hazard(tmp_path: Path) -> None:
    base_model = write_base_model(tmp_path)
    settings = base_model / "tokenizer_config.json"
    settings.write_text("{}")
    assert hazards_for(base_model, "5.0.0")
    settings.write_text('{"do_lower_case": false}')
    assert not hazards_for(base_model, "5.0.0")
    settings.unlink()
    (base_model / "tokenizer.json").write_text("{}")
    assert not hazards_for(base_model, "5.0.0")
    with refused("'latest' is no version"):
        hazards_for(base_model, "latest")


# Checks


codes = st.lists(st.sampled_from([f"C{i}" for i in range(8)]), min_size=1, unique=True)


@given(codes)
def test_equal_lists_of_codes_are_well(first: list[str]) -> None:
    assert compare_codes("n", first, "a", tuple(first), "b").status == "ok"


@given(codes, codes)
def test_lists_of_codes_that_differ_are_an_error_that_names_the_first_place(
    first: list[str], second: list[str]
) -> None:
    check = compare_codes("n", first, "the checkpoint", second, "the JSON file")
    assert (check.status == "ok") == (first == second)
    if first != second:
        at = next(
            (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
            min(len(first), len(second)),
        )
        assert f"first at {at + 1} (" in check.message
        assert "\n" not in check.message


def test_a_sound_run_directory_has_no_warning(run: Path) -> None:
    found = RunDirectory(run)
    splits, of_splits = read_splits(found)
    checks = (
        of_splits
        + inspect_run_directory(found, splits)
        + checkpoint_checks(read_checkpoint(found.checkpoint), found, splits)
    )
    assert [check for check in checks if check.status != "ok"] == []
    assert {check.name for check in checks} == {
        "split_val", "labels_val", "split_test", "labels_test", "checkpoint_file", "code_info", "code_order_json_val",
        "code_order_json_test", "checkpoint", "code_order_checkpoint_json", "code_order_checkpoint_val",
        "code_order_checkpoint_test", "concept_embeddings",
    }  # fmt: skip


def test_codes_of_the_json_file_in_another_order_are_found(run: Path) -> None:
    path = run / "shared_data" / "top50_icd10_info.json"
    swapped = ["E785", "Z87891", "I10", "K219", "F329", "I2510"]
    edit_json(path, top_50_codes=swapped)
    parquet(run, table_of(run))
    found = RunDirectory(run)
    splits, _ = read_splits(found, ["test"])
    checks = inspect_run_directory(found, splits) + checkpoint_checks(
        read_checkpoint(found.checkpoint), found, splits
    )
    wrong = {check.name: check.message for check in checks if check.status == "error"}
    assert set(wrong) == {"code_order_json_test", "code_order_checkpoint_json"}
    assert (
        "2 positions differ, first at 2 ('I10' in the checkpoint, 'Z87891' in the JSON file)"
        in wrong["code_order_checkpoint_json"]
    )


def test_columns_of_the_split_in_another_order_are_found(run: Path) -> None:
    """Lists and columns permuted together: by name the labels are right, by position they are not."""
    table = table_of(run)
    turned = ["I10", "E785", *list(table.columns)[4:]]
    parquet(run, table.assign(labels=table[turned].to_numpy().tolist())[["text", "labels", *turned]])
    found = RunDirectory(run)
    splits, of_splits = read_splits(found, ["test"])
    assert statuses(of_splits)["labels_test"] == "ok"
    checkpoint = read_checkpoint(found.checkpoint)
    assert statuses(checkpoint_checks(checkpoint, found, splits))["code_order_checkpoint_test"] == "error"
    assert checkpoint.codes is not None
    by_name = splits["test"].with_codes(checkpoint.codes).labels
    assert np.array_equal(by_name, table[list(checkpoint.codes)].to_numpy())


def test_a_split_of_other_codes_is_found(run: Path) -> None:
    parquet(run, table_of(run).rename(columns={"I10": "I110"}))
    found = RunDirectory(run)
    splits, _ = read_splits(found, ["test"])
    checks = checkpoint_checks(read_checkpoint(found.checkpoint), found, splits)
    (message,) = [check.message for check in checks if check.status == "error"]
    assert "1 of 6 codes are in one of them only" in message
    assert "first at 2 ('I10' in the checkpoint, 'I110' in the test split)" in message


def test_a_split_of_fewer_codes_is_found(run: Path) -> None:
    labels = np.zeros((6, 4), dtype=np.uint8)
    parquet(run, split_table(tiny_notes(6), labels, ["E785", "I10", "Z87891", "K219"]))
    found = RunDirectory(run)
    splits, _ = read_splits(found, ["test"])
    found_statuses = statuses(checkpoint_checks(read_checkpoint(found.checkpoint), found, splits))
    assert found_statuses["codes_test"] == found_statuses["code_order_checkpoint_test"] == "error"


def test_a_split_that_cannot_be_read_is_a_check_and_not_an_exception(run: Path) -> None:
    (run / "shared_data" / "val_split.pkl").unlink()
    parquet(run, table_of(run).assign(I10=7))
    splits, checks = read_splits(RunDirectory(run))
    assert splits == {}
    assert statuses(checks) == {"split_val": "error", "split_test": "error"}


def test_notes_that_repeat_are_said_so(run: Path) -> None:
    parquet(run, pd.concat([table_of(run), table_of(run).iloc[:2]]))
    _, checks = read_splits(RunDirectory(run), ["test"])
    assert [check.message for check in checks if check.name == "repeated_test"] == [
        "test: 2 notes repeat the text of another."
    ]


def test_concepts_of_another_number_are_found(run: Path) -> None:
    np.save(run / "shared_data" / "concept_embeddings.npy", np.zeros((7, 32), dtype=np.float32))
    (run / "shared_data" / "concept_list.json").write_text(json.dumps(["pain"] * 5))
    found = RunDirectory(run)
    checkpoint = read_checkpoint(found.checkpoint)
    assert statuses(inspect_run_directory(found, {}))["concepts"] == "warning"
    assert statuses(checkpoint_checks(checkpoint, found, {}))["concept_embeddings"] == "warning"


def test_concept_embeddings_that_differ_from_the_weight_are_found(tmp_path: Path) -> None:
    run = tiny_run_directory(tmp_path / "run_1", "concept_attention", notes=6)
    found = RunDirectory(run)
    checkpoint = read_checkpoint(found.checkpoint)
    path = run / "shared_data" / "concept_embeddings.npy"
    assert statuses(checkpoint_checks(checkpoint, found, {}))["concept_embeddings"] == "ok"
    np.save(path, np.load(path) + np.float32(1))
    (check,) = [
        check for check in checkpoint_checks(checkpoint, found, {}) if check.name == "concept_embeddings"
    ]
    assert check.status == "warning" and "at most 1" in check.message


def test_a_stored_config_that_contradicts_the_weights_is_found(run: Path) -> None:
    path = run / "checkpoints" / "phase1" / "phase1_best.pt"
    content = torch.load(path, weights_only=False)
    content["config"] |= {"num_classes": 50, "num_concepts": 5}
    content["model_state_dict"]["fusion_layer.bias"][0] = float("nan")
    torch.save(content, path)
    checks = checkpoint_checks(read_checkpoint(path), RunDirectory(run), {})
    assert statuses(checks)["checkpoint_config"] == "warning"
    assert statuses(checks)["finite_weights"] == "error"
    content["config"].pop("top_50_codes")
    torch.save(content, path)
    assert (
        statuses(checkpoint_checks(read_checkpoint(path), RunDirectory(run), {}))["code_order_checkpoint"]
        == "warning"
    )
