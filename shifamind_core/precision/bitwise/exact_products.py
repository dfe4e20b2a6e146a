"""Products and sums that no machine can compute differently.

Rounding is what makes the order of a sum matter. So the operands are rounded beforehand, in a way that is defined: a row of
FP32 numbers becomes integers n, |n| ≤ 2^27, times a power of two of the row's own (`fixed`). The product of a row and a column
is then **the exact sum of n·m, rounded once to FP64**, which is one number however it is computed. FP64 computes it in two
halves, m = 2^14 h + l with |h|, |l| ≤ 2^13: every partial sum of n·h or n·l is an integer of at most
8192 · 2^27 · 2^13 = 2^53, and such integers FP64 adds without rounding in any order, with or without FMA. Powers of two round
nothing either, wherever they are multiplied in, so the last addition, Σn·2^14 h + Σn·l, is the one rounding. `int8` computes the
same from bytes.

A row's power of two looks at that row alone, so that no note depends on its company.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BITS = 27  # of an operand's integers
HALF = 14  # of those, the low ones
LONGEST = 8192  # inner length: LONGEST · 2^BITS · 2^(BITS - HALF) = 2^53
SUM_BITS = 40  # of a summand: LONGEST · 2^SUM_BITS = 2^53
MANTISSA, BIAS = 52, 1023  # of FP64


@dataclass(frozen=True)
class Fixed:
    """Rows of integers `numbers` [..., rows, inner], |n| ≤ 2^27, times powers of two `unit` [..., rows], both float64.

    A row that holds an infinity or NaN has the unit NaN, and so makes NaN of every product that reads it.
    """

    numbers: Tensor
    unit: Tensor

    @property
    def values(self) -> Tensor:
        """Numbers times units: what a product may read in their stead."""
        return self.numbers * self.unit.unsqueeze(-1)


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent in FP64, for int64 exponents from -1022 to 1023, put together from bits."""
    return ((exponent + BIAS) << MANTISSA).view(torch.float64)


def fixed(x: Tensor) -> Fixed:
    """FP32 rows [..., rows, inner] as integers: x / unit to the nearest, ties to even, where 2^27 unit > |x| in the row.

    >>> found = fixed(torch.tensor([[1.0, -0.75], [0.0, 0.0]]))
    >>> found.numbers[0].tolist() == [2**26, -3 * 2**24], found.unit.log2().tolist()[0]
    (True, -26.0)
    """
    largest = x.abs().amax(-1).view(torch.int32).to(torch.int64) & 0x7FFFFFFF
    field = largest >> 23  # FP32's exponent: |x| < 2^(field - 126), subnormals and zero included
    exponent = field - (126 + BITS)
    numbers = torch.round(x.to(torch.float64) * power_of_two(-exponent).unsqueeze(-1))
    return Fixed(numbers, torch.where(field == 255, torch.nan, power_of_two(exponent)))


def halves(numbers: Tensor) -> Tensor:
    """Integers [..., rows, inner] in two: all high halves, 2^14 h, then all low ones, l: [..., 2 rows, inner]."""
    high = torch.round(numbers * 2.0**-HALF).mul_(2.0**HALF)
    return torch.cat([high, numbers - high], dim=-2)


def exact_product(numbers: Tensor, halved: Tensor) -> Tensor:
    """Integers [..., rows, inner] times `halves` [..., 2 columns, inner]: [..., rows, columns], rounded once to FP64."""
    if numbers.shape[-1] > LONGEST:
        raise ValueError(f"inner length {numbers.shape[-1]} > {LONGEST}: partial sums could round")
    high, low = (numbers @ halved.transpose(-1, -2)).chunk(2, dim=-1)
    return torch.add(low, high).add_(0.0)  # and no negative zero


def exact_sum(x: Tensor, dim: int = -1) -> Tensor:
    """The sum of FP64 numbers over `dim` (kept), each rounded to 40 bits below a power of two above the largest.

    Where all are below 2^-1012, to multiples of 2^-1052: what is made of FP32 numbers is not so small.
    Adding and taking away 1.5 · 2^(52 + e - 40) rounds to a multiple of 2^(e - 40), wherever FP64 is IEEE's.
    """
    largest = x.abs().amax(dim, keepdim=True).view(torch.int64) & (2**63 - 1)
    exponent = (largest >> MANTISSA) - BIAS + 1
    magic = 1.5 * power_of_two((exponent + MANTISSA - SUM_BITS).clamp(-1000, 1023))
    return torch.sum((x + magic) - magic, dim, keepdim=True)
