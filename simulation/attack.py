"""An attack on the readers: one valid file of every format, seeded mutations of them, and the attacks that once succeeded.

What a reader may do with any of it: read it, or refuse it in one line.
"""

import io
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from safetensors.numpy import save

from shifamind_core.analysis.rungs import read_ladder
from shifamind_core.artifacts.json_file import read_json
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.artifacts.splits import read_split
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.tokenizer import load_tokenizer
from shifamind_core.model.bert_config import read_config
from shifamind_core.model.checkpoint import read_checkpoint
from shifamind_core.runs.uploads import read_upload
from simulation.builders import split_table, tiny_checkpoint, tiny_model, tiny_vocabulary
from simulation.classifiers import classifier_run_directory

CODES = ("E785", "I10", "Z87891")
NOTES = [f"Chest pain since {day} days. \u00c4tiology unclear." for day in range(8)]

Reader = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A valid file: its name in the folder that it is read from, its bytes, what reads it, and valid files beside it."""

    name: str
    content: bytes
    read: Reader
    beside: Mapping[str, bytes] = field(default_factory=dict)

    def place(self, folder: Path, content: bytes) -> Path:
        """Write these bytes in the file's place; returns where."""
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, other in self.beside.items():
            if not (folder / name).exists():
                (folder / name).write_bytes(other)
        path.write_bytes(content)
        return path


def _written(write: Callable[[Any], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _upload(path: Path) -> object:
    return read_upload(path.name, path)


def _upload_of_bytes(path: Path) -> object:
    return read_upload(path.name, path.read_bytes())


def _in_shared_data(read: Callable[[RunDirectory], object]) -> Reader:
    """Read one small file of a run directory that holds nothing else."""
    return lambda path: read(RunDirectory(path.parent.parent))


@cache
def targets() -> dict[str, Target]:
    """Every format by name, small: mutations of small files reach deeper than those of large ones."""
    random = np.random.default_rng(0)
    logits = random.normal(-1, 3, (8, 3)).astype(np.float32)
    labels = (logits > 0).astype(np.uint8)
    ids = np.arange(8) * 10**15 - 7
    table = pd.DataFrame(logits, columns=list(CODES))
    named = table.assign(document_id=[f"note {i} \u00e9" for i in range(8)])
    split = split_table(NOTES, labels, list(CODES))
    tensors = {"logits": torch.from_numpy(logits), "labels": torch.from_numpy(labels), "codes": list(CODES)}
    manifest = {
        "split": "test",
        "checkpoint": {"epoch": 3},
        "tokenization": {"max_length": 512},
        "batch_size": 16,
    }
    metadata = {"format": "shifamind-run/1", "codes": json.dumps(CODES), "manifest": json.dumps(manifest)}
    lines = [
        json.dumps({"document_id": i, "logits": dict(zip(CODES, row, strict=True))})
        for i, row in enumerate(logits.tolist())
    ]
    checkpoint = tiny_checkpoint(tiny_model("cls_fusion"), [*CODES, "K219", "F329", "I2510"], 5)
    config = json.dumps({"model_type": "bert", "hidden_size": 32, "num_attention_heads": 4})
    info = json.dumps({"top_50_codes": CODES, "top_50_counts": {"I10": 5}, "timestamp": "2026"})
    ladder = json.dumps({"rungs": [{"policy": "fp32", "max_abs": 1e-6}], "documents": 8, "checkpoint": "a", "device": "cpu", "run_digests": {}})  # fmt: skip
    old = {"_use_new_zipfile_serialization": False}
    bytes_of: dict[str, tuple[str, bytes, Reader]] = {
        "run file": ("a.safetensors", save({"logits": logits, "labels": labels, "document_ids": ids}, metadata), _upload),
        "safetensors": ("a.safetensors", save({"predictions": logits, "label_ids": labels}), _upload_of_bytes),
        "npz": ("a.npz", _written(lambda f: np.savez(f, logits=logits, labels=labels, codes=np.array(CODES), document_ids=ids)), _upload),
        "npz, packed": ("a.npz", _written(lambda f: np.savez_compressed(f, probabilities=1 / (1 + np.exp(-logits)))), _upload_of_bytes),
        "npy": ("a.npy", _written(lambda f: np.save(f, logits)), _upload),
        "csv": ("a.csv", named.to_csv(index=False).encode(), _upload),
        "csv of many columns": ("a.csv", table.add_suffix("_logit").join((table.add_suffix("_true") > 0).astype(int)).to_csv().encode(), _upload),
        "parquet": ("a.parquet", _written(lambda f: table.to_parquet(f)), _upload),
        "parquet with ids": ("a.parquet", _written(lambda f: named.to_parquet(f)), _upload_of_bytes),
        "jsonl": ("a.jsonl", "\n".join(lines).encode(), _upload),
        "pt": ("a.pt", _written(lambda f: torch.save(tensors, f)), _upload),
        "pt of batches": ("a.pt", _written(lambda f: torch.save([(tensors["logits"][:4], tensors["labels"][:4])] * 2, f)), _upload),
        "pt before 1.6": ("a.pt", _written(lambda f: torch.save(tensors, f, **old)), _upload),
        "pickled split": ("test_split.pkl", _written(lambda f: split.to_pickle(f)), read_split),
        "parquet split": ("test_split.parquet", _written(lambda f: split.to_parquet(f)), read_split),
        "checkpoint": ("phase1_best.pt", _written(lambda f: torch.save(_without_layers(checkpoint), f)), read_checkpoint),
        "checkpoint before 1.6": ("phase1_best.pt", _written(lambda f: torch.save(_without_layers(checkpoint), f, **old)), read_checkpoint),
        "code info": ("shared_data/top50_icd10_info.json", info.encode(), _in_shared_data(lambda run: run.code_info)),
        "concept list": ("shared_data/concept_list.json", json.dumps(["pain"] * 3).encode(), _in_shared_data(lambda run: run.concept_names)),
        "concept embeddings": ("shared_data/concept_embeddings.npy", _written(lambda f: np.save(f, logits)), _in_shared_data(lambda run: run.concept_embeddings())),
        "config": ("config.json", config.encode(), lambda path: read_config(path.parent)),
        "json": ("a.json", info.encode(), read_json),
        "ladder": ("ladder.json", ladder.encode(), read_ladder),
    }  # fmt: skip
    return {name: Target(*target) for name, target in bytes_of.items()} | _of_classifier()


def _of_classifier() -> dict[str, Target]:
    """What `save_pretrained` writes, with splits beside it: every file, the others sound."""
    with tempfile.TemporaryDirectory() as place:
        folder = classifier_run_directory(Path(place), notes=4)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        jsonl = classifier_run_directory(Path(place, "other"), notes=4, ending="jsonl") / "test.jsonl"
        lines = jsonl.read_bytes()
    vocabulary = "\n".join(tiny_vocabulary()).encode()
    base = {"config.json": files["config.json"]}
    return {
        "classifier's config": Target(
            "config.json",
            files["config.json"],
            lambda path: Pipeline(RunDirectory(path.parent)).outline,
            files,
        ),
        "classifier's weights": Target("model.safetensors", files["model.safetensors"], read_checkpoint),
        "tokenizer.json": Target("tokenizer.json", files["tokenizer.json"], _tokenizer, files),
        "tokenizer_config.json": Target(
            "tokenizer_config.json", files["tokenizer_config.json"], _tokenizer, files
        ),
        "vocab.txt": Target("vocab.txt", vocabulary, _tokenizer, base),
        "csv split": Target("test.csv", files["test.csv"], read_split),
        "jsonl split": Target("test.jsonl", lines, read_split),
    }


def _tokenizer(path: Path) -> object:
    return load_tokenizer(path.parent)


def _without_layers(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint's heads and embeddings alone: what is read without a model, and small."""
    state = {key: value for key, value in checkpoint["model_state_dict"].items() if "encoder" not in key}
    return checkpoint | {"model_state_dict": state, "optimizer_state_dict": {}}


# Mutations

WEIGHTS = (
    0.2,
    0.2,
    0.15,
    0.1,
    0.1,
    0.1,
    0.05,
    0.05,
    0.05,
)  # of the nine changes below; small ones reach deepest

_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF]  # fmt: skip
_TEXTS = [
    b"NaN", b"-inf", b"1e999", b"9" * 400, b"\xed\xa0\x80", b"\xff\xfe", b"\0", b"[" * 5000, b"{\"a\":" * 500, b"\r", b"\n", b'"',
    b",", b"'|O'", b"(9999999999999, 3)", b"\\ud800", b"../../etc", b"__proto__", b"\x80\x04\x95", b"cposix\nsystem\n(S'x'\ntR.",
    b"ctorch._utils\n_rebuild_sparse_tensor\n", b"torch.float8_e4m3fn", b"PK\x05\x06", b"PK\x06\x07", b"PAR1",
]  # fmt: skip


def mutated(content: bytes, random: np.random.Generator, other: bytes = b"") -> bytes:
    """The content with some changes, mostly one: bits, bytes, numbers, texts, pieces lost, repeated, or of another file."""
    changed = bytearray(content)
    for _ in range(min(6, int(random.geometric(0.6)))):
        if not changed:
            break
        place = int(random.integers(len(changed)))
        length = int(min(len(changed) - place, random.integers(1, 64)))
        match int(random.choice(9, p=WEIGHTS)):
            case 0:
                changed[place] ^= 1 << int(random.integers(8))
            case 1:
                changed[place] = int(random.integers(256))
            case 2:
                size = int(random.choice([1, 2, 4, 8]))
                number = _NUMBERS[int(random.integers(len(_NUMBERS)))]
                order = "little" if random.integers(2) else "big"
                changed[place : place + size] = (number % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
            case 3:
                changed[place:place] = _TEXTS[int(random.integers(len(_TEXTS)))]
            case 4:
                changed[place : place + length] = _TEXTS[int(random.integers(len(_TEXTS)))]
            case 5:
                del changed[place : place + length]
            case 6:
                changed[place:place] = changed[place : place + length] * int(random.choice([1, 2, 200]))
            case 7:
                del changed[place:]
            case 8 if other:
                begin = int(random.integers(len(other)))
                changed[place : place + length] = other[begin : begin + int(random.integers(1, 400))]
    return bytes(changed)


def inputs(seed: int) -> Iterator[tuple[str, Target, bytes]]:
    """Mutated files without end, each format as often as any other: its name, what it is, the bytes."""
    random = np.random.default_rng(seed)
    every = list(targets().items())
    while True:
        for name, target in every:
            other = every[int(random.integers(len(every)))][1].content
            yield name, target, mutated(_unpacked_part(target.content, random), random, other)


def _unpacked_part(content: bytes, random: np.random.Generator) -> bytes:
    """Of an archive, now and then one whose largest part is mutated within: a checksum would else refuse all of that."""
    if not content.startswith(b"PK\x03\x04") or random.integers(2):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        kinds = {entry.filename: entry.compress_type for entry in archive.infolist()}
    chosen = list(parts)[int(random.integers(len(parts)))]
    parts[chosen] = mutated(parts[chosen], random)

    def write(file: Any) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, part, kinds[name])

    return _written(write)


# Attacks that succeeded once


def known(folder: Path) -> Iterator[tuple[str, Path, Reader]]:
    """Each attack that once took gigabytes or for ever: what it is, its file, what reads it."""
    folder.mkdir(exist_ok=True)

    def file(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    long_id = pa.table({"document_id": pa.array(["x" * (500 << 20)], pa.large_string()), "A": [1.5]})
    path = folder / "long_id.parquet"
    parquet.write_table(long_id, path, compression="zstd")
    yield "Parquet upload: 500 MiB in one id", path, _upload
    del long_id
    texts = pa.DictionaryArray.from_arrays(np.zeros(3000, np.int32), ["x" * 1_000_000])
    path = folder / "test_split.parquet"
    parquet.write_table(pa.table({"text": texts, "I10": [0] * 3000}), path, compression="zstd")
    yield "Parquet split: one note of 1 MB, 3,000 times", path, read_split
    one = torch.zeros(8 << 20)
    path = folder / "many_names.pt"
    torch.save({"model_state_dict": {f"base_model.{i}": one[:] for i in range(120)}}, path)
    yield "checkpoint: one storage under 120 names", path, read_checkpoint
    path = folder / "stride_0.pt"
    torch.save({"model_state_dict": {"base_model.a": torch.zeros(1).expand(100_000, 30_000)}}, path)
    yield "checkpoint: 12 GB by strides of 0", path, read_checkpoint
    row = ",".join(["-1.2345678"] * 50).encode() + b"\n"
    header = ",".join(f"C{i}" for i in range(50)).encode() + b"\n"
    yield "CSV of 150 MB", file("large.csv", header + row * (150_000_000 // len(row))), _upload
    path = folder / "sparse.npy"
    with path.open("wb") as sparse:
        np.lib.format.write_array_header_1_0(
            sparse, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 768)}
        )
        sparse.truncate(sparse.tell() + (3 << 30))
    yield "sparse .npy of 3 GB", path, _upload
    yield "checkpoint: a key that is hashed for ever", _hashed_for_ever(folder / "hashed.pt"), read_checkpoint
    path = folder / "fifo.csv"
    if not path.exists():
        os.mkfifo(path)
    yield "FIFO", path, _upload
    path = folder / "zero.csv"
    if not path.exists():
        path.symlink_to("/dev/zero")
    yield "link to /dev/zero", path, _upload


def _hashed_for_ever(path: Path) -> Path:
    """Nested pairs as a key: hashing them takes 2^40 steps."""
    nested: Any = ()
    for _ in range(40):
        nested = (nested, nested)
    pickled = pickle.dumps(nested, protocol=2)[:-1].replace(b"\x80\x02", b"\x80\x02}", 1) + b"Ns."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return path
