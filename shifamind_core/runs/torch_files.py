"""Foreign `.pt` files: tensors, nested as they were saved. Read without torch, in a limited child (`torch_pickle`)."""

import io
from typing import Any

import numpy as np

from shifamind_core.artifacts.torch_pickle import Other, StoredTensor, read_torch_pickle
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.assemble import shown
from shifamind_core.runs.limits import LARGEST_ARRAYS
from shifamind_core.runs.nested import ARRAY_NAMES, Nested

WEIGHTS = ("model_state_dict", "state_dict")
DEEPEST, MOST_TENSORS = 4, 100_000
NUMPY = {
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
}


def read_torch(name: str, content: bytes) -> tuple[Nested, list[str] | None, list[str]]:
    """The tensors of a `.pt` file as arrays, nested as they were saved, its `codes`, and the names of what is no tensor.

    Raises
    ------
    ShifamindError
        Anything but tensors, a damaged file, or one that is too large.
    """
    held = read_torch_pickle(io.BytesIO(content), name)
    if not isinstance(held, StoredTensor | Other | dict | list | tuple):
        raise ShifamindError(
            f"{name} holds a {type(held).__name__}; expected a tensor, or a dict of tensors with 'logits' in it."
        )
    codes = None
    if isinstance(held, dict):
        if any(key in held for key in WEIGHTS):
            raise ShifamindError(
                f"{name} is a checkpoint, not a run. Put it into a run directory and score a split with it."
            )
        codes = dict.get(held, "codes")
        if codes is not None and not (
            isinstance(codes, list) and all(isinstance(code, str) for code in codes)
        ):
            raise ShifamindError(f"{name} has a {type(codes).__name__} for codes; expected a list of names.")
    reader = _Arrays(name, content)
    nested = reader.nested(held)
    return nested, codes, reader.others


class _Arrays:
    """Arrays of the tensors of one file; `others` are the names of what is no tensor."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name, self.content = name, content
        self.others: list[str] = []
        self._tensors = self._bytes = 0

    def nested(self, held: Any, depth: int = 0) -> Nested:
        if isinstance(held, StoredTensor | Other):
            return self._array(held)
        if depth > DEEPEST or self._tensors > MOST_TENSORS:
            raise ShifamindError(
                f"{self.name} nests its tensors deeper than {DEEPEST} levels, or holds more than {MOST_TENSORS:,}."
            )
        if isinstance(held, dict):
            return self._mapping(held, depth)
        return [self.nested(item, depth + 1) for item in held if _may_hold_tensors(item)]

    def _mapping(self, held: dict[Any, Any], depth: int) -> dict[str, Nested]:
        if not all(isinstance(key, str) for key in dict.keys(held)):
            raise ShifamindError(
                f"{self.name} holds a dict whose keys are no names; expected a dict of tensors with 'logits' in it."
            )
        found = {}
        for key, value in dict.items(held):
            if key == "codes":
                continue
            if _may_hold_tensors(value):
                found[key] = self.nested(value, depth + 1)
            elif key in ARRAY_NAMES:
                raise ShifamindError(
                    f"{self.name} holds a {type(value).__name__} under {shown(key)}; expected a tensor."
                )
            else:
                self.others.append(key)
        return found

    def _array(self, tensor: StoredTensor | Other) -> np.ndarray:
        """An array of the tensor's own; BF16 as float32, which holds it exactly."""
        if isinstance(tensor, Other) or tensor.dtype not in {*NUMPY, "bfloat16"}:
            kind = tensor.kind if isinstance(tensor, Other) else f"{tensor.dtype} tensor"
            raise ShifamindError(
                f"{self.name} holds a {kind}; expected dense tensors of numbers (float32, say), and nothing else."
            )
        self._tensors += 1
        self._bytes += max(tensor.nbytes, 4 * tensor.nbytes // 2 if tensor.dtype == "bfloat16" else 0)
        if self._bytes > LARGEST_ARRAYS:
            raise ShifamindError(
                f"{self.name} holds tensors that are too large. Save the logits and labels of one run alone."
            )
        dtype = np.dtype(np.uint16 if tensor.dtype == "bfloat16" else tensor.dtype)
        if not tensor.nbytes:
            return np.empty(tensor.shape, np.float32 if tensor.dtype == "bfloat16" else dtype)
        stored = np.frombuffer(
            self.content,
            dtype,
            tensor.storage.nbytes // dtype.itemsize - tensor.offset,
            tensor.storage.start + tensor.offset * dtype.itemsize,
        )
        strides = [step * dtype.itemsize for step in tensor.stride]
        array = np.lib.stride_tricks.as_strided(stored, tensor.shape, strides, writeable=False)
        if tensor.dtype == "bfloat16":
            return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return np.array(array)


def _may_hold_tensors(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return not value or isinstance(value[0], StoredTensor | Other | dict | list | tuple)
    return isinstance(value, StoredTensor | dict) or (isinstance(value, Other) and "tensor" in value.kind)
