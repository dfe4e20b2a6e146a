"""How two rounding errors compare: their sizes, and whether they point the same way."""

import numpy as np
import torch
from torch import Tensor


def agreement(
    real: Tensor | np.ndarray, predicted: Tensor | np.ndarray, exact: Tensor | np.ndarray
) -> dict[str, float]:
    """How well an emulation predicts: rms error over the real one's, and the correlation of the two errors."""
    ours, theirs = predicted - exact, real - exact
    return {
        "real_rms": rms(theirs),
        "emulated_rms": rms(ours),
        "rms_ratio": rms(ours) / max(rms(theirs), 1e-300),
        "correlation": correlation(ours, theirs),
    }


def rms(x: Tensor | np.ndarray) -> float:
    values = torch.as_tensor(x).double()
    return float(values.square().mean().sqrt())


def correlation(x: Tensor | np.ndarray, y: Tensor | np.ndarray) -> float:
    """Cosine of two error matrices (their means are nil)."""
    a, b = (torch.as_tensor(v).double().flatten() for v in (x, y))
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size else float("nan")
