"""A worker that waits: a process that has loaded torch and knows of no job, so that the next job starts at once.

It is used for one job, with all that a job's process is given (a session of its own, the job's lock and log), and never for
a second. At most one waits, for some minutes, and none beside a job of this process that still computes. It ends with whoever started it,
however that one ends: what it waits for is a socket, and the kernel closes the other side.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

WAITS_SECONDS = 900.0
ANSWER_SECONDS = 2.0  # for a waiting worker to say that it took the job: it does nothing else meanwhile
READY, TAKEN = b"r", b"t"


@dataclass(frozen=True)
class _Spare:
    process: subprocess.Popen[bytes]
    channel: socket.socket

    def is_ready(self) -> bool:
        """Whether it has loaded everything and waits."""
        with suppress(OSError):
            return self.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == READY
        return False

    def end(self) -> None:
        """Kill it with all that it started."""
        self.channel.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


_guard = threading.Lock()
_spare: _Spare | None = None
_allowed = False


def allow() -> None:
    """This process may keep a worker waiting: a server, and not whoever starts a single job."""
    global _allowed
    _allowed = True


def end() -> None:
    """Keep none any more."""
    global _allowed, _spare
    with _guard:
        _allowed, spare, _spare = False, _spare, None
    if spare is not None:
        spare.end()


def keep(command: tuple[str, ...], folder: Path) -> None:
    """See that a worker waits, where that is allowed; on a machine without room for one, none does."""
    global _spare
    with _guard:
        if not _allowed or (_spare is not None and _spare.process.poll() is None):
            return
        if _spare is not None:
            _spare.channel.close()
        _spare = None
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(
                [*command, "--wait", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
                cwd=folder,
            )
            _spare = _Spare(process, ours)
        except OSError:
            ours.close()
        finally:
            theirs.close()


def hand_over(folder: Path, alive: int, log: int) -> subprocess.Popen[bytes] | None:
    """Give the job in `folder` to the worker that waits, with the descriptors of its lock and its log.

    `None` if none is ready or it did not answer; then it has been ended, and the job is nobody's.
    """
    global _spare
    with _guard:
        if _spare is None or not _spare.is_ready():
            return None
        spare, _spare = _spare, None
    try:
        spare.channel.settimeout(ANSWER_SECONDS)
        spare.channel.recv(1)  # READY
        socket.send_fds(spare.channel, [os.fsencode(folder)], [alive, log])
        if spare.channel.recv(1) == TAKEN:
            spare.channel.close()
            return spare.process
    except OSError:
        pass
    spare.end()
    return None


def wait_for_job(descriptor: int) -> Path:
    """In the worker: the folder of the job that it was given; ends the process where there will be none."""
    with socket.socket(fileno=descriptor) as channel:
        try:
            channel.sendall(READY)
            if not select.select([channel], [], [], WAITS_SECONDS)[0]:
                sys.exit(0)
            folder, descriptors, _, _ = socket.recv_fds(channel, 4096, 2)
            if not folder:  # whoever started this process is no more
                sys.exit(0)
            _alive, log = descriptors  # the lock is held for as long as this process lives
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            channel.sendall(TAKEN)
        except OSError:
            sys.exit(0)
    return Path(os.fsdecode(folder))
