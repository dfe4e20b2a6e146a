"""The subprocess that opens one pickled split: `python -I _unpickle.py`, a JSON request on standard input.

An allow-list of exact names decides which globals a pickle may use, but that is not enough: an allowed
class can still be changed for the whole process, and an allowed constructor can still ask for 4 GiB. So this
runs in a process of its own that dies afterwards, under a memory limit, and only plain values leave it:
one JSON line, then raw bytes, which the parent checks again. Notes pass through a pipe, never through a file.
"""

import importlib
import json
import os
import pickle
import re
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

if sys.platform != "win32":
    import resource

# Globals of DataFrame pickles of pandas 1.5 to 3.1 (NumPy 1 and 2, protocols 2 to 5), measured with a logging
# Unpickler. A value is where the name lives today, if it has moved. No other name is ever looked up.
ALLOWED: dict[str, str | None] = (
    {
        "builtins.slice": None,
        "__builtin__.slice": "builtins.slice",
        "numpy.dtype": None,
        "numpy._core.multiarray.scalar": None,
        "numpy._core.numeric._frombuffer": None,
        "numpy.core.multiarray.scalar": "numpy._core.multiarray.scalar",
        "numpy.core.numeric._frombuffer": "numpy._core.numeric._frombuffer",
        "pandas._libs.internals._unpickle_block": None,
        "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": None,
        "pandas._libs.missing.NA": None,
        "pandas.NA": None,
        "pandas.core.internals.managers.BlockManager": None,
        "pandas.core.indexes.base._new_Index": None,
        "pyarrow.lib.chunked_array": None,
        "pyarrow.lib.py_buffer": None,
        "pyarrow.lib.type_for_alias": None,
    }
    | {
        f"pandas.{place}{name}": f"pandas.{public}{name}"
        for public, name, places in [
            ("", "DataFrame", ("", "core.frame.")),
            ("", "Index", ("", "core.indexes.base.")),
            ("", "RangeIndex", ("", "core.indexes.range.")),
            ("", "StringDtype", ("", "core.arrays.string_.")),
            ("", "Int64Dtype", ("", "core.arrays.integer.")),
            ("", "ArrowDtype", ("", "core.dtypes.dtypes.", "core.arrays.arrow.dtype.")),
            ("", "CategoricalDtype", ("", "core.dtypes.dtypes.")),
            ("", "Categorical", ("", "core.arrays.categorical.")),
            ("arrays.", "StringArray", ("arrays.", "core.arrays.string_.")),
            ("arrays.", "ArrowStringArray", ("arrays.", "core.arrays.string_arrow.")),
            ("arrays.", "ArrowExtensionArray", ("arrays.", "core.arrays.arrow.array.")),
            ("arrays.", "IntegerArray", ("arrays.", "core.arrays.integer.")),
            ("arrays.", "DatetimeArray", ("arrays.", "core.arrays.datetimes.")),
        ]
        for place in places
    }
    | {"pandas.core.indexes.numeric.Int64Index": "pandas.Index"}
)


class Refused(Exception):
    """What this process says in one line to the person; any other exception is reported by its type."""


def _latin1(text: str, encoding: str = "utf-8") -> bytes:
    """Stands for `_codecs.encode`: how protocol 2 writes bytes, and nothing else (no codec is imported)."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it encodes text other than as protocol 2 does.")
    return text.encode("latin1")


def _bytearray(content: bytes | str = b"", encoding: str | None = None) -> bytearray:
    """Stands for `bytearray`: a copy of bytes that the file holds, never a size that it asks for."""
    if isinstance(content, str) and encoding == "latin-1":
        return bytearray(content.encode("latin-1"))
    if isinstance(content, bytes) and encoding is None:
        return bytearray(content)
    raise Refused("it asks for a bytearray of a size instead of bytes.")


class _Ndarray:
    """Stands for `numpy.ndarray`, which pickles only pass on to `_reconstruct`: no array of a size asked for."""


def _reconstruct(kind: type, shape: tuple[int, ...], _dtype: bytes) -> Any:
    """Stands for `numpy._core.multiarray._reconstruct`: an empty array, whose state is set by what follows."""
    import numpy

    if kind is not _Ndarray or shape != (0,):
        raise Refused("it builds an array other than as NumPy does.")
    return numpy.empty(0, dtype=numpy.int8)


def _restore_array(data: Any) -> Any:
    """Stands for `pyarrow.lib._restore_array`: an array whose offsets are checked to stay within its buffers."""
    import pyarrow.lib

    array = pyarrow.lib._restore_array(data)  # pyright: ignore[reportAttributeAccessIssue]
    array.validate(full=True)
    return array


STANDINS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _Ndarray,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "pyarrow.lib._restore_array": _restore_array,
    "_codecs.encode": _latin1,
    "builtins.bytearray": _bytearray,
    "__builtin__.bytearray": _bytearray,
}


class SplitUnpickler(pickle.Unpickler):
    """Looks up exactly the names above."""

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted in STANDINS:
            return STANDINS[wanted]
        if wanted not in ALLOWED:
            raise Refused(f"it asks for {_one_line(wanted, 80)}, which no table of notes needs.")
        place, _, attribute = (ALLOWED[wanted] or wanted).rpartition(".")
        return getattr(importlib.import_module(place), attribute)

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to objects outside of the file.")


def _one_line(text: str, length: int = 300) -> str:
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()[:length]


def _report(pipe: BinaryIO) -> Callable[..., None]:
    """The last resort for an exception: its type and text as one JSON line, with memory to say it."""

    def hook(kind: type[BaseException], error: BaseException, _traceback: Any) -> None:
        error.__traceback__ = None
        if sys.platform == "linux":
            _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        pipe.write(json.dumps({"error": kind.__name__, "message": _one_line(str(error))}).encode() + b"\n")
        pipe.flush()

    return hook


def _limit_files() -> None:
    """It writes to its pipe and to no file."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _limit_memory(allowed_bytes: int) -> None:
    """Limit the address space to what is in use now plus `allowed_bytes`; 64 MiB more for the last words.

    Only Linux holds a process to this; elsewhere the parent watches and ends it.
    """
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + allowed_bytes, used + allowed_bytes + (64 << 20)))


def main() -> None:
    """Read the request, open the file, write the answer."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing a library prints can mix with the answer
    sys.excepthook = _report(pipe)
    request = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = request["sys_path"]
    _limit_files()

    # Imported before the limit, so that the limit is about the file alone.
    import pandas  # noqa: F401
    import pyarrow

    from shifamind_core.artifacts.split_table import plain_columns

    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    _limit_memory(request["memory_bytes"])
    with open(request["path"], "rb") as file:  # noqa: PTH123
        table = SplitUnpickler(file).load()
    columns = plain_columns(table, request["known_codes"], request["source"])
    answer = {
        "text_bytes": [len(text.encode()) for text in columns.texts],
        "label_width": None if columns.labels is None else columns.labels.shape[1],
        "code_names": columns.code_names,
    }
    pipe.write(json.dumps(answer).encode() + b"\n")
    for text in columns.texts:
        pipe.write(text.encode())
    if columns.labels is not None:
        pipe.write(columns.labels.tobytes())
    pipe.write(columns.code_values.tobytes())
    pipe.flush()
    os._exit(0)  # no destructor of what the file built runs any more


if __name__ == "__main__":
    main()
