"""Findings are ranked once, by tier, probability and share; words come from the records."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.diagnosis.causes import CAUSES, GROUPS
from shifamind_core.diagnosis.findings import Finding, confirmed, judged, ranked, ruled_out

shares = st.floats(0, 1)


@given(shares, shares, st.floats(0.5, 1, exclude_min=True), st.floats(0, 0.499))
def test_scores_keep_the_tiers_apart(share, other, likely, possible):
    assert confirmed("code_order", "", max(share, 0.5)).score >= judged("numerics", likely, "", other).score
    assert 0.5 <= judged("numerics", likely, "", max(other, 0.5)).score <= 0.75
    assert 0 <= judged("numerics", possible, "", other).score < 0.5
    assert ruled_out("numerics", "").score == 0


def test_a_fact_that_accounts_for_little_stands_behind_a_likely_cause_of_the_rest():
    fact, main = confirmed("non_finite", "", 0.001), judged("input_changed", 0.9, "", 0.999)
    assert [finding.cause for finding in ranked([fact, main])] == ["input_changed", "non_finite"]


def test_what_is_likely_of_the_little_that_is_left_stands_behind_what_may_account_for_the_most():
    rest, twins = judged("numerics", 0.9, "", 1e-4), [judged("max_length", 1 / 3, "", 0.9999)]
    assert [finding.cause for finding in ranked([rest, *twins])] == ["max_length", "numerics"]


def test_one_finding_a_cause_is_kept_and_a_proof_beats_a_probability():
    proven = ruled_out("numerics", "equal bits")
    found = ranked([judged("numerics", 0.9, ""), proven, judged("code_order", 0.2, "")])
    assert [finding.cause for finding in found] == ["code_order", "numerics"]
    assert found[1] is proven


def test_what_is_shown_beats_what_was_excluded_before_it():
    (finding,) = ranked([ruled_out("code_order", ""), confirmed("code_order", "", 0.4)])
    assert finding.status == "confirmed"


def test_a_finding_takes_its_words_from_the_record_unless_more_is_known():
    plain, known = judged("max_length", 0.7, "n"), judged("max_length", 0.7, "n", meaning="Cut after 384.")
    assert plain.meaning == CAUSES["max_length"].meaning and plain.action == CAUSES["max_length"].action
    assert known.explanation == "Likely the cause (70 %): Cut after 384. n"


def test_a_finding_says_how_sure_it_is():
    meaning = CAUSES["max_length"].meaning
    assert confirmed("max_length", "n").explanation == f"{meaning} n"
    assert judged("max_length", 0.7, "").sentence == f"Likely the cause (70 %): {meaning}"
    assert judged("max_length", 2e-5, "").sentence == f"Possibly the cause (below 0.1 %): {meaning}"
    assert ruled_out("max_length", "All limits agree.").sentence == "Ruled out: All limits agree."


@given(st.floats(0, 1))
def test_only_what_is_possible_and_below_a_hundredth_is_folded(probability):
    finding = judged("max_length", probability, "")
    assert finding.faint == (probability < 0.01)
    assert not confirmed("max_length", "").faint and not ruled_out("max_length", "").faint
    told = finding.sentence.split("(")[1].split(")")[0]
    assert told not in ("0 %", "0.0 %", "100 %", "100.0 %")


def test_a_finding_is_json_whatever_its_numbers_are():
    evidence = {"rows": np.arange(2), "worst": np.float32("nan")}
    written = json.loads(
        json.dumps(Finding("numerics", "likely", 0.5, evidence=evidence).to_json(), allow_nan=False)
    )
    assert written["evidence"] == {"rows": [0, 1], "worst": None}
    assert {"cause", "status", "score", "evidence", "explanation", "how_to_confirm"} <= written.keys()


def test_a_cause_without_a_record_cannot_be_said():
    with pytest.raises(KeyError):
        judged("gremlins", 0.9, "")


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES.keys())
def test_every_record_is_plain_and_whole(cause):
    for sentence in (cause.meaning, cause.action, cause.shown_by):
        assert sentence.endswith(".") and len(sentence) < 260
    for word in ("spread", "lattice", "exponent", "lawful", "evenness"):
        assert word not in cause.meaning + cause.action  # the reader knows F1, not our terms
    assert cause.general in ("", *CAUSES) and set(cause.confused_with) <= set(CAUSES)
    assert sum(cause in group for group in GROUPS.values()) == 1
