"""The operations of a BERT, plain: each defined in exact products, exact sums and IEEE operations; nothing else.

These are the definitions. `fused` computes the same numbers with fewer passes over memory, and is held to these bits.
Between operations tensors are FP32. Work goes in blocks that stay in a cache; no row knows of its block.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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

BLOCK = {"cpu": 1 << 20, "cuda": 1 << 26}  # numbers of a product's block
PASS = {"cpu": 1 << 15, "cuda": 1 << 26}  # numbers that elementwise operations take at a time
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear layer, its weight cut once: integers int32 [columns, inner], units and bias float64 [columns]."""

    numbers: Tensor
    unit: Tensor
    bias: Tensor

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


def blocks(rows: int, width: int, numbers: int) -> Iterator[slice]:
    """Slices of so many rows that a block of `width` columns has at most about `numbers` numbers."""
    step = max(1, numbers // width)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def elementwise(function: Function, x: Tensor) -> Tensor:
    """The function of every FP32 number, rounded to FP32, a piece at a time."""
    flat = x.reshape(-1)
    out = torch.empty_like(flat, dtype=torch.float32)
    for piece in blocks(len(flat), 1, PASS[x.device.type]):
        out[piece] = function(flat[piece])
    return out.view(x.shape)


def normalized(x: Tensor, norm: Norm) -> Tensor:
    """Layer norm of FP64 rows [rows, hidden], as FP32: mean and variance are exact sums, divided once."""
    count = torch.tensor(float(x.shape[-1]), dtype=torch.float64, device=x.device)
    centred = x - exact_sum(x) / count
    variance = exact_sum(centred * centred) / count
    scaled = centred / torch.sqrt(variance + norm.epsilon)
    return (scaled * norm.weight + norm.bias).to(torch.float32)


def add_and_normalize(x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """Layer norm of x + y, both [..., hidden], FP32 or FP64."""
    out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
    for rows in blocks(len(x), x[0].numel(), PASS[x.device.type]):
        out[rows] = normalized(x[rows].to(torch.float64) + y[rows], norm)
    return out


def embed(word: Tensor, kind: Tensor, position: Tensor, norm: Norm) -> Tensor:
    """Three embeddings, FP32 [batch, tokens, hidden] or broadcast to it: (word + kind) + position, normalized."""
    return add_and_normalize(word.to(torch.float64) + kind, position.expand_as(word), norm)


def dense_blocks(x: Tensor, layer: Dense) -> Iterator[tuple[slice, Tensor]]:
    """x Wᵀ + bias of FP32 rows [rows, inner] in FP64 [rows, columns], block after block."""
    halved = halves(layer.numbers.to(torch.float64))
    for rows in blocks(len(x), len(halved), BLOCK[x.device.type]):
        cut = fixed(x[rows])
        product = exact_product(cut.numbers, halved).mul_(cut.unit[:, None]).mul_(layer.unit)
        yield rows, product.add_(layer.bias)


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


def weigh(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """e^(score - largest) over FP64 [..., keys] as integers of 27 bits; 0, exactly, where `allowed` is not."""
    if allowed is not None:
        scores = torch.where(allowed, scores, -torch.inf)
    below = (scores - scores.amax(-1, keepdim=True)).clamp(min=-40.0)  # e^-20 is 0 already
    weights = torch.round(elementary.exp(below) * 2.0**BITS)
    return weights if allowed is None else torch.where(allowed, weights, 0.0)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int) -> Tensor:
    """Softmax attention of FP32 query [batch, queries, hidden] over key and value [batch, keys, hidden]; FP32.

    Weights are e^(score - largest) to 27 bits below one, so their sum is exact; it divides once, after the product with the
    values. `mask` bool [batch, keys]: keys left out count exactly nothing, and their values do not decide the others' unit.
    """
    batch, queries, hidden = query.shape
    out = torch.empty_like(query)
    block = BLOCK[query.device.type]
    step = max(1, block // (2 * heads * queries * key.shape[1]))
    for notes in blocks(batch, 1, step):
        allowed = None if mask is None else mask[notes, None, None, :]
        q, k, v = (
            x[notes].unflatten(-1, (heads, hidden // heads)).transpose(1, 2) for x in (query, key, value)
        )
        mixed = _attend(q, k, v, allowed)
        out[notes] = mixed.transpose(1, 2).flatten(2)
    return out


def score_scale(size: int, device: torch.device) -> Tensor:
    """1 / √size in FP64 [1]: both correctly rounded, which the C library's size ** -0.5 need not be."""
    return torch.tensor([1.0 / math.sqrt(size)], dtype=torch.float64, device=device)


def _attend(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
    """One block: query [notes, heads, queries, size], key and value [notes, heads, keys, size]."""
    scale = score_scale(query.shape[-1], query.device)
    if allowed is not None:
        value = torch.where(allowed.transpose(-1, -2), value, 0.0)
    columns = value.transpose(-1, -2)  # [notes, heads, size, keys]
    q, k, v = fixed(query), fixed(key), fixed(columns)
    halved_keys, halved_values = halves(k.numbers), halves(v.numbers)
    out = torch.empty_like(query)
    for rows in blocks(query.shape[2], 2 * key[..., 0].numel(), BLOCK[query.device.type]):
        scores = exact_product(q.numbers[..., rows, :], halved_keys)
        scores = scores.mul_(q.unit[..., rows, None]).mul_(k.unit[..., None, :]).mul_(scale)
        weights = _weigh_in_pieces(scores, allowed)
        mixed = exact_product(weights, halved_values).mul_(v.unit[..., None, :])
        out[..., rows, :] = mixed / weights.sum(-1, keepdim=True)  # integers below 2^40: exact in any order
    return out


def _weigh_in_pieces(scores: Tensor, allowed: Tensor | None) -> Tensor:
    for note, rows in enumerate(scores.flatten(1, 2)):  # [heads · queries, keys]
        permitted = None if allowed is None else allowed[note, 0]
        for piece in blocks(len(rows), rows.shape[-1], PASS[scores.device.type]):
            rows[piece] = weigh(rows[piece], permitted)
    return scores


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
