"""Reported scores: a definition of F1 that gives them to the last digit comes before any change to the pipeline."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shifamind_core.analysis.metric_definitions import definitions
from shifamind_core.analysis.reported_scores import ReportedScores
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.precision.policy import POLICIES
from shifamind_core.replay.interventions import Scene, _tokenization
from shifamind_core.replay.recipe import Recipe
from shifamind_core.replay.reported import Bed, ScoreSearch
from shifamind_core.replay.runner import Bench
from simulation import planted
from simulation.builders import tiny_model

RUN = planted.synthetic_run(1500, seed=6)
BASE = Recipe(Tokenization(True), POLICIES["fp32"])
STEPS = _tokenization(Scene(tiny_model(), torch.device("cpu")))[:3]
NAMES = ("macro_f1@0.5", "micro_f1@0.5")
DEFINED = {one.name: one for one in definitions(RUN.logits, RUN.labels, NAMES)}


class Scores(Bench):
    """Stands where a model would: scores of the recipe as it is, and others for every change; keeps what is asked for."""

    def __init__(self) -> None:
        self.asked: list[Recipe] = []
        self.tell = lambda message, done, total: None

    def values(self, recipe: Recipe, rows: np.ndarray, draws: int = 1) -> np.ndarray:
        self.asked.append(recipe)
        logits = RUN.logits.astype(np.float64)
        return (logits if recipe == BASE else 0.8 * logits + 0.5)[rows][None]


def searched(reported: dict[str, float], notes: int | None = None) -> tuple[dict, Scores]:
    bench = Scores()
    beds = {None: {"test": Bed(RUN, bench)}}
    return ScoreSearch(beds, BASE, STEPS, ReportedScores(reported), notes).run(), bench


def rounded(name: str) -> dict[str, float]:
    return {score: round(value, 4) for score, value in DEFINED[name].values.items()}


@pytest.mark.parametrize("name", ["f1_of_means", "on_logits", "weighted", "top_5", "threshold_0.3"])
def test_a_definition_that_gives_every_digit_is_the_answer_and_nothing_else_is_tried(name: str) -> None:
    result, bench = searched(rounded(name))
    assert result["best"]["interventions"] == [f"metric={name}"] and result["best"]["explained"] == 1
    assert result["best"]["scores"] == DEFINED[name].values
    assert [trial["interventions"] for trial in result["trials"]] == [[f"metric={name}"], []]
    assert "definitions were tried" in result["sentence"] and set(bench.asked) == {BASE}


def test_the_usual_definition_needs_no_name() -> None:
    result, _ = searched(rounded("usual"))
    assert result["best"]["interventions"] == [] and len(result["trials"]) > 2


def test_an_accident_is_a_remark_and_the_pipeline_is_tried() -> None:
    one = {NAMES[1]: rounded("threshold_0.37")[NAMES[1]]}
    result, bench = searched(one)
    assert not any("metric=" in name for trial in result["trials"] for name in trial["interventions"])
    assert any("metric=" in remark and "accident" in remark for remark in result["remarks"])
    assert len(set(bench.asked)) > 1


def test_a_part_of_the_split_proves_no_definition() -> None:
    result, _ = searched(rounded("f1_of_means"), notes=1000)
    assert not any("metric=" in name for name in result["best"]["interventions"])


def test_scores_of_a_changed_pipeline_are_the_change() -> None:
    changed = replace(RUN, logits=(0.8 * RUN.logits + 0.5).astype(np.float32))
    usual = next(iter(definitions(changed.logits, changed.labels, NAMES)))
    result, _ = searched({score: round(value, 4) for score, value in usual.values.items()})
    assert len(result["best"]["interventions"]) == 1 and "metric=" not in result["best"]["interventions"][0]
