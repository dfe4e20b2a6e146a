"""Measure on a GPU what the documents say about GPUs: `python benchmarks/gpu_evidence.py --output DIR`.

Needs torch, transformers and this package only. Makes a BERT-base-sized checkpoint of either architecture, its heads
trained on a random encoder, and runs every policy, the ladder against FP64, the emulation check (well- and ill-conditioned), the layer profile,
the probes, the CPU against the GPU, out-of-memory halving and the random-number trap. Writes `evidence.json` (rewritten
after every step, so that a run cut short loses nothing), `gpu-evidence.md` made of it, and `h200_logits.npz`: logits of the
small reference models, to which tests hold any CPU.

`--tiny` runs all of it on small models in a few minutes, on a CPU too. `--render FILE` makes the Markdown of an old record.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig

from benchmarks import cuda_random, product_census
from benchmarks.evidence_report import render
from shifamind_core.analysis.counts import counts_of_logits
from shifamind_core.analysis.layer_divergence import excess, first_divergence, first_rounding
from shifamind_core.analysis.scores import macro_f1, micro_f1
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo.labels import CODES
from shifamind_core.demo.train import examples, loss_of
from shifamind_core.demo.writer import DATA
from shifamind_core.experiments.probes import probes_json, run_probes
from shifamind_core.inference.activations import LayerSetting, profile_layers
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.predict import batch, predict
from shifamind_core.inference.tokenization import ModelInput, Tokenization
from shifamind_core.model.architectures import architecture_named
from shifamind_core.model.checkpoint import weights_digest
from shifamind_core.model.shifamind import ClsFusion, ConceptAttention
from shifamind_core.precision.apply import applied, autocast, observe_flags, refusal
from shifamind_core.precision.emulate import Emulation, round_tf32
from shifamind_core.precision.observe import observe_environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.records import to_json
from simulation.agreement import agreement, correlation, rms
from simulation.pretrained import pretrained_run_directory
from simulation.reference_models import (
    ARCHITECTURES,
    CONCEPTS,
    CONDITIONINGS,
    SMALL,
    Architecture,
    Size,
    fill,
    head,
    reference_input,
    reference_model,
    reference_notes,
)
from simulation.run_directories import write_run_directory

REAL = ("fp32", "portable", "tf32", "fp16-autocast", "fp16", "bf16-autocast", "bf16")
EMULATED = {"emulated-tf32": "tf32", "emulated-fp16": "fp16-autocast", "emulated-bf16": "bf16-autocast"}
KEPT_NOTES = 64  # of the small models, in the file that tests read
PRETRAINED, PRETRAINED_KEPT = 500, 8  # notes measured on the pretrained encoder, and kept
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CPU = torch.device("cpu")


def main() -> None:
    """Parse the command line, run the steps, write after each."""
    parser = argparse.ArgumentParser(description="Measure on a GPU what the documents say about GPUs.")
    parser.add_argument("--output", type=Path, default=Path("gpu-evidence"), metavar="DIR")
    parser.add_argument("--tiny", action="store_true", help="small models: minutes on a CPU")
    parser.add_argument("--seconds", type=float, default=420, help="begin no further step after this long")
    parser.add_argument("--only", nargs="*", metavar="STEP", help="only steps that begin so")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--run-directory", type=Path, help="also score this one under fp64 and portable")
    parser.add_argument("--pretrained", type=Path, metavar="DIR", help="what `simulation.pretrained` wrote")
    parser.add_argument(
        "--render", type=Path, metavar="FILE", help="only make Markdown of this evidence.json"
    )
    options = parser.parse_args()
    if options.render:
        print(render(json.loads(options.render.read_text())))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    Evidence(options).run()


class Evidence:
    """The record, step by step."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.started = time.perf_counter()
        self.record: dict[str, Any] = {"tiny": options.tiny, "seconds": {}, "skipped": []}
        self.arrays: dict[str, np.ndarray] = {}
        self.size = Size(hidden=64, heads=8, layers=4, tokens=128) if options.tiny else None

    def run(self) -> None:
        self.step("environment", environment)
        self.step("random_numbers", random_numbers)
        self.step("products", products)
        if DEVICE.type == "cuda":
            self.step("census", lambda: census_everywhere(self.options.run_directory))
        small = replace(SMALL, notes=16) if self.options.tiny else SMALL
        self.step("small", lambda: small_models(self.arrays, small))
        if self.options.run_directory:
            self.step("run_directory", lambda: run_directory(self.options.run_directory, self.arrays))
        if self.options.pretrained:
            for name in ARCHITECTURES:
                self.step(
                    f"pretrained.{name}",
                    partial(pretrained, name, self.options.pretrained, self.arrays, self.options.tiny),
                )
        bases = {name: self.base(name) for name in ARCHITECTURES}
        # What matters most comes first for both, in case time runs out.
        for name, measure in PARTS.items():
            for architecture, base in bases.items():
                if base is not None:
                    self.step(f"base_{architecture}.{name}", partial(measure, base))
        print(f"all of it: {self.elapsed:.0f} s", flush=True)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def step(self, name: str, measure: Callable[[], Any]) -> Any:
        """One step, unless time is up; what it found is on the disk when it ends."""
        if self.options.only and not name.startswith(tuple(self.options.only)):
            return None
        if self.elapsed > self.options.seconds:
            self.record["skipped"].append(name)
            return None
        begun = time.perf_counter()
        *rooms, last = name.split(".")
        place = self.record
        for room in rooms:
            place = place.setdefault(room, {})
        place[last] = measure()
        self.record["seconds"][name] = round(time.perf_counter() - begun, 1)
        print(f"{name}: {self.record['seconds'][name]} s", flush=True)
        self.write()
        return place[last]

    def write(self) -> None:
        folder = self.options.output
        (folder / "evidence.json").write_text(json.dumps(self.record, indent=1))
        (folder / "gpu-evidence.md").write_text(render(self.record))
        if self.arrays:
            arrays: dict[str, Any] = self.arrays
            np.savez_compressed(folder / "h200_logits.npz", **arrays)

    def base(self, architecture: Architecture) -> "Base | None":
        """A BERT-base-sized checkpoint, trained and read back."""
        folder = self.options.output.resolve().parent / f"run_{architecture}"
        if (
            self.step(
                f"base_{architecture}.training",
                lambda: train(architecture, folder, self.size, self.options.workers),
            )
            is None
        ):
            return None
        return Base(folder, self.size.tokens if self.size else 512, self.record["environment"])


class Base:
    """A run directory, its model on the device, and its notes."""

    def __init__(self, folder: Path, length: int, machine: dict[str, Any]) -> None:
        self.pipeline = Pipeline(RunDirectory(folder))
        split = self.pipeline.split("test")
        self.length = length
        self.labels = split.labels
        self.notes = self.pipeline.tokens(split, True).prepare(Tokenization(True, length))
        self.model = self.pipeline.model().to(DEVICE)
        self.machine = machine


def environment() -> dict[str, Any]:
    """Machine, flags by default, and the rate of a large matrix product in each format."""
    return {
        "machine": to_json(observe_environment(DEVICE)),
        "default_flags": to_json(observe_flags(POLICIES["default"], DEVICE, "sdpa")),
        "ceiling_tflops": {
            name: ceiling(name) for name in ("fp64", *REAL) if not refusal(POLICIES[name], DEVICE)
        },
    }


def ceiling(policy: str) -> float:
    """TFLOP/s of a square matrix product under the policy; the best of five."""
    size = 512 if DEVICE.type == "cpu" else 4096 if policy == "fp64" else 8192
    dtype = {"fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16}.get(policy, torch.float32)
    dtype = {"fp16-autocast": torch.float16, "bf16-autocast": torch.bfloat16}.get(policy, dtype)
    x = torch.randn(size, size, device=DEVICE).to(dtype)
    best = float("inf")
    with applied(POLICIES[policy], DEVICE):
        for _ in range(6):
            begun = clock()
            torch.mm(x, x)
            best = min(best, clock() - begun)
    return 2 * size**3 / best / 1e12


def clock() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def random_numbers() -> dict[str, Any]:
    """Whether this GPU's random numbers are those that the published algorithm gives for its multiprocessors, and what
    it gives for others."""
    seed, sizes = 1234, (1000, 300_000, 16 * 512 * 768)
    found: dict[str, Any] = {"seed": seed, "sizes": []}
    here = cuda_random.GPUS[0]
    if DEVICE.type == "cuda":
        properties = torch.cuda.get_device_properties(DEVICE)
        here = cuda_random.Gpu(
            properties.name, properties.multi_processor_count, properties.max_threads_per_multi_processor
        )
    for count in sizes:
        row: dict[str, Any] = {"elements": count, "others": []}
        mine, keeps = cuda_random.rand(count, here, seed), cuda_random.dropout_keeps(count, here, seed)
        row["rand_sha256"] = hashlib.sha256(mine.tobytes()).hexdigest()
        row["dropout_sha256"] = hashlib.sha256(np.packbits(keeps).tobytes()).hexdigest()
        if DEVICE.type == "cuda":
            torch.manual_seed(seed)
            real = torch.rand(count, device=DEVICE).cpu().numpy()
            torch.manual_seed(seed)
            kept = (F.dropout(torch.ones(count, device=DEVICE), 0.5) != 0).cpu().numpy()
            row["rand_equal_bitwise"] = bool((real == mine).all())
            row["dropout_equal"] = bool((kept == keeps).all())
        for gpu in cuda_random.GPUS:
            same = cuda_random.rand(count, gpu, seed) == mine
            row["others"].append(
                {
                    "gpu": gpu.name,
                    "multiprocessors": gpu.multiprocessors,
                    "same_share": float(same.mean()),
                    "first_other": None if same.all() else int(np.argmin(same)),
                }
            )
        found["sizes"].append(row)
    found["multiprocessors"] = here.multiprocessors
    return found


def products() -> list[dict[str, Any]]:
    """One matrix product at a time: the hardware's error against that of the emulation."""
    torch.manual_seed(0)
    batch, length = (16, 512) if DEVICE.type == "cuda" else (2, 32)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, device=DEVICE) * scale

    def linear(rows: int, inputs: int, outputs: int) -> Callable[..., Tensor]:
        x, weight, bias = normal(rows, inputs), normal(outputs, inputs, scale=inputs**-0.5), normal(outputs)
        return lambda cast=lambda t: t, change=lambda t: t: F.linear(
            change(cast(x)), change(cast(weight)), cast(bias)
        )

    def matmul(left: Tensor, right: Tensor) -> Callable[..., Tensor]:
        return lambda cast=lambda t: t, change=lambda t: t: change(cast(left)) @ change(cast(right))

    query, key = normal(batch, 12, length, 64, scale=1.5), normal(batch, 12, length, 64, scale=1.5)
    mask = (
        torch.arange(length, device=DEVICE) < torch.randint(length // 3, length, (batch, 1), device=DEVICE)
    )[:, None, None]
    weights = torch.softmax(query @ key.transpose(-1, -2) / 8, -1)
    states, concepts = normal(batch, 8, length, 96), normal(8, CONCEPTS, 96)

    def fused(
        cast: Callable[[Tensor], Tensor] = lambda t: t, change: Callable[[Tensor], Tensor] = lambda t: t
    ) -> Tensor:
        return F.scaled_dot_product_attention(cast(query), cast(key), cast(key), attn_mask=mask)

    cases: dict[str, Callable[..., Tensor]] = {
        f"encoder linear, {batch * length} × 768 × 768": linear(batch * length, 768, 768),
        f"encoder linear, {batch * length} × 3072 × 768": linear(batch * length, 3072, 768),
        f"diagnosis head, {batch} × 881 × 50": linear(batch, 881, 50),
        "a single row, 1 × 768 × 768": linear(1, 768, 768),
        "concept scores, explicit product": matmul(states, concepts.transpose(-1, -2)),
        "eager attention scores": matmul(query, key.transpose(-1, -2)),
        "eager attention mix": matmul(weights, key),
        "fused attention (SDPA), padded": fused,
    }
    return [row for name, product in cases.items() for row in product_rows(name, product)]


def census_everywhere(folder: Path | None) -> dict[str, Any]:
    """Which products of the small models, of a run directory and of a grid of shapes go through TF32."""
    found: dict[str, Any] = {"grid": product_census.grid(DEVICE)}
    ids, mask = (tensor.to(DEVICE) for tensor in reference_notes(SMALL))
    for architecture in ARCHITECTURES:
        for attention in ("sdpa", "eager"):
            model = reference_model(architecture, "plain", SMALL, attention).to(DEVICE)
            found[f"{architecture}.{attention}"] = product_census.census(model, ids, mask)
    if folder:
        pipeline = Pipeline(RunDirectory(folder))
        notes = pipeline.tokens(pipeline.split("test").head(16), True).prepare(Tokenization(True, 512))
        found["run_directory"] = product_census.census(
            pipeline.model().to(DEVICE), *batch(notes, 0, 16, DEVICE)
        )
    return found


def product_rows(name: str, product: Callable[..., Tensor]) -> Iterator[dict[str, Any]]:
    """The product under each reduced format, for real and emulated; under TF32 also with truncation."""
    with applied(POLICIES["fp64"], DEVICE):
        exact = product(lambda t: t.double())
    for emulated, real in EMULATED.items():
        if refusal(POLICIES[real], DEVICE):
            continue
        with applied(POLICIES[real], DEVICE), autocast(POLICIES[real], DEVICE):
            found = product().double()
        number_format = POLICIES[emulated].emulate
        assert number_format is not None
        with applied(POLICIES["fp32"], DEVICE):
            plain = product().double()
            # Straight through the mode, which sees products only.
            with Emulation(number_format):
                predicted = product().double()
            truncated = product(
                change=lambda t: (t.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)
            ).double()
            rounded = product(change=round_tf32).double()
        row = {"product": name, "policy": real} | agreement(found, predicted, exact)
        row["fp32_rms"] = rms(plain - exact)
        if real == "tf32":
            row["truncated_rms_ratio"] = rms(truncated - exact) / max(rms(found - exact), 1e-300)
            row["inputs_rounded_correlation"] = correlation(found - exact, rounded - exact)
        yield row


def logits(
    model: nn.Module, notes: ModelInput, policy: str, device: torch.device, batch_size: int = 64
) -> np.ndarray:
    with applied(POLICIES[policy], device):
        return predict(model, notes, POLICIES[policy], device, batch_size).logits.astype(np.float64)


def small_models(arrays: dict[str, np.ndarray], size: Size) -> list[dict[str, Any]]:
    """The reference models that any machine can make again: what this GPU computes, for tests to read."""
    rows = []
    notes = reference_input(size)
    for architecture in ARCHITECTURES:
        for conditioning in CONDITIONINGS:
            model = reference_model(architecture, conditioning, size)
            name = f"{architecture}.{conditioning}"
            exact = logits(model, notes, "fp64", DEVICE, size.notes)
            arrays[f"{name}.fp64"] = exact[:KEPT_NOTES]
            row: dict[str, Any] = {
                "model": name,
                "weights_digest": weights_digest(model.state_dict()),
                "spread": float(exact.std()),
            }
            eager = reference_model(architecture, conditioning, size, "eager")
            for policy in REAL:
                if refusal(POLICIES[policy], DEVICE):
                    continue
                found = logits(model, notes, policy, DEVICE, size.notes)
                arrays[f"{name}.{policy}"] = found[:KEPT_NOTES].astype(np.float32)
                row[policy] = {"max": float(np.abs(found - exact).max()), "rms": rms(found - exact)}
            for emulated, real in EMULATED.items():
                if real not in row:
                    continue
                predicted = logits(model, notes, emulated, DEVICE, size.notes)
                row[emulated] = agreement(logits(model, notes, real, DEVICE, size.notes), predicted, exact)
                eager_real = logits(eager, notes, real, DEVICE, size.notes)
                arrays[f"{name}.{real}.eager"] = eager_real[:KEPT_NOTES].astype(np.float32)
                row[emulated]["eager"] = agreement(
                    eager_real, logits(eager, notes, emulated, DEVICE, size.notes), exact
                )
            rows.append(row)
    return rows


def run_directory(folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """A run directory's test notes under fp64 and portable: the bars that CPU and GPU are held to."""
    pipeline = Pipeline(RunDirectory(folder))
    found: dict[str, Any] = {
        "name": pipeline.directory.name,
        "weights_digest": pipeline.checkpoint.record.weights_digest,
    }
    for policy in ("fp64", "portable", "fp32", "tf32", "fp16-autocast", "bf16-autocast"):
        if refusal(POLICIES[policy], DEVICE):
            continue
        setting = Setting(POLICIES[policy], Tokenization(lowercase=True), device=DEVICE.type)
        run = pipeline.score("test", setting).run
        kept = run.logits if policy == "portable" else run.logits[:200]
        arrays[f"run_directory.{policy}"] = kept
        found[policy] = {
            "documents": run.documents,
            "seconds": run.manifest.duration_seconds,
            "flags": to_json(run.manifest.flags),
        }
    return found


def pretrained(
    architecture: Architecture, encoder: Path, arrays: dict[str, np.ndarray], tiny: bool
) -> dict[str, Any]:
    """The ladder on really pretrained weights under random heads, and what this GPU computes for tests to read."""
    with tempfile.TemporaryDirectory() as folder:
        run = pretrained_run_directory(
            encoder, Path(folder) / architecture, architecture, 4 if tiny else PRETRAINED
        )
        pipeline = Pipeline(RunDirectory(run))
        split = pipeline.split("test")
        notes = pipeline.tokens(split, True).prepare(Tokenization(True, 512))
        model = pipeline.model().to(DEVICE)
        for policy in ("fp64", *REAL):
            if not refusal(POLICIES[policy], DEVICE):
                found = logits(model, head(notes, PRETRAINED_KEPT), policy, DEVICE, PRETRAINED_KEPT)
                kept = found if policy == "fp64" else found.astype(np.float32)
                arrays[f"pretrained.{architecture}.{policy}"] = kept
        return {
            "parameters": pipeline.checkpoint.record.parameters,
            "weights_digest": weights_digest(model.state_dict()),
            "full_notes": int((notes.token_counts > 512).sum()),
            "notes": len(notes),
            "ladder": ladder(model, notes, split.labels, None, None),
        }


def train(architecture: Architecture, folder: Path, size: Size | None, workers: int) -> dict[str, Any]:
    """A run directory with a random encoder under trained heads, its logits spread as a trained model's.

    Training the encoder too takes more notes than a minute allows: after a few hundred steps it gives all notes one vector.
    """
    base_model, tokens = write_base_model(folder, size)
    config = BertConfig.from_pretrained(base_model)
    torch.manual_seed(1)
    layers = (9, 11) if size is None else (size.layers - 3, size.layers - 1)
    model: ClsFusion | ConceptAttention = (
        ClsFusion(config, len(CODES), CONCEPTS)
        if architecture == "cls_fusion"
        else ConceptAttention(config, len(CODES), CONCEPTS, fusion_layers=layers)
    )
    # Attention sharp enough that notes do not all look alike to a random encoder.
    fill(model, sharpness=3.0, seed=1)
    model.requires_grad_(False)
    kind = architecture_named(architecture)
    assert kind is not None and kind.concept_head is not None
    heads = [model.get_submodule(name).requires_grad_(True) for name in (*kind.heads, kind.concept_head)]
    model.to(DEVICE).train()
    steps, batch_size = (300, 32) if size is None else (6, 8)
    data = examples("train", batch_size * (64 if size is None else 4), base_model, workers).to(DEVICE)
    optimizer = torch.optim.AdamW([parameter for part in heads for parameter in part.parameters()], 1e-3)
    begun = clock()

    def low() -> torch.autocast:
        return torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda")

    loss = torch.zeros(())
    for step in range(steps):
        rows = torch.arange(batch_size, device=DEVICE) + step * batch_size % len(data.ids)
        loss = loss_of(model, data.ids[rows, :tokens].long(), data.codes[rows], data.concepts[rows], low)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    seconds = clock() - begun
    model.eval().requires_grad_(False)
    factor = spread_logits(model, data.ids[:64, :tokens].long())
    write_run_directory(folder, model, 512 if size is None else 24)
    return {
        "steps": steps,
        "batch_size": batch_size,
        "loss": float(loss.detach()),
        "seconds": round(seconds, 1),
        "head_factor": round(factor, 2),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def write_base_model(folder: Path, size: Size | None) -> tuple[Path, int]:
    """`config.json` and the demo's vocabulary, filled up to the 28,996 entries of Bio_ClinicalBERT."""
    base_model = folder / "base_model"
    base_model.mkdir(parents=True)
    words = (DATA / "base_model" / "vocab.txt").read_text().splitlines()
    if size is None:
        words += [f"[unused{i}]" for i in range(28_996 - len(words))]
        config, tokens = BertConfig(vocab_size=len(words)), 512
    else:
        tokens = size.tokens
        config = BertConfig(
            vocab_size=len(words), hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads,
            intermediate_size=4 * size.hidden, max_position_embeddings=512,
        )  # fmt: skip
    (base_model / "config.json").write_text(json.dumps(config.to_dict() | {"model_type": "bert"}))
    (base_model / "vocab.txt").write_text("\n".join(words) + "\n")
    return base_model, tokens


@torch.no_grad()
def spread_logits(model: ClsFusion | ConceptAttention, ids: Tensor) -> float:
    """Scale each row of the head so that its logits vary by 2 over the notes, around a mean of −1.5; the median factor."""
    head = model.diagnosis_classifier if isinstance(model, ClsFusion) else model.diagnosis_head
    found = model(ids, (ids != 0).long())["logits"].float()
    factor = 2.0 / found.std(dim=0)
    head.weight *= factor[:, None]
    head.bias.copy_((head.bias - found.mean(dim=0)) * factor - 1.5)
    return float(factor.median())


def end_to_end(base: Base) -> dict[str, Any]:
    """The product's own way, once: `predict` under portable with the seed's batches."""
    setting = Setting(POLICIES["portable"], Tokenization(True, base.length), device=DEVICE.type)
    run = base.pipeline.score("test", setting).run
    return {"documents": run.documents, "non_finite": run.non_finite, "manifest": to_json(run.manifest)}


def ladder(
    model: nn.Module,
    notes: ModelInput,
    labels: np.ndarray,
    note_flops: float | None,
    machine: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    """Every policy against FP64 on the same notes; emulations also against the policy that they predict."""
    exact = logits(model, notes, "fp64", DEVICE)
    kept: dict[str, np.ndarray] = {}
    rows = []
    for policy in ("fp64", *REAL, *EMULATED):
        reason = refusal(POLICIES[policy], DEVICE)
        if reason:
            rows.append({"policy": policy, "refused": reason})
            continue
        logits(
            model, head(notes, 64), policy, DEVICE
        )  # kernels are chosen and memory is had before time is taken
        with applied(POLICIES[policy], DEVICE):
            prediction = predict(model, notes, POLICIES[policy], DEVICE, 64)
        found = kept[policy] = prediction.logits.astype(np.float64)
        rate = len(notes) / prediction.duration_seconds
        row: dict[str, Any] = {"policy": policy, "notes_per_second": round(rate, 1)} | against_referee(
            found, exact, labels
        )
        if note_flops and machine and policy in machine["ceiling_tflops"]:
            row["tflops"] = round(rate * note_flops / 1e12, 1)
            row["share_of_ceiling"] = round(rate * note_flops / 1e12 / machine["ceiling_tflops"][policy], 3)
        if policy in EMULATED and EMULATED[policy] in kept:
            row["agreement"] = agreement(kept[EMULATED[policy]], found, exact)
        rows.append(row)
    return rows


def against_referee(found: np.ndarray, exact: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Differences of logits from FP64, decisions flipped at 0.5, F1 at 0.5 (>; macro over all codes; 0/0 = 0)."""
    size = np.abs(found - exact)
    counts = counts_of_logits(found, labels, np.array([0.5]))
    return {
        "max": float(size.max()),
        "p99": float(np.percentile(size, 99)),
        "median": float(np.median(size)),
        "rms": rms(size),
        "spread": float(exact.std()),
        "flips": int(((found > 0) != (exact > 0)).sum()),
        "decisions": int(size.size),
        "macro_f1": float(macro_f1(counts)[0]),
        "micro_f1": float(micro_f1(counts)[0]),
    }


def flops(model: nn.Module, length: int) -> float:
    """Of one note through the encoder: 24 h² + 4 L h a token and layer, as multiplications and additions."""
    config: Any = model.get_submodule("base_model").config
    hidden = config.hidden_size
    return length * config.num_hidden_layers * (24.0 * hidden**2 + 4.0 * length * hidden)


def sharpened(base: Base) -> nn.Module:
    """The same checkpoint made ill-conditioned: attention scores four times as large."""
    model = base.pipeline.model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attention.self.query" in name or "attention.self.key" in name:
                parameter *= 2.0
    return model.to(DEVICE)


def layers(base: Base, notes: ModelInput) -> list[dict[str, Any]]:
    """Layer profiles against FP64, and one with an error planted in the middle of the encoder."""
    rows = []
    reference = LayerSetting(POLICIES["fp64"])
    for policy in (*REAL, *EMULATED):
        if not refusal(POLICIES[policy], DEVICE):
            profile = profile_layers(
                lambda attention: base.model, notes, LayerSetting(POLICIES[policy]), reference, DEVICE
            )
            rows.append({"policy": policy} | profile_row(profile))
    config: Any = base.model.get_submodule("base_model").config
    middle = config.num_hidden_layers // 2
    name = f"base_model.encoder.layer.{middle}.output.dense"
    fresh = iter((True, False))

    def planted(attention: Any) -> nn.Module:
        model = base.pipeline.model(attention)
        if next(fresh):
            weight: Any = model.get_submodule(name).weight
            weight *= 1 + 1e-4 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        return model

    profile = profile_layers(planted, notes, LayerSetting(POLICIES["fp32"]), reference, DEVICE)
    rows.append({"policy": "fp32", "planted": name} | profile_row(profile))
    return rows


def profile_row(profile: Any) -> dict[str, Any]:
    over, found = excess(profile), first_divergence(profile)
    encoder = [i for i, kind in enumerate(profile.kinds) if kind == "BertLayer"]
    return {
        "modules": len(profile),
        "error_after_layer": [float(profile.relative_error[i]) for i in encoder],
        "error_of_logits": float(
            profile.relative_error[
                next(i for i, name in enumerate(profile.names) if name.startswith("diagnosis"))
            ]
        ),
        "largest_excess": float(np.nanmax(over)),
        "largest_excess_in": profile.names[int(np.nanargmax(over))],
        "first_divergence": found.name if found else None,
        "first_rounding": first_rounding(profile),
        "activation_bytes": profile.activation_bytes,
    }


def against_cpu(base: Base, notes: ModelInput) -> list[dict[str, Any]]:
    """The same weights and notes on this machine's CPU, under policies that both honour; and what emulation costs there."""
    rows = []
    on_gpu, on_cpu = base.model, base.pipeline.model()
    exact = logits(on_gpu, notes, "fp64", DEVICE)
    for policy in ("fp64", "fp32", "portable", *EMULATED):
        begun = time.perf_counter()
        here = logits(on_cpu, notes, policy, CPU, 16)
        row: dict[str, Any] = {"policy": policy, "cpu_seconds": round(time.perf_counter() - begun, 2)}
        there = logits(on_gpu, notes, policy, DEVICE)
        row["max_difference"] = float(np.abs(here - there).max())
        row["decisions_differ"] = int(((here > 0) != (there > 0)).sum())
        real = EMULATED.get(policy)
        if real and not refusal(POLICIES[real], DEVICE):
            row["agreement"] = agreement(logits(on_gpu, notes, real, DEVICE), here, exact)
        rows.append(row)
    return rows


def out_of_memory(model: nn.Module, notes: ModelInput) -> dict[str, Any]:
    """A real out-of-memory error: this process may use a twentieth of the GPU, and asks for a batch that does not fit."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.05)
    try:
        with applied(POLICIES["fp32"], DEVICE):
            found = predict(model, notes, POLICIES["fp32"], DEVICE, len(notes))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    whole = logits(model, notes, "fp32", DEVICE, found.batch_size)
    return {
        "asked": len(notes),
        "ran": found.batch_size,
        "remarks": list(found.remarks),
        "same_as_smaller": bool((whole == found.logits).all()),
    }


PARTS: dict[str, Callable[[Base], Any]] = {
    "census": lambda base: (
        product_census.census(base.model, *batch(base.notes, 0, 16, DEVICE))
        if DEVICE.type == "cuda"
        else None
    ),
    "ladder": lambda base: ladder(
        base.model, base.notes, base.labels, flops(base.model, base.length), base.machine
    ),
    "cpu": lambda base: against_cpu(base, head(base.notes, 8)),
    "ill_conditioned": lambda base: ladder(sharpened(base), base.notes, base.labels, None, None),
    "layers": lambda base: layers(base, head(base.notes, 4)),
    "probes": lambda base: probes_json(run_probes(base.pipeline, DEVICE.type, notes=8))["probes"],
    "end_to_end": end_to_end,
    "out_of_memory": lambda base: out_of_memory(base.model, base.notes) if DEVICE.type == "cuda" else None,
}

if __name__ == "__main__":
    main()
