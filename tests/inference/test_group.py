"""Several processes that share the notes, as torchrun starts them: one run, the bits of one process, and an end for all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.cli import main
from shifamind_core.inference.group import ALONE
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.runs.run_file import read_run_file
from simulation.builders import tiny_run_directory
from tests.support.sharing import arrays, every_setting

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    return tiny_run_directory(tmp_path_factory.mktemp("shared"), "cls_fusion", notes=23)


def started_by_torchrun(module, *arguments, **environment):
    """What came of two processes; as many threads each as here, since they decide the last bits on a CPU."""
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", module]
    return subprocess.run(
        [sys.executable, *torchrun, *map(str, arguments)],
        cwd=PROJECT,
        env=os.environ | threads | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def asked(run_directory, output):
    return ("predict", run_directory, "--device", "cpu", "--max-length", "32", "--batch-size", "5", "--output", output, "--json")  # fmt: skip


def test_two_processes_write_the_run_of_one(run_directory, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SHIFAMIND_CACHE", str(tmp_path / "one"))
    assert main([str(word) for word in asked(run_directory, tmp_path / "one.safetensors")]) == 0
    alone = json.loads(capsys.readouterr().out)
    ended = started_by_torchrun(
        "shifamind_core",
        *asked(run_directory, tmp_path / "two.safetensors"),
        SHIFAMIND_CACHE=str(tmp_path / "two"),
    )
    assert ended.returncode == 0, ended.stderr
    shared = json.loads(ended.stdout)  # one document: the second process is silent
    assert shared | {"seconds": None} == alone | {"seconds": None}
    one, two = (read_run_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert one.digest == two.digest and one.logits.tobytes() == two.logits.tobytes()
    assert one.manifest.configuration_digest == two.manifest.configuration_digest


def test_every_setting_has_the_bits_of_one_process_and_a_lost_process_ends_all(run_directory, tmp_path):
    ended = started_by_torchrun(
        "tests.support.sharing",
        *asked(run_directory, tmp_path / "run.safetensors"),
        SHIFAMIND_CACHE=str(tmp_path / "cache"),
        FOUND=str(tmp_path / "found.npz"),
    )
    assert ended.returncode != 0 and ended.stdout == ""
    said = [line for line in ended.stderr.splitlines() if "error: " in line]
    assert len(said) == 1 and "of the 2 processes has ended" in said[0], ended.stderr
    assert "shifamind_core/inference" not in ended.stderr  # no traceback but torchrun's own
    assert not list(tmp_path.glob("*run.safetensors*")) and not list(tmp_path.glob("cache/runs/*"))

    pipeline = Pipeline(RunDirectory(run_directory))
    notes = pipeline.tokens(pipeline.split("test"), None).prepare(Tokenization(max_length=32))
    expected = arrays(every_setting(pipeline.model(), notes, ALONE))
    assert expected["out of memory: batch"] == 4 and len(expected["out of memory: remarks"]) == 2
    with np.load(tmp_path / "found.npz") as found:
        assert "differs from process 0 in the split's notes" in found["refusal"][0]
        assert (found["encoders"] == 1).all()  # processes of their own tokenized each one's share
        assert {*found} == {*expected, "refusal", "encoders"}
        for name, value in expected.items():
            assert found[name].tobytes() == value.tobytes(), name
