"""Two aligned logit matrices and the statistics that several signatures read, each computed once.

All sizes are relative: a difference is measured in standard deviations that the logits of its code have over
the notes, so that a model with wide logits and one with narrow ones are judged alike.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int

Matrix: TypeAlias = Float64[np.ndarray, "documents codes"]
PerCode: TypeAlias = Float64[np.ndarray, " codes"]
PerNote: TypeAlias = Float64[np.ndarray, " documents"]

# A code whose logits never vary has no spread of its own; its differences are then measured in the run's.
FLAT = 1e-12


@dataclass(frozen=True, eq=False)
class Pair:
    """Finite logits of both runs, row by row the same note and column by column the same code.

    Attributes
    ----------
    candidate, reference : float64 [documents, codes]
    tolerance : float64 [documents, codes], optional
        How much of a difference the way a run was stored leaves open, e.g. where a probability close to 1 was
        turned back into a logit. Smaller differences count as none.
    token_counts : int [documents], optional
        Tokens a note has before truncation.
    """

    candidate: Matrix
    reference: Matrix
    tolerance: Matrix | None = None
    token_counts: Int[np.ndarray, " documents"] | None = None

    @property
    def documents(self) -> int:
        """Number of notes."""
        return self.candidate.shape[0]

    @property
    def codes(self) -> int:
        """Number of codes."""
        return self.candidate.shape[1]

    @cached_property
    def difference(self) -> Matrix:
        """Candidate − reference, zero where within the tolerance."""
        difference = self.candidate - self.reference
        if self.tolerance is not None:
            difference[np.abs(difference) <= self.tolerance] = 0.0
        return difference

    @cached_property
    def spreads(self) -> tuple[PerCode, PerCode]:
        """Standard deviation of every code's logits over the notes: candidate, reference."""
        return self.candidate.std(axis=0), self.reference.std(axis=0)

    @cached_property
    def spread(self) -> PerCode:
        """One scale a code: the root mean square of both spreads, so that neither run is the measure."""
        candidate, reference = self.spreads
        spread = np.sqrt((candidate**2 + reference**2) / 2)
        typical = np.median(spread[spread > FLAT]) if (spread > FLAT).any() else 1.0
        return np.where(spread > FLAT, spread, typical)

    @cached_property
    def relative(self) -> Matrix:
        """Differences in spreads."""
        return self.difference / self.spread

    @cached_property
    def squares(self) -> Matrix:
        """Squared relative differences."""
        return self.relative**2

    @cached_property
    def size(self) -> float:
        """Root mean square of the relative differences."""
        return float(np.sqrt(self.squares.mean()))

    @cached_property
    def largest(self) -> float:
        """The largest absolute difference, in logits."""
        return float(np.abs(self.difference).max())

    @cached_property
    def note_size(self) -> PerNote:
        """Root mean square of a note's relative differences."""
        return np.sqrt(self.squares.mean(axis=1))

    @cached_property
    def code_size(self) -> PerCode:
        """Root mean square of a code's relative differences."""
        return np.sqrt(self.squares.mean(axis=0))

    @cached_property
    def scored(self) -> tuple[Matrix, Matrix]:
        """Both runs with every code brought to mean 0 and standard deviation 1 (0 where it never varies)."""
        return standard_scores(self.candidate), standard_scores(self.reference)

    @cached_property
    def correlations(self) -> Float64[np.ndarray, "codes codes"]:
        """Correlation over notes of every candidate column with every reference column."""
        candidate, reference = self.scored
        return candidate.T @ reference / self.documents

    @cached_property
    def correlation(self) -> PerCode:
        """Correlation of every code with itself."""
        return np.diag(self.correlations).copy()

    def select(self, notes: np.ndarray | None = None, codes: np.ndarray | None = None) -> "Pair":
        """The pair with these notes and codes (index arrays or masks)."""
        rows = slice(None) if notes is None else notes
        columns = slice(None) if codes is None else codes

        def cut(matrix: Matrix) -> np.ndarray:
            return matrix[rows][:, columns]

        return Pair(
            cut(self.candidate),
            cut(self.reference),
            None if self.tolerance is None else cut(self.tolerance),
            None if self.token_counts is None else self.token_counts[rows],
        )

    def sampled(self, most: int) -> "Pair":
        """At most so many notes, evenly spaced: enough where only a few numbers are estimated."""
        step = -(-self.documents // most)
        return self if step <= 1 else self.select(notes=np.arange(0, self.documents, step))

    def changed(self, **arrays: np.ndarray | None) -> "Pair":
        """A pair with some arrays replaced; everything derived is computed anew."""
        return replace(self, **arrays)


def standard_scores(matrix: Matrix) -> Matrix:
    """Every column at mean 0 and standard deviation 1; a column that never varies becomes 0."""
    centred = matrix - matrix.mean(axis=0)
    spread = centred.std(axis=0)
    return centred / np.where(spread > FLAT, spread, np.inf)


def explained_share(before: Pair, after: Pair) -> float:
    """Which share of the mean square relative difference is gone, measured in the spreads before."""
    total = float(before.squares.sum())
    if not total:
        return 0.0
    left = float(((after.difference / before.spread) ** 2).sum()) * before.documents / max(after.documents, 1)
    return float(np.clip(1 - left / total, 0.0, 1.0))


def two_groups(sizes: Float64[np.ndarray, " items"]) -> tuple[Bool[np.ndarray, " items"], float]:
    """Split sizes into small and large where they fall apart most, on a logarithmic scale (Otsu's threshold).

    Returns
    -------
    large : bool [items]
    separation : float
        Distance of the two groups' means over the sum of their standard deviations, in decades with a floor of
        a tenth of one; 0 where all are alike. Above 3 the groups hardly touch.
    """
    positive = sizes[sizes > 0]
    nothing = np.zeros(len(sizes), bool)
    if len(sizes) < 4 or not len(positive):
        return nothing, 0.0
    logs = np.log10(np.maximum(sizes, positive.max() * 1e-9))
    ordered = np.sort(logs)
    count = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    low, high = total[:-1] / count, (total[-1] - total[:-1]) / (len(ordered) - count)
    between = count * (len(ordered) - count) * (high - low) ** 2
    cut = int(np.argmax(between))
    large = logs > ordered[cut]
    if not large.any() or large.all():
        return nothing, 0.0
    gap = logs[large].mean() - logs[~large].mean()
    return large, float(gap / max(0.1, logs[large].std() + logs[~large].std()))
