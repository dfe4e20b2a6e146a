"""Which rows, or columns, of two runs are the same note, or code: what `alignment` finds."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Int64

from shifamind_core.analysis.row_matching import RowMatch

Indices = Int64[np.ndarray, " matched"]
By = Literal["id", "token_digest", "content", "position"]


@dataclass(frozen=True, eq=False)
class Matching:
    """Which rows (or columns) of the two runs are the same note (or code).

    Attributes
    ----------
    candidate, reference : int64 [matched]
        Positions in the original runs, pairwise the same thing, in the candidate's order.
    candidate_size, reference_size : int
        How many there were.
    assumed : bool
        Matched by position, because a run does not say which is which.
    by : "id", "token_digest", "content", "position"
        What paired most notes.
    otherwise : int
        Notes that something else paired: ids that met for some, token ids or scores for others.
    exact : bool
        No note was paired by being merely the nearest by far.
    repeats : (int64 [candidate_size], int64 [reference_size]), optional
        For a row without a partner that repeats one that has one: which row of its own run that is; else -1.
    respelled : tuple of (candidate's name, reference's name)
        Codes matched although their names differ in spelling.
    """

    candidate: Indices
    reference: Indices
    candidate_size: int
    reference_size: int
    assumed: bool
    by: By = "id"
    otherwise: int = 0
    exact: bool = True
    repeats: tuple[np.ndarray, np.ndarray] | None = None
    respelled: tuple[tuple[str, str], ...] = ()

    @property
    def matched(self) -> int:
        """How many both runs have."""
        return len(self.candidate)

    @property
    def dropped(self) -> tuple[int, int]:
        """How many of the candidate and of the reference have no partner."""
        return self.candidate_size - self.matched, self.reference_size - self.matched

    @property
    def order_differed(self) -> bool:
        """The reference holds the shared ones in another order than the candidate."""
        return bool((np.diff(self.reference) < 0).any())

    @property
    def repeated(self) -> tuple[int, int]:
        """How many of those without a partner repeat one that has one: candidate, reference."""
        if self.repeats is None:
            return 0, 0
        return int((self.repeats[0] >= 0).sum()), int((self.repeats[1] >= 0).sum())

    @property
    def rows(self) -> RowMatch:
        """The same as a map of the candidate's rows."""
        partner = np.full(self.candidate_size, -1)
        partner[self.candidate] = self.reference
        none = np.full(self.candidate_size, -1), np.full(self.reference_size, -1)
        return RowMatch(partner, self.repeats or none, self.exact)

    @cached_property
    def identity(self) -> bool:
        """Nothing dropped, nothing moved."""
        return self.dropped == (0, 0) and not self.order_differed
