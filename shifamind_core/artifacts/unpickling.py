"""A pickled split, opened by a subprocess that may use few names, little memory and some time (`_unpickle.py`)."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import psutil

from shifamind_core.artifacts import _unpickle
from shifamind_core.artifacts.split_table import SplitColumns
from shifamind_core.errors import ShifamindError

MEBIBYTE = 1 << 20
HEADER_CAP_BYTES = 64 * MEBIBYTE
LIBRARIES_BYTES = 512 * MEBIBYTE
WATCH_SECONDS = 0.05


def unpickle_split(path: Path, known_codes: Sequence[str], memory_bytes: int, seconds: float) -> SplitColumns:
    """The plain columns of a pickled table.

    Raises
    ------
    ShifamindError
        The file is refused, cut off, no table of notes, or exceeds a limit; one line.
    """
    return _Conversion(path, known_codes, memory_bytes, seconds).run()


def one_line(text: str, length: int = 300) -> str:
    """Foreign text without line breaks, shortened."""
    return " ".join(text.split())[:length]


class _Conversion:
    """One run of `_unpickle.py`. Nothing that comes back is trusted: sizes, values and text are checked again."""

    def __init__(self, path: Path, known_codes: Sequence[str], memory_bytes: int, seconds: float) -> None:
        self.path = path
        self.known_codes = tuple(known_codes)
        self.memory_bytes = memory_bytes
        self.seconds = seconds
        self.stopped: str | None = None

    def run(self) -> SplitColumns:
        command = [sys.executable, "-I", str(Path(_unpickle.__file__).resolve())]
        request = {
            "path": str(self.path.resolve()),
            "source": self.path.name,
            "known_codes": self.known_codes,
            "memory_bytes": self.memory_bytes,
            "sys_path": [str(Path(place).resolve()) for place in sys.path],
        }
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        ) as process:
            assert process.stdin and process.stdout
            finished = threading.Event()
            watchdog = threading.Thread(target=self._watch, args=(process, finished), daemon=True)
            watchdog.start()
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.close()
                return self._receive(process.stdout)
            except BrokenPipeError as error:
                raise self._error("the subprocess that opens it ended at once") from error
            finally:
                finished.set()
                watchdog.join()
                process.kill()

    def _watch(self, process: subprocess.Popen[bytes], finished: threading.Event) -> None:
        """End the subprocess at its time limit, or (where the system sets none for it) at its memory limit."""
        deadline = time.monotonic() + self.seconds
        while not finished.wait(WATCH_SECONDS):
            if time.monotonic() > deadline:
                self.stopped = "time"
            elif _resident_bytes(process.pid) > self.memory_bytes + LIBRARIES_BYTES:
                self.stopped = "memory"
            if self.stopped:
                process.kill()
                return

    def _receive(self, pipe: IO[bytes]) -> SplitColumns:
        header = self._header(pipe)
        lengths, width, names = header.get("text_bytes"), header.get("label_width"), header.get("code_names")
        if not (
            isinstance(lengths, list)
            and all(type(length) is int and length >= 0 for length in lengths)
            and sum(lengths) <= self.memory_bytes
            and (width is None or (type(width) is int and 0 < width <= 100_000))
            and isinstance(names, list)
            and all(type(name) is str for name in names)
            and len(set(names)) == len(names)
        ):
            raise self._error("its subprocess gave an answer of another form")
        texts = [self._text(pipe, length) for length in lengths]
        labels = None if width is None else self._matrix(pipe, len(texts), width)
        values = self._matrix(pipe, len(texts), len(names))
        return SplitColumns(texts, labels, tuple(names), values)

    def _header(self, pipe: IO[bytes]) -> dict[str, Any]:
        line = pipe.readline(HEADER_CAP_BYTES)
        if not line.endswith(b"\n"):
            raise self._error("the subprocess that opens it died, most likely at its memory limit")
        try:
            header = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._error("its subprocess gave an answer of another form") from error
        if not isinstance(header, dict):
            raise self._error("its subprocess gave an answer of another form")
        if "error" in header:
            raise self._explain(str(header["error"]), one_line(str(header.get("message", ""))))
        return header

    def _text(self, pipe: IO[bytes], length: int) -> str:
        try:
            return self._exactly(pipe, length).decode()
        except UnicodeDecodeError as error:
            raise self._error("its subprocess gave an answer of another form") from error

    def _exactly(self, pipe: IO[bytes], length: int) -> bytes:
        content = pipe.read(length)
        if len(content) != length:
            raise self._error("the subprocess that opens it died halfway")
        return content

    def _matrix(self, pipe: IO[bytes], rows: int, columns: int) -> np.ndarray:
        if rows * columns > self.memory_bytes:
            raise self._error("its subprocess gave an answer of another form")
        return np.frombuffer(self._exactly(pipe, rows * columns), dtype=np.uint8).reshape(rows, columns)

    def _explain(self, kind: str, message: str) -> ShifamindError:
        """One line for each way in which a pickle fails."""
        name = self.path.name
        if kind == "ShifamindError":
            return ShifamindError(message)
        if kind == "Refused":
            return ShifamindError(
                f"{name} was refused: {message} Do not open it by other means; write it again from its source."
            )
        if kind in ("MemoryError", "ArrowMemoryError", "_ArrayMemoryError"):
            return self._too_large()
        if kind in ("EOFError", "UnpicklingError"):
            return ShifamindError(f"{name} is no pickle, or was cut off; copy it again.")
        return ShifamindError(
            f"{name} cannot be rebuilt under pandas {pd.__version__} ({kind}). If another version of pandas wrote it "
            "(2.2 cannot read what 3.x writes), save it there with DataFrame.to_parquet."
        )

    def _error(self, what: str) -> ShifamindError:
        if self.stopped == "memory":
            return self._too_large()
        if self.stopped == "time":
            return ShifamindError(
                f"{self.path.name} was given up: it took longer than the {self.seconds:g} s allowed for a file of its size."
            )
        return ShifamindError(f"{self.path.name} cannot be read: {what}.")

    def _too_large(self) -> ShifamindError:
        allowed = f"{self.memory_bytes // MEBIBYTE:,} MiB allowed for a file of its size"
        return ShifamindError(f"{self.path.name} was refused: it needs more than the {allowed}.")


def _resident_bytes(pid: int) -> int:
    try:
        return psutil.Process(pid).memory_info().rss
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended
        return 0


def _environment() -> dict[str, str]:
    """What a Python needs to start, and one thread: every thread takes address space."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT") if key in os.environ}
    return kept | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "LC_ALL": "C.UTF-8",
    }
