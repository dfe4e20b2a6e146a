"""Splits that are plain text, comma-separated tables and JSON lines: as DataFrames of what they say, in a limited child."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import pandas as pd

from shifamind_core.artifacts._limited import printable
from shifamind_core.errors import ShifamindError

FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}  # in any case
NUMBERS = re.compile(r"\[[\d\s.,eE+-]*\]")
LONGEST_CELL = 1 << 30


def csv_table(file: BinaryIO, name: str) -> pd.DataFrame:
    """A comma-separated table: texts as they stand (an empty one too), columns of 0 and 1 as numbers, lists as lists.

    Raises
    ------
    ShifamindError
        No UTF-8 text, or no table: rows of unequal length, columns of one name.
    """
    csv.field_size_limit(LONGEST_CELL)
    try:
        rows = list(csv.reader(_lines(file, name, newline=""), strict=True))
    except csv.Error as error:
        raise ShifamindError(
            f"{name} is no comma-separated table; write it again from its source."
        ) from error
    rows = [row for row in rows if row]  # blank lines
    if not rows:
        raise ShifamindError(f"{name} holds no table; its first line should name the columns.")
    header, *cells = rows
    twice = next((column for column, count in Counter(header).items() if count > 1), None)
    if twice is not None:
        raise ShifamindError(f"{name} has more than one column named {printable(twice)!r}; keep one.")
    for number, row in enumerate(cells, start=1):
        if len(row) != len(header):
            raise ShifamindError(f"{name}: row {number} has {len(row)} cells, the header {len(header)}.")
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(header)
    return pd.DataFrame(
        {column: _column(list(values)) for column, values in zip(header, columns, strict=True)}
    )


def json_lines_table(file: BinaryIO, name: str) -> pd.DataFrame:
    """One JSON object a line: `{"text": "…", "labels": [0, 1]}`, or one key a code.

    Raises
    ------
    ShifamindError
        No UTF-8 text, or a line that is no JSON object; the message says which.
    """
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_lines(file, name, newline="\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ShifamindError(
                f"{name}: line {number} is no JSON; one object a line is expected."
            ) from error
        if not isinstance(row, dict):
            raise ShifamindError(
                f"{name}: line {number} is a JSON {type(row).__name__}; one object a line is expected."
            )
        if "\\ud" in line.lower() and _broken(row):
            raise ShifamindError(
                f"{name}: line {number} has a text that is no valid Unicode (a lone surrogate); write the table again from its source."
            )
        rows.append(row)
    return pd.DataFrame(rows)


def _broken(row: dict[str, Any]) -> bool:
    """Whether a text of the row cannot be written as UTF-8: half of a pair that JSON escapes as two."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _lines(file: BinaryIO, name: str, newline: str) -> Iterator[str]:
    """Its lines one after the other: the whole text beside what is made of it would be several times the file."""
    text = io.TextIOWrapper(file, "utf-8-sig", newline=newline)
    try:
        yield from text
    except UnicodeDecodeError:
        file.seek(0)
        try:
            file.read().decode("utf-8-sig")  # says which byte of the whole it is
        except UnicodeDecodeError as error:
            raise ShifamindError(
                f"{name} is no UTF-8 text (byte {error.start:,}); save it as UTF-8."
            ) from error
    finally:
        text.detach()  # the file is its owner's to close


def _column(cells: list[str]) -> Any:
    """Numbers where all cells are 0 or 1, lists where all are lists of numbers, else what stands there."""
    plain = [cell.strip() for cell in cells]
    flags = [FLAGS.get(cell.lower()) for cell in plain]
    if all(flag is not None for flag in flags):
        return pd.Series(flags, dtype=int)
    if all(NUMBERS.fullmatch(cell) for cell in plain):
        return pd.Series(
            [[float(part) for part in re.split(r"[\s,]+", cell[1:-1].strip()) if part] for cell in plain],
            dtype=object,
        )
    return pd.Series(cells, dtype=object)
