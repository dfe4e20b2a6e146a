"""What simulated manifests say of the parts of the weights is what models with the planted fault hold."""

import numpy as np
import pytest
import torch
from torch import nn

from shifamind_core.diagnosis.evidence.weight_parts import compare_parts
from shifamind_core.model.checkpoint import part_digests
from shifamind_core.runs.manifest import CheckpointRecord
from simulation import faults, fleet, records

SHAPE = {"steps": 8, "notes": 60, "codes": 5, "hidden": 16, "layers": 3, "vocabulary": 200, "max_length": 16}
CASES = (
    (
        fleet.Plan("cls", "none", "cls_fusion", pretraining=2, **SHAPE),
        (faults.plant_noise, faults.plant_loading),
    ),
    (
        fleet.Plan("bert-frozen", "none", "bert", frozen=True, **SHAPE),
        (faults.plant_training, faults.plant_loading),
    ),
)


def held(model: nn.Module) -> CheckpointRecord:
    return CheckpointRecord(part_digests=part_digests(model.state_dict()))


@pytest.mark.parametrize(("plan", "planters"), CASES, ids=[plan.name for plan, _ in CASES])
def test_simulated_parts_differ_where_those_of_planted_models_do(plan, planters, monkeypatch) -> None:
    subject = fleet.make(plan, torch.device("cpu"))
    run: list[nn.Module] = []

    def kept(_subject, *arguments, **_keywords):
        run.append(arguments[-1])
        return np.zeros((2, 2))

    monkeypatch.setattr(faults, "forward", kept)
    monkeypatch.setattr(faults, "under", kept)
    seen = {}
    for planter in planters:
        for case in planter(subject, np.zeros((2, 2)), np.random.default_rng(0)):
            real = compare_parts(held(run[-1]), held(subject.model))
            told = CheckpointRecord(
                part_digests=records.other_parts({"model": plan.name, "fault": case.fault})
            )
            simulated = compare_parts(told, CheckpointRecord(part_digests=records.PARTS))
            if real.other:  # the base model's encoder under a head that alone was trained is the model itself
                seen[case.fault] = real.where, simulated.where
    assert len(seen) > 5 and {real for real, _ in seen.values()} >= {
        "head",
        "encoder",
        "part of the encoder",
    }
    assert {fault: pair for fault, pair in seen.items() if pair[0] != pair[1]} == {}
