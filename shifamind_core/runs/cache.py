"""Runs kept on disk: those computed here, under the key of what decides their logits, and uploads.

Layout: ``<folder>/runs/<id>/run.safetensors`` and ``key.json`` (what made the key, whose run it is, and the checksums of
both files). Folders are readable by their owner only. Neither file holds a note's text.
"""

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from shifamind_core.errors import ShifamindError
from shifamind_core.records import from_json, to_json
from shifamind_core.runs.atomic import write_atomically
from shifamind_core.runs.manifest import Manifest, digest_of, flatten
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import RunHeader, read_run_file, read_run_header, write_run_file
from shifamind_core.runs.sealed import Damaged

ID = re.compile(r"[0-9a-f]{8,64}")
KEY_DIGITS = 32  # of a computed run's id: they find every run of these logits
RUN_FILE = "run.safetensors"
KEY_FILE = "key.json"
VALIDATION_SPLITS = ("val", "validation")
LEFTOVER_SECONDS = 24 * 3600

# What differs between two runs of one configuration on two splits, or says nothing about their logits.
NOT_CONFIGURATION = (
    "created_at_utc", "split", "documents_of", "codes_of", "validated_by", "duration_seconds", "cache_key",
    "configuration_digest", "notes",
)  # fmt: skip

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


class RunCache:
    """Runs in a folder. Entries come whole or not at all, so several processes may share it.

    Equal logits may belong to several runs (other texts with equal tokens, a checkpoint saved again under another name):
    each is an entry of its own, and `find` answers with the logits of any of them. Every file is covered by a checksum:
    an entry that fails its own is named and thrown away when it is wanted, so that it can be computed again.
    """

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"

    def find(self, key: str) -> tuple[Run | None, tuple[str, ...]]:
        """A run whose logits were computed under this key, or `None`; and what had to be thrown away on the way.

        Only what the key decides may be taken from it: its logits, and how they were computed. Ids, labels, names and
        the checkpoint's record are those of whoever asked first.
        """
        remarks = []
        for place in sorted(self.runs.glob(f"{self._place(key).name[:KEY_DIGITS]}*")):
            try:
                record, run = self._read(place)
            except Damaged as damage:
                self._throw_away(place)
                remarks.append(f"{damage} It was thrown away and is computed again.")
                continue
            if record.key == key:
                return run, tuple(remarks)
        return None, tuple(remarks)

    def load(self, id: str) -> Run:
        """The run of that id.

        Raises
        ------
        ShifamindError
            No such entry, or a damaged one, which is thrown away.
        """
        place = self._place(id)
        if not place.is_dir():
            raise ShifamindError(f"No run {id} is stored in {self.runs}. Compute or upload it again.")
        try:
            return self._read(place)[1]
        except Damaged as damage:
            self._throw_away(place)
            raise Damaged(f"{damage} It was thrown away: compute or upload it again.") from damage

    def store(self, run: Run, key: str, key_fields: Mapping[str, Any], owner: Path | str) -> str:
        """Keep a computed run of the run directory `owner` under `key`, the digest of `key_fields`; its id.

        Raises
        ------
        ShifamindError
            The folder cannot be written.
        """
        return self._store("computed", run, owner, key, dict(key_fields))

    def store_upload(self, run: Run, owner: Path | str) -> str:
        """Keep an uploaded run with the run directory that it was brought to; its id.

        Two machines may well produce the same arrays, which is a finding: the same arrays under another name or with
        another manifest are kept beside each other.
        """
        return self._store("uploaded", run, owner)

    def attach_validation(self, id: str, validation: Run) -> str:
        """Keep `validation` as the validation run of an upload, as its owner says it is; the upload's new id.

        Raises
        ------
        ShifamindError
            No such upload.
        """
        upload, owner = self.load(id), self._record(self._place(id)).owner
        named = validation.manifest.split in VALIDATION_SPLITS
        said = (f"Brought as the validation run of {upload.name}.",)
        notes = tuple(dict.fromkeys(validation.manifest.notes + said))
        split = validation.manifest.split if named else "val"
        self.store_upload(
            replace(validation, manifest=replace(validation.manifest, split=split, notes=notes)), owner
        )
        manifest = replace(upload.manifest, validated_by=validation.digest)
        attached = self.store_upload(replace(upload, manifest=manifest), owner)
        if attached != id:
            self.remove(id)
        return attached

    def upload_id(self, run: Run, owner: Path | str) -> str:
        """The id that this run has, or would have, as an upload to `owner`."""
        return _id("uploaded", run, owner, None)

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
        """One line for each damaged entry, and one for all of an earlier version: where, what is wrong, what to do."""
        problems = [problem for problem in self._scan() if isinstance(problem, ShifamindError)]
        earlier = [problem for problem in problems if isinstance(problem, EarlierVersion)]
        lines = [
            f"{problem} Remove that folder, then compute or upload the run again."
            for problem in problems
            if problem not in earlier
        ]
        if earlier:
            lines.append(
                f"{len(earlier):,} runs in {self.runs} were stored by an earlier version, without a checksum, and are "
                "not read. Compute or upload them again, and remove their folders."
            )
        return lines

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
            raise Damaged(f"{place} is no cache entry.")
        record = self._record(place)
        header = self._header(place, record)
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

    def _store(
        self,
        kind: Kind,
        run: Run,
        owner: Path | str,
        key: str | None = None,
        fields: dict[str, Any] | None = None,
    ) -> str:
        id = _id(kind, run, owner, key)
        place = self._place(id)
        try:
            self.runs.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            incoming = Path(tempfile.mkdtemp(dir=self.runs, prefix=".incoming-"))  # mode 0700
        except OSError as error:
            raise ShifamindError(f"{self.runs} cannot be written: {error.strerror}.") from error
        try:
            write_run_file(run, incoming / RUN_FILE)
            content = (incoming / RUN_FILE).read_bytes()
            record = KeyRecord(
                id=id,
                kind=kind,
                name=run.name,
                owner=str(owner),
                run_digest=run.digest,
                stored_at_utc=_now(),
                file_sha256=hashlib.sha256(content).hexdigest(),
                header_sha256=_header_sha256(content),
                key=key,
                fields=fields,
            )
            sealed = to_json(replace(record, checksum=digest_of(record)))
            write_atomically(incoming / KEY_FILE, json.dumps(sealed, indent=2).encode())
            self._put(incoming, place)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return id

    def _put(self, incoming: Path, place: Path) -> None:
        """Rename; where somebody stored the same run first, that one stays if it is sound."""
        try:
            incoming.rename(place)
            return
        except OSError as error:
            if not place.exists():
                raise ShifamindError(f"{place} cannot be written: {error.strerror}.") from error
        try:
            self._read(place)
        except Damaged:
            self._throw_away(place)
            incoming.rename(place)

    def _throw_away(self, place: Path) -> None:
        """Out of everybody's way at once; what is left of it is swept a day later."""
        aside = Path(tempfile.mkdtemp(dir=self.runs, prefix=".damaged-"))
        try:
            place.replace(aside / place.name)
        except FileNotFoundError:
            aside.rmdir()  # another process threw it away first

    def _sweep(self) -> None:
        """Delete what a killed process left half-written, and what was thrown away, a day ago or longer."""
        for leftover in self.runs.glob(".*-*"):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)

    def _place(self, id: str) -> Path:
        if not ID.fullmatch(id):
            raise ShifamindError(f"{id[:80]!r} is no run id; expected 8 to 64 hexadecimal digits.")
        return self.runs / id

    def _read(self, place: Path) -> tuple[KeyRecord, Run]:
        """The record and the run of an entry, every byte of both checked."""
        record = self._record(place)
        try:
            content = (place / RUN_FILE).read_bytes()
        except OSError as error:
            raise _damaged(place, f"{RUN_FILE} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != record.file_sha256:
            raise _damaged(place, f"{RUN_FILE} is not the file that was stored")
        return record, read_run_file(content, record.name)

    def _record(self, place: Path) -> KeyRecord:
        try:
            stored = json.loads((place / KEY_FILE).read_bytes())
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

    def _header(self, place: Path, record: KeyRecord) -> RunHeader:
        try:
            with (place / RUN_FILE).open("rb") as file:
                head = file.read(8)
                head += file.read(min(int.from_bytes(head, "little"), (place / RUN_FILE).stat().st_size))
        except OSError as error:
            raise _damaged(place, f"{RUN_FILE} cannot be read: {error.strerror}") from error
        if _header_sha256(head) != record.header_sha256:
            raise _damaged(place, f"{RUN_FILE} does not begin as it was stored")
        try:
            return read_run_header(place / RUN_FILE)
        except ShifamindError as error:
            raise _damaged(place, str(error)) from error


def _id(kind: Kind, run: Run, owner: Path | str, key: str | None) -> str:
    """Of what is stored and whose it is; that of a computed run begins with its key's first digits."""
    asked = digest_of([kind, str(owner), run.digest, run.name, run.manifest])
    return asked if key is None else key[:KEY_DIGITS] + asked[: 64 - KEY_DIGITS]


def _header_sha256(content: bytes) -> str:
    return hashlib.sha256(content[: 8 + int.from_bytes(content[:8], "little")]).hexdigest()


def _damaged(place: Path, reason: str) -> Damaged:
    return Damaged(f"The stored run in {place} is damaged: {' '.join(reason.split()).rstrip('.')}.")


Candidate = TypeVar("Candidate", Run, CacheEntry)


def validation_partner(run: Run | CacheEntry, candidates: Iterable[Candidate]) -> Candidate | None:
    """The validation run that goes with `run`: the one that a person attached to it, else the first candidate of the
    same configuration.

    Two runs are of one configuration if their `configuration_digest` is the same. Where neither has one (runs
    recorded elsewhere), everything that is known of them but the split must be the same, the checkpoint among
    it; with less known, the answer is `None`, and the person chooses.
    """
    if run.manifest.split in VALIDATION_SPLITS:
        return None
    on_validation = (one for one in candidates if one.manifest.split in VALIDATION_SPLITS)
    if run.manifest.validated_by is not None:
        return next((one for one in on_validation if one.digest == run.manifest.validated_by), None)
    return next(
        (
            one
            for one in on_validation
            if one.codes == run.codes and _one_configuration(run.manifest, one.manifest)
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
