from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.analysis.alignment import NothingInCommon, align
from shifamind_core.runs.run import Run
from simulation import planted
from tests.support import strategies


def run(logits, **fields):
    return Run(np.array(logits, np.float32), **fields)


def ids(*values):
    return np.array(values, np.int64)


@given(strategies.runs(), st.randoms(use_true_random=False))
def test_any_order_of_notes_and_codes_is_undone(original, random):
    documents, codes = original.logits.shape
    rows, columns = list(range(documents)), list(range(codes))
    random.shuffle(rows)
    random.shuffle(columns)
    shuffled = original.select(np.array(rows), np.array(columns))
    aligned = align(original, shuffled)
    assert np.array_equal(aligned.candidate.logits, original.logits)
    assert np.array_equal(aligned.reference.logits, original.logits)
    assert np.array_equal(aligned.reference.labels, original.labels)
    assert aligned.reference.codes == original.codes
    assert aligned.documents.order_differed == (rows != sorted(rows))
    assert aligned.codes.order_differed == (columns != sorted(columns))
    assert aligned.documents.dropped == aligned.codes.dropped == (0, 0)
    assert aligned.label_conflicts == 0


def test_what_only_one_run_has_is_dropped_and_counted():
    candidate = run([[1, 2], [3, 4], [5, 6]], codes=("A", "B"), document_ids=ids(10, 20, 30))
    reference = run([[60, 50], [40, 70]], codes=("B", "C"), document_ids=ids(30, 20), name="reference")
    aligned = align(candidate, reference)
    assert aligned.candidate.logits.tolist() == [[4], [6]]
    assert aligned.reference.logits.tolist() == [[40], [60]]
    assert aligned.candidate.codes == aligned.reference.codes == ("B",)
    assert (aligned.documents.dropped, aligned.codes.dropped) == ((1, 0), (1, 1))
    assert aligned.documents.order_differed
    assert "1 of the candidate's 3 notes have no partner and are left out." in aligned.remarks
    assert "Neither run has labels: nothing is scored." in aligned.remarks


def test_runs_without_ids_are_assumed_to_hold_the_same_notes_in_order():
    aligned = align(run([[1], [2]], document_ids=ids(1, 2)), run([[3], [4]]))
    assert aligned.documents.assumed
    assert any("assumed to hold the same notes in the same order" in remark for remark in aligned.remarks)


def test_runs_without_ids_and_of_another_length_are_refused():
    with pytest.raises(NothingInCommon, match="has 2 notes and other 1, and neither has document ids"):
        align(run([[1], [2]]), run([[3]], name="other"))


def test_codes_that_one_run_lacks_are_the_others():
    aligned = align(run([[1, 2]]), run([[3, 4]], codes=("A", "B"), name="reference"))
    assert aligned.candidate.codes == ("A", "B")
    assert any("columns are assumed to be those of reference" in remark for remark in aligned.remarks)
    with pytest.raises(NothingInCommon, match="has no code names") as refusal:
        align(run([[1, 2]]), run([[3, 4, 5]], codes=("A", "B", "C")))
    assert refusal.value.what == "codes"


@pytest.mark.parametrize("names", [None, ("A", "B")])
def test_a_run_without_names_that_lies_on_its_side_is_said_to(names):
    upright = run([[1, 2], [3, 4], [5, 6]], codes=names)
    lying = run(upright.logits.T, name="lying")
    for pair in ((upright, lying), (lying, upright)):
        with pytest.raises(NothingInCommon, match=r"lying lies on its side: 2 × 3, .* has 3 notes × 2 codes"):
            align(*pair)


def test_labels_that_one_run_lacks_are_the_others_row_by_row():
    labels = np.array([[1], [0]], np.uint8)
    candidate = run([[1], [2]], document_ids=ids(1, 2), labels=labels)
    reference = run([[4], [3]], document_ids=ids(2, 1))
    aligned = align(candidate, reference)
    assert aligned.reference.labels.tolist() == [[1], [0]]
    assert aligned.labels_taken_from == "candidate"
    assert align(reference, candidate).candidate.labels.tolist() == [[0], [1]]


def test_labels_that_differ_are_counted_and_kept():
    candidate = run([[1], [2]], labels=np.array([[1], [0]], np.uint8))
    reference = run([[1], [2]], labels=np.array([[1], [1]], np.uint8))
    aligned = align(candidate, reference)
    assert aligned.label_conflicts == 1
    assert aligned.candidate.labels.tolist() != aligned.reference.labels.tolist()
    assert any("1 labels differ" in remark for remark in aligned.remarks)


def test_nothing_in_common_is_one_clear_line():
    a = run([[1]], document_ids=ids(1), codes=("A",))
    with pytest.raises(NothingInCommon, match="share no document id") as refusal:
        align(a, run([[2]], document_ids=ids(2), codes=("A",)))
    assert refusal.value.what == "documents"
    with pytest.raises(NothingInCommon, match="share no code: 'A' … against 'B'"):
        align(a, replace(a, codes=("B",)))


@given(strategies.run_pairs())
def test_runs_in_the_same_order_are_left_as_they_are(pair):
    aligned = align(*pair)
    assert aligned.candidate is pair[0]
    assert aligned.documents.identity
    assert aligned.codes.identity


# --- content beats ids

NOTES = planted.synthetic_run(200, seed=3)
IDS = np.random.default_rng(0).integers(-(2**63), 2**63, 200)


def named(**fields):
    return replace(NOTES, document_ids=IDS, **fields)


def test_notes_whose_ids_do_not_meet_are_matched_by_their_scores():
    order = np.random.default_rng(1).permutation(200)
    aligned = align(replace(named().select(order), document_ids=np.arange(200)), named())
    assert (aligned.documents.by, aligned.documents.exact, aligned.documents.dropped) == (
        "content",
        True,
        (0, 0),
    )
    assert np.array_equal(aligned.candidate.logits, aligned.reference.logits)
    assert aligned.label_conflicts == 0
    assert (
        "200 notes are in both runs (matched by their scores, as their document ids do not meet)."
        in aligned.remarks
    )


def test_token_ids_decide_where_document_ids_do_not():
    reference = named(token_digests=IDS[::-1])
    other = planted.synthetic_run(200, seed=8).logits
    aligned = align(replace(reference, document_ids=np.arange(200), logits=other), reference)
    assert (aligned.documents.by, aligned.documents.matched) == ("token_digest", 200)


def test_rounding_does_not_hide_notes_whose_ids_do_not_meet():
    noisy = replace(NOTES, logits=planted.rounding_noise(NOTES, 1e-3, 0), document_ids=np.arange(200))
    aligned = align(noisy, named())
    assert (aligned.documents.by, aligned.documents.exact) == ("content", False)
    assert aligned.documents.reference.tolist() == list(range(200))
    assert any("nearest by far" in remark for remark in aligned.remarks)


def test_ids_that_meet_for_some_notes_leave_the_others_to_their_scores():
    ids = np.where(np.arange(200) < 150, IDS, IDS ^ 1)
    noisy = replace(NOTES, logits=planted.rounding_noise(NOTES, 1e-3, 0), document_ids=ids)
    aligned = align(noisy, named())
    assert (aligned.documents.by, aligned.documents.otherwise, aligned.documents.matched) == ("id", 50, 200)


def test_ids_that_meet_by_accident_lose_to_equal_scores():
    counted_from_one = replace(NOTES, document_ids=np.arange(200) + 1)
    aligned = align(counted_from_one, replace(NOTES, document_ids=np.arange(200)))
    assert aligned.documents.by == "content"
    assert aligned.documents.reference.tolist() == list(range(200))


@pytest.mark.parametrize("with_ids", [True, False])
def test_repeats_are_no_notes_without_a_partner(with_ids):
    reference = named() if with_ids else NOTES
    padded = reference.select(np.append(np.arange(200), np.arange(24)))
    aligned = align(padded, reference)
    assert aligned.documents.dropped == aligned.documents.repeated == (24, 0)
    assert align(reference, padded).documents.repeated == (0, 24)
    said = "24 notes stand on more rows" if with_ids else "further rows of notes that stand there already"
    assert any(said in remark for remark in aligned.remarks)
    assert not any("no partner" in remark for remark in aligned.remarks)


def test_runs_of_another_length_without_ids_are_matched_by_their_scores():
    aligned = align(NOTES.select(np.arange(5, 190)), NOTES)
    assert (aligned.documents.by, aligned.documents.matched, aligned.documents.dropped) == (
        "content",
        185,
        (0, 15),
    )
    others = planted.synthetic_run(200, seed=3, notes=1)
    with pytest.raises(NothingInCommon, match="nor do any scores agree"):
        align(others.select(np.arange(190)), NOTES)


def test_other_notes_under_other_ids_have_nothing_in_common():
    others = replace(planted.synthetic_run(200, seed=3, notes=1), document_ids=np.arange(200))
    with pytest.raises(NothingInCommon, match="no note of one has the scores of a note of the other"):
        align(others, named())
