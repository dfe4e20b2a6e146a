"""The other run in this side's terms: which of the notes here each of its rows is."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from shifamind_core.arrays import frozen
from shifamind_core.artifacts.digests import text_digest
from shifamind_core.artifacts.splits import Split
from shifamind_core.errors import ShifamindError
from shifamind_core.replay.texts import REWRITINGS
from shifamind_core.runs.run import Run

Rows = Int64[np.ndarray, "_"]
FEWEST = 8  # notes on which labels may decide who is who
SAME_LABELS = 0.9  # share of the rows with equal labels: of other notes few agree in every code, of these a few may be mended
RESOLVED = (
    8.0  # logits beyond it are lost where FP32 probabilities were saved: 1 − σ(8) is 3e-4, to five digits
)


@dataclass(frozen=True, eq=False)
class Places:
    """Where each row of the reference lies among notes that are known here.

    Attributes
    ----------
    texts : tuple of str
        All known notes, split after split.
    index : int64 [rows]
        Each row's place in `texts`, −1 where its note is not known.
    starts : int64 [splits + 1]
        Where each split begins in `texts`.
    """

    texts: tuple[str, ...]
    index: Int64[np.ndarray, " rows"]
    starts: Int64[np.ndarray, " splits_plus_one"]

    def company(self, row: int, size: int, order: str) -> Rows:
        """Places of the notes in this row's batch: `size` consecutive rows of the reference, or notes of its split."""
        if order == "reference":
            mates = self.index[row // size * size : (row // size + 1) * size]
            return mates[mates >= 0]
        place = self.index[row]
        split = int(np.searchsorted(self.starts, place, side="right")) - 1
        first = self.starts[split] + (place - self.starts[split]) // size * size
        return np.arange(first, min(first + size, self.starts[split + 1]))


@dataclass(frozen=True, eq=False)
class Target:
    """The other run, in this side's terms.

    Attributes
    ----------
    values : float64 [rows, codes]
        All its rows, columns in the order of the local codes.
    places : dict of source to Places
        By document id there is one source, `None`. By position there is one for every split with as many notes: `None`
        for the run directory's own, else the sibling's name.
    turned_back : bool
        Whether probabilities were turned back into these logits.
    batch_size : int, optional
        As its manifest says.
    """

    values: Float64[np.ndarray, "rows codes"]
    places: Mapping[str | None, Places]
    codes: tuple[str, ...]
    turned_back: bool
    batch_size: int | None
    remarks: tuple[str, ...]

    @property
    def source(self) -> str | None:
        """Whose notes the rows are taken for at first."""
        return next(iter(self.places))

    def text(self, source: str | None, row: int) -> str:
        """The note of a row that is `known`."""
        places = self.places[source]
        return places.texts[places.index[row]]

    @cached_property
    def known(self) -> Rows:
        """Rows whose note is here and whose values are finite."""
        finite = np.isfinite(self.values).all(axis=1)
        return np.flatnonzero(finite & (self.places[self.source].index >= 0))

    def choose(self, count: int, among: Rows | None = None) -> Rows:
        """Rows that separate the hypotheses: every length from short to long, upper and lower case alike.

        Sorted by length, every stretch gives its note with most and its note with least capitals in turn.
        """
        rows = self.known if among is None else among
        if len(rows) <= count:
            return rows
        texts = [self.text(self.source, row) for row in rows.tolist()]
        by_length = np.argsort([len(text) for text in texts], kind="stable")
        capitals = np.array([sum(map(str.isupper, text)) / max(len(text), 1) for text in texts])
        chosen = []
        for index, stretch in enumerate(np.array_split(by_length, count)):
            pick = np.argmax if index % 2 else np.argmin
            chosen.append(rows[stretch[pick(capitals[stretch])]])
        return np.sort(np.array(chosen))

    def more(self, rows: Rows, count: int) -> Rows:
        """These rows and others, `count` in all: what was computed for the first is not computed again."""
        others = np.setdiff1d(self.known, rows)
        if count <= len(rows) or not len(others):
            return rows
        return np.union1d(rows, self.choose(count - len(rows), others))


def target_of(reference: Run, splits: Mapping[str | None, Split], codes: tuple[str, ...]) -> Target:
    """Find the reference's notes among the splits: by document id; without ids by labels or position.

    Parameters
    ----------
    splits : mapping
        The run directory's own under `None`, those of siblings by name.

    Raises
    ------
    ShifamindError
        Other codes, or none of its notes is here.
    """
    remarks: list[str] = []
    columns = _columns(reference, codes, remarks)
    places: dict[str | None, Places] = {}
    known = None if reference.document_ids is None else _by_id(reference.document_ids, splits, remarks)
    if known is not None:
        places[None] = known
    else:
        labels = None if reference.labels is None else reference.labels[:, columns]
        for name, split in splits.items():
            said: list[str] = []
            index = _without_ids(reference, labels, split, said)
            if index is not None:
                places[name] = Places(split.texts, index, np.array([0, len(split.texts)]))
                remarks += said if len(places) == 1 else []
        if not places and reference.document_ids is not None:
            raise _no_note_here(reference)
        if not places:
            sizes = ", ".join(str(len(split.texts)) for split in splits.values())
            raise ShifamindError(
                f"{reference.name} has {reference.documents} notes without document ids, the split here has {sizes}. "
                "Save document ids with the logits (python -m shifamind_core capture), or give the split it was computed on."
            )
    turned_back = bool(reference.manifest.logits_from_probabilities)
    values = reference.logits[:, columns].astype(np.float64)
    target = Target(
        values=frozen(values.clip(-RESOLVED, RESOLVED) if turned_back else values),
        places=places,
        codes=codes,
        turned_back=turned_back,
        batch_size=reference.manifest.batch_size,
        remarks=tuple(remarks),
    )
    if not len(target.known):
        _refuse(reference, target)
    return target


def _refuse(reference: Run, target: Target) -> None:
    if (target.places[target.source].index >= 0).any():
        raise ShifamindError(
            f"{reference.name}: no note has finite logits throughout ({reference.non_finite} of {reference.logits.size} are NaN "
            "or infinite). Run `layers` to find the first module that makes them."
        )
    raise _no_note_here(reference)


def _no_note_here(reference: Run) -> ShifamindError:
    return ShifamindError(
        f"None of the {reference.documents} notes of {reference.name} is in this run directory's split. "
        "Give the split that the reference was computed on, or the sibling run directory that holds it."
    )


def _columns(reference: Run, codes: tuple[str, ...], remarks: list[str]) -> np.ndarray:
    if reference.codes is None:
        if reference.logits.shape[1] != len(codes):
            raise ShifamindError(
                f"{reference.name} has {reference.logits.shape[1]} unnamed columns, the checkpoint {len(codes)} codes."
            )
        remarks.append("The reference does not name its codes: they are taken in the checkpoint's order.")
        return np.arange(len(codes))
    missing = [code for code in codes if code not in reference.codes]
    if missing:
        raise ShifamindError(
            f"{reference.name} lacks {len(missing)} codes of the checkpoint, first {missing[0]!r}."
        )
    return np.array([reference.codes.index(code) for code in codes])


def _by_id(wanted: np.ndarray, splits: Mapping[str | None, Split], remarks: list[str]) -> Places | None:
    """The notes with these ids, and those whose text has one once it is written otherwise.

    `None` if no id is met in any way: then the notes may still be these, under ids made otherwise.
    """
    texts = tuple(text for split in splits.values() for text in split.texts)
    ids = np.concatenate([split.document_ids for split in splits.values()])
    starts = np.cumsum([0, *(len(split.texts) for split in splits.values())])
    index = _places(wanted, ids)
    for rewriting in REWRITINGS:
        missing = np.flatnonzero(index < 0)
        if not len(missing):
            break
        rewritten = [
            (place, other) for place, text in enumerate(texts) if (other := rewriting.apply(text)) != text
        ]
        places = np.array([place for place, _ in rewritten], np.int64)
        theirs = np.array([text_digest(other.encode()) for _, other in rewritten], np.int64)
        found = _places(wanted[missing], theirs)
        index[missing[found >= 0]] = places[found[found >= 0]]
        if (found >= 0).any():
            remarks.append(
                f"{int((found >= 0).sum())} of the reference's {len(wanted)} document ids are those of the texts here "
                f"{rewriting.words}: the notes are the same, written otherwise."
            )
    return Places(texts, index, starts) if (index >= 0).any() else None


def _places(wanted: np.ndarray, ids: np.ndarray) -> Int64[np.ndarray, " rows"]:
    place = {identifier: index for index, identifier in reversed(list(enumerate(ids.tolist())))}
    return np.array([place.get(identifier, -1) for identifier in wanted.tolist()], np.int64)


def _without_ids(
    reference: Run, labels: np.ndarray | None, split: Split, remarks: list[str]
) -> Int64[np.ndarray, " rows"] | None:
    """The split's note of each row: by position where labels do not contradict it, else by labels that occur once.

    A reference whose ids are none of those here must show by its labels that its notes are these.
    """
    documents, total = reference.documents, len(split.texts)
    why = "has no document ids" if reference.document_ids is None else "has none of the document ids here"
    position = np.arange(documents) if documents <= total else None
    agree = False
    if labels is not None and labels.shape[1] == split.labels.shape[1]:
        agree = position is not None and bool(
            (labels == split.labels[:documents]).all(axis=1).mean() > SAME_LABELS
        )
        if not agree and (by_labels := _by_labels(labels, split.labels)) is not None:
            remarks.append(
                f"The reference {why}: {int((by_labels >= 0).sum())} of its {documents} rows were found by labels "
                "that occur once."
            )
            return by_labels
    if position is None or not (agree or reference.document_ids is None):
        return None
    which = (
        "the split's notes" if documents == total else f"the first {documents} of the split's {total} notes"
    )
    shown = ", as their labels show" if agree else ""
    remarks.append(f"The reference {why}: its rows are taken as {which}, in order{shown}.")
    return position


def _by_labels(theirs: np.ndarray, ours: np.ndarray) -> Int64[np.ndarray, " rows"] | None:
    """The row of `ours` with the same labels, where they occur once on either side; `None` if that is too few."""
    here, there = [row.tobytes() for row in ours], [row.tobytes() for row in theirs]
    place = {row: index for index, row in enumerate(here)}
    counts, counts_there = Counter(here), Counter(there)
    index = np.array(
        [place[row] if counts[row] == 1 and counts_there[row] == 1 else -1 for row in there], np.int64
    )
    return index if (index >= 0).sum() >= max(FEWEST, len(theirs) / 4) else None
