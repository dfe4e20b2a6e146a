import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shifamind_core.analysis import tuned_bound
from shifamind_core.analysis.certificate import sorted_margins
from shifamind_core.analysis.counts import decisions, float32_below
from shifamind_core.analysis.flip_bound import FlipBound, flip_bound
from shifamind_core.analysis.thresholds import SEED_GRID, evaluate
from shifamind_core.analysis.tuned_bound import TunedFlipBound
from shifamind_core.arrays import probabilities
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run
from tests.support import oracles, strategies

TINY_SHAPES = st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2), (3, 2), (2, 3), (6, 1)])
# 0.5 has its logit at exactly 0, where a lattice puts many decisions on, and equally far from, the threshold.
THRESHOLDS = st.sampled_from([0.5, 0.25, float(SEED_GRID[40])])


@st.composite
def tiny_runs(draw):
    shape = draw(TINY_SHAPES)
    logits = draw(
        hnp.arrays(np.float32, shape, elements=strategies.lattice_logits | st.floats(-3, 3, width=32))
    )
    return logits, draw(strategies.label_matrices(shape))


def margins(logits, threshold):
    return np.abs(logits.astype(float) - (np.log(threshold) - np.log1p(-threshold)))


def brute_force(logits, labels, threshold, epsilon):
    free = (margins(logits, threshold) <= epsilon + 1e-15) & (epsilon > 0)
    outcomes = [
        oracles.f1_of_decisions(labels, flipped)
        for flipped in oracles.every_flip(decisions(logits, threshold), free)
    ]
    macro, micro, per_code = zip(*outcomes, strict=True)
    per_code = np.array(per_code)
    return (
        (min(macro), max(macro)),
        (min(micro), max(micro)),
        np.stack([per_code.min(axis=0), per_code.max(axis=0)], -1),
    )


@settings(max_examples=120)
@given(tiny_runs(), THRESHOLDS, st.data())
def test_the_range_equals_brute_force_over_all_flips_inside_the_band(case, threshold, data):
    logits, labels = case
    at_a_margin = st.sampled_from(margins(logits, threshold).ravel().tolist())
    epsilon = data.draw(at_a_margin | st.floats(0, 4) | st.just(0.0))
    macro, micro, per_code = brute_force(logits, labels, threshold, epsilon)
    found = FlipBound(logits, labels, threshold).f1_range(epsilon + 1e-15 * (epsilon > 0))
    assert found.macro_f1 == pytest.approx(macro, abs=1e-15)
    assert found.micro_f1 == micro
    assert found.per_code == pytest.approx(per_code, abs=0)


@settings(max_examples=60)
@given(tiny_runs(), THRESHOLDS, st.sampled_from(["macro_f1", "micro_f1"]), st.data())
def test_the_smallest_epsilon_equals_brute_force(case, threshold, which, data):
    logits, labels = case
    bound = FlipBound(logits, labels, threshold)
    now = getattr(bound, which)
    target = data.draw(st.floats(0, 1) | st.just(now) | st.sampled_from([0.0, 0.5, 2 / 3, 1.0]))
    found = bound.smallest_epsilon(**{which: target})
    reaching = [
        epsilon
        for epsilon in [0.0, *bound.margins.tolist()]
        if (low_high := getattr(bound.f1_range(epsilon), which))[0] <= target <= low_high[1]
    ]
    assert found == (min(reaching) if reaching else None)
    if found:
        low, high = brute_force(logits, labels, threshold, found)[which == "micro_f1"]
        assert low - 1e-15 <= target <= high + 1e-15
        low, high = brute_force(logits, labels, threshold, found - 1e-12)[which == "micro_f1"]
        assert not low <= target <= high


@given(strategies.runs(), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_at_epsilon_zero_the_range_is_the_score(run, threshold):
    bound = flip_bound(run, threshold)
    found = bound.f1_range(0.0)
    assert found.macro_f1 == (bound.macro_f1, bound.macro_f1)
    assert found.micro_f1 == (bound.micro_f1, bound.micro_f1)
    assert found.flippable == 0
    if threshold == 0.5:
        fixed = evaluate(run).fixed
        assert (bound.macro_f1, bound.micro_f1) == (fixed.macro_f1, fixed.micro_f1)


@given(strategies.runs(), st.lists(st.floats(0, 20), min_size=1, max_size=8))
def test_a_larger_epsilon_only_widens_the_range(run, epsilons):
    ranges = flip_bound(run).f1_ranges(np.sort(np.array(epsilons)))
    for values in (ranges.macro_f1, ranges.micro_f1, ranges.per_code):
        assert (np.diff(values[..., 0], axis=0) <= 0).all()
        assert (np.diff(values[..., 1], axis=0) >= 0).all()
    assert (np.diff(ranges.flippable) >= 0).all()


@given(strategies.runs(), st.lists(st.floats(0, 20), min_size=1, max_size=8))
def test_a_curve_is_its_points_in_any_order(run, epsilons):
    bound = flip_bound(run, 0.25)
    ranges = bound.f1_ranges(np.array(epsilons))
    for i, epsilon in enumerate(epsilons):
        point = bound.f1_range(epsilon)
        assert tuple(ranges.macro_f1[i]) == point.macro_f1
        assert tuple(ranges.micro_f1[i]) == point.micro_f1
        assert np.array_equal(ranges.per_code[i], point.per_code)
        assert ranges.flippable[i] == point.flippable


@given(strategies.runs(), st.floats(2**-10, 2), st.randoms(use_true_random=False))
def test_no_perturbation_within_epsilon_leaves_the_range(run, epsilon, random):
    noise = np.random.default_rng(random.getrandbits(32)).uniform(-epsilon, epsilon, run.logits.shape)
    moved = Run(run.logits + noise, labels=run.labels)
    found = flip_bound(run).f1_range(epsilon * (1 + 1e-6) + 1e-6)
    score = evaluate(moved).fixed
    assert found.macro_f1[0] <= score.macro_f1 <= found.macro_f1[1]
    assert found.micro_f1[0] <= score.micro_f1 <= found.micro_f1[1]


def test_the_worst_and_best_case_by_hand():
    # Margins: 0.5 hit, 1.0 false alarm, 0.25 miss, 2.0 correctly left out.
    bound = FlipBound(np.array([[0.5], [1.0], [-0.25], [-2.0]]), np.array([[1], [0], [1], [0]], np.uint8))
    assert bound.f1_range(0.0).micro_f1 == (2 * 1 / (2 + 2),) * 2
    assert bound.f1_range(0.25).micro_f1 == (0.5, 2 * 2 / (3 + 2))  # the miss may be found
    assert bound.f1_range(0.5).micro_f1 == (0.0, 0.8)  # the hit may be lost
    assert bound.f1_range(1.0).micro_f1 == (0.0, 1.0)  # the false alarm may vanish
    assert bound.smallest_epsilon(micro_f1=0.0) == 0.5
    assert bound.smallest_epsilon(macro_f1=0.75) == 0.25
    assert bound.smallest_epsilon(macro_f1=0.5) == 0.0


def test_a_code_without_support_cannot_rise_above_zero():
    bound = FlipBound(np.array([[1.0, 1.0]]), np.array([[0, 1]], np.uint8))
    assert bound.f1_range(10.0).per_code.tolist() == [[0, 0], [0, 1]]
    assert bound.smallest_epsilon(macro_f1=0.6) is None


def test_decisions_exactly_on_the_threshold_flip_for_any_positive_epsilon():
    bound = FlipBound(np.array([[0.0]]), np.array([[1]], np.uint8), 0.5)
    assert bound.f1_range(0.0).macro_f1 == (0, 0)
    assert bound.f1_range(1e-300).macro_f1 == (0, 1)
    assert 0 < bound.smallest_epsilon(macro_f1=1.0) < 1e-300


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, 1.5, np.nan, np.inf])
def test_a_threshold_without_a_finite_logit_is_refused(threshold):
    run = Run(np.array([[3.0]]), labels=np.array([[1]], np.uint8))
    for margins_of in (flip_bound, sorted_margins):
        with pytest.raises(ShifamindError, match=f"threshold is {threshold}; .* strictly between 0 and 1"):
            margins_of(run, threshold)


@pytest.mark.parametrize("target", [np.nan, -0.1, 1.1, np.inf])
def test_a_target_that_is_no_score_is_refused(target):
    run = Run(np.array([[3.0]]), labels=np.array([[1]], np.uint8))
    for bound in (flip_bound(run), TunedFlipBound(run, run)):
        for which in ("macro_f1", "micro_f1"):
            with pytest.raises(ShifamindError, match=f"{which} is {target}; a score lies between 0 and 1"):
                bound.smallest_epsilon(**{which: target})


def test_a_bound_needs_labels_finite_logits_one_target_and_a_positive_epsilon():
    run = Run(np.zeros((1, 1)), labels=np.zeros((1, 1), np.uint8))
    with pytest.raises(ShifamindError, match="has no labels"):
        flip_bound(Run(np.zeros((1, 1))))
    with pytest.raises(ShifamindError, match="finite"):
        FlipBound(np.full((1, 1), np.nan), run.labels)
    for targets in ({}, {"macro_f1": 0.1, "micro_f1": 0.1}):
        with pytest.raises(ShifamindError, match="one target"):
            flip_bound(run).smallest_epsilon(**targets)
    for epsilon in (-1.0, np.nan):
        with pytest.raises(ShifamindError, match="≥ 0"):
            flip_bound(run).f1_range(epsilon)
        with pytest.raises(ShifamindError, match="≥ 0"):
            TunedFlipBound(run, run).f1_range(epsilon)


@given(strategies.runs(), st.floats(2**-10, 2), st.integers(0, 99))
def test_sampled_scores_stay_inside_the_bound_and_repeat_with_their_seed(run, largest, seed):
    bound = flip_bound(run)
    errors = np.array([-largest, largest / 2, largest])
    sampled = bound.sampled_range(errors, samples=20, seed=seed)
    proven = bound.f1_range(largest)
    assert (
        proven.macro_f1[0]
        <= sampled.macro_f1.interval[0]
        <= sampled.macro_f1.interval[1]
        <= proven.macro_f1[1]
    )
    assert (
        proven.micro_f1[0]
        <= sampled.micro_f1.interval[0]
        <= sampled.micro_f1.interval[1]
        <= proven.micro_f1[1]
    )
    assert sampled.flips.mean <= proven.flippable
    assert sampled == bound.sampled_range(errors, samples=20, seed=seed)


def test_one_certain_error_is_the_shifted_run():
    rng = np.random.default_rng(1)
    logits = rng.normal(-1, 1, (200, 4))
    labels = (rng.random(logits.shape) < 0.3).astype(np.uint8)
    sampled = FlipBound(logits, labels).sampled_range(np.array([0.4]), samples=2)
    shifted = evaluate(Run(logits + 0.4, labels=labels)).fixed
    assert sampled.macro_f1.mean == shifted.macro_f1
    assert sampled.micro_f1.interval == (shifted.micro_f1, shifted.micro_f1)
    assert sampled.flips.mean == (decisions(logits + 0.4, 0.5) != decisions(logits, 0.5)).sum()


def test_errors_to_draw_from_must_be_finite():
    bound = FlipBound(np.zeros((1, 1)), np.zeros((1, 1), np.uint8))
    for errors in (np.array([]), np.array([np.nan])):
        with pytest.raises(ShifamindError, match="Errors to draw from"):
            bound.sampled_range(errors)


@st.composite
def tuned_cases(draw):
    """A tiny validation run with logits near the thresholds, and a grid."""
    shape = draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 1), (1, 3)]))
    grid = draw(st.sampled_from([np.array([0.3, 0.5, 0.7]), np.array([0.45, 0.5]), np.array([0.4])]))
    logits = draw(hnp.arrays(np.float64, shape, elements=st.floats(-1.5, 1.5) | strategies.lattice_logits))
    return strategies.built(logits=logits, labels=draw(strategies.label_matrices(shape))), grid


@settings(max_examples=150)
@given(tuned_cases(), st.floats(0.001, 0.6))
def test_the_thresholds_that_tuning_could_choose_equal_brute_force_or_hold_it(case, epsilon):
    validation, grid = case
    found = TunedFlipBound(validation, validation, grid).f1_range(epsilon)
    expected = {
        0.5 if choice is None else grid[choice]
        for choice in oracles.possible_choices(validation.logits, validation.labels, grid, epsilon)
    }
    assert expected <= set(found.thresholds)
    if found.exact:
        assert expected == set(found.thresholds)


@settings(max_examples=15)
@given(strategies.runs(shape=(6, 3)), strategies.runs(shape=(5, 3)))
def test_without_perturbation_the_tuned_range_is_the_tuned_score(test, validation):
    evaluation = evaluate(test, validation)
    found = TunedFlipBound(validation, test).f1_range(0.0)
    assert found.thresholds == (evaluation.tuned_threshold.threshold,)
    assert found.macro_f1 == (evaluation.tuned.macro_f1,) * 2
    assert found.micro_f1 == (evaluation.tuned.micro_f1,) * 2


@settings(max_examples=15)
@given(strategies.runs(shape=(6, 3)), strategies.runs(shape=(5, 3)), st.floats(0, 2))
def test_the_tuned_range_holds_the_fixed_range_of_each_possible_threshold(test, validation, epsilon):
    found = TunedFlipBound(validation, test).f1_range(epsilon)
    fixed = [flip_bound(test, threshold).f1_range(epsilon) for threshold in found.thresholds]
    assert found.macro_f1 == (min(f.macro_f1[0] for f in fixed), max(f.macro_f1[1] for f in fixed))
    assert found.micro_f1 == (min(f.micro_f1[0] for f in fixed), max(f.micro_f1[1] for f in fixed))


def test_the_smallest_tuned_epsilon_brackets_the_target():
    rng = np.random.default_rng(5)
    labels = (rng.random((300, 6)) < 0.3).astype(np.uint8)
    run = Run(rng.normal(-1.5, 1, labels.shape) + 1.5 * labels, labels=labels)
    bound = TunedFlipBound(run, run)
    now = bound.f1_range(0.0).macro_f1[0]
    epsilon = bound.smallest_epsilon(macro_f1=0.8 * now)
    assert bound.f1_range(epsilon).macro_f1[0] > 0.8 * now
    assert bound.f1_range(1.002 * epsilon).macro_f1[0] <= 0.8 * now
    assert bound.smallest_epsilon(macro_f1=now) == 0.0
    with pytest.raises(ShifamindError, match="one target"):
        bound.smallest_epsilon()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("most", [60, 600])  # within less than half the grid's spacing, and within more
def test_a_large_run_of_which_the_nearest_decisions_are_held_has_the_same_tuned_ranges(
    monkeypatch, dtype, most
):
    generator = np.random.default_rng(2)
    labels = (generator.random((200, 5)) < 0.3).astype(np.uint8)
    validation, test = (
        Run((generator.normal(-1, 2, labels.shape) + 2 * labels).astype(dtype), labels=labels)
        for _ in range(2)
    )
    grid = np.array([0.2, 0.3, 0.5, 0.6])
    whole = TunedFlipBound(validation, test, grid)
    monkeypatch.setattr(tuned_bound, "MOST_CELLS", most)
    held = TunedFlipBound(validation, test, grid)
    assert whole.reach == np.inf and (held.reach < 0.2) == (most == 60)
    for epsilon in (0.0, 1e-4, 0.3 * held.reach, held.reach):
        assert held.f1_range(epsilon) == whole.f1_range(epsilon)
    with pytest.raises(ValueError, match="alone"):
        held.f1_range(1.01 * held.reach)
    for target in (0.0, 0.3, whole.f1_range(held.reach / 2).micro_f1[0]):
        found, expected = held.smallest_epsilon(micro_f1=target), whole.smallest_epsilon(micro_f1=target)
        assert found == pytest.approx(min(expected, held.reach), rel=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_from_the_first_logit_that_is_assigned_on_all_are(dtype):
    cuts, kind = float32_below(SEED_GRID), np.dtype(dtype)
    first = tuned_bound._least(lambda x: probabilities(x) > cuts, kind, len(cuts))
    step = 2**25 if dtype is np.float64 else 1  # in FP32 such a number may be the next
    for threshold, start in zip(SEED_GRID, first, strict=True):
        bits = int(np.abs(start).view(f"i{kind.itemsize}")) * int(np.sign(start))
        about = tuned_bound._numbers(bits + step * np.arange(-3000, 3000), kind)
        assert np.array_equal(decisions(about[:, None], threshold)[:, 0], about >= start)
