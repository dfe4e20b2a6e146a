"""Foreign files as runs, whatever their format: what a limited child does with an upload or a command-line argument.

Nothing here may open a file or import a module when it is called: a child can do neither (`artifacts._limited`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.records import to_json
from shifamind_core.runs.assemble import ARRAYS, assemble, floats, listed
from shifamind_core.runs.column_roles import sort_out
from shifamind_core.runs.file_kind import require_kind
from shifamind_core.runs.json_lines import read_json_lines
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.nested import ALIASES, ARRAY_NAMES, SCORES, Arrays, untangle
from shifamind_core.runs.numpy_files import read_npy, read_npz
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file, read_tensors, tensor_names
from shifamind_core.runs.score_scale import READ_SCORES
from shifamind_core.runs.tables import Table, document_ids_of, narrowed, read_csv, read_parquet
from shifamind_core.runs.torch_files import read_torch

SCORE_PARTS = ("logits", "probabilities", "percentages", "scores")  # the first that a file holds is read


@dataclass(frozen=True)
class Contents:
    """What a file holds: arrays by name (`scores` came without one), code names, what else it holds, remarks.

    `codes_of` is the number of codes that the file speaks of, where only some of them have scores.
    """

    arrays: Mapping[str, np.ndarray]
    codes: list[str] | None = None
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    codes_of: int | None = None


def read_foreign(name: str, content: bytes) -> Run:
    """The run in the bytes of a file of any format; its extension, in either case, says which.

    Where an array has a name, the name is believed: `logits` stay as they are even if they look like
    probabilities (a diagnosis says so, not a guess), and `probabilities` are turned back into logits. Where
    it has none (`.csv`, `.parquet`, `.npy`, a bare tensor), values that all lie in [0, 1] are taken as
    probabilities, and percentages as percentages. The manifest's notes say so in both cases.

    Raises
    ------
    ShifamindError
        What is wrong with the file and what to do, in one line.
    """
    extension = extension_of(name)
    require_kind(name, extension, content)
    if extension == ".safetensors":
        return _safetensors(name, content)
    return _run(name, READERS[extension](name, content))


def convert(file: BinaryIO, name: str) -> tuple[Any, dict[str, np.ndarray], list[str]]:
    """In the child: `read_foreign`, in parts."""
    run = read_foreign(name, file.read())
    arrays = {part: getattr(run, part) for part in ARRAYS if getattr(run, part) is not None}
    codes = None if run.codes is None else list(run.codes)
    return {"codes": codes, "manifest": to_json(run.manifest)}, arrays, []


def _safetensors(name: str, content: bytes) -> Run:
    """A run file; or one whose tensors have other programs' names, which are read as in the other formats."""
    parts = tensor_names(content)
    if "logits" in parts or not any(ALIASES.get(part, part) in SCORES for part in parts):
        return read_run_file(content, name)
    arrays, codes = read_tensors(name, content)
    return _run(name, _of_arrays(untangle(name, arrays), codes, [], name))


def _npy(name: str, content: bytes) -> Contents:
    return _of_arrays(untangle(name, read_npy(name, content)), None, [], name)


def _npz(name: str, content: bytes) -> Contents:
    known = {*ARRAY_NAMES, *ALIASES, "codes"}
    arrays, others = read_npz(name, content, known, {key for key in known if ALIASES.get(key, key) in SCORES})
    codes = _texts(name, "codes", arrays.pop("codes")) if "codes" in arrays else None
    return _of_arrays(untangle(name, arrays), codes, others, name)


def _pt(name: str, content: bytes) -> Contents:
    nested, codes, others = read_torch(name, content)
    return _of_arrays(untangle(name, nested), codes, others, name)


def _jsonl(name: str, content: bytes) -> Contents:
    lines = read_json_lines(name, content)
    arrays = _of_arrays(untangle(name, lines.arrays), lines.codes, lines.others, name)
    if lines.columns:
        table = _of_table(name, Table(lines.columns, arrays.arrays.get("document_ids"), []))
        arrays = replace(table, others=arrays.others, notes=[*arrays.notes, *table.notes])
    return _narrowed(arrays)


def _of_arrays(found: Arrays, codes: list[str] | None, others: list[str], name: str) -> Contents:
    arrays, notes = dict(found.arrays), list(found.notes)
    ids = arrays.get("document_ids")
    if ids is not None and ids.dtype.kind in "SU":
        arrays["document_ids"], made = document_ids_of(name, _texts(name, "document_ids", ids))
        notes += made
    return Contents(arrays, codes or found.codes, [*others, *found.others], notes)


def _csv(name: str, content: bytes) -> Contents:
    return _narrowed(_of_table(name, read_csv(name, content)))


def _narrowed(contents: Contents) -> Contents:
    """Scores from a text, which does not say their dtype."""
    arrays = {
        part: narrowed(array) if array.dtype == np.float64 and part != "labels" else array
        for part, array in contents.arrays.items()
    }
    return replace(contents, arrays=arrays)


def _parquet(name: str, content: bytes) -> Contents:
    return _of_table(name, read_parquet(name, content))


def _of_table(name: str, table: Table) -> Contents:
    ids = {} if table.document_ids is None else {"document_ids": table.document_ids}
    found = sort_out(name, table.columns)
    return Contents(
        found.arrays | ids, found.codes, notes=[*table.notes, *found.notes], codes_of=found.codes_of
    )


READERS: dict[str, Callable[[str, bytes], Contents]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".csv": _csv,
    ".parquet": _parquet,
    ".pt": _pt,
    ".jsonl": _jsonl,
}
EXTENSIONS = (".safetensors", *READERS)
"""The formats that are read."""


def extension_of(name: str) -> str:
    """The extension of a file's name, in lower case.

    Raises
    ------
    ShifamindError
        One that no format of runs has.
    """
    extension = Path(name).suffix.lower()
    if extension not in EXTENSIONS:
        raise ShifamindError(f"{name}: {_not_a_format(extension)}")
    return extension


def _not_a_format(extension: str) -> str:
    if extension in (".pkl", ".pickle", ".joblib"):
        return "pickles can run code and are never uploaded. Save arrays with numpy.savez, or a run file."
    return f"{extension or 'a name without extension'} is no format of runs; take {', '.join(EXTENSIONS)}."


def _texts(name: str, part: str, array: np.ndarray) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "SU":
        raise ShifamindError(
            f"{name}: {part} are {array.dtype} of shape {array.shape}; expected a list of texts."
        )
    try:
        return _decoded(array)
    except UnicodeError as error:
        raise ShifamindError(f"{name}: {part} are no valid text. Save them again as UTF-8.") from error


def _decoded(array: np.ndarray) -> list[str]:
    """Texts, decoded by Python: NumPy takes code points that do not exist, and fails on looking at them."""
    if array.dtype.kind == "S":
        return [value.decode() for value in array.tolist()]
    content, size = array.astype(array.dtype.newbyteorder("<")).tobytes(), array.dtype.itemsize
    places = range(0, len(content), size)
    return [content[place : place + size].decode("utf-32-le").rstrip("\0") for place in places]


def _run(name: str, contents: Contents) -> Run:
    arrays = dict(contents.arrays)
    notes = [*contents.notes, *([f"Ignored: {listed(contents.others)}."] if contents.others else [])]
    given = next((part for part in SCORE_PARTS if part in arrays), None)
    if given is None:
        raise ShifamindError(
            f"{name} has no array 'logits' or 'probabilities' (found: "
            f"{listed([*arrays, *contents.others]) or 'none'}). Save one of them, notes × codes, under that name."
        )
    scores = arrays.pop(given)
    ignored = [part for part in SCORE_PARTS if arrays.pop(part, None) is not None]
    notes += [f"Its {part} were ignored, since it holds {given}." for part in ignored]
    if given == "logits":
        arrays["logits"], turned = scores, []
    else:
        arrays["logits"], turned = READ_SCORES[given](name, floats(name, given, scores))
    manifest = Manifest(logits_from_probabilities=True if turned else None, codes_of=contents.codes_of)
    return assemble(name, arrays, contents.codes, manifest, [*notes, *turned])
