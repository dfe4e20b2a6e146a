"""Emulated precision: on any machine, what another GPU's arithmetic would do to the logits.

The inputs of those matrix products that the hardware runs in a format are rounded to it, products accumulate in FP32.
Which products those are was measured (docs/precision.md): under TF32, linear layers and explicit products go through
tensor cores and fused attention does not; under BF16 and FP16 autocast, attention goes too, and every such product's
output is rounded as well, since it is stored in the format.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Format = Literal["tf32", "bfloat16", "float16"]

LINEAR = {F.linear}
PRODUCTS = {torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm}
# Elementwise functions that autocast leaves in the dtype of their input, here always a product's output.
FOLLOWERS = {F.gelu, F.relu, torch.relu, Tensor.relu, torch.sigmoid, Tensor.sigmoid}


def round_tf32(x: Tensor) -> Tensor:
    """FP32 with the mantissa rounded to TF32's 10 bits: nearest, ties away from zero, as the tensor cores do.

    >>> round_tf32(torch.tensor([1 + 2**-11, 1 + 2**-12])).tolist()
    [1.0009765625, 1.0]
    """
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def round_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """FP32 with the values that `dtype` has: nearest, ties to even."""
    return x.to(dtype).float()


ROUND: dict[Format, Callable[[Tensor], Tensor]] = {
    "tf32": lambda x: round_tf32(x.contiguous()),
    "bfloat16": lambda x: round_to(x, torch.bfloat16),
    "float16": lambda x: round_to(x, torch.float16),
}


class Emulation(TorchFunctionMode):
    """Inside, matrix products of FP32 tensors compute as the format's hardware would; for inference only.

    Rounded weights are kept for as long as the mode lives, so that each is rounded once.
    """

    def __init__(self, number_format: Format) -> None:
        super().__init__()
        self.round = ROUND[number_format]
        # TF32 is a format of a product's inputs alone: what leaves it is FP32.
        self.rounds_outputs = number_format != "tf32"
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in LINEAR:
            return self._linear(*args, **kwargs)
        if func in PRODUCTS:
            left, right = (self._rounded(x) for x in args[:2])
            return self._output(func(left, right, *args[2:], **kwargs))
        if self.rounds_outputs and func is F.scaled_dot_product_attention:
            query, key, value = (self._rounded(x) for x in args[:3])
            return self._output(func(query, key, value, *args[3:], **kwargs))
        if self.rounds_outputs and func in FOLLOWERS:
            return self._output(func(*args, **kwargs))
        return func(*args, **kwargs)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        # The bias is stored in the format too, and added before the sum is rounded.
        bias = self._rounded(bias) if bias is not None and self.rounds_outputs else bias
        return self._output(F.linear(self._rounded(x), self._rounded(weight), bias))

    def _rounded(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return x
        if not isinstance(x, nn.Parameter):
            return self.round(x)
        if id(x) not in self._weights:  # the tuple keeps the parameter alive, and with it its id
            self._weights[id(x)] = (x, self.round(x.detach()))
        return self._weights[id(x)][1]

    def _output(self, x: Tensor) -> Tensor:
        return self.round(x) if self.rounds_outputs and x.dtype == torch.float32 else x
