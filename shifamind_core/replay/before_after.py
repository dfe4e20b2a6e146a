"""What the winner of a replay changed, in numbers small enough for its JSON: for the figure before and after."""

from typing import Any

import numpy as np

from shifamind_core.analysis.counts import counts_of_decisions, decisions
from shifamind_core.analysis.scores import macro_f1, micro_f1
from shifamind_core.arrays import Labels, Logits
from shifamind_core.replay.fit import match_rows
from shifamind_core.replay.result import Replay
from shifamind_core.replay.runner import Bench
from shifamind_core.replay.search import Search
from shifamind_core.runs.run import Run

BINS_PER_DECADE = 4
LOWEST, HIGHEST = -9, 3  # decades of |difference|
THRESHOLD = 0.5


def before_after(bench: Bench, search: Search, result: Replay, reference: Run) -> dict[str, Any]:
    """Histograms of |difference| from the reference on the confirming notes, and F1 where the reference has labels.

    Returns
    -------
    dict
        `exponents` (edges of log10 |difference|; smaller ones are in the lowest bin), `before`, `after` (counts),
        `zeros` (how many logits are exactly equal: `before`, `after`), `scores` (`macro_f1` and `micro_f1` at 0.5: `before`, `after`, `reference`; or `None`). Of a random
        change one draw is shown.
    """
    rows = search.confirming
    before, after = (bench.values(recipe, rows)[0] for recipe in (search.base, result.best.recipe))
    target = restored = bench.target.values[rows]
    labels = _labels(reference, bench, rows)
    if result.best.fit.document_order and (order := match_rows(after, bench.target.values, rows)):
        restored = bench.target.values[order[0]]
        labels = None  # whose labels moved with its rows is not known
    edges = np.arange(LOWEST * BINS_PER_DECADE, HIGHEST * BINS_PER_DECADE + 1) / BINS_PER_DECADE
    counts = [_histogram(d, edges) for d in (before - target, after - restored)]
    used = np.append(np.flatnonzero(np.sum(counts, axis=0)), -LOWEST * BINS_PER_DECADE)  # 1 is always shown
    first, last = int(used.min()), int(used.max()) + 1
    return {
        "exponents": edges[first : last + 1].tolist(),
        "before": counts[0][first:last].tolist(),
        "after": counts[1][first:last].tolist(),
        "zeros": {
            "before": int(np.count_nonzero(before == target)),
            "after": int(np.count_nonzero(after == restored)),
        },
        "scores": None
        if labels is None
        else {
            name: {
                side: float(score(counts_of_decisions(decisions(values, THRESHOLD), labels))[0])
                for side, values in (("before", before), ("after", after), ("reference", target))
            }
            for name, score in (("macro_f1", macro_f1), ("micro_f1", micro_f1))
        },
    }


def _labels(reference: Run, bench: Bench, rows: np.ndarray) -> Labels | None:
    """The reference's labels for these rows, its columns in the order of the local codes."""
    if reference.labels is None:
        return None
    codes = bench.target.codes
    columns = [reference.codes.index(code) for code in codes] if reference.codes else list(range(len(codes)))
    return reference.labels[rows][:, columns]


def _histogram(difference: Logits, edges: np.ndarray) -> np.ndarray:
    size = np.abs(difference[np.isfinite(difference) & (difference != 0)])
    exponent = np.log10(np.maximum(size, 10.0 ** edges[0]))
    return np.histogram(np.minimum(exponent, edges[-1]), edges)[0]
