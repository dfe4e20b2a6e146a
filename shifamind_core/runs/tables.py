"""Foreign `.csv` and `.parquet` tables: one column a code, one row a note, optionally a column `document_id`."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.assemble import checked_codes, listed, shortened, shown, whole_ids
from shifamind_core.runs.limits import require_size

ID_COLUMNS = ("document_id", "document_ids")
INDEX_COLUMNS = ("", "Unnamed: 0", "__index_level_0__")  # what pandas writes if not told index=False
NOTE_COLUMNS = ("text", "texts", "note", "notes", "note_text", "content", "summary", "discharge_summary")
NOT_CODES = (
    *NOTE_COLUMNS, "label", "labels", "subject_id", "hadm_id", "stay_id", "icustay_id", "note_id", "row_id", "index",
    "id", "split", "note_type", "note_seq", "category", "description", "chartdate", "charttime", "storetime",
)  # fmt: skip
LONGEST_ID = 1000
MOST_COLUMNS = 100_000  # all of ICD-10-CM and more
BLOCK_VALUES = 1 << 20  # looked at at once, so that a large table is not held many times over
BLOCK_BYTES = 8 << 20  # a row of a CSV file must fit into one block


@dataclass(frozen=True)
class Table:
    """A table's columns of numbers by name, each [documents], and its document ids."""

    columns: dict[str, np.ndarray]
    document_ids: np.ndarray | None
    notes: list[str]


@dataclass(frozen=True)
class Columns:
    """What each column of a table is."""

    codes: list[str]
    document_id: str | None
    index: str | None


def read_csv(name: str, content: bytes) -> Table:
    """The table in the bytes of a CSV file: UTF-8, commas, decimal points, one header row.

    Raises
    ------
    ShifamindError
        Another encoding or separator, missing or non-numeric cells, rows of unequal length, nameless or
        repeated columns.
    """
    notes = []
    if re.search(rb"\r(?!\n)", content):
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        notes = ["Carriage returns alone were read as ends of lines."]
    _require_utf8(name, content)
    header = _csv_header(name, content)
    columns = _columns(name, header)
    require_size(name, len(content), content.count(b"\n") * len(header) * 8)
    types = {column: pa.string() if column == columns.document_id else pa.float64() for column in header}
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(content),
            read_options=arrow_csv.ReadOptions(column_names=header, skip_rows=1, block_size=BLOCK_BYTES),
            # Nothing stands for a missing value: an empty cell is an error, and NaN is a NaN.
            convert_options=arrow_csv.ConvertOptions(
                column_types=types,
                null_values=[],
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise _bad_csv(name, content, header, columns) from error
    return _table(name, table, columns, notes)


def read_parquet(name: str, content: bytes) -> Table:
    """The table in the bytes of a Parquet file.

    Raises
    ------
    ShifamindError
        No such file, missing cells, columns that are no floating-point numbers.
    """
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        columns = _columns(name, file.schema_arrow.names)
        require_size(name, len(content), file.metadata.num_rows * len(file.schema_arrow.names) * 8)
        _require_types(name, file.schema_arrow, columns)
        # Text ids stay dictionaries while read: a thousand bytes may stand for gigabytes of repetitions.
        repeated = None if columns.document_id is None else [columns.document_id]
        table = parquet.ParquetFile(io.BytesIO(content), read_dictionary=repeated).read()
        found = _table(name, table, columns, [])  # texts are decoded here
        return (
            found if found.document_ids is not None else replace(found, document_ids=_range_ids(name, table))
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ShifamindError(f"{name} is no sound Parquet file. Export or copy it again.") from error


def document_ids_of(name: str, values: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Document ids from text, and a note where they were made here.

    Whole numbers are ids as they stand; 16 or 64 hexadecimal digits are a SHA-256 or its beginning; any other
    text becomes an id by its own SHA-256, so that equal texts still meet. Blanks around an id are no part of it.

    >>> document_ids_of("a.csv", ["-1", "7"])[0].tolist()
    [-1, 7]
    >>> document_ids_of("a.csv", ["ffffffffffffffff"])[0].tolist()
    [-1]
    """
    values = [value.strip() for value in values]
    missing = sum(not value for value in values)
    if missing:
        raise ShifamindError(
            f"{name}: {missing:,} of {len(values):,} document ids are missing. Fill the column or drop it."
        )
    if all(re.fullmatch(r"-?[0-9]{1,15}(\.0+)?", value) for value in values):
        values = [value.split(".")[0] for value in values]  # integers that went through floats
    if all(re.fullmatch(r"-?[0-9]{1,19}", value) and -(2**63) <= int(value) < 2**63 for value in values):
        return np.array([int(value) for value in values], np.int64), []
    if all(re.fullmatch(r"[0-9a-fA-F]{16}|[0-9a-fA-F]{64}", value) for value in values):
        return np.array([int(value[:16], 16) for value in values], np.uint64).astype(np.int64), []
    note = "The document ids are neither integers nor hexadecimal digests; the SHA-256 of each stands in."
    return np.array([text_digest(value.encode()) for value in values], np.int64), [note]


def narrowed(values: np.ndarray) -> np.ndarray:
    """Float64 values as float32 where they came from float32; a decimal text does not say its dtype.

    So they did if each is a float32 exactly, or has at most the nine significant digits that the shortest text
    of a float32 needs (then the nearest float32 is the one that was written).

    >>> narrowed(np.array([0.1, 2.5])).dtype, narrowed(np.array([1 / 3])).dtype
    (dtype('float32'), dtype('float64'))
    """
    flat = values.reshape(-1)
    blocks = (flat[start : start + BLOCK_VALUES] for start in range(0, len(flat), BLOCK_VALUES))
    if not all(_came_from_float32(block) for block in blocks):
        return values
    return values.astype(np.float32)


def _came_from_float32(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if (np.isinf(single) & np.isfinite(values)).any():
        return False
    rest = values[(single != values) & np.isfinite(values)]
    digits = 8 - np.floor(np.log10(np.abs(rest))).clip(-290, 290)
    scaled = rest * 10.0**digits
    return bool((np.abs(scaled - np.rint(scaled)) < 1e-5).all())


def _require_utf8(name: str, content: bytes) -> None:
    """Block by block: the text as a whole is never held beside its bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = held = 0
    try:
        for start in range(0, len(content), BLOCK_BYTES):
            held = len(decoder.getstate()[0])
            decoder.decode(content[start : start + BLOCK_BYTES])
        start, held = len(content), len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        like = ", but looks like UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ShifamindError(
            f"{name} is not UTF-8 text (byte {start - held + error.start:,}){like}. Export it as CSV in UTF-8 encoding."
        ) from error


def _csv_header(name: str, content: bytes) -> list[str]:
    text = content[:BLOCK_BYTES].decode(
        "utf-8-sig", errors="ignore"
    )  # it is UTF-8, but for a letter cut in two
    try:
        header = next(csv.reader(io.StringIO(text)), [])
    except csv.Error as error:
        raise ShifamindError(
            f"{name} has no header row that can be read: a quotation mark is not closed, or a field is too long. "
            "Export it as CSV again."
        ) from error
    if len(header) == 1 and re.search(r"[;\t|]", header[0]):
        raise ShifamindError(
            f"{name} does not separate its columns by commas. Export it with commas and decimal points."
        )
    return [column.strip() for column in header]


def _columns(name: str, header: list[str]) -> Columns:
    if len(header) > MOST_COLUMNS:
        raise ShifamindError(f"{name} has {len(header):,} columns; at most {MOST_COLUMNS:,} are read.")
    if len(set(header)) < len(header):
        twice = Counter(header).most_common(1)[0][0]
        raise ShifamindError(f"{name} has two columns named {shown(twice)}. Each code has one column.")
    ids = [column for column in header if column.lower() in ID_COLUMNS]
    index = [column for column in header if column in INDEX_COLUMNS]
    codes = [column for column in header if column not in (*ids, *index)]
    if not codes or len(ids) > 1 or len(index) > 1:
        raise ShifamindError(
            f"{name} has no header row with one column a code, and perhaps 'document_id' (found: "
            f"{listed(header) or 'nothing'})."
        )
    for code in codes:
        if code.lower() in NOT_CODES:
            notes = " A file of notes is no run: it is scored with `predict`." * (
                code.lower() in NOTE_COLUMNS
            )
            raise ShifamindError(
                f"{name}: the column {shown(code)} is no code. Keep one column a code, and perhaps 'document_id'.{notes}"
            )
    if all(re.fullmatch(r"-?[0-9]*\.?[0-9]+(e[-+]?[0-9]+)?", code, re.I) for code in codes) and any(
        re.search(r"^-|\.[0-9]{3}|e", code, re.I) for code in codes
    ):
        raise ShifamindError(f"{name} has numbers for a header. Its first row must name the codes.")
    return Columns(checked_codes(name, codes), ids[0] if ids else None, index[0] if index else None)


def _require_types(name: str, schema: pa.Schema, columns: Columns) -> None:
    """Refuse columns of other types than are wanted before any of them is read."""
    kinds = {code: schema.field(code).type for code in columns.codes}
    floating = any(pa.types.is_floating(kind) for kind in kinds.values())
    for code, kind in kinds.items():
        whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)  # labels, perhaps, beside scores
        if not pa.types.is_floating(kind) and not (whole and floating):
            raise _not_scores(name, code, kind)
    if columns.document_id is not None:
        kind = schema.field(columns.document_id).type
        text = kind.value_type if pa.types.is_dictionary(kind) else kind
        numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (numbers or pa.types.is_string(text) or pa.types.is_large_string(text)):
            raise ShifamindError(
                f"{name}: document_id holds {shortened(str(kind), 60)}; expected integers or text."
            )
    if columns.index is not None and not pa.types.is_integer(schema.field(columns.index).type):
        raise _nameless(name)


def _range_ids(name: str, table: pa.Table) -> np.ndarray | None:
    """The ids in an index that counts, of which pandas writes beginning and step beside the table instead of a column."""
    try:
        indices = (table.schema.pandas_metadata or {}).get("index_columns", [])
        index = next(one for one in indices if isinstance(one, dict) and one.get("kind") == "range")
        numbers = range(*(int(index[part]) for part in ("start", "stop", "step")))
    except (StopIteration, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None  # none, or nothing that pandas writes
    if len(numbers) != table.num_rows:
        return None
    if str(index.get("name")).lower() in ID_COLUMNS:
        try:
            return np.array(numbers, np.int64)
        except OverflowError:
            return None
    if numbers != range(table.num_rows):
        raise ShifamindError(
            f"{name} has an index that does not number the rows from 0. If it holds the notes' ids, name it 'document_id' "
            "(df.index.name); else export it with index=False."
        )
    return None


def _not_scores(name: str, code: str, kind: pa.DataType) -> ShifamindError:
    return ShifamindError(
        f"{name}: the column {shown(code)} holds {shortened(str(kind), 60)}; expected floating-point scores."
    )


def _table(name: str, table: pa.Table, columns: Columns, notes: list[str]) -> Table:
    if not table.num_rows:
        raise ShifamindError(f"{name} has a header but no rows. Upload a table with one row a note.")
    if columns.index is not None:
        _require_row_numbers(name, table[columns.index])
        notes.append("The first column, which numbers the rows, was ignored.")
    document_ids = None
    if columns.document_id is not None:
        document_ids, made = _document_ids(name, table[columns.document_id])
        notes += made
    return Table({code: _numbers(name, code, table[code]) for code in columns.codes}, document_ids, notes)


def _numbers(name: str, code: str, column: pa.ChunkedArray) -> np.ndarray:
    if column.null_count:
        raise ShifamindError(
            f"{name}: {column.null_count:,} cells of column {shown(code)} are missing. Every note needs a score."
        )
    values = column.to_numpy()
    if values.dtype.kind in "biu" and not np.isin(values, (0, 1)).all():
        raise _not_scores(name, code, column.type)
    return values.astype(np.uint8) if values.dtype.kind in "biu" else values


def _require_row_numbers(name: str, column: pa.ChunkedArray) -> None:
    if column.null_count or not np.array_equal(column.to_numpy(), np.arange(len(column))):
        raise _nameless(name)


def _nameless(name: str) -> ShifamindError:
    return ShifamindError(
        f"{name} has a column without a name, which does not number the rows. If it holds the notes' ids, name it 'document_id'; if "
        "codes, the table lies on its side: write one row a note and one column a code (df.T); else export it with index=False."
    )


def _document_ids(name: str, column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    if pa.types.is_integer(column.type) and not column.null_count:
        return column.to_numpy().astype(np.int64), []
    if pa.types.is_floating(column.type):
        return whole_ids(name, column.to_numpy()), []
    for chunk in column.chunks if pa.types.is_dictionary(column.type) else []:
        if any(len(text or "") > LONGEST_ID for text in chunk.dictionary.to_pylist()):
            raise ShifamindError(
                f"{name}: a document id is longer than {LONGEST_ID:,} characters. Use its digest."
            )
    return document_ids_of(name, ["" if value is None else str(value) for value in column.to_pylist()])


def _bad_csv(name: str, content: bytes, header: list[str], columns: Columns) -> ShifamindError:
    """Where the first bad cell is. Arrow reads blocks in parallel and names a column at most."""
    try:
        lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        for number, row in enumerate(csv.reader(lines)):
            if number and row and len(row) != len(header):
                return ShifamindError(
                    f"{name}: row {number:,} has {len(row):,} cells, the header {len(header):,}. A line "
                    "above the header, decimal commas or unquoted text may be why."
                )
            for column, cell in zip(header, row, strict=False):
                if number and column == columns.index and not _is_number(cell):
                    return _nameless(name)
                if number and column != columns.document_id and not _is_number(cell):
                    what = f"is {_kind(cell)}"
                    return ShifamindError(
                        f"{name}: row {number:,}, column {shown(column)} {what}. Every note needs a score for every "
                        "code, with a decimal point and without thousands separators."
                    )
    except csv.Error:
        pass
    return ShifamindError(f"{name} is no sound CSV file. Export it again.")


def _kind(cell: str) -> str:
    """What a cell that is no number is, never what it says: it may be the text of a note.

    >>> [_kind(cell) for cell in ("", "0,5", "1,234.5", "12 %", "#NUM!", "n/a", "chest pain")]
    ['empty', 'a number with commas', 'a number with commas', 'a percentage', 'an error of a spreadsheet', 'a word for a missing value', 'text, no number']
    """
    cell = cell.strip()
    kinds = (
        ("empty", r""),
        ("a number with commas", r"[-+0-9.,']*[0-9],[0-9][-+0-9.,'eE]*"),
        ("a percentage", r"[-+0-9.,]+ ?%"),
        ("a truth value", r"(?i)true|false|yes|no"),
        ("an error of a spreadsheet", r"#[A-Z0-9/!?]{1,10}"),
        ("a word for a missing value", r"(?i)n/?a|null|none|nil|missing|-+|\\?\\n"),
    )
    return next((kind for kind, pattern in kinds if re.fullmatch(pattern, cell)), "text, no number")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
