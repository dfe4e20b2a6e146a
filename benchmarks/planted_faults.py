"""Every planted fault against every finding: a confusion matrix, and how long the slowest takes at 17,266 × 50.

python -m benchmarks.planted_faults

Faults of the output are planted in a run that the demo's checkpoint gave on a GPU; faults of model, input and
arithmetic in the demo's checkpoint itself, and in a concept attention model on the same encoder. The matrix goes into
docs/diagnosis.md, between its markers.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import report, timed
from shifamind_core.demo import write_demo
from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file
from simulation import planted, planted_models, subjects
from simulation.planted import Planted

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "diagnosis.md"
BEGIN, END = "<!-- planted faults: begin -->", "<!-- planted faults: end -->"
LEVELS = ("with manifests", "logits and token counts", "logits alone")
BARS = {"first": 0.95, "first three": 0.99}


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
    """Print the matrices, keep them in the document, and measure the time."""
    torch.set_num_threads(1)
    outcomes: dict[str, list[Outcome]] = {level: [] for level in LEVELS}
    with tempfile.TemporaryDirectory() as folder:
        for case in suite(Path(folder) / "demo"):
            for level in LEVELS:
                outcomes[level].append(judged(case, level))
    sections = [section(level, found) for level, found in outcomes.items()]
    text = "\n\n".join([overview(outcomes), *sections[:1], *sections[2:]])
    print(text, flush=True)
    keep(text)
    measure()


def suite(demo: Path) -> Iterator[Planted]:
    """All planted faults, several strengths and seeds each."""
    write_demo(demo)
    yield from recorded(demo)
    run = read_run_file(demo / "references" / "h200-fp32-test.safetensors")
    run = replace(run, name="reference", document_ids=None, token_digests=None)
    half = run.documents // 2
    parts = run.select(rows=np.arange(half)), run.select(rows=np.arange(half, 2 * half))
    for seed in (1, 2):
        for plant in planted.OUTPUT_PLANTERS:
            yield from plant(run, seed)
        yield from planted.plant_other_data(*parts, seed)
        yield from planted.plant_metric(run, seed)
    subject = subjects.demo_subject(demo)
    for seed, model in ((1, subject), (2, subjects.attention_subject(subject))):
        yield from planted_models.plant_models(model, seed)


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


def judged(case: Planted, level: str) -> Outcome:
    """Diagnose a case with what that level leaves."""
    right, twin, counts = case.right, False, level == LEVELS[1]
    if level != LEVELS[0]:
        case, right, twin = case.alone(counts), case.right_alone(counts), bool(case.twins)
        right = {*right, *case.twins}
    diagnosis = diagnose(case.candidate, case.reference, reported=case.reported)
    ranked = [finding.cause for finding in diagnosis.findings if finding.score > 0]
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


def keep(text: str) -> None:
    """Put the text between the document's markers."""
    document = DOCUMENT.read_text()
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


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


def measure() -> None:
    """Time at the case's size: every fault of the output, and dense changes of several shapes."""
    run = planted.synthetic_run(17_266, seed=1)
    other = planted.synthetic_run(17_266, seed=1, notes=1)
    cases = [case for plant in planted.OUTPUT_PLANTERS for case in plant(run, 1)]
    cases += [*planted.plant_other_data(run, other, 1), *planted.plant_dense(run, other, 1)]
    times: dict[str, tuple[float, str]] = {}
    for case in cases:
        seconds = min(_seconds(case) for _ in range(2))
        if seconds > times.get(case.cause, (0.0, ""))[0]:
            times[case.cause] = seconds, case.variant
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
