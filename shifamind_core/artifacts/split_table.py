"""From a table in the public scripts' layout to plain columns. Runs in a limited child.

Expected: `text` or `note` (str), `labels` (a list of 0/1 a note) and one 0/1 column a code; either of the last two
will do. Other columns (`subject_id`, `hadm_id`, `has_top50`) are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from shifamind_core.artifacts._limited import printable
from shifamind_core.errors import ShifamindError

TEXTS = ("text", "note")  # the column of notes: the first of these that is there
NO_CODES = frozenset(
    {*TEXTS, "labels", "subject_id", "hadm_id", "note_id", "has_top50", "index", "Unnamed: 0"}
)


@dataclass(frozen=True, eq=False)
class SplitColumns:
    """The plain values of a split.

    Attributes
    ----------
    texts : list of str
        Notes; each can be written as UTF-8.
    labels : uint8 [documents, codes], optional
        The `labels` lists.
    code_names : tuple of str
        Names of the code columns, in the table's order; empty if it has none.
    code_values : uint8 [documents, code columns]
    """

    texts: list[str]
    labels: np.ndarray | None
    code_names: tuple[str, ...]
    code_values: np.ndarray


def plain_columns(table: Any, known_codes: Sequence[str], source: str) -> SplitColumns:
    """The plain values of a table, checked.

    Parameters
    ----------
    table : object
        What a file held; anything but a DataFrame is refused.
    known_codes : sequence of str
        Codes named elsewhere in the run directory; may be empty. If the table has them all, only they are
        code columns; otherwise every 0/1 column that is not one of the known others is.
    source : str
        The file's name, for messages.

    Raises
    ------
    ShifamindError
        Not such a table; the message names the column and the first row (from 1) that is wrong.
    """
    if type(table) is not pd.DataFrame:
        raise ShifamindError(f"{source} holds a {type(table).__name__}; expected a pandas DataFrame.")
    names = [name for name in table.columns if isinstance(name, str)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ShifamindError(f"{source} has more than one column named {printable(twice)!r}; keep one.")
    text = next((name for name in TEXTS if name in names), None)
    if text is None:
        raise ShifamindError(
            f"{source} has no column 'text' (or 'note'); it has {_some(names)}. Notes belong there."
        )
    if not len(table):
        raise ShifamindError(f"{source} is empty: it has columns but no notes.")
    code_names = _code_columns(table, names, known_codes)
    labels = _label_lists(table["labels"].tolist(), source) if "labels" in names else None
    if labels is None and not code_names:
        raise ShifamindError(
            f"{source} has neither a column 'labels' nor one 0/1 column a code; it has {_some(names)}."
        )
    code_values = np.empty((len(table), len(code_names)), dtype=np.uint8)
    for i, name in enumerate(code_names):
        code_values[:, i] = _zeros_and_ones(
            _numbers(pd.Series(table[name])), f"{source}: column {printable(name)!r}"
        )
    return SplitColumns(_texts(table[text].tolist(), source, text), labels, code_names, code_values)


def columns_of(value: Any, arrays: dict[str, np.ndarray], texts: list[str]) -> SplitColumns | None:
    """The columns from what the child gave; `None` where they cannot be any."""
    names = value.get("code_names") if isinstance(value, dict) else None
    labels, values = arrays.get("labels"), arrays.get("code_values")
    if (
        not isinstance(names, list)
        or not all(type(name) is str for name in names)
        or len(set(names)) != len(names)
    ):
        return None
    for matrix in (labels, values):
        if matrix is not None and (matrix.dtype != np.uint8 or matrix.ndim != 2 or len(matrix) != len(texts)):
            return None
    if values is None or values.shape[1] != len(names):
        return None
    return SplitColumns(texts, labels, tuple(names), values)


def _code_columns(table: pd.DataFrame, names: list[str], known: Sequence[str]) -> tuple[str, ...]:
    if known and set(known) <= set(names):
        wanted = set(known)
        return tuple(name for name in names if name in wanted)
    return tuple(
        name
        for name in names
        if name in known or (name not in NO_CODES and _holds_zeros_and_ones(pd.Series(table[name])))
    )


def _holds_zeros_and_ones(column: pd.Series) -> bool:
    values = _numbers(column)
    return values is not None and values.dtype.kind in "biuf" and bool(np.isin(values, (0, 1)).all())


def _numbers(column: pd.Series) -> np.ndarray | None:
    """The column as numbers, or `None` where it holds something else (dates, categories, missing values)."""
    if column.dtype.kind in "biuf" and not column.hasnans:
        return column.to_numpy()
    if column.dtype == object and all(isinstance(value, (bool, int, np.integer)) for value in column):
        return np.array([int(value) if -1 < value < 2 else 2 for value in column])
    return None


def _zeros_and_ones(values: np.ndarray | None, what: str) -> np.ndarray:
    if values is None:
        raise ShifamindError(f"{what} does not hold numbers without gaps; labels are 0 or 1.")
    wrong = np.flatnonzero(~((values == 0) | (values == 1)))
    if wrong.size:
        value = values[wrong[0]]
        raise ShifamindError(f"{what} holds {value} in row {wrong[0] + 1}; labels are 0 or 1.")
    return values.astype(np.uint8)


def _label_lists(cells: list[Any], source: str) -> np.ndarray:
    lengths = [len(cell) if isinstance(cell, (list, tuple, np.ndarray)) else -1 for cell in cells]
    for row, length in enumerate(lengths):
        if length < 0:
            raise ShifamindError(
                f"{source}: 'labels' in row {row + 1} is a {type(cells[row]).__name__}; expected a list of 0/1."
            )
        if length != lengths[0] or not length:
            raise ShifamindError(
                f"{source}: 'labels' has {length} values in row {row + 1} and {lengths[0]} in row 1; "
                "every note needs one per code."
            )
    flat = [value for cell in cells for value in cell]
    allowed = (bool, int, float, np.bool_, np.integer, np.floating)
    for place, value in enumerate(flat):
        if not isinstance(value, allowed) or value not in (0, 1):
            row, position = divmod(place, lengths[0])
            raise ShifamindError(
                f"{source}: 'labels' in row {row + 1} holds {_short(value)} at position {position + 1}; "
                "labels are 0 or 1."
            )
    return np.array(flat, dtype=np.uint8).reshape(len(cells), lengths[0])


def _texts(cells: list[Any], source: str, column: str) -> list[str]:
    for row, cell in enumerate(cells):
        if not isinstance(cell, str):
            what = (
                "missing"
                if cell is None or cell is pd.NA or isinstance(cell, float)
                else f"a {type(cell).__name__}"
            )
            raise ShifamindError(f"{source}: {column!r} in row {row + 1} is {what}; every note needs a text.")
        try:
            cell.encode()
        except UnicodeEncodeError as error:
            raise ShifamindError(
                f"{source}: {column!r} in row {row + 1} is no valid Unicode (a lone surrogate at character {error.start + 1})."
            ) from error
    return cells


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(printable(name, 40)) for name in names[:6])
    return (shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")) if names else "none"


def _short(value: Any) -> str:
    return repr(value)[:40] if isinstance(value, (int, float, np.number)) else f"a {type(value).__name__}"
