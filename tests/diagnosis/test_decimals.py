"""Runs saved with few decimals: what was planted is found as in full precision, and what the decimals hide is not claimed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.diagnosis.diagnose import Diagnosis, diagnose
from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.exact.stand_ins import stored_variance, told_apart, within_a_step
from shifamind_core.diagnosis.exact.stored_precision_grid import on_one_grid
from shifamind_core.diagnosis.judge import WITHIN_A_STEP
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import Run
from simulation import decimals, planted
from simulation.planted import Planted, with_logits

RUN = planted.synthetic_run(400, seed=3)
CASES = [
    case
    for plant in (planted.plant_document_order, planted.plant_code_order, planted.plant_both_orders)
    for case in plant(RUN, 5)
    if case.variant in ("all notes", "10 codes") or case.variant.endswith("and code order")
] + [
    case
    for plant in (planted.plant_few, planted.plant_rows)
    for case in plant(RUN, 5)
    if case.variant in ("5, noise 0", "15.0%, noise 0", "last batch dropped", "last 24 repeat the first 24")
]


def bare(run: Run) -> Run:
    return replace(run, manifest=Manifest(), document_ids=None, token_digests=None)


def statuses(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.cause: finding.status for finding in diagnosis.findings}


@pytest.mark.parametrize("form", ["6 decimals in one", "4 decimals in one", "4 decimals in both"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.cause}: {case.variant}")
def test_a_planted_fault_stands_first_in_few_decimals_too(case: Planted, form: str) -> None:
    alone = case.alone()
    diagnosis = diagnose(*decimals.as_saved(alone.candidate, alone.reference, form))
    assert diagnosis.cause in {case.cause, *case.also}
    assert statuses(diagnosis).get("stored_precision") is None
    assert any("were rounded alike" in remark for remark in diagnosis.remarks) == form.endswith("one")


@pytest.mark.parametrize("places", [3, 6])
def test_rounding_alone_stands_first_and_what_is_below_a_step_is_not_ruled_out(places: int) -> None:
    diagnosis = diagnose(decimals.saved(bare(RUN), places), bare(RUN))
    first = diagnosis.findings[0]
    assert (first.cause, first.status) == ("stored_precision", "confirmed")
    assert "not how the model was run" not in first.explanation
    assert "numerics" not in statuses(diagnosis)
    assert {one.verdict for one in diagnosis.hypotheses} == {"unlikely"}
    assert all(f"a step of {places} decimals" in one.explanation for one in diagnosis.hypotheses)


def test_equal_files_of_few_decimals_are_identical_and_rule_no_rounding_out() -> None:
    coarse = decimals.saved(bare(RUN), 3)
    assert statuses(diagnose(coarse, coarse))["identical"] == "confirmed"
    assert "numerics" not in statuses(diagnose(coarse, coarse))
    assert statuses(diagnose(bare(RUN), bare(RUN)))["numerics"] == "ruled_out"


def test_single_steps_between_two_files_of_the_same_decimals_are_no_few_codes() -> None:
    noisy = bare(with_logits(RUN, planted.rounding_noise(RUN, 1e-5, 1)))
    diagnosis = diagnose(decimals.saved(noisy, 4), decimals.saved(bare(RUN), 4))
    assert (diagnosis.cause, statuses(diagnosis)["numerics"]) == ("numerics", "likely")
    assert diagnosis.findings[0].probability == pytest.approx(
        WITHIN_A_STEP["numerics"] / sum(WITHIN_A_STEP.values())
    )
    assert "no more than a step" in diagnosis.findings[0].numbers


def test_what_single_steps_mean_is_what_was_counted() -> None:
    assert json.loads(decimals.RESULT.read_text())["within_a_step"] == WITHIN_A_STEP


def test_the_finer_file_is_rounded_to_the_coarser_and_nothing_else_is() -> None:
    fine, coarse = decimals.saved(bare(RUN), 6), decimals.saved(bare(RUN), 4)
    for candidate, reference in ((fine, coarse), (coarse, fine)):
        found = on_one_grid(Evidence.of(candidate, reference))
        assert found is not None and "4 decimals" in found[1]
        np.testing.assert_array_equal(found[0].candidate.logits, found[0].reference.logits)
    for one, other in ((fine, fine), (bare(RUN), bare(RUN))):
        assert on_one_grid(Evidence.of(one, other)) is None


def test_scores_whose_decimals_are_too_coarse_are_left_open_and_the_others_kept() -> None:
    moved = bare(with_logits(RUN, RUN.logits + np.float32(0.01)))
    evidence = Evidence.of(decimals.saved(moved, 4), decimals.saved(bare(RUN), 4))
    pair = Pair(*(run.logits.astype(np.float64) for run in (evidence.candidate, evidence.reference)))
    assert not within_a_step(pair, evidence)
    kept = told_apart(pair, evidence)
    variance = stored_variance(kept, evidence)
    assert kept.known is not None and variance is not None
    assert 0 < kept.known.sum() < pair.candidate.size
    relative = (variance / kept.spread**2)[kept.known]
    assert relative.sum() < kept.squares[kept.known].sum()
    assert relative.max() <= (stored_variance(pair, evidence) / pair.spread**2).max()
    plain = Evidence.of(moved, bare(RUN))
    assert told_apart(pair, plain) is pair and stored_variance(pair, plain) is None
