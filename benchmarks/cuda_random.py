"""What CUDA's random numbers are on a GPU with another number of multiprocessors, computed without that GPU.

PyTorch fills a tensor with a grid of threads, each with a Philox 4x32-10 stream of its own (Salmon et al., SC 2011), the
thread's number being the subsequence. The grid is as large as the GPU holds at once: multiprocessors × threads each can
hold. So which thread fills which element, and hence its value, depends on the number of multiprocessors as soon as a
tensor has more elements than the smaller grid has threads (ATen/native/cuda/DistributionTemplates.h and Dropout.cu).
On an H200 both functions below gave every element bit for bit (docs/gpu-evidence.md).
"""

from dataclasses import dataclass

import numpy as np

BLOCK = 256  # threads a block, in both kernels
VECTOR = 4  # numbers a thread draws at once


@dataclass(frozen=True)
class Gpu:
    """As `torch.cuda.get_device_properties` says."""

    name: str
    multiprocessors: int
    threads_per_multiprocessor: int

    @property
    def blocks(self) -> int:
        """Largest grid of either kernel."""
        return self.multiprocessors * (self.threads_per_multiprocessor // BLOCK)


# NVIDIA's published numbers.
GPUS = (
    Gpu("H200 or H100 SXM", 132, 2048),
    Gpu("A100", 108, 2048),
    Gpu("L4", 58, 1536),
    Gpu("T4", 40, 1024),
)


def rand(count: int, gpu: Gpu, seed: int) -> np.ndarray:
    """float32 [count]: `torch.manual_seed(seed); torch.rand(count, device="cuda")` on that GPU."""
    threads = BLOCK * min(gpu.blocks, -(-count // BLOCK))
    element = np.arange(count, dtype=np.uint64)
    # A thread strides over the tensor four grids at a time and fills one element in each.
    bits = _philox(element // (VECTOR * threads), element % threads, (element // threads) % VECTOR, seed)
    values = bits.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    values[values == 1] = 0  # curand draws from (0, 1], torch from [0, 1)
    return values


def dropout_keeps(count: int, gpu: Gpu, seed: int, p: float = 0.5) -> np.ndarray:
    """bool [count]: which elements `torch.manual_seed(seed); F.dropout(x, p)` keeps of a contiguous FP32 tensor there."""
    threads = BLOCK * min(gpu.blocks, -(-count // (BLOCK * VECTOR)))
    element = np.arange(count, dtype=np.uint64)
    # Here a thread fills four neighbours at once.
    quad = element // VECTOR
    bits = _philox(quad // threads, quad % threads, element % VECTOR, seed)
    return bits.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33) < np.float32(1 - p)


def first_difference(count: int, one: Gpu, other: Gpu, seed: int = 0) -> int | None:
    """The first element that `rand` fills otherwise on the other GPU; `None` where all agree.

    >>> first_difference(300_000, GPUS[0], GPUS[1]), first_difference(1000, GPUS[0], GPUS[3])
    (221184, None)
    """
    differs = np.flatnonzero(rand(count, one, seed) != rand(count, other, seed))
    return int(differs[0]) if differs.size else None


def _philox(counter: np.ndarray, subsequence: np.ndarray, word: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [n] below 2^32: one word of Philox 4x32-10's output at this counter of this subsequence."""
    zero = np.zeros_like(counter)
    state = [counter, zero, subsequence, zero]
    low, high = seed & 0xFFFFFFFF, seed >> 32
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    for _ in range(10):
        first, second = state[0] * np.uint64(0xD2511F53), state[2] * np.uint64(0xCD9E8D57)
        state = [
            (second >> shift) ^ state[1] ^ np.uint64(low),
            second & mask,
            (first >> shift) ^ state[3] ^ np.uint64(high),
            first & mask,
        ]
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return np.choose(word.astype(np.int64), state)
