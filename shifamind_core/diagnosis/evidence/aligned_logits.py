"""Two aligned logit matrices and the statistics that several signatures read, each computed once.

All sizes are relative: a difference is measured in standard deviations that the logits of its code have over
the notes, so that a model with wide logits and one with narrow ones are judged alike.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int

from shifamind_core.analysis.row_matching import FLAT, standard_scores

Matrix: TypeAlias = Float64[np.ndarray, "documents codes"]
PerCode: TypeAlias = Float64[np.ndarray, " codes"]
PerNote: TypeAlias = Float64[np.ndarray, " documents"]


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

    @property
    def known(self) -> Bool[np.ndarray, "documents codes"] | None:
        """Scores of which both runs say something; `None` where that is all of them."""
        if self.tolerance is None or not np.isinf(self.tolerance).any():
            return None
        return np.isfinite(self.tolerance)

    @cached_property
    def difference(self) -> Matrix:
        """Candidate − reference, zero where within the tolerance."""
        difference = self.candidate - self.reference
        if self.tolerance is not None:
            difference[np.abs(difference) <= self.tolerance] = 0.0
        return difference

    @cached_property
    def changed_notes(self) -> Bool[np.ndarray, " documents"]:
        """Notes with any difference."""
        return np.count_nonzero(self.difference, axis=1) > 0

    @cached_property
    def changed_codes(self) -> Bool[np.ndarray, " codes"]:
        """Codes with any difference."""
        return np.count_nonzero(self.difference, axis=0) > 0

    @cached_property
    def spreads(self) -> tuple[PerCode, PerCode]:
        """Standard deviation of every code's logits over the notes: candidate, reference."""
        return self.candidate.std(axis=0), self.reference.std(axis=0)

    @cached_property
    def spread(self) -> PerCode:
        """One scale a code: the root mean square of both spreads, so that neither run is the measure.

        A code whose logits never vary has no spread of its own; its differences are measured in the run's.
        """
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
        """Root mean square of the relative differences: 1 is as far as two notes lie apart, over √2."""
        return float(np.sqrt(self.squares.mean()))

    @cached_property
    def rms(self) -> float:
        """Root mean square of the differences, in logits."""
        return float(np.sqrt((self.difference**2).mean()))

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
