"""F1 at every distinct score of a run of 17,266 × 50, against scikit-learn's `precision_recall_curve`, in the same run.

python -m benchmarks.ceiling
"""

import numpy as np

from benchmarks.synthetic import CODES, DOCUMENTS, synthetic_run
from benchmarks.timing import report, timed
from shifamind_core.analysis.ceiling import ceiling
from shifamind_core.arrays import probabilities


def by_scikit_learn(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Highest F1 of every code by itself, and, last, of all cells pooled; macro F1 at one threshold is in none of its curves."""
    from sklearn.metrics import precision_recall_curve

    best = []
    for scores, truth in [*zip(probability.T, labels.T, strict=True), (probability.ravel(), labels.ravel())]:
        precision, recall, _ = precision_recall_curve(truth, scores)
        total = precision + recall
        best.append(
            np.max(np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0))
        )
    return np.array(best)


def main() -> None:
    run = synthetic_run()
    assert run.labels is not None
    probability, labels = probabilities(run.logits), run.labels
    found, wall, cpu = timed(lambda: ceiling(run), 9)
    print(f"{DOCUMENTS:,} × {CODES}, {found.distinct:,} distinct thresholds")
    report("macro, micro and every code, each at its best threshold", wall, cpu)
    theirs, their_wall, their_cpu = timed(lambda: by_scikit_learn(probability, labels), 3)
    apart = float(np.abs(theirs - np.append(found.code_f1, found.micro_f1.f1)).max())
    report(
        "scikit-learn: every code alone, and micro; no macro",
        their_wall,
        their_cpu,
        f"{their_cpu / cpu:.1f} × the time; F1 at most {apart:.0e} apart",
    )


if __name__ == "__main__":
    main()
