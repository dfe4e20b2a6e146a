from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shifamind_core.analysis import gap_split
from shifamind_core.analysis.alignment import align
from shifamind_core.analysis.gap_split import matching_map, split_gap
from shifamind_core.analysis.thresholds import evaluate, threshold_curve, tune
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run
from tests.support import strategies

PARTS = ("labels", "threshold", "run_calibration", "code_calibration", "ranking")


def reference_run(documents=2000, codes=8):
    rng = np.random.default_rng(7)
    labels = (rng.random((documents, codes)) < rng.uniform(0.05, 0.4, codes)).astype(np.uint8)
    logits = rng.normal(-1.5, 1, labels.shape) + 1.5 * labels
    return Run(logits, name="reference", labels=labels)


def split(candidate, reference, *thresholds, draws=50):
    return split_gap(align(candidate, reference), *thresholds, draws=draws)


def values(parts):
    return {name: part.value for name, part in parts.parts.items()}


@settings(max_examples=30)
@given(strategies.run_pairs(), st.sampled_from([0.25, 0.5]), st.sampled_from([0.25, 0.5]))
def test_the_parts_sum_to_the_gap(pair, threshold, other):
    candidate, reference = pair
    found = split(candidate, reference, threshold, other, draws=5)
    for kind, parts in (("macro_f1", found.macro_f1), ("micro_f1", found.micro_f1)):
        scored = [
            getattr(evaluate(run).fixed, kind) if t == 0.5 else None
            for run, t in ((candidate, threshold), (reference, other))
        ]
        if None not in scored:
            assert parts.gap.value == scored[0] - scored[1]
        assert sum(values(parts).values()) == pytest.approx(parts.gap.value, abs=1e-12)
        assert tuple(values(parts)) == PARTS


@given(strategies.runs())
@settings(max_examples=20)
def test_identical_runs_have_no_gap_and_no_part(run):
    found = split(run, run, draws=5)
    for parts in (found.macro_f1, found.micro_f1):
        assert set(values(parts).values()) == {0}
        assert (parts.gap.low, parts.gap.value, parts.gap.high) == (0, 0, 0)
    assert (found.slope, found.offset) == (1, 0)


@pytest.mark.parametrize(("slope", "offset"), [(1, -0.4), (1, 0.7), (0.5, -0.3), (1.5, -1.0)])
def test_one_affine_change_of_all_logits_is_all_run_calibration(slope, offset):
    reference = reference_run()
    candidate = replace(reference, logits=reference.logits * slope + offset)
    found = split(candidate, reference)
    for parts in (found.macro_f1, found.micro_f1):
        assert abs(parts.gap.value) > 0.01
        assert parts.run_calibration.value == pytest.approx(parts.gap.value, abs=1e-12)
        assert parts.ranking.value == parts.code_calibration.value == parts.threshold.value == 0
        assert parts.run_calibration.low * parts.run_calibration.high > 0  # the interval excludes zero
    assert found.slope == pytest.approx(1 / slope)
    assert found.offset == pytest.approx(-offset / slope)


def test_an_affine_change_per_code_is_all_calibration():
    reference = reference_run()
    offsets = np.linspace(-1, 1, 8)
    found = split(replace(reference, logits=reference.logits + offsets), reference)
    for parts in (found.macro_f1, found.micro_f1):
        calibration = parts.run_calibration.value + parts.code_calibration.value
        assert calibration == pytest.approx(parts.gap.value, abs=1e-12)
        assert parts.ranking.value == 0
    assert found.code_offsets == pytest.approx(-offsets)


def test_a_shuffled_ranking_is_all_ranking():
    reference = reference_run()
    shuffled = np.random.default_rng(0).permuted(reference.logits, axis=0)
    found = split(replace(reference, logits=shuffled), reference)
    for parts in (found.macro_f1, found.micro_f1):
        assert parts.gap.value < -0.1
        assert parts.ranking.value == pytest.approx(parts.gap.value, abs=1e-12)
        assert parts.ranking.high < 0


def test_another_threshold_on_the_same_logits_is_all_threshold():
    run = reference_run()
    found = split(run, run, 0.5, 0.3)
    for parts in (found.macro_f1, found.micro_f1):
        assert parts.threshold.value == parts.gap.value != 0


def test_a_shift_that_tuning_makes_up_for_cancels_against_the_threshold():
    reference = reference_run()
    candidate = replace(reference, logits=reference.logits - 0.5)
    tuned = [tune(threshold_curve(run)).threshold for run in (candidate, reference)]
    parts = split(candidate, reference, *tuned).micro_f1
    assert abs(parts.gap.value) < 0.005
    assert parts.threshold.value > 0.01
    assert parts.run_calibration.value < -0.01
    assert parts.ranking.value == 0


def test_conflicting_labels_are_a_part_of_their_own():
    reference = reference_run()
    labels = reference.labels.copy()
    labels[:200] = 1 - labels[:200]
    parts = split(replace(reference, labels=labels), reference).macro_f1
    assert parts.labels.value == parts.gap.value != 0


def test_logits_that_do_not_vary_are_shifted_only():
    slope, offset = matching_map(np.array([[1.0, 0.0], [1.0, 2.0]]), np.array([[0.0, 0.0], [4.0, 1.0]]))
    assert slope.tolist() == [1.0, 0.5]
    assert offset.tolist() == [1.0, 0.0]


def test_what_cannot_be_scored_cannot_be_split():
    run = reference_run()
    with pytest.raises(ShifamindError, match="not finite"):
        split(replace(run, logits=np.full_like(run.logits, np.nan)), run)
    with pytest.raises(ShifamindError, match="has no labels"):
        split(replace(run, labels=None), replace(run, labels=None))


def test_a_large_pair_is_split_on_a_part_of_its_notes_and_says_so(monkeypatch):
    reference = reference_run()
    candidate = replace(reference, logits=reference.logits + 0.3)
    part = [run.select(np.arange(0, 2000, 4)) for run in (candidate, reference)]
    expected = split(*part)
    monkeypatch.setattr(gap_split, "MOST_CELLS", 2000 * 8 // 4)
    found = split(candidate, reference)
    assert found.looked_at.startswith("Of 500 of 2,000 notes") and not expected.looked_at
    assert (found.macro_f1, found.micro_f1) == (expected.macro_f1, expected.micro_f1)
