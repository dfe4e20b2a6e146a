"""The whole way: a planted fault is found, nothing planted is nothing found, and only what is shown is called shown."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from shifamind_core.analysis.rungs import Ladder, Rung
from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.diagnose import Diagnosis, diagnose
from shifamind_core.diagnosis.evidence.levels import level_of_policy
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import Manifest, PolicyRecord
from shifamind_core.runs.run import Run
from simulation import planted
from simulation.planted import Planted, with_logits

REFERENCE = planted.synthetic_run(900, seed=3)
OTHER_NOTES = planted.synthetic_run(900, seed=3, notes=1)
OUTPUT_CASES = [case for planter in planted.OUTPUT_PLANTERS for case in planter(REFERENCE, 5)]
DATA_CASES = list(planted.plant_other_data(REFERENCE, OTHER_NOTES, 5))


def name(case: Planted) -> str:
    return f"{case.cause}: {case.variant}"


@pytest.mark.parametrize("case", [*OUTPUT_CASES, *DATA_CASES], ids=name)
def test_a_planted_fault_is_the_first_finding(case: Planted) -> None:
    diagnosis = diagnose(case.candidate, case.reference)
    right = {case.cause, *(cause for cause in case.also if cause != "numerics")}
    assert diagnosis.cause in right
    for cause in set(case.also) - {"numerics"}:  # rounding beside a fault need not show
        finding = diagnosis.finding(cause)
        assert finding is not None and finding.score > 0, f"{cause} was planted too"


@pytest.mark.parametrize("case", OUTPUT_CASES[::7], ids=name)
def test_findings_keep_their_promises(case: Planted) -> None:
    diagnosis = diagnose(case.candidate, case.reference)
    scores = [finding.score for finding in diagnosis.findings]
    assert scores == sorted(scores, reverse=True)
    assert len({finding.cause for finding in diagnosis.findings}) == len(scores)
    for finding in diagnosis.findings:
        assert finding.cause in CAUSES
        assert finding.explanation.endswith((".", "…"))
        if finding.status == "ruled_out":
            assert finding.score == 0
        else:
            of_the_most = finding.status == "likely" and finding.share >= 0.5
            assert (finding.score >= 0.5) == (finding.status == "confirmed" or of_the_most)
    assert json.loads(json.dumps(diagnosis.to_json(), allow_nan=False))["cause"] == diagnosis.cause


@pytest.mark.parametrize("case", [case for case in OUTPUT_CASES if "noise" in case.variant], ids=name)
def test_only_an_exact_match_confirms(case: Planted) -> None:
    if case.cause not in ("few_codes_changed", "few_documents_changed", "non_finite"):
        assert all(
            finding.status != "confirmed" for finding in diagnose(case.candidate, case.reference).findings
        )


def test_a_run_is_identical_to_itself() -> None:
    diagnosis = diagnose(REFERENCE, REFERENCE)
    assert diagnosis.cause == "identical"
    assert {finding.status for finding in diagnosis.findings[1:]} == {"ruled_out"}


def test_a_stored_zero_decides_nothing() -> None:
    """One probability of 0.0000 in a file of four decimals, beside noise that the decimals do not explain."""
    probability = np.round(
        expit(REFERENCE.logits.astype(np.float64) + planted.rounding_noise(REFERENCE, 0.05, 1)), 4
    )
    probability = np.clip(probability, 1e-4, 1 - 1e-4)
    known = diagnose(planted.of_probabilities(REFERENCE, probability), REFERENCE)
    probability[5, 3] = 0.0
    diagnosis = diagnose(planted.of_probabilities(REFERENCE, probability), REFERENCE)
    assert diagnosis.observed is not None and known.observed is not None
    assert diagnosis.observed.largest == pytest.approx(known.observed.largest, rel=0.2)
    assert diagnosis.cause == known.cause
    assert diagnosis.findings[0].probability == pytest.approx(known.findings[0].probability, abs=0.05)


@settings(max_examples=15)  # each diagnoses twice
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100))
def test_the_scale_of_the_logits_does_not_matter(seed: int, scale: float) -> None:
    small = REFERENCE.select(rows=np.arange(200))
    noisy = planted.rounding_noise(small, 0.3, seed).astype(np.float64)
    shapes = [
        diagnose(
            with_logits(small, noisy * factor), with_logits(small, small.logits.astype(np.float64) * factor)
        )
        for factor in (1.0, scale)
    ]
    assert causes(shapes[0]) == causes(shapes[1])


@settings(max_examples=15)  # each diagnoses twice
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_notes_does_not_matter(seed: int) -> None:
    small = REFERENCE.select(rows=np.arange(200))
    noisy = with_logits(small, planted.rounding_noise(small, 0.3, seed))
    rows = np.random.default_rng(seed).permutation(200)
    moved = diagnose(noisy.select(rows=rows), small.select(rows=rows))
    assert causes(moved)[0] == causes(diagnose(noisy, small))[0]


def causes(diagnosis: Diagnosis) -> list[str]:
    return [finding.cause for finding in diagnosis.findings if finding.score > 0.05]


# --- rounding


def test_every_policy_but_the_default_has_a_level() -> None:
    assert {name for name in POLICIES if level_of_policy(name) is None} == {"default"}


def ladder(**errors: float) -> Ladder:
    """One rung a policy: its largest error, of which the root mean square is a fifth."""
    rungs = tuple(
        Rung(name.replace("_", "-"), max_abs=error, rms=error / 5) for name, error in errors.items()
    )
    return Ladder(rungs, REFERENCE.documents, "made up", "cpu", {})


def numerics(diagnosis: Diagnosis) -> str:
    finding = diagnosis.finding("numerics")
    return "not listed" if finding is None else finding.status


def test_without_a_measurement_on_this_model_rounding_is_never_ruled_out_of_a_difference() -> None:
    for size in (1e-5, 1e-3, 0.05, 0.5):
        diagnosis = diagnose(with_logits(REFERENCE, planted.rounding_noise(REFERENCE, size, 1)), REFERENCE)
        assert numerics(diagnosis) != "ruled_out"
        for hypothesis in diagnosis.hypotheses:
            assert hypothesis.verdict != "ruled_out"
            if hypothesis.verdict == "unlikely":
                assert "of" in hypothesis.explanation and "models measured before" in hypothesis.explanation


def test_the_flip_bound_with_a_ladder_of_this_model_rules_rounding_out_of_a_gap_too_large_for_it() -> None:
    candidate = with_logits(REFERENCE, planted.rounding_noise(REFERENCE, 0.8, 1))
    diagnosis = diagnose(
        candidate, REFERENCE, ladder=ladder(fp32=1e-6, tf32=1e-4, fp16_autocast=1e-4, bf16_autocast=1e-3)
    )
    assert numerics(diagnosis) == "ruled_out"
    assert {hypothesis.verdict for hypothesis in diagnosis.hypotheses} == {"ruled_out"}
    assert all("The gap in F1 needs" in hypothesis.explanation for hypothesis in diagnosis.hypotheses)


def test_a_ladder_that_reaches_the_gap_rules_nothing_out() -> None:
    candidate = with_logits(REFERENCE, planted.rounding_noise(REFERENCE, 0.8, 1))
    diagnosis = diagnose(
        candidate, REFERENCE, ladder=ladder(fp32=30.0, tf32=30.0, fp16_autocast=30.0, bf16_autocast=30.0)
    )
    assert numerics(diagnosis) != "ruled_out"
    assert "ruled_out" not in {hypothesis.verdict for hypothesis in diagnosis.hypotheses}


def test_a_ladder_without_a_level_says_nothing_of_it() -> None:
    candidate = with_logits(REFERENCE, planted.rounding_noise(REFERENCE, 0.8, 1))
    verdicts = {
        h.name: h.verdict for h in diagnose(candidate, REFERENCE, ladder=ladder(fp32=1e-6)).hypotheses
    }
    assert verdicts["nondeterminism"] == "ruled_out" and verdicts["tensor_cores"] != "ruled_out"


def test_the_candidates_own_rounding_counts_beside_that_of_the_hypothesis() -> None:
    candidate = with_logits(REFERENCE, planted.rounding_noise(REFERENCE, 0.8, 1))
    measured = ladder(fp32=1e-6, tf32=1e-4, fp16_autocast=1e-4, bf16_autocast=30.0)
    unknown = {h.name: h.verdict for h in diagnose(candidate, REFERENCE, ladder=measured).hypotheses}
    fine = replace(candidate, manifest=Manifest(policy=PolicyRecord(name="fp32")))
    known = {h.name: h.verdict for h in diagnose(fine, REFERENCE, ladder=measured).hypotheses}
    assert unknown["matmul_default"] != "ruled_out"  # the candidate may have been computed in BF16
    assert known["matmul_default"] == "ruled_out" and known["tensor_cores"] != "ruled_out"


def test_an_exact_match_that_leaves_nothing_rules_rounding_out() -> None:
    moved = with_logits(
        REFERENCE, REFERENCE.logits[np.random.default_rng(0).permutation(REFERENCE.documents)]
    )
    diagnosis = diagnose(moved, REFERENCE)
    assert diagnosis.cause == "document_order" and numerics(diagnosis) == "ruled_out"
    assert {hypothesis.verdict for hypothesis in diagnosis.hypotheses} == {"ruled_out"}


# --- scale and metric


def test_a_sigmoid_is_undone_to_the_last_digit() -> None:
    finding = diagnose(with_logits(REFERENCE, expit(REFERENCE.logits)), REFERENCE).findings[0]
    assert (finding.cause, finding.status) == ("probabilities_as_logits", "confirmed")


def test_an_exact_recalibration_is_a_map_of_the_scores() -> None:
    logits = REFERENCE.logits.astype(np.float64) * 0.8 - 0.35
    finding = diagnose(with_logits(REFERENCE, logits), REFERENCE).findings[0]
    assert (finding.cause, finding.status) == ("score_map", "confirmed")


# --- runs of every shape


def test_runs_of_other_shapes_get_an_answer() -> None:
    fewer_codes = Run(REFERENCE.logits[:, :40], "candidate")
    assert diagnose(fewer_codes, replace(REFERENCE, codes=None)).cause == "different_codes"
    strangers = replace(REFERENCE, document_ids=np.arange(REFERENCE.documents, dtype=np.int64))
    others = replace(OTHER_NOTES, document_ids=10_000 + np.arange(REFERENCE.documents, dtype=np.int64))
    assert diagnose(others, strangers).cause == "different_documents"


@pytest.mark.parametrize("documents", [1, 2, 5, 30])
def test_small_runs_get_an_answer(documents: int) -> None:
    small = REFERENCE.select(rows=np.arange(documents))
    for size in (0.0, 1e-3, 0.5):
        assert diagnose(with_logits(small, planted.rounding_noise(small, size, 0)), small).findings


def test_one_code_and_constant_codes_get_an_answer() -> None:
    one = REFERENCE.select(columns=np.arange(1))
    assert diagnose(with_logits(one, one.logits + np.float32(1)), one).findings
    constant = with_logits(REFERENCE, np.zeros_like(REFERENCE.logits))
    assert diagnose(constant, REFERENCE).findings


# --- beside other things


def test_runs_without_a_finite_value_are_said_to_have_none() -> None:
    nothing = np.full_like(REFERENCE.logits, np.nan)
    for pair in ((nothing, REFERENCE.logits), (REFERENCE.logits, nothing), (nothing, nothing)):
        diagnosis = diagnose(*(with_logits(REFERENCE, logits) for logits in pair))
        assert diagnosis.cause == "non_finite"


def test_values_beyond_fp32_are_counted_and_left_out() -> None:
    logits = REFERENCE.logits.astype(np.float64)
    logits[:5] = 1e308
    finding = diagnose(with_logits(REFERENCE, logits), REFERENCE).findings[0]
    assert (finding.cause, finding.evidence["candidate"]) == ("non_finite", 5 * logits.shape[1])


def test_other_labels_stand_before_rounding() -> None:
    assert REFERENCE.labels is not None
    labels = REFERENCE.labels ^ (np.random.default_rng(0).random(REFERENCE.labels.shape) < 0.02)
    noisy = with_logits(REFERENCE, planted.rounding_noise(REFERENCE, 1e-3, 1), labels=labels.astype(np.uint8))
    assert diagnose(noisy, REFERENCE).cause == "different_labels"


def test_equal_scores_of_some_notes_are_said_to_be_of_these() -> None:
    whole = planted.synthetic_run(80, seed=2)
    ids = np.arange(80)
    first, last = (
        replace(whole, logits=whole.logits[part], labels=None, token_counts=None, document_ids=ids[part])
        for part in (slice(0, 50), slice(30, 80))
    )
    equal = diagnose(first, last).finding("identical")
    assert equal is not None and equal.meaning.startswith("On the 20 notes that both runs hold")
