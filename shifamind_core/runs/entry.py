"""One stored run in its folder: who it is, and whether every byte is as it was stored."""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from shifamind_core.errors import ShifamindError
from shifamind_core.records import from_json, read_small_json
from shifamind_core.runs.manifest import Manifest, digest_of
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import RunHeader, read_run_file, read_run_header
from shifamind_core.runs.sealed import Damaged

ID = re.compile(r"[0-9a-f]{8,64}")
RUN_FILE = "run.safetensors"
KEY_FILE = "key.json"
USED_FILE = "used"  # empty; changed when the run was last used, locked by whoever writes, reads or shows it
MOST_KEY_BYTES = 16 << 20

Kind = Literal["computed", "uploaded"]


class EarlierVersion(Damaged):
    """An entry of a version that kept no checksum."""


@dataclass(frozen=True)
class KeyRecord:
    """The contents of ``key.json``.

    `owner` is the run directory that the run was computed from, or brought to. `fields` made the key of a computed
    run; an upload has none. `file_sha256` is over the run file, `header_sha256` over its header, `checksum` over this
    record without the checksum.
    """

    id: str
    kind: Kind
    name: str
    owner: str
    run_digest: str
    stored_at_utc: str
    file_sha256: str
    header_sha256: str
    key: str | None = None
    fields: dict[str, Any] | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class CacheEntry:
    """A stored run, known by its headers.

    `id` names the entry (`RunCache.load`); `owner` is the run directory it belongs to. `digest` is the run's own, over
    its arrays and codes.
    """

    id: str
    kind: Kind
    name: str
    owner: str
    digest: str
    key: str | None
    manifest: Manifest
    documents: int
    codes: tuple[str, ...] | None
    columns: int
    labelled: bool
    created: str


def read_entry(place: Path) -> CacheEntry:
    """A stored run by its headers. Pages look at every entry on every rerun: files that are as they were are not read anew.

    Raises
    ------
    Damaged
        The folder holds no sound entry.
    """
    if not ID.fullmatch(place.name) or not place.is_dir():
        raise Damaged(f"{place} is no cache entry.")
    return _read_entry(place, _written(place / KEY_FILE), _written(place / RUN_FILE))


def _written(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=4096)
def _read_entry(place: Path, key_written: tuple[int, ...], run_written: tuple[int, ...]) -> CacheEntry:
    record = read_record(place)
    header = _header(place, record)
    return CacheEntry(
        id=place.name,
        kind=record.kind,
        name=record.name,
        owner=record.owner,
        digest=record.run_digest,
        key=record.key,
        manifest=header.manifest,
        documents=header.shapes["logits"][0],
        codes=header.codes,
        columns=header.shapes["logits"][-1],
        labelled="labels" in header.shapes,
        created=record.stored_at_utc,
    )


def read_whole(place: Path) -> tuple[KeyRecord, Run]:
    """The record and the run of an entry, every byte of both checked.

    Raises
    ------
    Damaged
        A byte is not as it was stored.
    """
    record = read_record(place)
    try:
        content = (place / RUN_FILE).read_bytes()
    except OSError as error:
        raise _damaged(place, f"{RUN_FILE} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != record.file_sha256:
        raise _damaged(place, f"{RUN_FILE} is not the file that was stored")
    return record, read_run_file(content, record.name)


def read_record(place: Path) -> KeyRecord:
    """Whose the run is and what it should be; raises `Damaged`."""
    try:
        stored = read_small_json(place / KEY_FILE, MOST_KEY_BYTES)
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(place, f"{KEY_FILE}: {error}") from error
    if not isinstance(stored, dict) or "checksum" not in stored:
        raise EarlierVersion(f"The run in {place} was stored by an earlier version, without a checksum.")
    checksum = stored.pop("checksum")
    if checksum != digest_of(stored):
        raise _damaged(place, f"{KEY_FILE} is not what was stored")
    try:
        record = from_json(KeyRecord, stored, KEY_FILE)
    except ShifamindError as error:
        raise _damaged(place, str(error)) from error
    if record.id != place.name:
        raise _damaged(place, f"{KEY_FILE} belongs to another run")
    return record


def _header(place: Path, record: KeyRecord) -> RunHeader:
    try:
        with (place / RUN_FILE).open("rb") as file:
            head = file.read(8)
            head += file.read(min(int.from_bytes(head, "little"), (place / RUN_FILE).stat().st_size))
    except OSError as error:
        raise _damaged(place, f"{RUN_FILE} cannot be read: {error.strerror}") from error
    if header_sha256(head) != record.header_sha256:
        raise _damaged(place, f"{RUN_FILE} does not begin as it was stored")
    try:
        return read_run_header(place / RUN_FILE)
    except ShifamindError as error:
        raise _damaged(place, str(error)) from error


def header_sha256(content: bytes) -> str:
    """Of a run file, or of its beginning: SHA-256 over its header."""
    return hashlib.sha256(content[: 8 + int.from_bytes(content[:8], "little")]).hexdigest()


def _damaged(place: Path, reason: str) -> Damaged:
    return Damaged(f"The stored run in {place} is damaged: {' '.join(reason.split()).rstrip('.')}.")
