"""Matchers of how scores were written: what is exact is confirmed and undone, and noise is never taken for it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax

from shifamind_core.diagnosis.evidence.calibration import calibration
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.exact.formats import UNIT64, Format, format_of, read
from shifamind_core.diagnosis.exact.map_fit import SIGMOID, Interval
from shifamind_core.diagnosis.exact.non_finite import start
from shifamind_core.diagnosis.exact.output_scale import sigmoids
from shifamind_core.diagnosis.exact.score_map import _takes_away, score_map
from shifamind_core.diagnosis.exact.stored_precision import stored_precision
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import Run
from simulation import planted
from simulation.planted import Planted, of_probabilities, with_logits

REFERENCE = planted.synthetic_run(900, seed=3)
STORED = list(planted.plant_stored_precision(REFERENCE, 5))
MAPPED = list(planted.plant_score_map(REFERENCE, 5))
SCALED = list(planted.plant_scale(REFERENCE, 5))
CALIBRATED = list(planted.plant_calibration(REFERENCE, 5))
NOISES = (1e-7, 3e-7, 1e-6, 2e-4, 1e-3, 4e-3, 0.3)


def examined(candidate: Run, reference: Run) -> Examination:
    examination = start(Evidence.of(candidate, reference))
    for match in (sigmoids, stored_precision, score_map):
        examination = match(examination)
    return examination


def named(examination: Examination) -> list[tuple[str, str]]:
    return [(f.cause, f.status) for f in examination.findings if f.status != "ruled_out"]


def name(case: Planted) -> str:
    return f"{case.cause}: {case.variant}"


@pytest.mark.parametrize("case", [*STORED, *MAPPED], ids=name)
@pytest.mark.parametrize("swapped", [False, True], ids=["candidate", "reference"])
def test_how_scores_were_written_is_confirmed_and_undone(case: Planted, swapped: bool) -> None:
    examination = examined(
        *((case.reference, case.candidate) if swapped else (case.candidate, case.reference))
    )
    if case.cause == "identical":
        assert named(examination) == [] and examination.explained
        return
    assert [cause for cause, _ in named(examination)] == [case.cause]
    if case.also:  # rounding of noise, or rows that stand elsewhere, are left to others
        assert not examination.explained
    else:
        assert named(examination) == [(case.cause, "confirmed")] and examination.explained
        assert examination.left == 0


@pytest.mark.parametrize("case", [c for c in SCALED if not c.also], ids=name)
def test_sigmoids_are_taken_off(case: Planted) -> None:
    examination = examined(case.candidate, case.reference)
    assert named(examination) == [(case.cause, "confirmed")] and examination.explained


@pytest.mark.parametrize("case", [c for c in SCALED if c.also], ids=name)
def test_what_lies_below_a_sigmoid_is_left(case: Planted) -> None:
    examination = examined(case.candidate, case.reference)
    assert [cause for cause, _ in named(examination)] == [case.cause] and not examination.explained
    size = examination.logits.size
    assert size < 0.01 or "document_order" in case.also  # the noise, no more; or rows of other notes


@pytest.mark.parametrize("case", CALIBRATED, ids=name)
def test_an_exact_recalibration_is_a_map_and_another_is_left(case: Planted) -> None:
    examination = examined(case.candidate, case.reference)
    if case.cause == "score_map":
        assert named(examination) == [("score_map", "confirmed")]
    else:
        assert named(examination) == []


@pytest.mark.parametrize("relative", NOISES)
@pytest.mark.parametrize("documents, codes", [(900, 50), (60, 4), (300, 12)])
def test_noise_is_no_way_of_writing_scores(relative: float, documents: int, codes: int) -> None:
    run = planted.synthetic_run(documents, codes, seed=7)
    noisy = planted.rounding_noise(run, relative, 1)
    assert named(examined(with_logits(run, noisy), run)) == []
    temperature = examined(with_logits(run, noisy / np.float32(1.7)), run)
    assert all(cause == "score_map" and relative <= 1e-7 for cause, _ in named(temperature))


@pytest.mark.parametrize("relative", [2e-4, 1e-3, 4e-3, 2e-2])
def test_half_precision_arithmetic_is_not_how_a_file_was_saved(relative: float) -> None:
    noisy = planted.rounding_noise(REFERENCE, relative, 1)
    for half in (planted.to_bf16(noisy), noisy.astype(np.float16)):
        found = named(examined(with_logits(REFERENCE, half), REFERENCE))
        assert found == [] or relative == 2e-4  # a fortieth of BF16's step is as good as none


def test_two_files_of_equal_decimals_are_no_rounding_of_each_other() -> None:
    noisy = planted.rounding_noise(REFERENCE, 1e-3, 1)
    pair = (
        with_logits(REFERENCE, np.round(noisy, 3)),
        replace(REFERENCE, logits=np.round(REFERENCE.logits, 3)),
    )
    assert named(examined(*pair)) == []


@given(
    places=st.integers(0, 5),
    scale=st.floats(0.1, 30),
    documents=st.integers(8, 40),
    codes=st.integers(3, 8),
    seed=st.integers(0, 1000),
)
def test_decimals_are_told_from_the_values(places, scale, documents, codes, seed) -> None:
    values = (np.random.default_rng(seed).standard_normal((documents, codes)) * scale).astype(np.float32)
    rounded = np.round(values, places).astype(np.float64)
    found = format_of(rounded)
    if found is not None:  # few values may lie on a coarser grid as well, or on none for sure
        assert (found.off(rounded) <= 1e-6 * np.abs(rounded)).all()
    assert format_of(values.astype(np.float64)) is None


@given(st.integers(0, 1000))
def test_one_value_proves_no_format(seed) -> None:
    value = np.round(np.random.default_rng(seed).standard_normal((1, 1)), 3).astype(np.float32)
    assert format_of(value.astype(np.float64)) is None


@given(st.integers(0, 1000), st.sampled_from([0.05, 1.0, 30.0]), st.integers(1, 6))
def test_decimals_are_not_called_half_precision_that_was_written_in_them(seed, spread, places) -> None:
    values = np.random.default_rng(seed).standard_normal((400, 2)) * spread
    found = format_of(np.round(values, places), slack=lambda x: UNIT64 * np.abs(x))
    assert found is None or found.kind in ("decimals", "digits")


@pytest.mark.parametrize("kind, dtype", [("fp16", np.float16), ("fp32", np.float32)])
def test_units_are_those_of_numpy(kind, dtype) -> None:
    values = np.array([1e-8, 6e-5, 0.1, 1.0, 1.5, 3.0, 1000.0], dtype)
    assert Format(kind).unit(values.astype(np.float64)).tolist() == np.spacing(values).astype(float).tolist()


def test_a_stored_0_is_read_as_open_below() -> None:
    run = of_probabilities(REFERENCE, np.round(expit(REFERENCE.logits), 2))
    stored = read(run.logits.astype(np.float64), from_probabilities=True)
    assert stored.format == Format("decimals", 2) and stored.lowest is not None
    assert np.isneginf(stored.bounds()[0][run.logits == stored.lowest]).all()


def test_scores_beyond_0_and_1_rule_sigmoids_out_and_nothing_else_does() -> None:
    ruled = {f.cause for f in examined(with_logits(REFERENCE, REFERENCE.logits[::-1]), REFERENCE).findings}
    assert {"probabilities_as_logits", "double_sigmoid"} <= ruled
    both = [
        with_logits(REFERENCE, expit(REFERENCE.logits[rows])) for rows in (slice(None), slice(None, None, -1))
    ]
    assert not [f for f in examined(*both).findings if f.status == "ruled_out"]


def test_other_input_below_a_softmax_is_no_map() -> None:
    other = planted.synthetic_run(900, seed=3, notes=1)
    mixed = softmax(0.8 * REFERENCE.logits + 0.2 * other.logits, axis=1)
    assert named(examined(with_logits(REFERENCE, mixed), REFERENCE)) == []


def test_a_map_is_named_for_what_it_is() -> None:
    logits = REFERENCE.logits.astype(np.float64)
    for mapped, kind in (
        (log_softmax(logits, axis=1), "log_softmax"),
        (logits / 1.7, "factor"),
        (logits + np.arange(50) / 10, "code_shift"),
        (np.clip(logits, -4, 2), "clip"),
        (4 * np.tanh(logits / 4), "order_within_run"),
    ):
        (finding,) = [
            f
            for f in examined(with_logits(REFERENCE, mapped.astype(np.float32)), REFERENCE).findings
            if f.status == "confirmed"
        ]
        assert finding.evidence["kind"] == kind


def test_a_curve_of_every_codes_own_shows_that_ranking_is_kept_and_no_more() -> None:
    logits = REFERENCE.logits.astype(np.float64)
    bent = np.sinh(logits / np.linspace(2, 4, 50)).astype(np.float32)
    findings = examined(with_logits(REFERENCE, bent), REFERENCE).findings
    (finding,) = [finding for finding in findings if finding.status == "confirmed"]
    assert finding.cause == "calibration_shift" and finding.evidence["kind"] == "order_within_code"
    assert "other weights" in finding.meaning


def test_cells_that_are_no_numbers_are_counted_and_decide_nothing() -> None:
    logits = np.round(REFERENCE.logits, 4)
    logits[3] = np.nan
    logits[7, 2] = np.inf
    examination = examined(with_logits(REFERENCE, logits), REFERENCE)
    assert named(examination) == [("non_finite", "confirmed"), ("stored_precision", "confirmed")]
    evidence = examination.findings[0].evidence
    assert (evidence["candidate"], evidence["documents"], evidence["documents_throughout"]) == (51, 2, 1)
    assert evidence["kinds"]["candidate"] == {"NaN": 50, "+∞": 1} and examination.explained


def test_infinite_logits_of_a_stored_0_are_said_to_be_that() -> None:
    logits = REFERENCE.logits.copy()
    logits[logits < -7] = -np.inf
    finding = examined(with_logits(REFERENCE, logits), REFERENCE).findings[0]
    assert finding.evidence["stored_ends"] and "exactly 0 or 1" in finding.numbers
    logits[0, 0] = np.inf
    assert not examined(with_logits(REFERENCE, logits), REFERENCE).findings[0].evidence["stored_ends"]


def test_a_least_squares_recalibration_gives_words() -> None:
    noise = planted.rounding_noise(REFERENCE, 1e-3, 1) - REFERENCE.logits
    pair = start(Evidence.of(with_logits(REFERENCE, 0.8 * REFERENCE.logits + 0.3 + noise), REFERENCE)).logits
    found = calibration(pair)
    assert found.kind == "affine" and found.left_over < 1e-3
    assert found.slope.item() == pytest.approx(0.8, abs=1e-3) and "+0.3" in found.words


def test_runs_without_a_difference_are_left_alone() -> None:
    examination = examined(with_logits(REFERENCE, REFERENCE.logits.copy()), REFERENCE)
    assert examination.explained and not examination.findings


def test_probabilities_of_fp32_are_the_same_scores() -> None:
    marked = Manifest(logits_from_probabilities=True)
    twin = of_probabilities(REFERENCE, expit(REFERENCE.logits))
    assert twin.manifest.logits_from_probabilities == marked.logits_from_probabilities
    assert start(Evidence.of(twin, REFERENCE)).explained


@given(seed=st.integers(0, 10**6), documents=st.integers(1, 12), codes=st.integers(1, 4))
def test_no_scores_are_too_odd_to_be_looked_at(seed: int, documents: int, codes: int) -> None:
    """Warnings are errors: constants, ends, single cells, NaN, scores beyond FP32, files of probabilities."""
    rng = np.random.default_rng(seed)

    def odd() -> Run:
        values = rng.standard_normal((documents, codes)) * rng.choice([1e-3, 1.0, 20.0, 1e30])
        kind = rng.integers(0, 8)
        if kind == 0:
            values[:] = rng.choice([0.0, 3.0, np.nan])
        if kind == 1:
            values.flat[0] = rng.choice([np.inf, -np.inf, np.nan])
        if kind == 2:
            values = np.round(values, rng.integers(0, 3))
        if kind == 3:
            values = expit(values)
        if kind == 4:
            values = (values > 0).astype(np.float64)
        run = Run(values)
        return of_probabilities(run, np.round(expit(values), 3)) if kind == 5 else run

    for pair in ((odd(), odd()), [run := odd(), replace(run, logits=1.3 * run.logits + 1)]):
        examination = examined(*pair)
        assert all(finding.to_json()["score"] >= 0 for finding in examination.findings)


def test_a_map_that_takes_nothing_away_explains_nothing() -> None:
    logits = np.random.default_rng(0).normal(-20, 5, (40, 6))
    noisy = logits + np.random.default_rng(1).normal(0, 0.5, logits.shape)

    def probability(values: np.ndarray) -> Interval:
        written = expit(values)
        return Interval(SIGMOID, written, written, written)

    one, nothing = np.ones((1, 1)), np.zeros((1, 1))
    halved = probability(np.log(expit(logits) / 2))
    assert not _takes_away(probability(noisy), probability(logits), one, nothing)
    assert _takes_away(halved, probability(logits), one / 2, nothing)
