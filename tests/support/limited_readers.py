"""Readers for `read_limited` that do what no reader should, each in a child of its own."""

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shifamind_core.artifacts._limited import Refused
from shifamind_core.errors import ShifamindError

Parts = tuple[Any, dict[str, np.ndarray], list[str]]


def whole(file: BinaryIO, **arguments: Any) -> Parts:
    content = file.read()
    return arguments, {"bytes": np.frombuffer(content, np.uint8), "half": np.float16([[1.5], [2]])}, ["é", ""]


def hang(file: BinaryIO) -> Parts:
    while True:
        pass


def sleep(file: BinaryIO) -> Parts:
    while True:
        signal.pause()


def take_memory(file: BinaryIO, mebibytes: int) -> Parts:
    return len(b"x" * (mebibytes << 20)), {}, []


def write_a_file(file: BinaryIO, path: str) -> Parts:
    Path(path).write_text("x")
    return None, {}, []


def open_a_socket(file: BinaryIO) -> Parts:
    socket.socket()
    return None, {}, []


def refuse(file: BinaryIO) -> Parts:
    raise Refused("it is not wanted.")


def say(file: BinaryIO) -> Parts:
    raise ShifamindError("a.x is wrong in row 3.")


def fail(file: BinaryIO) -> Parts:
    raise ValueError(file.read().decode())


def panic(file: BinaryIO) -> Parts:
    class PanicException(BaseException):
        """As native libraries raise it."""

    raise PanicException(file.read().decode())


def end_by(file: BinaryIO, number: int) -> Parts:
    os.kill(os.getpid(), number)
    return None, {}, []


def text(file: BinaryIO) -> Parts:
    return None, {}, ["x" * 100]


def answer(file: BinaryIO) -> Parts:
    """The file's content as the answer, whatever it is, to where answers go."""
    content = file.read()
    for handle in range(3, 12):
        try:
            if str(Path(f"/proc/self/fd/{handle}").readlink()).startswith("pipe:"):
                os.write(handle, content)
        except OSError:
            continue
    sys.stdout.flush()
    os._exit(0)


def objects(file: BinaryIO) -> Parts:
    return None, {"records": np.zeros(3, [("a", "f4"), ("b", "i4")])}, []
