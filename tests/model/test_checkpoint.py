"""Checkpoints: every form that scripts save loads strictly, and whatever else gets one clear line."""

import argparse
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.model.build import build_model
from shifamind_core.model.checkpoint import Checkpoint, read_checkpoint, weights_digest
from simulation.builders import (
    CODES,
    tiny_checkpoint,
    tiny_config,
    tiny_model,
    tiny_notes,
    tiny_run_directory,
    tiny_tokens,
    write_base_model,
)
from tests.support.refused import refused

ARCHITECTURES = ["cls_fusion", "concept_attention"]


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base_model(tmp_path_factory.mktemp("base_model"))


def content(architecture: str = "cls_fusion", **changes: Any) -> dict[str, Any]:
    return tiny_checkpoint(tiny_model(architecture), CODES[:6], 5) | changes


def save(folder: Path, value: Any) -> Path:
    torch.save(value, folder / "phase1_best.pt")
    return folder / "phase1_best.pt"


def read(folder: Path, value: Any) -> Checkpoint:
    return read_checkpoint(save(folder, value))


def with_state(architecture: str = "cls_fusion", without: str = "", **changes: Tensor) -> dict[str, Any]:
    """A checkpoint whose state dict lacks a key, or has others (`__` in a name stands for a dot)."""
    state = dict(tiny_model(architecture).state_dict())
    state.pop(without, None)
    state |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return content(architecture, model_state_dict=state)


# What is read


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_checkpoint_is_read_back(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    checkpoint = read(tmp_path, tiny_checkpoint(model, CODES[:6], 5))
    assert checkpoint.architecture == checkpoint.record.architecture == architecture
    assert (checkpoint.code_count, checkpoint.concept_count, checkpoint.hidden_size) == (6, 5, 32)
    assert checkpoint.fusion_layers == ((1, 3) if architecture == "concept_attention" else ())
    assert checkpoint.codes == tuple(CODES[:6])
    assert checkpoint.epoch == 15
    assert checkpoint.scores == {"macro_f1": 0.2797, "micro_f1": 0.3957}
    assert checkpoint.record.parameters == sum(p.numel() for p in model.parameters())
    assert checkpoint.remarks == ()
    assert all(torch.equal(checkpoint.state_dict[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_built_model_equals_plain_construction_and_loading(
    architecture: str, attention: Any, tmp_path: Path, base_model: Path
) -> None:
    """Built on the meta device without random numbers; buffers included, it is the same model bit for bit."""
    original = tiny_model(architecture, attention=attention)
    state = torch.random.get_rng_state()
    built = build_model(read(tmp_path, tiny_checkpoint(original, CODES[:6], 5)), base_model, attention)
    assert torch.equal(torch.random.get_rng_state(), state)
    ids, mask = tiny_tokens(tiny_notes(4), base_model)
    with torch.no_grad():
        expected, found = original(ids, mask), built(ids, mask)
    assert all(torch.equal(expected[key], found[key]) for key in ("logits", "concept_scores"))
    assert not built.training and not any(module.training for module in built.modules())
    assert built.base_model.config._attn_implementation == attention
    buffers = dict(original.named_buffers())
    assert {name: value.tolist() for name, value in built.named_buffers()} == {
        name: value.tolist() for name, value in buffers.items()
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tiny_run_directory_is_read_built_and_written_alike_twice(
    architecture: str, tmp_path: Path
) -> None:
    digests = set()
    for name in ("run_1", "run_2"):
        run = RunDirectory(tiny_run_directory(tmp_path / name, architecture, notes=6))
        checkpoint = read_checkpoint(run.checkpoint)
        build_model(checkpoint, run.base_model())
        digests.add(checkpoint.record.weights_digest)
    assert len(digests) == 1


def test_the_built_model_shares_no_memory_with_the_checkpoint(tmp_path: Path, base_model: Path) -> None:
    checkpoint = read(tmp_path, content())
    model = build_model(checkpoint, base_model)
    with torch.no_grad():
        model.fusion_layer.weight.zero_()
    assert checkpoint.state_dict["fusion_layer.weight"].abs().sum() > 0


def test_the_file_may_go_once_it_is_read(tmp_path: Path, base_model: Path) -> None:
    checkpoint = read(tmp_path, content())
    checkpoint.path.write_bytes(b"")
    assert weights_digest(checkpoint.state_dict) == checkpoint.record.weights_digest


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model_state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"model_state_dict": {f"_orig_mod.{key}": value for key, value in state.items()}},
        lambda state: {
            "model_state_dict": {f"_orig_mod.module.{key}": value for key, value in state.items()}
        },
        lambda state: {
            "model_state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}
        },
        lambda state: {
            "model_state_dict": state | {"base_model.embeddings.position_ids": torch.arange(512)[None]}
        },
    ],
)
def test_every_form_of_the_state_dict_has_the_same_digest(wrap: Any, tmp_path: Path) -> None:
    state = dict(tiny_model().state_dict())
    plain = read(tmp_path, {"model_state_dict": state})
    other = read(tmp_path, wrap(state))
    assert other.record.weights_digest == plain.record.weights_digest
    assert len(other.remarks) == (2 if len(other.remarks) > 1 else "state_dict" not in wrap(state))


def test_changing_one_weight_changes_the_digest_and_resaving_does_not(tmp_path: Path) -> None:
    first = read(tmp_path, content())
    resaved = read(tmp_path, content(epoch=16))
    changed = with_state()
    changed["model_state_dict"]["fusion_layer.bias"] = changed["model_state_dict"][
        "fusion_layer.bias"
    ].clone()
    changed["model_state_dict"]["fusion_layer.bias"][0] += 1e-3
    assert resaved.record.weights_digest == first.record.weights_digest
    assert resaved.record.file_sha256 != first.record.file_sha256
    assert read(tmp_path, changed).record.weights_digest != first.record.weights_digest


@pytest.mark.parametrize(
    "number", [15, 15.0, np.int64(15), np.int32(15), np.float64(15), np.float32(15), torch.tensor(15)]
)
def test_numbers_of_every_kind_are_read(number: Any, tmp_path: Path) -> None:
    checkpoint = read(tmp_path, content(epoch=number, macro_f1=number))
    assert checkpoint.epoch == 15
    assert checkpoint.scores["macro_f1"] == 15.0


def test_numpy_1_scalars_are_read(tmp_path: Path) -> None:
    """NumPy 1 names its module otherwise; the name is changed in the saved file's pickle."""
    path = save(tmp_path, content())
    old = tmp_path / "old.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for member in source.infolist():
            part = source.read(member)
            target.writestr(member, part.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_checkpoint(old).scores == {"macro_f1": 0.2797, "micro_f1": 0.3957}


def test_what_is_not_stored_is_none(tmp_path: Path) -> None:
    checkpoint = read(tmp_path, dict(tiny_model().state_dict()))
    assert (checkpoint.codes, checkpoint.epoch, checkpoint.scores, checkpoint.config) == (None, None, {}, {})
    assert checkpoint.record.stored_macro_f1 is None
    odd = read(tmp_path, content(epoch="fifteen", macro_f1=None, config=None))
    assert (odd.codes, odd.epoch, odd.scores) == (None, None, {"micro_f1": 0.3957})


def test_concept_embeddings_beside_the_state_dict_are_kept(tmp_path: Path) -> None:
    embeddings = torch.randn(5, 32)
    found = read(tmp_path, content("concept_attention", concept_embeddings=embeddings)).concept_embeddings
    assert found is not None and torch.equal(found, embeddings)
    assert read(tmp_path, dict(tiny_model("concept_attention").state_dict())).concept_embeddings is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_computed_in_float32_and_said_so(
    dtype: torch.dtype, tmp_path: Path, base_model: Path
) -> None:
    checkpoint = read(tmp_path, content(model_state_dict=tiny_model().to(dtype).state_dict()))
    assert str(dtype).removeprefix("torch.") in " ".join(checkpoint.remarks)
    model = build_model(checkpoint, base_model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_weights_that_are_not_finite_are_counted_and_said_so(tmp_path: Path) -> None:
    bias = torch.zeros(6)
    bias[2:4] = torch.tensor([float("nan"), float("inf")])
    checkpoint = read(tmp_path, with_state(diagnosis_classifier__bias=bias))
    assert checkpoint.non_finite == 2
    assert "2 weights are NaN or infinite, first in diagnosis_classifier.bias" in " ".join(checkpoint.remarks)
    assert read(tmp_path, content()).non_finite == 0


# What is refused


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Call(os.system, "touch TARGET"), "posix.system"),
        (Call(eval, "open('TARGET', 'w')"), "eval"),
        (Call(getattr, "x", "upper"), "getattr"),
        (argparse.Namespace(epoch=1), "argparse.Namespace"),
        (np.zeros(3), "reconstruct"),
    ],
)
def test_a_checkpoint_that_asks_for_more_than_weights_is_refused_by_name(
    value: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused("phase1_best.pt was refused", name):
        read(tmp_path, content(extra=value))
    assert not Path("TARGET").exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    with refused("phase1_best.pt was refused", "ClsFusion"):
        read(tmp_path, tiny_model())


def test_a_plain_pickle_is_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phase1_best.pt").write_bytes(pickle.dumps(Call(os.system, "touch TARGET")))
    with refused("phase1_best.pt is no file as torch.save writes it"):
        read_checkpoint(tmp_path / "phase1_best.pt")
    assert not Path("TARGET").exists()


def test_a_scalar_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with refused("phase1_best.pt was refused"):
        read(tmp_path, content(macro_f1=np.str_("secret")))


@pytest.mark.parametrize("kept", [0, 10, 3_000, -1])
def test_a_file_that_was_cut_off_gets_one_clear_line(kept: int, tmp_path: Path) -> None:
    path = save(tmp_path, content())
    path.write_bytes(path.read_bytes()[:kept])
    with refused("phase1_best.pt", "cut off" if kept else "empty"):
        read_checkpoint(path)


def test_damage_in_the_middle_gets_one_clear_line(tmp_path: Path) -> None:
    path = save(tmp_path, content())
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        pickled = archive.read(name)
    whole = path.read_bytes()
    for damaged in (
        whole.replace(pickled, pickled[:100] + b"\xff" * (len(pickled) - 100)),
        whole.replace(pickled[-300:], b"\0" * 300),
    ):
        path.write_bytes(damaged)
        with refused("phase1_best.pt"):
            read_checkpoint(path)


def test_compressed_parts_are_refused(tmp_path: Path) -> None:
    """torch.save stores; a compressed file could expand without end."""
    path = tmp_path / "phase1_best.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    with refused("compressed"):
        read_checkpoint(path)


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    with refused("fusion_layer.weight", "claims more numbers"):
        read(tmp_path, with_state(fusion_layer__weight=torch.zeros(1).expand(100_000, 100_000)))


def test_a_missing_checkpoint_gets_one_clear_line(tmp_path: Path) -> None:
    with refused("does not exist"):
        read_checkpoint(tmp_path / "phase1_best.pt")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], ["list", "expected a dict"]),
        ({}, ["no 'model_state_dict'"]),
        ({"weights": {}, "epoch": 3}, ["no 'model_state_dict'", "weights, epoch"]),
        ({"model_state_dict": {}}, ["no 'model_state_dict'"]),
        ({"model_state_dict": {"a": 3}}, ["'a'", "int", "tensor"]),
        ({"model_state_dict": {7: torch.zeros(1)}}, ["'7'", "by name"]),
        (
            {"bert.embeddings.weight": torch.zeros(2, 2), "outputs.weight": torch.zeros(2, 2)},
            ["of no known architecture", "concept_classifier", "fusion_modules", "bert (1), outputs (1)"],
        ),
        (with_state(without="diagnosis_classifier.weight"), ["diagnosis_classifier.weight is missing"]),
        (with_state(diagnosis_classifier__weight=torch.zeros(6)), ["diagnosis_classifier.weight is [6]"]),
        (
            with_state(fusion_layer__weight=torch.zeros(2, dtype=torch.int64)),
            ["fusion_layer.weight is torch.int64"],
        ),
        (with_state("concept_attention", fusion_modules__last__x=torch.zeros(1)), ["last", "layer numbers"]),
        (content(config={"top_50_codes": CODES[:5]}), ["names 5 codes", "6 outputs"]),
        (content(config={"top_50_codes": [*CODES[:5], CODES[0]]}), ["'E785' more than once"]),
        (content(config={"top_50_codes": "E785"}), ["no list"]),
    ],
)
def test_content_that_does_not_fit_gets_one_clear_line(value: Any, words: list[str], tmp_path: Path) -> None:
    with refused("phase1_best.pt", *words):
        read(tmp_path, value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (with_state(without="fusion_layer.bias"), ["1 missing (fusion_layer.bias)"]),
        (with_state(extra_head__weight=torch.zeros(1)), ["1 unexpected (extra_head.weight)"]),
        (
            with_state(without="base_model.pooler.dense.bias", x=torch.zeros(1)),
            ["1 missing", "and 1 unexpected (x)"],
        ),
        (
            with_state(fusion_layer__weight=torch.zeros(32, 64)),
            ["fusion_layer.weight: [32, 64], expected [32, 128]"],
        ),
        (
            with_state("concept_attention", concept_embeddings=torch.zeros(7, 32)),
            ["[7, 32], expected [5, 32]"],
        ),
        (
            with_state("concept_attention", without="fusion_modules.1.query.bias"),
            ["fusion_modules.1.query.bias"],
        ),
    ],
)
def test_keys_and_shapes_that_do_not_fit_are_listed(
    value: Any, words: list[str], tmp_path: Path, base_model: Path
) -> None:
    with refused("phase1_best.pt", *words):
        build_model(read(tmp_path, value), base_model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 12}, ["4 encoder layers", "num_hidden_layers 12"]),
        ({"hidden_size": 64}, ["word_embeddings.weight is [", "hidden_size 64"]),
        ({"vocab_size": 30_522}, ["word_embeddings.weight is [", "vocab_size 30,522"]),
        ({"max_position_embeddings": 256}, ["position_embeddings.weight is [512, 32]", "256"]),
        ({"intermediate_size": 128}, ["intermediate_size 128"]),
        ({"type_vocab_size": 1}, ["type_vocab_size 1"]),
        ({"num_attention_heads": 5}, ["no multiple of num_attention_heads"]),
        ({"num_attention_heads": 0}, ["num_attention_heads is 0"]),
        ({"hidden_size": "32"}, ["hidden_size is '32'"]),
        ({"model_type": "roberta"}, ["'roberta'"]),
        ({"hidden_act": "no_such_function"}, ["hidden_act"]),
        ({"hidden_dropout_prob": "a lot"}, ["hidden_dropout_prob is 'a lot'"]),
        ({"layer_norm_eps": None}, ["layer_norm_eps is None"]),
        ({"position_embedding_type": "relative_key"}, ["position_embedding_type"]),
    ],
)
def test_a_base_model_that_does_not_fit_gets_one_clear_line(
    changes: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    folder = write_base_model(tmp_path / "base_model")
    (folder / "config.json").write_text(
        json.dumps(tiny_config().to_dict() | {"model_type": "bert"} | changes)
    )
    with refused(*words):
        build_model(read(tmp_path, content()), folder)


def test_a_configuration_that_is_missing_or_broken_gets_one_clear_line(tmp_path: Path) -> None:
    checkpoint = read(tmp_path, content())
    with refused("config.json is missing"):
        build_model(checkpoint, tmp_path)
    for broken in ("{", "[]", "\udcff".encode("utf-8", "surrogateescape").decode("latin1")):
        (tmp_path / "config.json").write_text(broken)
        with refused("config.json"):
            build_model(checkpoint, tmp_path)
