"""Replay: a planted change is found, nothing planted finds nothing, and what is not in the list stays unexplained.

Here among a few decoys.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.diagnosis.replay.interventions import interventions
from shifamind_core.diagnosis.replay.recipe import Recipe
from shifamind_core.diagnosis.replay.reported import parse_reported
from shifamind_core.diagnosis.replay.search import Search
from shifamind_core.diagnosis.replay.trials import Bench, target_of
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.run import Run
from tests.builders import tiny_run_directory

CPU = torch.device("cpu")
DECOYS = (
    "lowercase=false",
    "max_length=128",
    "truncation_side=left",
    "code_order=alphabetical",
    "policy=fp64",
)


class Workshop:
    """A tiny run directory and the means to plant a change into a reference."""

    def __init__(self, folder, architecture):
        directory = RunDirectory(tiny_run_directory(folder, architecture, notes=60, codes=12))
        self.pipeline = Pipeline(directory)
        self.split = self.pipeline.split("test")
        self.codes = self.pipeline.checkpoint.codes
        self.base = Recipe(Tokenization(True), POLICIES["fp32"])
        self.steps = {step.name: step for step in interventions(self.pipeline.model(), CPU)}
        self.blank = Run(
            np.zeros(self.split.labels.shape, np.float32),
            codes=self.codes,
            document_ids=self.split.document_ids,
        )
        self.shared = self.bench(self.blank)

    def bench(self, run):
        target = target_of(run, {"test": self.split}, self.codes)
        return Bench({None: self.pipeline}, target, CPU, self.pipeline.directory.code_info.counts)

    def values(self, *names):
        recipe = self.base
        for name in names:
            recipe = self.steps[name].apply(recipe)
        return self.shared.values(recipe, np.arange(len(self.split.texts)))[0]

    def search(self, logits, names=(), depth=1):
        bench = self.bench(replace(self.blank, logits=logits.astype(np.float32)))
        bench._values, bench._models = (
            self.shared._values,
            self.shared._models,
        )  # the same forward passes, once
        listed = [self.steps[name] for name in dict.fromkeys((*names, *DECOYS))]
        return Search(bench, self.base, listed, notes=16, depth=depth).run()


@pytest.fixture(scope="module", params=["cls_fusion", "concept_attention"])
def workshop(request, tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize(
    "name",
    ["lowercase=false", "max_length=128", "truncation_side=left", "special_tokens=none", "attention_mask=ignored",
     "pooling=mean", "fusion_order=reversed", "code_order=alphabetical", "output=probabilities", "output=double_sigmoid"],
)  # fmt: skip
def test_a_planted_change_is_found_and_confirmed(workshop, name):
    result = workshop.search(workshop.values(name), (name,))
    assert (result.verdict, result.best.names) == ("confirmed", (name,))
    assert result.best.fit.max_abs_residual <= result.numerics.tolerance
    assert name in result.sentence


def test_two_changes_together_are_found(workshop):
    names = ("lowercase=false", "code_order=alphabetical")
    result = workshop.search(workshop.values(*names), depth=2)
    assert result.verdict == "confirmed" and set(result.best.names) == set(names)


def test_notes_in_another_order_under_the_same_ids_are_found(workshop):
    result = workshop.search(workshop.values()[::-1])
    assert (result.verdict, result.best.names) == ("confirmed", ("document_order=reversed",))


def test_nothing_planted_is_identical_and_rounding_is_numerics(workshop):
    assert workshop.search(workshop.values()).verdict == "identical"
    for name in ("policy=fp64", "policy=bf16-autocast"):
        result = workshop.search(workshop.values(name))
        assert result.verdict == "numerics" and set(result.best.names) <= {name}


def test_noise_that_no_change_makes_is_unexplained(workshop):
    logits = workshop.values()
    noise = np.random.default_rng(0).normal(size=logits.shape) * logits.std() / 2
    result = workshop.search(logits + noise)
    assert (result.verdict, result.best.names) == ("unexplained", ())
    assert "Unexplained" in result.sentence


def test_the_notes_chosen_are_long_and_short(workshop):
    rows = workshop.shared.target.choose(12)
    lengths = [len(workshop.split.texts[row]) for row in range(len(workshop.split.texts))]
    chosen = [lengths[row] for row in rows]
    assert len(set(rows)) == 12
    assert min(chosen) <= np.percentile(lengths, 15) and max(chosen) >= np.percentile(lengths, 85)


def test_a_reference_over_other_notes_is_one_clear_line(workshop):
    stranger = replace(workshop.blank, document_ids=np.arange(len(workshop.split.texts)))
    with pytest.raises(ShifamindError, match="None of the 60 notes"):
        workshop.bench(stranger)


@pytest.mark.parametrize("text", ["", "f1=0.3", "macro_f1@0.5", "macro_f1@2=0.3", "tuned_macro_f1=1.3"])
def test_reported_scores_that_are_none_are_one_clear_line(text):
    with pytest.raises(ShifamindError):
        parse_reported(text)
