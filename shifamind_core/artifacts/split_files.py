"""A split's table from its file, pickled, Parquet or text: what a limited child does with it (`limited.py`).

Of a pickle, an allow-list of exact names decides which globals it may use, but that is not enough: an allowed class can
still be changed for the whole process, and an allowed constructor can still ask for 4 GiB. So this runs in a process
of its own that dies afterwards, under its limits, and only plain values leave it, which the parent checks again.
Notes pass through a pipe, never through a file.
"""

import importlib
import io
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.lib
import pyarrow.pandas_compat
import pyarrow.parquet as parquet

from shifamind_core.artifacts._limited import NO_MEMORY, Refused, printable
from shifamind_core.artifacts.split_table import TEXTS, plain_columns
from shifamind_core.artifacts.split_texts import csv_table, json_lines_table
from shifamind_core.errors import ShifamindError

LARGEST_VALUES = 512 << 20  # bytes of numbers in a Parquet table
LARGEST_TEXT = 1 << 30  # characters of its notes, each counted as often as it stands there

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
    if kind is not _Ndarray or shape != (0,):
        raise Refused("it builds an array other than as NumPy does.")
    return np.empty(0, dtype=np.int8)


def _restore_array(data: Any) -> Any:
    """Stands for `pyarrow.lib._restore_array`: an array whose offsets are checked to stay within its buffers."""
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
            raise Refused(f"it asks for {printable(wanted)}, which no table of notes needs.")
        place, _, attribute = (ALLOWED[wanted] or wanted).rpartition(".")
        return getattr(importlib.import_module(place), attribute)

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it refers to objects outside of the file.")


def read_columns(
    file: BinaryIO, name: str, kind: str, known_codes: Sequence[str]
) -> tuple[dict[str, Any], dict[str, np.ndarray], list[str]]:
    """The plain columns of a split's table; `kind` is `pickle`, `parquet`, `csv` or `jsonl`.

    Raises
    ------
    ShifamindError
        No such table, or a damaged one; `Refused` where it asks for more than a table of notes needs.
    """
    readers = {
        "parquet": _parquet_table,
        "csv": csv_table,
        "jsonl": json_lines_table,
        "pickle": _pickled_table,
    }
    table = readers[kind](file, name)
    try:
        columns = plain_columns(table, known_codes, name)
    except AttributeError as error:  # a table that was rebuilt without some of its parts
        if kind != "pickle":
            raise
        raise _not_rebuilt(name, error) from error
    arrays = {"code_values": columns.code_values}
    if columns.labels is not None:
        arrays["labels"] = columns.labels
    return {"code_names": list(columns.code_names)}, arrays, columns.texts


def _pickled_table(file: BinaryIO, name: str) -> Any:
    try:
        return SplitUnpickler(file).load()
    except Refused as error:
        raise Refused(f"{error} Do not open it by other means; write it again from its source.") from error
    except (EOFError, pickle.UnpicklingError) as error:
        raise ShifamindError(f"{name} is no pickle, or was cut off; copy it again.") from error
    except Exception as error:  # pandas and NumPy raise anything at all on a state that another version wrote
        if type(error).__name__ in NO_MEMORY:
            raise
        raise _not_rebuilt(name, error) from error


def _not_rebuilt(name: str, error: Exception) -> ShifamindError:
    return ShifamindError(
        f"{name} cannot be rebuilt under pandas {pd.__version__} ({type(error).__name__}). If another version of pandas wrote it "
        "(2.2 cannot read what 3.x writes), save it there with DataFrame.to_parquet."
    )


def _parquet_table(file: BinaryIO, name: str) -> pd.DataFrame:
    """What of the table a split may consist of: notes, lists of labels, numbers. Other columns are there without their values."""
    try:
        opened = parquet.ParquetFile(file)
        schema = opened.schema_arrow
        twice = next((column for column, count in Counter(schema.names).items() if count > 1), None)
        if twice is not None:
            raise ShifamindError(f"{name} has more than one column named {printable(twice)!r}; keep one.")
        groups = [opened.metadata.row_group(i) for i in range(opened.metadata.num_row_groups)]
        values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
        if 8 * max(values, opened.metadata.num_rows) > LARGEST_VALUES:
            raise ShifamindError(
                f"{name} claims {values:,} values; at most {LARGEST_VALUES // 8:,} are read of a split."
            )
        numbers = [column.name for column in schema if _holds_numbers(column.type)]
        table = opened.read(columns=numbers)
        columns = {column: _placeholder(schema.field(column).type, len(table)) for column in schema.names}
        columns |= {column: table[column].to_pandas() for column in numbers}
        text = next((column for column in TEXTS if column in columns), None)
        if text is not None and _is_text(schema.field(text).type):
            columns[text] = pd.Series(_texts(file, name, text), dtype=object)
        return pd.DataFrame(columns)
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError) as error:
        if type(error).__name__ in NO_MEMORY:
            raise
        raise ShifamindError(f"{name} is no Parquet table, or was cut off; copy it again.") from error


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(
        test(kind)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )


def _holds_numbers(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _placeholder(kind: pa.DataType, rows: int) -> pd.Series:
    return pd.Series([""] * rows if _is_text(kind) else [None] * rows, dtype=object)


def _texts(file: BinaryIO, name: str, text: str) -> list[str | None]:
    """The notes, batch by batch; each repetition in a dictionary is one object, and counted as often as it stands there."""
    found: list[str | None] = []
    total = 0
    for batch in parquet.ParquetFile(file, read_dictionary=[text]).iter_batches(1024, columns=[text]):
        column = batch.column(0)
        dictionary = pa.types.is_dictionary(column.type)
        entries = _decoded(column.dictionary if dictionary else column)
        cells = (
            [None if i is None else entries[i] for i in column.indices.to_pylist()] if dictionary else entries
        )
        for row, cell in enumerate(cells, start=len(found) + 1):
            if isinstance(cell, bytes):
                raise ShifamindError(
                    f"{name}: {text!r} in row {row} is not UTF-8. Write the table again from its source."
                )
            total += len(cell or "")
        if total > LARGEST_TEXT:
            raise ShifamindError(
                f"{name} repeats its notes until they take more than {LARGEST_TEXT >> 20:,} MiB; no split of notes does."
            )
        found += cells
    return found


def _decoded(texts: pa.Array) -> list[Any]:
    """Each text, or its bytes where it is not UTF-8: Arrow's own complaint would quote it."""
    entries: list[Any] = texts.cast(pa.large_binary()).to_pylist()
    for i, entry in enumerate(entries):
        if isinstance(entry, bytes):
            try:
                entries[i] = entry.decode()
            except UnicodeDecodeError:
                continue
    return entries


def _rehearse() -> None:
    """Import what libraries import when first used: here, where a file can be opened, and not in a reader that may open none."""
    for place in {(target or name).rpartition(".")[0] for name, target in ALLOWED.items()}:
        with suppress(ImportError):  # a place of another version of pandas
            importlib.import_module(place)
    pa.array([1]).to_pandas()
    table = pd.DataFrame({"text": ["a note", "another"], "labels": [[0, 1], [1, 0]], "I10": [0, 1]})
    kept = io.BytesIO()
    table.to_parquet(kept)
    read_columns(io.BytesIO(kept.getvalue()), "a split", "parquet", ["I10", "E785"])
    read_columns(io.BytesIO(pickle.dumps(table, protocol=4)), "a split", "pickle", ["I10", "E785"])


_rehearse()
