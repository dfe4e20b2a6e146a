"""The proof panel: what is needed, what was measured, and the one sentence."""

from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.analysis import tuned_bound
from shifamind_core.diagnosis import proof
from shifamind_core.diagnosis.proof import prove, prove_tuned
from shifamind_core.runs.manifest import Manifest, PolicyRecord
from shifamind_core.runs.run import Run


@pytest.fixture
def run():
    random = np.random.default_rng(0)
    labels = (random.random((400, 6)) < 0.3).astype(np.uint8)
    logits = (2.5 * labels - 1.5 + random.normal(size=labels.shape)).astype(np.float32)
    return Run(logits, codes=tuple("ABCDEF"), labels=labels)


def test_small_measured_errors_cannot_explain_a_large_gap(run):
    here = prove(run, {}, {}).curve.macro_f1[0].mean()
    proof = prove(run, {"macro_f1": 0.74 * here}, {"fp32": 1e-6, "tf32": 1e-3})
    assert proof.excluded is True
    assert "Rounding cannot explain this gap." in proof.sentence
    assert "tf32, the coarsest policy measured, parts two runs by at most 0.002 in a logit" in proof.sentence


def test_the_rounding_of_the_run_on_hand_counts_beside_that_of_the_other(run):
    needed = prove(run, {"macro_f1": 0.5}, {}, reported=False).needs[0].epsilon
    measured = {"fp32": 1e-6, "bf16": 0.75 * needed}
    assert (
        prove(run, {"macro_f1": 0.5}, measured, reported=False).excluded is False
    )  # twice BF16's error reaches it
    known = replace(run, manifest=Manifest(policy=PolicyRecord(name="fp32")))
    assert prove(known, {"macro_f1": 0.5}, measured, reported=False).excluded is True


def test_the_needed_epsilon_is_enough_and_anything_less_is_not(run):
    proof = prove(run, {"macro_f1": 0.5}, {}, reported=False)
    (need,) = proof.needs
    at = {
        e: prove(run, {}, {"x": e}).policies[0].macro_f1[0] for e in (need.epsilon, need.epsilon * (1 - 1e-9))
    }
    assert at[need.epsilon] <= 0.5 < at[need.epsilon * (1 - 1e-9)]


def test_an_error_as_large_as_needed_is_not_ruled_out(run):
    known = replace(run, manifest=Manifest(policy=PolicyRecord(name="fp32")))
    proof = prove(known, {"micro_f1": 0.6}, {"fp32": 1e-6, "bf16": 3.0})
    assert proof.excluded is False
    assert (
        "fp32 and finer cannot explain this gap" in proof.sentence
        and "does not rule it out" in proof.sentence
    )


def test_scores_that_agree_within_their_rounding_need_nothing(run):
    score = prove(run, {"macro_f1": 0.5}, {}).needs[0].here
    proof = prove(run, {"macro_f1": round(score, 4)}, {"fp32": 1e-6})
    assert proof.needs[0].epsilon == 0 and "no gap to explain" in proof.sentence


def test_a_logit_at_the_threshold_needs_hardly_any_error_and_has_its_curve(run):
    """A stored probability of 0.5: the least of all numbers moves its decision."""
    logits = run.logits.copy()
    logits[0] = 0
    at_it = replace(run, logits=logits)
    moved = prove(at_it, {}, {"x": 1e-30}).policies[0]
    target = moved.macro_f1[0] if moved.macro_f1[0] < moved.macro_f1[1] else moved.macro_f1[1]
    proof = prove(at_it, {"macro_f1": target}, {}, reported=False)
    assert proof.needs[0].epsilon < 1e-300
    assert (np.diff(proof.curve.epsilons) > 0).all()


def test_a_score_that_no_change_of_logits_reaches_says_so(run):
    unlabelled = replace(
        run, labels=np.concatenate([run.labels[:, :5], np.zeros((400, 1), np.uint8)], axis=1)
    )
    proof = prove(unlabelled, {"macro_f1": 0.9}, {"fp32": 1e-6})
    assert proof.needs[0].epsilon is None and proof.excluded is True
    assert "cannot be reached by any change" in proof.sentence


def test_the_curve_covers_every_mark_and_widens(run):
    proof = prove(run, {"macro_f1": 0.5}, {"fp32": 1e-6, "tf32": 1e-3})
    epsilons, macro = proof.curve.epsilons, proof.curve.macro_f1
    assert epsilons[0] < 1e-6 and epsilons[-1] > proof.needs[0].epsilon
    assert (np.diff(macro[:, 0]) <= 0).all() and (np.diff(macro[:, 1]) >= 0).all()


@pytest.mark.parametrize("targets", [{"macro_f1": 0.3, "micro_f1": 0.5}, {"micro_f1": 1.0}, {}])
def test_the_proof_of_a_large_run_is_that_of_sorted_margins(run, targets, monkeypatch):
    measured = {"fp32": 1e-6, "bf16": 0.07, "tf32": 0.003}
    sorted_all = prove(run, targets, measured)
    monkeypatch.setattr(proof, "MOST_CELLS", 0)
    monkeypatch.setattr("shifamind_core.runs.blocks.BLOCK_CELLS", 100)
    found = prove(run, targets, measured)
    assert (found.needs, found.policies, found.sentences) == (
        sorted_all.needs,
        sorted_all.policies,
        sorted_all.sentences,
    )
    for part in ("epsilons", "macro_f1", "micro_f1", "per_code", "flippable"):
        assert np.array_equal(getattr(found.curve, part), getattr(sorted_all.curve, part))


def test_the_tuned_proof_of_a_large_run_says_how_far_it_was_searched(run, monkeypatch):
    measured = {"fp32": 1e-6, "bf16": 0.07}
    whole = prove_tuned(run, run, {"macro_f1": 0.3}, measured)
    assert "searched" not in whole.sentence and len(whole.policies) == 2
    monkeypatch.setattr(tuned_bound, "MOST_CELLS", 300)
    found = prove_tuned(run, run, {"macro_f1": 0.3}, measured)
    reach = tuned_bound.TunedFlipBound(run, run).reach
    assert reach < 0.07 and found.sentence.endswith(f"for changes of up to {reach:.2g}.")
    assert found.needs[0].epsilon == reach <= whole.needs[0].epsilon
    assert [policy.policy for policy in found.policies] == ["fp32"] and found.policies[0] == whole.policies[0]
    assert found.curve.epsilons.max() == reach
