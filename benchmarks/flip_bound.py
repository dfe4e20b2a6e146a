"""The flip bound, the paired bootstrap, the comparison and the gap split at 17,266 × 50.

python -m benchmarks.flip_bound
"""

from dataclasses import replace

import numpy as np

from benchmarks.synthetic import synthetic_run
from benchmarks.timing import report, timed
from shifamind_core.analysis.alignment import align
from shifamind_core.analysis.bootstrap import gap_intervals
from shifamind_core.analysis.comparison import compare_aligned
from shifamind_core.analysis.flip_bound import flip_bound
from shifamind_core.analysis.gap_split import split_gap
from shifamind_core.analysis.tuned_bound import TunedFlipBound


def main() -> None:
    run = synthetic_run()
    bound, *times = timed(lambda: flip_bound(run))
    report("flip bound: build", *times, f"macro F1 {bound.macro_f1:.4f}, micro F1 {bound.micro_f1:.4f}")
    found, *times = timed(lambda: bound.f1_range(0.0024))
    report(
        "flip bound: range at ε = 0.0024 (TF32)", *times, "macro F1 {:.4f} – {:.4f}".format(*found.macro_f1)
    )
    _, *times = timed(lambda: bound.f1_ranges(np.geomspace(1e-7, 10, 200)))
    report("flip bound: curve of 200 ε", *times)
    fall = 0.2169 / 0.2934
    epsilon, *times = timed(lambda: bound.smallest_epsilon(macro_f1=fall * bound.macro_f1))
    report("flip bound: smallest ε for a 26 % fall of macro F1", *times, f"ε = {epsilon:.4f}")
    errors = np.random.default_rng(1).normal(0, 4e-4, 10_000)
    sampled, *times = timed(lambda: bound.sampled_range(errors), 1)
    report("sampled, 200 perturbations of TF32 size", *times, f"macro F1 {sampled.macro_f1.mean:.4f}")

    validation = synthetic_run(seed=1)
    tuned, *times = timed(lambda: TunedFlipBound(validation, run), 1)
    report("tuned bound: build", *times)
    for epsilon in (0.0024, 0.02, 0.2):
        found, *times = timed(lambda epsilon=epsilon: tuned.f1_range(epsilon), 3)
        kind = "exact" if found.exact else "outer"
        low, high = found.macro_f1
        report(
            f"tuned bound: range at ε = {epsilon}",
            *times,
            f"{len(found.thresholds)} thresholds, macro F1 {low:.4f} – {high:.4f}, {kind}",
        )

    noise = np.random.default_rng(2).normal(0, 0.1, run.logits.shape).astype(np.float32)
    shuffled = np.random.default_rng(3).permutation(run.documents)
    other = replace(run, logits=run.logits + noise, name="other").select(rows=shuffled)
    aligned, *times = timed(lambda: align(run, other))
    report("align, all notes in another order", *times)
    _, *times = timed(lambda: compare_aligned(aligned))
    report("compare", *times)
    gap, *times = timed(lambda: gap_intervals(aligned), 3)
    report(
        "paired bootstrap, 1,000 draws, macro and micro", *times, f"micro gap ± {gap.micro_f1.half_width:.4f}"
    )
    _, *times = timed(lambda: split_gap(aligned), 3)
    report("gap split, 1,000 draws, six steps", *times)


if __name__ == "__main__":
    main()
