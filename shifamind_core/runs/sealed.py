"""Arrays kept on disk under a key, with a checksum over every byte: what comes back is what was stored, or nothing.

One safetensors file, readable by its owner only. Its metadata holds the key and a SHA-256 over the whole file, taken
while the digits of the SHA-256 itself were zeros.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.atomic import write_atomically
from shifamind_core.runs.run_file import DTYPES

_UNSET = b"0" * 64
_BEFORE_CHECKSUM = b'"checksum":"'


class Damaged(ShifamindError):
    """A kept file that does not hold what was stored in it."""


def write_sealed(path: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays to `path`, whole or not at all.

    Raises
    ------
    ShifamindError
        The folder cannot be made, is not writable, or is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ShifamindError(f"{path.parent} cannot be made: {error.strerror}.") from error
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = bytearray(safetensors.numpy.save(plain, {"key": key, "checksum": _UNSET.decode()}))
    place = content.index(_BEFORE_CHECKSUM) + len(_BEFORE_CHECKSUM)
    content[place : place + 64] = hashlib.sha256(content).hexdigest().encode()
    write_atomically(path, content)


def read_sealed(path: Path, key: str) -> dict[str, np.ndarray] | None:
    """The arrays that were stored in `path` under `key`, read-only; `None` where no such file is.

    Raises
    ------
    Damaged
        Any bit of the file is not as it was written, or it was written under another key.
    """
    try:
        content = path.read_bytes()
        with suppress(OSError):  # of a read-only disk
            os.utime(path)  # what is used stays longest when room is made
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}.") from error
    start = 8 + int.from_bytes(content[:8], "little")
    place = content.find(_BEFORE_CHECKSUM, 8, start) + len(_BEFORE_CHECKSUM)
    if _checksum(content, place) != content[place : place + 64]:
        raise Damaged(f"{path} is damaged: its checksum does not fit its content.")
    # From here on the file is as `write_sealed` wrote it.
    header = json.loads(content[8:start])
    if header.pop("__metadata__")["key"] != key:
        raise Damaged(f"{path} was stored under another key.")
    return {name: _array(content, start, entry) for name, entry in header.items()}


def _checksum(content: bytes, place: int) -> bytes:
    view = memoryview(content)
    digest = hashlib.sha256(view[:place])
    digest.update(_UNSET)
    digest.update(view[place + 64 :])
    return digest.hexdigest().encode()


def _array(content: bytes, start: int, entry: dict[str, Any]) -> np.ndarray:
    """A view of the file's bytes: token ids of a large split are not copied."""
    begin, end = entry["data_offsets"]
    dtype = np.dtype(DTYPES[entry["dtype"]])
    flat = np.frombuffer(content, dtype, (end - begin) // dtype.itemsize, start + begin)
    return flat.reshape(entry["shape"])


def take_sealed(path: Path, key: str) -> tuple[dict[str, np.ndarray] | None, tuple[str, ...]]:
    """`read_sealed` for what can be computed again: a damaged file is thrown away, and the remark names it."""
    try:
        return read_sealed(path, key), ()
    except Damaged as damage:
        with suppress(OSError):  # what cannot be removed cannot be written over either, and that is said then
            path.unlink()
        return None, (f"{damage} It was thrown away and is computed again.",)
