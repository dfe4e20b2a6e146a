from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shifamind_core.analysis import bootstrap
from shifamind_core.analysis.alignment import align
from shifamind_core.analysis.bootstrap import draw_notes, estimate, gap_intervals, score_intervals
from shifamind_core.analysis.counts import decisions
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run
from tests.support import oracles, strategies


def synthetic_pair(documents=300, codes=5, noise=0.5):
    rng = np.random.default_rng(11)
    labels = (rng.random((documents, codes)) < 0.3).astype(np.uint8)
    logits = rng.normal(-1, 1, labels.shape) + 1.5 * labels
    return Run(logits + rng.normal(0, noise, logits.shape), labels=labels), Run(logits, labels=labels)


@settings(max_examples=20)
@given(strategies.run_pairs(), st.integers(0, 9))
def test_every_draw_scores_the_notes_it_repeats(pair, seed):
    candidate, reference = pair
    other_labels = np.roll(candidate.labels, 1, axis=0)
    variants = [
        (decisions(candidate.logits, 0.5), candidate.labels),
        (decisions(reference.logits, 0.25), candidate.labels),
        (decisions(reference.logits, 0.5), other_labels),
    ]
    drawn = draw_notes(variants, 6, seed)
    weights = bootstrap._note_weights(candidate.documents, 6, seed)
    for draw, notes in enumerate([np.ones(candidate.documents, int), *weights]):
        for variant, (predicted, labels) in enumerate(variants):
            macro, micro, _ = oracles.f1_of_decisions(
                np.repeat(labels, notes, axis=0), np.repeat(predicted, notes, axis=0)
            )
            assert drawn.macro_f1[variant, draw] == pytest.approx(macro, abs=1e-15)
            assert drawn.micro_f1[variant, draw] == micro


def test_codes_taken_in_turns_give_the_same_scores(monkeypatch):
    pair = synthetic_pair()
    variants = [(decisions(run.logits, 0.5), run.labels) for run in pair]
    whole = draw_notes(variants, 50, 0)
    monkeypatch.setattr(bootstrap, "MATRIX_BYTES", 12 * 2 * 300 * 2)  # two codes at a time
    turns = draw_notes(variants, 50, 0)
    assert np.array_equal(whole.micro_f1, turns.micro_f1)
    assert turns.macro_f1 == pytest.approx(whole.macro_f1, abs=1e-15)


def test_the_gap_of_a_run_with_itself_is_zero_in_every_draw():
    run, _ = synthetic_pair()
    found = gap_intervals(align(run, run), draws=50)
    assert (found.macro_f1.low, found.macro_f1.value, found.macro_f1.high) == (0, 0, 0)
    assert found.micro_f1.half_width == 0


@given(strategies.run_pairs())
@settings(max_examples=20)
def test_swapping_the_runs_mirrors_the_gap_interval(pair):
    there = gap_intervals(align(*pair), draws=20)
    back = gap_intervals(align(*pair[::-1]), draws=20)
    for a, b in ((there.macro_f1, back.macro_f1), (there.micro_f1, back.micro_f1)):
        assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low), abs=1e-15)


def test_the_point_is_the_score_and_pairing_narrows_the_interval():
    candidate, reference = synthetic_pair(noise=0.1)
    gap = gap_intervals(align(candidate, reference))
    alone = score_intervals(candidate)
    fixed = evaluate(candidate).fixed
    assert alone.macro_f1.value == fixed.macro_f1
    assert alone.micro_f1.low < fixed.micro_f1 < alone.micro_f1.high
    assert gap.micro_f1.half_width < alone.micro_f1.half_width / 2


def test_the_interval_is_the_middle_95_percent_of_the_draws():
    found = estimate(np.array([7.0, *range(101)]))
    assert (found.value, found.low, found.high, found.half_width) == (7.0, 2.5, 97.5, 47.5)


def test_a_draw_is_reproduced_by_its_seed():
    run, _ = synthetic_pair()
    assert score_intervals(run, draws=20, seed=1) == score_intervals(run, draws=20, seed=1)
    assert score_intervals(run, draws=20, seed=1) != score_intervals(run, draws=20, seed=2)


def test_a_run_without_labels_cannot_be_drawn():
    with pytest.raises(ShifamindError, match="has no labels"):
        score_intervals(Run(np.zeros((2, 1))))


def test_draws_of_places_are_those_of_matrices_to_the_last_bit(monkeypatch):
    pair = synthetic_pair(codes=7)
    pair = pair[0], replace(pair[1], labels=np.roll(pair[1].labels, 1, axis=0))
    monkeypatch.setattr(bootstrap, "MATRIX_BYTES", 12 * 2 * 300 * 3)  # three codes at a time
    whole = gap_intervals(align(*pair), draws=150)
    monkeypatch.setattr(bootstrap, "MOST_CELLS", 0)
    monkeypatch.setattr("shifamind_core.runs.blocks.BLOCK_CELLS", 100)
    assert gap_intervals(align(*pair), draws=150) == whole
