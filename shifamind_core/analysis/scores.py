"""Scores: arithmetic on `Counts`, to the last bit as scikit-learn does it with `zero_division=0`.

Every score here shares three facts. Decision: probability > threshold, strictly. 0/0 is 0: a code that is
neither predicted nor present scores 0. Which codes are averaged is said at each function.
F1 is one correctly rounded division of two integers, 2·tp / (positives + predicted positives), the same
expression scikit-learn evaluates; a macro mean is NumPy's pairwise sum over the codes in column order.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

from shifamind_core.analysis.counts import Counts

PerThreshold: TypeAlias = Float64[np.ndarray, " thresholds"]
PerCode: TypeAlias = Float64[np.ndarray, "thresholds codes"]


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Numerator / denominator in FP64, 0 where the denominator is 0.

    >>> ratio(np.array([1, 0]), np.array([2, 0])).tolist()
    [0.5, 0.0]
    """
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(denominator.shape), where=denominator != 0)


def f1(true_positives: np.ndarray, predicted: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """2·tp / (predicted + positives), element by element; 0/0 = 0."""
    return ratio(2 * true_positives, positives + predicted)


def precision_per_code(counts: Counts) -> PerCode:
    """tp / predicted for every code; a code never predicted has 0 (0/0 = 0). Decision: >."""
    return ratio(counts.true_positives, counts.predicted_positives)


def recall_per_code(counts: Counts) -> PerCode:
    """tp / support for every code; a code without support has 0 (0/0 = 0). Decision: >."""
    return ratio(counts.true_positives, counts.positives)


def f1_per_code(counts: Counts) -> PerCode:
    """F1 of every code; neither predicted nor present is 0 (0/0 = 0). Decision: >."""
    return f1(counts.true_positives, counts.predicted_positives, counts.positives)


def micro_f1(counts: Counts) -> PerThreshold:
    """F1 of the counts summed over all codes; 0/0 = 0. Decision: >. `f1_score(average="micro")`."""
    return f1(
        counts.true_positives.sum(axis=1),
        counts.predicted_positives.sum(axis=1),
        counts.positives.sum(keepdims=True),
    )


def micro_precision(counts: Counts) -> PerThreshold:
    """tp / predicted, both summed over all codes; 0/0 = 0. Decision: >."""
    return ratio(counts.true_positives.sum(axis=1), counts.predicted_positives.sum(axis=1))


def micro_recall(counts: Counts) -> PerThreshold:
    """tp / support, both summed over all codes; 0/0 = 0. Decision: >."""
    return ratio(counts.true_positives.sum(axis=1), counts.positives.sum(keepdims=True))


def macro_f1(counts: Counts) -> PerThreshold:
    """Mean of the F1 of **all** codes, absent ones included with 0; 0/0 = 0. Decision: >.

    The seed's definition, `f1_score(average="macro", zero_division=0)`.
    """
    return mean_over_codes(f1_per_code(counts))


def macro_f1_with_support(counts: Counts) -> PerThreshold:
    """Mean of the F1 of the codes that occur among the labels (Edin et al., arXiv 2304.10909).

    0 where no code occurs; 0/0 = 0. Decision: >.
    """
    present = counts.positives > 0
    if not present.any():
        return np.zeros(len(counts.thresholds))
    return mean_over_codes(f1_per_code(counts)[:, present])


def macro_f1_of_means(counts: Counts) -> PerThreshold:
    """Harmonic mean of mean precision and mean recall over **all** codes; 0/0 = 0. Decision: >.

    The definition of CAML, LAAT, PLM-ICD and MSMN, "F1 of averages" in Opitz & Burst (arXiv 1911.03347). It
    differs from `macro_f1` by about 0.03 on data like these, and is never the seed's number.
    """
    precision = mean_over_codes(precision_per_code(counts))
    recall = mean_over_codes(recall_per_code(counts))
    return ratio(2 * precision * recall, precision + recall)


def mean_over_codes(values: PerCode) -> PerThreshold:
    """Row means, each summed in the order in which NumPy averages that row alone (as scikit-learn does)."""
    return np.ascontiguousarray(values).mean(axis=1)
