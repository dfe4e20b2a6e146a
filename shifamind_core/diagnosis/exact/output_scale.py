"""The output's scale: probabilities instead of logits, a sigmoid too many, or a recalibration that keeps ranking."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import expit, logit

from shifamind_core.diagnosis.evidence.aligned_logits import FLAT, Matrix, Pair
from shifamind_core.diagnosis.exact.stored_precision import decimals
from shifamind_core.diagnosis.findings import EvidencePlot, Finding, Series, thinned

Side = Literal["candidate", "reference"]
# sigmoid(1): no sigmoid of a probability is larger. A little slack for values stored in BF16.
SECOND_SIGMOID = (0.5, 0.7310586)
SLACK = 0.004
SATURATED = 15.0  # beyond this logit an FP32 probability holds next to nothing
AFFINE: tuple["Kind", ...] = ("shift", "temperature", "affine", "per_code_shift", "per_code_affine")
# A map explains the difference if at most this share of its square is left.
LEFT_OVER = 0.05
EXACT = 1e-6  # no richer map is tried
BINS = 132  # of the monotone curve
SAMPLE = 4000  # notes a map is fitted on


@dataclass(frozen=True)
class Squashed:
    """A run whose "logits" went through a sigmoid: which run, and how often (1 or 2)."""

    side: Side
    sigmoids: int
    marked: bool

    @property
    def twice(self) -> bool:
        """Was one sigmoid too many taken before the run was saved as probabilities?"""
        return self.sigmoids == 2 or self.marked


def squashed(candidate: Matrix, reference: Matrix, marked: tuple[bool, bool]) -> Squashed | None:
    """The run, if it is one of the two, whose values all lie where only a sigmoid puts them.

    `marked` says of each run whether its logits were made from what was called probabilities: values in
    (0, 1) then mean that what was called so had been through the sigmoid twice.
    """
    counts = [_sigmoids(matrix) for matrix in (candidate, reference)]
    if (counts[0] > 0) == (counts[1] > 0):
        return None
    side: Side = "candidate" if counts[0] else "reference"
    return Squashed(side, max(counts), marked[0 if side == "candidate" else 1])


def _sigmoids(values: Matrix) -> int:
    low, high = float(values.min()), float(values.max())
    if values.std() < FLAT or low < 0 or high > 1:
        return 0
    return 2 if low >= SECOND_SIGMOID[0] - SLACK and high <= SECOND_SIGMOID[1] + SLACK else 1


def unsquash(values: Matrix, sigmoids: int) -> tuple[Matrix, Matrix]:
    """Logits before the sigmoids, and how much each of them leaves open at the precision it was stored in."""
    resolution = stored_resolution(values)
    slope = np.ones_like(values)
    for _ in range(sigmoids):
        inside = np.clip(values, 1e-30, 1 - 1e-7)
        slope = slope / (inside * (1 - inside))
        values = logit(inside)
    tolerance = 4 * resolution * slope
    # A stored 0 or 1 says only that the logit was beyond what the format holds.
    return values, np.where((values > SATURATED) | (values < -60), np.inf, tolerance)


def squashed_finding(what: Squashed, before: Pair, after: Pair, share: float) -> Finding:
    """The finding for a run that went through the sigmoid, after it was undone."""
    exact = not after.difference.any()
    values = before.candidate if what.side == "candidate" else before.reference
    low, high = float(values.min()), float(values.max())
    cause = "double_sigmoid" if what.twice else "probabilities_as_logits"
    told = (
        "the sigmoid was applied twice before the scores were saved"
        if what.twice
        else "these are probabilities, called logits; evaluating them applies a second sigmoid"
    )
    rest = (
        "Undone, the runs agree to the last digit that the stored values hold."
        if exact
        else f"Undone, a relative difference of {after.size:.2g} spreads remains."
    )
    return Finding(
        cause,
        "confirmed" if exact else "likely",
        0.5 + 0.49 * share,
        f"Every value of the {what.side} lies in [{low:.4f}, {high:.4f}]: {told}. {rest}",
        "Save the model's raw outputs, before any sigmoid, and compare again.",
        {
            "side": what.side,
            "lowest": low,
            "highest": high,
            "sigmoids": what.sigmoids,
            "marked_as_probabilities": what.marked,
            "explained": share,
        },
        _against(before, "Values as stored"),
    )


def _against(pair: Pair, title: str) -> EvidencePlot:
    x, y = thinned(pair.reference.ravel(), pair.candidate.ravel())
    return EvidencePlot("scatter", title, "reference", "candidate", (Series("cells", x, y),))


Kind: TypeAlias = Literal["shift", "temperature", "affine", "per_code_shift", "per_code_affine", "monotone"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """A map of the reference's logits to the candidate's that keeps the ranking of notes within every code.

    `kind` is the simplest that explains the difference; `slope` and `offset` hold one value, or one a code;
    a monotone curve is given by its `knots` [points, 2] instead.
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


def calibration(pair: Pair) -> Calibration | None:
    """The simplest ranking-keeping map that explains the difference, or `None`.

    From one shift for all logits to one affine map a code; last a monotone curve for all. Each is fitted by
    least squares, twice, the second time without the cells that fit worst, so that a few changed notes do not
    spoil it.
    """
    pair = pair.sampled(SAMPLE)
    if not pair.size or np.median(pair.correlation) < 0.9:
        return None
    best: Calibration | None = None
    for kind in AFFINE:
        fitted = _fit(pair, kind)
        # A richer map must leave a third of what the simpler one does.
        if fitted is not None and (best is None or fitted.left_over < best.left_over / 3):
            best = fitted
    if best is not None and best.left_over < EXACT:
        return best
    curve = _monotone(pair)
    if curve is not None and (best is None or curve.left_over < best.left_over / 3):
        best = curve
    return best if best is not None and best.left_over < LEFT_OVER else None


def _fit(pair: Pair, kind: Kind) -> Calibration | None:
    axis = 0 if kind.startswith("per_code") else None
    first = _least_squares(pair, np.ones_like(pair.reference), kind, axis)
    residual = np.abs(first.map(pair.reference) - pair.candidate) / pair.spread
    kept = (residual <= 4 * np.median(residual, axis=axis) + 1e-12).astype(float)
    second = _least_squares(pair, kept, kind, axis)
    return None if (second.slope <= 0).any() else replace(second, left_over=_left_over(pair, second))


def _least_squares(pair: Pair, weight: Matrix, kind: Kind, axis: int | None) -> Calibration:
    total = weight.sum(axis)
    x = (weight * pair.reference).sum(axis) / total
    y = (weight * pair.candidate).sum(axis) / total
    if kind == "temperature":
        products = (weight * pair.reference * pair.candidate).sum(axis)
        return Calibration(
            kind, np.atleast_1d(products / (weight * pair.reference**2).sum(axis)), np.zeros(1)
        )
    if kind.endswith("shift"):
        return Calibration(kind, np.ones(1), np.atleast_1d(y - x))
    centred = pair.reference - x
    variance = (weight * centred**2).sum(axis)
    slope = (weight * centred * pair.candidate).sum(axis) / np.where(variance > 0, variance, 1)
    slope = np.where(variance > 0, slope, 1.0)
    return Calibration(kind, np.atleast_1d(slope), np.atleast_1d(y - slope * x))


def _left_over(pair: Pair, found: Calibration) -> float:
    """Share of the squared difference that a map leaves, without the worst hundredth of the cells."""
    left = ((pair.candidate - found.map(pair.reference)) / pair.spread) ** 2
    kept = left <= np.quantile(left, 0.99)
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


def apply_calibration(pair: Pair, found: Calibration) -> Pair:
    """The pair with the reference brought to the candidate's calibration: what is left is not calibration."""
    return pair.changed(reference=found.map(pair.reference))


def calibration_finding(found: Calibration, pair: Pair, share: float) -> Finding:
    """Ranking kept: a shift, a temperature, or either a code."""
    after = apply_calibration(pair, found)
    exact = after.size < 1e-5
    words = {
        "shift": f"every logit is shifted by {found.offset[0]:+.4g}",
        "temperature": f"every logit is multiplied by {found.slope[0]:.4g}",
        "affine": f"every logit is multiplied by {found.slope[0]:.4g} and shifted by {found.offset[0]:+.4g}",
        "per_code_shift": f"every code has its own shift, from {found.offset.min():+.4g} to {found.offset.max():+.4g}",
        "per_code_affine": (
            f"every code has its own factor ({found.slope.min():.4g} to {found.slope.max():.4g}) and shift "
            f"({found.offset.min():+.4g} to {found.offset.max():+.4g})"
        ),
        "monotone": "one increasing curve maps all logits",
    }[found.kind]
    return Finding(
        "calibration_shift",
        "confirmed" if exact else "likely",
        0.5 + 0.49 * share,
        f"Ranking is kept: {words}. That accounts for {1 - found.left_over:.1%} of the squared difference; "
        f"{after.size:.2g} spreads remain.",
        "Tune the threshold on each run's own validation scores (per code, if the shift is): the gap should close.",
        {
            "kind": found.kind,
            "slope": found.slope if found.kind != "monotone" else None,
            "offset": found.offset if found.kind != "monotone" else None,
            "left_over": found.left_over,
            "remaining_size": after.size,
            "explained": share,
        },
        _against(pair, "Candidate against reference"),
    )


def probability_tolerance(logits: Matrix) -> Matrix:
    """What logits made from stored probabilities leave open: the probabilities' rounding over p (1 − p)."""
    probability = expit(logits)
    resolution = stored_resolution(probability)
    tolerance = 2 * resolution / np.maximum(probability * (1 - probability), 1e-300)
    # A stored 0 or 1 (read as the nearest number of its format that has a logit) leaves all beyond it open.
    open_ended = (probability <= resolution) | (1 - probability <= 2 * resolution)
    open_ended |= np.abs(logits) > SATURATED
    return np.where(open_ended, np.inf, tolerance)


def stored_resolution(probability: Matrix) -> np.ndarray:
    """By how much a stored probability may be off: half its last decimal, or half its last place.

    >>> stored_resolution(np.array([[0.25, 0.3071, 0.9512]])).tolist()
    [[5e-05, 5e-05, 5e-05]]
    """
    places = decimals(probability, 5)
    if places is not None:
        return np.full(probability.shape, 0.5 * 10.0**-places)
    half = probability.astype(np.float16).astype(np.float64)
    if not np.allclose(half, probability, rtol=2.0**-20, atol=1e-9):
        return probability * 2.0**-24
    # Below 2⁻¹⁴ FP16's steps no longer shrink with the value: all are 2⁻²⁴.
    return np.maximum(probability * 2.0**-11, 2.0**-24)
