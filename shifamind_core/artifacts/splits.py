"""Splits: notes with their labels, from a pickled or a Parquet table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Thread

import numpy as np

from shifamind_core.arrays import DocumentIds, Labels, frozen
from shifamind_core.artifacts._limited import printable
from shifamind_core.artifacts.code_order import Check, compare_codes
from shifamind_core.artifacts.digests import text_digest
from shifamind_core.artifacts.limited import BY_SIZE, Limits, read_limited
from shifamind_core.artifacts.limited_server import SERVER
from shifamind_core.artifacts.split_table import SplitColumns, columns_of
from shifamind_core.errors import ShifamindError

LARGEST_BYTES = 16 << 30
KINDS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl"}  # other endings are pickles
READER = "shifamind_core.artifacts.split_files:read_columns"


@dataclass(frozen=True, eq=False)
class Split:
    """Notes and what is true of them.

    Attributes
    ----------
    name : str
        `train`, `val` or `test`, or a file's name.
    texts : tuple of str
    labels : uint8 [documents, codes]
        0 or 1, read-only. Column i belongs to `codes[i]`.
    codes : tuple of str, optional
        `None` where nothing names the positions of the `labels` lists.
    labels_from : str
        Where the labels were taken from, for people.
    checks : tuple of Check
        What the table says twice, compared.

    Raises
    ------
    ShifamindError
        Parts that cannot belong together.
    """

    name: str
    texts: tuple[str, ...]
    labels: Labels
    codes: tuple[str, ...] | None = None
    labels_from: str = "labels"
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        if self.labels.dtype != np.uint8 or self.labels.ndim != 2 or (self.labels > 1).any():
            raise ShifamindError(f"{self.name}: labels are not a matrix of 0 and 1.")
        if not self.texts or len(self.texts) != len(self.labels):
            raise ShifamindError(
                f"{self.name}: {len(self.texts)} notes and {len(self.labels)} rows of labels."
            )
        if self.codes is not None and len(self.codes) != self.labels.shape[1]:
            raise ShifamindError(
                f"{self.name}: labels have {self.labels.shape[1]} columns, but {len(self.codes)} codes are named. "
                "Use files of one and the same run."
            )
        object.__setattr__(self, "labels", frozen(self.labels))

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def document_ids(self) -> DocumentIds:
        """int64 [documents]: a digest of each note's UTF-8 text."""
        return frozen(np.array([text_digest(text.encode()) for text in self.texts], dtype=np.int64))

    def head(self, count: int) -> "Split":
        """The first `count` notes (all, where there are fewer).

        Raises
        ------
        ShifamindError
            Fewer than one was asked for.
        """
        if count < 1:
            raise ShifamindError(
                f"The first {count} notes of {self.name} were asked for; it must be at least 1."
            )
        return replace(self, texts=self.texts[:count], labels=self.labels[:count])

    def with_codes(self, codes: Sequence[str]) -> "Split":
        """The split with its label columns in the order of `codes` (the checkpoint's, usually), by name.

        A split whose columns nothing names takes the codes by position, as the seed's evaluation does.

        Raises
        ------
        ShifamindError
            A code that the split does not have.
        """
        if self.codes is None or tuple(codes) == self.codes:
            return replace(self, codes=tuple(codes))
        check = compare_codes(
            "code_order", list(codes), "the checkpoint", self.codes, f"the {self.name} split"
        )
        if set(codes) - set(self.codes):
            raise ShifamindError(check.message)
        order = [self.codes.index(code) for code in codes]
        return replace(self, codes=tuple(codes), labels=self.labels[:, order])


def read_split(
    path: Path,
    name: str | None = None,
    known_codes: Sequence[str] = (),
    limits: Limits = BY_SIZE,
) -> Split:
    """A split from `*.pkl`, `*.parquet`, `*.csv` or `*.jsonl`, opened by a limited child (`split_files`).

    Parameters
    ----------
    known_codes : sequence of str
        Codes named elsewhere in the run directory, to tell code columns from others.
    limits : Limits, optional
        Of the child; by default they follow from the file's size.

    Raises
    ------
    ShifamindError
        No such file, a file that is refused, or a table that holds no notes and labels; one line.
    """
    name = name or path.stem.removesuffix("_split")
    kind = KINDS.get(path.suffix, "pickle")
    arguments = {"name": path.name, "kind": kind, "known_codes": list(known_codes)}
    limits = replace(limits, largest_bytes=limits.largest_bytes or LARGEST_BYTES)
    answer = read_limited(READER, path, path.name, arguments, limits)
    columns = columns_of(answer.value, answer.arrays, answer.texts)
    if columns is None:
        raise ShifamindError(
            f"{path.name} cannot be read: the process that reads it gave an answer of another form."
        )
    return _split(columns, name, known_codes)


def _split(columns: SplitColumns, name: str, known_codes: Sequence[str]) -> Split:
    """Choose the labels as the seed does (the lists, where there are any) and name their positions."""
    names, values, lists = columns.code_names, columns.code_values, columns.labels
    texts = tuple(columns.texts)
    if lists is None:
        return Split(name, texts, values, names, "one column a code")
    if not names:
        codes = tuple(known_codes) or None
        return Split(name, texts, lists, codes, "labels lists")
    codes, check = _name_positions(lists, values, names, tuple(known_codes), name)
    return Split(name, texts, lists, codes, "labels lists", (check,))


def _name_positions(
    lists: np.ndarray, values: np.ndarray, names: tuple[str, ...], known: tuple[str, ...], split: str
) -> tuple[tuple[str, ...], Check]:
    """Which code stands at which position of the `labels` lists: the order under which both say the same."""
    title = f"labels_{split}"
    if lists.shape[1] != len(names):
        raise ShifamindError(
            f"{split} split: the labels lists have {lists.shape[1]} positions, the table has {len(names)} code columns. "
            "Use files of one and the same run."
        )
    if np.array_equal(lists, values):
        return names, Check(
            title, "ok", f"{split}: labels lists and {len(names)} code columns agree in every note."
        )
    if sorted(known) == sorted(names):
        order = [names.index(code) for code in known]
        if np.array_equal(lists, values[:, order]):
            message = (
                f"{split}: the labels lists follow the order of top_50_codes, not that of the code columns; "
                "both say the same under that order, which is used."
            )
            return known, Check(title, "warning", message)
    rows, columns = np.nonzero(lists != values)
    message = (
        f"{split}: labels lists and code columns differ in {len(rows):,} of {lists.size:,} cells, first in row "
        f"{rows[0] + 1} at code {printable(names[columns[0]])!r}; the lists are used, as the protocol's evaluation does."
    )
    return names, Check(title, "error", message)


def prepare_reader() -> None:
    """Have the process that reads splits load what it needs, while this one loads torch."""
    Thread(target=SERVER.prepare, args=(READER.partition(":")[0],), daemon=True).start()
