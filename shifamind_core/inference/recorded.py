"""CUDA graphs: the launches of one forward pass, recorded once and replayed for every batch of that shape.

A pass of BERT-base launches some 400 kernels; in half precision the GPU is done with them sooner than Python has sent them.
Replayed, the same kernels run on the same memory. That they give the same bits is not assumed: the first batch of every
kind goes through both, and where a bit differs, or the model cannot be recorded, every batch goes the plain way.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Forward = Callable[..., Mapping[str, Tensor]]  # of `input_ids` and `attention_mask`
WARM_UP = 2  # passes before recording, in which libraries choose kernels and take their workspaces


class Recording:
    """One recorded pass; its inputs and outputs stay where they are."""

    def __init__(self, forward: Forward, ids: Tensor, mask: Tensor) -> None:
        self.ids, self.mask = ids.clone(), mask.clone()
        beside = torch.cuda.Stream(ids.device)
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
    """A forward pass that is recorded where it can be; `remarks` say where a recording gave other bits."""

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.remarks: list[str] = []
        self._recordings: dict[tuple[torch.Size, bool], Recording | None] = {}

    def __call__(self, ids: Tensor, mask: Tensor, padded: bool) -> Mapping[str, Tensor]:
        """Outputs that the next call may overwrite.

        `padded` says whether the mask masks anything: where it does not, `transformers` takes another way through attention.
        """
        kind = ids.shape, padded
        if kind not in self._recordings:
            outputs = self.forward(input_ids=ids, attention_mask=mask)
            self._recordings[kind] = self._recorded(ids, mask, outputs)
            return outputs
        recording = self._recordings[kind]
        if recording is None:
            return self.forward(input_ids=ids, attention_mask=mask)
        return recording(ids, mask)

    def _recorded(self, ids: Tensor, mask: Tensor, plain: Mapping[str, Tensor]) -> Recording | None:
        try:
            recording = Recording(self.forward, ids, mask)
            for output in _tensors(recording.outputs).values():
                output.zero_()  # so that what a replay does not write is seen
            again = recording(ids, mask)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError):  # it does what cannot be recorded: asks for a number, say
            torch.cuda.synchronize(ids.device)
            return None
        wanted = _tensors(plain)
        if all(torch.equal(value.nan_to_num(), again[name].nan_to_num()) for name, value in wanted.items()):
            return recording
        self.remarks.append(
            "Replayed as a CUDA graph the first batch had other bits; every batch went the plain way."
        )
        return None


def _tensors(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the lists of hidden states that some configurations ask for: nobody reads them here."""
    return {name: value for name, value in outputs.items() if isinstance(value, Tensor)}
