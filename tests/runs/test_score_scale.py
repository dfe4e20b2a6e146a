"""What scale foreign scores are on, and what is said of it (case 45)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from shifamind_core.analysis.comparison import compare
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.runs.score_scale import probabilities, unnamed
from shifamind_core.runs.uploads import read_upload
from tests.support import foreign
from tests.support.foreign import CODES, LABELS, LOGITS, PROBABILITIES, csv, npy, npz, table
from tests.support.refused import refused


def noted(run, *words):
    return any(all(word in note for word in words) for note in run.manifest.notes)


PERCENT = PROBABILITIES * 100
FILES = {
    "table.csv": csv(table(PERCENT)),
    "named.csv": csv(table(PERCENT, [f"{code}_prob" for code in CODES])),
    "percent.csv": csv(table(PERCENT, [f"{code}_percent" for code in CODES])),
    "rounded.csv": csv(table(PERCENT.round(2))),
    "a.npy": npy(PERCENT),
    "a.npz": npz(probabilities=PERCENT, codes=np.array(CODES)),
    "a.parquet": foreign.written(table(PERCENT).to_parquet),
}


@pytest.mark.parametrize("name", FILES)
def test_case_45_percentages_are_divided_by_100_and_said_to_be(name):
    run = read_upload(name, FILES[name])
    assert np.allclose(expit(run.logits), PROBABILITIES, atol=1e-4)
    assert noted(run, "percentages", "divided by 100") and run.manifest.logits_from_probabilities


def test_case_45_percentages_compare_as_the_probabilities_they_are():
    found = compare(read_upload("a.csv", FILES["table.csv"]), foreign.whole())
    assert found.decisions_flipped == 0 and any("divided by 100" in remark for remark in found.remarks)


@pytest.mark.parametrize("largest", [1.01, 1.5, 101.0, 1e6])
def test_named_probabilities_beyond_1_that_are_no_percentages_are_refused(largest):
    values = PROBABILITIES.copy()
    values[7, 3] = largest
    with refused("lie outside [0, 1], the first at note 7, code 3"):
        read_upload("a.npz", npz(probabilities=values))
    with refused("lie outside [0, 1]"):
        read_upload("a.csv", csv(table(values, [f"prob_{code}" for code in CODES])))


def test_negative_values_under_the_name_of_probabilities_or_percentages_are_refused():
    for name in ("prob", "percent"):
        with refused("outside"):
            read_upload("a.csv", csv(table(LOGITS, [f"{code}_{name}" for code in CODES])))


@given(st.floats(0, 1e-6), st.sampled_from([np.float32, np.float64]))
def test_what_rounding_puts_outside_is_taken_back_and_counted(beyond, dtype):
    values = PROBABILITIES.astype(dtype)
    values[0, 0], values[1, 1] = dtype(1) + dtype(beyond) / 2, -dtype(beyond) / 2
    run = read_upload("a.npz", npz(probabilities=values))
    outside = int((values > 1).sum() + (values < 0).sum())
    assert np.isfinite(run.logits).all()
    assert noted(run, f"{outside:,} were outside [0, 1] by rounding") == (outside > 0)


def test_probabilities_that_are_all_0_or_1_are_decisions():
    with refused("nothing but 0 and 1"):
        read_upload("a.npz", npz(probabilities=LABELS.astype(np.float32)))
    with refused("nothing but 0 and 1"):
        read_upload("a.npy", npy(100 * LABELS.astype(np.float32)))


def test_a_softmax_over_the_codes_is_said_to_be_one():
    exponentials = np.exp(LOGITS.astype(np.float64))
    softmax = exponentials / exponentials.sum(axis=1, keepdims=True)
    assert noted(read_upload("a.npy", npy(softmax)), "softmax over the codes")
    assert not noted(read_upload("a.npy", npy(PROBABILITIES)), "softmax")


@pytest.mark.parametrize(
    ("values", "like"),
    [(PERCENT, "percentages"), (PROBABILITIES, "probabilities"), (PERCENT * 9, "no logits")],
)
def test_what_is_named_logits_and_has_nothing_below_0_is_said_wherever_it_is_scored(values, like):
    """The name is believed; the result says what stands under it."""
    run = read_upload("a.npz", npz(logits=values, labels=LABELS, codes=np.array(CODES)))
    assert np.array_equal(run.logits, values)
    for remarks in (evaluate(run).remarks, compare(run, foreign.whole(document_ids=None)).remarks):
        assert any("No logit is below 0" in remark and like in remark for remark in remarks)


def test_sound_logits_have_nothing_said_of_them():
    run = read_upload("a.npz", npz(logits=LOGITS, labels=LABELS, codes=np.array(CODES)))
    assert evaluate(run).remarks == run.manifest.notes == ()


@pytest.mark.parametrize("read", [unnamed, probabilities])
def test_minus_one_among_probabilities_is_a_missing_score(read):
    scores = np.array([[0.2, -1.0], [0.9, 0.5], [np.nan, 0.1]])
    logits, notes = read("a.csv", scores)
    assert np.isnan(logits).tolist() == [[False, True], [False, False], [True, False]]
    assert any("1 scores are -1" in note and "missing" in note for note in notes)
    np.testing.assert_array_equal(logits[1], read("a.csv", np.array([[0.9, 0.5], [0.1, 0.2]]))[0][0])


def test_minus_one_among_logits_is_a_logit():
    scores = np.array([[-1.0, 0.3], [2.0, -0.5]])
    assert unnamed("a.csv", scores)[0] is scores
