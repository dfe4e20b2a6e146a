"""The runs that a page can choose from: computed here, recorded beside the run directory, uploaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import streamlit as st

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import ShifamindError
from shifamind_core.locks import Lock
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.labels import NOTHING_SAID, RunLabel, label_key, read_labels
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.naming import Shown, short_names
from shifamind_core.runs.run import Run
from shifamind_core.runs.uploads import read_run
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.session.waiting import waited
from shifamind_core.ui.text import plain_text, safe_text

Kind = Literal["computed", "reference", "uploaded"]
SHORT = 12
LONGEST = 80  # characters of a name
IN_USE = "runs_in_use"
MOST_IN_USE = 16  # runs that one session keeps from being thrown away


@dataclass(frozen=True)
class Offer:
    """A run that can be chosen.

    `key` stands for it in links: the first digits of its digest. `source` is where to load it from: an entry
    of the cache, or a file in `references/`. `label` is its name among the runs shown; `own_name` its file's.
    `said` is what people said of it.
    """

    key: str
    own_name: str | None
    kind: Kind
    digest: str
    manifest: Manifest
    documents: int
    columns: int
    labelled: bool
    source: str | Path
    label: str = "run"
    said: RunLabel = NOTHING_SAID

    @property
    def shown(self) -> Shown:
        own_name = plain_text(self.said.name, LONGEST) or self.own_name
        return Shown(self.digest, self.manifest, self.documents, own_name)

    @property
    def label_key(self) -> str:
        return label_key(self.digest, self.manifest)

    @property
    def tagged(self) -> str:
        """Its name with the tags that people gave it."""
        return " · ".join((self.label, *map(plain_text, self.said.tags)))

    @property
    def split(self) -> str | None:
        return self.manifest.split


def runs_on_offer(workspace: Workspace) -> list[Offer]:
    """Runs computed from the selected run directory, its references, and what was uploaded to it, in that order."""
    computed, uploaded = [], []
    owner = str(workspace.owner)
    for entry in RunCache(workspace.cache).entries():
        if entry.owner != owner:
            continue
        offer = Offer(
            key=entry.digest[:SHORT],
            own_name=None if entry.kind == "computed" else plain_text(entry.name, LONGEST),
            kind=entry.kind,
            digest=entry.digest,
            manifest=entry.manifest,
            documents=entry.documents,
            columns=entry.columns,
            labelled=entry.labelled,
            source=entry.id,
        )
        (computed if entry.kind == "computed" else uploaded).append(offer)
    references, _ = references_on_offer(workspace)
    # A replay copies the reference that it is about into the cache; it is offered once.
    beside = [(offer.digest, offer.manifest) for offer in references]
    uploaded = [offer for offer in uploaded if (offer.digest, offer.manifest) not in beside]
    said, _ = what_is_said(workspace)
    offers = [
        replace(offer, said=said.get(offer.label_key, NOTHING_SAID))
        for offer in _distinct([*computed, *references, *uploaded])
    ]
    return named(offers)


def what_is_said(workspace: Workspace) -> tuple[dict[str, RunLabel], list[str]]:
    """What people said of runs, and why it cannot be read: names fall back then, and no page fails."""
    try:
        return read_labels(workspace.cache), []
    except ShifamindError as error:
        return {}, [str(error)]


def named(offers: Sequence[Offer]) -> list[Offer]:
    """The same runs, each named by what distinguishes it from the others."""
    names = short_names([offer.shown for offer in offers])
    return [
        replace(offer, label=plain_text(name, LONGEST)) for offer, name in zip(offers, names, strict=True)
    ]


def offer_of_upload(workspace: Workspace, id: str, run: Run) -> Offer | None:
    """What the upload of that id is offered as; where the same run lies in `references/`, that one."""
    offers = runs_on_offer(workspace)
    found = [offer for offer in offers if offer.source == id]
    return next(iter([*found, *(offer for offer in offers if offer.digest == run.digest)]), None)


def references_on_offer(workspace: Workspace) -> tuple[list[Offer], list[str]]:
    """The runs in the run directory's `references/`, and one line for each file that holds none."""
    try:
        directory = RunDirectory(workspace.run_directory)
    except ShifamindError:
        return [], []  # the overview says what is wrong with the directory
    (files, links), offers = directory.references_and_links_out(), []
    problems = [
        f"{path.name} in references/ is a link out of the run directory, or to nothing, and is not followed. Copy the file there."
        for path in links
    ]
    for file in files:
        try:
            run = _read_reference(file)
        except ShifamindError as error:
            problems.append(str(error))
            continue
        offers.append(
            Offer(
                key=run.digest[:SHORT],
                own_name=plain_text(file.stem, LONGEST),
                kind="reference",
                digest=run.digest,
                manifest=run.manifest,
                documents=run.documents,
                columns=run.logits.shape[1],
                labelled=run.labels is not None,
                source=file,
            )
        )
    return offers, problems


def load_run(offer: Offer, workspace: Workspace) -> Run:
    """The run itself, under the name it was offered by. Arrays are read-only and shared among sessions.

    Raises
    ------
    ShifamindError
        It was removed or damaged meanwhile.
    """
    source = offer.source
    if isinstance(source, Path):
        return _named(str(source), _written(source), offer.label, _read_reference(source))
    return _named(source, (), offer.label, load_stored(source, workspace))


def load_stored(id: str, workspace: Workspace) -> Run:
    """The run of that id in the cache, which is in use from now on until the session ends, or has loaded many others.

    Raises
    ------
    ShifamindError
        It was removed or damaged meanwhile.
    """
    in_use: dict[str, Lock | None] = st.session_state.setdefault(IN_USE, {})
    in_use[id] = in_use.pop(id, None) or RunCache(workspace.cache).use(id)
    while len(in_use) > MOST_IN_USE:
        del in_use[next(iter(in_use))]
    return _load_stored(id, workspace.cache)


def _distinct(offers: list[Offer]) -> list[Offer]:
    # Two machines may produce the same arrays, which is a finding: both stay, under keys that differ.
    seen: dict[str, int] = {}
    distinct = []
    for offer in offers:
        count = seen[offer.key] = seen.get(offer.key, 0) + 1
        distinct.append(offer if count == 1 else replace(offer, key=f"{offer.key}-{count}"))
    return distinct


def _read_reference(file: Path) -> Run:
    written = _written(file)
    found = waited(f"Reading {safe_text(file.name, 60)}", lambda: _read_file(str(file), written))
    if isinstance(found, str):
        raise ShifamindError(found)
    return found


def _written(file: Path) -> tuple[int, ...]:
    """A file may be written over within a tick of its clock, at the same size; its inode's clock and number tell."""
    try:
        state = file.stat()
    except OSError as error:
        raise ShifamindError(f"{file.name} cannot be read: {error.strerror}.") from error
    return state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_size


@st.cache_resource(max_entries=32, show_spinner=False)
def _named(source: str, written: tuple[int, ...], label: str, _run: Run) -> Run:
    """The same object on every rerun, whose digests are then taken once."""
    return replace(_run, name=label)


@st.cache_resource(max_entries=32, show_spinner=False)
def _read_file(path: str, state: tuple[int, ...]) -> Run | str:
    """The run, or why there is none: what is refused is kept too, so that it costs its time once and not on every page."""
    try:
        run = read_run(Path(path))
        _ = run.digest  # of a large run some seconds
        return run
    except ShifamindError as error:
        return str(error)


@st.cache_resource(max_entries=16, show_spinner=False)
def _load_stored(id: str, folder: Path) -> Run:
    return RunCache(folder).load(id)  # the id is a digest of all that the run says
