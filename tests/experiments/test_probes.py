"""Probes on a healthy checkpoint, and each planted fault found by the probe that looks for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.experiments import probes
from shifamind_core.experiments.probes import Bench, distance_from_initialisation, probes_json, run_probes
from shifamind_core.inference.pipeline import Pipeline
from simulation.builders import tiny_run_directory

CPU = torch.device("cpu")
HEAD = {"cls_fusion": "diagnosis_classifier", "concept_attention": "diagnosis_head"}


@pytest.fixture(scope="module", params=["cls_fusion", "concept_attention"])
def pipeline(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return Pipeline(RunDirectory(tiny_run_directory(folder, request.param, notes=6)))


@pytest.fixture
def bench(pipeline):
    found = Bench(pipeline, CPU, notes=4)
    found.__dict__["length"] = 64  # instead of 512 tokens: the rooms are the same, the pass is shorter
    return found


@pytest.fixture(scope="module")
def found(pipeline):
    return {probe.name: probe for probe in run_probes(pipeline, "cpu", notes=3)}


def test_a_healthy_checkpoint_passes_every_probe_but_the_padding_of_concept_attention(pipeline, found):
    failing = {"concept_attention": {"padding"}, "cls_fusion": set()}[pipeline.checkpoint.architecture]
    assert {name for name, probe in found.items() if probe.status == "failed"} == failing
    assert {name for name, probe in found.items() if probe.status == "skipped"} == {"cpu_against_gpu"}
    assert list(found) == list(probes.PROBES)


def test_the_concept_attentions_padding_is_called_a_risk(pipeline, found):
    padding = found["padding"]
    if pipeline.checkpoint.architecture == "concept_attention":
        assert padding.max_abs_difference > 1e-3
        assert "real risk" in padding.message and "padding included" in padding.message
    else:
        assert padding.max_abs_difference < 1e-4


def test_every_probe_is_one_sentence_with_its_number(found):
    for row in probes_json(list(found.values()))["probes"]:
        assert set(row) == {"name", "status", "max_abs_difference", "message"}
        assert row["message"].endswith(".") and "\n" not in row["message"]
    assert found["repeatability"].max_abs_difference == 0
    assert found["two_processes"].max_abs_difference == 0
    assert "bit for bit" in found["two_processes"].message


def test_dropout_left_on_is_found_and_measured(bench):
    bench.model.train()
    probe = probes.eval_mode(bench)
    assert probe.status == "failed" and probe.max_abs_difference > 0.01
    assert bench.model.training  # the mode is put back to what it was
    assert probes.repeatability(bench).status == "failed"


def test_the_dropout_probe_leaves_mode_and_generator_alone(bench):
    assert bench.baseline.size  # building a model draws numbers; that is over now
    before = torch.random.get_rng_state()
    assert probes.eval_mode(bench).status == "ok"
    assert torch.equal(before, torch.random.get_rng_state())
    assert not any(module.training for module in bench.model.modules())


def test_one_changed_weight_in_memory_is_found(bench):
    bench.model.get_submodule(HEAD[bench.pipeline.checkpoint.architecture]).weight[0, 0] += 1e-6
    probe = probes.parameters_in_memory(bench)
    assert probe.status == "failed" and probe.max_abs_difference == pytest.approx(1e-6, rel=0.1)


def test_a_head_left_at_its_initialisation_is_found(bench, monkeypatch):
    checkpoint = bench.pipeline.checkpoint
    name = HEAD[checkpoint.architecture]
    torch.manual_seed(3)
    fresh = torch.nn.Linear(checkpoint.state_dict[f"{name}.weight"].shape[1], checkpoint.code_count)
    changed = {**checkpoint.state_dict, f"{name}.weight": fresh.weight.data, f"{name}.bias": fresh.bias.data}
    monkeypatch.setitem(bench.pipeline.__dict__, "checkpoint", replace(checkpoint, state_dict=changed))
    probe = probes.head_not_random(bench)
    assert probe.status == "failed" and "freshly initialised" in probe.message


@pytest.mark.parametrize("codes", [6, 50])
def test_initial_weights_are_told_from_others(codes):
    random = np.random.default_rng(0)
    uniform = random.uniform(-1, 1, (codes, 64)) / 8
    nearest, distance = distance_from_initialisation(uniform)
    assert nearest.startswith("uniform") and distance < probes.KOLMOGOROV
    nearest, distance = distance_from_initialisation(random.normal(0, 0.02, (codes, 64)))
    assert nearest.startswith("normal") and distance < probes.KOLMOGOROV
    # Training that moves each weight by a fifth of the initial range is seen on a head of usual size.
    trained = uniform + random.normal(0, 0.2 / 8, uniform.shape)
    assert codes < 50 or distance_from_initialisation(trained)[1] > probes.KOLMOGOROV


def test_a_model_whose_notes_see_each_other_is_found(bench):
    head = bench.model.get_submodule(HEAD[bench.pipeline.checkpoint.architecture])
    head.register_forward_hook(lambda module, args, output: output + 0.1 * output.mean(dim=0))
    assert probes.company(bench).status == "failed"
    assert probes.batch_size(bench).status == "failed"


def test_a_second_process_that_fails_is_reported_in_its_own_words(bench, monkeypatch):
    gone = bench.pipeline.directory.path / "gone.pt"
    monkeypatch.setitem(bench.pipeline.directory.__dict__, "checkpoint", gone)
    probe = probes.two_processes(bench)
    assert probe.status == "failed" and "ended with: error:" in probe.message


def test_probes_are_told_one_by_one(pipeline, monkeypatch):
    monkeypatch.setattr(probes, "PROBES", {"strict_load": probes.strict_load, "tf32": probes.tf32})
    told, steps = [], []
    run_probes(pipeline, "cpu", 2, lambda *step: steps.append(step), lambda sofar: told.append(len(sofar)))
    assert told == [1, 2] and steps[0] == ("Strict load", 0, 2) and steps[-1] == ("Done", 2, 2)
