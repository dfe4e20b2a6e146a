"""Disks that are full or read-only: real ones where this process may mount, else a folder that it may not write."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = 4096


class SmallDisk:
    """A file system of its own, of a megabyte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, pages_left: int = 0) -> None:
        """Leave room for so many pages of 4 kB."""
        self._ballast.unlink(missing_ok=True)
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize // PAGE
        self._ballast.write_bytes(bytes((free - pages_left) * PAGE))

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this process may not mount a disk")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def read_only(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder in which nothing can be written, holding an empty folder `cache`."""
    if os.geteuid() == 0:  # whom no permission stops
        disk = request.getfixturevalue("small_disk")
        (disk.folder / "cache").mkdir()
        disk.make_read_only()
        yield disk.folder
        return
    folder = tmp_path / "read-only"
    (folder / "cache").mkdir(parents=True)
    for place in (folder / "cache", folder):
        place.chmod(0o500)
    yield folder
    for place in (folder, folder / "cache"):
        place.chmod(0o700)
