"""Two runs' concept scores, which the model computes on the way to its codes: where they agree, the encoder did."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run

Scores = Float[np.ndarray, "documents scores"]


@dataclass(frozen=True, eq=False)
class ConceptDifferences:
    """Two aligned runs' concept scores (after the sigmoid, 0 to 1).

    Attributes
    ----------
    per_concept : DataFrame
        One row a concept, the one that moved most first: `concept` (its column), `candidate_mean`, `reference_mean`,
        `mean_difference` (candidate − reference), `mean_abs_difference`, `max_abs_difference`, `crossed` (notes whose score lies on
        the other side of 0.5), `correlation` (missing where a side is constant).
    relative, of_codes : float, optional
        Root mean square difference over the spread of the reference's scores over the notes (about each column's mean), of the
        concepts and of the codes' probabilities; `None` where the reference has no spread.
    equal : bool
        Whether every concept score has the same bits in both.
    """

    per_concept: pd.DataFrame
    relative: float | None
    of_codes: float | None
    equal: bool

    @property
    def sentence(self) -> str:
        """What follows."""
        if self.equal:
            return (
                "All concept scores are equal, bit for bit: tokens, encoder and concept head did the same. What differs comes after them: the "
                "diagnosis head, the order of codes, or how scores were saved."
            )
        sizes = [f"{one:.2g}" for one in (self.relative, self.of_codes) if one is not None]
        size = (
            f" by {sizes[0]} of their spread over the notes; the codes' probabilities by {sizes[1]} of theirs"
            if len(sizes) == 2
            else ""
        )
        return (
            f"Concept scores differ already{size}. What differs is in place before the diagnosis head: in the tokens, the encoder, or the weights "
            "up to the concepts."
        )


def compare_concepts(candidate: Run, reference: Run) -> ConceptDifferences:
    """Compare two aligned runs' concept scores, in FP64.

    Raises
    ------
    ShifamindError
        A run has none, or they have different numbers of concepts.
    """
    ours, theirs = candidate.concept_scores, reference.concept_scores
    if ours is None or theirs is None:
        missing = [role for role, scores in (("candidate", ours), ("reference", theirs)) if scores is None]
        raise ShifamindError(
            f"The {' and the '.join(missing)} {'has' if len(missing) == 1 else 'have'} no concept scores. Runs that are computed here have them "
            "where the model does, and so do those that the capture command's lines save."
        )
    if ours.shape[1] != theirs.shape[1]:
        raise ShifamindError(
            f"The candidate has scores for {ours.shape[1]} concepts, the reference for {theirs.shape[1]}: not of one model."
        )
    first, second = ours.astype(np.float64), theirs.astype(np.float64)
    difference = first - second
    size = np.abs(difference)
    varies = (np.ptp(first, axis=0) > 0) & (np.ptp(second, axis=0) > 0)
    table = pd.DataFrame(
        {
            "concept": np.arange(ours.shape[1]),
            "candidate_mean": first.mean(axis=0),
            "reference_mean": second.mean(axis=0),
            "mean_difference": difference.mean(axis=0),
            "mean_abs_difference": size.mean(axis=0),
            "max_abs_difference": size.max(axis=0),
            "crossed": ((first > 0.5) != (second > 0.5)).sum(axis=0),
            "correlation": pd.DataFrame(first).corrwith(pd.DataFrame(second)).where(varies),
        }
    )
    return ConceptDifferences(
        table.sort_values("mean_abs_difference", ascending=False, kind="stable").reset_index(drop=True),
        _relative(first, second),
        _relative(*(expit(run.logits.astype(np.float64)) for run in (candidate, reference))),
        ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes(),
    )


def _relative(candidate: Scores, reference: Scores) -> float | None:
    spread = np.nansum((reference - np.nanmean(reference, axis=0)) ** 2)
    return float(np.sqrt(np.nansum((candidate - reference) ** 2) / spread)) if spread > 0 else None
