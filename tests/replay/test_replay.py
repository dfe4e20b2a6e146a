"""Replay: what another pipeline did otherwise is found among everything that is tried, and nothing else is.

Here a part of it, on few notes; `python -m benchmarks.replay_proof` plants everything, alone and in pairs.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.analysis.reported_scores import parse_reported
from shifamind_core.commands import COMMANDS, Host
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.jobs.worker import Cancelled
from shifamind_core.precision.policy import POLICIES
from shifamind_core.replay.fit import NO_FIT
from shifamind_core.replay.recipe import Edit, Intervention, Recipe, with_edit
from shifamind_core.replay.reference_rows import target_of
from shifamind_core.replay.result import Trial
from shifamind_core.replay.runner import Bench
from shifamind_core.replay.search import rivals
from shifamind_core.replay.task import Setup, replay
from shifamind_core.runs.cache import RunCache
from shifamind_core.specs import ReplaySpec
from simulation.replay_cases import (
    ARCHITECTURES,
    RANDOM,
    RIGHT,
    ROUNDING,
    SINGLES,
    UNLISTED,
    Case,
    Subject,
    applies,
    case_of,
)
from simulation.replay_oracle import evaluate
from tests.support.refused import refused

NOTES = 24
ALONE = [name for name in SINGLES if not name.startswith("document_order=perm")]
SEVERAL = (
    ("lowercase=false", "code_order=alphabetical"),
    ("max_length=256", "document_order=reversed"),
    ("truncation_side=left", "output=probabilities"),
    ("max_length=128", "output=double_sigmoid"),
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


@pytest.mark.parametrize(
    "name", ["noise of a hundredth on the logits", "max pooling", "every third word taken out"]
)
def test_what_is_not_in_the_list_stays_unexplained(subject, name):
    result = subject.replay(Case((), replace(RIGHT, **UNLISTED[name])))
    assert (result["verdict"], result["best"]["interventions"]) == ("unexplained", [])
    assert "Unexplained" in result["sentence"]


def test_what_keeps_something_of_the_model_must_stay_unexplained(subject):
    """Only weights that keep nothing may be taken for weights made anew: the bar of `benchmarks.replay_proof`."""
    for name in ("max pooling", "the letter e taken out", "noise of a twentieth on the weights"):
        expected = subject.expected_of_unlisted(Case((), replace(RIGHT, **UNLISTED[name])))
        assert expected.verdicts == ("unexplained",)
    nothing_left = subject.expected_of_unlisted(Case((), replace(RIGHT, weight_noise=5.0)))
    assert nothing_left.verdicts == ("unexplained", "likely") and nothing_left.may == set(RANDOM)


@pytest.mark.slow
def test_of_random_changes_that_would_do_alike_every_one_is_named(tmp_path):
    subject = Subject(tmp_path, "concept_attention", seed=8202, notes=64, depth=1)
    name = "noise of a fifth on the weights"
    result = subject.replay(Case((), replace(RIGHT, **UNLISTED[name])), draw=len(name))
    assert result["verdict"] == "likely"
    assert {"encoder=not_loaded", "concept_embeddings=random"} <= set(
        re.findall(r"\w+=\w+", result["sentence"])
    )


def test_rivals_of_a_random_change_are_the_other_random_ones_that_explain_as_much():
    def trial(name, explained, random=True):
        edit = with_edit(Edit(name, lambda *_: None, random=random))
        step = Intervention(name, "weights", "", "", edit)
        recipe = edit(Recipe(Tokenization(), POLICIES["fp32"]))
        return Trial((step,), recipe, replace(NO_FIT, explained=explained), 64)

    winner = trial("encoder=not_loaded", 1.0)
    others = [
        trial("concept_embeddings=random", 0.95),
        trial("dropout=on", 0.3),
        trial("max_length=128", 0.95, False),
    ]
    assert rivals(winner, [winner, *others]) == ("concept_embeddings=random",)
    assert rivals(others[-1], [winner, *others]) == ()


@pytest.mark.parametrize(
    "names",
    [
        ("max_length=256",),
        ("lowercase=false", "pooling=mean"),
        *(
            pytest.param(names, marks=pytest.mark.slow)
            for names in (
                ("dropout=on",),
                ("text=nfkc", "max_length=128"),
                ("truncation_side=left", "output=probabilities"),
                ("lowercase=false", "document_order=reversed"),
                ("every third word taken out",),
                ("noise of a hundredth on the logits",),
                ("nothing",),
            )
        ),
    ],
    ids=" + ".join,
)
def test_looking_at_few_notes_first_finds_what_measuring_all_finds(subject, names):
    unlisted = UNLISTED.get(names[0])
    case = case_of(*names) if unlisted is None else Case((), replace(RIGHT, **unlisted))
    quick = subject.replay(case)
    subject.setup.screen = False
    try:
        plain = subject.replay(case)
    finally:
        subject.setup.screen = True
    for told in ("verdict", "best", "base", "numerics", "sentence", "before_after"):
        assert quick[told] == plain[told], told


def test_adding_the_same_change_twice_is_no_pair(subject):
    for trial in subject.replay(case_of("lowercase=false"))["trials"]:
        choices = [name.split("=")[0] for name in trial["interventions"]]
        assert len(set(choices)) == len(choices)


def test_a_sibling_is_found_on_its_own_split_without_ids(subject):
    files = subject.sibling
    run = replace(subject.reference(case_of()), logits=evaluate(files).astype(np.float32), document_ids=None)
    result = subject.setup.reproduce(run)
    assert (result["verdict"], result["best"]["interventions"]) == ("confirmed", ["checkpoint=run_sibling"])


@pytest.mark.parametrize("how", ["bare", "first", "labels"])
def test_notes_are_found_without_document_ids(subject, how):
    run = replace(subject.reference(case_of("lowercase=false")), document_ids=None, codes=None)
    if how == "first":
        run = run.select(np.arange(20))
    if how == "labels":
        labels = subject.setup.own.split("test").labels
        run = replace(run, labels=labels).select(np.random.default_rng(0).permutation(NOTES)[:18])
    result = subject.setup.reproduce(run)
    assert (result["verdict"], result["best"]["interventions"]) == ("confirmed", ["lowercase=false"])
    assert any("no document ids" in remark for remark in result["remarks"])


def test_probabilities_and_half_precision_files_are_numerics(subject):
    run = subject.reference(case_of())
    result = subject.setup.reproduce(replace(run, logits=run.logits.astype(np.float16)))
    assert (result["verdict"], result["numerics"]["level"]) == ("numerics", "fp16")
    assert result["best"]["interventions"] == []


def test_a_reference_over_other_notes_is_one_clear_line(subject):
    stranger = replace(subject.reference(case_of()), document_ids=np.arange(NOTES))
    with refused(f"None of the {NOTES} notes"):
        subject.setup.reproduce(stranger)


def test_the_notes_chosen_are_long_and_short_and_confirming_holds_them(subject):
    target = target_of(subject.reference(case_of()), subject.setup.splits(), subject.setup.codes)
    rows = target.choose(12)
    every = [len(target.text(None, row)) for row in range(NOTES)]
    chosen = [every[row] for row in rows]
    assert len(set(rows)) == 12
    assert min(chosen) <= np.percentile(every, 15) and max(chosen) >= np.percentile(every, 85)
    assert set(rows) <= set(target.more(rows, 20)) and len(target.more(rows, 20)) == 20


def test_a_second_search_computes_nothing_and_other_embeddings_are_computed_anew(subject, tmp_path):
    target = target_of(subject.reference(case_of()), subject.setup.splits(), subject.setup.codes)
    rows = target.choose(8)
    steps = {step.name: step for step in subject.setup.interventions(target)}
    recipes = [
        steps[name].apply(subject.setup.base) for name in ("max_length=128", "policy=fp64", "head=not_loaded")
    ]

    def bench():
        return Bench(subject.setup.pipelines, target, subject.setup.device, tmp_path)

    first, second = bench(), bench()
    before = [first.values(recipe, rows, draws=2) for recipe in recipes]
    assert first.notes_computed == 4 * 8
    after = [second.values(recipe, rows, draws=2) for recipe in recipes]
    assert second.notes_computed == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    second.values(replace(recipes[0], policy=POLICIES["default"]), rows)
    assert second.notes_computed == 8


def test_every_trial_is_watched(subject):
    seen = []
    setup = Setup(
        replace(subject.setup.spec, only=("lowercase=true", "lowercase=false", "max_length=128")), None
    )
    setup.base = subject.setup.base
    setup._bench = subject.setup._bench
    setup.reproduce(
        subject.reference(case_of("lowercase=false")),
        lambda trials, done, total: seen.append((trials, done, total)),
    )
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert all(done <= total for _, done, total in seen)
    assert seen[-1][0][0].names == ("lowercase=false",)


def test_reported_scores_rank_the_change_that_gives_them(subject, tmp_path_factory):
    folder = subject.setup.own.directory.path
    wanted = replay(
        ReplaySpec(
            str(folder), reported="macro_f1@0.5=0.5,micro_f1@0.5=0.5", device="cpu", only=("lowercase=false",)
        ),
        None,
    )
    scores = next(t for t in wanted["trials"] if t["interventions"] == ["lowercase=false"])["scores"]
    reported = ",".join(f"{name}={value:.4f}" for name, value in scores.items())
    spec = ReplaySpec(
        str(folder),
        reported=reported,
        device="cpu",
        only=("lowercase=true", "lowercase=false", "max_length=128"),
    )
    found = replay(spec, None)
    assert found["best"]["interventions"] == ["lowercase=false"] and found["best"]["distance"] < 0.05
    assert "four digits" in found["sentence"]
    nothing = replay(replace(spec, reported="macro_f1@0.5=0.01,micro_f1@0.5=0.99"), None)
    assert "Nothing that was tried" in nothing["sentence"]


@pytest.mark.parametrize("text", ["", "f1=0.3", "macro_f1@0.5", "macro_f1@2=0.3", "tuned_macro_f1=1.3"])
def test_reported_scores_that_are_none_are_one_clear_line(text):
    with pytest.raises(ShifamindError):
        parse_reported(text)


class Listener:
    """What a command tells its host, kept; a cancel comes like the worker's own, out of a report."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.steps, self.tables, self.cancel_after = [], [], cancel_after

    def host(self, cache):
        return Host(cache, RunCache(cache).load, self.progress, self.partial)

    def progress(self, message, done, total):
        self.steps.append((message, done, total))

    def partial(self, value):
        self.tables.append(value["trials"])
        if len(self.tables) == self.cancel_after:
            raise Cancelled


def test_the_worker_shows_progress_and_a_growing_table_and_can_be_cancelled(subject, tmp_path):
    reference = RunCache(tmp_path).store_upload(subject.reference(case_of("max_length=128")), tmp_path)
    spec = ReplaySpec(
        str(subject.setup.own.directory.path),
        reference=reference,
        device="cpu",
        notes=8,
        depth=1,
        only=("max_length=128", "max_length=256", "truncation_side=left"),
    )
    listener = Listener()
    result = COMMANDS["replay"].run(spec, listener.host(tmp_path))
    assert result["best"]["interventions"] == ["max_length=128"]
    stages = {message.partition(" · ")[0] for message, _, _ in listener.steps}
    assert stages >= {
        "Building the model",
        "Looking for the reference's notes",
        "Measuring what rounding does",
        "Trying interventions",
        f"Confirming on {NOTES} notes",
    }
    assert all(done <= total for _, done, total in listener.steps)
    assert any("max_length=128, " in message for message, _, _ in listener.steps), "notes within a trial"
    assert len(listener.tables) >= 3 and len(listener.tables[0]) < len(listener.tables[-1])
    assert listener.tables[-1][0]["interventions"] == ["max_length=128"]
    with pytest.raises(Cancelled):
        COMMANDS["replay"].run(spec, Listener(cancel_after=2).host(tmp_path))
