"""The process that reads untrusted files: `python -I _limited.py SOCKET SYS_PATH`, started once by `limited.py`.

It imports each reader once and forks a child for each file, so that a file costs milliseconds and no start of an
interpreter. A child may use so much memory and so many CPU seconds, may open no further file and no socket
(`RLIMIT_NOFILE` is 0 once its reader is imported; its two pipes are open already), writes to no file, and ends with
the file. Where the system allows it, the process has left the network besides.

This bounds what a file can cost. It is no jail for foreign machine code: a file that takes over its parser can do to
other processes of this user what signals can do. Nothing that it says is trusted by the parent.

Messages of libraries never leave it, since they may quote what is read: of an unforeseen error only the type does.
"""

import codecs
import ctypes
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

STATUS = struct.Struct(
    "<iq"
)  # how a child ended, as `wait` tells it, and the most memory that it held, in bytes
LAST_WORDS_BYTES = 64 << 20  # above the limit, to say that it was met
NO_MEMORY = ("MemoryError", "ArrowMemoryError", "_ArrayMemoryError")
ENCODINGS = ("ascii", "latin-1", "utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-32-le", "utf-32-be", "cp437")
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


class Refused(Exception):
    """One line about the file, by a reader that knows what it says; no other exception's text is passed on."""


def printable(name: str, longest: int = 60) -> str:
    """A foreign name for a message: on one line, and short; of a sentence its length alone."""
    if is_sentence(name):
        return f"a text of {len(name):,} characters"
    return "".join(c if c.isprintable() else "?" for c in name)[:longest]


def is_sentence(name: str) -> bool:
    """Whether a name is none, but may be the text of a note: where a table has no header, its first note stands there."""
    return len(name) > 24 and len(name.split()) > 3


def main() -> None:
    """Serve requests until the parent is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    sys.path[:] = json.loads(sys.argv[2])
    importlib.import_module("numpy")
    for encoding in ENCODINGS:
        codecs.lookup(encoding)  # Python imports the module of an encoding when it first meets it
    _leave_network()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children: dict[
        int, tuple[int, int]
    ] = {}  # by process id: the request's number, and where its end is told
    while True:
        ready, _, _ = select.select([control, awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
            _bury(children)
        if control not in ready:
            continue
        try:
            message, handles = _receive(control)
        except EOFError:
            break
        if "import" in message:
            with suppress(Exception):  # told by the first child that needs it
                importlib.import_module(message["import"])
        elif "end" in message:
            for child, (number, _) in children.items():
                if number == message["end"]:
                    os.kill(child, signal.SIGKILL)  # not waited for yet, so the id is still its own
        else:
            _start(message, handles, children, (control.fileno(), awake, wake))
        control.sendall(b".")
    for child in children:
        os.kill(child, signal.SIGKILL)


def _receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request: its length in 8 bytes, with them its descriptors, then JSON."""
    head, handles, _, _ = socket.recv_fds(control, 8, 3)
    content = b""
    size = int.from_bytes(head, "little") if len(head) == 8 else 0
    while len(content) < size:
        piece = control.recv(size - len(content))
        if not piece:
            raise EOFError
        content += piece
    if not content:
        raise EOFError
    return json.loads(content), list(handles)


def _start(
    request: dict[str, Any],
    handles: list[int],
    children: dict[int, tuple[int, int]],
    own: tuple[int, ...],
) -> None:
    source, answer, status = handles
    function, problem = None, None
    try:
        function = getattr(importlib.import_module(request["module"]), request["function"])
    except Exception as error:  # noqa: BLE001 - told by the child, as any other error
        problem = error
    child = os.fork()
    if child == 0:
        for handle in (*own, status, *(place for _, place in children.values())):
            os.close(handle)
        signal.set_wakeup_fd(-1)
        for one in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_DFL)
        _serve(function, problem, request, source, answer)
    os.close(source)
    os.close(answer)
    children[child] = request["number"], status


def _bury(children: dict[int, tuple[int, int]]) -> None:
    for child in list(children):
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            _, place = children.pop(child)
            unit = 1 if sys.platform == "darwin" else 1024
            with suppress(BrokenPipeError):  # the parent may no longer want to know
                os.write(place, STATUS.pack(status, usage.ru_maxrss * unit))
            os.close(place)


def _serve(
    function: Callable[..., Any] | None,
    problem: Exception | None,
    request: dict[str, Any],
    source: int,
    answer: int,
) -> NoReturn:
    """The child's whole life: limits, the reader, its answer."""
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.enable_signal_handlers(False)  # they need a pipe
        arrow.set_cpu_count(1)  # a thread takes address space, and a forked one starts them anew
    memory = _limit(request["memory_bytes"], request["cpu_seconds"])
    with os.fdopen(answer, "wb") as pipe:
        try:
            if problem is not None or function is None:
                raise problem or AttributeError
            with os.fdopen(source, "rb") as file:
                value, arrays, texts = function(file, **request["arguments"])
            _write(pipe, value, arrays, texts)
        except BrokenPipeError:
            pass
        except BaseException as error:  # noqa: BLE001 - a panic of a native library is no Exception
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            error.__traceback__ = None
            kind = "MemoryError" if type(error).__name__ in NO_MEMORY else type(error).__name__
            told = type(error).__name__ in ("Refused", "ShifamindError")
            line = {"error": kind, "message": str(error) if told else ""}
            with suppress(BrokenPipeError):
                _write_header(pipe, line)
                pipe.flush()
        os._exit(0)  # no destructor of what the file built runs any more


def _write(pipe: Any, value: Any, arrays: dict[str, Any], texts: list[str]) -> None:
    import numpy  # imported long ago: a child can open no file

    plain = {name: numpy.ascontiguousarray(array) for name, array in arrays.items()}
    shapes = {name: [array.dtype.str, list(array.shape)] for name, array in plain.items()}
    header = {"value": value, "arrays": shapes, "text_bytes": [len(text.encode()) for text in texts]}
    _write_header(pipe, header)
    for array in plain.values():
        pipe.write(array.reshape(-1).view(numpy.uint8).data)
    for text in texts:
        pipe.write(text.encode())
    pipe.flush()


def _write_header(pipe: Any, header: dict[str, Any]) -> None:
    content = json.dumps(header).encode()
    pipe.write(len(content).to_bytes(8, "little") + content)


def _limit(memory_bytes: int, cpu_seconds: int) -> int:
    """Limit this process to what it holds now plus `memory_bytes`; returns the limit for its last words.

    Only Linux holds a process to an address space; elsewhere the CPU seconds and the parent's clock remain.
    """
    most = resource.RLIM_INFINITY
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
            used = int(statm.read().split()[0]) * resource.getpagesize()
        most = used + memory_bytes + LAST_WORDS_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, most))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    return most


def _leave_network() -> None:
    """An empty network of its own, where the system lets this user have one; it need not."""
    if sys.platform == "linux":
        unshare = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
        if unshare is not None:
            # Root needs no user namespace, and would lose in it what lets it read others' packages.
            unshare(CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWUSER | CLONE_NEWNET)


if __name__ == "__main__":
    main()
