"""Checkpoints made to harm: what they would cost is refused in one line, and their reading ends."""

import os
import pickle
import struct
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from shifamind_core.artifacts import limited
from shifamind_core.model.checkpoint import read_checkpoint
from tests.model.test_checkpoint import content, read, save, with_state
from tests.support.refused import refused


def with_pickle(path: Path, pickled: bytes) -> Path:
    """The archive with another pickle in it."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, pickled if name.endswith("data.pkl") else part)
    return path


def test_one_storage_under_many_names_is_refused_before_it_is_laid_out(tmp_path: Path) -> None:
    """33 MB in the file, 4.2 GB once each name has its own."""
    large = torch.zeros(1 << 20)
    state = {f"base_model.{i}": large[:] for i in range(120)}
    path = save(tmp_path, {"model_state_dict": state})
    assert path.stat().st_size < 5 << 20
    with refused(
        "phase1_best.pt was refused", "120 tensors share 4,194,304 bytes and would take 503,316,480"
    ):
        read_checkpoint(path)


def test_two_names_for_one_weight_are_fine(tmp_path: Path) -> None:
    """Tied weights are common."""
    tied = torch.zeros(6, 4)
    assert (
        read(tmp_path, content(concept_embeddings=tied, others={"a": tied[:], "b": tied.T})).code_count == 6
    )


def test_a_key_that_is_hashed_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,150 bytes: hashing 40 nested pairs takes 2^40 steps. `weights_only` reads it and never returns."""
    nested: Any = ()
    for _ in range(40):
        nested = (nested, nested)
    pickled = pickle.dumps(nested, protocol=2)[:-1].replace(b"\x80\x02", b"\x80\x02}", 1) + b"Ns."
    path = with_pickle(save(tmp_path, {}), pickled)
    assert path.stat().st_size < 2_000
    monkeypatch.setattr(limited, "CPU_SECONDS", 1)
    began = time.monotonic()
    with refused("phase1_best.pt was given up", "1 s allowed"):
        read_checkpoint(path)
    assert time.monotonic() - began < 10


def test_a_list_that_holds_itself_many_times_is_refused(tmp_path: Path) -> None:
    nested: Any = [1.5]
    for _ in range(30):
        nested = [nested, nested]
    with refused("phase1_best.pt was refused", "more than 1,000,000 values"):
        read(tmp_path, content(config={"a": nested}))


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    path = tmp_path / "phase1_best.pt"
    os.mkfifo(path)
    with refused("phase1_best.pt", "pipe"):
        read_checkpoint(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with refused("phase1_best.pt", "device"):
        read_checkpoint(path)
    os.mkfifo(tmp_path / "model.safetensors")
    with refused("model.safetensors", "pipe"):
        read_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "epoch", [float("nan"), float("inf"), -1, 1e300, 10**400, "three", torch.tensor(float("nan"))]
)
def test_an_epoch_that_is_none_is_left_out_and_said_to_be(tmp_path: Path, epoch: Any) -> None:
    checkpoint = read(tmp_path, content(epoch=epoch, macro_f1=float("nan"), micro_f1=10**400))
    assert checkpoint.epoch is None and checkpoint.record.epoch is None
    assert "epoch" in " ".join(checkpoint.remarks)
    assert "macro_f1" not in checkpoint.scores and "micro_f1" not in checkpoint.scores


def nested_tensor() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, says torch
        return torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])


@pytest.mark.parametrize(
    ("tensor", "word"),
    [
        (torch.zeros(6, 4).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.zeros(6, 4, device="meta"), "meta tensor"),
        (torch.eye(4).to_sparse(), "sparse tensor"),
        (torch.zeros(6, 4, dtype=torch.complex64), "complex64"),
        (nested_tensor(), "nested tensor"),
        (torch.zeros(1).expand(100_000, 30_000), "claims more numbers"),  # 12 GB of strides of 0
    ],
)
def test_tensors_that_are_no_weights_are_named(tmp_path: Path, tensor: torch.Tensor, word: str) -> None:
    with refused("phase1_best.pt", "fusion_layer.weight", word):
        read(tmp_path, with_state(fusion_layer__weight=tensor))


def test_names_that_are_no_unicode_are_one_line(tmp_path: Path) -> None:
    with refused("phase1_best.pt was refused", "surrogate"):
        read(tmp_path, {"model_state_dict": {"a\ud800": torch.zeros(2)}})


def test_an_archive_of_several_disks_is_one_line(tmp_path: Path) -> None:
    """As the locator of a 64-bit archive says it; `zipfile` knows it by another exception than damage."""
    path = save(tmp_path, content())
    whole = bytearray(path.read_bytes())
    end = whole.rindex(b"PK\x05\x06")
    whole[end:end] = struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 2)
    path.write_bytes(whole)
    with refused("phase1_best.pt", "damaged"):
        read_checkpoint(path)


def test_both_of_torchs_formats_give_the_same_weights(tmp_path: Path) -> None:
    path = tmp_path / "phase1_best.pt"
    digests = set()
    for new in (False, True):
        torch.save(content(), path, _use_new_zipfile_serialization=new)
        digests.add(read_checkpoint(path).record.weights_digest)
    assert len(digests) == 1


@pytest.mark.parametrize("new", [False, True])
def test_every_layout_is_read(tmp_path: Path, new: bool) -> None:
    whole = torch.randn(60, 64)
    path = tmp_path / "phase1_best.pt"
    for view in (
        whole[10:15, 32:],
        whole.T[20:25, :32],
        whole[::2, ::2][:5],
        torch.nn.Parameter(whole[:5, :32]),
    ):
        torch.save(with_state(concept_classifier__weight=view), path, _use_new_zipfile_serialization=new)
        assert torch.equal(read_checkpoint(path).state_dict["concept_classifier.weight"], view)
