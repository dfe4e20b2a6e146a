"""Foreign files in, checked runs out: every format that an upload or a command-line argument may have."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.runs import tables
from shifamind_core.runs.assemble import ARRAYS, assemble, display_name, floats, listed, shortened, shown
from shifamind_core.runs.file_kind import require_kind
from shifamind_core.runs.limits import LARGEST_ARRAYS
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.numpy_files import read_npy, read_npz
from shifamind_core.runs.probability import logits_of
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file
from shifamind_core.runs.torch_files import read_torch

ARRAY_NAMES = (*ARRAYS, "probabilities")


@dataclass(frozen=True)
class Contents:
    """What a file holds: arrays by name (`scores` came without one), code names, what else it holds, remarks."""

    arrays: Mapping[str, np.ndarray]
    codes: list[str] | None = None
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_upload(name: str, data: bytes | Path) -> Run:
    """The run in a file of any format; its extension, in either case, says which.

    Where an array has a name, the name is believed: `logits` stay as they are even if they look like
    probabilities (a diagnosis says so, not a guess), and `probabilities` are turned back into logits. Where
    it has none (`.csv`, `.parquet`, `.npy`, a bare tensor), values that all lie in [0, 1] are taken as
    probabilities. The manifest's notes say so in both cases.

    Parameters
    ----------
    name : str
        The file's name, for its extension and for people.
    data : bytes or Path
        Its content, or where it lies.

    Raises
    ------
    ShifamindError
        What is wrong with the file and what to do, in one line.
    """
    name = display_name(name)
    extension = Path(name).suffix.lower()
    if extension not in EXTENSIONS:
        raise ShifamindError(f"{name}: {_not_a_format(extension)}")
    content = _content(name, data, None if extension == ".safetensors" else LARGEST_ARRAYS)
    require_kind(name, extension, content)
    if extension == ".safetensors":
        return read_run_file(content, name)
    return _run(name, READERS[extension](name, content))


def _content(name: str, data: bytes | Path, largest: int | None) -> bytes:
    try:
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if largest is not None and size > largest:
            raise ShifamindError(f"{name} is larger than {largest >> 30} GiB. Save it as .safetensors.")
        content = data.read_bytes() if isinstance(data, Path) else data
    except OSError as error:
        raise ShifamindError(f"{name} cannot be read: {error.strerror}.") from error
    if not content:
        raise ShifamindError(f"{name} is empty (0 bytes). Export or copy it again.")
    return content


def _npy(name: str, content: bytes) -> Contents:
    return Contents({"scores": read_npy(name, content)})


def _npz(name: str, content: bytes) -> Contents:
    arrays, others = read_npz(name, content, (*ARRAY_NAMES, "codes"))
    codes = _texts(name, "codes", arrays.pop("codes")) if "codes" in arrays else None
    notes = []
    if "document_ids" in arrays and arrays["document_ids"].dtype.kind in "SU":
        texts = _texts(name, "document_ids", arrays["document_ids"])
        arrays["document_ids"], notes = tables.document_ids_of(name, texts)
    return Contents(arrays, codes, others, notes)


def _csv(name: str, content: bytes) -> Contents:
    return _of_table(tables.read_csv(name, content))


def _parquet(name: str, content: bytes) -> Contents:
    return _of_table(tables.read_parquet(name, content))


def _of_table(table: tables.Table) -> Contents:
    ids = {} if table.document_ids is None else {"document_ids": table.document_ids}
    return Contents({"scores": table.scores} | ids, table.codes, notes=table.notes)


def _pt(name: str, content: bytes) -> Contents:
    with tempfile.NamedTemporaryFile(prefix="shifamind-", suffix=".pt") as file:  # mode 0600
        file.write(content)
        file.flush()
        arrays, codes, others = read_torch(name, Path(file.name), ARRAY_NAMES)
    if codes is not None and not isinstance(codes, list):
        raise ShifamindError(f"{name}: codes are {shown(codes)}; expected a list of names.")
    return Contents(arrays, codes, others)


READERS: dict[str, Callable[[str, bytes], Contents]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".csv": _csv,
    ".parquet": _parquet,
    ".pt": _pt,
}
EXTENSIONS = (".safetensors", *READERS)
"""The formats that `read_upload` takes."""


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
        raise ShifamindError(f"{name}: {part} are no valid text ({shortened(str(error), 100)}).") from error


def _decoded(array: np.ndarray) -> list[str]:
    """Texts, decoded by Python: NumPy takes code points that do not exist, and fails on looking at them."""
    if array.dtype.kind == "S":
        return [value.decode() for value in array.tolist()]
    content, size = array.astype(array.dtype.newbyteorder("<")).tobytes(), array.dtype.itemsize
    places = range(0, len(content), size)
    return [content[place : place + size].decode("utf-32-le").rstrip("\0") for place in places]


def _run(name: str, contents: Contents) -> Run:
    arrays = dict(contents.arrays)
    scores, probabilities = arrays.pop("scores", None), arrays.pop("probabilities", None)
    notes = [*contents.notes, *([f"Ignored: {listed(contents.others)}."] if contents.others else [])]
    turned = None
    if "logits" in arrays:
        notes += (
            ["Its probabilities were ignored, since it holds logits."] if probabilities is not None else []
        )
    elif probabilities is not None:
        arrays["logits"], turned = _from_probabilities(name, probabilities)
    elif scores is not None and _in_unit_interval(name, scores):
        arrays["logits"], turned = _from_probabilities(name, scores)
        notes.append(
            "No name says what the scores are; all lie in [0, 1], so they were taken as probabilities."
        )
    elif scores is not None:
        arrays["logits"] = scores
    else:
        raise ShifamindError(
            f"{name} has no array 'logits' or 'probabilities' (found: "
            f"{listed([*arrays, *contents.others]) or 'none'}). Save one of them, notes × codes, under that name."
        )
    manifest = Manifest(logits_from_probabilities=True if turned else None)
    return assemble(name, arrays, contents.codes, manifest, [*notes, *([turned] if turned else [])])


def _in_unit_interval(name: str, scores: np.ndarray) -> bool:
    """Whether scores without a name are probabilities: every finite one in [0, 1].

    Raises
    ------
    ShifamindError
        All are exactly 0 or 1: labels or decisions, from which no score can be had.
    """
    finite = scores[np.isfinite(floats(name, "scores", scores))]
    if finite.size and ((finite == 0) | (finite == 1)).all():
        raise ShifamindError(
            f"{name} holds nothing but 0 and 1: labels or decisions. Upload the scores before thresholding."
        )
    return bool(finite.size and (finite >= 0).all() and (finite <= 1).all())


def _from_probabilities(name: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    values = floats(name, "probabilities", values)
    outside = (values < 0) | (values > 1)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise ShifamindError(
            f"{name}: {int(outside.sum()):,} of {values.size:,} probabilities lie outside [0, 1], the first at note "
            f"{row}, code {column}: {values[row, column]:.4g}. Scores before the sigmoid belong under 'logits'."
        )
    return logits_of(values)
