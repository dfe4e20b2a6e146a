"""Frozen dataclasses to JSON and back, with one clear line when a foreign file does not fit."""

import dataclasses
import json
import os
import stat
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from shifamind_core.errors import ShifamindError

T = TypeVar("T")


def to_json(record: Any) -> Any:
    """A dataclass as JSON values; fields that are `None` (not known) are left out.

    >>> from shifamind_core.precision.policy import POLICIES
    >>> to_json(POLICIES["fp32"])["name"]
    'fp32'
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        values = {field.name: to_json(getattr(record, field.name)) for field in dataclasses.fields(record)}
        return {name: value for name, value in values.items() if value is not None}
    if isinstance(record, dict):
        return {str(key): to_json(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_json(value) for value in record]
    return record


def from_json(kind: type[T], value: Any, where: str = "$") -> T:
    """The record of type `kind` that JSON `value` describes.

    Keys that `kind` does not have are ignored: a later version may write more than this one reads.

    Raises
    ------
    ShifamindError
        A value of another type, with its place, e.g. ``manifest.tokenization.max_length``.
    """
    return _decode(kind, value, where)


def read_small_json(path: Path, most_bytes: int) -> Any:
    """The JSON in a regular file of bounded size: no link is followed, and a pipe keeps nobody waiting.

    Raises
    ------
    OSError, ValueError, RecursionError
        It is anything else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most_bytes:
            raise ValueError("no regular file of that size")
        return json.loads(file.read(most_bytes))


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (inner,) = [option for option in get_args(kind) if option is not type(None)]
        return _decode(inner, value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise ShifamindError(
                f"{where} is {_shown(value)}; expected one of {', '.join(map(str, get_args(kind)))}."
            )
        return value
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    if origin is tuple:
        _expect(list, value, where)
        return tuple(_decode(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(dict, value, where)
        return {key: _decode(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _expect(kind, value, where)
    return value


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(dict, value, where)
    hints = get_type_hints(kind)
    known = {
        field.name: _decode(hints[field.name], value[field.name], f"{where}.{field.name}")
        for field in dataclasses.fields(kind)
        if field.name in value
    }
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in known]
    if missing:
        raise ShifamindError(f"{where} lacks {', '.join(missing)}.")
    return kind(**known)


def _expect(kind: type, value: Any, where: str) -> None:
    if not isinstance(value, kind) or (kind in (int, float) and isinstance(value, bool)):
        raise ShifamindError(f"{where} is {_shown(value)}; expected {kind.__name__}.")


def _shown(value: Any) -> str:
    """A number, or what kind of value it is: a text in a foreign file may be that of a note."""
    return (
        repr(value)[:40]
        if value is None or isinstance(value, bool | int | float)
        else f"a {type(value).__name__}"
    )
