"""The counting kernel against scikit-learn's loop over the seed's grid, in the same run, on the same scores.

python -m benchmarks.kernel            17,266 × 50, 80 thresholds (about half a minute, nearly all scikit-learn)
python -m benchmarks.kernel --wide     and 122,279 × 7,942, streamed, with the peak memory
"""

import argparse
import resource
import time
from dataclasses import replace

import numpy as np

from benchmarks.synthetic import CODES, DOCUMENTS, synthetic_run
from benchmarks.timing import report, timed
from shifamind_core.analysis import scores
from shifamind_core.analysis.counts import Counts, counts_at_thresholds
from shifamind_core.analysis.thresholds import SEED_GRID, evaluate
from shifamind_core.arrays import probabilities

WIDE_DOCUMENTS, WIDE_CODES = 122_279, 7_942  # Edin et al.'s MIMIC-IV ICD-10


def curve(probability: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Micro, macro and per-code F1 at every threshold."""
    counts = counts_at_thresholds(probability, labels, SEED_GRID)
    return scores.micro_f1(counts), scores.macro_f1(counts), scores.f1_per_code(counts)


def loop(probability: np.ndarray, labels: np.ndarray, average: str) -> np.ndarray:
    """The seed's loop."""
    from sklearn.metrics import f1_score  # here, so that the memory measured above is not scikit-learn's

    return np.array(
        [f1_score(labels, (probability > t).astype(int), average=average, zero_division=0) for t in SEED_GRID]
    )


def against_scikit_learn() -> None:
    run = synthetic_run()
    assert run.labels is not None
    probability = probabilities(run.logits)
    print(f"{DOCUMENTS:,} × {CODES}, {len(SEED_GRID)} thresholds")
    (micro, macro, _), wall, cpu = timed(lambda: curve(probability, run.labels), 9)
    report("kernel: micro, macro and per code", wall, cpu)
    spent = 0.0
    for average, ours in (("micro", micro), ("macro", macro)):
        theirs, loop_wall, loop_cpu = timed(lambda average=average: loop(probability, run.labels, average), 1)
        spent += loop_cpu
        equal = "equal to the last bit" if np.array_equal(ours, theirs) else "NOT EQUAL"
        report(
            f"scikit-learn loop: {average}",
            loop_wall,
            loop_cpu,
            f"{loop_cpu / cpu:,.0f} × the kernel; {equal}",
        )
    print(f"both scores: {spent / cpu:,.0f} times the kernel's CPU time")
    validation = replace(synthetic_run(seed=1), document_ids=DOCUMENTS + np.arange(DOCUMENTS))  # other notes
    _, wall, cpu = timed(lambda: evaluate(run, validation), 5)
    report("evaluate: fixed, tuned, top-k, per code", wall, cpu)


def wide() -> None:
    """Notes come in blocks, as from a memory map; only the counting is timed."""
    generator = np.random.default_rng(0)
    prevalence = (16 / WIDE_CODES) * np.geomspace(30, 0.03, WIDE_CODES, dtype=np.float32)  # 16 codes a note
    total: Counts | None = None
    seconds = 0.0
    for start in range(0, WIDE_DOCUMENTS, 512):
        shape = (min(512, WIDE_DOCUMENTS - start), WIDE_CODES)
        probability = np.minimum(prevalence * generator.standard_exponential(shape, np.float32), 1)
        labels = (generator.random(shape, np.float32) < probability).astype(np.uint8)
        started = time.process_time()
        counted = counts_at_thresholds(probability, labels, SEED_GRID)
        total = counted if total is None else total + counted
        seconds += time.process_time() - started
    assert total is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{WIDE_DOCUMENTS:,} × {WIDE_CODES:,} streamed: {seconds:.1f} s of counting, peak process memory {peak:,.0f} MB"
    )
    print(f"best micro F1 {scores.micro_f1(total).max():.4f}, macro there over {WIDE_CODES:,} codes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wide", action="store_true")
    if parser.parse_args().wide:
        wide()  # first: the peak is the process's
    against_scikit_learn()
