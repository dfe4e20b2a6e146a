"""One record an architecture: what it says is what everything else goes by, and adding one is adding a record."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertForSequenceClassification, BertModel

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.experiments.probes import run_probes
from shifamind_core.inference.bitwise_model import refusal
from shifamind_core.inference.inspection import inspect
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.model import architectures
from shifamind_core.model.architectures import (
    ARCHITECTURES,
    Architecture,
    architecture_of,
    recognised,
    title_of,
)
from shifamind_core.model.bert_config import fitting_config
from shifamind_core.precision.policy import POLICIES
from shifamind_core.replay.interventions import Scene, interventions
from simulation.builders import CODES, tiny_checkpoint, tiny_config, tiny_model, tiny_run_directory
from simulation.classifiers import tiny_classifier
from tests.support.refused import refused

ROOT = Path(__file__).resolve().parents[2]


class MeanPooled(nn.Module):
    """A third team's model: the mean of all positions, padding included, and one layer."""

    def __init__(self, config, codes):
        super().__init__()
        self.base_model = BertModel(config)
        self.outlook = nn.Linear(config.hidden_size, codes)

    def forward(self, input_ids, attention_mask):
        states = self.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return {"logits": self.outlook(states.mean(dim=1))}


MEAN_POOLED = Architecture(
    name="mean_pooled",
    title="Mean pooling",
    marks=(frozenset({"base_model", "outlook"}),),
    heads=("outlook",),
    config=fitting_config,
    make=lambda config, weights: MeanPooled(config, len(weights["outlook.weight"])),
    bitwise=lambda model: "means over positions have no exact sum here",
    reads_padding="Its mean counts padding.",
)


@pytest.fixture
def added(monkeypatch, tmp_path):
    """A run directory of an architecture that a record was added for."""
    monkeypatch.setattr(architectures, "ARCHITECTURES", (*ARCHITECTURES, MEAN_POOLED))
    folder = tiny_run_directory(tmp_path / "run_1", notes=8)
    torch.manual_seed(0)
    model = MeanPooled(tiny_config(), 6).eval()
    torch.save(tiny_checkpoint(model, CODES[:6], 0), folder / "checkpoints" / "phase1" / "phase1_best.pt")
    return Pipeline(RunDirectory(folder)), model


SHORT = Setting(tokenization=Tokenization(max_length=32), device="cpu")


def test_a_record_that_is_added_is_inspected_and_scored(added):
    pipeline, model = added
    found = inspect(pipeline)
    assert (found["architecture"], found["model_class"], found["concepts"]) == (
        "mean_pooled",
        "MeanPooled",
        0,
    )
    assert [check["name"] for check in found["checks"] if check["status"] == "error"] == []
    run = pipeline.score("test", SHORT).run
    assert run.concept_scores is None and run.manifest.checkpoint.architecture == "mean_pooled"
    notes = pipeline.tokens(pipeline.split("test"), None).prepare(SHORT.tokenization)
    mask = (np.arange(32) < notes.lengths[:, None]).astype(np.int64)
    with torch.no_grad():
        own = model(torch.from_numpy(notes.ids.astype(np.int64)), torch.from_numpy(mask))["logits"].numpy()
    np.testing.assert_allclose(run.logits, own, atol=1e-6)
    assert title_of("mean_pooled") == "Mean pooling"


def test_what_the_record_says_is_what_bitwise_probes_and_replay_go_by(added):
    pipeline, model = added
    with refused("bitwise does not cover this model", "means over positions have no exact sum here"):
        pipeline.score("test", Setting(POLICIES["bitwise"], Tokenization(max_length=32), device="cpu"))
    probes = {probe.name: probe for probe in run_probes(pipeline, "cpu", 2)}
    assert "Its mean counts padding." in probes["padding"].message
    assert probes["strict_load"].status == "ok" and "head" in probes["head_not_random"].message
    listed = {step.slot for step in interventions(Scene(model, torch.device("cpu"), codes=tuple(CODES[:6])))}
    assert {"head", "encoder", "padding", "attention_mask", "dropout", "lowercase"} <= listed
    assert not {"pooling", "fusion_order", "concept_embeddings"} & listed


@pytest.mark.parametrize("name", ["cls_fusion", "concept_attention"])
def test_a_built_model_is_recognised_by_its_own_keys(name):
    model = tiny_model(name)
    kind = architecture_of(model)
    assert kind is not None and kind.name == name
    assert model.get_submodule(kind.head(model.state_dict())).out_features == 6
    assert refusal(model) is None


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_a_classifier_is_recognised_whatever_its_encoder_is_called(kind):
    model = tiny_classifier(kind)
    found = architecture_of(model)
    assert found is not None and found.name == "sequence_classification"
    assert model.get_submodule(found.head(model.state_dict())).out_features == 6
    reason = refusal(model)
    assert (
        reason is None if isinstance(model, BertForSequenceClassification) else type(model).__name__ in reason
    )


def test_keys_of_two_architectures_or_of_heads_alone_are_of_none():
    both = [f"{part}.weight" for one in ARCHITECTURES[:2] for part in sorted(one.marks[0])]
    assert recognised(both) is None
    assert recognised(["classifier.weight", "classifier.bias"]) is None


def test_no_line_outside_the_records_asks_for_an_architecture_by_name():
    names = {one.name for one in ARCHITECTURES}
    allowed = {"model/architectures.py", "demo/train.py"}  # the demo is of one architecture, which it makes
    found = [
        (file.relative_to(ROOT).as_posix(), node.lineno)
        for file in (ROOT / "shifamind_core").rglob("*.py")
        if file.relative_to(ROOT / "shifamind_core").as_posix() not in allowed
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Compare | ast.Dict | ast.Match)
        for value in ast.walk(node)
        if isinstance(value, ast.Constant) and value.value in names
    ]
    assert found == []
