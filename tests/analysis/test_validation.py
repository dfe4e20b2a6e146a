"""No threshold is tuned on the run that is scored, and shared notes are counted (case 44)."""

from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.analysis.thresholds import evaluate, evaluation_json
from shifamind_core.analysis.validation import require_validation
from shifamind_core.runs.probability import logits_of
from shifamind_core.runs.run import Run
from tests.support import foreign
from tests.support.foreign import CODES, LABELS, LOGITS, NOTES, PROBABILITIES
from tests.support.refused import refused

RUN = foreign.whole(name="test")
RANDOM = np.random.default_rng(7)
HALF = NOTES // 2


def other(seed=1, **changes):
    """A validation run over other notes."""
    random = np.random.default_rng(seed)
    labels = (random.random(LABELS.shape) < LABELS.mean(axis=0)).astype(np.uint8)
    logits = (random.normal(-1.5, 1.5, labels.shape) + 2 * labels).astype(np.float32)
    made = {
        "logits": logits,
        "name": "val",
        "codes": CODES,
        "labels": labels,
        "document_ids": np.arange(NOTES),
    }
    return Run(**made | changes)


COPIES = {
    "itself": RUN,
    "under another name": replace(RUN, name="val"),
    "without ids": replace(RUN, document_ids=None),
    "without names": replace(RUN, codes=None),
    "in another order": RUN.select(rows=RANDOM.permutation(NOTES)),
    "codes in another order": RUN.select(columns=RANDOM.permutation(26)),
    "rows and codes shuffled, without ids": replace(
        RUN.select(rows=RANDOM.permutation(NOTES), columns=RANDOM.permutation(26)), document_ids=None
    ),
    "in half precision": replace(RUN, logits=LOGITS.astype(np.float16)),
    "in double precision": replace(RUN, logits=LOGITS.astype(np.float64), document_ids=None),
    "through probabilities": replace(RUN, logits=logits_of(PROBABILITIES)[0], document_ids=np.arange(NOTES)),
    "on another GPU": replace(RUN, logits=LOGITS + RANDOM.normal(0, 1e-3, LOGITS.shape).astype(np.float32)),
    "with codes spelled otherwise": replace(RUN, codes=tuple(code.lower() for code in CODES)),
    "with other ids, for other line ends": replace(RUN, document_ids=np.arange(NOTES)),
    "with more notes": Run(
        np.vstack([other().logits, LOGITS]), "val", CODES, np.vstack([other().labels, LABELS]),
        np.concatenate([np.arange(NOTES), RUN.document_ids]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", COPIES)
def test_a_threshold_is_not_tuned_on_the_run_that_is_scored(how):
    with refused("cannot tune", "the same scores of the same 300 notes"):
        evaluate(RUN, COPIES[how])


def test_other_notes_tune_without_a_word():
    evaluation = evaluate(RUN, other())
    assert evaluation.shared == 0 and evaluation.tuned is not None
    assert evaluation_json(evaluation)["shared_with_validation"] == 0
    assert evaluation_json(evaluate(RUN))["shared_with_validation"] is None
    assert evaluation.remarks == ()


@pytest.mark.parametrize("ids", [True, False])
def test_notes_that_both_runs_hold_are_counted_and_said(ids):
    validation = Run(
        np.vstack([LOGITS[:HALF], other().logits[HALF:]]),
        "val",
        CODES,
        np.vstack([LABELS[:HALF], other().labels[HALF:]]),
        np.concatenate([RUN.document_ids[:HALF], np.arange(HALF)]) if ids else None,
    )
    evaluation = evaluate(RUN, validation)
    assert evaluation.shared == evaluation_json(evaluation)["shared_with_validation"] == HALF
    assert any(
        f"{HALF} of the {NOTES} scored notes are in the validation run too" in line
        for line in evaluation.remarks
    )


def test_ids_that_only_number_the_rows_are_not_taken_for_notes():
    """Both files count their rows from 0: equal ids, other notes, as their labels show."""
    shared = require_validation(replace(RUN, document_ids=np.arange(NOTES)), other())
    assert shared < NOTES / 10  # a few notes carry the same codes by chance


def test_the_same_notes_under_other_scores_are_said():
    scores = np.random.default_rng(3).normal(size=LOGITS.shape).astype(np.float32)
    assert evaluate(RUN, replace(RUN, logits=scores)).shared == NOTES


def test_a_validation_run_that_cannot_be_scored_is_refused():
    with refused("has no labels"):
        require_validation(RUN, other(labels=None))
    broken = other().logits.copy()
    broken[2, 3] = np.nan
    with refused("not finite"):
        require_validation(RUN, other(logits=broken))


def test_few_notes_of_few_codes_are_equal_by_chance_but_for_the_very_same_run():
    one = Run(np.array([[0, 1.5], [-2, 3], [0.5, 1]], np.float32), labels=np.zeros((3, 2), np.uint8))
    assert require_validation(one, replace(one, logits=one.logits + 1)) == 0
    with refused("cannot tune"):
        require_validation(one, replace(one, name="copy"))
