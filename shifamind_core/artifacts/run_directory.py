"""A run directory: the seed's layout and the richer one of the public scripts. Every optional file may be absent.

run_20260102_203225/
  checkpoints/phase1/phase1_best.pt
  shared_data/top50_icd10_info.json  {train,val,test}_split.pkl or .parquet
              concept_embeddings.npy  concept_list.json
  base_model/                        optional: config.json and vocab.txt
  references/                        optional: runs to compare with
  results/                           optional: what was measured elsewhere: ladder*.json, replay*.json

Or what Hugging Face's `save_pretrained` writes, at the root or in `model/`, with the splits beside it:

my_classifier/
  config.json  model.safetensors  tokenizer.json
  {train,val,test}.csv, .parquet, .jsonl or .pkl
"""

import io
import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, Literal

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic

from shifamind_core.artifacts.base_model import find_base_model
from shifamind_core.artifacts.classifier_folder import (
    find_classifier,
    label_names,
    problem_type,
    weights_file,
)
from shifamind_core.artifacts.json_file import read_json, read_json_object
from shifamind_core.artifacts.regular_file import read_regular, stays_within
from shifamind_core.artifacts.splits import Split, read_split
from shifamind_core.errors import ShifamindError

CHECKPOINT = Path("checkpoints", "phase1", "phase1_best.pt")
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
SPLITS = ("train", "val", "test")
LARGEST_EMBEDDINGS = 256 << 20
# What NumPy raises on the header of a damaged .npy file.
UNSOUND_NPY = (
    ValueError,
    KeyError,
    TypeError,
    SyntaxError,
    TokenError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
)
ALSO = {"val": ("validation", "valid", "dev")}  # what a split is called elsewhere
TABLES = (".parquet", ".jsonl", ".csv", ".pkl", ".pickle")  # those that need no trust first
RUN_SUFFIXES = (".safetensors", ".npz", ".npy", ".csv", ".parquet", ".pt", ".jsonl")


@dataclass(frozen=True)
class CodeInfo:
    """`top50_icd10_info.json`: the codes in order, and in how many admissions each occurs (where known)."""

    codes: tuple[str, ...]
    counts: dict[str, int]
    valid_admissions: int | None = None
    timestamp: str | None = None


class RunDirectory:
    """Finds the files of a run; reads those that need no torch.

    Parameters
    ----------
    path : Path
        The run's folder; also its checkpoint file, or a folder with exactly one `run_*` inside.

    Attributes
    ----------
    path : Path
        The run's folder, absolute.
    remarks : tuple of str
        What was assumed about `path`, for people.

    Raises
    ------
    ShifamindError
        No such folder, or one that holds no run.
    """

    def __init__(self, path: Path | str) -> None:
        given = Path(path).expanduser()
        try:
            given = given.resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise ShifamindError(
                f"{path} does not exist; give the folder of a run, e.g. run_20260102_203225."
            ) from error
        self._checkpoint: Path | None = None
        self.remarks: tuple[str, ...] = ()
        self.path = self._of_file(given) if given.is_file() else self._of_folder(given)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    def _of_file(self, file: Path) -> Path:
        if file.suffix.lower() not in CHECKPOINTS:
            raise ShifamindError(
                f"{file} is no checkpoint ({', '.join(CHECKPOINTS)}); give the folder of a run, or its checkpoint."
            )
        self._checkpoint = file
        holders = ("checkpoints", "model")
        around = next((parent.parent for parent in file.parents if parent.name in holders), file.parent)
        self.remarks = (f"{file.name} was given; {around.name} is taken as its run directory.",)
        return around

    def _of_folder(self, folder: Path) -> Path:
        if _is_run(folder):
            return folder
        runs = sorted(
            child for child in _children(folder) if child.name.startswith("run_") and _is_run(child)
        )
        if len(runs) == 1:
            self.remarks = (f"{folder.name} holds one run, {runs[0].name}, which is taken.",)
            return runs[0]
        if runs:
            raise ShifamindError(f"{folder} holds {len(runs)} runs ({_names(runs)}); give one of them.")
        raise ShifamindError(
            f"{folder} is no run directory: it has neither checkpoints/ nor shared_data/ nor a .pt file, nor config.json with weights; it holds {_names(_children(folder))}."
        )

    @cached_property
    def checkpoint(self) -> Path:
        """The checkpoint's path: `checkpoints/phase1/phase1_best.pt`, the weights beside a classifier's `config.json`, or the only
        checkpoint there is.

        Raises
        ------
        ShifamindError
            None, or several of which none has that name.
        """
        if self._checkpoint is not None:
            return self._checkpoint
        if (self.path / CHECKPOINT).is_file():
            return self.path / CHECKPOINT
        if self._classifier is not None and (weights := weights_file(self._classifier)) is not None:
            return weights
        found = sorted(
            file
            for pattern, suffixes in (
                ("checkpoints/**/*", CHECKPOINTS),
                ("model/*", CHECKPOINTS),
                ("*", CHECKPOINTS[:3]),
            )
            for file in self.path.glob(pattern)
            if file.suffix.lower() in suffixes and file.is_file()
        )
        best = [file for file in found if file.name == CHECKPOINT.name]
        if len(best) == 1 or len(found) == 1:
            return (best if len(best) == 1 else found)[0]
        if not found:
            raise ShifamindError(
                f"{self.name} has no checkpoint: {CHECKPOINT} is missing in {self.path}. Copy it there."
            )
        raise ShifamindError(
            f"{self.name} has {len(found)} checkpoints ({_names(found)}); give the path of one of them."
        )

    def split_path(self, name: str) -> Path:
        """The file of the split `train`, `val` or `test`: Parquet, where both are there (it needs no trust), or a pickle.

        Raises
        ------
        ShifamindError
            No such split, or no such file.
        """
        if name not in SPLITS:
            raise ShifamindError(f"{name!r} is no split; expected {', '.join(SPLITS)}.")
        path = self._split_file(name)
        if path is None:
            wanted = f"shared_data/{name}_split.pkl (or .parquet)"
            if self._classifier is not None:
                wanted = f"{name}.csv (or {', '.join(ending for ending in TABLES[:-1] if ending != '.csv')})"
            raise ShifamindError(
                f"{self.name} has no {name} split: {wanted} is missing in {self.path}. Copy it there."
            )
        return path

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that are there."""
        return tuple(name for name in SPLITS if self._split_file(name))

    def read_split(self, name: str) -> Split:
        """The split's notes and labels; opened by a limited child (`splits.read_split`)."""
        info = self.code_info
        codes = info.codes if info else self.label_names or ()
        return read_split(self.split_path(name), name, codes)

    @cached_property
    def _classifier(self) -> Path | None:
        return find_classifier(self.path)

    @property
    def is_classifier(self) -> bool:
        """Whether this is what `save_pretrained` writes, and not the layout of the public scripts."""
        return self._classifier is not None

    @property
    def states_multi_label(self) -> bool:
        """Whether a classifier's `config.json` says what its logits are for."""
        return self._classifier is not None and problem_type(self._classifier) is not None

    @cached_property
    def label_names(self) -> tuple[str, ...] | None:
        """The codes as a classifier's `config.json` names them; `None` without it."""
        return None if self._classifier is None else label_names(self._classifier)

    @cached_property
    def code_info(self) -> CodeInfo | None:
        """The codes as the JSON file names them; `None` without the file."""
        path = self._shared("top50_icd10_info.json")
        return None if path is None else _read_code_info(path)

    @cached_property
    def concept_names(self) -> tuple[str, ...] | None:
        """The concepts' names; `None` without `concept_list.json`."""
        path = self._shared("concept_list.json")
        return None if path is None else _read_concept_names(path)

    def concept_embeddings(self) -> np.ndarray | None:
        """float32 [concepts, hidden] of `concept_embeddings.npy`; `None` without the file."""
        path = self._shared("concept_embeddings.npy")
        return None if path is None else _read_concept_embeddings(path)

    def base_model(self, override: Path | None = None) -> Path:
        """The folder with the base model's configuration and vocabulary (`base_model.find_base_model`)."""
        return find_base_model(self.path, override)

    def siblings(self) -> tuple["RunDirectory", ...]:
        """Other run directories beside this one, by name."""
        return tuple(
            RunDirectory(child)
            for child in _children(self.path.parent)
            if child != self.path and _is_run(child)
        )

    def references(self) -> tuple[Path, ...]:
        """Files in `references/` that a run can be read from, by name; a link that leads out of the run directory is none."""
        return self.references_and_links_out()[0]

    def references_and_links_out(self) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        """`references`, and the links there that lead out of the run directory, or nowhere: nothing of what they lead to is read."""
        within, out = [], []
        for path in self._reference_names():
            (within if stays_within(path, self.path) else out).append(path)
        return tuple(within), tuple(out)

    def _reference_names(self) -> list[Path]:
        return [child for child in _children(self.path / "references") if child.suffix in RUN_SUFFIXES]

    def results(self, kind: Literal["ladder", "replay"]) -> tuple[Path, ...]:
        """Results of that command that lie in `results/`, by name: what it printed as JSON, on whichever machine."""
        found = [child for child in _children(self.path / "results") if child.suffix == ".json"]
        return tuple(
            child for child in found if child.stem.split("-")[0] == kind and stays_within(child, self.path)
        )

    def _split_file(self, name: str) -> Path | None:
        stems = (f"{name}_split", name, *ALSO.get(name, ()))
        found = (self._shared(f"{stem}{suffix}") for stem in stems for suffix in TABLES)
        return next((file for file in found if file is not None), None)

    def _shared(self, name: str) -> Path | None:
        places = (self.path / "shared_data" / name, self.path / name)
        return next((place for place in places if place.is_file()), None)


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError:
        return []


def _is_run(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return (
        any((folder / name).is_dir() for name in ("checkpoints", "shared_data"))
        or any(file.suffix.lower() in CHECKPOINTS[:3] for file in _children(folder))
        or find_classifier(folder) is not None
    )


def _names(paths: list[Path]) -> str:
    names = [path.name for path in paths]
    return (
        ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        if names
        else "nothing"
    )


def _read_code_info(path: Path) -> CodeInfo:
    content = read_json_object(path)
    codes = content.get("top_50_codes")
    if not isinstance(codes, list) or not codes or not all(isinstance(code, str) for code in codes):
        raise ShifamindError(
            f"{path.name} has no list of code names under 'top_50_codes'; it is in {path.parent}."
        )
    if len(set(codes)) != len(codes):
        twice = next(code for code in codes if codes.count(code) > 1)
        raise ShifamindError(f"{path.name} names the code {twice!r} more than once in 'top_50_codes'.")
    counts, admissions, timestamp = (
        content.get(key) for key in ("top_50_counts", "valid_admissions", "timestamp")
    )
    return CodeInfo(
        codes=tuple(codes),
        counts={c: n for c, n in counts.items() if type(n) is int} if isinstance(counts, dict) else {},
        valid_admissions=admissions if type(admissions) is int else None,
        timestamp=timestamp if isinstance(timestamp, str) else None,
    )


def _read_concept_names(path: Path) -> tuple[str, ...]:
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ShifamindError(f"{path} does not hold a list of concept names.")
    return tuple(names)


def _read_concept_embeddings(path: Path) -> np.ndarray:
    content = read_regular(path, LARGEST_EMBEDDINGS)
    try:
        array = _npy(content)
    except UNSOUND_NPY as error:
        raise ShifamindError(
            f"{path} is no NumPy array of numbers, or was cut off; copy it again."
        ) from error
    if array.ndim != 2 or array.dtype.kind != "f":
        raise ShifamindError(f"{path} does not hold a matrix of concepts × hidden size in floating point.")
    with np.errstate(over="ignore"):
        return np.array(array, dtype=np.float32)


def _npy(content: bytes) -> np.ndarray:
    """The array of a `.npy` file, if it holds as many numbers as it claims."""
    file = io.BytesIO(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy remarks on headers that Python 2 wrote
        shape, fortran_order, dtype = _header(file)
    if dtype.kind not in "biuf" or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(
        shape, order="F" if fortran_order else "C"
    )


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    read_header = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}[read_magic(file)]
    return read_header(file)
