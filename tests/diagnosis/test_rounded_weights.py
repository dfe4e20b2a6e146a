"""Two checkpoints of which one is the other saved in half: recognised by digests, however it was widened or stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.exact.non_finite import start
from shifamind_core.diagnosis.exact.rounded_weights import rounded_weights
from shifamind_core.diagnosis.findings import Finding
from shifamind_core.model.checkpoint import rounded_digests, weights_digest
from shifamind_core.runs.manifest import CheckpointRecord, Manifest
from shifamind_core.runs.run import Run
from simulation import planted

WEIGHTS = {
    name: torch.randn(7, 5, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("abc")
}
RUN = replace(planted.synthetic_run(300, seed=1), token_digests=np.arange(300))


def record(weights: dict[str, torch.Tensor]) -> CheckpointRecord:
    return CheckpointRecord(weights_digest=weights_digest(weights), **rounded_digests(weights))


def stored(weights: dict[str, torch.Tensor], *dtypes: torch.dtype) -> dict[str, torch.Tensor]:
    for dtype in dtypes:
        weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    return weights


def found(weights: dict[str, torch.Tensor], run: Run = RUN) -> list[Finding]:
    candidate = planted.with_logits(
        run, planted.rounding_noise(run, 1e-3, 1), manifest=Manifest(checkpoint=record(weights))
    )
    reference = replace(run, manifest=Manifest(checkpoint=record(WEIGHTS)))
    return list(rounded_weights(start(Evidence.of(candidate, reference))).findings)


@pytest.mark.parametrize("dtype, level", [(torch.float16, "fp16"), (torch.bfloat16, "bf16")])
@pytest.mark.parametrize("widened", [False, True])
def test_a_checkpoint_saved_in_half_is_numerics_and_no_other(dtype, level, widened) -> None:
    numerics, other = found(stored(WEIGHTS, dtype, *([torch.float32] if widened else [])))
    assert (numerics.cause, numerics.status, numerics.share) == ("numerics", "confirmed", pytest.approx(1.0))
    assert numerics.evidence["level"] == level and numerics.evidence["weights_rounded"]
    assert (other.cause, other.status) == ("other_checkpoint", "ruled_out")


def test_without_token_digests_the_share_is_not_known() -> None:
    numerics, _ = found(stored(WEIGHTS, torch.float16), replace(RUN, token_digests=None))
    assert numerics.status == "confirmed" and numerics.share == 0


def test_other_weights_and_the_same_weights_say_nothing() -> None:
    assert found({name: tensor * 1.01 for name, tensor in WEIGHTS.items()}) == []
    assert found(WEIGHTS) == []
    assert found({**WEIGHTS, "d": torch.zeros(1)}) == []


def test_digests_of_rounded_weights_depend_on_names_shapes_and_values() -> None:
    own = rounded_digests(WEIGHTS)
    assert rounded_digests({"z": WEIGHTS["a"], "b": WEIGHTS["b"], "c": WEIGHTS["c"]}) != own
    assert rounded_digests({**WEIGHTS, "a": WEIGHTS["a"].reshape(5, 7)}) != own
    assert rounded_digests(stored(WEIGHTS, torch.float64)) == own
