"""What token digests and counts of two aligned runs say. NumPy only."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from shifamind_core.runs.run import Run


@dataclass(frozen=True, eq=False)
class Tokens:
    """Notes by what the model read.

    Attributes
    ----------
    same : bool [documents], optional
        Which notes have equal token ids in both runs; `None` where a run has no digests.
    length_ratio : float, optional
        The candidate's tokens over the reference's.
    """

    same: Bool[np.ndarray, " documents"] | None = None
    length_ratio: float | None = None

    @property
    def all_same(self) -> bool:
        """Every note has the same token ids in both runs, and that is known."""
        return self.same is not None and bool(self.same.all())

    @property
    def changed_share(self) -> float | None:
        """Share of the notes with other token ids."""
        return None if self.same is None else float(1 - self.same.mean())


def compare_tokens(candidate: Run, reference: Run) -> Tokens:
    """Compare token digests and counts, row by row."""
    same = ratio = None
    if candidate.token_digests is not None and reference.token_digests is not None:
        same = candidate.token_digests == reference.token_digests
    if candidate.token_counts is not None and reference.token_counts is not None:
        ratio = float(candidate.token_counts.sum() / max(int(reference.token_counts.sum()), 1))
    return Tokens(same, ratio)
