"""Opening an untrusted file: a regular one, of a size that is known before a byte of it is read."""

import os
import stat
from pathlib import Path

from shifamind_core.errors import ShifamindError


def open_regular(path: Path, largest_bytes: int | None = None, name: str | None = None) -> int:
    """A descriptor of the file, for reading. It is checked after it was opened, so that nothing can change in between.

    A FIFO, a device or a socket is refused without waiting for it.

    Parameters
    ----------
    largest_bytes : int, optional
        A larger file is refused.
    name : str, optional
        The file's name for people; by default its path.

    Raises
    ------
    ShifamindError
        No such file, an empty one, none that holds bytes, or one that is too large; one line.
    """
    name = name or str(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is no file name"
        raise ShifamindError(f"{name} cannot be read: {reason}.") from error
    try:
        state = os.fstat(handle)
        if stat.S_ISDIR(state.st_mode):
            raise ShifamindError(f"{name} cannot be read: it is a folder, no file.")
        if not stat.S_ISREG(state.st_mode):
            raise ShifamindError(f"{name} cannot be read: it is a pipe, a device or a socket, no file.")
        if not state.st_size:
            raise ShifamindError(f"{name} is empty (0 bytes). Export or copy it again.")
        if largest_bytes is not None and state.st_size > largest_bytes:
            raise ShifamindError(
                f"{name} has {state.st_size:,} bytes; at most {largest_bytes:,} are read of such a file."
            )
    except ShifamindError:
        os.close(handle)
        raise
    return handle


def read_regular(path: Path, largest_bytes: int, name: str | None = None) -> bytes:
    """The content of a regular file of at most `largest_bytes`.

    Raises
    ------
    ShifamindError
        As `open_regular`.
    """
    with os.fdopen(open_regular(path, largest_bytes, name), "rb") as file:
        return file.read(largest_bytes)


def stays_within(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, lies in the folder; one that leads nowhere does not."""
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError, ValueError):
        return False
