"""Runs too large to be held are compared a few codes at a time: every number is that of the whole, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.analysis import differences
from shifamind_core.analysis.comparison import compare, comparison_json
from shifamind_core.analysis.differences import between
from shifamind_core.runs.run import Run


def pair(documents=500, codes=9, levels=None):
    """Two runs of which a few cells are not finite and a few stand for a probability of 0; `levels`: rounded to so many."""
    generator = np.random.default_rng(0)
    labels = (generator.random((documents, codes)) < 0.2).astype(np.uint8)
    logits = generator.normal(-1, 2, labels.shape).astype(np.float32)
    other = logits + generator.standard_t(2, labels.shape).astype(np.float32) * np.float32(0.01)
    if levels:
        logits, other = np.round(logits * levels) / levels, np.round(other * levels) / levels
    other[:5, 2], logits[7, 3] = np.nan, np.inf
    other[0, 0] = np.log(1e-12)
    return Run(other, name="candidate", labels=labels), Run(logits, name="reference", labels=1 - labels)


@pytest.fixture
def in_parts(monkeypatch):
    monkeypatch.setattr("shifamind_core.runs.blocks.BLOCK_CELLS", 100)
    monkeypatch.setattr("shifamind_core.runs.blocks.GROUP_CELLS", 1000)
    monkeypatch.setattr("shifamind_core.runs.blocks.TILE_NOTES", 7)
    monkeypatch.setattr(differences, "HELD", 10)


@pytest.mark.parametrize("levels", [None, 4, 100])
@pytest.mark.parametrize(("sampled", "errors"), [(40, 0.1), (40, 8), (5000, 0.1), (5000, 8)])
def test_a_comparison_in_parts_is_that_of_the_whole(request, monkeypatch, levels, sampled, errors):
    candidate, reference = pair(levels=levels)
    whole = comparison_json(compare(candidate, reference))
    request.getfixturevalue("in_parts")
    monkeypatch.setattr(differences, "SAMPLED", sampled)
    monkeypatch.setattr(differences, "ERRORS", errors)  # of few, where the percentiles are is missed at first
    assert comparison_json(compare(candidate, reference)) == whole


def test_a_run_in_parts_equals_itself(in_parts):
    _, run = pair()
    found = compare(run, run)
    assert found.difference.max_abs == 0 and found.difference.abs_percentiles == {50: 0, 90: 0, 99: 0}


@pytest.mark.parametrize("size", [1, 2, 3, 50, 101, 257])
def test_percentiles_are_numpys_to_the_last_bit(size):
    values = np.sort(np.random.default_rng(size).exponential(size=size))
    found = differences.code_differences(values, np.zeros(size), []).statistics.abs_percentiles
    assert list(found.values()) == np.percentile(values, [50, 90, 99]).tolist()
    assert between(1.0, 2.0, 0.25) == 1.25


@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0]) | st.floats(0, 10), min_size=1), data=st.data()
)
def test_settled_ranks_hold_what_a_sort_would_put_there(values, data):
    ranks = data.draw(st.sets(st.integers(0, len(values) - 1)))
    settled = np.array(values)
    assert differences.settle(settled, ranks) == sorted(ranks)
    assert np.array_equal(np.sort(settled), np.sort(values))
    for rank in ranks:
        assert settled[rank] == np.sort(values)[rank]
        assert settled[:rank].max(initial=0) <= settled[rank] <= settled[rank:].min()
