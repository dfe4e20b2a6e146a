"""Files that are there whole or not at all."""

import fcntl
import os
import tempfile
from pathlib import Path

from shifamind_core.errors import ShifamindError

PART = ".part"


def write_atomically(path: Path, content: bytes | bytearray) -> None:
    """Write `content` to `path`, readable by its owner only; a reader sees the old file or the new one.

    Raises
    ------
    ShifamindError
        The folder is missing, is not writable, or is full.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise ShifamindError(
            f"{path} cannot be written: {error.strerror}. Choose a folder that exists, is writable and has room."
        ) from error


def replace_file(path: Path, content: bytes | bytearray) -> None:
    """`write_atomically` with the system's own error.

    The temporary file lies in the same folder, since a rename is atomic within one file system only.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:  # mkstemp gives mode 0600
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who sweeps up sees that somebody writes
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
