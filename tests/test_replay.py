"""Replay: what another pipeline did otherwise is found among everything that is tried, and nothing else is.

Here a part of it, on few notes; `python -m benchmarks.replay_proof` plants everything, alone and in pairs.
"""

from dataclasses import replace

import pytest

from tests.replay_cases import (
    ARCHITECTURES,
    RIGHT,
    ROUNDING,
    SINGLES,
    UNLISTED,
    Case,
    Subject,
    applies,
    case_of,
)

NOTES = 32
ALONE = [name for name in SINGLES if not name.startswith("document_order=perm")]
SEVERAL = (
    ("lowercase=false", "code_order=alphabetical"),
    ("max_length=256", "document_order=reversed"),
    ("truncation_side=left", "output=probabilities"),
)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def subject(request, tmp_path_factory):
    return Subject(tmp_path_factory.mktemp(request.param), request.param, seed=21, notes=NOTES)


@pytest.mark.parametrize("name", ALONE)
def test_what_another_pipeline_did_otherwise_is_found_among_all(subject, name):
    if not applies(name, subject.architecture):
        pytest.skip("there is no such thing in this architecture")
    result = subject.replay(case_of(name))
    assert subject.expected(case_of(name)).met_by(result), result["sentence"]


@pytest.mark.parametrize("names", SEVERAL, ids=" + ".join)
def test_two_changes_together_are_found(subject, names):
    result = subject.replay(case_of(*names))
    assert set(result["best"]["interventions"]) == set(names)
    assert result["verdict"] == "confirmed"


@pytest.mark.parametrize("name", ["nothing", *ROUNDING])
def test_nothing_planted_and_rounding_are_never_an_intervention(subject, name):
    case = case_of(*(() if name == "nothing" else (name,)))
    result = subject.replay(case)
    assert subject.expected(case).met_by(result), result["sentence"]


@pytest.mark.parametrize("name", ["noise of a hundredth on the logits", "max pooling", "length 300"])
def test_what_is_not_in_the_list_stays_unexplained(subject, name):
    result = subject.replay(Case((), replace(RIGHT, **UNLISTED[name])))
    assert (result["verdict"], result["best"]["interventions"]) == ("unexplained", [])
    assert "Unexplained" in result["sentence"]


def test_adding_the_same_change_twice_is_no_pair(subject):
    for trial in subject.replay(case_of("lowercase=false"))["trials"]:
        choices = [name.split("=")[0] for name in trial["interventions"]]
        assert len(set(choices)) == len(choices)
