"""How much of a score, or of a gap, is the luck of the sample: a paired bootstrap over notes.

Whole notes are drawn with replacement, never single decisions: the codes of a note depend on each other. Both
runs are scored on the same draw, so what they share cancels. Per note, "predicted" and "rightly predicted" are
0/1 matrices; a draw is a row of note weights; so one matrix product gives the counts of every draw at once.
Decision: >; macro over all codes; 0/0 = 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from shifamind_core.analysis import scores
from shifamind_core.analysis.alignment import AlignedRuns
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.counts import Decisions, check_thresholds, counts_of_decisions, decisions
from shifamind_core.analysis.places import draw_places, places
from shifamind_core.arrays import Labels
from shifamind_core.progress import counted
from shifamind_core.runs.run import Run

PerDraw = Float64[np.ndarray, "variants draws"]

MATRIX_BYTES = 64 << 20  # of 0/1 matrices held at once; more codes are taken in turns
DRAWS_AT_ONCE = 128
MOST_CELLS = 1 << 24  # of more, the places of positive decisions are held alone


@dataclass(frozen=True)
class Estimate:
    """A number and its central 95 % bootstrap interval (percentiles of the draws)."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval: the ± of the estimate."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class ScoreIntervals:
    """Macro and micro F1, or a gap between two of them, each with its interval over `draws` draws of notes."""

    macro_f1: Estimate
    micro_f1: Estimate
    draws: int


@dataclass(frozen=True, eq=False)
class Draws:
    """F1 of several sets of decisions on the same draws of notes.

    Attributes
    ----------
    macro_f1, micro_f1 : float64 [variants, draws]
        Column 0 is the sample itself; the draws follow.
    """

    macro_f1: PerDraw
    micro_f1: PerDraw


def gap_intervals(
    aligned: AlignedRuns, threshold: float = 0.5, draws: int = 1000, seed: int = 0
) -> ScoreIntervals:
    """Gaps (candidate − reference) in macro and micro F1 at one threshold, each run with its own labels.

    Raises
    ------
    ShifamindError
        A run that cannot be scored.
    """
    drawn = _draw_runs([aligned.candidate, aligned.reference], threshold, draws, seed)
    return ScoreIntervals(
        estimate(drawn.macro_f1[0] - drawn.macro_f1[1]),
        estimate(drawn.micro_f1[0] - drawn.micro_f1[1]),
        draws,
    )


def score_intervals(run: Run, threshold: float = 0.5, draws: int = 1000, seed: int = 0) -> ScoreIntervals:
    """Macro and micro F1 of one run, with the half-width that another sample of notes would show.

    Raises
    ------
    ShifamindError
        A run that cannot be scored.
    """
    drawn = _draw_runs([run], threshold, draws, seed)
    return ScoreIntervals(estimate(drawn.macro_f1[0]), estimate(drawn.micro_f1[0]), draws)


def estimate(values: Float64[np.ndarray, " draws"]) -> Estimate:
    """The first value, with the central 95 % of the others."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Estimate(float(values[0]), float(low), float(high))


def draw_notes(variants: Sequence[tuple[Decisions, Labels]], draws: int, seed: int) -> Draws:
    """Score every variant (decisions, labels) on the sample and on `draws` draws of its notes.

    All variants hold the same notes and codes; draw i takes the same notes for all of them.
    """
    documents, codes = variants[0][0].shape
    weights = _note_weights(documents, draws, seed)
    macro = np.zeros((len(variants), draws))
    pooled = np.zeros((3, len(variants), draws))
    blocks = list(_column_blocks(documents, codes, len(variants)))
    for columns in counted(blocks, len(blocks)):
        counts = _weighted_counts(weights, [(d[:, columns], y[:, columns]) for d, y in variants])
        macro += scores.f1(*counts).sum(axis=-1)
        pooled += counts.sum(axis=-1)
    whole = [counts_of_decisions(*variant) for variant in variants]
    return Draws(
        macro_f1=np.column_stack([np.concatenate([scores.macro_f1(c) for c in whole]), macro / codes]),
        micro_f1=np.column_stack([np.concatenate([scores.micro_f1(c) for c in whole]), scores.f1(*pooled)]),
    )


def _draw_runs(runs: Sequence[Run], threshold: float, draws: int, seed: int) -> Draws:
    """`draw_notes` of each run's decisions and its own labels."""
    check_thresholds(np.array([threshold]))
    scored = [(run.logits, required_labels(run)) for run in runs]
    for run in runs:
        refuse_non_finite(run)
    documents, codes = runs[0].logits.shape
    if documents * codes <= MOST_CELLS:
        return draw_notes([(decisions(logits, threshold), labels) for logits, labels in scored], draws, seed)
    variants = [
        (
            places(lambda rows, logits=logits: decisions(logits[rows], threshold), logits),
            places(lambda rows, labels=labels: labels[rows] != 0, labels),
        )
        for logits, labels in scored
    ]
    columns = list(_column_blocks(documents, codes, len(variants)))
    return Draws(*draw_places(variants, _note_weights(documents, draws, seed), columns))


def _note_weights(documents: int, draws: int, seed: int) -> np.ndarray:
    """How often each note is in each draw: uint16 [draws, documents], each row summing to `documents`."""
    generator = np.random.default_rng(seed)
    weights = np.empty((draws, documents), np.uint16)
    for row in weights:
        row[:] = np.bincount(
            generator.integers(documents, size=documents, dtype=np.uint32), minlength=documents
        )
    return weights


def _column_blocks(documents: int, codes: int, variants: int) -> Iterator[slice]:
    step = max(1, MATRIX_BYTES // (12 * variants * documents))
    return (slice(start, start + step) for start in range(0, codes, step))


def _weighted_counts(weights: np.ndarray, variants: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(true positives, predicted, positives) × variants × draws × codes, as exact integers in FP64.

    The product is FP32 while a sum of weights cannot reach 2**24, beyond which FP32 skips integers.
    """
    documents, codes = variants[0][0].shape
    kind = np.float32 if documents < 1 << 24 else np.float64
    parts = [[predicted & (labels != 0) for predicted, labels in variants], [p for p, _ in variants]]
    shared = all(labels is variants[0][1] or np.array_equal(labels, variants[0][1]) for _, labels in variants)
    parts.append([labels for _, labels in variants[: 1 if shared else None]])
    matrix = np.concatenate([part for group in parts for part in group], axis=1).astype(kind)
    starts = range(0, len(weights), DRAWS_AT_ONCE)
    products = np.concatenate(
        [weights[i : i + DRAWS_AT_ONCE].astype(kind) @ matrix for i in counted(starts, len(starts))]
    )
    counts = products.astype(np.float64).reshape(len(weights), -1, codes).swapaxes(0, 1)
    positives = counts[2 * len(variants) :]
    repeated = np.broadcast_to(positives, (len(variants), *positives.shape[1:]))
    return np.stack([counts[: len(variants)], counts[len(variants) : 2 * len(variants)], repeated])
