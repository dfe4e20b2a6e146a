"""Concept scores of two runs: what moved, by how much, and what follows of it."""

from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.analysis.concepts import compare_concepts
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run


def run(seed: int = 0, concepts: int = 4) -> Run:
    random = np.random.default_rng(seed)
    return Run(
        random.normal(size=(50, 3)).astype(np.float32),
        "a",
        ("I10", "E785", "Z66"),
        concept_scores=random.random((50, concepts)).astype(np.float32),
    )


def test_each_concept_is_compared_in_fp64_and_the_one_that_moved_most_comes_first() -> None:
    first, second = run(0), run(1)
    assert first.concept_scores is not None and second.concept_scores is not None
    found = compare_concepts(first, second)
    difference = first.concept_scores.astype(np.float64) - second.concept_scores
    table = found.per_concept.set_index("concept").sort_index()
    np.testing.assert_array_equal(table["max_abs_difference"], np.abs(difference).max(axis=0))
    np.testing.assert_allclose(table["mean_difference"], difference.mean(axis=0), rtol=1e-12)
    expected = [np.corrcoef(first.concept_scores[:, i], second.concept_scores[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(table["correlation"], expected, rtol=1e-5)
    crossed = (first.concept_scores > 0.5) != (second.concept_scores > 0.5)
    assert table["crossed"].tolist() == crossed.sum(axis=0).tolist()
    assert (np.diff(found.per_concept["mean_abs_difference"]) <= 0).all()
    spread = ((second.concept_scores - second.concept_scores.mean(axis=0)) ** 2).sum()
    assert found.relative == pytest.approx(np.sqrt((difference**2).sum() / spread), rel=1e-5)
    assert not found.equal and "differ already by" in found.sentence


def test_a_concept_that_never_varies_correlates_with_none() -> None:
    first, second = run(0), run(1)
    assert first.concept_scores is not None
    constant = first.concept_scores.astype(np.float64)
    constant[:, 1] = 0.1
    assert constant[:, 1].mean() != 0.1  # deviations from it are no zeros
    table = compare_concepts(replace(first, concept_scores=constant), second).per_concept.set_index("concept")
    assert table["correlation"].isna().sort_index().tolist() == [False, True, False, False]


def test_equal_concepts_say_that_the_gap_comes_after_them() -> None:
    first = run(0)
    found = compare_concepts(first, replace(first, logits=first.logits + 1))
    assert found.equal and found.relative == 0 and "after them" in found.sentence
    assert found.of_codes is not None and found.of_codes > 0


def test_runs_without_concepts_or_with_others_are_one_line() -> None:
    with pytest.raises(ShifamindError, match="The reference has no concept scores"):
        compare_concepts(run(), replace(run(), concept_scores=None))
    with pytest.raises(ShifamindError, match="4 concepts, the reference for 5"):
        compare_concepts(run(), run(concepts=5))
