"""The forward passes: prepared ids in, logits out, under a policy that is already applied."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from shifamind_core.errors import ShifamindError
from shifamind_core.inference.bitwise_model import BitwiseModel
from shifamind_core.inference.tokenization import ModelInput, Progress, check_positions
from shifamind_core.model.build import positions_of
from shifamind_core.precision.apply import TORCH_DTYPES, autocast
from shifamind_core.precision.bitwise.choose import kernels_for
from shifamind_core.precision.policy import PrecisionPolicy

Forward = Callable[..., Mapping[str, Tensor]]  # of `input_ids` and `attention_mask`


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
    """The model on the device in the policy's dtype; the model passed in keeps its own FP32 weights."""
    dtype = TORCH_DTYPES[policy.weights]
    first = next(model.parameters())
    if first.dtype == dtype and first.device.type == device.type:
        return model
    return copy.deepcopy(model).to(device=device, dtype=dtype)


def predict(
    model: nn.Module,
    notes: ModelInput,
    policy: PrecisionPolicy,
    device: torch.device,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Prediction:
    """One pass over all notes, in their order, in batches of consecutive notes.

    Order and batches are those of the seed's loop: sorting by length would be faster, but it changes what a batch
    is padded to, and with it the logits. Where memory runs out, the pass starts again with half the batch, so
    that one run never mixes batch sizes.

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
    while True:
        try:
            logits, concepts = _forward_all(forward, notes, policy, device, batch_size, progress)
            break
        except torch.OutOfMemoryError as error:
            if batch_size == 1:
                raise ShifamindError(
                    f"Out of memory on {device} with a single note of {notes.ids.shape[1]} tokens. "
                    "Choose a shorter length, a smaller dtype or another device."
                ) from error
            remarks.append(f"Out of memory with {batch_size} notes a batch; ran with {batch_size // 2}.")
            batch_size //= 2
        if device.type == "cuda":  # outside the handler: the exception holds the tensors of the failed pass
            torch.cuda.empty_cache()
        if progress:
            progress(remarks[-1], 0, len(notes))
    return Prediction(logits, concepts, batch_size, time.perf_counter() - started, tuple(remarks))


def _forward_all(
    model: Forward,
    notes: ModelInput,
    policy: PrecisionPolicy,
    device: torch.device,
    batch_size: int,
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    parts: list[list[Tensor]] = []
    pending: list[Tensor] = []
    with torch.inference_mode(), autocast(policy, device):
        for start in range(0, len(notes), batch_size):
            ids, mask = batch(notes, start, start + batch_size, device)
            outputs = model(input_ids=ids, attention_mask=mask)
            # The batch before is fetched only now, while the device is busy with this one.
            if pending:
                parts.append([tensor.cpu() for tensor in pending])
            pending = [outputs[name] for name in ("logits", "concept_scores") if name in outputs]
            if progress:
                progress("Scoring", start, len(notes))
    parts.append([tensor.cpu() for tensor in pending])
    if progress:
        progress("Scoring", len(notes), len(notes))
    logits, *concepts = (_to_numpy(torch.cat(column)) for column in zip(*parts, strict=True))
    return logits, concepts[0] if concepts else None


def batch(notes: ModelInput, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask of consecutive notes, each int64 [batch, tokens], on the device."""
    lengths = notes.lengths[start:stop]
    width = int(lengths.max()) if notes.longest else notes.ids.shape[1]
    ids = torch.from_numpy(notes.ids[start:stop, :width].astype(np.int64))
    mask = torch.from_numpy((np.arange(width) < lengths[:, None]).astype(np.int64))
    return ids.to(device), mask.to(device)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _check_length(model: nn.Module, notes: ModelInput) -> None:
    positions = positions_of(model)
    if positions is not None:
        check_positions(notes.ids.shape[1], positions)
