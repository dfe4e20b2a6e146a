"""What a file of `torch.save` holds, read without torch and without running anything in it: for a limited child.

Both formats are known: the zip archive of today, and the pickles in a row that torch wrote before 1.6. A tensor comes
back as a description of where its numbers lie (`StoredTensor`), so that nothing is unpacked before it was counted.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from shifamind_core.artifacts._limited import Refused, printable
from shifamind_core.errors import ShifamindError

ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1, "uint16": 2, "uint32": 4, "uint64": 8, "complex64": 8, "complex128": 16, "complex32": 4,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}  # fmt: skip
MOST_MEMBERS = 100_000
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # that number, pickled: how a file of torch before 1.6 begins


class _Damaged(Exception):
    """Not as torch writes it."""


UNSOUND = (
    _Damaged,
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, NotImplementedError, OSError, ValueError, TypeError,
    LookupError, AttributeError, ArithmeticError, AssertionError, RecursionError, RuntimeError, ImportError,
)  # fmt: skip
"""What unpickling and opening a damaged archive raise."""


@dataclass
class Storage:
    """Numbers in the file: where they begin (known once the file was read through) and how many bytes they are."""

    dtype: str
    nbytes: int
    start: int = -1


@dataclass(frozen=True)
class StoredTensor:
    """A dense tensor; `offset` and `stride` count elements of `dtype` within the storage."""

    dtype: str
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes when laid out by itself."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Other:
    """What is neither a dense tensor nor a plain value; `kind` says what it is in a word or two."""

    kind: str


@dataclass
class _Read:
    """What one unpickling saw."""

    storages: dict[str, Storage] = field(default_factory=dict)
    tensors: list[StoredTensor] = field(default_factory=list)


def read_torch_pickle(file: BinaryIO, name: str) -> Any:
    """The content of a `.pt` file: dicts, lists, tuples and plain values, with `StoredTensor` and `Other` among them.

    Raises
    ------
    ShifamindError
        No such file, or a damaged one; more than tensors and plain values in it (`Refused`); tensors that claim more
        numbers than the file holds, or that are one storage under many names.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        read = _Read()
        content = _zipped(file, read) if file.read(4) == b"PK\x03\x04" else _legacy(file, read)
        for storage in read.storages.values():
            if not 0 <= storage.start <= size - storage.nbytes:
                raise _Damaged
    except UNSOUND as error:
        raise ShifamindError(f"{name} {NOT_SAVED_BY_TORCH}") from error
    stored = sum(storage.nbytes for storage in read.storages.values())
    laid_out = sum(tensor.nbytes for tensor in read.tensors)
    if laid_out > 2 * stored + SHARED_BYTES:
        raise Refused(
            f"its {len(read.tensors):,} tensors share {stored:,} bytes and would take {laid_out:,} apart. Save it again "
            "with each tensor cloned, or only those that are needed."
        )
    return content


NOT_SAVED_BY_TORCH = "is no file as torch.save writes it, or was cut off or damaged; copy it again."
SHARED_BYTES = 64 << 20


def _zipped(file: BinaryIO, read: _Read) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise Refused(f"it holds more than {MOST_MEMBERS:,} parts.")
        if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
            raise Refused("it holds compressed or encrypted parts, which torch.save does not write.")
        by_name = {member.filename.partition("/")[2]: member for member in members}
        main = by_name["data.pkl"]
        if "byteorder" in by_name and archive.read(by_name["byteorder"]) != b"little":
            raise Refused("it was written on a big-endian machine. Save it again on another.")
        content = _Unpickler(io.BytesIO(archive.read(main)), read).load()
    for key, storage in read.storages.items():
        member = by_name[f"data/{key}"]
        if storage.nbytes > member.file_size:
            raise _Damaged
        file.seek(member.header_offset)
        head = file.read(30)
        name_bytes, extra_bytes = struct.unpack("<HH", head[26:30])
        storage.start = member.header_offset + 30 + name_bytes + extra_bytes
    return content


def _legacy(file: BinaryIO, read: _Read) -> Any:
    file.seek(2)  # after the pickle's protocol
    if file.read(len(LEGACY)) != LEGACY:  # any other pickle is refused unopened
        raise _Damaged
    file.seek(0)
    magic, protocol, system = (_Unpickler(file, read).load() for _ in range(3))
    if magic != LEGACY_MAGIC or protocol != LEGACY_PROTOCOL or not isinstance(system, dict):
        raise _Damaged
    if system.get("little_endian") is not True:
        raise Refused("it was written on a big-endian machine. Save it again on another.")
    content = _Unpickler(file, read).load()
    for key in _Unpickler(file, read).load():
        storage = read.storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count * ITEM_BYTES[storage.dtype] != storage.nbytes:
            raise _Damaged
        storage.start = file.tell()
        file.seek(storage.nbytes, io.SEEK_CUR)
    return content


class _Unpickler(pickle.Unpickler):
    """Looks up exactly the names below; what they stand for builds descriptions and nothing else."""

    def __init__(self, file: BinaryIO, read: _Read) -> None:
        super().__init__(file, encoding="utf-8")
        self._read = read
        self._names: dict[str, Any] = NAMES | {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._tensor_of_dtype,
        }

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted in self._names:
            return self._names[wanted]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return _StorageType(STORAGES[name])
        if module == "torch" and name in ITEM_BYTES:
            return _Dtype("dtype", name)
        if wanted.startswith("torch._utils._rebuild_"):
            return _Unread(name.removeprefix("_rebuild_").replace("_", " ").strip())
        raise Refused(
            f"beside tensors it asks for {printable(wanted)}, and what a pickle asks for can run code. If you trust its author, "
            "load it where it was made and save tensors and plain numbers alone."
        )

    def persistent_load(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise _Damaged
        kind, key, count = pid[1], pid[2], pid[4]
        if not isinstance(kind, _StorageType) or type(key) is not str or type(count) is not int or count < 0:
            raise _Damaged
        if len(pid) > 5 and pid[5] is not None:
            raise Refused("its tensors are views, as torch wrote them before 0.4. Save it again.")
        storage = Storage(kind.dtype, count * ITEM_BYTES[kind.dtype])
        return self._read.storages.setdefault(key, storage)

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor | Other:
        if not isinstance(storage, Storage):
            raise _Damaged
        return self._described(storage.dtype, storage, offset, shape, stride)

    def _tensor_of_dtype(
        self, storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
    ) -> StoredTensor | Other:
        if not isinstance(storage, Storage) or not isinstance(dtype, _Dtype):
            raise _Damaged
        return self._described(dtype.name, storage, offset, shape, stride)

    def _described(
        self, dtype: str, storage: Storage, offset: Any, shape: Any, stride: Any
    ) -> StoredTensor | Other:
        """The tensor, every number of which lies in its storage, and none of which stands for several."""
        whole = type(offset) is int and all(
            isinstance(axes, tuple)
            and len(axes) <= 16
            and all(type(axis) is int and 0 <= axis < 1 << 48 for axis in axes)
            for axes in (shape, stride, (offset,))
        )
        if not whole or len(shape) != len(stride):
            raise _Damaged
        tensor = StoredTensor(dtype, storage, offset, tuple(shape), tuple(stride))
        held = storage.nbytes // ITEM_BYTES[dtype]
        if math.prod(shape) > held:
            return Other(f"tensor that claims more numbers ({list(shape)}) than the file holds ({held:,})")
        if math.prod(shape) and last_element(tensor) >= held:
            raise _Damaged
        self._read.tensors.append(tensor)
        return tensor


def last_element(tensor: StoredTensor) -> int:
    """The place of its last number in the storage, in elements."""
    return tensor.offset + sum(
        (axis - 1) * step for axis, step in zip(tensor.shape, tensor.stride, strict=True)
    )


@dataclass(frozen=True)
class _StorageType:
    dtype: str


@dataclass(frozen=True)
class _Dtype(Other):
    """A dtype, which is no plain value where it stands for itself."""

    name: str = ""


class _Unread:
    """Stands for what rebuilds a tensor that is not dense: called with whatever, gives its name."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __call__(self, *_: Any, **__: Any) -> Other:
        return Other(self._kind if "tensor" in self._kind else f"{self._kind} tensor")


def _first(value: Any, *_: Any) -> Any:
    return value


def _of_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    """A tensor with attributes of its own: the tensor, without them."""
    if not isinstance(arguments, tuple) or not callable(function):
        raise _Damaged
    return function(*arguments)


def _number(dtype: Any, content: Any = b"") -> int | float | bool:
    """Stands for NumPy's scalar constructor, which older scripts leave in a file: a number, nothing else."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biuf" or not isinstance(content, bytes):
        raise Refused("it holds a NumPy scalar that is no number.")
    value = np.frombuffer(content, dtype=dtype, count=1)[0].item()
    return float(value) if dtype.kind == "f" else value  # of a long double, item() gives another


def _latin1(text: Any, encoding: Any = "utf-8") -> bytes:
    """Stands for `_codecs.encode`: how protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it encodes text other than as protocol 2 does.")
    return text.encode("latin1")


def _named(kind: str) -> Callable[..., Other]:
    return lambda *_, **__: Other(kind)


NAMES: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": Counter,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.nn.parameter.Parameter": _named("parameter"),
    "torch.Tensor": _named("tensor"),
    "torch.Size": tuple,
    "torch.device": _named("device"),
    "torch.serialization._get_layout": _named("layout"),
    "builtins.set": _named("set"),
    "__builtin__.set": _named("set"),
    "builtins.complex": _named("complex"),
    "builtins.bytearray": _named("bytearray"),
    "builtins.slice": _named("slice"),
    "_codecs.encode": _latin1,
    "numpy.dtype": np.dtype,
    "numpy._core.multiarray.scalar": _number,
    "numpy.core.multiarray.scalar": _number,
}  # fmt: skip
