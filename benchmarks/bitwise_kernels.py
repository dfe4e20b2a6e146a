# pyright: reportIndexIssue=false, reportMissingImports=false
"""The fused functions of `bitwise` before they are rounded to FP32, where a single contraction shows."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from shifamind_core.precision.bitwise import elementary
from shifamind_core.precision.bitwise.fused import _exp, _gelu

BLOCK = 1024


@triton.jit
def _kernel(x, out, constants, count, FUNCTION: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < count, other=0.0)
    found = _exp(value, constants) if FUNCTION == 0 else _gelu(value.to(tl.float32), constants)
    tl.store(out + at, found, mask=at < count)


def evaluated(name: str, x: Tensor, contracted: bool) -> Tensor:
    """`exp` or `gelu` of FP64 numbers on the GPU, in FP64; `contracted` lets Triton fuse a·b + c."""
    numbers = (elementary.LOG2_E, *elementary.EXP2, *elementary.TAIL)
    constants = torch.tensor(numbers, dtype=torch.float64, device=x.device)
    out = torch.empty_like(x)
    _kernel[(triton.cdiv(len(x), BLOCK),)](
        x, out, constants, len(x), FUNCTION=("exp", "gelu").index(name), BLOCK=BLOCK,
        enable_fp_fusion=contracted,
    )  # fmt: skip
    return out
