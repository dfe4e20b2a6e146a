"""Faults planted in a real model are named with manifests and without; the full proof is `benchmarks.planted_faults`."""

from pathlib import Path

import pytest
import torch

from shifamind_core.diagnosis.diagnose import Diagnosis, diagnose
from simulation import planted_models
from simulation.planted import Planted
from simulation.subjects import Subject, demo_subject, reference_of

# Left out here, for their time: training, FP16 products, all but one strength.
PLANTED = {
    "numerics": ("FP64", "TF32", "BF16 autocast"),
    "dropout_active": ("rate 0.1", "rate 0.1 in BF16"),
    "tokenizer_casing": ("100% of the words", "in BF16"),
    "max_length": ("50%",),
    "truncation_side": ("left",),
    "attention_mask_ignored": ("fixed padding",),
    "other_checkpoint": ("noise of 10%",),
    "head_not_loaded": ("head",),
    "encoder_not_loaded": ("encoder",),
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder: Path = tmp_path_factory.mktemp("demo") / "run"
    yield demo_subject(folder, notes=150, max_length=160)  # type: ignore[misc]
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cases(subject: Subject) -> list[Planted]:
    reference = reference_of(subject)
    planters = (
        planted_models.plant_arithmetic(subject, reference),
        planted_models.plant_dropout(subject, reference, 3, (0.1,)),
        planted_models.plant_casing(subject, reference, 3, (1.0,)),
        planted_models.plant_input(subject, reference, 3),
        planted_models.plant_noise(subject, reference, 3, (0.1,)),
        planted_models.plant_loading(subject, reference, 3),
    )
    found = [case for cases in planters for case in cases if case.variant in PLANTED.get(case.cause, ())]
    assert {(case.cause, case.variant) for case in found} == {
        (cause, variant) for cause, variants in PLANTED.items() for variant in variants
    }
    return found


def first(diagnosis: Diagnosis) -> str:
    return diagnosis.findings[0].cause


def named(diagnosis: Diagnosis) -> set[str]:
    """The first three that are not ruled out. How often the first one is right is measured: docs/cause-model.md."""
    return {finding.cause for finding in diagnosis.findings[:3] if finding.status != "ruled_out"}


def test_with_manifests_the_narrow_name_is_among_the_first_three(cases: list[Planted]) -> None:
    found = {(case.cause, case.variant): (case, diagnose(case.candidate, case.reference)) for case in cases}
    wrong = {key for key, (case, said) in found.items() if not named(said) & case.right}
    assert not wrong
    assert first(found["tokenizer_casing", "100% of the words"][1]) == "tokenizer_casing"


@pytest.mark.parametrize("token_counts", [True, False])
def test_from_logits_alone_the_general_name_is_among_the_first_three(
    cases: list[Planted], token_counts: bool
) -> None:
    wrong = {}
    for case in cases:
        bare = case.alone(token_counts)
        found = named(diagnose(bare.candidate, bare.reference))
        if not found & {*case.right_alone(token_counts), *case.twins}:
            wrong[case.cause, case.variant] = found
    assert not wrong


def test_rounding_is_never_blamed_for_another_fault_nor_another_cause_for_rounding(
    cases: list[Planted],
) -> None:
    for case in cases:
        bare = case.alone()
        found = first(diagnose(bare.candidate, bare.reference))
        assert (found == "numerics") == (case.cause == "numerics"), (case.cause, case.variant)


def test_a_fault_in_the_reference_is_named_like_one_in_the_candidate(cases: list[Planted]) -> None:
    for case in cases:
        swapped = diagnose(case.reference, case.candidate)
        assert named(swapped) & case.right, (case.cause, case.variant)
