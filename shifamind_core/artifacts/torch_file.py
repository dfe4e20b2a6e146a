"""Files of `torch.save`, opened by a limited child, without torch.

The child says what the file holds and where each tensor's numbers lie; this process checks those places against the
file's size, and whoever wants the numbers takes them from there, so that a checkpoint of gigabytes passes through no pipe.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from shifamind_core.artifacts._limited import Refused
from shifamind_core.artifacts.limited import BY_SIZE, Limits, read_limited
from shifamind_core.artifacts.regular_file import open_regular
from shifamind_core.artifacts.torch_pickle import (
    ITEM_BYTES,
    Other,
    Storage,
    StoredTensor,
    last_element,
    read_torch_pickle,
)
from shifamind_core.errors import ShifamindError

LARGEST_BYTES = 64 << 30
MOST_ITEMS, DEEPEST = 1_000_000, 50
READER = f"{__name__}:describe"


class TorchFile:
    """An open `.pt` file.

    Attributes
    ----------
    content : nested
        What it holds: dicts, lists, tuples and plain values, a `StoredTensor` for each dense tensor, and an `Other` for what
        is neither. Every tensor's numbers lie within the file.
    handle : int
        Its descriptor, open while the context is.
    size : int
        Bytes.

    Raises
    ------
    ShifamindError
        No regular file, none that torch saved, or one that holds or claims more than it should; one line.
    """

    def __init__(self, path: Path, limits: Limits = BY_SIZE) -> None:
        self.name = path.name
        self.handle = open_regular(path, limits.largest_bytes or LARGEST_BYTES)
        try:
            self.size = os.fstat(self.handle).st_size
            arguments = {"name": self.name}
            answer = read_limited(READER, self.handle, self.name, arguments, limits)
            self.content = self._decoded(answer.value)
        except BaseException:
            os.close(self.handle)
            raise

    def __enter__(self) -> "TorchFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        os.close(self.handle)

    def _decoded(self, value: Any) -> Any:
        """The content as the child described it; nothing that it says is believed."""
        if not isinstance(value, dict):
            return value if isinstance(value, str | int | float | None) else self._distrusted()
        if len(value) != 1:
            return self._distrusted()
        ((kind, inner),) = value.items()
        if kind == "other" and isinstance(inner, str):
            return Other(inner[:200])
        if not isinstance(inner, list):
            return self._distrusted()
        if kind == "tensor":
            return self._tensor(inner)
        if kind == "dict" and all(isinstance(pair, list) and len(pair) == 2 for pair in inner):
            keys = [self._decoded(key) for key, _ in inner]
            if all(isinstance(key, str | int | float | None) for key in keys):
                return {key: self._decoded(item) for key, (_, item) in zip(keys, inner, strict=True)}
        if kind in ("list", "tuple"):
            items = [self._decoded(item) for item in inner]
            return items if kind == "list" else tuple(items)
        return self._distrusted()

    def _tensor(self, described: list[Any]) -> StoredTensor:
        try:
            dtype, start, nbytes, offset, shape, stride = described
            numbers = [start, nbytes, offset, *shape, *stride]
        except (TypeError, ValueError):
            return self._distrusted()
        if not all(type(number) is int and 0 <= number < 1 << 60 for number in numbers):
            return self._distrusted()
        if dtype not in ITEM_BYTES or len(shape) != len(stride) or start + nbytes > self.size:
            return self._distrusted()
        tensor = StoredTensor(dtype, Storage(dtype, nbytes, start), offset, tuple(shape), tuple(stride))
        end = (last_element(tensor) + 1) * ITEM_BYTES[dtype]
        if tensor.nbytes > nbytes or (tensor.nbytes and end > nbytes):
            return self._distrusted()
        return tensor

    def _distrusted(self) -> Any:
        raise ShifamindError(
            f"{self.name} cannot be read: the process that reads it gave an answer of another form."
        )


def describe(file: BinaryIO, name: str) -> tuple[Any, dict[str, np.ndarray], list[str]]:
    """In the child: what the file holds, in JSON."""
    return _Encoder().encode(read_torch_pickle(file, name)), {}, []


class _Encoder:
    """A file's content in JSON. A value that is named many times is written as often, so their number is limited."""

    def __init__(self) -> None:
        self._left = MOST_ITEMS

    def encode(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if depth > DEEPEST or self._left < 0:
            raise Refused(
                f"it holds more than {MOST_ITEMS:,} values, or nests them deeper than {DEEPEST} levels."
            )
        if type(value) is str:
            return _valid(value)
        if value is None or type(value) in (bool, float):
            return value
        if type(value) is int:
            return value if abs(value) < 1 << 63 else {"other": "whole number beyond 64 bits"}
        if isinstance(value, StoredTensor):
            storage = value.storage
            place = [storage.start, storage.nbytes, value.offset]
            return {"tensor": [value.dtype, *place, list(value.shape), list(value.stride)]}
        if isinstance(value, dict):
            pairs = dict.items(value)  # an attribute of that name may have been unpickled
            return {"dict": [[self._key(key), self.encode(item, depth + 1)] for key, item in pairs]}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [self.encode(item, depth + 1) for item in value]}
        return {"other": value.kind if isinstance(value, Other) else type(value).__name__}

    def _key(self, key: Any) -> Any:
        """Plain keys as they are; of another, that there is one."""
        if type(key) is str:
            return _valid(key)
        plain = key is None or type(key) in (bool, float) or (type(key) is int and abs(key) < 1 << 63)
        return key if plain else f"a {type(key).__name__}"


def _valid(text: str) -> str:
    """A text that can be written down."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            "it holds a name that is no valid Unicode (a lone surrogate). Save it under another."
        ) from error
    return text
