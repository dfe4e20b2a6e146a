"""Digests of the parts of a model's weights: of values, whatever file and dtype hold them; and the base model's own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.model.base_weights import base_model_digests
from shifamind_core.model.checkpoint import part_digests, read_checkpoint, untrained_parts
from simulation.builders import tiny_model, tiny_run_directory

STATE = {name: tensor.detach() for name, tensor in tiny_model().state_dict().items()}
ENCODER = {
    name.removeprefix("base_model."): tensor
    for name, tensor in STATE.items()
    if name.startswith("base_model.")
}
OWN = part_digests(STATE)


@pytest.mark.parametrize("name", [*STATE][::7])
def test_a_changed_weight_changes_the_digest_of_its_part_alone(name: str) -> None:
    changed = part_digests({**STATE, name: STATE[name] + 1e-3})
    assert len({part for part in OWN if OWN[part] != changed[part]}) == 1 and OWN.keys() == changed.keys()


def test_dtypes_and_the_order_of_names_decide_nothing_that_values_do_not() -> None:
    half = {name: tensor.half() for name, tensor in STATE.items()}
    widened = {name: tensor.float() for name, tensor in half.items()}
    assert part_digests(half) == part_digests(widened) != OWN
    assert part_digests({name: STATE[name].double() for name in reversed(STATE)}) == OWN
    assert part_digests({**STATE, "fusion_layer.weight": STATE["fusion_layer.weight"].T}) != OWN


def test_parts_as_the_library_makes_them_are_known_until_one_bias_or_layer_norm_moves() -> None:
    made = {part for part in OWN if part.startswith("encoder.") and part != "encoder.embeddings"}
    assert (
        set(untrained_parts(STATE)) == made
    )  # torch's own layers, of which the heads are, draw their biases
    for name in ("base_model.encoder.layer.1.output.dense.bias", "base_model.embeddings.LayerNorm.weight"):
        moved = STATE[name].clone()
        moved[3] += 1e-6
        assert len(made - set(untrained_parts({**STATE, name: moved}))) == 1


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tiny_run_directory(tmp_path / "run", notes=4))


def old(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As TensorFlow's names came over, below the prefix of a pretraining model, with its heads and its buffer."""
    named = {
        f"bert.{name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace('LayerNorm.bias', 'LayerNorm.beta')}": tensor
        for name, tensor in state.items()
    }
    return named | {
        "cls.predictions.bias": torch.zeros(3),
        "bert.embeddings.position_ids": torch.arange(4)[None],
    }


@pytest.mark.parametrize("named", [dict, old])
def test_the_base_models_encoder_is_known_by_today_s_names(named, directory: RunDirectory) -> None:
    folder = directory.base_model()
    assert base_model_digests(folder, directory.checkpoint) is None
    torch.save(named(ENCODER), folder / "pytorch_model.bin")
    found = base_model_digests(folder, directory.checkpoint)
    assert found == {part: digest for part, digest in OWN.items() if part.startswith("encoder.")}


def test_a_classifiers_own_folder_is_no_base_model_and_a_broken_file_is_none(directory: RunDirectory) -> None:
    folder = directory.base_model()
    path = folder / "model.safetensors"
    save_file(ENCODER, path)
    assert base_model_digests(folder, directory.checkpoint)
    assert base_model_digests(folder, folder / "pytorch_model.bin") is None
    path.write_bytes(path.read_bytes()[:1000])
    assert base_model_digests(folder, directory.checkpoint) is None


def test_a_run_records_the_parts_of_its_model_and_of_the_base_model(directory: RunDirectory) -> None:
    def record():
        return Pipeline(directory).score("test", Setting(device="cpu")).run.manifest.checkpoint

    assert record().base_model_digests is None
    save_file(ENCODER, directory.base_model() / "model.safetensors")
    found = record()
    own = part_digests(read_checkpoint(directory.checkpoint).state_dict)
    assert found.part_digests == own and set(own) == set(OWN)
    assert found.base_model_digests == {part: OWN[part] for part in OWN if part.startswith("encoder.")}
