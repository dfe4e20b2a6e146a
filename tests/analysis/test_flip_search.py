"""Large runs are searched in parts: the answers are those of all their decisions sorted at once."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shifamind_core.analysis import flip_search
from shifamind_core.analysis.flip_bound import flip_bound
from shifamind_core.analysis.flip_search import f1_range, smallest_epsilon
from shifamind_core.runs.run import Run
from tests.support import strategies
from tests.support.refused import refused


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr(flip_search, "MOST_CELLS", 1)
    monkeypatch.setattr(flip_search, "EDGES", 3)
    monkeypatch.setattr("shifamind_core.runs.blocks.BLOCK_CELLS", 64)


FIXTURE_LASTS = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
THRESHOLDS = st.sampled_from([0.5, 0.25, 0.9995])


@FIXTURE_LASTS
@given(strategies.runs(), THRESHOLDS, st.floats(0, 1), st.sampled_from(["macro_f1", "micro_f1"]))
def test_the_smallest_epsilon_is_that_of_all_decisions_sorted(in_parts, run, threshold, target, name):
    target = {name: target}
    assert smallest_epsilon(run, threshold, **target) == flip_bound(run, threshold).smallest_epsilon(**target)


@FIXTURE_LASTS
@given(strategies.runs(), THRESHOLDS, st.data())
def test_a_range_is_that_of_all_decisions_sorted(in_parts, run, threshold, data):
    whole = flip_bound(run, threshold)
    epsilon = data.draw(st.sampled_from([0.0, *whole.margins.tolist()]) | st.floats(0, 20))
    ours, theirs = f1_range(run, threshold, epsilon), whole.f1_range(epsilon)
    assert (ours.macro_f1, ours.micro_f1, ours.flippable) == (
        theirs.macro_f1,
        theirs.micro_f1,
        theirs.flippable,
    )
    assert np.array_equal(ours.per_code, theirs.per_code)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_score_that_can_be_reached_is_reached_at_the_same_epsilon_in_any_dtype(in_parts, dtype):
    generator = np.random.default_rng(0)
    labels = (generator.random((60, 5)) < 0.2).astype(np.uint8)
    logits = (generator.normal(-1, 2, labels.shape) + labels).astype(dtype)
    run = Run(logits, labels=labels)
    for target in np.linspace(0.1, 1, 5):
        expected = flip_bound(run).smallest_epsilon(micro_f1=target)
        assert smallest_epsilon(run, 0.5, micro_f1=target) == expected


def test_what_cannot_be_bounded_is_refused_in_parts_too():
    run = Run(np.array([[1.0, -1.0]]), labels=np.array([[1, 0]], np.uint8))
    with refused("ε is how far"):
        f1_range(run, 0.5, -1.0)
    with refused("strictly between"):
        f1_range(run, 1.0, 0.1)
    with refused("one target"):
        smallest_epsilon(run, 0.5)
    with refused("no labels"):
        f1_range(Run(run.logits), 0.5, 0.1)
