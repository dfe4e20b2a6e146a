"""Runs kept on disk: those computed here, under the key of what decides their logits, and uploads.

Layout: ``<folder>/runs/<id>/run.safetensors``, ``key.json`` (what made the key, whose run it is, and the checksums of both
files) and ``used`` (when it last was; see `runs.room`). Folders are readable by their owner only. None holds a note's text.
"""

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shifamind_core import locks
from shifamind_core.errors import ShifamindError
from shifamind_core.locks import Lock
from shifamind_core.records import to_json
from shifamind_core.runs import room
from shifamind_core.runs.atomic import write_atomically
from shifamind_core.runs.entry import (
    ID,
    KEY_FILE,
    RUN_FILE,
    USED_FILE,
    CacheEntry,
    EarlierVersion,
    KeyRecord,
    Kind,
    header_sha256,
    read_entry,
    read_record,
    read_whole,
)
from shifamind_core.runs.manifest import digest_of
from shifamind_core.runs.partner import VALIDATION_SPLITS
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import write_run_file
from shifamind_core.runs.sealed import Damaged

KEY_DIGITS = 32  # of a computed run's id: they find every run of these logits


class RunCache:
    """Runs in a folder. Entries come whole or not at all, so several processes may share it.

    Equal logits may belong to several runs (other texts with equal tokens, a checkpoint saved again under another name):
    each is an entry of its own, and `find` answers with the logits of any of them. Every file is covered by a checksum:
    an entry that fails its own is named and thrown away when it is wanted, so that it can be computed again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs = folder, folder / "runs"

    def find(self, key: str) -> tuple[Run | None, tuple[str, ...]]:
        """A run whose logits were computed under this key, or `None`; and what had to be thrown away on the way.

        Only what the key decides may be taken from it: its logits, and how they were computed. Ids, labels, names and
        the checkpoint's record are those of whoever asked first.
        """
        remarks = []
        for place in sorted(self.runs.glob(f"{self._place(key).name[:KEY_DIGITS]}*")):
            try:
                found = self._read(place)
            except Damaged as damage:
                self._throw_away(place)
                remarks.append(f"{damage} It was thrown away and is computed again.")
                continue
            if found is not None and found[0].key == key:
                return found[1], tuple(remarks)
        return None, tuple(remarks)

    def may_answer(self, fields: Mapping[str, Any]) -> bool:
        """Whether any run was stored under a key that agrees in these of its fields."""
        asked = to_json(fields).items()
        for place in self.runs.glob("*"):
            with suppress(ShifamindError):
                if asked <= (read_record(place).fields or {}).items():
                    return True
        return False

    def load(self, id: str) -> Run:
        """The run of that id.

        Raises
        ------
        ShifamindError
            No such entry, or a damaged one, which is thrown away.
        """
        place = self._place(id)
        try:
            found = self._read(place)
        except Damaged as damage:
            self._throw_away(place)
            raise Damaged(f"{damage} It was thrown away: compute or upload it again.") from damage
        if found is None:
            raise ShifamindError(f"No run {id} is stored in {self.runs}. Compute or upload it again.")
        return found[1]

    def use(self, id: str) -> Lock | None:
        """Say that the run is in use now, and until the lock is released or forgotten; `None` if it is not there.

        A run in use is not thrown away to make room.
        """
        place = self._place(id)
        with suppress(OSError):
            (place / USED_FILE).touch(
                0o600
            )  # of an earlier version there is none; on a read-only disk it stays as it is
        try:
            return locks.wait_to_share(place / USED_FILE)  # who throws it away does not take long
        except OSError:
            return None

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
        upload, owner = self.load(id), read_record(self._place(id)).owner
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
        """Delete an entry, damaged or not; nothing happens if there is none.

        Raises
        ------
        ShifamindError
            The folder cannot be written.
        """
        self._take_away(self._place(id))

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
                yield read_entry(place)
            except ShifamindError as error:
                yield error

    def _store(
        self,
        kind: Kind,
        run: Run,
        owner: Path | str,
        key: str | None = None,
        fields: dict[str, Any] | None = None,
    ) -> str:
        id = _id(kind, run, owner, key)
        try:
            self.runs.mkdir(mode=0o700, parents=True, exist_ok=True)
            incoming = Path(tempfile.mkdtemp(dir=self.runs, prefix=room.INCOMING))  # mode 0700
        except OSError as error:
            raise ShifamindError(f"{self.runs} cannot be written: {error.strerror}.") from error
        try:
            with locks.wait_for_lock(incoming / USED_FILE):  # nobody sweeps away what is being written
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
                    header_sha256=header_sha256(content),
                    key=key,
                    fields=fields,
                )
                sealed = json.dumps(to_json(replace(record, checksum=digest_of(record))), indent=2).encode()
                write_atomically(incoming / KEY_FILE, sealed)
                room.make_room(self.folder, len(content) + len(sealed))
                self._put(incoming, self._place(id))
        except OSError as error:
            raise ShifamindError(f"{self.runs} cannot be written: {error.strerror}.") from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        return id

    def _read(self, place: Path) -> tuple[KeyRecord, Run] | None:
        """The record and the run of an entry, which nobody throws away meanwhile; `None` where there is none."""
        if not place.is_dir():
            return None
        used = self.use(place.name)
        try:
            return read_whole(place)
        except Damaged:
            if not place.exists():  # thrown away before it could be said to be in use
                return None
            raise
        finally:
            if used is not None:
                used.release()

    def _put(self, incoming: Path, place: Path) -> None:
        """Rename; where somebody stored the same run first, that one stays if it is sound."""
        while True:
            try:
                incoming.rename(place)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            try:
                if self._read(place) is not None:
                    return
                if not place.is_dir():  # a stray file
                    self._take_away(place)
            except Damaged:
                self._take_away(place)

    def _throw_away(self, place: Path) -> None:
        """Out of everybody's way. What cannot be moved cannot be written over either, and that is said then."""
        with suppress(ShifamindError):
            self._take_away(place)

    def _take_away(self, place: Path) -> None:
        try:
            room.take_away(place)
        except OSError as error:
            raise ShifamindError(f"{place} cannot be removed: {error.strerror}.") from error

    def _place(self, id: str) -> Path:
        if not ID.fullmatch(id):
            raise ShifamindError(f"{id[:80]!r} is no run id; expected 8 to 64 hexadecimal digits.")
        return self.runs / id


def _id(kind: Kind, run: Run, owner: Path | str, key: str | None) -> str:
    """Of what is stored and whose it is; that of a computed run begins with its key's first digits."""
    asked = digest_of([kind, str(owner), run.digest, run.name, run.manifest])
    return asked if key is None else key[:KEY_DIGITS] + asked[: 64 - KEY_DIGITS]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
