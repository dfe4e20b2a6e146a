"""The least-squares recalibration of one run to the other, for the words of `calibration_shift`. It decides nothing."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix, Pair

Kind = Literal["shift", "temperature", "affine", "per_code_shift", "per_code_affine", "monotone"]
BINS = 128  # of the increasing curve; its parameters are counted like any others
SAMPLE = 4000  # notes it is fitted on
WORST = 0.01  # share of the cells left out of the judgement, so that a few changed notes do not decide


@dataclass(frozen=True, eq=False)
class Calibration:
    """A map of the reference's logits to the candidate's that keeps the ranking of notes within every code.

    Attributes
    ----------
    kind : the one that explains most for its number of parameters (Schwarz's criterion)
    slope, offset : one value, or one a code; NaN for a curve
    left_over : share of the squared difference that the map leaves, without the worst hundredth of the cells
    knots : float64 [points, 2], optional
        The increasing curve instead, straight between them.
    """

    kind: Kind
    slope: np.ndarray
    offset: np.ndarray
    left_over: float = 1.0
    knots: np.ndarray | None = None

    def map(self, logits: Matrix) -> Matrix:
        """Logits of the reference as the candidate would have them."""
        if self.knots is None:
            return self.slope * logits + self.offset
        return np.interp(logits, self.knots[:, 0], self.knots[:, 1])

    @property
    def words(self) -> str:
        """What it does to the reference's scores."""
        slope, offset = self.slope, self.offset
        return {
            "shift": f"every score is shifted by {offset.flat[0]:+.4g}",
            "temperature": f"every score is multiplied by {slope.flat[0]:.4g}",
            "affine": f"every score is multiplied by {slope.flat[0]:.4g} and shifted by {offset.flat[0]:+.4g}",
            "per_code_shift": f"every code has its own shift, from {offset.min():+.4g} to {offset.max():+.4g}",
            "per_code_affine": (
                f"every code has its own factor ({slope.min():.4g} to {slope.max():.4g}) and shift "
                f"({offset.min():+.4g} to {offset.max():+.4g})"
            ),
            "monotone": "one increasing curve maps all scores",
        }[self.kind]


def calibration(pair: Pair) -> Calibration:
    """The map that explains the difference best for its number of parameters.

    Each is fitted by least squares, twice, the second time without the cells that fit worst, so that a few changed
    notes do not spoil it.
    """
    pair = pair.sampled(SAMPLE)
    fitted = {_fit(pair, kind): _parameters(kind, pair.codes) for kind in AFFINE}
    curve = _monotone(pair)
    if curve is not None:
        fitted[curve] = len(curve.knots) if curve.knots is not None else 0
    cells = pair.candidate.size
    return min(
        fitted, key=lambda one: cells * np.log(max(one.left_over, 1e-30)) + fitted[one] * np.log(cells)
    )


AFFINE: tuple[Kind, ...] = ("shift", "temperature", "affine", "per_code_shift", "per_code_affine")


def _parameters(kind: Kind, codes: int) -> int:
    return (2 if kind.endswith("affine") else 1) * (codes if kind.startswith("per_code") else 1)


def _fit(pair: Pair, kind: Kind) -> Calibration:
    axis = 0 if kind.startswith("per_code") else None
    first = _least_squares(pair, np.ones_like(pair.reference), kind, axis)
    residual = np.abs(first.map(pair.reference) - pair.candidate) / pair.spread
    # Four median deviations: 2.7 standard deviations of a normal residual.
    kept = (residual <= 4 * np.median(residual, axis=axis) + 1e-12).astype(float)
    second = _least_squares(pair, kept, kind, axis)
    return replace(second, left_over=_left_over(pair, second))


def _least_squares(pair: Pair, weight: Matrix, kind: Kind, axis: int | None) -> Calibration:
    total = np.maximum(weight.sum(axis), 1.0)
    x = (weight * pair.reference).sum(axis) / total
    y = (weight * pair.candidate).sum(axis) / total
    if kind == "temperature":
        products = float((weight * pair.reference * pair.candidate).sum())
        squares = max(float((weight * pair.reference**2).sum()), 1e-300)
        return Calibration(kind, np.array([products / squares]), np.zeros(1))
    if kind.endswith("shift"):
        return Calibration(kind, np.ones(1), np.atleast_1d(y - x))
    centred = pair.reference - x
    variance = (weight * centred**2).sum(axis)
    slope = (weight * centred * pair.candidate).sum(axis) / np.where(variance > 0, variance, 1)
    slope = np.where(variance > 0, slope, 1.0)
    return Calibration(kind, np.atleast_1d(slope), np.atleast_1d(y - slope * x))


def _left_over(pair: Pair, found: Calibration) -> float:
    left = ((pair.candidate - found.map(pair.reference)) / pair.spread) ** 2
    kept = left <= np.quantile(left, 1 - WORST)
    total = float(pair.squares[kept].sum())
    return float(left[kept].sum()) / total if total else 1.0


def _monotone(pair: Pair) -> Calibration | None:
    """One increasing curve for all cells: straight between the medians of equally filled bins."""
    order = np.argsort(pair.reference, axis=None)
    x, y = pair.reference.ravel()[order], pair.candidate.ravel()[order]
    edges = np.unique(np.linspace(0, len(x), BINS + 1).astype(int))
    middles = [(np.median(x[a:b]), np.median(y[a:b])) for a, b in pairwise(edges)]
    knots = np.array([(x[0], y[0]), *middles, (x[-1], y[-1])])
    knots = knots[np.append(True, np.diff(knots[:, 0]) > 0)]
    if len(knots) < 3 or (np.diff(knots[:, 1]) < 0).any():
        return None
    curve = Calibration("monotone", np.array([np.nan]), np.array([np.nan]), knots=knots)
    return replace(curve, left_over=_left_over(pair, curve))
