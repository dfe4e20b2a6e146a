"""Locks on files that the kernel lets go of, however their holder ends: who lives, who writes, who reads.

Nothing here asks a clock, which may be set, or a process id, which is used again.
"""

import errno
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


def lock(path: Path, *, create: bool = True) -> Lock | None:
    """The one lock on `path`, a regular file that is made where there is none; `None` while somebody else holds one.

    Raises
    ------
    OSError
        The file cannot be made or opened, or is no regular file.
    """
    return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB, os.O_RDWR | (os.O_CREAT if create else 0))


def wait_for_lock(path: Path) -> Lock:
    """`lock`, as soon as nobody else holds one."""
    return _surely(_locked(path, fcntl.LOCK_EX, os.O_RDWR | os.O_CREAT))


def wait_to_share(path: Path) -> Lock:
    """One of any number of locks on an existing file, which keep `lock` away; as soon as nobody holds that one.

    Raises
    ------
    OSError
        There is no such file, or it is no regular file.
    """
    return _surely(_locked(path, fcntl.LOCK_SH, os.O_RDONLY))


def held(path: Path) -> bool:
    """Whether somebody holds the one lock on `path`."""
    try:
        mine = _locked(path, fcntl.LOCK_SH | fcntl.LOCK_NB, os.O_RDONLY)
    except OSError:
        return False
    if mine is None:
        return True
    mine.release()
    return False


def _surely(lock: Lock | None) -> Lock:
    assert lock is not None, "it was waited for"
    return lock


def _locked(path: Path, how: int, flags: int) -> Lock | None:
    while True:
        # No link is followed, and a pipe in the file's place keeps nobody waiting.
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            fcntl.flock(descriptor, how)
            if _is_still(path, descriptor):
                return Lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed, or another took its place, between opening and locking it


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
