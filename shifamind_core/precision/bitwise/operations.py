"""The operations of a BERT, plain: each defined in exact products, exact sums and IEEE operations; nothing else.

These are the definitions. `fused` computes the same numbers with fewer passes over memory, and is held to these bits.
Between operations tensors are FP32. Work goes in blocks that stay in a cache; no row knows of its block.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from shifamind_core.precision.bitwise import elementary
from shifamind_core.precision.bitwise.exact_products import (
    BITS,
    exact_product,
    exact_sum,
    fixed,
    halves,
)

# Numbers of a product's block and of an elementwise pass, on a CPU for each thread: torch splits no pass into less than 2^15.
BLOCK = {"cpu": 1 << 20, "cuda": 1 << 26}
PASS = {"cpu": 1 << 15, "cuda": 1 << 26}
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear layer, its weight cut once: integers int32 [columns, inner], units and bias float64 [columns]."""

    numbers: Tensor
    unit: Tensor
    bias: Tensor

    @cached_property
    def halved(self) -> Tensor:
        """The weight as the plain path multiplies it: `halves` in their units, float64 [2 columns, inner]; made once."""
        return halves(self.numbers.to(torch.float64)).mul_(self.unit.repeat(2)[:, None])

    @classmethod
    def of(cls, layer: nn.Linear, device: torch.device) -> "Dense":
        cut = fixed(layer.weight.detach().to(device))
        numbers = torch.nan_to_num(cut.numbers, posinf=0.0, neginf=0.0).to(torch.int32)
        bias = torch.zeros(len(cut.unit)) if layer.bias is None else layer.bias.detach()
        return cls(numbers, cut.unit, bias.to(device, torch.float64))


@dataclass(frozen=True)
class Norm:
    """A layer norm's weight and bias, float64 [hidden], and its epsilon [1]."""

    weight: Tensor
    bias: Tensor
    epsilon: Tensor

    @classmethod
    def of(cls, layer: nn.LayerNorm, device: torch.device) -> "Norm":
        weight, bias = (
            parameter.detach().to(device, torch.float64) for parameter in (layer.weight, layer.bias)
        )
        return cls(weight, bias, torch.tensor([layer.eps], dtype=torch.float64, device=device))


def blocks(rows: int, width: int, numbers: dict[str, int], device: torch.device) -> Iterator[slice]:
    """Slices of so many rows that a block of `width` columns has at most about `numbers` numbers, on a CPU for each thread."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    step = max(1, threads * numbers[device.type] // width)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def elementwise(function: Function, x: Tensor) -> Tensor:
    """The function of every FP32 number, rounded to FP32, a piece at a time."""
    flat = x.reshape(-1)
    out = torch.empty_like(flat, dtype=torch.float32)
    for piece in blocks(len(flat), 1, PASS, x.device):
        out[piece] = function(flat[piece])
    return out.view(x.shape)


def normalized(x: Tensor, norm: Norm) -> Tensor:
    """Layer norm of FP64 rows [rows, hidden], as FP32: mean and variance are exact sums, divided once."""
    count = torch.tensor(float(x.shape[-1]), dtype=torch.float64, device=x.device)
    centred = x - exact_sum(x) / count
    variance = exact_sum(centred * centred) / count
    scaled = centred.div_(torch.sqrt(variance + norm.epsilon))
    return scaled.mul_(norm.weight).add_(norm.bias).to(torch.float32)


def add_and_normalize(x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """Layer norm of x + y, both [..., hidden], FP32 or FP64."""
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    for rows in blocks(len(x), x[0].numel(), PASS, x.device):
        out[rows] = normalized(x[rows].to(torch.float64) + y[rows], norm)
    return out


def embed(word: Tensor, kind: Tensor, position: Tensor, norm: Norm) -> Tensor:
    """Three embeddings, FP32 [batch, tokens, hidden] or broadcast to it: (word + kind) + position, normalized."""
    return add_and_normalize(word.to(torch.float64) + kind, position.expand_as(word), norm)


def dense_blocks(x: Tensor, layer: Dense) -> Iterator[tuple[slice, Tensor]]:
    """x Wᵀ + bias of FP32 rows [rows, inner] in FP64 [rows, columns], block after block."""
    for rows in blocks(len(x), len(layer.halved), BLOCK, x.device):
        yield rows, exact_product(fixed(x[rows]).values, layer.halved).add_(layer.bias)


def dense(x: Tensor, layer: Dense, function: Function | None = None) -> Tensor:
    """x Wᵀ + bias of FP32 [..., inner], rounded to FP32 [..., columns]; then `function`, rounded once more."""
    flat = x.reshape(-1, x.shape[-1])
    out = torch.empty(len(flat), len(layer.unit), dtype=torch.float32, device=x.device)
    for rows, y in dense_blocks(flat, layer):
        rounded = y.to(torch.float32)
        out[rows] = rounded if function is None else elementwise(function, rounded)
    return out.view(*x.shape[:-1], -1)


def dense_and_normalize(x: Tensor, layer: Dense, residual: Tensor, norm: Norm) -> Tensor:
    """Layer norm of (x Wᵀ + bias) + residual, the sum in FP64; FP32 in and out."""
    flat, beside = x.reshape(-1, x.shape[-1]), residual.reshape(-1, residual.shape[-1])
    out = torch.empty_like(beside)
    for rows, y in dense_blocks(flat, layer):
        out[rows] = add_and_normalize(y, beside[rows], norm)
    return out.view(residual.shape)


def weigh(scores: Tensor) -> Tensor:
    """e^(score - largest) over FP64 [..., keys] as integers of 27 bits."""
    below = (scores - scores.amax(-1, keepdim=True)).clamp_(min=-40.0)  # e^-20 is 0 already
    return elementary.exp(below).mul_(2.0**BITS).round_()


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int) -> Tensor:
    """Softmax attention of FP32 query [batch, queries, hidden] over key and value [batch, keys, hidden]; FP32.

    Weights are e^(score - largest) to 27 bits below one, so their sum is exact; it divides once, after the product with the
    values. `mask` bool [batch, keys]: keys left out are not looked at. A note without a key is NaN.
    """
    out = torch.empty_like(query)
    for note in range(len(query)):
        seen = slice(None) if mask is None else mask[note]
        q, k, v = (
            x.unflatten(-1, (heads, -1)).transpose(0, 1)  # [heads, tokens, size]
            for x in (query[note], key[note, seen], value[note, seen])
        )
        out[note] = _attend(q, k, v).transpose(0, 1).flatten(1) if k.shape[1] else torch.nan
    return out


def score_scale(size: int, device: torch.device) -> Tensor:
    """1 / √size in FP64 [1]: both correctly rounded, which the C library's size ** -0.5 need not be."""
    return torch.tensor([1.0 / math.sqrt(size)], dtype=torch.float64, device=device)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One note: query [heads, queries, size], key and value [heads, keys, size]."""
    scale = score_scale(query.shape[-1], query.device)
    keys = _in_halves(key)  # [heads, 2 keys, size]
    values = _in_halves(value.transpose(-1, -2))  # [heads, 2 size, keys]
    out = torch.empty_like(query)
    for rows in blocks(query.shape[1], keys[..., 0].numel(), BLOCK, query.device):
        weights = exact_product(fixed(query[:, rows]).values, keys).mul_(scale)
        flat = weights.flatten(0, 1)
        for piece in blocks(len(flat), flat.shape[-1], PASS, query.device):
            flat[piece] = weigh(flat[piece])
        total = weights.sum(-1, keepdim=True)  # integers below 2^40: exact in any order
        out[:, rows] = exact_product(weights, values).div_(total)
    return out


def _in_halves(x: Tensor) -> Tensor:
    """`halves` of FP32 rows [..., rows, inner], in their units."""
    cut = fixed(x)
    return halves(cut.numbers).mul_(torch.cat([cut.unit, cut.unit], dim=-1).unsqueeze(-1))


def mean_of_positions(x: Tensor) -> Tensor:
    """The mean of FP32 [batch, tokens, hidden] over tokens, padding included, rounded to FP32 [batch, hidden]."""
    count = torch.tensor(float(x.shape[1]), dtype=torch.float64, device=x.device)
    means = [exact_sum(note.to(torch.float64), 0) / count for note in x]  # a note at a time: FP64 is large
    return torch.cat(means).to(torch.float32)


@dataclass(frozen=True)
class Kernels:
    """The three operations that cost time, in one implementation; `name` is what a manifest records."""

    name: str
    dense: Callable[..., Tensor]
    dense_and_normalize: Callable[[Tensor, Dense, Tensor, Norm], Tensor]
    attention: Callable[[Tensor, Tensor, Tensor, Tensor | None, int], Tensor]


PLAIN = Kernels("plain", dense, dense_and_normalize, attention)
