"""Fast ways through the forward pass give the bits of the plain one."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shifamind_core.inference import predict as passes
from shifamind_core.inference.predict import cast
from shifamind_core.inference.recorded import Replayed
from shifamind_core.precision.apply import TORCH_DTYPES, autocast
from shifamind_core.precision.policy import POLICIES
from simulation.builders import tiny_model
from simulation.classifiers import tiny_classifier

CPU = torch.device("cpu")
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MODELS = {
    **{kind: lambda kind=kind: tiny_model(kind) for kind in ("cls_fusion", "concept_attention")},
    **{kind: lambda kind=kind: tiny_classifier(kind) for kind in ("bert", "roberta", "distilbert")},
}


def outputs(model: nn.Module, policy: str) -> Tensor:
    ids = torch.arange(6, 42).reshape(2, 18) % 40 + 6
    mask = (torch.arange(18) < torch.tensor([[18], [11]])).long()
    with torch.inference_mode(), autocast(POLICIES[policy], CPU):
        return model(input_ids=ids, attention_mask=mask)["logits"]


@pytest.mark.parametrize("policy", ["bf16-autocast", "fp16-autocast"])
@pytest.mark.parametrize("kind", MODELS)
def test_weights_that_are_cast_once_give_the_bits_of_weights_cast_at_every_call(kind, policy):
    model = MODELS[kind]().eval()
    once = cast(model, POLICIES[policy], CPU)
    plain, fast = outputs(model, policy), outputs(once, policy)
    assert fast.dtype == plain.dtype and torch.equal(fast, plain)
    half = {module.weight.dtype for module in once.modules() if isinstance(module, nn.Linear)}
    assert half == {TORCH_DTYPES[POLICIES[policy].autocast]}
    assert cast(once, POLICIES[policy], CPU) is once
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_model_whose_layers_may_look_at_their_weights_keeps_them():
    model = nn.Sequential(nn.Linear(4, 4))
    assert cast(model, POLICIES["bf16-autocast"], CPU) is model


def test_a_recording_with_other_bits_is_not_used_and_that_is_said(monkeypatch):
    """Where there is no GPU a stand-in for the recording shows what is done with it."""

    class Recording:
        def __init__(self, forward, ids, mask):
            self.forward, self.mask, self.outputs = forward, mask, {}

        def __call__(self, ids, mask):
            return {"logits": self.forward(ids, self.mask)["logits"] + self.mask.sum()}

    monkeypatch.setattr("shifamind_core.inference.recorded.Recording", Recording)
    asked = []

    def forward(input_ids, attention_mask):
        asked.append(input_ids)
        return {"logits": input_ids.float()}

    replayed = Replayed(forward)
    ids = torch.arange(6).reshape(2, 3)
    for _ in range(3):
        assert torch.equal(replayed(ids, torch.ones_like(ids), False)["logits"], ids.float())
    assert len(replayed.remarks) == 1 and "other bits" in replayed.remarks[0]
    other = replayed(ids, torch.zeros_like(ids), True)["logits"]  # another kind, whose recording is sound
    asked.clear()
    again = replayed(ids + 1, torch.zeros_like(ids), True)["logits"]
    assert torch.equal(other, ids.float()) and torch.equal(again, (ids + 1).float())
    assert len(replayed.remarks) == 1


def test_what_draws_at_random_or_gains_nothing_is_not_recorded():
    model = tiny_model().eval()
    assert passes._recordable(model, POLICIES["bf16"]) and passes._recordable(
        model, POLICIES["fp16-autocast"]
    )
    assert not any(
        passes._recordable(model, POLICIES[name])
        for name in ("fp32", "tf32", "fp64", "bitwise", "emulated-bf16")
    )
    next(module for module in model.modules() if isinstance(module, nn.Dropout)).train()
    assert not passes._recordable(model, POLICIES["bf16"])


@ON_GPU
@pytest.mark.parametrize("policy", ["bf16-autocast", "bf16", "fp16"])
@pytest.mark.parametrize("kind", MODELS)
def test_recorded_passes_give_the_bits_of_plain_ones(kind, policy, monkeypatch):
    from shifamind_core.inference.tokenization import ModelInput
    from shifamind_core.runs.manifest import TokenizationRecord

    rng = np.random.default_rng(0)
    count, width = 80, 32
    lengths = rng.integers(4, width + 1, count).astype(np.int32)
    lengths[:16] = width
    ids = np.where(np.arange(width) < lengths[:, None], rng.integers(6, 40, (count, width)), 0).astype(
        np.int32
    )
    row = np.arange(count)
    notes = ModelInput(ids, lengths, lengths, row, row, TokenizationRecord(), longest=False)
    model, device = MODELS[kind]().eval(), torch.device("cuda")
    monkeypatch.setattr(passes, "RECORDED", 2)
    fast = passes.predict(model, notes, POLICIES[policy], device, 8)
    monkeypatch.setattr(passes, "RECORDED", 10**9)
    plain = passes.predict(model, notes, POLICIES[policy], device, 8)
    assert fast.logits.tobytes() == plain.logits.tobytes() and not fast.remarks
