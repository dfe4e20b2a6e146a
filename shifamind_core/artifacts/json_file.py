"""JSON files of a run directory, read with one clear line for whatever is wrong."""

import json
from pathlib import Path
from typing import Any

from shifamind_core.artifacts.regular_file import read_regular
from shifamind_core.errors import ShifamindError

LARGEST_BYTES = 16 << 20  # a list of lists takes 25 times as much once it is read


def read_json(path: Path) -> Any:
    """The value that a JSON file holds.

    Raises
    ------
    ShifamindError
        No such file, one that is too large, or no JSON.
    """
    if not path.exists():
        raise ShifamindError(f"{path.name} is missing in {path.parent}; copy it there.")
    try:
        return json.loads(read_regular(path, LARGEST_BYTES).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ShifamindError(f"{path} is no JSON, or was cut off; copy it again.") from error


def read_json_object(path: Path, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON file that holds an object; `missing` stands for a file that is not there.

    Raises
    ------
    ShifamindError
        No such file, no JSON, or JSON that is no object.
    """
    if missing is not None and not path.exists():
        return missing
    value = read_json(path)
    if not isinstance(value, dict):
        raise ShifamindError(f"{path} holds a JSON {type(value).__name__}; expected an object.")
    return value
