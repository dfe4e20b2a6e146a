import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shifamind_core.analysis.comparison import compare, comparison_json
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.arrays import probabilities
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run
from shifamind_core.runs.uploads import read_upload
from tests.support import strategies


@given(strategies.runs())
def test_a_run_compared_with_itself_has_no_flips_and_no_gap(run):
    found = compare(run, run)
    assert found.decisions_flipped == 0
    assert (found.difference.mean, found.difference.max_abs, found.difference.rms) == (0, 0, 0)
    assert (found.macro_f1.gap, found.micro_f1.gap) == (0, 0)
    assert (found.per_code["f1_gap"] == 0).all()


@given(strategies.run_pairs(), st.sampled_from([0.25, 0.5]))
def test_swapping_the_runs_mirrors_the_comparison(pair, threshold):
    there, back = compare(*pair, threshold), compare(*pair[::-1], threshold)
    assert there.difference.mean == -back.difference.mean
    assert there.difference.abs_percentiles == back.difference.abs_percentiles
    assert there.difference.max_abs == back.difference.max_abs
    assert there.difference.rms == back.difference.rms
    assert there.difference.correlation == back.difference.correlation
    assert (there.decisions_gained, there.decisions_lost) == (back.decisions_lost, back.decisions_gained)
    assert there.macro_f1.gap == -back.macro_f1.gap
    assert there.micro_f1.gap == -back.micro_f1.gap
    assert there.per_code["candidate_f1"].tolist() == back.per_code["reference_f1"].tolist()
    assert there.per_code["mean_difference"].tolist() == (-back.per_code["mean_difference"]).tolist()


@given(strategies.run_pairs())
def test_the_statistics_are_the_seeds_experiment_5(pair):
    candidate, reference = pair
    found = compare(candidate, reference)
    assume(not found.stand_in_cells)  # they are left out of the differences
    difference = candidate.logits.astype(float) - reference.logits.astype(float)
    # Summed code by code, so that a run too large to be held is summed in the same order: to the last digit but a few.
    assert found.difference.mean == pytest.approx(
        difference.mean(), rel=1e-14, abs=1e-14 * np.abs(difference).mean()
    )
    assert found.difference.max_abs == np.abs(difference).max()
    assert (
        list(found.difference.abs_percentiles.values())
        == np.percentile(np.abs(difference), [50, 90, 99]).tolist()
    )
    assert found.per_code["rms_difference"].tolist() == pytest.approx(np.sqrt((difference**2).mean(axis=0)))
    assert found.per_code["abs_p90"].tolist() == pytest.approx(np.percentile(np.abs(difference), 90, axis=0))
    taken = [probabilities(run.logits) > 0.5 for run in pair]
    assert found.decisions_flipped == (taken[0] != taken[1]).sum()
    assert found.per_code["decisions_gained"].tolist() == (taken[0] & ~taken[1]).sum(axis=0).tolist()


@given(strategies.run_pairs())
def test_scores_are_those_of_each_run_alone(pair):
    found = compare(*pair)
    alone = [evaluate(run) for run in pair]
    assert [found.macro_f1.candidate, found.macro_f1.reference] == [e.fixed.macro_f1 for e in alone]
    assert [found.micro_f1.candidate, found.micro_f1.reference] == [e.fixed.micro_f1 for e in alone]
    assert found.per_code["reference_f1"].tolist() == [code.f1 for code in alone[1].per_code]


def test_correlation_by_hand():
    x, y = np.array([[1.0], [2.0], [4.0]], np.float32), np.array([[2.0], [4.0], [8.0]], np.float32)
    assert compare(Run(x), Run(y)).difference.correlation == pytest.approx(1)
    assert compare(Run(x), Run(-y)).difference.correlation == pytest.approx(-1)
    assert compare(Run(x), Run(np.ones((3, 1), np.float32))).difference.correlation is None


def test_differences_are_taken_in_fp64_whatever_the_dtypes():
    candidate, reference = Run(np.array([[1.0]], np.float16)), Run(np.array([[1 + 1e-9]]))
    assert compare(candidate, reference).difference.mean == pytest.approx(-1e-9, rel=1e-6)


def test_cells_that_are_not_finite_are_counted_reported_and_left_out():
    labels = np.array([[1, 0], [1, 1]], np.uint8)
    candidate = Run(np.array([[1.0, np.nan], [2.0, np.inf]]), labels=labels)
    reference = Run(np.array([[0.5, 0.0], [0.5, 0.0]]), labels=labels)
    found = compare(candidate, reference)
    assert found.non_finite_cells == 2
    assert found.difference.cells == 2
    assert found.difference.mean == 1.0
    assert found.decisions_flipped == 0
    assert found.macro_f1.candidate is None
    assert found.macro_f1.reference == evaluate(reference).fixed.macro_f1
    assert found.macro_f1.gap is None
    assert found.per_code["non_finite_cells"].tolist() == [0, 2]
    assert any("the candidate has 2 of 4" in remark for remark in found.remarks)
    second = comparison_json(found)["per_code"][1]
    assert (second["mean_difference"], second["candidate_f1"], second["reference_f1"]) == (None, None, 0.0)


def test_nothing_finite_leaves_the_statistics_unknown():
    found = compare(Run(np.full((2, 1), np.nan)), Run(np.zeros((2, 1))))
    assert found.difference.mean is None
    assert comparison_json(found)["abs_percentiles"] == {"50": None, "90": None, "99": None}


@given(strategies.run_pairs())
def test_the_document_is_plain_json_with_the_keys_of_the_contract(pair):
    candidate, reference = pair
    document = json.loads(
        json.dumps(comparison_json(compare(candidate, replace(reference, labels=None))), allow_nan=False)
    )
    assert {
        "aligned_documents", "aligned_codes", "mean_difference", "max_abs_difference", "abs_percentiles",
        "decisions_flipped", "macro_f1", "micro_f1", "per_code",
    } <= set(document)  # fmt: skip
    assert set(document["abs_percentiles"]) == {"50", "90", "99"}
    assert {"candidate", "reference"} <= set(document["macro_f1"])
    assert len(document["per_code"]) == document["aligned_codes"]


def test_a_threshold_that_is_no_probability_is_refused():
    run = Run(np.zeros((1, 1)))
    with pytest.raises(ShifamindError, match=r"2\.0 is no probability"):
        compare(run, run, 2.0)


def test_stand_ins_for_a_stored_0_or_1_are_left_out_of_the_differences_and_said():
    logits = np.random.default_rng(0).normal(0, 12, (200, 6)).astype(np.float32)
    reference = Run(logits)
    candidate = read_upload("saved.npz", npz(probabilities=probabilities(logits)))
    saturated = (probabilities(logits) == 1) | (candidate.logits == candidate.logits.max())
    found = compare(candidate, reference)
    assert found.stand_in_cells == saturated.sum() > 0 and found.stand_ins == (saturated.sum(), 0)
    assert found.difference.cells == logits.size - saturated.sum()
    assert found.per_code["stand_in_cells"].sum() == found.stand_in_cells
    document = comparison_json(found)
    assert document["stand_ins"] == {"candidate": saturated.sum(), "reference": 0, "cells": saturated.sum()}
    assert any("stored probability of 0 or 1" in remark for remark in document["remarks"])
    assert document["decisions_flipped"] == 0


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
