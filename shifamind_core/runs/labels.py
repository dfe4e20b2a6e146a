"""What people say of runs: a name, a note, tags, and whether it is archived. One small JSON file beside the runs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from shifamind_core.errors import ShifamindError
from shifamind_core.locks import wait_for_lock
from shifamind_core.records import from_json, read_small_json, to_json
from shifamind_core.runs.atomic import write_atomically
from shifamind_core.runs.manifest import Manifest, digest_of

FILE = "labels.json"
LOCK = "labels.lock"
MOST_BYTES = 1 << 20
LONGEST = {"name": 60, "note": 500, "tag": 30}  # characters
MOST_TAGS = 8


@dataclass(frozen=True)
class RunLabel:
    """What a person said of a run. Archived runs are kept, but not offered."""

    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    archived: bool = False


NOTHING_SAID = RunLabel()


@dataclass(frozen=True)
class LabelFile:
    """The contents of ``labels.json``: labels by `label_key`."""

    runs: dict[str, RunLabel] = field(default_factory=dict)


def label_key(digest: str, manifest: Manifest) -> str:
    """By what a run's label is found: it holds for copies of the run too, and for one computed again alike."""
    return digest_of([digest, manifest.cache_key or manifest])[:32]


def read_labels(cache: Path) -> dict[str, RunLabel]:
    """What was said of which run.

    Raises
    ------
    ShifamindError
        The file cannot be read as what `say` writes.
    """
    try:
        found = read_small_json(cache / FILE, MOST_BYTES)
        return {
            key: from_json(RunLabel, one, f"runs.{key[:8]}") for key, one in found.get("runs", {}).items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, AttributeError, ShifamindError) as error:
        raise ShifamindError(
            f"{cache / FILE} is damaged, so that names, notes and tags of runs are not shown. Mend it, or delete it to begin anew."
        ) from error


def say(cache: Path, keys: Iterable[str], **changes: object) -> None:
    """Change fields of the labels of these runs, and keep them; what is empty then is left out.

    Raises
    ------
    ShifamindError
        A text is too long, the file is damaged, or the folder cannot be written.
    """
    try:
        held = wait_for_lock(cache / LOCK)
    except OSError as error:
        raise ShifamindError(f"{cache} cannot be written: {error.strerror}.") from error
    with held:
        labels = read_labels(cache)
        for key in keys:
            labels[key] = _checked(replace(labels.get(key, NOTHING_SAID), **changes))  # type: ignore[arg-type]
        kept: Mapping[str, RunLabel] = {key: one for key, one in labels.items() if one != NOTHING_SAID}
        content = json.dumps(to_json(LabelFile(dict(kept))), indent=1).encode()
        if len(content) > MOST_BYTES:
            raise ShifamindError(
                f"{cache / FILE} would be larger than 1 MiB. Delete notes of runs that are no longer needed."
            )
        write_atomically(cache / FILE, content)


def tags_of(text: str) -> tuple[str, ...]:
    """Tags as typed, separated by commas.

    >>> tags_of("A100, test,, A100 ")
    ('A100', 'test')
    """
    return tuple(dict.fromkeys(tag for one in text.split(",") if (tag := " ".join(one.split()))))


def _checked(label: RunLabel) -> RunLabel:
    for what, texts in {"name": (label.name,), "note": (label.note,), "tag": label.tags}.items():
        longest = max((len(text) for text in texts), default=0)
        if longest > LONGEST[what]:
            raise ShifamindError(f"The {what} has {longest} characters; at most {LONGEST[what]} are kept.")
    if len(label.tags) > MOST_TAGS:
        raise ShifamindError(f"There are {len(label.tags)} tags; at most {MOST_TAGS} are kept.")
    return label
