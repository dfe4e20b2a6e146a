"""Functions from IEEE additions, multiplications and divisions in FP64, one a kernel, in a written order.

Libraries' exp and erf differ between a CPU and a GPU, and compilers fuse a·b + c into one rounding where they may. Here every
operation is a kernel of its own, so none can be fused; numbers that are no integers come as tensors where they divide, since
torch on CUDA divides by a Python number through its reciprocal. Errors are below 1e-11, so that what is then rounded to FP32
is within 0.501 units of its last place (the tests hold it to mpmath's values).
"""

import torch
from torch import Tensor

from shifamind_core.precision.bitwise.exact_products import BIAS, MANTISSA

LOG2_E = 1.4426950408889634
# 2^f for |f| ≤ 1/2, relative error 1.4e-14, highest power first (mpmath.chebyfit; the last one set to 1).
EXP2 = (
    1.0205905413765595e-07, 1.325964524488711e-06, 1.5252672924850737e-05, 0.0001540343375125101, 0.0013333558200794592,
    0.009618129193934313, 0.05550410866465167, 0.2402265069564034, 0.6931471805599462, 1.0,
)  # fmt: skip
# (u + 5) exp(u²/2) Φ(-u) for 0 ≤ u ≤ 16 in t = (u - 5) / (u + 5), relative error 1.7e-12 (mpmath.chebyfit).
TAIL = (
    6.678069290679525e-06, 1.571064635189188e-05, -5.213519787978206e-05, -5.9673544027723074e-05, 0.000545678871653129,
    -0.000797675237674831, -0.0029935042639485667, 0.020795034186024366, -0.0691186275617298, 0.1650203681378432,
    -0.31353315715020325, 0.4953056159426588, -0.6653825028835866, 0.7691930497499815,
)  # fmt: skip
TAIL_CENTRE, TAIL_END = 5.0, 16.0
TO_WHOLE = 1.5 * 2.0**52  # adding it rounds to an integer, which its low bits then hold


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Horner's rule, highest power first: one rounding a multiplication, one an addition."""
    value = torch.mul(x, coefficients[0]).add_(coefficients[1])
    for coefficient in coefficients[2:]:
        value.mul_(x).add_(coefficient)
    return value


def exp(x: Tensor) -> Tensor:
    """e^x of FP64 for -700 ≤ x ≤ 700: 2^k times a polynomial of the rest."""
    rest = x * LOG2_E
    whole = rest + TO_WHOLE
    rest.sub_(whole - TO_WHOLE)
    power = whole.view(torch.int64).add_(BIAS).__ilshift__(MANTISSA).view(torch.float64)
    return polynomial(EXP2, rest).mul_(power)


def gelu(x: Tensor) -> Tensor:
    """x Φ(x) of FP32 numbers, as FP64: max(x, 0) - u Φ(-u) with u = |x|, which cancels nowhere."""
    x = x.to(torch.float64)
    u = x.abs().clamp_(max=TAIL_END)  # beyond 16, u Φ(-u) is below FP32's smallest number
    reciprocal = x.new_ones(1) / (u + TAIL_CENTRE)
    tail = polynomial(TAIL, (u - TAIL_CENTRE).mul_(reciprocal)).mul_(reciprocal)
    tail.mul_(exp((u * u).mul_(-0.5))).mul_(u)  # u² is exact: u has 24 bits
    return torch.clamp(x, min=0).sub_(tail)


def relu(x: Tensor) -> Tensor:
    """max(x, 0) of FP32 numbers, as FP64."""
    return torch.clamp(x, min=0).to(torch.float64)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x) of FP32 numbers, as FP64; small values keep their digits."""
    x = x.to(torch.float64)
    small = exp(-x.abs().clamp(max=128.0))
    return torch.where(x < 0, small, torch.ones_like(x)) / (small + 1.0)


def tanh(x: Tensor) -> Tensor:
    """tanh of FP32 numbers, as FP64: a series up to 2^-6, where 1 - e^-2x would cancel."""
    x = x.to(torch.float64)
    small = exp(x.abs().clamp(max=32.0) * -2.0)
    large = torch.sign(x) * ((1.0 - small) / (small + 1.0))
    square = x * x
    series = x * polynomial((-17 / 315, 2 / 15, -1 / 3, 1.0), square)
    return torch.where(x.abs() < 2.0**-6, series, large)
