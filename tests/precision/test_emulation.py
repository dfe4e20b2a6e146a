"""Emulated precision, and the portable policy, against what an H200 computed for the same weights and notes.

The logits are kept in `tests/data/h200_logits.npz`, the record of that run in `docs/gpu-evidence.json`
(`benchmarks/gpu_evidence.py`). Small models are made again here from a seed; their weights' digest says that they are the same.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo import write_demo
from shifamind_core.experiments.ladder import climb
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.predict import predict
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.model.checkpoint import weights_digest
from shifamind_core.precision.apply import applied
from shifamind_core.precision.emulate import Emulation, round_tf32, through_tensor_cores
from shifamind_core.precision.policy import POLICIES
from simulation import pretrained
from simulation.agreement import agreement
from simulation.reference_models import ARCHITECTURES, CONDITIONINGS, head, reference_input, reference_model

ROOT = Path(__file__).resolve().parents[2]
RECORD = json.loads((ROOT / "docs" / "gpu-evidence.json").read_text())
H200 = np.load(ROOT / "tests" / "data" / "h200_logits.npz")
CPU = torch.device("cpu")
EMULATED = {"emulated-tf32": "tf32", "emulated-fp16": "fp16-autocast", "emulated-bf16": "bf16-autocast"}
RMS_WITHIN = {"emulated-tf32": 0.10, "emulated-fp16": 0.25, "emulated-bf16": 0.25}
KEPT = 64


def scored(model, notes, policy, batch_size, mode=None):
    """Logits in float64; `mode` in place of the policy's own emulation."""
    with applied(POLICIES[policy], CPU):
        if mode is None:
            return predict(model, notes, POLICIES[policy], CPU, batch_size).logits.astype(np.float64)
        with mode:
            return predict(model, notes, POLICIES[policy], CPU, batch_size).logits.astype(np.float64)


class SummedInDouble(Emulation):
    """The same inputs rounded, the sums in FP64: as far from the emulation as any other order of summing."""

    def _linear(self, x, weight, bias=None):
        if x.numel() == x.shape[-1]:
            return F.linear(x, weight, bias)
        left, right = self._rounded(x).double(), self._rounded(weight).double()
        return F.linear(left, right, None if bias is None else bias.double()).float()


# --- the small models


SMALL_MODELS = [
    f"{architecture}.{conditioning}" for architecture in ARCHITECTURES for conditioning in CONDITIONINGS
]


@cache
def small(name, attention="sdpa"):
    architecture, conditioning = name.split(".")
    return reference_model(architecture, conditioning, attention=attention)


@cache
def predicted(name, policy, attention="sdpa"):
    """Logits here of the notes that are kept of the H200's."""
    return scored(small(name, attention), head(reference_input(), KEPT), policy, KEPT)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_the_small_models_are_those_that_the_gpu_scored(name):
    (row,) = [row for row in RECORD["small"] if row["model"] == name]
    assert weights_digest(small(name).state_dict()) == row["weights_digest"]


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_fp64_is_a_referee_that_cpu_and_gpu_share(name):
    assert np.abs(predicted(name, "fp64") - H200[f"{name}.fp64"]).max() < 1e-10


@pytest.mark.parametrize(
    ("policy", "attention"),
    [*((policy, "sdpa") for policy in EMULATED), ("emulated-tf32", "eager"), ("emulated-bf16", "eager")],
)
@pytest.mark.parametrize("name", SMALL_MODELS)
def test_the_size_of_the_hardwares_error_is_predicted(name, policy, attention):
    real = H200[f"{name}.{EMULATED[policy]}{'.eager' if attention == 'eager' else ''}"].astype(np.float64)
    found = agreement(real, predicted(name, policy, attention), H200[f"{name}.fp64"])
    assert found["rms_ratio"] == pytest.approx(1, abs=RMS_WITHIN[policy])


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_tf32_errs_cell_by_cell_as_predicted(name):
    """Where the model lets the order of summing decide the later roundings, no emulation can do better than another
    emulation of the same roundings does: that is the bar there, and 0.8 elsewhere."""
    exact, emulated = H200[f"{name}.fp64"], predicted(name, "emulated-tf32")
    otherwise = scored(small(name), head(reference_input(), KEPT), "fp32", KEPT, SummedInDouble("tf32"))
    found = agreement(H200[f"{name}.tf32"].astype(np.float64), emulated, exact)["correlation"]
    attainable = agreement(otherwise, emulated, exact)["correlation"]
    assert found > min(0.8, attainable - 0.05)
    assert name.endswith("plain") or found > 0.9


# --- the rules behind it


def test_the_rule_on_products_is_right_for_every_product_of_every_model_that_was_asked():
    asked = [rows for name, rows in RECORD["census"].items() if name != "grid"]
    asked += [RECORD[f"base_{name}"]["census"] for name in ARCHITECTURES]
    rows = [row for rows in asked for row in rows]
    assert {row["product"] for row in rows} == {"linear", "matmul", "attention"}
    for row in rows:
        (*_, count, inner), right = row["shapes"]
        expected = {
            "linear": True,
            "attention": False,
            "matmul": through_tensor_cores(count, inner, right[-1]),
        }[row["product"]]
        assert row["tf32"] == (row["calls"] if expected else 0), row


def test_every_product_through_tf32_gave_the_bits_of_inputs_rounded_beforehand():
    rows = [row for row in RECORD["census"]["grid"] if row["tf32"]]
    assert len(rows) > 150
    assert all(row["same_bits"] == row["tf32"] for row in rows)


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=50))
def test_rounding_to_tf32_is_to_the_nearest_of_eleven_bits_ties_to_even(values):
    single = np.array(values, np.float32)
    found = round_tf32(torch.from_numpy(single)).double().numpy()
    mantissa, exponent = np.frexp(single.astype(np.float64))
    normal = np.abs(single) >= np.finfo(np.float32).tiny
    expected = np.ldexp(np.rint(np.ldexp(mantissa, 11)), exponent - 11)
    np.testing.assert_array_equal(found[normal], expected[normal])


def test_a_single_row_and_fused_attention_stay_fp32_and_half_precision_is_stored():
    torch.manual_seed(0)
    row, rows, weight = torch.randn(1, 64), torch.randn(2, 64), torch.randn(8, 64)
    heads = torch.randn(1, 2, 16, 32)
    plain = F.linear(row, weight), F.scaled_dot_product_attention(heads, heads, heads)
    with Emulation("tf32"):
        assert torch.equal(F.linear(row, weight), plain[0])
        assert torch.equal(F.scaled_dot_product_attention(heads, heads, heads), plain[1])
        emulated = F.linear(rows, weight)
    assert torch.equal(emulated, F.linear(round_tf32(rows), round_tf32(weight)))
    with Emulation("bfloat16"):
        assert F.linear(rows, weight).dtype == torch.bfloat16


# --- the demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "run"
    write_demo(folder)
    pipeline = Pipeline(RunDirectory(folder))
    assert pipeline.checkpoint.record.weights_digest == RECORD["run_directory"]["weights_digest"]
    return pipeline


@pytest.fixture(scope="module")
def demo_notes(demo):
    return demo.tokens(demo.split("test"), True).prepare(Tokenization(True))


def test_portable_decides_the_whole_demo_as_the_h200_does(demo, demo_notes):
    here = scored(demo.model(), demo_notes, "portable", 16)
    there = H200["run_directory.portable"].astype(np.float64)
    assert here.shape == there.shape == (1000, 50)
    assert np.abs(here - there).max() < 2e-5
    np.testing.assert_array_equal(here > 0, there > 0)


def test_the_demos_rounding_is_predicted(demo):
    notes = demo.tokens(demo.split("test").head(KEPT), True).prepare(Tokenization(True))
    exact = H200["run_directory.fp64"][:KEPT]
    assert np.abs(scored(demo.model(), notes, "fp64", 16) - exact).max() < 1e-10
    for policy, real in EMULATED.items():
        there = H200[f"run_directory.{real}"][:KEPT].astype(np.float64)
        found = agreement(there, scored(demo.model(), notes, policy, 16), exact)
        assert found["rms_ratio"] == pytest.approx(1, abs=RMS_WITHIN[policy]), policy
        assert policy != "emulated-tf32" or found["correlation"] > 0.8


# --- really pretrained weights


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    package = pretrained.packaged_encoder()
    assert package is not None, f"{pretrained.PACKAGE} is not installed: make test installs it"
    return pretrained.trim(package, tmp_path_factory.mktemp("encoder") / "trimmed")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pretrained_weights_round_on_a_cpu_as_predicted_and_ten_times_as_much_as_the_demos(
    encoder, architecture, tmp_path
):
    kept = 8
    pipeline = Pipeline(
        RunDirectory(pretrained.pretrained_run_directory(encoder, tmp_path / "run", architecture, kept))
    )
    record = RECORD["pretrained"][architecture]
    assert weights_digest(pipeline.model().state_dict()) == record["weights_digest"]
    ladder = climb(
        pipeline,
        "test",
        Setting(tokenization=Tokenization(True), batch_size=kept),
        policies=("fp64", "fp32", "emulated-tf32"),
    )
    rungs = {rung.policy: rung for rung in ladder.rungs}
    measured = {row["policy"]: row for row in record["ladder"]}
    assert 0 < rungs["fp32"].max_abs < 1.5 * measured["fp32"]["max"]
    exact = H200[f"pretrained.{architecture}.fp64"]
    real = float(np.sqrt(np.mean((H200[f"pretrained.{architecture}.tf32"] - exact) ** 2)))
    assert rungs["emulated-tf32"].rms == pytest.approx(real, rel=RMS_WITHIN["emulated-tf32"])
    demos = float(np.sqrt(np.mean((H200["run_directory.tf32"] - H200["run_directory.fp64"]) ** 2)))
    assert real > 10 * demos
    # What a ladder measured says which model it is about.
    assert ladder.checkpoint == record["weights_digest"]


# --- the record


def test_the_document_is_the_record():
    text = (ROOT / "docs" / "gpu-evidence.md").read_text()
    command = [sys.executable, "benchmarks/gpu_evidence.py", "--render", "docs/gpu-evidence.json"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.strip() and printed.strip() in text
    assert not RECORD["skipped"] and not RECORD["tiny"]
