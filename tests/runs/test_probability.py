"""Probabilities back to logits: near, and on the same side of every threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from shifamind_core.analysis.thresholds import CLEAN_GRID, SEED_GRID
from shifamind_core.arrays import probabilities as sigmoid
from shifamind_core.runs.probability import BLOCK, THRESHOLDS, logits_of
from tests.support.strategies import probability_values

OTHER_GRID = np.arange(0.05, 0.61, 0.01)
GRIDS = np.concatenate([SEED_GRID, CLEAN_GRID, OTHER_GRID])


def decisions(scores):
    """The strict rule at every threshold of the three grids."""
    return scores.astype(np.float64)[..., None] > GRIDS


def test_every_grid_threshold_is_among_those_kept():
    assert set(GRIDS) <= set(THRESHOLDS)


@given(st.lists(probability_values, min_size=1, max_size=60))
def test_no_decision_changes_for_float32_probabilities(values):
    given_scores = np.array(values, np.float32)[None]
    logits, _ = logits_of(given_scores)
    assert logits.dtype == np.float32 and np.isfinite(logits).all()
    assert np.array_equal(decisions(sigmoid(logits)), decisions(given_scores))


def test_no_decision_changes_on_any_threshold_or_beside_it():
    nearest = THRESHOLDS.astype(np.float32)
    beside = [np.nextafter(nearest, np.float32(end)) for end in (0, 1)]
    scores = np.concatenate([nearest, *beside])[None]
    logits, note = logits_of(scores)
    back = sigmoid(logits).astype(np.float64)[..., None]
    assert np.array_equal(back > THRESHOLDS, scores.astype(np.float64)[..., None] > THRESHOLDS)
    assert note == "Probabilities were turned back into logits."


def test_rounded_probabilities_keep_their_decisions():
    """On these, log p − log(1 − p) alone turns one decision in twenty."""
    scores = (np.random.default_rng(0).integers(1, 100, (500, 50)) / 100).astype(np.float32)
    wide = scores.astype(np.float64)
    plain = (np.log(wide) - np.log1p(-wide)).astype(np.float32)
    assert (decisions(sigmoid(plain)) != decisions(scores)).any(axis=-1).mean() > 0.02
    assert np.array_equal(decisions(sigmoid(logits_of(scores)[0])), decisions(scores))


def test_what_a_sigmoid_made_is_met_exactly():
    logits = np.random.default_rng(1).normal(-3, 3, (2000, 50)).astype(np.float32)
    back, _ = logits_of(expit(logits))
    assert np.array_equal(expit(back), expit(logits))
    inside = np.abs(logits) < 5
    assert np.abs(back - logits)[inside].max() < 2e-5


@given(st.lists(st.floats(2**-100, 1, width=32, exclude_max=True), min_size=1, max_size=40))
def test_any_float32_probability_is_met_within_a_few_units(values):
    scores = np.array(values, np.float32)[None]
    back = sigmoid(logits_of(scores)[0])
    # A float32 logit of −64 to −128 is 7.6e-6 wide, and so is the relative step of its sigmoid.
    assert np.allclose(back, scores, rtol=8e-6, atol=0)
    likely = scores >= 0.001
    assert np.allclose(back[likely], scores[likely], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("dtype", "lowest", "highest"),
    [(np.float16, -16.7, 7.7), (np.float32, -103.3, 16.7), (np.float64, -744.5, 36.8)],
)
def test_saturated_probabilities_get_the_nearest_finite_logit(dtype, lowest, highest):
    logits, note = logits_of(np.array([[0, 1, 0.5]], dtype))
    assert logits.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert lowest - 0.1 < logits[0, 0] < lowest + 0.2 and highest - 0.2 < logits[0, 1] < highest + 0.1
    assert logits[0, 2] == 0 and "2 were exactly 0 or 1" in note


def test_double_probabilities_between_two_names_of_one_threshold_are_counted():
    """0.15 is two doubles in the grids; no FP32 score lies between them."""
    scores = np.array([[np.nextafter(0.15, 0), 0.15, 0.4]])
    logits, note = logits_of(scores)
    turned = (decisions(sigmoid(logits)) != decisions(scores)).any(axis=-1)
    assert f"{int(turned.sum())} lie so close to a threshold" in note


def test_blocks_and_ties_do_not_show():
    scores = expit(np.random.default_rng(2).normal(size=(BLOCK // 50 + 7, 60)).astype(np.float32)).round(3)
    logits, _ = logits_of(scores)
    few = logits_of(scores[-3:])[0]
    assert logits.shape == scores.shape and np.array_equal(logits[-3:], few)


def test_nan_stays_nan():
    logits, _ = logits_of(np.array([[np.nan, 0.5]], np.float32))
    assert np.isnan(logits[0, 0]) and logits[0, 1] == 0
