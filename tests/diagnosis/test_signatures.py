"""A planted fault is found, nothing planted is nothing found, and nothing but rounding is called rounding."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from shifamind_core.diagnosis.diagnose import Diagnosis, diagnose
from shifamind_core.diagnosis.evidence.aligned_logits import Pair, two_groups
from shifamind_core.diagnosis.exact import labels as label_signatures
from shifamind_core.diagnosis.exact import order
from shifamind_core.diagnosis.exact.stored_precision import decimals, lattice, level_of_policy, round_to
from shifamind_core.diagnosis.findings import CAUSES
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.probability import logits_of
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
    for cause in case.also:
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
            assert (finding.score >= 0.5) == (finding.status in ("confirmed", "likely"))
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
    assert [finding.cause for finding in diagnosis.findings if finding.score > 0] == ["identical"]


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


@given(seed=st.integers(0, 1000))
def test_the_order_of_the_notes_does_not_matter(seed: int) -> None:
    small = REFERENCE.select(rows=np.arange(200))
    noisy = with_logits(small, planted.rounding_noise(small, 0.3, seed))
    rows = np.random.default_rng(seed).permutation(200)
    moved = diagnose(noisy.select(rows=rows), small.select(rows=rows))
    assert causes(moved)[0] == causes(diagnose(noisy, small))[0]


def causes(diagnosis: Diagnosis) -> list[str]:
    return [finding.cause for finding in diagnosis.findings if finding.score > 0.05]


# --- order


@given(rows=st.permutations(range(60)), noise=st.sampled_from([0.0, 1e-3, 0.05]))
def test_every_row_is_found_again(rows: list[int], noise: float) -> None:
    reference = REFERENCE.logits[:60].astype(np.float64)
    rng = np.random.default_rng(0)
    candidate = reference[rows] + noise * rng.standard_normal(reference.shape)
    match = order.match_rows(candidate, reference)
    assert match.partner.tolist() == list(rows)


def test_equal_rows_are_paired_one_by_one() -> None:
    reference = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0]])
    candidate = reference[[2, 3, 0]]
    assert order.match_equal_rows(candidate, reference).tolist() == [0, 3, 2]


@given(order_of=st.permutations(range(12)))
def test_every_column_is_found_again(order_of: list[int]) -> None:
    reference = REFERENCE.logits[:, :12].astype(np.float64)
    match = order.match_columns(Pair(reference[:, order_of], reference))
    found = list(range(12)) if match is None else match.partner.tolist()
    assert found == list(order_of)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (planted.shifted(100, 40, 3)[:97], "shift"),
        (np.roll(np.arange(100), -7), "rotation"),
        (np.arange(100)[::-1], "reversed"),
        (planted.interleaved(100, 4), "interleaved"),
        (np.argsort(planted.interleaved(100, 4)), "interleaved"),
        (planted.swapped_blocks(100, np.random.default_rng(1)), "blocks"),
        (np.random.default_rng(1).permutation(100), "permutation"),
    ],
)
def test_an_order_is_called_by_its_name(rows: np.ndarray, kind: str) -> None:
    assert order.describe_rows(rows)[1]["kind"] == kind


def test_a_column_order_is_called_by_its_name() -> None:
    codes = ("C", "A", "B", "D")
    assert order.describe_columns(np.array([1, 2, 0, 3]), codes, None) == "alphabetical"
    assert order.describe_columns(np.array([3, 2, 1, 0]), None, None) == "reversed"
    assert order.describe_columns(np.array([2, 0, 3, 1]), None, np.array([5, 1, 9, 3])) == "frequency"


def test_undoing_an_order_gives_the_scores_of_the_reference() -> None:
    rows = np.random.default_rng(0).permutation(REFERENCE.documents)
    finding = diagnose(with_logits(REFERENCE, REFERENCE.logits[rows]), REFERENCE).findings[0]
    assert finding.cause == "document_order"
    assert finding.evidence["scores_once_undone"] == finding.evidence["scores_of_reference"]
    assert finding.evidence["scores"]["macro_f1"] < finding.evidence["scores_of_reference"]["macro_f1"]


def test_labels_that_moved_along_are_no_fault_of_the_labels() -> None:
    moved = REFERENCE.select(rows=np.random.default_rng(0).permutation(REFERENCE.documents))
    diagnosis = diagnose(replace(moved, name="candidate"), REFERENCE)
    assert diagnosis.cause == "document_order"
    assert diagnosis.findings[0].evidence["labels_moved_along"] is True
    labels = diagnosis.finding("different_labels")
    assert labels is not None and labels.status == "ruled_out"


def test_notes_matched_by_id_need_no_order() -> None:
    named = replace(REFERENCE, document_ids=np.arange(REFERENCE.documents, dtype=np.int64))
    moved = named.select(rows=np.random.default_rng(0).permutation(REFERENCE.documents))
    assert diagnose(moved, named).cause == "identical"


# --- rounding


def test_rounding_is_that_of_torch() -> None:
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 7
    for kind, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        expected = torch.from_numpy(values).to(dtype).double().numpy()
        np.testing.assert_array_equal(round_to(values, kind), expected)  # type: ignore[arg-type]


def test_a_lattice_is_seen_whatever_holds_it() -> None:
    values = REFERENCE.logits
    coarse = planted.to_bf16(values)
    assert lattice(coarse) == lattice(coarse.astype(np.float64)) == "bf16"
    assert (
        lattice(values.astype(np.float16)) == lattice(values.astype(np.float16).astype(np.float32)) == "fp16"
    )
    assert lattice(values) is None


def test_decimals_are_counted() -> None:
    assert [decimals(np.round(REFERENCE.logits, places)) for places in (1, 2, 4)] == [1, 2, 4]
    assert decimals(REFERENCE.logits) is None


def test_every_policy_but_the_default_has_a_level() -> None:
    assert {name for name in POLICIES if level_of_policy(name) is None} == {"default"}


@dataclass(frozen=True)
class FakeRung:
    policy: str
    rms: float | None


def test_a_measured_ladder_decides_where_sizes_alone_cannot() -> None:
    spread = float(np.sqrt((REFERENCE.logits.std(axis=0) ** 2).mean()))
    noisy = with_logits(REFERENCE, planted.to_bf16(planted.rounding_noise(REFERENCE, 0.2, 1)))
    ill = [FakeRung("bf16", 0.2 * spread), FakeRung("tf32", 0.02 * spread), FakeRung("fp16", None)]
    well = [FakeRung("bf16", 0.005 * spread), FakeRung("tf32", 5e-4 * spread)]
    assert diagnose(noisy, REFERENCE, ladder=ill).cause == "numerics"
    assert diagnose(noisy, REFERENCE, ladder=well).cause == "dropout_active"


# --- scale and metric


def test_a_sigmoid_is_undone_to_the_last_digit() -> None:
    finding = diagnose(with_logits(REFERENCE, expit(REFERENCE.logits)), REFERENCE).findings[0]
    assert (finding.cause, finding.status) == ("probabilities_as_logits", "confirmed")


def test_a_calibration_gives_its_slope_and_offset() -> None:
    logits = REFERENCE.logits.astype(np.float64) * 0.8 - 0.35
    finding = diagnose(with_logits(REFERENCE, logits), REFERENCE).findings[0]
    assert (finding.cause, finding.status, finding.evidence["kind"]) == (
        "calibration_shift",
        "confirmed",
        "affine",
    )
    np.testing.assert_allclose(
        [finding.evidence["slope"][0], finding.evidence["offset"][0]], [0.8, -0.35], atol=1e-6
    )


def test_every_definition_of_the_metric_is_recognised_by_its_scores() -> None:
    assert REFERENCE.labels is not None
    for definition in label_signatures.definitions(REFERENCE.logits, REFERENCE.labels, 0.5):
        reported = {
            "macro_f1@0.5": round(definition.macro_f1, 4),
            "micro_f1@0.5": round(definition.micro_f1, 4),
        }
        diagnosis = diagnose(REFERENCE, REFERENCE, reported=reported)
        usual = label_signatures.f1_at(REFERENCE.logits, REFERENCE.labels)
        same = all(abs(usual[key] - getattr(definition, key)) < 5e-5 for key in usual)
        assert diagnosis.cause == ("identical" if same else "metric_definition"), definition


# --- helpers


@given(st.lists(st.floats(1e-9, 1e9), min_size=4, max_size=40))
def test_groups_split_by_size_alone(sizes: list[float]) -> None:
    values = np.array(sizes)
    large, separation = two_groups(values)
    assert separation >= 0
    if large.any():
        assert values[large].min() > values[~large].max()


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


@pytest.mark.parametrize("offset", [0.3, 0.7])
def test_a_code_shifted_within_rounding_stands_out_by_its_mean(offset: float) -> None:
    for code in (0, 17, 49):
        logits = planted.rounding_noise(REFERENCE, 0.03, code)
        logits[:, code] += offset
        finding = diagnose(with_logits(REFERENCE, planted.to_bf16(logits)), REFERENCE).findings[0]
        assert (finding.cause, finding.evidence["columns"]) == ("few_codes_changed", [code])


def test_other_labels_stand_before_rounding() -> None:
    assert REFERENCE.labels is not None
    labels = REFERENCE.labels ^ (np.random.default_rng(0).random(REFERENCE.labels.shape) < 0.02)
    noisy = with_logits(REFERENCE, planted.rounding_noise(REFERENCE, 1e-3, 1), labels=labels.astype(np.uint8))
    assert [finding.cause for finding in diagnose(noisy, REFERENCE).findings[:2]] == [
        "different_labels",
        "numerics",
    ]


def test_moved_codes_stand_before_a_calibration_of_all() -> None:
    columns = planted.code_permutation(50, 2, np.random.default_rng(1))
    logits = REFERENCE.logits.astype(np.float64)[:, columns] * 0.7 - 0.5
    diagnosis = diagnose(with_logits(REFERENCE, logits), REFERENCE)
    assert [(f.cause, f.status) for f in diagnosis.findings[:2]] == [
        ("code_order", "confirmed"),
        ("calibration_shift", "confirmed"),
    ]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_probabilities_that_ran_out_of_their_format_are_rounding(dtype: type) -> None:
    wide = replace(REFERENCE, logits=REFERENCE.logits * 4 - 4)
    logits, _ = logits_of(expit(wide.logits.astype(np.float64)).astype(dtype))
    assert logits.min() < -16
    stored = with_logits(wide, logits, manifest=Manifest(logits_from_probabilities=True))
    assert diagnose(stored, wide).cause == "numerics"
