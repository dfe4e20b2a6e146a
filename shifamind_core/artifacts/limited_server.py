"""The process that forks a child for each untrusted file (`_limited.py`), seen from the process that wants files read."""

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from shifamind_core.artifacts import _limited
from shifamind_core.errors import ShifamindError


def in_memory(content: bytes) -> int:
    """A file of these bytes that has no name: in memory, or (where the system has no such thing) nameless on the disk."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("upload", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile(prefix="shifamind-") as file:
            handle = os.dup(file.fileno())
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.lseek(handle, 0, os.SEEK_SET)
    except OSError as error:
        os.close(handle)
        raise ShifamindError(f"There is no memory for a file of {len(content):,} bytes.") from error
    return handle


class Server:
    """The process that forks the children: one for this process, started when first needed, and again if it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._number = 0

    def start(self, request: dict[str, Any], handles: list[int]) -> int:
        """Have a child read; returns the number under which it can be ended."""
        with self._lock:
            self._number += 1
            request = request | {"number": self._number}
            try:
                self._say(request, handles)
            except OSError:  # it has died, or belongs to the process that this one was forked from
                self._begin()
                self._say(request, handles)
            return self._number

    def prepare(self, module: str) -> None:
        """Have the process import a reader that will be asked for; what goes wrong is told to whoever asks for it."""
        with self._lock, suppress(OSError):
            if self._control is None:
                self._begin()
            self._say({"import": module}, [])

    def end(self, number: int) -> None:
        """End that child, if it still runs."""
        with self._lock, suppress(OSError):
            self._say({"end": number}, [])

    def close(self) -> None:
        """End the process and its children."""
        with self._lock:
            self._leave()

    def _say(self, message: dict[str, Any], handles: list[int]) -> None:
        if self._control is None or self._owner != os.getpid():
            raise BrokenPipeError
        content = json.dumps(message).encode()
        socket.send_fds(self._control, [len(content).to_bytes(8, "little")], handles)
        self._control.sendall(content)
        if self._control.recv(1) != b".":
            raise BrokenPipeError

    def _begin(self) -> None:
        self._leave()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        paths = [str(Path(place).resolve()) for place in sys.path]
        script = str(Path(_limited.__file__).resolve())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", script, str(theirs.fileno()), json.dumps(paths)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what a library prints may quote what it reads
                pass_fds=[theirs.fileno()],
                env=_environment(),
                start_new_session=True,
            )
        self._control, self._owner = ours, os.getpid()

    def _leave(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


SERVER = Server()
atexit.register(SERVER.close)


def _environment() -> dict[str, str]:
    """What a Python needs to start, and one thread: every thread takes address space."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"), "1")
    return kept | one | {"ARROW_DEFAULT_MEMORY_POOL": "system", "LC_ALL": "C.UTF-8"}
