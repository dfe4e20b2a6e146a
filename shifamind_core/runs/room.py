"""How much room the cache takes: at most a limit in bytes, kept by throwing away what was used least recently.

Never thrown away is a run that a page shows, or that is being read or written: its file `used` is locked then. Uploads go
last, since what was computed can be computed again. If what is in use is more than the limit, the limit waits.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shifamind_core import locks
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.atomic import PART
from shifamind_core.runs.entry import USED_FILE, read_entry
from shifamind_core.settings import cache_limit_bytes

RUNS = "runs"
TRIALS = "trials"
INCOMING, REMOVED = ".incoming-", ".removed-"
LEFTOVER_SECONDS = 3600  # a writer without a lock has just begun, or was killed


@dataclass(frozen=True)
class Kept:
    """What is thrown away or kept as one: the folder of a run, or a file. `used` is in seconds since 1970."""

    path: Path
    kind: Literal["computed", "uploaded", "damaged", "trial"]
    bytes: int
    used: float


def everything_kept(cache: Path) -> list[Kept]:
    """All that counts against the limit, what was used last first. Jobs do not: fifty of them are kept, whatever happens."""
    kept = [one for one in (*_runs(cache), *_sealed(cache)) if one is not None]
    return sorted(kept, key=lambda one: one.used, reverse=True)


def make_room(cache: Path, wanted_bytes: int = 0) -> None:
    """Throw away what a killed writer left, then what was used least recently until `wanted_bytes` more stay within the limit.

    On a disk that cannot be written nothing happens.

    Raises
    ------
    ShifamindError
        The limit that is set cannot be read.
    """
    limit = cache_limit_bytes()
    with suppress(OSError), locks.wait_for_lock(cache / "room.lock"):
        _sweep(cache)
        kept = everything_kept(cache)
        total = sum(one.bytes for one in kept) + wanted_bytes
        for one in sorted(kept, key=lambda one: (one.kind == "uploaded", one.used)):
            if total <= limit:
                break
            if throw_away(one):
                total -= one.bytes


def throw_away(one: Kept) -> bool:
    """Delete it, unless it is in use; whether it was deleted.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    if not one.path.is_dir():
        one.path.unlink(missing_ok=True)
        return True
    unused = locks.lock(one.path / USED_FILE)
    if unused is None:
        return False
    with unused:
        take_away(one.path)
    return True


def in_use(one: Kept) -> bool:
    """Whether a page shows it, or somebody reads or writes it."""
    try:
        unused = locks.lock(one.path / USED_FILE, create=False)
    except OSError:
        return False
    if unused is not None:
        unused.release()
    return unused is None


def take_away(place: Path) -> None:
    """Delete a run's folder, or whatever stands in its place, at once, so that nobody sees half an entry.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    if not os.path.lexists(place):
        return
    doomed = Path(tempfile.mkdtemp(dir=place.parent, prefix=REMOVED))
    try:
        with suppress(FileNotFoundError):  # another process took it away first
            place.replace(doomed / place.name)
    finally:
        shutil.rmtree(doomed, ignore_errors=True)


def _runs(cache: Path) -> Iterator[Kept | None]:
    for place in _children(cache / RUNS):
        if place.name.startswith("."):
            continue
        try:
            kind = read_entry(place).kind
        except ShifamindError:
            kind = "damaged"
        yield _kept(place, kind)


def _sealed(cache: Path) -> Iterator[Kept | None]:
    for file in _children(cache / TRIALS):
        if not file.name.startswith("."):
            yield _kept(file, "trial")


def _kept(path: Path, kind: Literal["computed", "uploaded", "damaged", "trial"]) -> Kept | None:
    """`None` where it was thrown away meanwhile."""
    try:
        own = path.lstat()
        parts = (
            [file.lstat() for file in path.iterdir()] if path.is_dir() and not path.is_symlink() else [own]
        )
        used = (path / USED_FILE).lstat() if (path / USED_FILE).exists() else own
    except OSError:
        return None
    return Kept(path, kind, sum(part.st_size for part in parts), used.st_mtime)


def _sweep(cache: Path) -> None:
    """Delete what killed processes left half-written or half-removed, whatever it is."""
    for place in _children(cache / RUNS):
        if place.name.startswith(REMOVED) or (
            place.name.startswith(".") and _abandoned(place, place / USED_FILE)
        ):
            shutil.rmtree(place, ignore_errors=True)
    for file in _children(cache / TRIALS):
        if file.name.endswith(PART) and _abandoned(file, file):
            file.unlink(missing_ok=True)
    for place in cache.glob(".demo-*"):
        if _old(place):
            shutil.rmtree(place, ignore_errors=True)


def _abandoned(place: Path, locked: Path) -> bool:
    """Whether nobody writes there any more: no lock is held, and it is old enough for a writer to have come to its lock."""
    return not locks.held(locked) and _old(place)


def _old(place: Path) -> bool:
    try:
        return time.time() - place.lstat().st_mtime > LEFTOVER_SECONDS
    except OSError:
        return False


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
