"""The precision ladder: what each policy does to this model's logits, measured against FP64 on the same notes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shifamind_core.analysis.counts import decisions
from shifamind_core.analysis.rungs import Ladder, Rung
from shifamind_core.analysis.thresholds import run_counts, score
from shifamind_core.errors import PolicyRefused
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.tokenization import Progress
from shifamind_core.precision.apply import refusal, resolve_device
from shifamind_core.precision.policy import POLICIES
from shifamind_core.records import to_json
from shifamind_core.runs.run import Run

LADDER = ("fp64", "fp32", "tf32", "fp16-autocast", "fp16", "bf16-autocast", "bf16")
PREDICTED = {"tf32": "emulated-tf32"}  # where the device cannot, what it would do is predicted
THRESHOLD = 0.5


def climb(
    pipeline: Pipeline,
    split: str,
    setting: Setting,
    limit: int | None = None,
    progress: Progress | None = None,
    partial: Callable[[dict[str, Any]], None] | None = None,
    policies: Sequence[str] = LADDER,
) -> Ladder:
    """Score the first `limit` notes under every policy and compare with FP64.

    Runs go through the pipeline's cache, so that a second ladder is nearly free.
    """
    device = resolve_device(setting.device)
    named = [PREDICTED.get(name, name) if refusal(POLICIES[name], device) else name for name in policies]
    refused = [
        Rung(name, refusal(POLICIES[name], device)) for name in policies if refusal(POLICIES[name], device)
    ]
    referee: Run | None = None
    rungs: list[Rung] = []
    digests: dict[str, str] = {}
    for name in dict.fromkeys(["fp64", *named]):

        def step(message: str, done: int, total: int, name: str = name) -> None:
            if progress:
                progress(f"{name}: {message}", done, total)

        try:
            run = pipeline.score(split, replace(setting, policy=POLICIES[name]), limit, step).run
        except PolicyRefused as error:
            refused.append(Rung(name, str(error)))
            continue
        referee = referee or run
        rungs.append(compare_with_referee(name, run, referee))
        digests[name] = run.digest
        if partial:
            partial({"rungs": [to_json(rung) for rung in rungs]})
    assert referee is not None
    return Ladder(
        rungs=(*rungs, *refused),
        documents=referee.documents,
        checkpoint=pipeline.checkpoint.record.weights_digest or "",
        device=referee.manifest.environment.gpu or "CPU" if referee.manifest.environment else "CPU",
        run_digests=digests,
    )


def compare_with_referee(name: str, run: Run, referee: Run) -> Rung:
    """Differences in FP64; non-finite logits are counted and left out of them."""
    difference = np.abs(run.logits.astype(np.float64) - referee.logits)
    finite = np.isfinite(difference)
    cells = difference[finite]
    flips = decisions(run.logits, THRESHOLD) != decisions(referee.logits, THRESHOLD)
    scored = (
        score(run_counts(run, np.array([THRESHOLD])))
        if run.labels is not None and not run.non_finite
        else None
    )
    return Rung(
        policy=name,
        max_abs=float(cells.max()),
        p99_abs=float(np.percentile(cells, 99)),
        median_abs=float(np.median(cells)),
        rms=float(np.sqrt((cells**2).mean())),
        flips=int(flips[finite].sum()),
        decisions=int(flips.size),
        macro_f1=scored.macro_f1 if scored else None,
        micro_f1=scored.micro_f1 if scored else None,
        seconds=run.manifest.duration_seconds,
        non_finite=run.non_finite,
    )
