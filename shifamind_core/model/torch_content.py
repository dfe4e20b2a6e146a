"""The content of a checkpoint's file with its tensors, which are mapped from the disk."""

import mmap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shifamind_core.artifacts.limited import BY_SIZE, Limits
from shifamind_core.artifacts.torch_file import TorchFile
from shifamind_core.artifacts.torch_pickle import StoredTensor


def read_torch_file(path: Path, limits: Limits = BY_SIZE) -> Any:
    """What a file of `torch.save` holds, in either of its formats: dicts, lists, tuples, plain values and tensors.

    A limited child reads the pickle and says where each tensor's numbers lie (`artifacts.torch_file`). A tensor is a view of
    the file, read when it is looked at: clone what is to outlive it. What is neither a dense tensor nor a plain value is an
    `artifacts.torch_pickle.Other`.

    Raises
    ------
    ShifamindError
        No such file, a damaged one, or one that holds or claims more than it should; one line.
    """
    with TorchFile(path, limits) as file:
        mapped = mmap.mmap(file.handle, file.size, access=mmap.ACCESS_COPY)
    return _with_tensors(file.content, mapped)


def _with_tensors(content: Any, mapped: mmap.mmap) -> Any:
    if isinstance(content, StoredTensor):
        return _tensor(content, mapped)
    if isinstance(content, dict):
        return {key: _with_tensors(value, mapped) for key, value in content.items()}
    if isinstance(content, list | tuple):
        items = [_with_tensors(value, mapped) for value in content]
        return items if isinstance(content, list) else tuple(items)
    return content


def _tensor(stored: StoredTensor, mapped: mmap.mmap) -> Tensor:
    dtype: torch.dtype = getattr(torch, stored.dtype)
    if not stored.nbytes:
        return torch.empty(stored.shape, dtype=dtype)
    count = stored.storage.nbytes // dtype.itemsize
    flat = torch.frombuffer(mapped, dtype=dtype, count=count, offset=stored.storage.start)
    return flat.as_strided(stored.shape, stored.stride, stored.offset)
