"""Emulated precision: on any machine, what another GPU's arithmetic would do to the logits.

Measured one product at a time on an H200 (docs/precision.md, `benchmarks/gpu_evidence.py`):

- TF32 rounds both inputs of a matrix product to 10 mantissa bits, nearest, ties to even, and accumulates in FP32: given inputs
  rounded beforehand, every product that went through TF32 gave the same bits. Those are all linear layers of two rows and
  more, and explicit products that are large or aligned enough for tensor cores (`through_tensor_cores`). A product with a
  single row (a matrix times a vector) stays FP32, and so does fused attention.
- BF16 and FP16 autocast store what they compute: inputs, weights and bias of a product are rounded, and its output too.
  Fused attention also rounds exp(score − largest score) before it multiplies the values. Layer norm, softmax and sums
  run in FP32; every other function runs in the dtype it is handed.

So the second kind hands on tensors that really are BF16 or FP16, as autocast does, and torch's own rules decide the rest; only
products are computed here, in FP32 from rounded inputs.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Format = Literal["tf32", "bfloat16", "float16"]

PRODUCTS = {
    torch.matmul, torch.bmm, torch.mm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm, Tensor.mm,
}  # fmt: skip
# Of CUDA autocast's list of functions that run in FP32, those that a BERT can meet (ATen/autocast_mode.h).
WIDENED = {
    F.layer_norm, torch.layer_norm, F.softmax, torch.softmax, Tensor.softmax, F.log_softmax, torch.log_softmax,
    torch.sum, Tensor.sum, torch.exp, Tensor.exp, torch.log, Tensor.log, torch.pow, Tensor.pow, Tensor.__pow__,
    torch.rsqrt, Tensor.rsqrt, torch.norm, Tensor.norm, F.softplus,
}  # fmt: skip
# What torch's own attention can be asked for beyond query, key, value, mask and scale; BERT asks for none of it.
UNUSUAL = ("dropout_p", "is_causal", "enable_gqa")


def round_tf32(x: Tensor) -> Tensor:
    """FP32 with the mantissa rounded to TF32's 10 bits: nearest, ties to even, as measured on an H200.

    >>> round_tf32(torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-12])).tolist()
    [1.0, 1.001953125, 1.0]
    """
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def through_tensor_cores(rows: int, inner: int, columns: int) -> bool:
    """Whether an H200 takes TF32 for an explicit FP32 product [..., rows, inner] × [..., inner, columns].

    cuBLAS chooses by size, and by whether rows line up at 16 bytes. This rule gives its choice for 158 of 180 products that
    were asked (`benchmarks/product_census.py`), among them all of this size: BERT-base, 16 notes and more a batch.
    """
    if inner % 4 == 0 and columns % 4 == 0:
        return inner >= 16
    return rows >= 64 and min(inner, columns) >= 48


class Emulation(TorchFunctionMode):
    """Inside, matrix products of FP32 tensors compute as the format's hardware would; for inference only.

    Rounded weights are kept for as long as the mode lives, so that each is rounded once.
    """

    def __init__(self, number_format: Format) -> None:
        super().__init__()
        self.stored = None if number_format == "tf32" else getattr(torch, number_format)
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            return self._linear(*args, **kwargs)
        if func in PRODUCTS:
            return self._product(func, *args, **kwargs)
        if self.stored is None:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention and not any(kwargs.get(name) for name in UNUSUAL):
            return self._attention(*args, **kwargs)
        if func in WIDENED:
            args = tuple(self._widened(value) for value in args)
            kwargs = {name: self._widened(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not self._concerns(x, weight) or (self.stored is None and x.numel() == x.shape[-1]):
            return F.linear(x, weight, bias)
        if bias is not None and self.stored is not None:
            bias = self._rounded(bias)
        return self._output(F.linear(self._rounded(x), self._rounded(weight), bias))

    def _product(self, func: Callable[..., Tensor], left: Tensor, right: Tensor, **kwargs: Any) -> Tensor:
        shape = (left.shape[-2], left.shape[-1], right.shape[-1])
        if not self._concerns(left, right) or (self.stored is None and not through_tensor_cores(*shape)):
            return func(left, right, **kwargs)
        return self._output(func(self._rounded(left), self._rounded(right), **kwargs))

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        *_: Any,
        scale: float | None = None,
        **__: Any,
    ) -> Tensor:
        """Attention as the fused kernels compute it: scores and sums in FP32, the unnormalised weights rounded."""
        if not self._concerns(query, key, value):
            return F.scaled_dot_product_attention(query, key, value, attn_mask, scale=scale)
        query, key, value = (self._rounded(x) for x in (query, key, value))
        scores = query @ key.transpose(-1, -2)  # [batch, heads, queries, keys]
        scores *= query.shape[-1] ** -0.5 if scale is None else scale
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores.masked_fill_(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores += attn_mask
        weights = scores.sub_(scores.amax(-1, keepdim=True)).exp_()
        total = weights.sum(-1, keepdim=True)
        return self._output(self._rounded(weights) @ value / total)

    def _concerns(self, *tensors: Tensor) -> bool:
        return all(x.dtype in (torch.float32, self.stored) for x in tensors)

    def _rounded(self, x: Tensor) -> Tensor:
        """FP32 with the values that the format has."""
        if not isinstance(x, nn.Parameter):
            return self._round(x)
        if id(x) not in self._weights:  # the tuple keeps the parameter alive, and with it its id
            self._weights[id(x)] = (x, self._round(x.detach()))
        return self._weights[id(x)][1]

    def _round(self, x: Tensor) -> Tensor:
        return round_tf32(x) if self.stored is None else x.to(self.stored).float()

    def _output(self, x: Tensor) -> Tensor:
        """TF32 is a format of a product's inputs alone; the others are formats in which tensors are stored."""
        return x if self.stored is None else x.to(self.stored)

    def _widened(self, value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.dtype == self.stored else value
