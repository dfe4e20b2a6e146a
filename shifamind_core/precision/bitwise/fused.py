# pyright: reportIndexIssue=false, reportMissingImports=false
"""The operations of `operations` in few passes over a GPU's memory, by Triton; the same bits, which tests hold them to.

Traps of Triton, and what is done about them: it contracts a·b + c into one rounding (`enable_fp_fusion=False`); a Python float
is FP32 to it, as an argument and in some releases as a constant (numbers that FP32 does not hold come from memory, in FP64);
its maximum may drop a NaN (maxima are taken of bits, where NaN is the largest); its exp is the hardware's (`_exp` is ours).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from shifamind_core.precision.bitwise import elementary, int8, operations
from shifamind_core.precision.bitwise.exact_products import fixed, halves
from shifamind_core.precision.bitwise.operations import Dense, Function, Kernels, Norm

MAGIC = tl.constexpr(6755399441055744.0)  # 1.5 · 2^52: adding and taking it away rounds to an integer
NAN_BITS = tl.constexpr(0x7FF8000000000000)
IEEE = {"enable_fp_fusion": False}
FUNCTIONS: dict[Function | None, int] = {None: 0, elementary.gelu: 1}


@triton.jit
def _two_to(exponent):
    return ((exponent.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def _whole(x):
    return (x + MAGIC) - MAGIC


@triton.jit
def _exp(x, constants):
    scaled = x * tl.load(constants)
    whole = _whole(scaled)
    rest = scaled - whole
    value = tl.zeros_like(rest) + tl.load(constants + 1)
    for i in tl.static_range(2, 11):
        value = value * rest
        value = value + tl.load(constants + i)
    return value * _two_to(whole.to(tl.int32))


@triton.jit
def _gelu(rounded, constants):
    x = rounded.to(tl.float64)
    u = tl.abs(x)
    u = tl.where(u < 16.0, u, 16.0)
    reciprocal = 1.0 / (u + 5.0)
    t = (u - 5.0) * reciprocal
    tail = tl.zeros_like(t) + tl.load(constants + 11)
    for i in tl.static_range(12, 25):
        tail = tail * t
        tail = tail + tl.load(constants + i)
    tail = tail * reciprocal
    tail = tail * _exp(u * u * -0.5, constants) * u
    value = tl.where(x > 0.0, x, 0.0) - tail
    return tl.where(x == x, value, x)


@triton.jit
def _sum(x):
    bits = x.to(tl.int64, bitcast=True) & 0x7FFFFFFFFFFFFFFF
    exponent = (tl.max(bits, 0) >> 52) - 1010
    exponent = tl.minimum(tl.maximum(exponent, -1000), 1023)
    magic = _two_to(exponent) * 1.5
    return tl.sum((x + magic) - magic, 0)


@triton.jit
def _product(products, row, column, inside, columns, plane, BYTES: tl.constexpr):
    """The exact product at a row and its columns, rounded once to FP64."""
    if BYTES:
        at = products + row * columns + column
        high = tl.load(at + 6 * plane, mask=inside, other=0).to(tl.int64)
        for s in tl.static_range(5, 1, -1):
            high = high * 256 + tl.load(at + s * plane, mask=inside, other=0).to(tl.int64)
        low = tl.load(at + plane, mask=inside, other=0).to(tl.int64) * 256
        low = low + tl.load(at, mask=inside, other=0).to(tl.int64)
        return low.to(tl.float64) + high.to(tl.float64) * 65536.0
    else:
        at = products + row * 2 * columns + column
        high = tl.load(at, mask=inside, other=0.0)
        low = tl.load(at + columns, mask=inside, other=0.0)
        return (low + high) + 0.0


@triton.jit
def _linear(products, units, layer_units, bias, row, column, inside, columns, plane, BYTES: tl.constexpr):
    value = _product(products, row, column, inside, columns, plane, BYTES)
    value = value * tl.load(units + row)
    value = value * tl.load(layer_units + column, mask=inside, other=0.0)
    return value + tl.load(bias + column, mask=inside, other=0.0)


@triton.jit
def _cut_kernel(x, numbers, units, inner, BYTES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < inner
    value = tl.load(x + row * inner + at, mask=inside, other=0.0)
    field = tl.max(value.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 0) >> 23
    whole = _whole(value.to(tl.float64) * _two_to(153 - field))
    unit = (field.to(tl.int64) + 870) << 52
    unit = tl.where(field == 255, NAN_BITS, unit).to(tl.float64, bitcast=True)
    tl.store(units + row, unit)
    if BYTES:
        rest = whole.to(tl.int32)
        for i in tl.static_range(3):
            digit = ((rest + 128) & 255) - 128
            tl.store(numbers + row * 4 * inner + i * inner + at, digit.to(tl.int8), mask=inside)
            rest = (rest - digit) >> 8
        tl.store(numbers + row * 4 * inner + 3 * inner + at, rest.to(tl.int8), mask=inside)
    else:
        tl.store(numbers + row * inner + at, whole, mask=inside)


@triton.jit
def _finish_kernel(
    products, units, layer_units, bias, out, constants, columns, plane,
    FUNCTION: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    value = _linear(products, units, layer_units, bias, row, column, inside, columns, plane, BYTES)
    rounded = value.to(tl.float32)
    if FUNCTION == 1:
        rounded = _gelu(rounded, constants).to(tl.float32)
    tl.store(out + row * columns + column, rounded, mask=inside)


@triton.jit
def _normalize_kernel(
    products, units, layer_units, bias, residual, weight, shift, epsilon, out, columns, plane,
    BYTES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    value = _linear(products, units, layer_units, bias, row, column, inside, columns, plane, BYTES)
    value = value + tl.load(residual + row * columns + column, mask=inside, other=0.0).to(tl.float64)
    count = columns.to(tl.float64)
    centred = value - _sum(tl.where(inside, value, 0.0)) / count
    variance = _sum(tl.where(inside, centred * centred, 0.0)) / count
    scaled = centred / tl.sqrt(variance + tl.load(epsilon))
    scaled = scaled * tl.load(weight + column, mask=inside, other=0.0)
    scaled = scaled + tl.load(shift + column, mask=inside, other=0.0)
    tl.store(out + row * columns + column, scaled.to(tl.float32), mask=inside)


@triton.jit
def _weigh_kernel(
    products, query_units, key_units, allowed, scale, weights, totals, constants, heads, queries, keys,
    MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # of [notes, heads, queries]
    group = row // queries  # of [notes, heads]
    key = tl.arange(0, BLOCK)
    inside = key < keys
    score = _product(products, row, key, inside, keys, 0, False)
    score = score * tl.load(query_units + row)
    score = score * tl.load(key_units + group * keys + key, mask=inside, other=0.0)
    score = score * tl.load(scale)
    if MASKED:
        inside = inside & (tl.load(allowed + (group // heads) * keys + key, mask=inside, other=0) != 0)
    broken = tl.max(tl.where(inside & (score != score), 1, 0), 0)
    sound = inside & (score == score)
    below = score - tl.max(tl.where(sound, score, float("-inf")), 0)
    below = tl.where(below > -40.0, below, -40.0)
    weight = tl.where(sound, _whole(_exp(below, constants) * 134217728.0), 0.0)
    total = tl.sum(weight, 0)
    bits = tl.where(broken > 0, NAN_BITS, total.to(tl.int64, bitcast=True))
    tl.store(totals + row, bits.to(tl.float64, bitcast=True))
    tl.store(weights + row * keys + key, weight, mask=key < keys)


@triton.jit
def _mix_kernel(products, value_units, totals, out, heads, queries, size, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)  # of [notes, heads, queries]
    group = row // queries
    column = tl.arange(0, BLOCK)
    inside = column < size
    value = _product(products, row, column, inside, size, 0, False)
    value = value * tl.load(value_units + group * size + column, mask=inside, other=0.0)
    value = value / tl.load(totals + row)
    note, head, query = group // heads, group % heads, row % queries
    at = out + ((note * queries + query) * heads + head) * size
    tl.store(at + column, value.to(tl.float32), mask=inside)


def _pow2(size: int) -> int:
    return triton.next_power_of_2(size)


def _warps(block: int) -> dict[str, int]:
    return {"num_warps": max(1, min(8, block // 256))}


class Fused:
    """The three operations of `Kernels`; weights are widened once, for as long as this lives."""

    def __init__(self, device: torch.device, in_bytes: bool) -> None:
        self.in_bytes = in_bytes
        numbers = (elementary.LOG2_E, *elementary.EXP2, *elementary.TAIL)
        self.constants = torch.tensor(numbers, dtype=torch.float64, device=device)
        self._weights: dict[tuple[Dense, bool], Tensor] = {}

    def kernels(self) -> Kernels:
        """As `BitwiseModel` takes them."""
        name = "fused, INT8 products" if self.in_bytes else "fused, FP64 products"
        return Kernels(name, self.dense, self.dense_and_normalize, self.attention)

    def dense(self, x: Tensor, layer: Dense, function: Function | None = None) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        if function is not None and function not in FUNCTIONS:
            return operations.elementwise(function, self.dense(x, layer))
        out = torch.empty(len(flat), len(layer.unit), dtype=torch.float32, device=x.device)
        products, units, in_bytes = self._products(flat, layer)
        columns = out.shape[1]
        block = min(1024, _pow2(columns))
        _finish_kernel[(len(out), triton.cdiv(columns, block))](
            products, units, layer.unit, layer.bias, out, self.constants, columns, out.numel(),
            FUNCTION=FUNCTIONS[function], BYTES=in_bytes, BLOCK=block, **_warps(block), **IEEE,
        )  # fmt: skip
        return out.view(*x.shape[:-1], -1)

    def dense_and_normalize(self, x: Tensor, layer: Dense, residual: Tensor, norm: Norm) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        residual = residual.contiguous()
        out = torch.empty_like(residual)
        products, units, in_bytes = self._products(flat, layer)
        columns = out.shape[-1]
        block = _pow2(columns)
        _normalize_kernel[(len(flat),)](
            products, units, layer.unit, layer.bias, residual, norm.weight, norm.bias, norm.epsilon, out,
            columns, out.numel(), BYTES=in_bytes, BLOCK=block, **_warps(block), **IEEE,
        )  # fmt: skip
        return out

    def attention(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int) -> Tensor:
        out = torch.empty_like(query)
        step = max(1, (1 << 27) // (2 * heads * query.shape[1] * key.shape[1]))  # 1 GiB of products
        for start in range(0, len(query), step):
            notes = slice(start, start + step)
            allowed = None if mask is None else mask[notes].contiguous()
            self._attend(query[notes], key[notes], value[notes], allowed, heads, out[notes])
        return out

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int, out: Tensor
    ) -> None:
        notes, queries, hidden = query.shape
        keys, size = key.shape[1], hidden // heads

        def split(x: Tensor) -> Tensor:  # [notes, tokens, heads, ...] to [notes, heads, tokens, ...]
            return x.transpose(1, 2).contiguous()

        cut = [self._cut(x.reshape(-1, size), False) for x in (query, key)]
        (q, q_unit), (k, k_unit) = (
            (split(n.view(notes, -1, heads, size)), split(unit.view(notes, -1, heads))) for n, unit in cut
        )
        columns = value.unflatten(-1, (heads, size)).permute(0, 2, 3, 1)  # [notes, heads, size, keys]
        if mask is not None:
            columns = torch.where(mask[:, None, None, :], columns, 0.0)
        v = fixed(columns)
        products = q @ halves(k).transpose(-1, -2)  # [notes, heads, queries, 2 keys]
        weights = torch.empty(notes, heads, queries, keys, dtype=torch.float64, device=query.device)
        totals = torch.empty(notes, heads, queries, dtype=torch.float64, device=query.device)
        scale = operations.score_scale(size, query.device)
        block = _pow2(keys)
        _weigh_kernel[(totals.numel(),)](
            products, q_unit, k_unit, totals if mask is None else mask.view(torch.uint8), scale, weights,
            totals, self.constants, heads, queries, keys,
            MASKED=mask is not None, BLOCK=block, **_warps(block), **IEEE,
        )  # fmt: skip
        mixed = weights @ halves(v.numbers).transpose(-1, -2)  # [notes, heads, queries, 2 size]
        block = _pow2(size)
        _mix_kernel[(totals.numel(),)](
            mixed, v.unit, totals, out, heads, queries, size, BLOCK=block, **_warps(block), **IEEE
        )

    def _products(self, x: Tensor, layer: Dense) -> tuple[Tensor, Tensor, bool]:
        """Exact products in halves or partial sums, the rows' units, and whether they are partial sums."""
        in_bytes = self.in_bytes and int8.fits(len(x), x.shape[1], len(layer.unit))
        numbers, units = self._cut(x, in_bytes)
        weight = self._widened(layer, in_bytes)
        if in_bytes:
            return int8.partial_sums(numbers, weight), units, True
        return numbers @ weight.t(), units, False

    def _widened(self, layer: Dense, in_bytes: bool) -> Tensor:
        if (layer, in_bytes) not in self._weights:
            numbers = layer.numbers.to(torch.float64)
            self._weights[layer, in_bytes] = int8.backwards(numbers) if in_bytes else halves(numbers)
        return self._weights[layer, in_bytes]

    def _cut(self, x: Tensor, in_bytes: bool) -> tuple[Tensor, Tensor]:
        x = x.contiguous()
        rows, inner = x.shape
        dtype, width = (torch.int8, int8.DIGITS * inner) if in_bytes else (torch.float64, inner)
        numbers = torch.empty(rows, width, dtype=dtype, device=x.device)
        units = torch.empty(rows, dtype=torch.float64, device=x.device)
        block = _pow2(inner)
        _cut_kernel[(rows,)](x, numbers, units, inner, BYTES=in_bytes, BLOCK=block, **_warps(block), **IEEE)
        return numbers, units
