"""The same exact products from bytes, for GPUs whose FP64 is slow: integer tensor cores, int32 sums, the same bits.

An integer of 27 bits is four bytes, n = Σ 256^i d_i with -128 ≤ d_i ≤ 127. The product of a row and a column is
Σ_s 256^s D_s with D_s = Σ_(i + j = s) Σ_k a_i b_j, at most 4 · 8192 · 128² = 2^29: exact in int32, in any order. Bytes lie side
by side, those of the second operand backwards, so that each D_s is one product of two slices (`torch._int_mm`).
Then H = Σ_(s ≥ 2) 256^(s - 2) D_s and L = 256 D_1 + D_0 are exact in int64 and, below 2^53, in FP64; 2^16 H + L is the product,
rounded once, as `exact_product` defines it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

DIGITS = 4
SUMS = 2 * DIGITS - 1


def digits(numbers: Tensor) -> Tensor:
    """Integers float64 [rows, inner] as bytes int8 [rows, 4 inner], the lowest first."""
    rest, found = numbers.to(torch.int32), []
    for _ in range(DIGITS - 1):
        found.append(((rest + 128) & 255) - 128)
        rest = (rest - found[-1]) >> 8
    return torch.cat([*found, rest], dim=-1).to(torch.int8)


def backwards(numbers: Tensor) -> Tensor:
    """The bytes of the second operand, the highest first."""
    return torch.cat(digits(numbers).chunk(DIGITS, dim=-1)[::-1], dim=-1).contiguous()


def slices(inner: int) -> Iterator[tuple[slice, slice]]:
    """For each s, which columns of the first operand's bytes meet which of the second's."""
    for s in range(SUMS):
        low, high = max(0, s - DIGITS + 1), min(DIGITS - 1, s)
        shift = DIGITS - 1 - s
        yield (
            slice(low * inner, (high + 1) * inner),
            slice((low + shift) * inner, (high + 1 + shift) * inner),
        )


def fits(rows: int, inner: int, columns: int) -> bool:
    """Whether `torch._int_mm` takes such a product on CUDA; slices must begin at a multiple of 16 bytes."""
    return rows > 16 and inner % 16 == 0 and columns % 8 == 0


def partial_sums(left: Tensor, right: Tensor) -> Tensor:
    """All D_s, int32 [7, rows, columns], of bytes [rows, 4 inner] and backward bytes [columns, 4 inner]."""
    sums = torch.empty(SUMS, len(left), len(right), dtype=torch.int32, device=left.device)
    for s, (mine, theirs) in enumerate(slices(left.shape[1] // DIGITS)):
        torch._int_mm(left[:, mine], right[:, theirs].t(), out=sums[s])  # pyright: ignore[reportPrivateImportUsage]
    return sums


def joined(sums: Tensor) -> Tensor:
    """2^16 H + L, rounded once to FP64."""
    wide = sums.to(torch.int64)
    high = wide[-1]
    for s in range(SUMS - 2, 1, -1):
        high = high * 256 + wide[s]
    low = wide[1] * 256 + wide[0]
    return low.to(torch.float64) + high.to(torch.float64) * 65536.0
