"""Same logits, other score: labels that differ."""

import numpy as np

from shifamind_core.analysis.counts import counts_of_logits
from shifamind_core.analysis.scores import macro_f1, micro_f1
from shifamind_core.arrays import Labels, Logits
from shifamind_core.diagnosis.findings import Finding
from shifamind_core.diagnosis.views import EvidenceTable


def f1_at(logits: Logits, labels: Labels, threshold: float = 0.5) -> dict[str, float]:
    """Macro and micro F1 at a threshold: decision >, all codes averaged, 0/0 = 0."""
    counts = counts_of_logits(logits, labels, np.array([threshold]))
    return {"macro_f1": float(macro_f1(counts)[0]), "micro_f1": float(micro_f1(counts)[0])}


def different_labels_finding(
    candidate: Labels, reference: Labels, names: tuple[str, ...] | None, same_logits: bool
) -> Finding | None:
    """Both runs bring labels and the labels are not the same."""
    conflicts = candidate != reference
    cells = int(conflicts.sum())
    if not cells:
        return None
    per_code = conflicts.sum(axis=0)
    rows = int(conflicts.any(axis=1).sum())
    worst = np.argsort(-per_code)[: min(10, int((per_code > 0).sum()))]
    permuted = bool(np.array_equal(np.sort(_row_keys(candidate)), np.sort(_row_keys(reference))))
    kind = " They are the same rows of labels in another order." if permuted and rows > 1 else ""
    return Finding(
        "different_labels",
        "confirmed",
        0.99 if same_logits else 0.62,
        f"{cells:,} of {candidate.size:,} labels differ, in {rows:,} notes and {int((per_code > 0).sum())} codes.{kind}",
        "Score both runs with the same labels.",
        {
            "cells": cells,
            "documents": rows,
            "codes": int((per_code > 0).sum()),
            "rows_permuted": permuted,
        },
        EvidenceTable(
            "Labels that differ, by code",
            ("code", "labels that differ"),
            tuple((names[code] if names else str(code), int(per_code[code])) for code in worst),
        ),
    )


def _row_keys(labels: Labels) -> np.ndarray:
    return np.array([row.tobytes() for row in np.packbits(labels, axis=1)])
