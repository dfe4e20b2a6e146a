"""Which implementation runs on a device: a quick measurement's choice. All give the same bits, or are refused."""

import importlib.util
import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from shifamind_core.errors import PolicyRefused
from shifamind_core.precision.bitwise import int8
from shifamind_core.precision.bitwise.exact_products import BITS, LONGEST, exact_product, halves
from shifamind_core.precision.bitwise.operations import PLAIN, Kernels

ROWS, INNER, COLUMNS = 4096, 768, 3072  # of the product that is timed


@cache
def kernels_for(device: torch.device) -> Kernels:
    """The fastest implementation that this device and its libraries have; `name` says which, and why.

    Raises
    ------
    PolicyRefused
        The device's FP64 products are not exact where they must be, or it takes subnormal numbers for zero.
    """
    check_arithmetic(device)
    if device.type != "cuda":
        return PLAIN
    if importlib.util.find_spec("triton") is None:
        return PLAIN
    from shifamind_core.precision.bitwise.fused import Fused  # needs Triton, which comes with torch on CUDA

    seconds = {in_bytes: timed(device, in_bytes) for in_bytes in (False, True)}
    return Fused(device, in_bytes=seconds[True] < seconds[False]).kernels()


def check_arithmetic(device: torch.device) -> None:
    """Multiply what only exact FP64 multiplies right, and read what only IEEE arithmetic reads.

    Raises
    ------
    PolicyRefused
        It came out otherwise: FP64 emulated in fewer bits, or subnormal numbers flushed to zero.
    """
    if not torch.full((1,), 1e-40, device=device).to(torch.float64).item():
        raise PolicyRefused(
            f"bitwise needs subnormal numbers, which are zero on {device} (torch.set_flush_denormal)."
        )
    left, right = hostile(64, LONGEST, device), hostile(64, LONGEST, device).flip(-1)
    found = exact_product(left, halves(right))
    if not torch.equal(found.cpu(), exact_integers(left.cpu(), right.cpu())):
        raise PolicyRefused(f"bitwise needs exact FP64 products; those of {device} round.")


def hostile(rows: int, inner: int, device: torch.device) -> Tensor:
    """Integers as large as they may be, of both signs and all low bits, the same on every machine."""
    spread = torch.arange(rows * inner, dtype=torch.int64) * 0x1E3779B97F4A7C15
    numbers = (spread >> 20 & (2 ** (BITS + 1) - 1)) - 2**BITS
    numbers[:inner] = 2**BITS  # a row in which nothing cancels
    return numbers.view(rows, inner).to(device, torch.float64)


def exact_integers(left: Tensor, right: Tensor) -> Tensor:
    """Σ n·m of integers [rows, inner] and [columns, inner], rounded once to FP64, by 64-bit integers."""
    left, right = left.to(torch.int64), right.to(torch.int64)
    high, low = right >> 14, right & (2**14 - 1)  # another cut than `halves`: sums of 55 bits
    return _joined(*((left @ part.t()) for part in (high, low)))


def _joined(high: Tensor, low: Tensor) -> Tensor:
    """2^14 high + low, rounded once."""
    carry = low >> 14
    high, low = high + carry, low - (carry << 14)
    wide = high.to(torch.float64)  # below 2^53 for |Σ| ≤ 2^67
    return wide * 2.0**14 + low.to(torch.float64)


def timed(device: torch.device, in_bytes: bool) -> float:
    """Seconds of one product of a linear layer's size; infinite where the device refuses it."""
    if in_bytes and torch.cuda.get_device_capability(device) < (7, 5):
        return float("inf")  # no integer tensor cores
    left = torch.ones(ROWS, INNER, dtype=torch.float64, device=device)
    right = torch.ones(COLUMNS, INNER, dtype=torch.float64, device=device)
    if in_bytes:
        bytes_left, bytes_right = int8.digits(left), int8.backwards(right)
        try:
            return best_of(lambda: int8.partial_sums(bytes_left, bytes_right), device)
        except RuntimeError:  # what torch raises where cuBLAS has no such product
            return float("inf")
    halved = halves(right)
    return best_of(lambda: left @ halved.t(), device)


def best_of(work: Callable[[], Tensor], device: torch.device, times: int = 3) -> float:
    """Seconds of the fastest of some repetitions, after one that warms up."""
    seconds = []
    for _ in range(times + 1):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
