"""A layer profile: what was measured when the same notes went through two settings, module by module."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """Two settings on the same notes, module by module, in the order in which the modules finish.

    Attributes
    ----------
    candidate, reference : str
        Names of the two settings.
    names : tuple of str [modules]
        As in `named_modules`.
    kinds : tuple of str [modules]
        Class names.
    mean, std, absmax : float64 [modules]
        Of the candidate's output, over its finite values.
    non_finite : int64 [modules]
        NaN and infinite values in the candidate's output.
    reference_std : float64 [modules]
    relative_error : float64 [modules]
        rms(candidate − reference) / rms(reference) of the output; infinite where the candidate alone is not finite.
    input_error : float64 [modules]
        The same of the module's input; NaN for a module that takes token ids.
    inherited_error : float64 [modules]
        rms(replay − reference) / rms(reference): what the inputs brought, through this very module.
    own_error : float64 [modules]
        rms(candidate − replay) / rms(reference): what the module itself added.
    unit_roundoff, finer_roundoff : float
        Of the coarser and of the finer of the two settings.
    notes : int
    activation_bytes : int
        Most memory that the activations of one batch took: nothing more is ever kept.
    """

    candidate: str
    reference: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    mean: Float64[np.ndarray, " modules"]
    std: Float64[np.ndarray, " modules"]
    absmax: Float64[np.ndarray, " modules"]
    non_finite: Int64[np.ndarray, " modules"]
    reference_std: Float64[np.ndarray, " modules"]
    relative_error: Float64[np.ndarray, " modules"]
    input_error: Float64[np.ndarray, " modules"]
    inherited_error: Float64[np.ndarray, " modules"]
    own_error: Float64[np.ndarray, " modules"]
    unit_roundoff: float
    finer_roundoff: float
    notes: int
    activation_bytes: int

    def __len__(self) -> int:
        return len(self.names)
