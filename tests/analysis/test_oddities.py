"""Rows that are no notes of their own: counted and said, by `evaluate` and by `compare` (cases 01, 18, 22)."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.analysis.alignment import align
from shifamind_core.analysis.comparison import compare, comparison_json
from shifamind_core.analysis.oddities import ALIKE, alike, constant_rows, oddities, repeated_ids, spread_of
from shifamind_core.analysis.thresholds import evaluate, evaluation_json
from shifamind_core.runs.run import Run
from tests.support import foreign, strategies
from tests.support.foreign import LABELS, LOGITS, NOTES

WHOLE = foreign.whole()
FIRST_24 = np.r_[0:NOTES, 0:24]
PADDED = replace(WHOLE.select(rows=FIRST_24), name="padded")


def windows(seed: int = 0) -> Run:
    """One row a window of a note: the note's scores and something of the window's own."""
    random = np.random.default_rng(seed)
    rows = np.repeat(np.arange(NOTES), random.integers(1, 5, NOTES))
    run = WHOLE.select(rows=rows)
    own = random.normal(0, 1.5, run.logits.shape)
    return replace(run, logits=(run.logits + own).astype(np.float32), name="windows")


def said(remarks, *words):
    return any(all(word in remark for word in words) for remark in remarks)


@given(strategies.runs())
def test_rows_that_are_all_notes_of_their_own_have_nothing_repeated(run):
    assert repeated_ids(run) is None


def test_case_01_ids_that_occur_twice_are_counted_and_said():
    evaluation = evaluate(PADDED)
    assert said(
        evaluation.remarks, "324 rows carry 300 document ids", "24 of them occur twice", "the same scores"
    )
    document = evaluation_json(evaluation)
    assert document["repeated_ids"] == {"distinct": 300, "repeated": 24, "rows": 48, "most": 2, "unlike": 0}
    assert evaluation_json(evaluate(WHOLE))["repeated_ids"] is None


def test_case_01_compare_counts_the_repeats_of_either_side():
    for pair in ((PADDED, WHOLE), (WHOLE, PADDED)):
        found = compare(*pair)
        assert found.difference.max_abs == 0 and found.aligned.documents.matched == NOTES
        assert said(found.remarks, "24 of them occur twice")
        assert said(found.remarks, "24 notes stand on more rows", "the others hold the same scores")
        assert {side for side, one in comparison_json(found)["repeated_ids"].items() if one} == {
            "candidate" if pair[0] is PADDED else "reference"
        }


def test_case_01_without_ids_rows_that_repeat_others_are_counted():
    bare = replace(PADDED, document_ids=None)
    assert said(evaluate(bare).remarks, "24 of 324 rows repeat an earlier row", "first row 300")
    documents = align(bare, replace(WHOLE, document_ids=None)).documents
    assert (documents.by, documents.matched, documents.repeated) == ("content", NOTES, (24, 0))


def test_rounding_between_repeats_does_not_make_them_windows():
    noise = np.random.default_rng(3).normal(0, 0.03, PADDED.logits.shape).astype(np.float32)
    assert repeated_ids(replace(PADDED, logits=PADDED.logits + noise)).unlike == 0


def test_case_18_windows_of_notes_are_counted_and_never_paired_silently():
    run = windows()
    counts = np.unique(run.document_ids, return_counts=True)[1]
    evaluation = evaluate(run)
    assert said(evaluation.remarks, f"{run.documents:,} rows carry 300 document ids", "windows of one note")
    assert evaluation.repeated.unlike == evaluation.repeated.repeated == (counts > 1).sum()
    for pair in ((run, WHOLE), (WHOLE, run)):
        found = compare(*pair)
        assert said(
            found.remarks,
            f"{(counts > 1).sum()} notes stand on more rows",
            "only the first",
            "one window of them",
        )


def test_two_runs_over_the_same_windows_are_paired_row_by_row():
    one = windows()
    found = compare(one, replace(one, name="other"))
    assert found.difference.max_abs == 0 and not said(found.remarks, "only the first")
    assert said(found.remarks, "windows of one note")


@given(st.integers(0, 3), st.floats(0.01, 100))
def test_likeness_does_not_depend_on_the_scale_of_the_logits(seed, scale):
    random = np.random.default_rng(seed)
    one = random.normal(size=(20, 6))
    other = one + random.normal(size=one.shape) * random.choice([0.01, 1.0], (20, 1))
    found = alike(one, other, spread_of(one))
    assert np.array_equal(found, alike(scale * one, scale * other, spread_of(scale * one)))
    assert alike(one, one, spread_of(one)).all() and ALIKE < 1


@pytest.mark.parametrize("value", [-100.0, 0.0, -1e9])
def test_case_22_rows_of_fill_are_named_with_their_number_and_place(value):
    logits = np.vstack([LOGITS, np.full((24, 26), value, np.float32)])
    run = Run(logits, labels=np.vstack([LABELS, np.zeros((24, 26), np.uint8)]))
    assert constant_rows(run).tolist() == list(range(NOTES, NOTES + 24))
    for remarks in (evaluate(run).remarks, compare(run, run).remarks):
        assert said(remarks, f"24 of 324 rows are {value:g} throughout", "first row 300", "fill")
    documents = align(run, Run(LOGITS)).documents
    assert (documents.by, documents.matched, documents.dropped) == ("content", NOTES, (24, 0))


def test_few_codes_make_rows_of_one_number_by_chance():
    assert oddities(Run(np.array([[1.5, 1.5], [-2, -2]], np.float32))) == ()
    assert len(constant_rows(Run(np.array([[-100, -100], [-2, 3]], np.float32)))) == 1


@given(strategies.runs())
def test_what_is_said_is_whole_sentences_of_one_line(run):
    for remark in oddities(run):
        assert ("\n" not in remark and remark.endswith(".") and remark[0].isupper()) or remark[0].isdigit()
