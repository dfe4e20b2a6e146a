"""The forward passes: prepared ids in, logits out, under a policy that is already applied."""

import copy
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from shifamind_core.errors import ShifamindError
from shifamind_core.inference.bitwise_model import BitwiseModel
from shifamind_core.inference.group import ALONE, Group
from shifamind_core.inference.reading import Arriving
from shifamind_core.inference.recorded import Forward, OtherBits, Replayed
from shifamind_core.inference.tokenization import ModelInput, Progress, check_positions
from shifamind_core.model.build import positions_of
from shifamind_core.precision.apply import TORCH_DTYPES, autocast
from shifamind_core.precision.bitwise.choose import kernels_for
from shifamind_core.precision.policy import PrecisionPolicy

AHEAD = (
    2  # batches that are sent to a GPU before the oldest must be done: it never waits, and progress is true
)
CAST_ONCE = {"bert", "roberta", "distilbert"}
FAILURES = (None, OtherBits, torch.OutOfMemoryError)  # of a pass; the last one goes before
RECORDED = 16  # full batches from which on a recording pays for itself
# Tokens a batch from which on half precision, too, keeps a GPU busy for longer than launching takes. BERT-base on an H100 under
# bf16-autocast, 4,096 notes of 512 tokens: 16 a batch 1.43 s recorded and 1.81 s plain, 64 a batch 1.49 and 1.30 s.
BUSY_TOKENS = 1 << 15


@dataclass(frozen=True)
class Prediction:
    """Logits [documents, codes] and, where the model has concepts, their scores [documents, concepts] in the dtype computed.

    BF16, which NumPy lacks, comes as float32, which holds it exactly. `batch_size` is the one that ran: it is
    smaller than the one asked for where memory did not suffice.
    """

    logits: np.ndarray
    concept_scores: np.ndarray | None
    batch_size: int
    duration_seconds: float
    remarks: tuple[str, ...] = ()


def cast(model: nn.Module, policy: PrecisionPolicy, device: torch.device) -> nn.Module:
    """The model on the device in the policy's dtype; the model passed in keeps its own FP32 weights.

    Autocast casts the weights of every linear layer at every call. Where that is all that a model does with them they are
    cast here, once, to the same values.
    """
    dtype = TORCH_DTYPES[policy.weights]
    half = TORCH_DTYPES[policy.autocast] if policy.autocast and casts_in_linear_layers_alone(model) else None
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)] if half else []
    halved = {id(weight) for module in linear for weight in module.parameters()}
    moved: dict[int, Tensor] = {}  # by the tensor's identity, as `deepcopy` remembers what it has copied
    there = True
    for tensor in (*model.parameters(), *model.buffers()):
        wanted = half if id(tensor) in halved else dtype if tensor.is_floating_point() else tensor.dtype
        found = tensor.detach().to(device, wanted)
        there = there and (found.dtype, found.device) == (tensor.dtype, tensor.device)
        weight = isinstance(tensor, nn.Parameter)
        moved[id(tensor)] = nn.Parameter(found, requires_grad=False) if weight else found
    return model if there else copy.deepcopy(model, moved)


def casts_in_linear_layers_alone(model: nn.Module) -> bool:
    """Whether this model's linear layers only multiply, as tested of these encoders: others look at their weights' dtype."""
    encoders = {module.config.model_type for module in model.modules() if isinstance(module, PreTrainedModel)}
    return bool(encoders) and encoders <= CAST_ONCE


def predict(
    model: nn.Module,
    notes: ModelInput | Arriving,
    policy: PrecisionPolicy,
    device: torch.device,
    batch_size: int = 16,
    progress: Progress | None = None,
    group: Group = ALONE,
) -> Prediction:
    """One pass over all notes, in their order, in batches of consecutive notes, dealt out in turn among `group`.

    Order and batches are those of the seed's loop: sorting by length would be faster, but it changes what a batch
    is padded to, and with it the logits. Where memory runs out, in one process or in several, the pass starts again
    with half the batch in all of them, so that one run never mixes batch sizes.

    Raises
    ------
    ShifamindError
        Notes longer than the model's positions, or no memory for a single note; under `bitwise` also an operation
        or a device that it does not cover (`PolicyRefused`).
    """
    _check_length(model, notes)
    remarks: list[str] = []
    if policy.bitwise:
        kernels = kernels_for(device)
        forward: Forward = BitwiseModel(model, device, kernels)
        remarks.append(f"bitwise ran {kernels.name} kernels on {device.type}; which ones decides no bit.")
    else:
        forward = cast(model, policy, device)
    started = time.perf_counter()
    record = True
    while True:
        found, failure = {}, None
        try:
            found = _forward_all(forward, notes, policy, device, batch_size, progress, record, group)
        except (OtherBits, torch.OutOfMemoryError) as error:
            failure = type(error)
        failed = group.most(FAILURES.index(failure))
        if FAILURES[failed] is None:
            break
        if FAILURES[failed] is OtherBits:
            record = False
            remarks.append("Replayed as CUDA graphs, batches had other bits; every batch went the plain way.")
        else:
            if batch_size == 1:
                raise ShifamindError(
                    f"Out of memory on {device} with a single note of {notes.ids.shape[1]} tokens. "
                    "Choose a shorter length, a smaller dtype or another device."
                )
            remarks.append(f"Out of memory with {batch_size} notes a batch; ran with {batch_size // 2}.")
            batch_size //= 2
        if device.type == "cuda":  # outside the handler: the exception holds the tensors of the failed pass
            torch.cuda.empty_cache()
        if progress:
            progress(remarks[-1], 0, len(notes))
    logits, concepts = (
        group.joined(found[name]) if name in found else None for name in ("logits", "concept_scores")
    )
    assert logits is not None
    return Prediction(logits, concepts, batch_size, time.perf_counter() - started, tuple(remarks))


def _forward_all(
    model: Forward,
    notes: ModelInput | Arriving,
    policy: PrecisionPolicy,
    device: torch.device,
    batch_size: int,
    progress: Progress | None,
    record: bool,
    group: Group,
) -> dict[str, np.ndarray]:
    """Logits and concept scores of all notes, zero where another process has them."""
    found: dict[str, Tensor] = {}
    sent: deque[torch.cuda.Event] = deque()
    cuda = device.type == "cuda"
    pays = len(notes) >= RECORDED * batch_size * group.size and batch_size * notes.ids.shape[1] < BUSY_TOKENS
    replayed = (
        Replayed(model)
        if cuda
        and record
        and pays
        and not notes.longest
        and isinstance(model, nn.Module)
        and _recordable(model, policy)
        else None
    )
    here = torch.cuda.device(device) if cuda else nullcontext()  # on which events and recordings are made
    with here, torch.inference_mode(), autocast(policy, device):
        own = range(group.rank * batch_size, len(notes), group.size * batch_size)
        for start in own or range(1):  # without a batch of its own, for the shapes of the outputs alone
            ids, mask = batch(notes, start, start + batch_size, device)
            if replayed is None or len(ids) < batch_size:
                outputs = model(input_ids=ids, attention_mask=mask)
            else:
                padded = bool((notes.lengths[start : start + batch_size] < ids.shape[1]).any())
                outputs = replayed(ids, mask, padded)
            for name in ("logits", "concept_scores"):
                if name in outputs:
                    if name not in found:
                        found[name] = outputs[name].new_zeros(len(notes), *outputs[name].shape[1:])
                    if own:
                        found[name][start : start + len(ids)] = outputs[name]
            if cuda:
                sent.append(torch.cuda.Event())
                sent[-1].record()
                if len(sent) > AHEAD:
                    sent.popleft().synchronize()
            if progress:
                progress("Scoring", start, len(notes))
        whole = {name: _to_numpy(value.cpu()) for name, value in found.items()}
    if progress:
        progress("Scoring", len(notes), len(notes))
    return whole


def _recordable(model: nn.Module, policy: PrecisionPolicy) -> bool:
    """Whether a recording can replace a pass, and is worth it.

    FP32 and TF32 keep a GPU busy for longer than launching takes. Emulated policies look into every product from Python, bitwise
    has launches of its own, and what draws at random draws anew at every pass.
    """
    half = policy.autocast is not None or policy.weights in ("float16", "bfloat16")
    if not half or policy.emulate:
        return False
    return not any(module.training for module in model.modules())


def batch(notes: ModelInput | Arriving, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask of consecutive notes, each int64 [batch, tokens], on the device."""
    notes.wait_for(stop)
    lengths = notes.lengths[start:stop]
    width = int(lengths.max()) if notes.longest else notes.ids.shape[1]
    ids = torch.from_numpy(notes.ids[start:stop, :width].astype(np.int64))
    mask = torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64))
    if device.type != "cuda":
        return ids.to(device), mask.to(device)
    return tuple(tensor.pin_memory().to(device, non_blocking=True) for tensor in (ids, mask))  # type: ignore[return-value]


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _check_length(model: nn.Module, notes: ModelInput | Arriving) -> None:
    positions = positions_of(model)
    if positions is not None:
        check_positions(notes.ids.shape[1], positions)
