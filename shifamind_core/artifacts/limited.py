"""Untrusted files, read by a child process that may use little memory, some time, and nothing else.

The child (`_limited.py`) hands back plain values, arrays of numbers and texts, through a pipe; never a pickle. What it
says is checked here as a foreign file is: sizes, dtypes, text.
"""

import json
import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shifamind_core.artifacts import _limited
from shifamind_core.artifacts.limited_server import SERVER, in_memory
from shifamind_core.artifacts.regular_file import open_regular
from shifamind_core.errors import ShifamindError

MEBIBYTE = 1 << 20
MEMORY_BYTES = 896 * MEBIBYTE  # beyond the file's own size
CPU_SECONDS = 10  # and one more for every 4 MiB
HEADER_BYTES = 64 * MEBIBYTE
DTYPES = frozenset(
    [
        "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
        "float16", "float32", "float64",
    ]
)  # fmt: skip
AT_ONCE = 2  # children of one process: each may take `MEMORY_BYTES`

Waiting = Callable[[str, int, int], None]  # what is read, the seconds passed, those allowed


@dataclass(frozen=True)
class Limits:
    """What reading one file may take; by default as much as follows from its size.

    Attributes
    ----------
    memory_bytes : int, optional
        Address space of the child beyond what it starts with.
    cpu_seconds : int, optional
        Of the child; the clock on the wall may show three times as many.
    largest_bytes : int, optional
        Of the file.
    """

    memory_bytes: int | None = None
    cpu_seconds: int | None = None
    largest_bytes: int | None = None


BY_SIZE = Limits()


@dataclass(frozen=True)
class Answer:
    """What a reader made of a file: JSON values, arrays by name, texts."""

    value: Any
    arrays: dict[str, np.ndarray]
    texts: list[str]


_told: list[Waiting] = []


@contextmanager
def while_reading(tell: Waiting) -> Iterator[None]:
    """Inside, `tell` is called about once a second while this process waits for a file; what it raises ends the reading."""
    before = _told[:]
    _told[:] = [tell]
    try:
        yield
    finally:
        _told[:] = before


def read_limited(
    reader: str,
    source: Path | bytes | int,
    name: str,
    arguments: Mapping[str, Any],
    limits: Limits = BY_SIZE,
) -> Answer:
    """What `reader` makes of an untrusted file, in a limited child.

    Parameters
    ----------
    reader : str
        `module:function`. It is called with the open file and `arguments`, and gives a JSON value, arrays by name and
        texts. What it refuses it says as a `ShifamindError`.
    source : Path, bytes or int
        Where the file lies, its content, or the descriptor of one that `open_regular` opened.
    name : str
        Its name, for messages.

    Raises
    ------
    ShifamindError
        No regular file, a file that its reader refuses, or one that meets a limit; one line, nothing of its content.
    """
    if isinstance(source, bytes):
        _require_size(name, len(source), limits)
        handle = in_memory(source)
    elif isinstance(source, int):
        handle = os.dup(source)
    else:
        handle = open_regular(source, limits.largest_bytes, name)
    try:
        size = os.fstat(handle).st_size
        with _at_once:
            return _Reading(name, size, limits).run(reader, handle, arguments)
    finally:
        os.close(handle)


def _require_size(name: str, size: int, limits: Limits) -> None:
    if not size:
        raise ShifamindError(f"{name} is empty (0 bytes). Export or copy it again.")
    if limits.largest_bytes is not None and size > limits.largest_bytes:
        raise ShifamindError(
            f"{name} has {size:,} bytes; at most {limits.largest_bytes:,} are read of such a file."
        )


_at_once = threading.BoundedSemaphore(AT_ONCE)


class _Reading:
    """One file read by one child; afterwards `peak_bytes` is the most memory that the child held."""

    def __init__(self, name: str, size: int, limits: Limits) -> None:
        self.name = name
        self.memory_bytes = limits.memory_bytes or MEMORY_BYTES + size
        self.cpu_seconds = limits.cpu_seconds or CPU_SECONDS + size // (4 * MEBIBYTE)
        self.began = time.monotonic()
        self.peak_bytes = 0
        self._ending: tuple[int, int] | None = None

    def run(self, reader: str, handle: int, arguments: Mapping[str, Any]) -> Answer:
        module, _, function = reader.partition(":")
        request = {
            "module": module,
            "function": function,
            "arguments": dict(arguments),
            "memory_bytes": self.memory_bytes,
            "cpu_seconds": self.cpu_seconds,
        }
        answer, answer_end = os.pipe()
        status, status_end = os.pipe()
        number = None
        try:
            try:
                number = SERVER.start(request, [handle, answer_end, status_end])
            finally:
                os.close(answer_end)
                os.close(status_end)
            header = self._header(answer, status)
            return Answer(
                header["value"],
                self._arrays(answer, header["arrays"]),
                self._texts(answer, header["text_bytes"]),
            )
        finally:
            try:
                if number is not None:
                    SERVER.end(number)
                    self.peak_bytes = self._end(status)[1]  # it is gone by then
            finally:
                os.close(answer)
                os.close(status)

    def _header(self, answer: int, status: int) -> dict[str, Any]:
        head = self._content(answer, 8)
        size = int.from_bytes(head, "little")
        line = self._content(answer, min(size, HEADER_BYTES))
        if len(head) < 8 or len(line) < size <= HEADER_BYTES:
            raise self._died(self._end(status)[0])
        try:
            header = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._distrusted() from error
        if isinstance(header, dict) and "error" in header:
            raise self._explained(str(header["error"]), " ".join(str(header.get("message", "")).split()))
        if not isinstance(header, dict) or set(header) != {"value", "arrays", "text_bytes"}:
            raise self._distrusted()
        return header

    def _content(self, answer: int, size: int) -> bytes:
        """So many bytes, fewer where the child has ended before."""
        content = bytearray(size)
        return bytes(content[: self._fill(answer, memoryview(content))])

    def _arrays(self, answer: int, described: Any) -> dict[str, np.ndarray]:
        if not isinstance(described, dict):
            raise self._distrusted()
        arrays, total = {}, 0
        for part, entry in described.items():
            dtype, shape = _array_type(entry)
            if dtype is None:
                raise self._distrusted()
            total += math.prod(shape) * dtype.itemsize
            if total > self.memory_bytes:
                raise self._distrusted()
            flat = np.empty(math.prod(shape), dtype)
            self._whole(answer, flat.view(np.uint8).data)
            arrays[part] = flat.reshape(shape)
        return arrays

    def _texts(self, answer: int, lengths: Any) -> list[str]:
        if (
            not isinstance(lengths, list)
            or not all(type(length) is int and length >= 0 for length in lengths)
            or sum(lengths) > self.memory_bytes
        ):
            raise self._distrusted()
        try:
            texts = []
            for length in lengths:
                content = bytearray(length)
                self._whole(answer, memoryview(content))
                texts.append(content.decode())
            return texts
        except UnicodeDecodeError as error:
            raise self._distrusted() from error

    def _whole(self, answer: int, view: memoryview) -> None:
        if self._fill(answer, view) != len(view):
            raise ShifamindError(f"{self.name} cannot be read: the process that reads it died halfway.")

    def _fill(self, answer: int, view: memoryview) -> int:
        """Fill the view from the pipe; returns how much of it, less than all where the other end is closed."""
        filled = 0
        while filled < len(view):
            self._wait(answer)
            count = os.readv(answer, [view[filled : filled + MEBIBYTE]])
            if not count:
                break
            filled += count
        return filled

    def _wait(self, handle: int) -> None:
        """Until there is something to read, the other end is closed, or the time is over."""
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while not poll.poll(1000):
            seconds = time.monotonic() - self.began
            for tell in _told:
                tell(f"Reading {self.name}", int(seconds), 3 * self.cpu_seconds)
            if seconds > 3 * self.cpu_seconds:
                raise self._too_long()

    def _end(self, status: int) -> tuple[int, int]:
        """How the child ended, and the most memory that it held; zeros where that cannot be known."""
        if self._ending is None:
            self._wait(status)
            content = os.read(status, _limited.STATUS.size)
            whole = len(content) == _limited.STATUS.size
            self._ending = _limited.STATUS.unpack(content) if whole else (0, 0)
        return self._ending

    def _died(self, status: int) -> ShifamindError:
        ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        if ended_by in (signal.SIGXCPU, signal.SIGKILL):
            return self._too_long()
        return self._too_large() if ended_by == signal.SIGABRT else self._damaged("its reader died")

    def _explained(self, kind: str, message: str) -> ShifamindError:
        if kind == "ShifamindError":
            return ShifamindError(message[:700])
        if kind == "Refused":
            return ShifamindError(f"{self.name} was refused: {message[:500]}")
        if kind == "MemoryError":
            return self._too_large()
        return self._damaged("".join(c for c in kind if c.isalnum())[:40])

    def _damaged(self, how: str) -> ShifamindError:
        return ShifamindError(
            f"{self.name} is damaged in a way that its reader did not expect ({how}). Copy it again."
        )

    def _distrusted(self) -> ShifamindError:
        return ShifamindError(
            f"{self.name} cannot be read: the process that reads it gave an answer of another form."
        )

    def _too_long(self) -> ShifamindError:
        return ShifamindError(
            f"{self.name} was given up: it takes longer than the {self.cpu_seconds:,} s allowed for a file of its size."
        )

    def _too_large(self) -> ShifamindError:
        return ShifamindError(
            f"{self.name} was refused: it needs more than the {self.memory_bytes // MEBIBYTE:,} MiB allowed for a file of its size."
        )


def _array_type(entry: Any) -> tuple[np.dtype | None, list[int]]:
    """Dtype and shape as the child describes them; no dtype for what no reader gives."""
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
        return None, []
    name, shape = entry
    plain = isinstance(shape, list) and all(type(axis) is int and axis >= 0 for axis in shape)
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError):
        return None, []
    return (dtype, shape) if plain and dtype.name in DTYPES and len(shape) <= 8 else (None, [])
