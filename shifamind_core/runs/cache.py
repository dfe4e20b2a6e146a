"""Runs kept on disk: those computed here, under the key of what decides their logits, and uploads.

Layout: ``<folder>/runs/<id>/run.safetensors`` and ``key.json`` (what made the key, for people). Folders are
readable by their owner only. Neither file holds a note's text.
"""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from shifamind_core.errors import ShifamindError
from shifamind_core.records import from_json, to_json
from shifamind_core.runs.atomic import write_atomically
from shifamind_core.runs.manifest import Manifest, digest_of, flatten
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import RunHeader, read_run_file, read_run_header, write_run_file

T = TypeVar("T")

ID = re.compile(r"[0-9a-f]{8,64}")
RUN_FILE = "run.safetensors"
KEY_FILE = "key.json"
VALIDATION_SPLITS = ("val", "validation")
LEFTOVER_SECONDS = 24 * 3600

# What differs between two runs of one configuration on two splits, or says nothing about their logits.
NOT_CONFIGURATION = (
    "created_at_utc", "split", "documents_of", "duration_seconds", "cache_key", "configuration_digest", "notes",
)  # fmt: skip


@dataclass(frozen=True)
class KeyRecord:
    """The contents of ``key.json``. `fields` made the key of a computed run; an upload has none."""

    kind: Literal["computed", "uploaded"]
    name: str
    run_digest: str
    stored_at_utc: str
    key: str | None = None
    fields: dict[str, Any] | None = None


@dataclass(frozen=True)
class CacheEntry:
    """A stored run, known by its headers.

    `id` names the entry (`RunCache.load`): the key of a computed run, as a rule the digest of an uploaded
    one. `digest` is the run's own, over its arrays and codes.
    """

    id: str
    kind: Literal["computed", "uploaded"]
    name: str
    digest: str
    key: str | None
    manifest: Manifest
    documents: int
    codes: tuple[str, ...] | None
    columns: int
    labelled: bool
    created: str


class RunCache:
    """Runs in a folder. Entries come whole or not at all, so several processes may share it.

    A damaged entry is an error that names its folder, in `find`, `load` and `problems`; it is never taken
    for a miss and never overwritten.
    """

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"

    def find(self, key: str) -> Run | None:
        """The run computed under this key, or `None`.

        Raises
        ------
        ShifamindError
            The entry is there and damaged.
        """
        return self.load(key) if self._place(key).exists() else None

    def load(self, id: str) -> Run:
        """The run of that id.

        Raises
        ------
        ShifamindError
            No such entry, or a damaged one.
        """
        place = self._place(id)
        if not place.is_dir():
            raise ShifamindError(f"No run {id} is stored in {self.runs}. Compute or upload it again.")
        record = self._record(place)
        run = self._sound(place, lambda: read_run_file(place / RUN_FILE, record.name))
        if run.digest != record.run_digest:
            raise self._damaged(place, "its arrays are not those that were stored")
        return run

    def store(self, run: Run, key: str, key_fields: Mapping[str, Any]) -> None:
        """Keep a computed run under `key`, the digest of `key_fields`.

        A key decides the logits, so a run already stored under it stays (another process may have been
        faster); to replace it, `remove` it first.

        Raises
        ------
        ShifamindError
            The folder cannot be written, or holds a damaged entry under this key.
        """
        self._store(key, run, KeyRecord("computed", run.name, run.digest, _now(), key, dict(key_fields)))

    def store_upload(self, run: Run) -> str:
        """Keep an uploaded run; its id.

        The id is the run's digest. Two machines may well produce the same arrays, which is a finding, so
        where these arrays are stored already with another manifest, both are kept and the later one's id
        is the digest of both.
        """
        id = self.upload_id(run)
        self._store(id, run, KeyRecord("uploaded", run.name, run.digest, _now()))
        return id

    def upload_id(self, run: Run) -> str:
        """The id that this run has, or would have, as an upload."""
        taken = self._place(run.digest).exists()
        if taken and self._header(self._place(run.digest)).manifest != run.manifest:
            return digest_of([run.digest, run.manifest])
        return run.digest

    def remove(self, id: str) -> None:
        """Delete an entry, damaged or not; nothing happens if there is none."""
        place = self._place(id)
        if not place.exists():
            return
        doomed = Path(tempfile.mkdtemp(dir=self.runs, prefix=".removed-"))
        try:
            place.replace(doomed / id)  # at once, so that nobody sees half an entry
        except FileNotFoundError:
            pass  # another process removed it first
        finally:
            shutil.rmtree(doomed)

    def entries(self) -> list[CacheEntry]:
        """The sound entries, latest first, from their headers only. Show `problems` beside them."""
        entries = [entry for entry in self._scan() if isinstance(entry, CacheEntry)]
        return sorted(entries, key=lambda entry: (entry.created, entry.id), reverse=True)

    def problems(self) -> list[str]:
        """One line for each damaged entry: which folder, what is wrong, what to do."""
        return [str(problem) for problem in self._scan() if isinstance(problem, ShifamindError)]

    def _scan(self) -> Iterable[CacheEntry | ShifamindError]:
        places = sorted(self.runs.iterdir()) if self.runs.is_dir() else []
        for place in places:
            if place.name.startswith("."):
                continue  # an entry being written or removed
            try:
                yield self._entry(place)
            except ShifamindError as error:
                yield error

    def _entry(self, place: Path) -> CacheEntry:
        if not ID.fullmatch(place.name) or not place.is_dir():
            raise ShifamindError(f"{place} is no cache entry. Move it elsewhere.")
        record, header = self._record(place), self._header(place)
        return CacheEntry(
            id=place.name,
            kind=record.kind,
            name=record.name,
            digest=record.run_digest,
            key=record.key,
            manifest=header.manifest,
            documents=header.shapes["logits"][0],
            codes=header.codes,
            columns=header.shapes["logits"][-1],
            labelled="labels" in header.shapes,
            created=record.stored_at_utc,
        )

    def _store(self, id: str, run: Run, record: KeyRecord) -> None:
        place = self._place(id)
        try:
            self.runs.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            incoming = Path(tempfile.mkdtemp(dir=self.runs, prefix=".incoming-"))  # mode 0700
        except OSError as error:
            raise ShifamindError(f"{self.runs} cannot be written: {error.strerror}.") from error
        try:
            write_run_file(run, incoming / RUN_FILE)
            write_atomically(incoming / KEY_FILE, json.dumps(to_json(record), indent=2).encode())
            incoming.rename(place)
        except OSError as error:
            if not place.exists():
                raise ShifamindError(f"{place} cannot be written: {error.strerror}.") from error
            self.load(id)  # somebody stored it first: soundly, or this raises what is wrong there
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _sweep(self) -> None:
        """Delete what a killed process left half-written a day ago or longer."""
        for leftover in self.runs.glob(".*-*"):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)

    def _place(self, id: str) -> Path:
        if not ID.fullmatch(id):
            raise ShifamindError(f"{id[:80]!r} is no run id; expected 8 to 64 hexadecimal digits.")
        return self.runs / id

    def _record(self, place: Path) -> KeyRecord:
        try:
            record = from_json(KeyRecord, json.loads((place / KEY_FILE).read_bytes()), KEY_FILE)
        except (OSError, ValueError, RecursionError, ShifamindError) as error:
            raise self._damaged(place, f"{KEY_FILE}: {error}") from error
        if record.kind == "computed" and record.key != place.name:
            raise self._damaged(place, f"{KEY_FILE} belongs to another key")
        return record

    def _header(self, place: Path) -> RunHeader:
        return self._sound(place, lambda: read_run_header(place / RUN_FILE))

    def _sound(self, place: Path, read: Callable[[], T]) -> T:
        try:
            return read()
        except ShifamindError as error:
            raise self._damaged(place, str(error)) from error

    def _damaged(self, place: Path, reason: str) -> ShifamindError:
        return ShifamindError(
            f"The stored run in {place} is damaged: {' '.join(reason.split())} "
            "Remove that folder, then compute or upload the run again."
        )


@runtime_checkable
class HasManifest(Protocol):
    """A `Run` or a `CacheEntry`."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def codes(self) -> tuple[str, ...] | None: ...


Candidate = TypeVar("Candidate", bound=HasManifest)


def validation_partner(run: HasManifest, candidates: Iterable[Candidate]) -> Candidate | None:
    """The validation run that goes with `run`: the first candidate of the same configuration.

    Two runs are of one configuration if their `configuration_digest` is the same. Where neither has one (runs
    recorded elsewhere), everything that is known of them but the split must be the same, the checkpoint among
    it; with less known, the answer is `None`, and the person chooses.
    """
    if run.manifest.split in VALIDATION_SPLITS:
        return None
    return next(
        (
            candidate
            for candidate in candidates
            if candidate.manifest.split in VALIDATION_SPLITS
            and candidate.codes == run.codes
            and _one_configuration(run.manifest, candidate.manifest)
        ),
        None,
    )


def _one_configuration(one: Manifest, other: Manifest) -> bool:
    if one.configuration_digest or other.configuration_digest:
        return one.configuration_digest == other.configuration_digest
    known, other_known = (
        {name: value for name, value in flatten(manifest).items() if name not in NOT_CONFIGURATION}
        for manifest in (one, other)
    )
    same = known == other_known
    return same and any(name.startswith("checkpoint.") for name in known)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
