"""Locks on files that the kernel lets go of, however their holder ends: who lives, who writes, who reads.

Nothing here asks a clock, which may be set, or a process id, which is used again.
"""

import fcntl
import os
import stat
import weakref
from pathlib import Path


class Lock:
    """A lock that is held until `release`, or until nobody refers to it any more.

    A child process that is given `descriptor` (`subprocess.Popen(pass_fds=…)`) holds it too, for as long as it lives.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._finalizer = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let go; nothing happens the second time."""
        self._finalizer()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock(path: Path, *, wait: bool = False, create: bool = True) -> Lock | None:
    """The one lock on `path`, a regular file that is made where there is none; `None` while somebody else holds one.

    Raises
    ------
    OSError
        The file cannot be made or opened, or is no regular file.
    """
    return _locked(
        path, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), os.O_RDWR | (os.O_CREAT if create else 0)
    )


def share(path: Path) -> Lock | None:
    """One of any number of locks on an existing file, which keep `lock` away; `None` while somebody holds that one.

    Raises
    ------
    OSError
        There is no such file, or it is no regular file.
    """
    return _locked(path, fcntl.LOCK_SH | fcntl.LOCK_NB, os.O_RDONLY)


def held(path: Path) -> bool:
    """Whether somebody holds the one lock on `path`."""
    try:
        mine = share(path)
    except OSError:
        return False
    if mine is None:
        return True
    mine.release()
    return False


def _locked(path: Path, how: int, flags: int) -> Lock | None:
    # No link is followed, and a pipe in the file's place keeps nobody waiting.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(22, "it is no regular file")
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor)
