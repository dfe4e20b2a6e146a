import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shifamind_core.analysis.counts import counts_at_thresholds, counts_of_decisions
from shifamind_core.analysis.thresholds import (
    CLEAN_GRID,
    SEED_GRID,
    ThresholdCurve,
    _most_probable_by_logit,
    evaluate,
    evaluation_json,
    labels_per_note,
    plateau,
    score,
    threshold_curve,
    top_k_counts,
    tune,
)
from shifamind_core.arrays import probabilities
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run
from tests.support import oracles, strategies


def synthetic_run(seed, documents=400, codes=8, name="test"):
    rng = np.random.default_rng(seed)
    labels = (rng.random((documents, codes)) < rng.uniform(0.02, 0.4, codes)).astype(np.uint8)
    logits = (rng.normal(-2, 1.5, labels.shape) + 2 * labels).astype(np.float32)
    return Run(logits, name=name, codes=tuple(f"C{i}" for i in range(codes)), labels=labels)


def test_the_seed_grid_is_the_seeds_to_the_last_bit():
    assert np.array_equal(SEED_GRID, np.arange(0.1, 0.9, 0.01))
    assert len(SEED_GRID) == 80
    assert SEED_GRID[40] == 0.4999999999999998
    assert 0.9 not in SEED_GRID


def test_every_clean_threshold_is_the_nearest_double_to_its_decimals():
    assert CLEAN_GRID.tolist() == [float(f"0.{i}") for i in range(10, 90)]


@settings(max_examples=8)
@given(strategies.scored())
def test_tuning_is_the_seeds_own_loop(case):
    scores, labels = case
    threshold, best = oracles.seed_tune_threshold(scores, labels) if labels.shape[1] > 1 else (None, None)
    if threshold is None:
        return  # scikit-learn takes a single column for a binary problem
    tuned = tune(ThresholdCurve("v", counts_at_thresholds(scores, labels, SEED_GRID)))
    assert tuned.threshold == threshold
    assert tuned.micro_f1 == best


def test_tuning_a_run_without_a_true_code_keeps_one_half():
    run = Run(np.zeros((3, 2), np.float32), labels=np.zeros((3, 2), np.uint8))
    tuned = tune(threshold_curve(run))
    assert (tuned.threshold, tuned.micro_f1, tuned.plateau.count) == (0.5, 0.0, 80)


@given(strategies.scored(), st.sampled_from([0.0, 0.001, 0.2]))
def test_the_plateau_holds_exactly_what_lies_within_the_tolerance(case, tolerance):
    curve = ThresholdCurve("v", counts_at_thresholds(*case, SEED_GRID))
    found = plateau(curve, tolerance)
    inside = curve.micro_f1 >= curve.micro_f1.max() - tolerance
    assert list(found.thresholds) == SEED_GRID[inside].tolist()
    assert tune(curve).threshold in (*found.thresholds, 0.5)
    first, last = np.flatnonzero(inside)[[0, -1]]
    assert found.contiguous == inside[first : last + 1].all()
    assert (found.lowest, found.highest, found.count) == (SEED_GRID[first], SEED_GRID[last], inside.sum())


@given(strategies.scored(), st.integers(0, 6))
def test_top_k_is_the_public_scripts_loop(case, k):
    scores, labels = case
    k = min(k, scores.shape[1])
    expected = counts_of_decisions(oracles.top_k_decisions(scores, k), labels)
    found = top_k_counts(scores, labels, k)
    assert np.array_equal(found.true_positives, expected.true_positives)
    assert np.array_equal(found.predicted_positives, expected.predicted_positives)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale, offset", [(2, -3), (0.0005, -1), (0.002, 4.5), (5, 20), (9, -100)])
def test_the_k_most_probable_by_logit_are_those_by_probability(dtype, scale, offset):
    """Logits that are clear, that are nearly level, and that are level in FP32 after the sigmoid."""
    logits = (np.random.default_rng(0).normal(size=(200, 9)) * scale + offset).astype(dtype)
    for k in (0, 1, 4, 9):
        assert np.array_equal(
            _most_probable_by_logit(logits, k), oracles.top_k_decisions(probabilities(logits), k)
        )


def test_k_is_the_rounded_mean_number_of_labels():
    assert labels_per_note(np.array([[1, 1, 1], [1, 1, 0]], np.uint8)) == 2  # 2.5 rounds to even
    assert labels_per_note(np.array([[1, 1, 1], [1, 0, 0], [1, 1, 1]], np.uint8)) == 2  # 7/3


def test_evaluation_equals_the_seeds_protocol_written_out():
    test, validation = synthetic_run(1), synthetic_run(2, name="validation")
    document = json.loads(json.dumps(evaluation_json(evaluate(test, validation))))
    probability = probabilities(test.logits)
    threshold, best = oracles.seed_tune_threshold(probabilities(validation.logits), validation.labels)

    def both(predicted):
        return {f"{kind}_f1": oracles.sklearn_f1(test.labels, predicted, kind) for kind in ("macro", "micro")}

    assert document["fixed"] == {"threshold": 0.5, **both(probability > 0.5)}
    plateau_found = document["tuned"].pop("plateau")
    assert document["tuned"] == {
        "threshold": threshold,
        "validation_micro_f1": best,
        **both(probability > threshold),
    }
    assert threshold in plateau_found
    k = round(test.labels.sum(axis=1).mean())
    assert document["top_k"] == {"k": k, **both(oracles.top_k_decisions(probability, k))}
    assert [row["code"] for row in document["per_code"]] == list(test.codes)
    assert [row["f1"] for row in document["per_code"]] == oracles.sklearn_f1(
        test.labels, probability > 0.5, None
    ).tolist()
    assert [row["support"] for row in document["per_code"]] == test.labels.sum(axis=0).tolist()
    assert set(document["per_code"][0]) == {"code", "support", "precision", "recall", "f1"}


def test_nothing_is_tuned_without_a_validation_run():
    evaluation = evaluate(synthetic_run(1))
    assert evaluation.tuned is None
    assert evaluation_json(evaluation)["tuned"] is None


def test_the_two_grids_are_named():
    run, validation = synthetic_run(1), synthetic_run(2)
    assert evaluate(run, validation, "clean").tuned_threshold.threshold in CLEAN_GRID
    assert evaluate(run, validation, "seed").tuned_threshold.threshold in SEED_GRID


def test_a_run_without_labels_is_refused():
    with pytest.raises(ShifamindError, match="has no labels"):
        evaluate(replace(synthetic_run(1), labels=None))


def test_labels_other_than_0_and_1_are_refused_with_their_place():
    run = synthetic_run(1)
    labels = run.labels.copy()
    labels[3, 2] = 2
    with pytest.raises(ShifamindError, match="note 3, code C2 is 2; expected 0 or 1"):
        evaluate(replace(run, labels=labels))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused_with_their_number_and_place(bad):
    run = synthetic_run(1)
    logits = run.logits.copy()
    logits[5, 1] = logits[7, 0] = bad
    broken = replace(run, logits=logits)
    with pytest.raises(ShifamindError, match=r"2 of 3,200 logits are not finite, first at note 5, code C1"):
        evaluate(broken)
    with pytest.raises(ShifamindError, match="not finite"):
        evaluate(run, broken)


def test_validation_over_other_codes_is_refused():
    run = synthetic_run(1)
    other = replace(synthetic_run(2, name="validation"), codes=(*run.codes[:-1], "Z9"))
    with pytest.raises(ShifamindError, match=r"2 codes are in one of them only, e.g. 'C7'"):
        evaluate(run, other)
    with pytest.raises(ShifamindError, match="it has 7 codes, not 8"):
        evaluate(replace(run, codes=None), synthetic_run(2, codes=7, name="validation"))


@given(strategies.scored())
def test_a_score_is_its_curve_at_that_threshold(case):
    curve = ThresholdCurve("v", counts_at_thresholds(*case, CLEAN_GRID))
    at = score(curve.counts.at(30))
    assert (at.macro_f1, at.micro_f1) == (curve.macro_f1[30], curve.micro_f1[30])
    assert at.macro_f1_of_means == curve.macro_f1_of_means[30]
    total = curve.micro_precision[30] + curve.micro_recall[30]
    harmonic = 2 * curve.micro_precision[30] * curve.micro_recall[30] / total if total else 0.0
    assert at.micro_f1 == pytest.approx(harmonic)
