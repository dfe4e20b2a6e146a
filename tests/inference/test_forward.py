"""Fast ways through the forward pass give the bits of the plain one."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shifamind_core.inference import predict as passes
from shifamind_core.inference.predict import cast
from shifamind_core.inference.recorded import OtherBits, Replayed
from shifamind_core.inference.tokenization import ModelInput
from shifamind_core.precision.apply import TORCH_DTYPES, autocast
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import TokenizationRecord
from simulation.builders import tiny_model
from simulation.classifiers import tiny_classifier

CPU = torch.device("cpu")
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MODELS = {
    **{kind: lambda kind=kind: tiny_model(kind) for kind in ("cls_fusion", "concept_attention")},
    **{kind: lambda kind=kind: tiny_classifier(kind) for kind in ("bert", "roberta", "distilbert")},
}


def some_notes(count: int = 80, width: int = 32) -> ModelInput:
    """Notes of random ids, the first 32 without padding."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(4, width + 1, count).astype(np.int32)
    lengths[:32] = width
    ids = rng.integers(6, 40, (count, width)).astype(np.int32)
    ids[np.arange(width) >= lengths[:, None]] = 0
    row = np.arange(count)
    return ModelInput(ids, lengths, lengths, row, row, TokenizationRecord(), longest=False)


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


class OtherAttention(nn.Module):
    """Stands for a pass that, recorded, rounds some batches otherwise."""

    def forward(self, input_ids, attention_mask):
        return {"logits": input_ids[:, :1].float()}


class StandIn:
    """Stands for a recording where there is no GPU: from the third batch on it is wrong."""

    def __init__(self, forward, ids, mask, padded):
        self.calls, self.outputs = 0, {}

    def __call__(self, ids, mask):
        self.calls += 1
        return {"logits": ids[:, :1].float() + (self.calls > 2)}


def test_a_recording_is_held_against_plain_passes_as_it_goes_on(monkeypatch):
    monkeypatch.setattr("shifamind_core.inference.recorded.Recording", StandIn)
    replayed = Replayed(OtherAttention())
    ids, mask = torch.arange(6).reshape(2, 3), torch.ones(2, 3)
    for padded in (False, True):  # each kind has a recording of its own
        for _ in range(2):
            assert torch.equal(replayed(ids, mask, padded)["logits"], ids[:, :1].float())
    replayed(ids, mask, False)
    with pytest.raises(OtherBits):
        replayed(ids, mask, False)


def test_after_other_bits_every_batch_goes_the_plain_way_and_that_is_said(monkeypatch):
    asked = []

    def forward_all(model, notes, policy, device, batch_size, progress, record, group):
        asked.append(record)
        if record:
            raise OtherBits
        return {"logits": np.zeros((len(notes), 2), np.float32)}

    monkeypatch.setattr(passes, "_forward_all", forward_all)
    found = passes.predict(tiny_model().eval(), some_notes(), POLICIES["bf16"], CPU)
    assert asked == [True, False] and len(found.remarks) == 1 and "other bits" in found.remarks[0]


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
    notes = some_notes()
    model, device = MODELS[kind]().eval(), torch.device("cuda")
    monkeypatch.setattr(passes, "RECORDED", 2)
    fast = passes.predict(model, notes, POLICIES[policy], device, 8)
    monkeypatch.setattr(passes, "RECORDED", 10**9)
    plain = passes.predict(model, notes, POLICIES[policy], device, 8)
    assert fast.logits.tobytes() == plain.logits.tobytes() and not fast.remarks
