"""Parts of a matrix [documents, codes] that may be mapped from a file larger than the memory: blocks of notes, groups of codes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from shifamind_core.progress import counted
from shifamind_core.runs.mapped import refuse_if_cut
from shifamind_core.settings import processors

T = TypeVar("T")
S = TypeVar("S")

BLOCK_CELLS = (
    1 << 20
)  # looked at together: what is made of a block stays in the caches, and is small beside a run of any length
GROUP_CELLS = 1 << 23  # of some codes, each with all its notes: copied, since they lie apart in the file
TILE_NOTES = 256  # copied at once: rows and columns of a tile both stay in the caches (of 1024 the rows did not: twice the time)
TILES = 32  # by one thread
MOST_THREADS = 4


def blocks_of_notes(matrix: np.ndarray) -> Iterator[slice]:
    """Rows of [documents, codes], block by block: the matrix may be mapped from a file larger than the memory."""
    step = max(1, BLOCK_CELLS // matrix.shape[1])
    return (slice(start, start + step) for start in range(0, len(matrix), step))


def over_blocks(function: Callable[[slice], T], *matrices: np.ndarray) -> Iterator[T]:
    """The function of every block of notes, in their order; the matrices are those that it reads, of one shape.

    Raises
    ------
    ShifamindError
        One of them was mapped from a file that was cut short meanwhile.
    """

    def look(rows: slice) -> T:
        refuse_if_cut(*matrices)
        return function(rows)

    return in_order(look, blocks_of_notes(matrices[0]))


def finite_range(matrix: np.ndarray) -> tuple[float, float, int]:
    """Least and greatest of the finite values (infinity and minus infinity if there are none), and how many are not finite."""

    def look(rows: slice) -> tuple[float, float, int]:
        block = matrix[rows]
        ends = float(block.min()), float(block.max())
        if np.isfinite(ends).all():
            return *ends, 0
        told = np.isfinite(block)
        low, high = block.min(where=told, initial=np.inf), block.max(where=told, initial=-np.inf)
        return float(low), float(high), told.size - int(np.count_nonzero(told))

    lows, highs, others = zip((np.inf, -np.inf, 0), *over_blocks(look, matrix), strict=True)
    return min(lows), max(highs), sum(others)


def code_by_code(*matrices: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Copies [codes, documents] of these matrices, a group of codes at a time, each code's notes side by side.

    The next group is written over them: memory that is asked for anew costs several times what copying does.

    Raises
    ------
    ShifamindError
        One of them was mapped from a file that was cut short meanwhile.
    """
    documents, codes = matrices[0].shape
    step = min(codes, max(1, GROUP_CELLS // documents))
    room = [np.empty((step, documents), matrix.dtype) for matrix in matrices]
    for first in counted(range(0, codes, step), -(-codes // step)):
        group = [matrix[:, first : first + step].T for matrix in matrices]
        copies = tuple(copy[: codes - first] for copy in room)

        def fill(
            start: int, group: list[np.ndarray] = group, copies: tuple[np.ndarray, ...] = copies
        ) -> None:
            refuse_if_cut(*matrices)
            for tile in range(start, min(start + TILE_NOTES * TILES, documents), TILE_NOTES):
                for copy, chosen in zip(copies, group, strict=True):
                    copy[:, tile : tile + TILE_NOTES] = chosen[:, tile : tile + TILE_NOTES]

        deque(_in_order(fill, range(0, documents, TILE_NOTES * TILES)), maxlen=0)
        yield copies


def in_order(function: Callable[[S], T], parts: Iterable[S]) -> Iterator[T]:
    """The function of every part, in the order of the parts, whatever the order in which threads come to them.

    NumPy leaves the other processors to other threads. Of results that nobody has taken yet a few are held.
    """
    parts = list(parts)
    yield from counted(_in_order(function, parts), len(parts))


def _in_order(function: Callable[[S], T], parts: Sequence[S]) -> Iterator[T]:
    threads = min(len(parts), MOST_THREADS, processors())
    if threads < 2:
        yield from map(function, parts)
        return
    left = iter(parts)
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque(pool.submit(function, part) for part in islice(left, 2 * threads))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(function, part) for part in islice(left, 1))
