"""Decisions of a run of any size, of which few are positive: held as the places of those, and drawn with their notes."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64
from scipy.sparse import csc_array

from shifamind_core.analysis import scores
from shifamind_core.analysis.counts import Decisions
from shifamind_core.runs.blocks import over_blocks

PerDraw: TypeAlias = Float64[np.ndarray, "variants draws"]

DRAWS_AT_ONCE = 128


def places(look: Callable[[slice], Decisions], matrix: np.ndarray) -> csc_array:
    """Where `look` is true: it is asked block of notes by block of notes of `matrix` [documents, codes]."""

    def found(rows: slice) -> np.ndarray:
        return np.flatnonzero(look(rows)) + rows.start * matrix.shape[1]

    cells = np.concatenate(list(over_blocks(found, matrix)))
    return csc_array((np.ones(len(cells), np.uint8), np.divmod(cells, matrix.shape[1])), matrix.shape)


def draw_places(
    variants: Sequence[tuple[csc_array, csc_array]], weights: np.ndarray, columns: Sequence[slice]
) -> tuple[PerDraw, PerDraw]:
    """Macro and micro F1 of every variant (decisions, labels) on the sample, and on every draw of its notes.

    Parameters
    ----------
    weights : uint [draws, documents]
        How often each note is in each draw.
    columns : sequence of slice
        In which groups the codes' F1 are added up, which decides the last bit of a macro mean.
    """
    documents = weights.shape[1]
    kind = np.float32 if documents < 1 << 24 else np.float64  # holds every sum of weights
    parts = [
        [part.astype(kind).T.tocsr() for part in (taken.multiply(true), taken, true)]
        for taken, true in variants
    ]
    whole = _scores(_counts(parts, np.ones((1, documents), kind)), [slice(None)])
    drawn = [
        _scores(_counts(parts, weights[start : start + DRAWS_AT_ONCE].astype(kind)), columns)
        for start in range(0, len(weights), DRAWS_AT_ONCE)
    ]
    macro, micro = zip(whole, *drawn, strict=True)
    return np.concatenate(macro, axis=1), np.concatenate(micro, axis=1)


def _counts(parts: list, weights: np.ndarray) -> Iterator[np.ndarray]:
    """Of each variant its true positives, predicted and positives: [3, draws, codes]."""
    notes = np.ascontiguousarray(weights.T)
    for one in parts:
        yield np.stack([np.ascontiguousarray((part @ notes).T, np.float64) for part in one])


def _scores(counts: Iterator[np.ndarray], columns: Sequence[slice]) -> tuple[np.ndarray, np.ndarray]:
    """Macro and micro F1: [variants, draws]."""
    macro, pooled = [], []
    for one in counts:
        each = scores.f1(*one)
        macro.append(sum(each[:, some].sum(axis=-1) for some in columns) / each.shape[-1])
        pooled.append(scores.f1(*one.sum(axis=-1)))
    return np.array(macro), np.array(pooled)
