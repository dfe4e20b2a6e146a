"""Same logits, other score: labels that differ, and definitions of the metric that differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from shifamind_core.analysis.counts import Counts, counts_of_decisions, counts_of_logits
from shifamind_core.analysis.scores import macro_f1, macro_f1_of_means, macro_f1_with_support, micro_f1
from shifamind_core.arrays import Labels, Logits, probabilities
from shifamind_core.diagnosis.findings import EvidenceTable, Finding

# Reported scores are rounded to four digits.
ROUNDED = 6e-5


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


@dataclass(frozen=True)
class Definition:
    """A way to turn logits and labels into macro and micro F1."""

    name: str
    macro_f1: float
    micro_f1: float


def definitions(logits: Logits, labels: Labels, threshold: float) -> Iterator[Definition]:
    """The scores of one run under the definitions found in the field, the seed's first."""
    counts = counts_of_logits(logits, labels, np.array([threshold]))
    micro = float(micro_f1(counts)[0])
    yield Definition("macro over all codes, decision > threshold", float(macro_f1(counts)[0]), micro)
    yield Definition("macro over codes that occur", float(macro_f1_with_support(counts)[0]), micro)
    yield Definition("F1 of mean precision and mean recall", float(macro_f1_of_means(counts)[0]), micro)
    probability = probabilities(logits)
    yield _decided("decision ≥ threshold", probability >= threshold, labels)
    again = probabilities(probability)
    yield _decided("sigmoid applied twice", again > threshold, labels)
    yield _decided("threshold applied to the logits", logits > threshold, labels)
    positives = labels.sum(axis=0)
    share = positives / max(int(positives.sum()), 1)
    yield Definition("F1 weighted by support", float((_f1(counts) * share).sum()), micro)
    for k in (5, 8, 10, 15):
        if k < logits.shape[1]:
            order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
            chosen = np.zeros(logits.shape, bool)
            np.put_along_axis(chosen, order, True, axis=1)
            yield _decided(f"top {k} codes of every note", chosen, labels)
    grid = np.round(np.arange(0.05, 0.951, 0.01), 2)
    swept = counts_of_logits(logits, labels, grid)
    for place, other in enumerate(grid):
        at = swept.at(place)
        yield Definition(f"threshold {other:g}", float(macro_f1(at)[0]), float(micro_f1(at)[0]))


def _decided(name: str, chosen: np.ndarray, labels: Labels) -> Definition:
    counts = counts_of_decisions(chosen, labels)
    return Definition(name, float(macro_f1(counts)[0]), float(micro_f1(counts)[0]))


def _f1(counts: Counts) -> np.ndarray:
    doubled = 2 * counts.true_positives[0]
    total = counts.predicted_positives[0] + counts.positives
    return np.divide(doubled, total, out=np.zeros(len(total)), where=total > 0)


def metric_finding(
    logits: Logits, labels: Labels, reported: Mapping[str, float], whose: str
) -> Finding | None:
    """Reported scores that the run's own logits and labels do not give; `None` where they do.

    `reported` maps e.g. ``macro_f1@0.5`` to a score; scores of other kinds are not looked at.
    """
    wanted = _parse(reported)
    if not wanted:
        return None
    threshold = next(iter(wanted))[1]
    targets = {metric: value for (metric, at), value in wanted.items() if at == threshold}
    tried = list(definitions(logits, labels, threshold))
    usual = tried[0]
    if _distance(usual, targets) <= ROUNDED:
        return None
    best = min(tried, key=lambda definition: _distance(definition, targets))
    distance = _distance(best, targets)
    reproduced = distance <= ROUNDED
    told = ", ".join(f"{metric} {value:.4f}" for metric, value in targets.items())
    recomputed = f"macro {usual.macro_f1:.4f}, micro {usual.micro_f1:.4f}"
    named = (
        f"“{best.name}” gives exactly that."
        if reproduced
        else f"No definition tried gives it; “{best.name}” comes closest, {distance:.4f} off."
    )
    return Finding(
        "metric_definition",
        "confirmed" if reproduced else "possible",
        0.97 if reproduced else 0.45,
        f"Reported for the {whose} at {threshold:g}: {told}. Its own logits and labels give {recomputed}. {named}",
        "Score both runs with one definition: decision >, all codes averaged, 0/0 = 0.",
        {
            "reported": dict(reported),
            "recomputed": {"macro_f1": usual.macro_f1, "micro_f1": usual.micro_f1},
            "definition": best.name,
            "distance": distance,
            "threshold": threshold,
        },
        EvidenceTable(
            "Scores under other definitions",
            ("definition", "macro F1", "micro F1"),
            tuple(
                (item.name, item.macro_f1, item.micro_f1)
                for item in tried
                if not item.name.startswith("threshold 0")
            ),
        ),
    )


def _parse(reported: Mapping[str, float]) -> dict[tuple[str, float], float]:
    wanted = {}
    for name, value in reported.items():
        metric, _, at = name.partition("@")
        if metric in ("macro_f1", "micro_f1") and at:
            wanted[metric, float(at)] = value
    return wanted


def _distance(definition: Definition, targets: Mapping[str, float]) -> float:
    return max(abs(getattr(definition, metric) - value) for metric, value in targets.items())
