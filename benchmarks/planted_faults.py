"""Every planted fault against every finding: a confusion matrix, and how long the slowest takes at 17,266 × 50.

python -m benchmarks.planted_faults            some minutes, with a process a core

Faults of the output are planted in a run that the demo's checkpoint gave on a GPU; faults of model, input and
arithmetic in the demo's checkpoint itself, and in a concept attention model on the same encoder. All of them are known to
whoever works on the matchers: what holds on models nobody has seen is measured by `simulation.evaluate`.
"""

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import report, timed
from shifamind_core.demo import write_demo
from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file
from shifamind_core.settings import processors
from simulation import planted, planted_models, subjects
from simulation.planted import Planted

LEVELS = ("with manifests", "logits and token counts", "logits alone")


@dataclass(frozen=True)
class Outcome:
    """What a diagnosis made of a planted fault."""

    planted: str
    found: str
    first: bool
    among_three: bool
    twin: bool
    variant: str


def main() -> None:
    """Print the matrices, and measure the time."""
    for library in ("OMP", "OPENBLAS"):  # in the processes that are started: one thread each
        os.environ[f"{library}_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        write_demo(demo := Path(folder) / "demo")
        with ProcessPoolExecutor(processors(), get_context("spawn")) as pool:
            parts = list(pool.map(outcomes_of, PARTS, repeat(demo)))
            seconds = list(pool.map(seconds_of, range(FULL_SIZE)))
    outcomes = {level: [found for part in parts for found in part[level]] for level in LEVELS}
    sections = [section(level, found) for level, found in outcomes.items()]
    text = "\n\n".join([overview(outcomes), *sections[:1], *sections[2:]])
    print(text, flush=True)
    measure(seconds)


def outcomes_of(part: str, demo: Path) -> dict[str, list[Outcome]]:
    """What a diagnosis makes of every fault of one part, level by level."""
    torch.set_num_threads(1)
    cases = list(PARTS[part](demo))
    return {level: [judged(case, level) for case in cases] for level in LEVELS}


def of_output(demo: Path) -> Iterator[Planted]:
    """Faults planted in the logits of a run on a GPU."""
    run = read_run_file(demo / "references" / "h200-fp32-test.safetensors")
    run = replace(run, name="reference", document_ids=None, token_digests=None)
    half = run.documents // 2
    parts = run.select(rows=np.arange(half)), run.select(rows=np.arange(half, 2 * half))
    for plant in planted.OUTPUT_PLANTERS:
        yield from plant(run, 1)
    yield from planted.plant_other_data(*parts, 1)
    yield from planted.plant_metric(run, 1)


def of_attention(demo: Path) -> Iterator[Planted]:
    """Faults of a concept attention model on the demo's encoder."""
    yield from planted_models.plant_models(subjects.attention_subject(subjects.demo_subject(demo)), seed=2)


def of_demo(demo: Path) -> Iterator[Planted]:
    """Faults of the demo's model."""
    yield from planted_models.plant_models(subjects.demo_subject(demo), seed=1)


def recorded(demo: Path) -> Iterator[Planted]:
    """The demo's runs on a GPU against each other."""
    runs = {
        name: read_run_file(demo / "references" / f"h200-{name}-test.safetensors")
        for name in ("fp32", "tf32", "bf16-autocast", "cased")
    }
    for name in ("tf32", "bf16-autocast"):
        yield Planted("numerics", f"{name} on a GPU", runs[name], runs["fp32"])
    general = ("input_changed",)
    yield Planted("tokenizer_casing", "on a GPU", runs["cased"], runs["fp32"], general=general)
    also = ("numerics",)
    yield Planted("tokenizer_casing", "against TF32", runs["cased"], runs["tf32"], also, general)


PARTS: dict[str, Callable[[Path], Iterator[Planted]]] = {  # what takes longest first
    "attention": of_attention,
    "demo": of_demo,
    "output": of_output,
    "recorded": recorded,
}


def judged(case: Planted, level: str) -> Outcome:
    """Diagnose a case with what that level leaves."""
    right, twin, counts = case.right, False, level == LEVELS[1]
    if level != LEVELS[0]:
        case, right, twin = case.alone(counts), case.right_alone(counts), bool(case.twins)
        right = {*right, *case.twins}
    diagnosis = diagnose(case.candidate, case.reference, reported=case.reported)
    ranked = [finding.cause for finding in diagnosis.findings if finding.status != "ruled_out"]
    return Outcome(
        case.cause if level == LEVELS[0] or not case.general else case.general[0],
        ranked[0],
        ranked[0] in right,
        bool(right & set(ranked[:3])),
        twin,
        case.variant,
    )


def overview(outcomes: dict[str, list[Outcome]]) -> str:
    """One row a level: how many, how many right; pairs that logits cannot tell apart counted on their own."""
    lines = [
        "| known | planted | first | among the first three | `numerics` for another fault | another cause for precision | cannot be told: planted | one of the pair first |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for level, found in outcomes.items():
        told, twins = ([o for o in found if o.twin is twin] for twin in (False, True))
        precision = [o for o in told if o.planted in ("numerics", "identical")]
        lines.append(
            f"| {level} | {len(told)} | {share([o.first for o in told])} | {share([o.among_three for o in told])} "
            f"| {sum(o.found == 'numerics' for o in found if o.planted != 'numerics' and not o.first)} "
            f"| {sum(not o.first for o in precision)} of {len(precision)} "
            f"| {len(twins)} | {sum(o.first for o in twins)} |"
        )
    return "\n".join(lines)


def share(flags: list[bool]) -> str:
    """A share in percent."""
    return f"{100 * sum(flags) / max(len(flags), 1):.1f} %"


def section(level: str, outcomes: list[Outcome]) -> str:
    """The confusion matrix of one level, as lines: planted, how many, and what was found first."""
    lines = [
        f"First finding {level}, by planted cause (right ones by a planted name are joined):",
        "",
        "| planted | n | right | found instead |",
        "|---|---|---|---|",
    ]
    for cause in dict.fromkeys(outcome.planted for outcome in sorted(outcomes, key=lambda o: o.planted)):
        own = [outcome for outcome in outcomes if outcome.planted == cause]
        wrong = Counter(outcome.found for outcome in own if not outcome.first)
        told = ", ".join(f"`{name}` {count}" for name, count in wrong.most_common()) or "–"
        lines.append(f"| `{cause}` | {len(own)} | {sum(outcome.first for outcome in own)} | {told} |")
    return "\n".join(lines)


def pooled(candidate: Run, reference: Run) -> dict[str, float]:
    """What a comparison of whole arrays computes, as Polygraphy does: no rows, no codes, no cause."""
    a, b = candidate.logits.astype(np.float32).ravel(), reference.logits.astype(np.float32).ravel()
    difference = np.abs(a - b)
    relative = difference / np.maximum(np.abs(b), 1e-12)
    quantiles = np.quantile(difference, (0.5, 0.9, 0.99))
    noise = float((difference.astype(np.float64) ** 2).mean())
    return {
        "max": float(difference.max()),
        "mean": float(difference.mean()),
        "median": float(np.median(difference)),
        "max_relative": float(relative.max()),
        "median_relative": float(np.median(relative)),
        "p99": float(quantiles[-1]),
        "cosine": float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))),
        "snr": float(10 * np.log10((b.astype(np.float64) ** 2).mean() / max(noise, 1e-30))),
    }


FULL_SIZE = len(planted.OUTPUT_PLANTERS) + 1


def full_size(part: int) -> list[Planted]:
    """Faults at the case's size: of one planter of the output; and at last other data, and dense changes of several shapes."""
    run = planted.synthetic_run(17_266, seed=1)
    if part < len(planted.OUTPUT_PLANTERS):
        return list(planted.OUTPUT_PLANTERS[part](run, 1))
    other = planted.synthetic_run(17_266, seed=1, notes=1)
    return [*planted.plant_other_data(run, other, 1), *planted.plant_dense(run, other, 1)]


def seconds_of(part: int) -> list[float]:
    """How long a diagnosis of each takes, beside others."""
    return [_seconds(case) for case in full_size(part)]


def measure(beside_others: Sequence[Sequence[float]]) -> None:
    """Time of the slowest fault of each cause, looked at once more, alone."""
    slowest: dict[str, tuple[float, Planted]] = {}
    for part, seconds in enumerate(beside_others):
        for case, took in zip(full_size(part), seconds, strict=True):
            if took > slowest.get(case.cause, (0.0, case))[0]:
                slowest[case.cause] = took, case
    # What else the machine does makes a time longer, never shorter.
    times = {cause: (min(took, _seconds(case)), case.variant) for cause, (took, case) in slowest.items()}
    run = planted.synthetic_run(17_266, seed=1)
    noisy = planted.with_logits(run, planted.rounding_noise(run, 0.3, 1))
    _, *peer = timed(lambda: pooled(noisy, run))
    report("comparison of pooled values (8 statistics, NumPy)", *peer)
    for cause, (seconds, variant) in sorted(times.items(), key=lambda item: -item[1][0]):
        print(
            f"diagnose, {cause:<24} slowest {seconds:6.2f} s, {1e3 * seconds / peer[0]:6.1f} × pooled  ({variant})"
        )


def _seconds(case: Planted) -> float:
    started = time.perf_counter()
    diagnose(case.candidate, case.reference)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
