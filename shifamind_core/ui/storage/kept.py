"""What is kept in the cache, as rows that a person can read and delete: each run, and the rest by its kind."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from shifamind_core import jobs
from shifamind_core.errors import ShifamindError
from shifamind_core.jobs.store import jobs_folder
from shifamind_core.runs.entry import CacheEntry, read_entry
from shifamind_core.runs.labels import NOTHING_SAID, RunLabel, label_key
from shifamind_core.runs.naming import Shown, short_names
from shifamind_core.runs.room import Kept, everything_kept, in_use, take_away
from shifamind_core.settings import cache_limit_bytes
from shifamind_core.ui.text import plain_text

GROUPS = {"trial": "logits of replay trials"}


@dataclass(frozen=True)
class Row:
    """What is deleted as one. `used` is in seconds since 1970; `parts` are of the cache, `job_ids` of its jobs."""

    key: str
    title: str
    owner: str
    kind: str
    bytes: int
    used: float
    in_use: bool = False
    parts: tuple[Kept, ...] = ()
    job_ids: tuple[str, ...] = ()
    label_key: str | None = None
    said: RunLabel = NOTHING_SAID


def rows(cache: Path, said: Mapping[str, RunLabel]) -> list[Row]:
    """Every run with what people said of it, what was used last first; then trials and ended jobs, each as one."""
    kept = everything_kept(cache)
    runs = _runs([one for one in kept if one.kind not in GROUPS], said)
    groups = [_group(title, [one for one in kept if one.kind == kind]) for kind, title in GROUPS.items()]
    return [row for row in (*runs, *groups, _jobs(cache)) if row is not None]


def delete(chosen: Sequence[Row], cache: Path) -> None:
    """Delete them, in use or not: that was asked for.

    Raises
    ------
    ShifamindError
        The folder cannot be written.
    """
    try:
        for row in chosen:
            for part in row.parts:
                take_away(part.path)
            for job in row.job_ids:
                jobs.forget(cache, job)
    except OSError as error:
        raise ShifamindError(f"{cache} cannot be changed: {error.strerror}.") from error


def table(shown: Sequence[Row]) -> pd.DataFrame:
    """Columns What, Tags, Note, Of, Kind, Size, Last used (UTC), In use, Archived."""
    used = pd.to_datetime([row.used for row in shown], unit="s").floor("s")
    return pd.DataFrame(
        {
            "What": [row.title for row in shown],
            "Tags": [plain_text(", ".join(row.said.tags)) for row in shown],
            "Note": [plain_text(row.said.note) for row in shown],
            "Of": [row.owner for row in shown],
            "Kind": [row.kind for row in shown],
            "Size": [size_text(row.bytes) for row in shown],
            "Last used (UTC)": used,
            "In use": [row.in_use for row in shown],
            "Archived": [row.said.archived for row in shown],
        }
    )


def summary(shown: Sequence[Row], cache: Path) -> str:
    """How much is kept, of how much, and what the disk has left, in one line."""
    counted = sum(part.bytes for row in shown for part in row.parts)
    runs = sum(row.kind not in (*GROUPS, "jobs") for row in shown)
    free = shutil.disk_usage(cache).free
    return (
        f"{runs:,} run{'s' * (runs != 1)}; {size_text(counted)} kept, of {size_text(cache_limit_bytes())} at most. "
        f"The disk has {size_text(free)} free."
    )


def size_text(size: int) -> str:
    """
    >>> size_text(0), size_text(999), size_text(3_456_789), size_text(10**10)
    ('0 bytes', '999 bytes', '3.5 MB', '10.0 GB')
    """
    if size < 1000:
        return f"{size} bytes"
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}"


def _runs(kept: Sequence[Kept], said: Mapping[str, RunLabel]) -> list[Row]:
    found: list[tuple[Kept, CacheEntry | None]] = []
    for one in kept:
        try:
            found.append((one, read_entry(one.path)))
        except ShifamindError:
            found.append((one, None))
    labels = {
        entry.id: said.get(label_key(entry.digest, entry.manifest), NOTHING_SAID)
        for _, entry in found
        if entry
    }
    shown = [
        Shown(
            entry.digest,
            entry.manifest,
            entry.documents,
            labels[entry.id].name or (None if entry.kind == "computed" else entry.name),
        )
        for _, entry in found
        if entry is not None
    ]
    names = iter(short_names(shown))
    return [
        _damaged(one) if entry is None else _run(one, entry, next(names), labels[entry.id])
        for one, entry in found
    ]


def _damaged(one: Kept) -> Row:
    title = f"{one.path.name[:12]}, damaged"
    return Row(one.path.name, title, "", "damaged", one.bytes, one.used, False, (one,))


def _run(one: Kept, entry: CacheEntry, name: str, said: RunLabel) -> Row:
    return Row(
        one.path.name,
        plain_text(name, 80) or "run",
        plain_text(Path(entry.owner).name, 60),
        entry.kind,
        one.bytes,
        one.used,
        in_use(one),
        (one,),
        label_key=label_key(entry.digest, entry.manifest),
        said=said,
    )


def _group(title: str, parts: list[Kept]) -> Row | None:
    if not parts:
        return None
    size, used = sum(part.bytes for part in parts), max(part.used for part in parts)
    return Row(title, f"{len(parts):,} files: {title}", "", parts[0].kind, size, used, False, tuple(parts))


def _jobs(cache: Path) -> Row | None:
    ended = [job.id for job in jobs.list_jobs(cache) if not job.active]
    files = [file.lstat() for id in ended for file in (jobs_folder(cache) / id).glob("*")]
    if not ended:
        return None
    used = max((file.st_mtime for file in files), default=0.0)
    size = sum(file.st_size for file in files)
    return Row(
        "jobs",
        "1 ended job with its results"
        if len(ended) == 1
        else f"{len(ended):,} ended jobs with their results",
        "",
        "jobs",
        size,
        used,
        False,
        (),
        tuple(ended),
    )
