"""Features of a difference: what they must not depend on, and what they must tell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from shifamind_core.diagnosis.evidence.features import FEATURES, NAMES, measure
from shifamind_core.diagnosis.evidence.measured import SAMPLE
from shifamind_core.diagnosis.evidence.shapes import spearman

NOTES, CODES = 240, 12
# Sums of floating-point numbers in another order differ in the last digits; a fit chosen among neighbours may then
# choose another, so that what rests on neighbours is compared less strictly.
CLOSE = {"smooth": 0.02, "alike": 0.02}


def logits(seed: int, notes: int = NOTES, codes: int = CODES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((notes, 8)) * np.geomspace(3, 0.3, 8)
    return hidden @ rng.standard_normal((8, codes)) + 0.2 * rng.standard_normal((notes, codes)) - 1


def changed(reference: np.ndarray, seed: int, size: float) -> np.ndarray:
    """A difference with something of everything: noise, a law, a shift."""
    rng = np.random.default_rng([seed, 1])
    codes = reference.shape[1]
    law = reference @ (0.1 * rng.standard_normal((codes, codes)))
    return reference + size * (law + 0.5 * rng.standard_normal(reference.shape) + rng.standard_normal(codes))


def assert_same(found: dict[str, float], expected: dict[str, float]) -> None:
    for name in NAMES:
        assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=CLOSE.get(name, 1e-3)), name


pairs = st.tuples(st.integers(0, 10_000), st.sampled_from([1e-5, 1e-2, 0.3, 2.0]))


@settings(max_examples=15, deadline=None)
@given(pairs)
def test_the_order_of_notes_does_not_matter(pair: tuple[int, float]) -> None:
    reference = logits(pair[0])
    candidate = changed(reference, *pair)
    counts = np.random.default_rng(pair[0]).integers(10, 300, NOTES)
    rows = np.random.default_rng(pair[0]).permutation(NOTES)
    assert_same(
        measure(candidate[rows], reference[rows], counts[rows]), measure(candidate, reference, counts)
    )


@settings(max_examples=15, deadline=None)
@given(pairs)
def test_the_order_of_codes_does_not_matter(pair: tuple[int, float]) -> None:
    reference = logits(pair[0])
    candidate = changed(reference, *pair)
    columns = np.random.default_rng(pair[0]).permutation(CODES)
    assert_same(measure(candidate[:, columns], reference[:, columns]), measure(candidate, reference))


@settings(max_examples=15, deadline=None)
@given(pairs, st.sampled_from([0.25, 2.0, 1024.0]), st.floats(-3, 3))
def test_one_factor_and_one_shift_of_both_runs_do_not_matter(
    pair: tuple[int, float], factor: float, shift: float
) -> None:
    reference = logits(pair[0])
    candidate = changed(reference, *pair)
    assert_same(
        measure(factor * candidate + shift, factor * reference + shift), measure(candidate, reference)
    )


@settings(max_examples=15, deadline=None)
@given(pairs)
def test_it_does_not_matter_which_run_is_the_candidate(pair: tuple[int, float]) -> None:
    reference = logits(pair[0])
    candidate = changed(reference, *pair)
    assert_same(measure(reference, candidate), measure(candidate, reference))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(2, 40),
    st.integers(1, 6),
    st.sampled_from(["equal", "constant", "one cell", "one note", "huge", "unrelated"]),
)
def test_every_feature_is_finite_and_within_its_range(seed: int, notes: int, codes: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((notes, codes))
    candidate = reference.copy()
    if kind == "constant":
        reference[:], candidate[:] = 1.0, 2.0
    elif kind == "one cell":
        candidate[0, 0] += 1
    elif kind == "one note":
        candidate[0] += 1e-3
    elif kind == "huge":
        candidate *= 1e30
    elif kind == "unrelated":
        candidate = rng.standard_normal((notes, codes))
    found = measure(candidate, reference, rng.integers(3, 9, notes))
    for feature in FEATURES:
        assert feature.low <= found[feature.name] <= feature.high, feature.name


def test_features_have_names_and_say_what_they_mean() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(feature.meaning.endswith(".") and feature.low < feature.high for feature in FEATURES)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=40), st.integers(0, 100))
def test_rank_correlation_is_spearmans_with_ties(values: list[int], seed: int) -> None:
    x = np.array(values)
    y = np.random.default_rng(seed).integers(0, 4, len(x))
    expected = spearmanr(x, y).statistic if np.ptp(x) and np.ptp(y) else 0.0
    assert spearman(x, y) == pytest.approx(expected, abs=1e-9)


def test_added_noise_adds_to_the_spread_and_is_no_law() -> None:
    reference = logits(3, 2000)
    noise = np.random.default_rng(4).standard_normal(reference.shape) * reference.std(axis=0)
    found = measure(reference + 0.3 * noise, reference)
    assert 10 ** found["size"] == pytest.approx(0.3, rel=0.05)
    assert found["added"] == pytest.approx(1, abs=0.15)
    assert found["predicted"] < 0.02 and found["smooth"] < 0.02 and found["alike"] < 0.02


@pytest.mark.parametrize(
    ("fault", "feature"),
    [
        ("note", "farthest_note"),
        ("noise", "farthest_code"),
        ("shift", "farthest_shift"),
        ("factor", "farthest_slope"),
    ],
)
def test_the_one_note_or_code_that_is_unlike_the_others_stands_out_of_noise(fault: str, feature: str) -> None:
    reference = logits(5, 600)
    rng = np.random.default_rng(6)
    noisy = reference + 0.01 * rng.standard_normal(reference.shape) * reference.std(axis=0)
    candidate = noisy.copy()
    spread = reference[:, 3].std()
    if fault == "note":
        candidate[17] += rng.standard_normal(reference.shape[1])
    elif fault == "noise":
        candidate[:, 3] += 0.1 * spread * rng.standard_normal(len(candidate))
    elif fault == "shift":
        candidate[:, 3] += 0.01 * spread
    else:
        candidate[:, 3] = 1.01 * (candidate[:, 3] - candidate[:, 3].mean()) + candidate[:, 3].mean()
    assert measure(candidate, reference)[feature] > measure(noisy, reference)[feature] + 0.4


def test_another_law_is_predicted_by_other_codes() -> None:
    reference = logits(3, 2000)
    mixing = np.eye(CODES) + 0.05 * np.random.default_rng(5).standard_normal((CODES, CODES))
    found = measure(reference @ mixing, reference)
    assert found["predicted"] > 1 and found["smooth"] > 0.3


def test_a_map_of_every_code_is_undone() -> None:
    reference = logits(3)
    slopes, shifts = np.random.default_rng(6).uniform(0.5, 2, (2, CODES))
    assert measure(reference * slopes + shifts, reference)["affine"] > 5


def test_unrelated_notes_are_not_linked_but_codes_go_together_alike() -> None:
    reference = logits(3, 2000)
    found = measure(np.roll(reference, 700, axis=0), reference)
    assert abs(found["correlation"]) < 0.1 and abs(found["own_row"] - 0.5) < 0.05
    assert found["structure"] > 0.95 and found["population"] < -6


def test_a_limit_that_decides_who_changed_is_seen() -> None:
    reference = logits(3)
    counts = np.random.default_rng(7).integers(10, 300, NOTES)
    longer = counts > 200
    candidate = reference + np.where(longer[:, None], 0.3, 1e-6) * logits(8)
    found = measure(candidate, reference, counts)
    assert found["longer"] > 0.9 and found["shorter"] < 0.1
    assert found["notes_still"] == pytest.approx(1 - longer.mean(), abs=0.02)
    without = measure(candidate, reference)
    assert without["tokens_known"] == without["longer"] == without["length_rank"] == 0


def test_half_precision_lies_on_a_grid() -> None:
    reference = logits(3)
    half = reference.astype(np.float16).astype(np.float64)
    assert measure(half, reference)["grid"] == 1 and measure(reference + 1e-3, reference)["grid"] == 0


def test_of_many_notes_the_same_ones_are_asked_in_any_order() -> None:
    reference = logits(9, SAMPLE + 500, 4)
    candidate = changed(reference, 9, 0.1)
    rows = np.random.default_rng(1).permutation(len(reference))
    assert_same(measure(candidate[rows], reference[rows]), measure(candidate, reference))
