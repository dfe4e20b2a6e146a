"""Manifests and digests: what they exclude, what they make likelier, and how they narrow a general name."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shifamind_core.diagnosis.causes import CAUSES, OUTCOMES
from shifamind_core.diagnosis.classifier.cause_model import load
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.facts import OBSERVERS, observed
from shifamind_core.diagnosis.evidence.narrower import narrowed
from shifamind_core.diagnosis.evidence.prior import excluded_by_digests, of_something_unknown, prior_log_odds
from shifamind_core.runs.manifest import (
    CAPTURED,
    OWN,
    TRAINING_MODE,
    CheckpointRecord,
    Manifest,
    TokenizationRecord,
)
from shifamind_core.runs.run import Run

NOTES = 12


def run(tokens: np.ndarray | None = None, **manifest: Any) -> Run:
    logits = np.random.default_rng(1).normal(size=(NOTES, 4)).astype(np.float32)
    return Run(logits, codes=tuple("ABCD"), token_digests=tokens, manifest=Manifest(**manifest))


def tokenized(**fields: object) -> TokenizationRecord:
    return replace(TokenizationRecord(lowercase=True, max_length=512, truncation_side="right"), **fields)


def evidence(candidate: Run, reference: Run) -> Evidence:
    return Evidence.of(candidate, reference)


def names(probabilities, between: Evidence) -> dict[str, float]:
    return {part.cause: part.probability for part in narrowed(probabilities, between)}


def test_nothing_known_leaves_the_general_name():
    assert names({"input_changed": 0.8, "weights_changed": 0.2}, evidence(run(), run())) == {
        "input_changed": 0.8,
        "weights_changed": 0.2,
    }


def test_a_casing_that_differs_takes_the_probability_of_other_input_but_for_one_part_in_a_hundred():
    between = evidence(run(tokenization=tokenized()), run(tokenization=tokenized(lowercase=False)))
    first, second = narrowed({"input_changed": 1.0}, between)
    assert first.cause == "tokenizer_casing" and first.probability == pytest.approx(0.99)
    assert first.meaning == "The candidate lower-cased the notes, the reference did not."
    assert second.cause == "input_changed"


def test_two_fields_that_differ_were_both_at_work():
    between = evidence(
        run(tokenization=tokenized()), run(tokenization=tokenized(lowercase=False, max_length=384))
    )
    found = names({"input_changed": 1.0}, between)
    assert found["tokenizer_casing"] == found["max_length"] == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (None, {"max_length": 0.5, "truncation_side": 0.5}),
        (tokenized(max_length=384), {"max_length": 1.0}),
        (tokenized(truncation_side="left"), {"truncation_side": 0.99, "max_length": 0.01}),
        (tokenized(), {"input_changed": 0.99, "max_length": 0.01}),
        (tokenized(lowercase=False), {"tokenizer_casing": 0.99, "max_length": 0.01}),
    ],
)
def test_where_only_long_notes_changed_the_manifests_tell_the_twins_apart(reference, expected):
    between = evidence(run(tokenization=tokenized()), run(tokenization=reference))
    assert names({"max_length": 1.0}, between) == pytest.approx(expected)


def test_padding_reaches_no_score_of_an_architecture_that_reads_none():
    checkpoint = CheckpointRecord(architecture="cls_fusion")
    between = evidence(run(checkpoint=checkpoint, tokenization=tokenized(padding="longest")), run())
    assert (
        "padding" not in names({"padding": 1.0}, between)
        or names({"padding": 1.0}, between)["padding"] < 0.02
    )


def test_probabilities_are_dealt_out_and_none_is_lost():
    between = evidence(
        run(tokenization=tokenized(), checkpoint=CheckpointRecord(weights_digest="a")),
        run(tokenization=tokenized(lowercase=False), checkpoint=CheckpointRecord(weights_digest="b")),
    )
    given = {
        "input_changed": 0.4,
        "max_length": 0.2,
        "padding": 0.1,
        "weights_changed": 0.25,
        "numerics": 0.05,
    }
    assert sum(names(given, between).values()) == pytest.approx(1.0)


def odds(candidate: Run, reference: Run, cause: str, other: str = "numerics") -> float:
    """By how much records alone make one cause likelier than another (log)."""
    found = prior_log_odds(evidence(candidate, reference), load().causes)
    return found[cause] - found[other]


def test_equal_tokens_exclude_other_input_and_other_tokens_raise_it():
    same, other = np.arange(NOTES), np.arange(NOTES) + 1
    assert odds(run(same), run(same), "input_changed") == -math.inf
    assert {finding.cause for finding in excluded_by_digests(evidence(run(same), run(same)))} == {
        "input_changed",
        "tokenizer_casing",
        "max_length",
        "truncation_side",
    }
    # 0.99 for either kind of other tokens, against one exception in a hundred: half of each for most.
    assert odds(run(same), run(other), "input_changed") == pytest.approx(math.log(0.99 / 0.01))


@pytest.mark.parametrize(("changed", "first"), [(2, "few_documents_changed"), (10, "input_changed")])
def test_how_many_notes_have_other_tokens_tells_a_few_notes_from_other_input(changed, first):
    tokens = np.arange(NOTES)
    found = prior_log_odds(evidence(run(tokens), run(np.where(tokens < changed, -1, tokens))), load().causes)
    assert max(("few_documents_changed", "input_changed", "numerics"), key=found.__getitem__) == first


A, B = CheckpointRecord(weights_digest="a"), CheckpointRecord(weights_digest="b")


@pytest.mark.parametrize(
    ("producer", "reference", "cause", "expected"),
    [
        # This product loads strictly: equal digests speak against other weights and against any that were not loaded.
        (OWN, A, "weights_changed", 0.01 / 0.99),
        (
            OWN,
            A,
            "encoder_not_loaded",
            0.0025 / 0.99 * 0.01 / 0.99,
        ),  # one of four ways to differ from what it predicts
        (OWN, B, "weights_changed", 0.99 / 0.01),
        (OWN, B, "encoder_not_loaded", 0.9975 / 0.99),
        # Somebody else's digests are of what was read: the same where it was not loaded, and other files are other weights.
        (None, A, "encoder_not_loaded", 1.0),
        (None, A, "weights_changed", 0.5 / 0.99),
        (None, B, "encoder_not_loaded", 1.0),
        (None, B, "weights_changed", 0.5 / 0.01),
        # A captured run has the digest of what its model held.
        (CAPTURED, B, "encoder_not_loaded", 0.9975 / 0.01),
        (CAPTURED, A, "encoder_not_loaded", 0.0025 / 0.99),
    ],
)
def test_what_a_weights_digest_says_depends_on_whose_it_is(producer, reference, cause, expected):
    between = run(checkpoint=A, producer=producer), run(checkpoint=reference, producer=producer)
    assert math.exp(odds(*between, cause)) == pytest.approx(expected)
    excluded = {finding.cause for finding in excluded_by_digests(evidence(*between))}
    assert excluded == ({"other_checkpoint"} if reference == A else set())


def test_weights_that_agree_once_rounded_are_not_other_weights():
    one, other = (
        run(checkpoint=CheckpointRecord(weights_digest=digest, weights_digest_bf16="c")) for digest in "ab"
    )
    assert odds(one, other, "weights_changed") < 0


def test_one_file_whose_captured_model_held_other_weights_was_not_loaded():
    one, other = (
        run(producer=CAPTURED, checkpoint=CheckpointRecord(weights_digest=digest, file_sha256="f"))
        for digest in "ab"
    )
    assert odds(one, other, "head_not_loaded", "weights_changed") > 0
    assert "other_checkpoint" not in names({"weights_changed": 1.0}, evidence(one, other))


@pytest.mark.parametrize("cause", ["dropout_active", "padding", "head_not_loaded"])
def test_what_this_product_cannot_do_is_unlikely_between_two_of_its_runs_alone(cause):
    own = {"producer": f"{OWN} 1.0", "tokenization": tokenized(padding="max_length")}
    foreign = {**own, "producer": None}
    assert odds(run(**own), run(**own), cause) < -4
    for one, other in ((own, foreign), (foreign, foreign)):
        assert odds(run(**one), run(**other), cause) > -1


def test_a_captured_run_says_whether_dropout_was_on():
    quiet, noisy = run(producer=CAPTURED), run(producer=CAPTURED, notes=(TRAINING_MODE,))
    assert odds(quiet, quiet, "dropout_active") == pytest.approx(-math.log(99))
    assert odds(noisy, quiet, "dropout_active") == pytest.approx(math.log(99))


def test_one_length_that_differs_counts_once():
    """A maximum length that cut notes is seen in their tokens; where it cut none, in the padding."""
    short = run(np.arange(NOTES), tokenization=tokenized(padding="max_length", max_length=128))
    uncut = run(np.arange(NOTES), tokenization=tokenized(padding="max_length"))
    cut = run(np.arange(NOTES) - 100, tokenization=tokenized(padding="max_length"))
    assert set(observed(evidence(short, uncut))) == set(observed(evidence(short, cut))) | {"padding"}
    assert odds(short, uncut, "padding") > 3
    assert odds(short, cut, "dropout_active") == 0  # not counted once as tokens and once more as a limit
    assert odds(short, cut, "max_length", "input_changed") == pytest.approx(math.log(99))


def test_nothing_known_shifts_nothing():
    assert set(prior_log_odds(evidence(run(), run()), load().causes).values()) == {0.0}
    assert of_something_unknown(evidence(run(), run()), 1.0) == 0.5


def test_every_outcome_that_a_cause_predicts_is_one_that_can_be_observed():
    assert set(OBSERVERS) == set(OUTCOMES)
    for cause in CAUSES.values():
        for fact, outcomes in cause.predicts.items():
            assert set(outcomes) <= set(OUTCOMES[fact]), cause.name
