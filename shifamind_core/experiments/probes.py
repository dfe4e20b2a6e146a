"""Probes: small experiments with the checkpoint on this machine, each with a number and a sentence.

Two FP32 computations of one logit may differ by rounding, and how much that is depends on the model. So it is measured first:
the largest |FP32 − FP64| on the probed notes. A probe that finds no more than a few times that has found rounding.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float64
from scipy.stats import kstest, norm, uniform
from torch import nn

from shifamind_core.analysis.certificate import largest_error
from shifamind_core.artifacts.splits import Split
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.predict import predict
from shifamind_core.inference.tokenization import ModelInput, NoteTokens, Progress, Tokenization
from shifamind_core.model.build import architecture_of_checkpoint, attention_of
from shifamind_core.model.checkpoint import weights_digest
from shifamind_core.precision.apply import applied, refusal, resolve_device
from shifamind_core.precision.policy import POLICIES, Attention
from shifamind_core.records import to_json
from shifamind_core.runs.run_file import read_run_file

Status = Literal["ok", "warning", "failed", "skipped"]

# Two FP32 paths each err by up to the measured rounding; twice that again, for the tails of few notes.
ROUNDING_FACTOR = 4.0
# Kolmogorov's statistic √n·D beyond which one sample in a thousand of the very distribution would lie.
KOLMOGOROV = 1.95
BERT_INITIAL_STD = 0.02
PACKAGE_ROOT = Path(__file__).resolve().parents[2]
SECOND_PROCESS_SECONDS = 1800
FP64_BAR = 1e-10
FP64_OVER_FP32 = (
    2.0**-29
)  # ratio of the unit roundoffs: a model that rounds badly in FP32 does so in FP64, so much smaller


@dataclass(frozen=True)
class Probe:
    """What one probe found. `max_abs_difference` is in logits, except where the message says otherwise; `None` where nothing is compared."""

    name: str
    status: Status
    max_abs_difference: float | None
    message: str


class Bench:
    """Some notes, the model in FP32 on the device, and how much rounding moves its logits there."""

    def __init__(self, pipeline: Pipeline, device: torch.device, notes: int = 8) -> None:
        if notes < 2:
            raise ShifamindError(f"Probes were asked for on {notes} notes; they need at least 2.")
        self.pipeline = pipeline
        self.device = device
        self.count = notes

    @cached_property
    def split(self) -> Split:
        """The test split, or another where there is none."""
        names = self.pipeline.directory.splits
        return self.pipeline.split("test" if "test" in names or not names else names[0])

    @cached_property
    def tokens(self) -> NoteTokens:
        return self.pipeline.tokens(self.split.head(self.count), None)

    @cached_property
    def length(self) -> int:
        """The seed's 512 tokens, or as many positions as the model has."""
        return min(Tokenization().max_length, self.pipeline.positions or Tokenization().max_length)

    @cached_property
    def notes(self) -> ModelInput:
        """Padded to the full length, as in the seed."""
        return self.tokens.prepare(Tokenization(max_length=self.length))

    @cached_property
    def model(self) -> nn.Module:
        return self.pipeline.model().to(self.device)

    def logits(
        self,
        notes: ModelInput | None = None,
        batch_size: int | None = None,
        policy: str = "fp32",
        attention: Attention = "sdpa",
        model: nn.Module | None = None,
    ) -> Float64[np.ndarray, "notes codes"]:
        """Logits [notes, codes] of a pass, in float64; by default all notes in one batch under FP32."""
        model = model or (
            self.model if attention == "sdpa" else self.pipeline.model(attention).to(self.device)
        )
        with applied(POLICIES[policy], self.device, attention):
            found = predict(
                model, notes or self.notes, POLICIES[policy], self.device, batch_size or self.count
            )
        return found.logits.astype(np.float64)

    @cached_property
    def baseline(self) -> Float64[np.ndarray, "notes codes"]:
        return self.logits()

    @cached_property
    def rounding(self) -> float:
        """Largest |FP32 − FP64| of a logit, on a model of its own: what is wrong with the probed one must not excuse it."""
        fresh = self.pipeline.model().to(self.device)
        return largest_error(self.logits(model=fresh), self.logits(model=fresh, policy="fp64"))

    @property
    def allowed(self) -> float:
        """What rounding explains between two FP32 passes."""
        return ROUNDING_FACTOR * self.rounding

    def judged(self, name: str, difference: float, same: str, other: str) -> Probe:
        """Ok where rounding explains the difference, else failed."""
        measured = f"logits differ by at most {difference:.1e}; rounding explains {self.allowed:.1e}."
        if difference <= self.allowed:
            return Probe(name, "ok", difference, f"{same}: {measured}")
        return Probe(name, "failed", difference, f"{other}: {measured}")


def run_probes(
    pipeline: Pipeline,
    device_name: str = "auto",
    notes: int = 8,
    progress: Progress | None = None,
    found: Callable[[list[Probe]], None] | None = None,
) -> list[Probe]:
    """All probes, in the order of `PROBES`; `found` is told after each.

    Raises
    ------
    ShifamindError
        The checkpoint cannot be loaded at all, or there are no notes.
    """
    bench = Bench(pipeline, resolve_device(device_name), notes)
    bench.count = min(notes, len(bench.tokens))
    results: list[Probe] = []
    for position, (name, probe) in enumerate(PROBES.items()):
        if progress:
            progress(name.replace("_", " ").capitalize(), position, len(PROBES))
        try:
            results.append(probe(bench))
        except ShifamindError as error:
            results.append(Probe(name, "failed", None, str(error)))
        if found:
            found(results)
    if progress:
        progress("Done", len(PROBES), len(PROBES))
    return results


def probes_json(probes: list[Probe]) -> dict[str, Any]:
    """The JSON of `probe`."""
    return {"probes": [to_json(one) | {"max_abs_difference": one.max_abs_difference} for one in probes]}


def strict_load(bench: Bench) -> Probe:
    """Every weight of the model from the checkpoint, every weight of the checkpoint in the model."""
    wanted, stored = set(bench.model.state_dict()), set(bench.pipeline.checkpoint.state_dict)
    missing, unused = sorted(wanted - stored), sorted(stored - wanted)
    if missing or unused:
        message = (
            f"{len(missing)} weights are missing and {len(unused)} unused, first {(missing + unused)[0]}."
        )
        return Probe("strict_load", "failed", None, message)
    return Probe(
        "strict_load",
        "ok",
        None,
        f"All {len(stored)} tensors load by name and shape: none missing, none left over.",
    )


def parameters_in_memory(bench: Bench) -> Probe:
    """The model that has just scored notes still holds the file's weights, bit for bit."""
    assert bench.baseline.size  # after a pass: a pass that changed a weight would show
    held = {name: value.detach().cpu() for name, value in bench.model.state_dict().items()}
    stored = {name: value.float() for name, value in bench.pipeline.checkpoint.state_dict.items()}
    difference = max(
        float((held[name].double() - stored[name].double()).abs().max())
        for name in stored
        if stored[name].numel()
    )
    if weights_digest(held) == weights_digest(stored):
        message = (
            f"{len(held)} tensors on {bench.device} equal the file's bit for bit after a pass, by SHA-256."
        )
        return Probe("parameters_in_memory", "ok", 0.0, message)
    message = f"Weights in memory are not those of the file: they differ by up to {difference:.1e} (a weight, not a logit)."
    return Probe("parameters_in_memory", "failed", difference, message)


def eval_mode(bench: Bench) -> Probe:
    """No module in training mode; and what dropout would do, if it were."""
    dropouts = [module for module in bench.model.modules() if isinstance(module, nn.Dropout) and module.p > 0]
    training = [name for name, module in bench.model.named_modules() if module.training]
    moved = _moved_by_dropout(bench)
    if training:
        message = f"{len(training)} modules are in training mode, first {training[0] or 'the model itself'}: dropout moves logits by up to {moved:.2g}."
        return Probe("eval_mode", "failed", moved, message)
    message = f"All modules are in evaluation mode and {len(dropouts)} dropouts are off. Left on, they would move logits by up to {moved:.2g}."
    return Probe("eval_mode", "ok", 0.0, message)


def head_not_random(bench: Bench) -> Probe:
    """Weights of the diagnosis head against the distributions it may have been initialised from, and its logits
    against how frequent the codes are."""
    checkpoint = bench.pipeline.checkpoint
    name = architecture_of_checkpoint(checkpoint).head(checkpoint.state_dict)
    weight = checkpoint.state_dict[f"{name}.weight"].double().numpy()
    nearest, distance = distance_from_initialisation(weight)
    correlation = _follows_frequencies(bench.baseline.mean(axis=0), bench.split.labels.mean(axis=0))
    codes = weight.shape[0]
    enough = 3 / np.sqrt(codes)  # three standard deviations of a correlation between unrelated columns
    spread = float(np.median(bench.baseline.std(axis=0)))
    measured = (
        f"√n·D = {distance:.1f} from {nearest} ({KOLMOGOROV} would be chance); mean logits follow the codes' frequencies with "
        f"r = {correlation:.2f}; logits spread by {spread:.2g} over the notes."
    )
    if distance < KOLMOGOROV and not correlation > enough:
        message = f"The diagnosis head looks freshly initialised, not trained: {measured}"
        return Probe("head_not_random", "failed", None, message)
    if distance < KOLMOGOROV or (enough < 0.8 and not correlation > enough):
        return Probe(
            "head_not_random", "warning", None, f"The diagnosis head is unusual for a trained one: {measured}"
        )
    return Probe("head_not_random", "ok", None, f"The diagnosis head was trained: {measured}")


def repeatability(bench: Bench) -> Probe:
    """The same batch twice, bit for bit."""
    again = bench.logits()
    difference = largest_error(again, bench.baseline)
    if difference == 0:
        message = f"{again.size:,} logits of the same batch came out the same bit for bit."
        return Probe("repeatability", "ok", 0.0, message)
    status: Status = "warning" if difference <= bench.allowed else "failed"
    message = f"The same batch gave logits that differ by up to {difference:.1e}: something random or unordered is at work. Try --deterministic."
    return Probe("repeatability", status, difference, message)


def batch_size(bench: Bench) -> Probe:
    """Batches of half the size, with the same padding."""
    half = max(1, bench.count // 2)
    difference = largest_error(bench.logits(batch_size=half), bench.baseline)
    return bench.judged(
        "batch_size",
        difference,
        f"Batches of {half} and of {bench.count} notes agree",
        f"Logits depend on the batch size ({half} against {bench.count})",
    )


def company(bench: Bench) -> Probe:
    """Each note alone, against the same note among others, with the same padding."""
    difference = largest_error(bench.logits(batch_size=1), bench.baseline)
    return bench.judged(
        "company",
        difference,
        "A note alone and in company scores alike",
        "A note's logits depend on which others are in its batch",
    )


def padding(bench: Bench) -> Probe:
    """The same tokens without padding and padded to the full length.

    Notes are cut to half the length first, so that there is room for padding whatever notes these are.
    """
    half = bench.tokens.prepare(Tokenization(max_length=max(3, bench.length // 2), padding="longest"))
    wide = np.full((len(half), bench.length), bench.tokens.tokenizer.pad_id, np.int32)
    wide[:, : half.ids.shape[1]] = half.ids
    bare = bench.logits(half, batch_size=1)
    padded = bench.logits(replace(half, ids=wide, longest=False))
    difference = largest_error(bare, padded)
    if difference <= bench.allowed:
        return bench.judged("padding", difference, "Padding changes nothing", "")
    flips = int(((bare > 0) != (padded > 0)).sum())
    reason = architecture_of_checkpoint(bench.pipeline.checkpoint).reads_padding
    why = f"{reason} " if reason else ""
    message = (
        f"Logits depend on padding: the same tokens move by up to {difference:.2g} and {flips} of {bare.size} decisions at 0.5 flip. "
        f"{why}That is a real risk: with padding to the longest note, a note's scores depend on its batch. "
        "Always pad to the length that the model was trained with."
    )
    return Probe("padding", "failed", difference, message)


def attention(bench: Bench) -> Probe:
    """Eager attention against torch's fused one."""
    if attention_of(bench.model, "sdpa") != "sdpa":
        return Probe("attention", "skipped", None, "This model has one attention implementation, its own.")
    difference = largest_error(bench.logits(attention="eager"), bench.baseline)
    return bench.judged(
        "attention",
        difference,
        "Eager and fused attention agree",
        "Eager and fused attention disagree",
    )


def tf32(bench: Bench) -> Probe:
    """A product whose exact answer differs under TF32, with every switch as this process finds it."""
    lost = _lost_bits(bench.device)
    if bench.device.type != "cuda":
        status: Status = "ok" if lost == 0 else "failed"
        message = (
            f"An FP32 product on this CPU lost {lost:.1e} of 1 + 2⁻¹¹: "
            f"{'nothing, so no reduced precision is at work' if lost == 0 else 'it runs in reduced precision'}."
        )
        return Probe("tf32", status, lost, message)
    with applied(POLICIES["fp32"], bench.device):
        off = _lost_bits(bench.device)
    can = refusal(POLICIES["tf32"], bench.device) is None
    on = 0.0
    if can:
        with applied(POLICIES["tf32"], bench.device):
            on = _lost_bits(bench.device)
    message = (
        f"Of 1 + 2⁻¹¹, which TF32 cannot hold, a product lost {lost:.1e} by default, {off:.1e} under fp32"
        + (f" and {on:.1e} under tf32" if can else "; this GPU has no TF32")
        + f": TF32 is {'on' if lost else 'off'} by default, and the switch {'works' if off == 0 and (on > 0 or not can) else 'does not work'}."
    )
    works = off == 0 and (on > 0 or not can)
    return Probe("tf32", "failed" if not works else "warning" if lost else "ok", lost, message)


def two_processes(bench: Bench) -> Probe:
    """A second process reads the run directory anew and scores the same notes."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "second.safetensors"
        command = [
            sys.executable, "-m", "shifamind_core", "predict", str(bench.pipeline.directory.checkpoint),
            "--base-model", str(bench.pipeline.base_model), "--split", bench.split.name, "--limit", str(bench.count),
            "--batch-size", str(bench.count), "--max-length", str(bench.length), "--device", bench.device.type,
            "--policy", "fp32", "--output", str(output), "--json",
        ]  # fmt: skip
        if bench.pipeline.weights is not None:
            command += ["--weights", bench.pipeline.weights]
        environment = os.environ | {"SHIFAMIND_CACHE": str(Path(folder) / "cache")}
        done = subprocess.run(
            command,
            cwd=PACKAGE_ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECOND_PROCESS_SECONDS,
            check=False,
        )
        if done.returncode:
            line = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return Probe("two_processes", "failed", None, f"The second process ended with: {line[:300]}")
        other = read_run_file(output).logits.astype(np.float64)
    difference = largest_error(other, bench.baseline)
    if difference == 0:
        return Probe(
            "two_processes", "ok", 0.0, f"A second process gave the same {other.size:,} logits bit for bit."
        )
    status: Status = "warning" if difference <= bench.allowed else "failed"
    message = f"A second process gave logits that differ by up to {difference:.1e}; rounding explains {bench.allowed:.1e}."
    return Probe("two_processes", status, difference, message)


def cpu_against_gpu(bench: Bench) -> Probe:
    """FP64 on the CPU and on the GPU: the referee that any two machines share."""
    if bench.device.type != "cuda":
        message = "torch sees no GPU, or the CPU was asked for: there is nothing to hold the CPU against."
        return Probe("cpu_against_gpu", "skipped", None, message)
    here = bench.logits(policy="fp64")
    cpu = torch.device("cpu")
    model = bench.pipeline.model()
    with applied(POLICIES["fp64"], cpu):
        there = predict(model, bench.notes, POLICIES["fp64"], cpu, bench.count).logits
    difference = largest_error(here, there)
    allowed = max(FP64_BAR, bench.allowed * FP64_OVER_FP32)
    status: Status = "ok" if difference <= allowed else "failed"
    message = f"FP64 logits of CPU and GPU differ by at most {difference:.1e}: {'one referee for both' if status == 'ok' else f'more than {allowed:.1e}, which rounding does not explain'}."
    return Probe("cpu_against_gpu", status, difference, message)


PROBES: dict[str, Callable[[Bench], Probe]] = {
    probe.__name__: probe
    for probe in (
        strict_load, head_not_random, eval_mode, parameters_in_memory, repeatability, batch_size, company, padding,
        attention, tf32, two_processes, cpu_against_gpu,
    )
}  # fmt: skip


def distance_from_initialisation(weight: Float64[np.ndarray, "rows columns"]) -> tuple[str, float]:
    """The nearest of the usual initial distributions, and √n·D of Kolmogorov's test against it.

    torch's own for a linear layer is uniform within 1/√columns; BERT's is normal with standard deviation 0.02.
    """
    bound = weight.shape[1] ** -0.5
    known = {
        f"uniform ± {bound:.3f}": uniform(-bound, 2 * bound),
        f"normal, standard deviation {BERT_INITIAL_STD}": norm(0, BERT_INITIAL_STD),
    }
    values = weight.ravel()
    distances = {
        name: float(np.sqrt(values.size) * kstest(values, distribution.cdf).statistic)
        for name, distribution in known.items()
    }
    nearest = min(distances, key=distances.__getitem__)
    return nearest, distances[nearest]


def _follows_frequencies(mean_logits: np.ndarray, frequencies: np.ndarray) -> float:
    """Correlation of mean logits with the log odds of the codes' frequencies; 0 where either is constant."""
    kept = np.clip(frequencies, 1e-6, 1 - 1e-6)
    odds = np.log(kept / (1 - kept))
    if len(odds) < 3 or np.ptp(odds) == 0 or np.ptp(mean_logits) == 0:
        return 0.0
    return float(np.corrcoef(mean_logits, odds)[0, 1])


def _moved_by_dropout(bench: Bench) -> float:
    """How far logits go from the baseline with dropout on; the mode and the generator are put back."""
    training = {module: module.training for module in bench.model.modules()}
    devices = [bench.device] if bench.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        try:
            bench.model.train()
            noisy = bench.logits()
        finally:
            for module, was in training.items():
                module.training = was
    return largest_error(noisy, bench.baseline)


def _lost_bits(device: torch.device) -> float:
    """How far an FP32 product of 1 + 2⁻¹¹ with the identity is from 1 + 2⁻¹¹."""
    with torch.autocast(device.type, enabled=False):
        value = torch.full((256, 256), 1 + 2**-11, device=device)
        return float((value @ torch.eye(256, device=device) - value).abs().max())
