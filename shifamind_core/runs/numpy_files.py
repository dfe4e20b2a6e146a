"""Foreign `.npy` and `.npz` files, read header first: what they claim is checked before anything is allocated.

`numpy.load` would allocate what a header or a zip directory claims (a 2 MB archive can expand to 2 GB), so the
header is parsed here; the data is then a plain `numpy.frombuffer`. Pickled objects are never read.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.assemble import shown
from shifamind_core.runs.limits import require_size

MOST_MEMBERS = 1000
LONGEST_HEADER = 10_000  # as numpy.load

MAGIC = b"\x93NUMPY"
UNSOUND = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OSError, ValueError,
)  # fmt: skip
"""What zipfile raises on damaged archives."""

ENTRY_MAGIC = b"PK\x01\x02"  # begins every entry of a zip's directory


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of a `.npy` file claims; `offset` is where the data starts."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran_order: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of data claimed (a Python integer: absurd shapes do not overflow)."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(name: str, content: bytes, part: str = "scores") -> np.ndarray:
    """The array in the bytes of a `.npy` file; `part` is what it is to hold, for what a refusal advises.

    Raises
    ------
    ShifamindError
        No such file, objects or records in it, or less data than it claims.
    """
    header = array_header(name, content[: LONGEST_HEADER + 12], part)
    present = len(content) - header.offset
    if present != header.nbytes:
        raise ShifamindError(
            f"{name} claims an array of shape {header.shape} and {header.nbytes:,} bytes but holds {present:,}: "
            "it is cut off or damaged. Export or copy it again."
        )
    flat = np.frombuffer(content, header.dtype, offset=header.offset)
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def read_npz(
    name: str, content: bytes, wanted: Container[str], enough: Container[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The wanted arrays in the bytes of a `.npz` file, and the names of the others; all of them where none is `enough`.

    Raises
    ------
    ShifamindError
        No such file, a damaged one, or one that expands beyond all measure.
    """
    if content.count(ENTRY_MAGIC) > MOST_MEMBERS:
        raise ShifamindError(f"{name} holds more than {MOST_MEMBERS:,} arrays. Save only those of one run.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(name, archive, len(content))
            chosen = [part for part in members if part in wanted]
            if not any(part in enough for part in chosen):
                chosen += _plain_arrays(name, archive, members, chosen)
            arrays = {
                part: _member_array(f"{name}, array {shown(part)}", archive, members[part], part)
                for part in chosen
            }
    except UNSOUND as error:
        raise ShifamindError(f"{name} is no sound .npz file. Export or copy it again.") from error
    return arrays, [part for part in members if part not in arrays]


def array_header(name: str, head: bytes, part: str = "scores") -> ArrayHeader:
    """The header at the start of a `.npy` file.

    Read with patterns instead of NumPy's `literal_eval`: what they do not match is no plain array.

    Raises
    ------
    ShifamindError
        No header, or one of an array that a run cannot hold.
    """
    if not head.startswith(MAGIC):
        raise ShifamindError(f"{name} is no NumPy array. Save it with numpy.save or numpy.savez.")
    size = {1: 2, 2: 4, 3: 4}.get(head[6] if len(head) > 6 else 0)
    if size is None:
        raise ShifamindError(f"{name} is of an unknown version of NumPy's format, or cut off.")
    offset = 8 + size + int.from_bytes(head[8 : 8 + size], "little")
    if offset > len(head):
        raise ShifamindError(f"{name} is cut off within its header, or the header is damaged.")
    text = head[8 + size : offset].decode("latin1")
    dtype = _dtype(name, text, part)
    shape = re.search(r"'shape'\s*:\s*\(\s*((?:[0-9]{1,20}\s*,\s*){0,8}[0-9]{0,20})\s*\)", text)
    order = re.search(r"'fortran_order'\s*:\s*(True|False)", text)
    if shape is None or order is None:
        raise ShifamindError(f"{name} has a header without a plain shape. Save it again.")
    axes = tuple(int(axis) for axis in re.findall(r"[0-9]+", shape[1]))
    header = ArrayHeader(dtype, axes, order[1] == "True", offset)
    if header.nbytes == 0:
        raise ShifamindError(
            f"{name} holds an empty array, of shape {axes}. Upload one with notes and codes."
        )
    return header


def _dtype(name: str, text: str, part: str) -> np.dtype:
    described = re.search(r"'descr'\s*:\s*'([<>|=]?)([biufUS?])(\d{0,4})'", text)
    if described is None:
        of_text = part in ("codes", "document_ids")
        plain = "texts: array.astype(str)" if of_text else "numbers: array.astype('float32')"
        raise ShifamindError(
            f"{name} holds no plain {'texts' if of_text else 'numbers'} but Python objects or records, "
            f"or is damaged. Objects can run code and are never read; save {plain}."
        )
    try:
        return np.dtype("".join(described.groups()))
    except TypeError as error:
        raise ShifamindError(f"{name} has an unknown dtype {''.join(described.groups())!r}.") from error


def _members(name: str, archive: zipfile.ZipFile, packed: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by array name, after what its directory claims was found reasonable."""
    entries = archive.infolist()
    require_size(name, packed, sum(entry.file_size for entry in entries))
    names = [entry.filename.removesuffix(".npy") for entry in entries]
    if len(set(names)) != len(names):
        twice = next(part for part in names if names.count(part) > 1)
        raise ShifamindError(f"{name} holds two arrays named {shown(twice)}. Save it again.")
    return dict(zip(names, entries, strict=True))


def _plain_arrays(
    name: str, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], but: list[str]
) -> list[str]:
    """Members of names that nobody knows which are arrays of numbers all the same."""
    found = []
    for part in members:
        with suppress(ShifamindError):
            if part not in but and _member_array(name, archive, members[part], part).dtype.kind in "biuf":
                found.append(part)
    return found


def _member_array(name: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, part: str) -> np.ndarray:
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise ShifamindError(
            f"{name} is encrypted or packed by a method that NumPy does not use. Save it again."
        )
    with archive.open(entry) as member:
        # Bounded reads: a member may expand far beyond the size that its directory entry claims.
        content = member.read(min(entry.file_size, LONGEST_HEADER + 12))
        header = array_header(name, content, part)
        if header.offset + header.nbytes == entry.file_size:
            content += member.read(entry.file_size - len(content))
    return read_npy(name, content, part)
