"""Array types with their shapes, and the one sigmoid.

Words used everywhere: a *logit* is the score before the sigmoid, a *probability* the one after it.
Shapes are checked by jaxtyping under pytest only.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, UInt8
from scipy.special import expit

Logits: TypeAlias = Float[np.ndarray, "documents codes"]
Probabilities: TypeAlias = Float32[np.ndarray, "documents codes"]
Labels: TypeAlias = UInt8[np.ndarray, "documents codes"]
DocumentIds: TypeAlias = Int64[np.ndarray, " documents"]
TokenCounts: TypeAlias = Int[np.ndarray, " documents"]
Thresholds: TypeAlias = Float[np.ndarray, " thresholds"]


def probabilities(logits: Logits) -> Probabilities:
    """Sigmoid of the logits, always computed in FP32.

    In BF16 a sigmoid puts hundreds of scores of a large run exactly on 0.5, where the strict `>` of the
    decision rule then decides them by rounding; so lower and higher dtypes alike go through FP32, as the
    seed's protocol does.

    >>> probabilities(np.array([[0.0, 200.0]])).tolist()
    [[0.5, 1.0]]
    """
    return expit(logits.astype(np.float32, copy=False))


def frozen(array: np.ndarray) -> np.ndarray:
    """The array, contiguous and read-only: what passes between rooms is not changed in place."""
    array = np.ascontiguousarray(array).view()  # the caller's own array stays writable
    array.flags.writeable = False
    return array
