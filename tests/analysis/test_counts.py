import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.analysis.counts import (
    Bins,
    counts_at_thresholds,
    counts_of_decisions,
    counts_of_logits,
    decisions,
    float32_below,
    true_positives,
)
from shifamind_core.analysis.thresholds import CLEAN_GRID, SEED_GRID
from shifamind_core.arrays import probabilities
from shifamind_core.errors import ShifamindError
from tests.support import oracles, strategies

GRIDS = st.sampled_from(
    [SEED_GRID, CLEAN_GRID, SEED_GRID[::-1], np.array([0.5]), np.array([0.0, 1.0, 0.5, 0.5])]
)
THRESHOLDS = st.lists(st.floats(0, 1), min_size=1, max_size=12).map(lambda t: np.array(t, np.float64))


@given(strategies.scored(), st.one_of(GRIDS, THRESHOLDS))
def test_counts_equal_the_comparison_written_out(case, thresholds):
    scores, labels = case
    counted = counts_at_thresholds(scores, labels, thresholds)
    for i, threshold in enumerate(thresholds):
        true_positives, predicted, support = oracles.counts(scores, labels, threshold)
        assert counted.true_positives[i].tolist() == true_positives.tolist()
        assert counted.predicted_positives[i].tolist() == predicted.tolist()
        assert counted.positives.tolist() == support.tolist()


@given(strategies.scored(), GRIDS)
def test_true_positives_and_false_negatives_are_the_support_at_every_threshold(case, grid):
    counted = counts_at_thresholds(*case, grid)
    assert (counted.true_positives + counted.false_negatives == counted.positives).all()
    assert (counted.true_positives + counted.false_positives == counted.predicted_positives).all()
    assert (counted.false_positives >= 0).all()
    assert (counted.false_negatives >= 0).all()


@given(strategies.scored(), st.randoms(use_true_random=False))
def test_the_order_of_notes_does_not_matter(case, random):
    scores, labels = case
    order = list(range(len(scores)))
    random.shuffle(order)
    counted, shuffled = (
        counts_at_thresholds(s, y, SEED_GRID) for s, y in ((scores, labels), (scores[order], labels[order]))
    )
    assert np.array_equal(counted.true_positives, shuffled.true_positives)
    assert np.array_equal(counted.predicted_positives, shuffled.predicted_positives)


@given(strategies.scored(), strategies.scored())
def test_counts_of_two_sets_of_notes_add_up(first, second):
    codes = min(first[0].shape[1], second[0].shape[1])
    (a, y), (b, z) = ((s[:, :codes], labels[:, :codes]) for s, labels in (first, second))
    together = counts_at_thresholds(np.vstack([a, b]), np.vstack([y, z]), SEED_GRID)
    added = counts_at_thresholds(a, y, SEED_GRID) + counts_at_thresholds(b, z, SEED_GRID)
    assert np.array_equal(together.true_positives, added.true_positives)
    assert np.array_equal(together.predicted_positives, added.predicted_positives)
    assert np.array_equal(together.positives, added.positives)
    assert together.documents == added.documents


@given(st.floats(0, 1), st.integers(-3, 3))
def test_comparing_with_the_fp32_number_below_is_comparing_with_the_double(threshold, ulps):
    below = float32_below(np.array([threshold]))[0]
    score = np.float32(threshold)
    for _ in range(abs(ulps)):
        score = np.nextafter(score, np.float32(np.sign(ulps) * np.inf))
    assert (score > below) == (np.float64(score) > threshold)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40).map(lambda s: np.array(s, np.float32)),
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40).map(sorted),
)
def test_table_bins_are_searchsorted_however_close_the_thresholds(scores, thresholds):
    assert Bins(np.array(thresholds)).of(scores).tolist() == np.searchsorted(thresholds, scores).tolist()


@pytest.mark.parametrize("grid", [SEED_GRID, np.linspace(0.4, 0.5, 5000)])
def test_a_nan_score_is_never_above_a_threshold(grid):
    scores = np.array([[np.nan, 0.99], [0.0, np.nan]], np.float32)
    counted = counts_at_thresholds(scores, np.ones((2, 2), np.uint8), grid)
    assert set(counted.predicted_positives[:, 0]) == {0}
    assert set(counted.predicted_positives[:, 1]) <= {0, 1}
    assert counted.positives.tolist() == [2, 2]


def test_many_blocks_count_like_one():
    rng = np.random.default_rng(3)
    scores = rng.random((30_000, 40), np.float32)
    labels = (rng.random(scores.shape) < 0.2).astype(np.uint8)
    counted = counts_at_thresholds(scores, labels, SEED_GRID)
    for i in (0, 17, 40, 79):
        true_positives, predicted, support = oracles.counts(scores, labels, SEED_GRID[i])
        assert np.array_equal(counted.true_positives[i], true_positives)
        assert np.array_equal(counted.predicted_positives[i], predicted)
        assert np.array_equal(counted.positives, support)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_counts_of_logits_are_counts_of_their_fp32_sigmoid(dtype):
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 3, (60_000, 40)).astype(dtype)
    labels = (rng.random(logits.shape) < 0.2).astype(np.uint8)
    streamed = counts_of_logits(logits, labels, SEED_GRID)
    whole = counts_at_thresholds(probabilities(logits), labels, SEED_GRID)
    assert np.array_equal(streamed.true_positives, whole.true_positives)
    assert np.array_equal(streamed.predicted_positives, whole.predicted_positives)
    assert streamed.documents == 60_000


@given(strategies.runs(), st.one_of(st.sampled_from(list(SEED_GRID)), st.floats(0, 1)))
def test_decisions_are_the_kernel_cell_by_cell(run, threshold):
    taken = decisions(run.logits, float(threshold))
    assert np.array_equal(taken, probabilities(run.logits) > np.float64(threshold))
    one_by_one = counts_of_decisions(taken, run.labels)
    kernel = counts_at_thresholds(probabilities(run.logits), run.labels, np.array([threshold]))
    few = counts_of_logits(run.logits, run.labels, np.array([threshold]))
    assert np.array_equal(few.true_positives, kernel.true_positives)
    assert np.array_equal(one_by_one.true_positives, kernel.true_positives)
    assert np.array_equal(one_by_one.predicted_positives, kernel.predicted_positives)
    assert np.array_equal(one_by_one.positives, kernel.positives)
    support, (right, same) = true_positives(run.labels, float(threshold), run.logits, run.logits)
    assert np.array_equal(right, kernel.true_positives[0]) and np.array_equal(right, same)
    assert np.array_equal(support, kernel.positives)


@pytest.mark.parametrize("thresholds", [[], [1.5], [-0.1], [0.5, float("nan")]])
def test_a_threshold_that_is_no_probability_is_refused(thresholds):
    with pytest.raises(ShifamindError, match=r"expected"):
        counts_at_thresholds(
            np.zeros((1, 1), np.float32), np.zeros((1, 1), np.uint8), np.array(thresholds, float)
        )


def test_counts_at_different_thresholds_do_not_add():
    case = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.uint8)
    with pytest.raises(ShifamindError, match="same grid"):
        _ = counts_at_thresholds(*case, SEED_GRID) + counts_at_thresholds(*case, CLEAN_GRID)


def test_the_counts_at_one_threshold_are_its_row():
    counted = counts_at_thresholds(
        np.array([[0.3], [0.7]], np.float32), np.array([[1], [1]], np.uint8), CLEAN_GRID
    )
    assert counted.at(0).true_positives.tolist() == [[2]]
    assert counted.at(-1).true_positives.tolist() == [[0]]
    assert counted.at(-1).thresholds.tolist() == [0.89]
