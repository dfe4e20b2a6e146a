"""A file whose bytes are mapped instead of read, and the check that they are still there."""

import mmap

import numpy as np

from shifamind_core.errors import ShifamindError


class MappedFile(mmap.mmap):
    """The whole of an open file, read-only. What another process cuts off its end can be read no more: who tries is ended (SIGBUS)."""

    name: str

    @classmethod
    def of(cls, handle: int, name: str) -> "MappedFile":
        """The open file of that descriptor; `name` is for people."""
        mapped = cls(handle, 0, access=mmap.ACCESS_READ)
        mapped.name = name
        return mapped


def refuse_if_cut(*matrices: np.ndarray) -> None:
    """Refuse to read on where one of these lies in a mapped file that has become shorter since it was mapped.

    One question to the kernel each, so that it can be asked before every block: a file may be cut short in between too, but hardly is.

    Raises
    ------
    ShifamindError
        The file, and what to do.
    """
    for matrix in matrices:
        file = _file_of(matrix)
        if file is not None and file.size() < len(file):
            raise ShifamindError(
                f"{file.name} was cut short while it was in use: {file.size():,} of {len(file):,} bytes are left. Copy it again under "
                "another name and put it in place by renaming it."
            )


def _file_of(matrix: np.ndarray) -> MappedFile | None:
    base = matrix
    while isinstance(base, np.ndarray):
        base = base.base
    file = base.obj if isinstance(base, memoryview) else None
    return file if isinstance(file, MappedFile) else None
