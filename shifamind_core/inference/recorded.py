"""CUDA graphs: the launches of one forward pass, recorded once and replayed for every batch of that shape.

A pass of BERT-base launches some 400 kernels; in half precision the GPU is done with them sooner than Python has sent them.
Replayed, the same kernels run on the same memory. That they give the same bits is not assumed: the first batch of every
kind goes through both, and so do the second, fourth, eighth and so on, since other kernels may round one batch alike.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import masking_utils

Forward = Callable[..., Mapping[str, Tensor]]  # of `input_ids` and `attention_mask`
WARM_UP = 2  # passes before recording, in which libraries choose kernels and take their workspaces


class OtherBits(Exception):
    """A recording gave other bits than the pass that it recorded: nothing that it gave may be used."""


class Recording:
    """One recorded pass; its inputs and outputs stay where they are.

    Attention is computed by other kernels with a mask than without, and `transformers` leaves out a mask that masks nothing,
    except while a graph is recorded, where it may not look. Where nothing is `padded` it is left out here.
    """

    def __init__(self, forward: nn.Module, ids: Tensor, mask: Tensor, padded: bool) -> None:
        self.ids, self.mask = ids.clone(), mask.clone()
        beside = torch.cuda.Stream(ids.device)
        with nullcontext() if padded else _without_mask(forward):
            beside.wait_stream(torch.cuda.current_stream(ids.device))
            with torch.cuda.stream(beside):
                for _ in range(WARM_UP):
                    forward(input_ids=self.ids, attention_mask=self.mask)
            torch.cuda.current_stream(ids.device).wait_stream(beside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.outputs = forward(input_ids=self.ids, attention_mask=self.mask)

    def __call__(self, ids: Tensor, mask: Tensor) -> Mapping[str, Tensor]:
        """Outputs that the next call overwrites."""
        self.ids.copy_(ids)
        self.mask.copy_(mask)
        self.graph.replay()
        return self.outputs


class Replayed:
    """A forward pass that is recorded where it can be."""

    def __init__(self, forward: nn.Module) -> None:
        self.forward = forward
        self._seen: Counter[tuple[torch.Size, bool]] = Counter()
        self._recordings: dict[tuple[torch.Size, bool], Recording | None] = {}

    def __call__(self, ids: Tensor, mask: Tensor, padded: bool) -> Mapping[str, Tensor]:
        """Outputs that the next call may overwrite; `padded` says whether the mask masks anything.

        Raises
        ------
        OtherBits
            A recording gave other bits than a plain pass did; those before may be wrong too.
        """
        kind = ids.shape, padded
        self._seen[kind] += 1
        seen = self._seen[kind]
        checked = seen & (seen - 1) == 0
        plain = self.forward(input_ids=ids, attention_mask=mask) if checked else {}
        if seen == 1:
            self._recordings[kind] = self._recorded(ids, mask, padded)
        recording = self._recordings[kind]
        if recording is None:
            return plain or self.forward(input_ids=ids, attention_mask=mask)
        if not checked:
            return recording(ids, mask)
        for output in _tensors(recording.outputs).values():
            output.zero_()  # so that what a replay does not write is seen
        again = _tensors(recording(ids, mask))
        if not all(
            torch.equal(value.nan_to_num(), again[name].nan_to_num())
            for name, value in _tensors(plain).items()
        ):
            raise OtherBits
        return plain

    def _recorded(self, ids: Tensor, mask: Tensor, padded: bool) -> Recording | None:
        try:
            return Recording(self.forward, ids, mask, padded)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError):  # it does what cannot be recorded: asks for a number, say
            torch.cuda.synchronize(ids.device)
            return None


@contextmanager
def _without_mask(model: nn.Module) -> Iterator[None]:
    """The encoder, which every architecture has under this name, gets no mask, and is given none; poolings beside it keep theirs."""

    def leave_out(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, kwargs | {"attention_mask": None}

    masks: Any = masking_utils
    hook = getattr(model, "base_model", model).register_forward_pre_hook(leave_out, with_kwargs=True)
    looks = getattr(masks, "is_tracing", None)  # up to 5.17 it makes a mask of ones while it records
    if looks is not None:
        masks.is_tracing = lambda *_: False
    try:
        yield
    finally:
        hook.remove()
        if looks is not None:
            masks.is_tracing = looks


def _tensors(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the lists of hidden states that some configurations ask for: nobody reads them here."""
    return {name: value for name, value in outputs.items() if isinstance(value, Tensor)}
