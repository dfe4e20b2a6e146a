"""Layer profiles: a planted error is found in the layer where it was planted, and nothing planted is nothing found."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shifamind_core.analysis.layer_divergence import (
    CLEAR_FACTOR,
    excess,
    expected_error,
    first_divergence,
    main_line,
    profile_json,
)
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.inference.activations import LayerSetting, profile_layers, recording
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.layer_profile import LayerProfile
from simulation.builders import tiny_run_directory

CPU = torch.device("cpu")
NOTES, LENGTH = 6, 64  # of which some are shorter than that
FP32, FP64 = LayerSetting(POLICIES["fp32"]), LayerSetting(POLICIES["fp64"])
ON_A_CPU = ["fp32", "portable", "bf16-autocast", "fp16-autocast", "bf16", "fp16", "emulated-tf32", "emulated-bf16", "emulated-fp16"]  # fmt: skip


@pytest.fixture(scope="module", params=["cls_fusion", "concept_attention"])
def pipeline(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Pipeline(RunDirectory(tiny_run_directory(folder, request.param, notes=NOTES)))


@pytest.fixture(scope="module")
def notes(pipeline):
    return pipeline.tokens(pipeline.split("test").head(NOTES), True).prepare(Tokenization(True, LENGTH))


def profile(pipeline, notes, candidate=FP32, reference=FP64, model=None):
    return profile_layers(model or pipeline.model, notes, candidate, reference, CPU, batch_size=2)


def planted(pipeline, change):
    """A way to build models of which the first, the candidate's, carries a fault."""
    built = []

    def build(attention):
        model = pipeline.model(attention)
        if not built:
            change(model)
        built.append(model)
        return model

    return build


@pytest.mark.parametrize("policy", ON_A_CPU)
def test_nothing_planted_is_nothing_found(pipeline, notes, policy):
    found = profile(pipeline, notes, LayerSetting(POLICIES[policy]))
    assert first_divergence(found) is None
    assert np.nanmax(excess(found)) < CLEAR_FACTOR / 3
    assert 0 < found.relative_error[-1] < 0.2


@pytest.mark.parametrize("policy", ["bf16-autocast", "emulated-tf32"])
def test_the_module_where_the_coarser_format_first_shows_is_named(pipeline, notes, policy):
    found = profile_json(profile(pipeline, notes, LayerSetting(POLICIES[policy]), FP32))
    names = {row["name"]: row for row in found["layers"]}
    first = found["first_rounding"]
    assert names[first]["kind"] in ("Linear", "LayerNorm")  # autocast on a CPU rounds layer norms too
    assert first in found["explanation"]
    assert profile_json(profile(pipeline, notes, FP32, FP32))["first_rounding"] is None


def test_two_attention_implementations_differ_by_rounding_alone(pipeline, notes):
    found = profile(pipeline, notes, replace(FP32, attention="eager"), FP32)
    assert found.candidate == "fp32 · eager"
    assert first_divergence(found) is None and found.relative_error.max() > 0


def test_a_setting_against_itself_differs_nowhere(pipeline, notes):
    found = profile(pipeline, notes, FP32, FP32)
    assert not found.relative_error.any() and first_divergence(found) is None


FAULTS = [
    "base_model.embeddings.LayerNorm",
    "base_model.encoder.layer.0.attention.self.key",
    "base_model.encoder.layer.1.attention.self",
    "base_model.encoder.layer.2.output.dense",
    "base_model.encoder.layer.2",
]


@pytest.mark.parametrize("name", FAULTS)
def test_an_error_planted_in_one_layers_output_is_found_there(pipeline, notes, name):
    def change(model):
        def disturb(module, args, output):
            first = output[0] if isinstance(output, tuple) else output
            first = first * (1 + 1e-4 * torch.sin(torch.arange(first.shape[-1])))
            return (first, *output[1:]) if isinstance(output, tuple) else first

        model.get_submodule(name).register_forward_hook(disturb)

    found = profile(pipeline, notes, model=planted(pipeline, change))
    first = first_divergence(found)
    assert first is not None and first.name == name
    assert first.own_error == pytest.approx(7e-5, rel=0.5)  # 1e-4 times the rms of a sine
    assert first.inherited_error < 1e-6
    assert profile_json(found)["first_divergence"] == name


@pytest.mark.parametrize("kind", ["layer", "head"])
def test_weights_changed_in_one_layer_are_found_there(pipeline, notes, kind):
    heads = {"cls_fusion": "fusion_layer", "concept_attention": "fusion_modules.3.out_proj"}
    name = (
        "base_model.encoder.layer.1.intermediate.dense"
        if kind == "layer"
        else heads[pipeline.checkpoint.architecture]
    )

    def change(model):
        weight = model.get_submodule(name).weight
        weight *= 1 + 1e-3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))

    first = first_divergence(profile(pipeline, notes, model=planted(pipeline, change)))
    assert first is not None and first.name == name


def test_a_mask_that_one_side_ignores_is_found_in_its_first_attention(pipeline, notes):
    def change(model):
        model.base_model.forward = lambda attention_mask, forward=model.base_model.forward, **rest: forward(
            attention_mask=torch.ones_like(attention_mask), **rest
        )

    first = first_divergence(profile(pipeline, notes, model=planted(pipeline, change)))
    assert first is not None and first.name == "base_model.encoder.layer.0.attention.self"


def test_a_layer_that_makes_nan_of_finite_inputs_is_found(pipeline, notes):
    name = "base_model.encoder.layer.1.output.dense"

    def change(model):
        model.get_submodule(name).bias[3] = float("nan")

    found = profile(pipeline, notes, model=planted(pipeline, change))
    first = first_divergence(found)
    at = found.names.index(name)
    assert first is not None and first.name == name and np.isinf(first.excess)
    assert found.non_finite[at] == NOTES * LENGTH and found.non_finite[:at].sum() == 0
    assert profile_json(found)["layers"][at]["relative_error"] is None
    assert "NaN" in profile_json(found)["explanation"]


def test_moments_equal_those_of_all_outputs_at_once(pipeline, notes):
    found = profile(pipeline, notes)
    name = "base_model.encoder.layer.2.intermediate.dense"
    seen = []
    model = pipeline.model()
    model.get_submodule(name).register_forward_hook(lambda module, args, output: seen.append(output))
    mask = np.arange(LENGTH) < notes.lengths[:, None]
    with torch.inference_mode():
        model(torch.from_numpy(notes.ids.astype(np.int64)), torch.from_numpy(mask.astype(np.int64)))
    values = seen[0].double().numpy()
    at = found.names.index(name)
    assert found.mean[at] == pytest.approx(values.mean(), rel=1e-4)
    assert found.std[at] == pytest.approx(values.std(), rel=1e-5)
    assert found.absmax[at] == pytest.approx(np.abs(values).max(), rel=1e-5)


def test_the_error_of_the_last_layer_is_that_of_the_logits(pipeline, notes):
    found = profile(pipeline, notes, LayerSetting(POLICIES["bf16"]))
    head = {"cls_fusion": "diagnosis_classifier", "concept_attention": "diagnosis_head"}[
        pipeline.checkpoint.architecture
    ]
    ids = torch.from_numpy(notes.ids.astype(np.int64))
    mask = torch.from_numpy((np.arange(LENGTH) < notes.lengths[:, None]).astype(np.int64))
    with torch.inference_mode():
        low = torch.cat(
            [pipeline.model().bfloat16()(ids[i : i + 2], mask[i : i + 2])["logits"] for i in (0, 2, 4)]
        ).double()
        high = pipeline.model().double()(ids, mask)["logits"]
    expected = float((low - high).square().mean().sqrt() / high.square().mean().sqrt())
    assert found.relative_error[found.names.index(head)] == pytest.approx(expected, rel=1e-6)


def test_the_memory_is_that_of_one_batch(pipeline, notes):
    whole = profile_layers(pipeline.model, notes, FP32, FP64, CPU, batch_size=6)
    single = profile_layers(pipeline.model, notes, FP32, FP64, CPU, batch_size=1)
    assert single.activation_bytes < whole.activation_bytes / 2
    assert np.allclose(single.relative_error, whole.relative_error, rtol=0.5, atol=1e-7)


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_hooks_are_gone_after_an_error(pipeline, notes):
    model = pipeline.model()
    before = hooks_of(model)
    with pytest.raises(RuntimeError, match="boom"), recording(model) as calls:
        assert hooks_of(model) > before + 40
        model.base_model.embeddings(torch.ones(1, 3, dtype=torch.long))
        raise RuntimeError("boom")
    assert hooks_of(model) == before
    assert [call.name for call in calls][-1] == "base_model.embeddings"


def test_dropout_is_recorded_only_where_it_is_on(pipeline):
    for training in (False, True):
        with recording(pipeline.model().train(training)) as calls, torch.no_grad():
            calls_of = calls
            pipeline.model()  # another model's calls are nobody's business here
        assert calls_of == []
    model = pipeline.model().train()
    with recording(model) as calls, torch.no_grad():
        model(torch.ones(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long))
    assert any(call.name.endswith("dropout") for call in calls)


def made(own, inherited, given, roundoff=1e-7):
    size = len(own)
    zeros = np.zeros(size)
    return LayerProfile(
        candidate="a", reference="b", names=tuple("abcdefgh"[:size]), kinds=("Linear",) * size,
        mean=zeros, std=zeros, absmax=zeros, non_finite=zeros.astype(np.int64), reference_std=zeros,
        relative_error=np.hypot(own, inherited), input_error=np.array(given), inherited_error=np.array(inherited),
        own_error=np.array(own), unit_roundoff=roundoff, finer_roundoff=roundoff, notes=1, activation_bytes=0,
    )  # fmt: skip


def test_what_a_module_amplifies_is_not_held_against_it():
    # The second module amplifies its inputs' error a hundredfold, so its own rounding may show a hundredfold too.
    profile = made(own=[1e-7, 2e-5, 1e-7], inherited=[0.0, 1e-5, 2e-5], given=[0.0, 1e-7, 2e-5])
    assert expected_error(profile) == pytest.approx([1e-7, 1e-5, 1e-7])
    assert first_divergence(profile) is None
    assert first_divergence(made(own=[1e-7, 2e-5], inherited=[0.0, 1e-7], given=[0.0, 1e-7])).name == "b"


def test_the_curve_leaves_out_blocks_that_repeat_what_is_inside_them():
    names = [
        "l.attention.self.query",
        "l.attention.self",
        "l.attention",
        "l",
        "fusion.out_proj",
        "fusion",
        "head",
    ]
    kinds = ["Linear", "BertSelfAttention", "BertAttention", "BertLayer", "Linear", "ConceptFusion", "Linear"]
    kept = main_line(names, kinds)
    assert [name for name, keep in zip(names, kept, strict=True) if keep] == [
        "l.attention.self.query", "l.attention.self", "fusion.out_proj", "fusion", "head",
    ]  # fmt: skip
