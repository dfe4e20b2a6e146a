"""Manifests and digests: what they exclude, what they make likelier, and how they narrow a general name."""

import math
from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.narrower import narrowed
from shifamind_core.diagnosis.evidence.prior import TRUST, excluded_by_digests, prior_log_odds
from shifamind_core.runs.manifest import CheckpointRecord, Manifest, TokenizationRecord
from shifamind_core.runs.run import Run

NOTES = 12


def run(tokens: np.ndarray | None = None, **manifest: object) -> Run:
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


def test_two_fields_that_differ_share_it():
    between = evidence(
        run(tokenization=tokenized()), run(tokenization=tokenized(lowercase=False, max_length=384))
    )
    found = names({"input_changed": 1.0}, between)
    assert found["tokenizer_casing"] == found["max_length"] == pytest.approx(0.495)


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
        run(
            tokenization=tokenized(lowercase=False, max_length=128),
            checkpoint=CheckpointRecord(weights_digest="b"),
        ),
    )
    given = {
        "input_changed": 0.4,
        "max_length": 0.2,
        "padding": 0.1,
        "weights_changed": 0.25,
        "numerics": 0.05,
    }
    assert sum(names(given, between).values()) == pytest.approx(1.0)


def test_equal_tokens_exclude_other_input_and_other_tokens_raise_it():
    same, other = np.arange(NOTES), np.arange(NOTES) + 1
    equal = evidence(run(same), run(same))
    assert prior_log_odds(equal)["input_changed"] == -math.inf
    assert {finding.cause for finding in excluded_by_digests(equal)} == {
        "input_changed",
        "tokenizer_casing",
        "max_length",
        "truncation_side",
    }
    assert prior_log_odds(evidence(run(same), run(other)))["input_changed"] == TRUST


def test_equal_weights_speak_against_other_weights_but_do_not_exclude_that_they_were_lost():
    digest = CheckpointRecord(weights_digest="a")
    equal = evidence(run(checkpoint=digest), run(checkpoint=digest))
    assert prior_log_odds(equal)["weights_changed"] == -TRUST
    assert {finding.cause for finding in excluded_by_digests(equal)} == {"other_checkpoint"}


def test_nothing_known_shifts_nothing():
    assert prior_log_odds(evidence(run(), run())) == {}
