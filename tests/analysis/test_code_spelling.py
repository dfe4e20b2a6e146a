"""Codes that are spelled otherwise, and codes that are numbers, in two runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.analysis.alignment import NothingInCommon, align
from shifamind_core.analysis.code_spelling import (
    as_positions,
    match_names,
    plain_spelling,
    spelling_differs_in,
)
from shifamind_core.analysis.comparison import compare, comparison_json
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.errors import ShifamindError
from tests.support import foreign
from tests.support.foreign import CODES, LABELS, LOGITS
from tests.support.refused import refused

WHOLE = foreign.whole()
MANGLED = {
    "case 05, leading zeros": [code.lstrip("0") for code in CODES],
    "case 06, dots": [f"{code[:3]}.{code[3:]}" if len(code) > 3 else code for code in CODES],
    "case 06, small letters": [code.lower() for code in CODES],
    "all of it": [f"{code[:3]}.{code[3:]}".lower().lstrip("0") for code in CODES],
    "blanks": [f"{code[:3]} {code[3:]}" for code in CODES],
}


def respelled(codes, **changes):
    return replace(WHOLE, codes=tuple(codes), name="theirs", **changes)


@pytest.mark.parametrize("how", MANGLED)
def test_codes_that_are_spelled_otherwise_are_the_same_codes_and_it_is_said(how):
    theirs = respelled(MANGLED[how])
    for pair in ((WHOLE, theirs), (theirs, WHOLE)):
        found = compare(*pair)
        assert found.aligned.codes.matched == 26 and found.aligned.over == "all 26 codes"
        assert found.difference.max_abs == 0 and found.macro_f1.candidate == evaluate(WHOLE).fixed.macro_f1
        (remark,) = [remark for remark in found.remarks if "spelled otherwise" in remark]
        mine, yours = pair[0].codes[0], pair[1].codes[0]
        assert mine == yours or f"{mine!r} is {yours!r}" in remark


def test_what_differs_is_named():
    assert spelling_differs_in("0389", "389") == ["leading zeros"]
    assert spelling_differs_in("E78.5", "e785") == ["dots", "case"]
    assert spelling_differs_in("I10", "I10") == []


@given(st.text("0aA1.b ", max_size=6))
def test_plain_spelling_is_its_own_plain_spelling(code):
    plain = plain_spelling(code)
    assert (
        plain_spelling(plain) == plain
        and plain_spelling(code.lower()) == plain_spelling(code.upper()) == plain
    )


def test_equal_names_are_never_respelled_and_order_does_not_matter():
    shuffled = WHOLE.select(columns=np.random.default_rng(1).permutation(26))
    aligned = align(WHOLE, shuffled)
    assert aligned.codes.respelled == () and np.array_equal(aligned.reference.logits, LOGITS)
    mixed = respelled([*MANGLED["case 06, dots"][:13], *CODES[13:]]).select(columns=np.arange(26)[::-1])
    assert np.array_equal(align(WHOLE, mixed).reference.logits, LOGITS)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (("0389", "I10"), ("038.9", "03.89")),  # ICD-9: a diagnosis and a procedure
        (("038.9", "03.89"), ("0389", "I10")),
        (("0389", "389", "A"), ("00389", "A", "B")),
        (("i10", "I10", "A"), ("I1.0", "A", "B")),
    ],
)
def test_spellings_that_leave_open_which_code_is_meant_are_refused(ours, theirs):
    with pytest.raises(ShifamindError, match=r"of one run differ in .* cannot be told"):
        match_names(ours, theirs)


def test_codes_that_both_runs_tell_apart_are_no_collision():
    assert match_names(("038.9", "03.89"), ("03.89", "038.9")) == ([(0, 1), (1, 0)], [])
    assert match_names(("0389", "389", "A"), ("0389", "A")) == ([(0, 0), (2, 1)], [])


def test_a_macro_over_a_part_of_the_codes_says_so_everywhere():
    theirs = WHOLE.select(columns=np.arange(22))
    found = compare(WHOLE, theirs)
    document = comparison_json(found)
    assert found.aligned.macro_title == "Macro F1 over 22 of 26 codes"
    assert document["macro_f1_over"] == "22 of 26 codes" and document["codes_of"] == 26
    assert evaluate(found.aligned.candidate).over == "22 of 26 codes"
    assert "Macro means are over 22 of 26 codes." in evaluate(theirs).remarks
    assert compare(WHOLE, WHOLE).aligned.macro_title == "Macro F1"


# Numbers for names (case 04)


def test_numbers_are_positions_in_both_runs_or_in_none():
    some = respelled(map(str, range(26))).select(columns=np.array([5, 3, 25, 0]))
    for other in (WHOLE, replace(WHOLE, codes=None)):
        aligned = align(some, other)
        assert aligned.codes.assumed and np.array_equal(aligned.candidate.logits, aligned.reference.logits)
        back = align(other, some)
        assert np.array_equal(back.candidate.logits, back.reference.logits) and back.codes.matched == 4
        assert back.codes.dropped == (22, 0)
    both = align(some, some.select(columns=np.array([3, 1, 0, 2])))
    assert not both.codes.assumed and np.array_equal(both.candidate.logits, both.reference.logits)


def test_numbers_that_count_from_1_are_told_by_the_last():
    assert as_positions(["26", "1"], 26) == [25, 0] and as_positions(["0", "25"], 26) == [0, 25]
    for unclear in (["3", "4"], ["0", "26"], ["0", "27"], ["1", "2", "40"]):
        with refused("cannot be told", "Name the codes"):
            as_positions(unclear, 26)


def test_icd_9_codes_are_names_though_they_are_numbers():
    diagnoses = respelled([str(401 + i) for i in range(26)])
    aligned = align(diagnoses, replace(WHOLE, codes=None))
    assert aligned.candidate.codes == diagnoses.codes and aligned.codes.identity


def test_numbers_that_cannot_be_positions_are_refused_in_one_line():
    odd = respelled([*map(str, range(25)), "27"])
    with pytest.raises(NothingInCommon, match="theirs and whole: One run numbers its columns") as caught:
        align(odd, WHOLE)
    assert caught.value.what == "codes"


def test_labels_follow_their_codes_through_any_spelling():
    theirs = respelled(MANGLED["all of it"], labels=None).select(columns=np.arange(26)[::-1])
    aligned = align(theirs, WHOLE)
    assert (
        np.array_equal(aligned.candidate.labels, LABELS[:, ::-1]) and aligned.candidate.codes == theirs.codes
    )
