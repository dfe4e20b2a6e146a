import numpy as np
from hypothesis import given

from shifamind_core.analysis import scores
from shifamind_core.analysis.counts import counts_at_thresholds
from shifamind_core.analysis.thresholds import SEED_GRID
from tests.support import oracles, strategies


@given(strategies.scored())
def test_f1_equals_scikit_learn_to_the_last_bit(case):
    probability, labels = case
    chosen = SEED_GRID[[0, 15, 40, 79]]
    counted = counts_at_thresholds(probability, labels, chosen)
    for i, threshold in enumerate(chosen):
        predicted = probability > threshold
        assert scores.micro_f1(counted)[i] == oracles.sklearn_f1(labels, predicted, "micro")
        assert scores.macro_f1(counted)[i] == oracles.sklearn_f1(labels, predicted, "macro")
        assert scores.f1_per_code(counted)[i].tolist() == oracles.sklearn_f1(labels, predicted, None).tolist()


def test_f1_equals_scikit_learn_on_every_grid_threshold_of_a_larger_run():
    rng = np.random.default_rng(0)
    prevalence = rng.uniform(0.0, 0.3, 50)  # the sum of 50 numbers is where the order of addition shows
    labels = (rng.random((800, 50)) < prevalence).astype(np.uint8)
    probability = np.clip(rng.beta(1, 6, labels.shape) + 0.3 * labels, 0, 1).astype(np.float32)
    probability.flat[: 4 * len(strategies.PLANTED)] = np.resize(
        strategies.PLANTED, 4 * len(strategies.PLANTED)
    )
    counted = counts_at_thresholds(probability, labels, SEED_GRID)
    micro, macro, per_code = scores.micro_f1(counted), scores.macro_f1(counted), scores.f1_per_code(counted)
    for i, threshold in enumerate(SEED_GRID):
        predicted = probability > threshold
        assert micro[i] == oracles.sklearn_f1(labels, predicted, "micro")
        assert macro[i] == oracles.sklearn_f1(labels, predicted, "macro")
        assert np.array_equal(per_code[i], oracles.sklearn_f1(labels, predicted, None))


def test_the_three_macro_definitions_by_hand():
    # Two notes, three codes. Code 0: predicted on both, right on one: P 1/2, R 1, F1 2/3.
    # Code 1: present once, never predicted: 0. Code 2: neither predicted nor present: 0/0 = 0.
    probability = np.array([[0.9, 0.1, 0.1], [0.9, 0.1, 0.1]], np.float32)
    labels = np.array([[1, 1, 0], [0, 0, 0]], np.uint8)
    counted = counts_at_thresholds(probability, labels, np.array([0.5]))
    assert scores.f1_per_code(counted)[0].tolist() == [2 / 3, 0, 0]
    assert scores.macro_f1(counted)[0] == (2 / 3) / 3
    assert scores.macro_f1_with_support(counted)[0] == (2 / 3) / 2
    mean_precision, mean_recall = (1 / 2) / 3, 1 / 3
    expected = 2 * mean_precision * mean_recall / (mean_precision + mean_recall)
    assert scores.macro_f1_of_means(counted)[0] == expected
    assert scores.micro_f1(counted)[0] == 2 * 1 / (2 + 2)
    assert scores.micro_precision(counted)[0] == 1 / 2
    assert scores.micro_recall(counted)[0] == 1 / 2


def test_nothing_predicted_and_nothing_present_scores_zero():
    counted = counts_at_thresholds(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8), np.array([0.5]))
    for score in (scores.micro_f1, scores.macro_f1, scores.macro_f1_with_support, scores.macro_f1_of_means):
        assert score(counted).tolist() == [0.0]
