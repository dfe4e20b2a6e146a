"""Foreign files in, checked runs out: every format that an upload or a command-line argument may have."""

import os
from pathlib import Path

from shifamind_core.artifacts.limited import Limits, read_limited
from shifamind_core.artifacts.regular_file import open_regular
from shifamind_core.errors import ShifamindError
from shifamind_core.records import from_json
from shifamind_core.runs.assemble import assemble, display_name
from shifamind_core.runs.foreign import EXTENSIONS, extension_of, read_foreign
from shifamind_core.runs.limits import LARGEST_ARRAYS
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import is_run_file, map_run_file

__all__ = ["EXTENSIONS", "read_upload"]

READER = "shifamind_core.runs.foreign:convert"
LARGEST_RUN_FILE = 64 << 30
AT_HAND = 32 << 20  # a run file of this size is read right here: it is a header and numbers as they stand


def read_upload(name: str, data: bytes | Path) -> Run:
    """The run in a file of any format (`foreign.read_foreign`), read by a limited child; a small run file needs none.

    Parameters
    ----------
    name : str
        The file's name, for its extension and for people.
    data : bytes or Path
        Its content, or where it lies.

    Raises
    ------
    ShifamindError
        What is wrong with the file and what to do, in one line.
    """
    name = display_name(name)
    extension = extension_of(name)
    largest = LARGEST_RUN_FILE if extension == ".safetensors" else LARGEST_ARRAYS
    if isinstance(data, bytes):
        return _read(name, extension, data, len(data), Limits(largest_bytes=largest))
    handle = open_regular(data, largest, name)
    try:
        return _read(name, extension, handle, os.fstat(handle).st_size, Limits())
    finally:
        os.close(handle)


def read_run(path: Path) -> Run:
    """As `read_upload`, for a command on the command line: a run file that is large is mapped, not read.

    Raises
    ------
    ShifamindError
        As `read_upload`.
    """
    handle = open_regular(path, LARGEST_RUN_FILE, display_name(path.name))
    size = os.fstat(handle).st_size
    os.close(handle)
    if path.suffix.lower() == ".safetensors" and size > AT_HAND and is_run_file(path):
        return map_run_file(path)
    return read_upload(path.name, path)


def _read(name: str, extension: str, source: bytes | int, size: int, limits: Limits) -> Run:
    if extension == ".safetensors" and 0 < size <= AT_HAND:
        return read_foreign(name, source if isinstance(source, bytes) else _content(source, size))
    answer = read_limited(READER, source, name, {"name": name}, limits)
    try:
        codes, manifest = answer.value["codes"], from_json(Manifest, answer.value["manifest"])
        return assemble(name, answer.arrays, codes, manifest)
    except (TypeError, KeyError) as error:
        raise ShifamindError(
            f"{name} cannot be read: the process that reads it gave an answer of another form."
        ) from error


def _content(handle: int, size: int) -> bytes:
    with os.fdopen(os.dup(handle), "rb") as file:
        return file.read(size)
