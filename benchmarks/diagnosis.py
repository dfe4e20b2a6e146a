"""All of `diagnose` on 17,266 × 50, for what the pages meet: equal runs, rounding, other orders, other scales, other notes.

python -m benchmarks.diagnosis

The peer in the same run: scikit-learn's per-code F1 of both runs at 80 thresholds, what a person computes by hand.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.special import expit
from sklearn.metrics import f1_score

from benchmarks.synthetic import synthetic_run
from benchmarks.timing import report, timed
from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.runs.run import Run


def cases(run: Run) -> Iterator[tuple[str, Run]]:
    """A candidate for every kind of difference, by name; without ids, so that rows have to be found by their values."""
    rng = np.random.default_rng(0)
    notes, codes = rng.permutation(run.documents), rng.permutation(len(run.codes or ()))

    def noisy(size: float) -> np.ndarray:
        return run.logits + (size * run.logits.std() * rng.standard_normal(run.logits.shape)).astype(
            np.float32
        )

    yield "equal", run
    yield "rounding", replace(run, logits=noisy(1e-3))
    yield "notes in another order", replace(run, logits=run.logits[notes])
    yield "notes in another order, and rounding", replace(run, logits=noisy(1e-3)[notes])
    yield "codes in another order, and rounding", replace(run, logits=noisy(1e-3)[:, codes])
    yield "probabilities", replace(run, logits=expit(run.logits))
    yield "probabilities, and rounding", replace(run, logits=expit(noisy(1e-3)))
    yield "percent", replace(run, logits=100 * expit(run.logits))
    yield "stored in half precision", replace(run, logits=run.logits.astype(np.float16).astype(np.float32))
    yield (
        "a hundred notes of other content",
        replace(run, logits=np.where(np.arange(run.documents)[:, None] < 100, noisy(0.5), run.logits)),
    )
    yield "everything changed", replace(run, logits=noisy(1.0))  # fmt: skip


def main() -> None:
    run = replace(synthetic_run(), document_ids=None)
    probabilities = expit(run.logits)

    def by_hand() -> None:
        for threshold in np.linspace(0.05, 0.95, 80):
            f1_score(run.labels, probabilities > threshold, average=None, zero_division=0)

    _, *peer = timed(by_hand, 1)
    report("scikit-learn: F1 a code at 80 thresholds, both runs", 2 * peer[0], 2 * peer[1])
    for name, candidate in cases(run):
        found, *times = timed(lambda candidate=candidate: diagnose(candidate, run), 3)
        first = found.findings[0]
        report(
            f"diagnose: {name}",
            *times,
            f"1/{2 * peer[0] / times[0]:.0f} of the peer: {first.cause}, {first.status}",
        )


if __name__ == "__main__":
    main()
