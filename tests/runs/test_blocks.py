"""Work shared among threads comes back in order, and no more of it is held than is asked for soon."""

import time

import numpy as np
import pytest

from shifamind_core.runs import blocks


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(blocks, "processors", lambda: 2)


def test_results_come_in_the_order_of_the_parts_whichever_thread_is_first():
    begun = []

    def slower_first(part):
        begun.append(part)
        time.sleep(0.02 if part % 2 == 0 else 0)
        return part

    results = blocks.in_order(slower_first, range(100))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(begun) < 10  # not all 100: what is made of a block may be large
    assert list(results) == list(range(3, 100))


def test_an_error_in_a_thread_comes_out():
    with pytest.raises(ZeroDivisionError):
        list(blocks.in_order(lambda part: 1 // part, [1, 0, 1]))


def test_copies_code_by_code_are_the_columns(monkeypatch):
    monkeypatch.setattr(blocks, "GROUP_CELLS", 90)
    monkeypatch.setattr(blocks, "TILE_NOTES", 7)
    logits = np.random.default_rng(0).normal(size=(30, 8))
    labels = (logits > 0).astype(np.uint8)
    groups = [[part.copy() for part in group] for group in blocks.code_by_code(logits, labels)]
    assert [len(group[0]) for group in groups] == [3, 3, 2]
    for which, matrix in enumerate((logits, labels)):
        assert np.array_equal(np.concatenate([group[which] for group in groups]), matrix.T)
