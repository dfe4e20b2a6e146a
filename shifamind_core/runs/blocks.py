"""Parts of a matrix [documents, codes] that may be mapped from a file larger than the memory: blocks of notes, groups of codes."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

T = TypeVar("T")
S = TypeVar("S")

BLOCK_CELLS = (
    1 << 20
)  # looked at together: what is made of a block stays in the caches, and is small beside a run of any length
GROUP_CELLS = 1 << 23  # of some codes, each with all its notes: copied, since they lie apart in the file
TILE_NOTES = 256  # copied at once: rows and columns of a tile both stay in the caches
TILES = 32  # by one thread
MOST_THREADS = 4


def blocks_of_notes(matrix: np.ndarray) -> Iterator[slice]:
    """Rows of [documents, codes], block by block: the matrix may be mapped from a file larger than the memory."""
    step = max(1, BLOCK_CELLS // matrix.shape[1])
    return (slice(start, start + step) for start in range(0, len(matrix), step))


def finite_range(matrix: np.ndarray) -> tuple[float, float]:
    """Least and greatest of the finite values; infinity and minus infinity if there are none."""
    low, high = np.inf, -np.inf
    for rows in blocks_of_notes(matrix):
        block = matrix[rows]
        ends = float(block.min()), float(block.max())
        if not np.isfinite(ends).all():
            told = np.isfinite(block)
            ends = float(block.min(where=told, initial=np.inf)), float(block.max(where=told, initial=-np.inf))
        low, high = min(low, ends[0]), max(high, ends[1])
    return low, high


def groups_of_codes(matrix: np.ndarray) -> Iterator[slice]:
    """Columns of [documents, codes], group by group."""
    step = max(1, GROUP_CELLS // len(matrix))
    return (slice(start, start + step) for start in range(0, matrix.shape[1], step))


def code_by_code(matrix: np.ndarray, columns: slice) -> np.ndarray:
    """A copy [codes, documents] of these columns, each code's notes side by side."""
    chosen = matrix[:, columns].T
    copy = np.empty(chosen.shape, matrix.dtype)

    def fill(start: int) -> None:
        for tile in range(start, min(start + TILE_NOTES * TILES, len(matrix)), TILE_NOTES):
            copy[:, tile : tile + TILE_NOTES] = chosen[:, tile : tile + TILE_NOTES]

    in_parallel(fill, range(0, len(matrix), TILE_NOTES * TILES))
    return copy


def in_parallel(function: Callable[[S], T], parts: Iterable[S]) -> list[T]:
    """The function of every part, in order; NumPy leaves the other processors to other threads."""
    parts = list(parts)
    threads = min(len(parts), MOST_THREADS, os.cpu_count() or 1)
    if threads < 2:
        return [function(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, parts))
