"""The run file: logits and provenance in one safetensors file, in which nothing can run.

The format is described in `docs/run-format.md`; tools outside this repository read and write it.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from shifamind_core.errors import ShifamindError
from shifamind_core.records import from_json, to_json
from shifamind_core.runs.assemble import (
    ARRAYS,
    assemble,
    checked_codes,
    display_name,
    listed,
    shortened,
    shown,
)
from shifamind_core.runs.atomic import write_atomically
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.mapped import MappedFile
from shifamind_core.runs.run import Run

FORMAT = "shifamind-run/1"

# BF16 has no NumPy dtype and is widened to float32, which holds it exactly.
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2",
}  # fmt: skip


class RunHeader(NamedTuple):
    """What a run file says without its arrays."""

    manifest: Manifest
    codes: tuple[str, ...] | None
    shapes: dict[str, tuple[int, ...]]


def write_run_file(run: Run, path: Path) -> None:
    """Write the run to `path`, whole or not at all, readable by its owner only.

    Raises
    ------
    ShifamindError
        The folder is missing, is not writable, or is full.
    """
    arrays = {part: getattr(run, part) for part in ARRAYS if getattr(run, part) is not None}
    metadata = {"format": FORMAT, "manifest": json.dumps(to_json(run.manifest))}
    if run.codes is not None:
        metadata["codes"] = json.dumps(list(run.codes))
    write_atomically(path, safetensors.numpy.save(arrays, metadata))


def read_run_file(source: Path | bytes, name: str | None = None) -> Run:
    """The run in a file, or in a file's bytes; `name` is for people and defaults to the file's name.

    Foreign writers may leave out codes, manifest and every array but `logits`. Unknown tensors and unknown
    manifest fields are ignored, the former with a note in the manifest.

    Raises
    ------
    ShifamindError
        No run file, another version of the format, or parts that do not fit together.
    """
    name = display_name(name or (source.name if isinstance(source, Path) else "run"))
    content = _read(source, name) if isinstance(source, Path) else source
    tensors = _tensors(name, content)
    manifest, codes, notes = _described(name, _metadata(content))
    known = {part: view for part, view in tensors if part in ARRAYS}
    _require_logits(name, [part for part, _ in tensors])
    notes += _note_unknown([part for part, _ in tensors])
    notes += [
        f"{part} were BF16 and are held as float32, exactly."
        for part in known
        if known[part]["dtype"] == "BF16"
    ]
    arrays = {part: _array(name, part, view) for part, view in known.items()}
    return assemble(name, arrays, codes, manifest, notes)


def is_run_file(path: Path) -> bool:
    """Whether a file says that it is of the run file's format; what else may be wrong with it, reading tells."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, safetensors.SafetensorError):
        return False


def map_run_file(path: Path) -> Run:
    """The run in a file of any size, its arrays mapped from it rather than read: they take no memory of their own.

    A file that is cut short meanwhile is refused before its next block is read (`mapped.refuse_if_cut`).

    Raises
    ------
    ShifamindError
        As `read_run_file`.
    """
    name = display_name(path.name)
    read_run_header(
        path
    )  # the library checks that the header is sound and that all tensors lie within the file
    with path.open("rb") as file:
        content = MappedFile.of(file.fileno(), name)
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    manifest, codes, notes = _described(name, header.pop("__metadata__", {}))
    notes += _note_unknown(list(header))
    arrays = {}
    for part, described in header.items():
        if part in ARRAYS:
            first, last = (begin + at for at in described["data_offsets"])
            view = {**described, "data": memoryview(content)[first:last]}
            arrays[part] = _array(name, part, view)
    return assemble(name, arrays, codes, manifest, notes)


def tensor_names(content: bytes) -> list[str]:
    """The names of the tensors by the header of a safetensors file; none where it cannot be read."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (ValueError, RecursionError):
        return []
    return [part for part in header if part != "__metadata__"] if isinstance(header, dict) else []


def read_tensors(name: str, content: bytes) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """All tensors in the bytes of a safetensors file, whatever their names, and its code names.

    Raises
    ------
    ShifamindError
        As `read_run_file`.
    """
    _, codes, _ = _described(name, _metadata(content))
    arrays = {part: _array(name, part, view) for part, view in _tensors(name, content)}
    return arrays, None if codes is None else list(codes)


def _tensors(name: str, content: bytes) -> list[tuple[str, dict[str, Any]]]:
    try:
        return safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise _not_a_run_file(name, error) from error


def read_run_header(path: Path) -> RunHeader:
    """Manifest, codes and the arrays' shapes of a run file, without reading its arrays.

    Raises
    ------
    ShifamindError
        As `read_run_file`, but for what only the arrays' values show.
    """
    name = display_name(path.name)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            shapes = {part: tuple(file.get_slice(part).get_shape()) for part in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise _unreadable(name, error) from error
    except safetensors.SafetensorError as error:
        raise _not_a_run_file(name, error) from error
    manifest, codes, _ = _described(name, metadata)
    _require_logits(name, list(shapes))
    return RunHeader(manifest, codes, shapes)


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(name, error) from error


def _metadata(content: bytes) -> dict[str, str]:
    """The metadata of a file that the safetensors library has accepted (it hands out tensors only)."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__") or {}


def _described(name: str, metadata: dict[str, str]) -> tuple[Manifest, tuple[str, ...] | None, list[str]]:
    """Manifest, codes and notes from a file's metadata."""
    notes = []
    if "format" not in metadata:
        notes.append(f"The file does not name its format; it was read as {FORMAT}.")
    elif metadata["format"] != FORMAT:
        other = re.fullmatch(r"shifamind-run/[0-9]{1,4}", metadata["format"])
        raise ShifamindError(
            f"{name} is of {f'format {other[0]!r}' if other else 'another format'}; this version reads {FORMAT!r}. "
            "Export it in that format, or update this program."
        )
    codes = _json(name, metadata, "codes")
    if codes is not None:
        if not isinstance(codes, list):
            raise ShifamindError(
                f"{name}: the metadata 'codes' is {shown(codes)}; expected a JSON list of names."
            )
        codes = tuple(checked_codes(name, codes))
    return _manifest(name, _json(name, metadata, "manifest")), codes, notes


def _manifest(name: str, value: Any) -> Manifest:
    if value is None:
        return Manifest()
    try:
        return from_json(Manifest, value, "manifest")
    except ShifamindError as error:
        raise ShifamindError(f"{name}: {shortened(str(error))}") from error
    except (OverflowError, RecursionError) as error:
        raise ShifamindError(
            f"{name}: the manifest holds a value that is too large or nested too deeply."
        ) from error


def _json(name: str, metadata: dict[str, str], key: str) -> Any:
    try:
        return json.loads(metadata[key]) if key in metadata else None
    except (ValueError, RecursionError) as error:
        raise ShifamindError(f"{name}: the metadata {key!r} is no JSON. Export it again.") from error


def _array(name: str, part: str, view: dict[str, Any]) -> np.ndarray:
    if view["dtype"] not in DTYPES:
        raise ShifamindError(
            f"{name}: {part} is of dtype {view['dtype']}, which NumPy cannot hold. Store it as float32."
        )
    array = np.frombuffer(view["data"], DTYPES[view["dtype"]]).reshape(view["shape"])
    if view["dtype"] == "BF16":
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array


def _require_logits(name: str, parts: list[str]) -> None:
    if "logits" not in parts:
        raise ShifamindError(
            f"{name} has no tensor 'logits' (found: {listed(parts) or 'none'}). Store the scores before the "
            "sigmoid, notes × codes, under that name; `python -m shifamind_core capture` prints how."
        )


def _note_unknown(parts: list[str]) -> list[str]:
    unknown = [part for part in parts if part not in ARRAYS]
    return [f"Ignored tensors of other names: {listed(unknown)}."] if unknown else []


def _unreadable(name: str, error: OSError) -> ShifamindError:
    return ShifamindError(f"{name} cannot be read: {error.strerror or error}.")


def _not_a_run_file(name: str, error: Exception) -> ShifamindError:
    return ShifamindError(
        f"{name} is no run file: as safetensors it is empty, cut off or damaged. Export or copy it again."
    )
