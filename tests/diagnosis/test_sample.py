"""Runs too large for a diagnosis: the same part of both is looked at, whatever their order, and that is said."""

from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.diagnosis import sample as sampling
from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.diagnosis.sample import sample
from shifamind_core.runs.run import Run

NOTES, CODES = 900, 30


def run(noise: float = 0.0) -> Run:
    random = np.random.default_rng(0)
    logits = random.normal(-1, 2, (NOTES, CODES)) + noise * np.random.default_rng(1).normal(
        size=(NOTES, CODES)
    )
    return Run(
        logits.astype(np.float32),
        "large",
        tuple(f"A{code:02}" for code in range(CODES)),
        (random.random((NOTES, CODES)) < 0.2).astype(np.uint8),
        random.integers(-(2**62), 2**62, NOTES),
    )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MOST_CELLS": 10_000, "MOST_CODES": 20, "PART_CELLS": 3000, "PART_CODES": 10}.items():
        monkeypatch.setattr(sampling, name, value)


def test_the_same_notes_and_codes_of_both_are_kept_each_in_its_own_order() -> None:
    first = run()
    rows, columns = np.random.default_rng(2).permutation(NOTES), np.random.default_rng(3).permutation(CODES)
    one, other, said = sample(first, first.select(rows, columns))
    assert one.document_ids is not None and other.document_ids is not None and one.codes and other.codes
    assert one.documents == 300 and one.logits.shape[1] == 10
    assert set(one.document_ids) == set(other.document_ids) and set(one.codes) == set(other.codes)
    back = [list(other.document_ids).index(note) for note in one.document_ids]
    there = [other.codes.index(code) for code in one.codes]
    np.testing.assert_array_equal(other.logits[np.ix_(back, there)], one.logits)
    assert list(other.document_ids) != list(one.document_ids)
    assert said is not None and "300 of 900 notes and 10 of 30 codes" in said


def test_ids_that_do_not_meet_leave_the_rows_side_by_side() -> None:
    first = run()
    one, other, _ = sample(first, replace(first, document_ids=np.arange(NOTES)))
    np.testing.assert_array_equal(one.logits, other.logits)


def test_a_part_of_fewer_codes_has_more_notes_and_the_order_of_codes_is_doubted_only_where_codes_are_missing() -> (
    None
):
    first = run().select(columns=np.arange(12))  # 10,800 cells
    one, _, said = sample(first, first)
    assert one.logits.shape == (450, 6) and said is not None and "names is not seen" in said
    few = run().select(columns=np.arange(10))
    longer = few.select(rows=np.concatenate([np.arange(NOTES), np.arange(NOTES)]))
    one, _, said = sample(longer, longer)
    assert one.logits.shape[1] == 10 and said is not None and "names is not seen" not in said


def test_runs_that_are_small_enough_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_CELLS", NOTES * CODES)
    monkeypatch.setattr(sampling, "MOST_CODES", CODES)
    first, second = run(), run(0.1)
    assert sample(first, second) == (first, second, None)


def test_a_diagnosis_of_a_part_finds_what_the_whole_has_and_says_which_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, doubled = run(), replace(run(), logits=(2 * run().logits).astype(np.float32))
    part = diagnose(first, doubled)
    monkeypatch.setattr(sampling, "MOST_CELLS", NOTES * CODES)
    monkeypatch.setattr(sampling, "MOST_CODES", CODES)
    whole = diagnose(first, doubled)
    assert part.cause == whole.cause and part.findings[0].status == whole.findings[0].status == "confirmed"
    assert part.remarks[0].startswith("Looked at a part") and "names is not seen" in part.remarks[0]
    assert not whole.remarks or not whole.remarks[0].startswith("Looked at a part")
