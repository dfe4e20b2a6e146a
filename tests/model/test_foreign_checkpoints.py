"""Checkpoints as other programs save them: loaded with a remark, or refused in one line that says what to do.

Each test saves the real thing. Numbers of cases are those of the list of public reports that this suite follows.
"""

import argparse
import datetime
import pathlib
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.inference.inspection import inspect
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.model.checkpoint import read_checkpoint
from simulation.builders import CODES, tiny_checkpoint, tiny_model, tiny_run_directory
from simulation.classifiers import classifier_run_directory, tiny_classifier
from tests.support.refused import refused

ARCHITECTURES = ["cls_fusion", "concept_attention"]
SHORT = Setting(tokenization=Tokenization(max_length=32), device="cpu")


def read(folder: Path, value: Any, **how: Any):
    torch.save(value, folder / "phase1_best.pt", **how)
    return read_checkpoint(folder / "phase1_best.pt")


def plain(architecture: str = "cls_fusion"):
    return dict(tiny_model(architecture).state_dict())


def same(checkpoint, state) -> bool:
    return checkpoint.state_dict.keys() == state.keys() and all(
        torch.equal(checkpoint.state_dict[key], tensor) for key, tensor in state.items()
    )


class Lit(nn.Module):
    """A Lightning module's shape: the model under an attribute, a loss with a buffer beside it."""

    def __init__(self, model, name="model"):
        super().__init__()
        setattr(self, name, model)
        self.loss = nn.BCEWithLogitsLoss(pos_weight=torch.ones(6))


# Case 11: weights stored in half precision, or widened from it


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_case_11_weights_saved_in_half_are_said_to_be(tmp_path, dtype):
    half = {key: tensor.to(dtype) for key, tensor in plain().items()}
    stored = read(tmp_path, {"model_state_dict": half})
    name = str(dtype).removeprefix("torch.")
    assert any(f"stored as {name}" in remark for remark in stored.remarks)
    wide = read(tmp_path, {"model_state_dict": {key: tensor.float() for key, tensor in half.items()}})
    assert any(f"saved in {name} and widened" in remark for remark in wide.remarks)
    assert read(tmp_path, {"model_state_dict": plain()}).remarks == ()


# Case 12: names of TensorFlow


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_case_12_gamma_and_beta_are_weight_and_bias_of_a_norm(tmp_path, architecture):
    state = plain(architecture)
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for key, tensor in state.items()
    }
    assert old.keys() != state.keys()
    found = read(tmp_path, {"model_state_dict": old})
    assert same(found, state) and any("gamma and beta" in remark for remark in found.remarks)


# Case 13: wrappers, in any order, at the outside or around the encoder alone


@pytest.mark.parametrize(
    "outside", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "_fsdp_wrapped_module."]
)
def test_case_13_wrappers_at_the_outside_come_off(tmp_path, outside):
    state = plain()
    found = read(tmp_path, {"model_state_dict": {outside + key: tensor for key, tensor in state.items()}})
    assert same(found, state) and len(found.remarks) == outside.count(".")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("inside", ["_orig_mod.", "module.", "module._orig_mod."])
def test_case_13_wrappers_around_the_encoder_alone_come_off(tmp_path, inside, architecture):
    state = plain(architecture)
    wrapped = {key.replace("base_model.", f"base_model.{inside}"): tensor for key, tensor in state.items()}
    found = read(tmp_path, {"model_state_dict": wrapped})
    assert same(found, state) and f"of {len(state)} keys" in found.remarks[0]


def test_case_13_a_model_that_torch_compiled_in_part(tmp_path):
    model = tiny_model()
    state = plain()
    model.base_model.encoder = torch.compile(model.base_model.encoder, backend="eager")
    assert any("_orig_mod" in key for key in model.state_dict())
    assert same(read(tmp_path, model.state_dict()), state)


@pytest.mark.parametrize("name", ["model", "net", "classifier"])
@pytest.mark.parametrize("kind", [*ARCHITECTURES, "roberta"])
def test_case_13_lightning_names_come_off_and_the_loss_is_left_out(tmp_path, kind, name):
    model = tiny_classifier(kind) if kind == "roberta" else tiny_model(kind)
    saved = Lit(nn.DataParallel(model), name).state_dict()
    found = read(
        tmp_path, {"state_dict": saved, "epoch": 3, "pytorch-lightning_version": "2.5.0", "loops": {"a": 1}}
    )
    assert same(found, model.state_dict()) and found.epoch == 3
    assert any(f"'{name}.'" in remark for remark in found.remarks)
    assert any("left out: loss.pos_weight" in remark for remark in found.remarks)


def test_case_13_an_adapter_that_is_not_merged_is_refused_with_what_to_do(tmp_path):
    """As PEFT names what it wraps; peft itself is not needed to write such a file."""
    adapter = {}
    for key, tensor in plain().items():
        if ".query.weight" in key:
            adapter[f"base_model.model.{key.replace('.weight', '.base_layer.weight')}"] = tensor
            adapter[f"base_model.model.{key.replace('.weight', '.lora_A.default.weight')}"] = torch.zeros(
                4, 32
            )
            adapter[f"base_model.model.{key.replace('.weight', '.lora_B.default.weight')}"] = torch.zeros(
                32, 4
            )
        else:
            adapter[f"base_model.model.{key}"] = tensor
    with refused("phase1_best.pt", "PEFT adapter", "merge_and_unload()"):
        read(tmp_path, {"model_state_dict": adapter})
    alone = {key: tensor for key, tensor in adapter.items() if "lora_" in key}
    save_file(alone, tmp_path / "adapter_model.safetensors")
    with refused("adapter_model.safetensors", "PEFT adapter", "merge_and_unload()"):
        read_checkpoint(tmp_path / "adapter_model.safetensors")


def test_a_key_with_and_without_a_prefix_is_refused(tmp_path):
    state = plain()
    with refused("fusion_layer.bias twice"):
        read(tmp_path, {"model_state_dict": state | {"module.fusion_layer.bias": state["fusion_layer.bias"]}})


# Case 14: the format of torch before 1.6


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_case_14_the_format_of_torch_before_1_6_is_read(tmp_path, architecture):
    content = tiny_checkpoint(tiny_model(architecture), CODES[:6], 5)
    found = read(tmp_path, content, _use_new_zipfile_serialization=False)
    assert same(found, plain(architecture)) and found.scores["macro_f1"] == 0.2797
    assert any("before 1.6" in remark for remark in found.remarks)
    raw = (tmp_path / "phase1_best.pt").read_bytes()
    (tmp_path / "phase1_best.pt").write_bytes(raw[: len(raw) // 2])
    with refused("phase1_best.pt", "copy it again"):
        read_checkpoint(tmp_path / "phase1_best.pt")


def test_case_14_an_old_file_runs_nothing(tmp_path):
    with refused("phase1_best.pt was refused", "argparse.Namespace"):
        read(tmp_path, plain() | {"args": argparse.Namespace(a=1)}, _use_new_zipfile_serialization=False)


# Case 15: vocabularies with more rows than tokens, or fewer


def directory(folder: Path, rows: int = 0, config_rows: int = 0, architecture: str = "cls_fusion"):
    """A run directory whose embedding has so many rows more (or fewer) than the vocabulary."""
    run = tiny_run_directory(folder / "run_1", architecture, notes=6)
    path = run / "checkpoints" / "phase1" / "phase1_best.pt"
    content = torch.load(path, weights_only=False)
    key = "base_model.embeddings.word_embeddings.weight"
    table = content["model_state_dict"][key]
    grown = torch.cat([table, torch.ones(max(rows, 0), table.shape[1])])
    content["model_state_dict"][key] = grown[: len(table) + rows].clone()
    torch.save(content, path)
    config = run / "base_model" / "config.json"
    config.write_text(
        config.read_text().replace(f'"vocab_size": {len(table)}', f'"vocab_size": {len(table) + config_rows}')
    )
    return run


@pytest.mark.parametrize("config_rows", [8, 0], ids=["in config.json too", "config.json older"])
def test_case_15_more_rows_than_tokens_are_harmless(tmp_path, config_rows):
    run = directory(tmp_path, rows=8, config_rows=config_rows)
    pipeline = Pipeline(RunDirectory(run))
    usual = Pipeline(RunDirectory(directory(tmp_path / "usual")))
    np.testing.assert_array_equal(
        pipeline.score("test", SHORT).run.logits, usual.score("test", SHORT).run.logits
    )
    check = next(check for check in inspect(pipeline)["checks"] if check["name"] == "vocabulary")
    assert check["status"] == "ok" and "230 rows" in check["message"] and "222 tokens" in check["message"]


def test_case_15_tokens_that_were_added_need_rows(tmp_path):
    """[ANON] for ___ was added to the tokenizer, but the checkpoint is of before."""
    run = directory(tmp_path)
    pipeline = Pipeline(RunDirectory(run))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run / "base_model")
    tokenizer.add_tokens(["[ANON]"])
    tokenizer.save_pretrained(run / "base_model")
    with refused("222 rows", "223 tokens"):
        pipeline.score("test", SHORT)
    errors = [check for check in inspect(pipeline)["checks"] if check["status"] == "error"]
    assert [check["name"] for check in errors] == ["vocabulary"] and "222 rows" in errors[0]["message"]
    grown = directory(tmp_path / "grown", rows=1)
    tokenizer.save_pretrained(grown / "base_model")
    assert Pipeline(RunDirectory(grown)).score("test", SHORT).run.documents == 6


def test_case_15_fewer_rows_than_tokens_are_one_line_never_an_index_error(tmp_path):
    run = directory(tmp_path, rows=-4, config_rows=-4)
    with refused("218 rows", "222 tokens", "phase1_best.pt"):
        Pipeline(RunDirectory(run)).score("test", SHORT)


def test_case_15_another_base_models_vocabulary_is_not_taken_for_a_padded_one(tmp_path):
    run = directory(tmp_path, rows=1526)  # as an uncased base model's beside a cased one's
    with refused("vocab_size 222", "1748"):
        Pipeline(RunDirectory(run)).score("test", SHORT)


# Case 16: values beside the weights


@pytest.mark.parametrize(
    "value",
    [
        np.float16(0.5),
        np.float32(0.5),
        np.float64(0.5),
        np.longdouble(0.5),
        np.int8(3),
        np.uint64(3),
        np.bool_(True),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_case_16_numpy_numbers_of_every_kind_are_plain_numbers(tmp_path, value, legacy):
    content = tiny_checkpoint(tiny_model(), CODES[:6], 5) | {"macro_f1": value, "epoch": value}
    found = read(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    assert found.epoch == (None if isinstance(value, np.bool_) else int(value))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.zeros(2), "numpy"),
        (argparse.Namespace(lr=1), "argparse.Namespace"),
        (pathlib.PurePosixPath("x"), "pathlib.PurePosixPath"),
        (defaultdict(int), "collections.defaultdict"),
        (datetime.date(2026, 1, 2), "datetime.date"),
        (np.str_("x"), "NumPy scalar that is no number"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_case_16_other_values_are_refused_by_name_and_without_unsafe_advice(tmp_path, value, name, legacy):
    content = {"model_state_dict": plain(), "extra": value}
    with pytest.raises(Exception) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    message = str(caught.value)
    assert "phase1_best.pt was refused" in message and name in message and "\n" not in message
    assert not any(word in message for word in ("weights_only", "arbitrary", "PyTorch", "safe_globals"))


# Case 26: two sets of weights in one file


def two(folder: Path, name: str = "ema_state_dict") -> Path:
    run = tiny_run_directory(folder / "run_1", notes=12)
    path = run / "checkpoints" / "phase1" / "phase1_best.pt"
    content = torch.load(path, weights_only=False)
    averaged = {key: tensor * 0.9 for key, tensor in content["model_state_dict"].items()}
    where, _, inner = name.partition(".")
    torch.save(content | {where: {inner: averaged} if inner else averaged}, path)
    return run


@pytest.mark.parametrize("name", ["ema_state_dict", "model_ema", "ema.shadow"])
def test_case_26_a_second_state_dict_is_named_and_can_be_asked_for(tmp_path, name):
    run = RunDirectory(two(tmp_path, name))
    found = inspect(Pipeline(run))
    assert found["weights"] == ["model_state_dict", name]
    said = next(check["message"] for check in found["checks"] if check["name"] == "other_weights")
    assert name in said and f"--weights {name}" in said and "model_state_dict, which is used" in said
    usual, other = (Pipeline(run, weights=which).score("test", SHORT).run for which in (None, name))
    assert np.abs(usual.logits - other.logits).max() > 1e-2
    record = other.manifest.checkpoint
    assert record.state_dict == name and record.weights_digest != usual.manifest.checkpoint.weights_digest
    with refused("no weights named 'nothing'", name):
        _ = Pipeline(run, weights="nothing").checkpoint


def test_case_26_an_averaged_model_of_torch_is_found_under_its_wrapper(tmp_path):
    model = tiny_model()
    averaged = AveragedModel(model)
    content = {"state_dict": model.state_dict(), "ema": averaged.state_dict()}
    found = read(tmp_path, content)
    assert [one.name for one in found.others] == ["ema"] and found.others[0].max_difference == 0
    alone = read(tmp_path, averaged.state_dict())
    assert same(alone, plain()) and any("n_averaged" in remark for remark in alone.remarks)


def test_case_26_an_average_that_is_a_list_of_parameters_is_found_by_their_order(tmp_path):
    """As torch_ema keeps it."""
    model, averaged = tiny_model(), tiny_model(seed=1)
    ema = {"decay": 0.999, "num_updates": 7, "shadow_params": [one.data for one in averaged.parameters()]}
    found = read(tmp_path, {"model_state_dict": model.state_dict(), "ema": ema})
    assert [one.name for one in found.others] == ["ema.shadow_params"] and found.others[0].max_difference
    other = read_checkpoint(tmp_path / "phase1_best.pt", "ema.shadow_params")
    assert same(other, averaged.state_dict()) and any("no names" in remark for remark in other.remarks)


def test_case_26_numbers_that_an_average_keeps_beside_its_weights_are_left_out(tmp_path):
    averaged = plain() | {"decay": torch.tensor(0.999), "num_updates": torch.tensor(7)}
    found = read(tmp_path, {"model_state_dict": plain(), "ema": averaged})
    assert [(one.name, one.max_difference) for one in found.others] == [("ema", 0.0)]


def test_case_26_a_teacher_beside_the_model_in_one_state_dict(tmp_path):
    module = Lit(tiny_model())
    module.ema_model = tiny_model(seed=1)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    found = read_checkpoint(tmp_path / "last.ckpt")
    assert same(found, plain()) and [one.name for one in found.others] == ["state_dict/ema_model"]
    other = read_checkpoint(tmp_path / "last.ckpt", "state_dict/ema_model")
    assert same(other, tiny_model(seed=1).state_dict())


# Case 46: lines of a vocabulary


def with_vocabulary(folder: Path, change) -> Pipeline:
    run = directory(folder)
    path = run / "base_model" / "vocab.txt"
    path.write_bytes(change(path.read_bytes()))
    return Pipeline(RunDirectory(run))


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (lambda raw: raw.replace(b"\n", b"\r\n"), None),
        (lambda raw: raw.removesuffix(b"\n"), None),
        (lambda raw: raw + b"\n", "1 blank line"),
        (lambda raw: raw + b"\n\n\n", "3 blank lines"),
        (lambda raw: b"\xef\xbb\xbf" + raw, "byte order mark"),
        (lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"), "byte order mark"),
    ],
    ids=["crlf", "no last newline", "blank last line", "blank last lines", "mark", "mark and crlf"],
)
def test_case_46_the_ids_are_the_same_however_the_vocabulary_ends_its_lines(tmp_path, change, remark):
    pipeline = with_vocabulary(tmp_path / "changed", change)
    usual = Pipeline(RunDirectory(directory(tmp_path / "usual")))
    runs = [one.score("test", SHORT).run for one in (pipeline, usual)]
    np.testing.assert_array_equal(runs[0].logits, runs[1].logits)
    np.testing.assert_array_equal(runs[0].token_digests, runs[1].token_digests)
    messages = [
        check["message"] for check in inspect(pipeline)["checks"] if check["name"] == "tokenizer_files"
    ]
    assert [remark in message for message in messages] == ([True] if remark else [])


def test_case_46_a_blank_line_within_moves_ids_and_is_named(tmp_path):
    pipeline = with_vocabulary(tmp_path, lambda raw: raw.replace(b"\nthe\n", b"\n\nthe\n"))
    with refused("222 rows", "223 tokens", "blank line"):
        pipeline.score("test", SHORT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["vocab.txt is empty"]),
        ("[PAD]\n".encode("utf-16"), ["no UTF-8"]),
        (b"a\nb\n", ["No tokenizer"]),
    ],
)
def test_a_vocabulary_that_is_none_gets_one_line(tmp_path, content, words):
    with refused(*words):
        with_vocabulary(tmp_path, lambda _: content).score("test", SHORT)


# Safetensors


def test_safetensors_checkpoints_are_read_in_both_layouts(tmp_path):
    run = tiny_run_directory(tmp_path / "run_1", notes=6)
    path = run / "checkpoints" / "phase1" / "phase1_best.pt"
    usual = Pipeline(RunDirectory(run)).score("test", SHORT).run
    save_file(torch.load(path, weights_only=False)["model_state_dict"], path.with_suffix(".safetensors"))
    path.unlink()
    found = Pipeline(RunDirectory(run))
    assert found.checkpoint.remarks == () and found.checkpoint.path.suffix == ".safetensors"
    np.testing.assert_array_equal(found.score("test", SHORT).run.logits, usual.logits)
    raw = found.checkpoint.path.read_bytes()
    found.checkpoint.path.write_bytes(raw[:1000])
    with refused("phase1_best.safetensors cannot be read as safetensors", "copy it again"):
        read_checkpoint(found.checkpoint.path)


def test_a_run_file_is_not_taken_for_a_checkpoint(tmp_path):
    from shifamind_core.runs.run_file import write_run_file

    run = (
        Pipeline(RunDirectory(classifier_run_directory(tmp_path / "run", "bert", 6))).score("test", SHORT).run
    )
    write_run_file(run, tmp_path / "test.safetensors")
    with refused("test.safetensors is a run file", "not a checkpoint"):
        read_checkpoint(tmp_path / "test.safetensors")
