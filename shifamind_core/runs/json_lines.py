"""Foreign `.jsonl` files: one JSON value a note, an object with its scores or what a classification pipeline returns."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.assemble import checked_codes, listed, shown, whole_ids
from shifamind_core.runs.nested import ALIASES, SCORES
from shifamind_core.runs.tables import ID_COLUMNS, NOT_CODES, NOTE_COLUMNS

Row = dict[str, Any]
LARGEST_TEXT = 256 << 20  # a number of five digits takes six times as much room once it is read


@dataclass
class Lines:
    """Fields of the lines: arrays [notes, codes] of lists, columns [notes] of numbers under codes, and the names of the rest."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    codes: list[str] | None = None
    others: list[str] = field(default_factory=list)


def read_json_lines(name: str, content: bytes) -> Lines:
    """The fields of a file with one JSON value a line.

    A line is an object of lists (`{"logits": [-2.1, 0.5], "labels": [0, 1]}`), of objects by code
    (`{"logits": {"I10": -2.1}}`), or of numbers by code (`{"I10": 0.2}`); or it is a list of numbers, or of
    `{"label": "I10", "score": 0.2}`. Texts beside the scores are left out.

    Raises
    ------
    ShifamindError
        No UTF-8, a line that is no JSON or unlike the first, or no scores in it.
    """
    if len(content) > LARGEST_TEXT:
        raise ShifamindError(
            f"{name} is larger than {LARGEST_TEXT >> 20} MiB. Save it as .safetensors or .npz."
        )
    rows = list(_rows(name, content))
    if not rows:
        raise ShifamindError(
            f"{name} holds no lines. Write one JSON object a note, each on a line of its own."
        )
    found = Lines()
    for key, first in rows[0].items():
        if isinstance(first, list):
            found.arrays[key] = _matrix(name, key, rows)
        elif isinstance(first, dict) and first and key not in NOT_CODES:
            codes = checked_codes(name, list(first))
            if found.codes not in (None, codes):
                raise ShifamindError(
                    f"{name}: the fields of line 1 do not name the same codes in the same order."
                )
            found.codes = codes
            found.arrays[key] = _matrix(name, key, _by_code(name, key, rows, codes))
        elif key.lower() in ID_COLUMNS:
            found.arrays["document_ids"] = _ids(name, key, rows)
        elif isinstance(first, bool | int | float) and key.lower() not in NOT_CODES:
            found.columns[key] = _matrix(name, key, [{key: [row.get(key)]} for row in rows])[:, 0]
        else:
            found.others.append(key)
    if any(ALIASES.get(key, key) in SCORES for key in found.arrays):
        found.others += found.columns
        found.columns = {}
    elif not found.columns:
        notes = any(key.lower() in NOTE_COLUMNS for key in rows[0])
        raise ShifamindError(
            f"{name} has no field 'logits' or 'probabilities' (found: {listed(list(rows[0]))})."
            + (
                " A file of notes is no run: it is scored with `predict`."
                if notes
                else " Name the scores so."
            )
        )
    return found


def _rows(name: str, content: bytes) -> Iterator[Row]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ShifamindError(
                f"{name}: line {number:,} is no JSON in UTF-8. Write one JSON object a note, each on a line of its own."
            ) from error
        yield _row(name, number, value)


def _row(name: str, number: int, value: Any) -> Row:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # a pipeline that was given one note
    if isinstance(value, list) and value:
        if all(isinstance(item, dict) and {"label", "score"} <= set(item) for item in value):
            scores = {str(item["label"]): item["score"] for item in value}
            if len(scores) == len(value):
                return {
                    "scores": dict(sorted(scores.items()))
                }  # it gives the best first, another order each note
        return {"scores": value}
    if isinstance(value, dict):
        return value
    raise ShifamindError(
        f'{name}: line {number:,} is a {type(value).__name__}; expected an object, e.g. {{"logits": [-2.1, 0.5]}}.'
    )


def _by_code(name: str, key: str, rows: list[Row], codes: list[str]) -> list[Row]:
    listed_rows = []
    for number, row in enumerate(rows, start=1):
        value = row.get(key)
        if not isinstance(value, dict) or set(value) != set(codes):
            raise ShifamindError(
                f"{name}: note {number:,} has other codes under {shown(key)} than the first. Write all codes for every note."
            )
        listed_rows.append({key: [value[code] for code in codes]})
    return listed_rows


def _matrix(name: str, key: str, rows: list[Row]) -> np.ndarray:
    parts = []
    for number, row in enumerate(rows, start=1):
        value = row.get(key)
        width = len(parts[0]) if parts else None
        if not isinstance(value, list) or (width is not None and len(value) != width):
            raise ShifamindError(
                f"{name}: note {number:,} has {'no list' if not isinstance(value, list) else f'{len(value):,} values'} "
                f"under {shown(key)}; the first has {width or 'one'}. Every note has one number a code."
            )
        if not all(isinstance(item, bool | int | float) for item in value):
            raise ShifamindError(
                f"{name}: note {number:,} holds something else than numbers under {shown(key)}."
            )
        try:
            parts.append(np.array(value, np.float64))
        except OverflowError as error:
            raise ShifamindError(
                f"{name}: note {number:,} holds a number too large under {shown(key)}."
            ) from error
    return np.stack(parts)


def _ids(name: str, key: str, rows: list[Row]) -> np.ndarray:
    values = [row.get(key) for row in rows]
    floats = np.array([value for value in values if isinstance(value, float)])
    if len(floats):
        whole = iter(whole_ids(name, floats).tolist())
        values = [next(whole) if isinstance(value, float) else value for value in values]
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        raise ShifamindError(f"{name}: not every line has a whole number or a text under {shown(key)}.")
    return np.array([str(value) for value in values])
