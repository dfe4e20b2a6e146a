"""What rounding does to this very model, measured: how large a difference may be and still be no change of the pipeline."""

from dataclasses import dataclass, field, replace

import numpy as np

from shifamind_core.precision.policy import POLICIES
from shifamind_core.replay.fit import Matrix
from shifamind_core.replay.recipe import Recipe
from shifamind_core.replay.reference_rows import Rows
from shifamind_core.replay.runner import Bench

MARGIN = 1.5  # on the measured error of the coarsest policy, since it is a maximum over few notes
FINE = 4.0  # the same for FP32: either machine has an error of its own, and kernels differ more than policies
ALIKE = 0.15  # correlation with a policy's measured error from which a difference is taken for that policy's
SIZES = (0.3, 2.0)  # how large it may be beside that error
EMULATED = {"tf32": "emulated-tf32", "fp16": "emulated-fp16", "bf16": "emulated-bf16"}
STORED = {"fp16": 2.0**-11, "bf16": 2.0**-8}  # unit roundoff of formats in which logits are saved


@dataclass(frozen=True, eq=False)
class Numerics:
    """What rounding alone does to this model on these notes: level to largest, rms and every difference."""

    max_abs: dict[str, float] = field(default_factory=dict)
    rms: dict[str, float] = field(default_factory=dict)
    errors: dict[str, Matrix] = field(default_factory=dict)

    @property
    def fine(self) -> float:
        """The largest difference that FP32 itself is granted between two machines."""
        return FINE * self.max_abs.get("fp32", 0.0)

    @property
    def tolerance(self) -> float:
        """The largest difference that rounding is granted: that of the coarsest policy, with a margin."""
        return MARGIN * max(self.max_abs.values(), default=0.0)

    def level(self, residual: Matrix | None, target: Matrix) -> str | None:
        """The format whose rounding this difference is; `None` where it is no rounding, however small it may be.

        FP32 is told by size alone. Coarser formats must also err where this one errs: the emulated error of the same
        notes and weights predicts the real one. Or the other run's values are themselves numbers of that format, and
        no further off than storing them makes them.
        """
        if residual is None:
            return None
        if np.abs(residual).max() <= self.fine:
            return "fp32"
        alike = {
            level: _correlation(residual, error)
            for level, error in self.errors.items()
            if level in EMULATED and SIZES[0] <= _rms(residual) / max(_rms(error), 1e-300) <= SIZES[1]
        }
        best = max(alike, key=alike.__getitem__, default=None)
        if best is not None and alike[best] >= ALIKE:
            return best
        return next((level for level in STORED if self._stored(residual, target, level)), None)

    def _stored(self, residual: Matrix, target: Matrix, level: str) -> bool:
        """Whether the target's values are numbers of that format, and the difference what storing them as such makes."""
        step = STORED[level]
        fraction, _ = np.frexp(target)
        steps = fraction / step
        on_grid = np.array_equal(steps, np.rint(steps))
        return bool(on_grid and (np.abs(residual) <= 2 * step * np.abs(target) + self.fine + 1e-7).all())


def measure(bench: Bench, recipe: Recipe, rows: Rows, fp32: float | None = None) -> Numerics:
    """Rounding's effect on what `recipe` saves for these notes.

    Parameters
    ----------
    fp32 : float, optional
        The largest error of FP32, where it has been measured on other notes or recipes: two passes less.
    """
    recipe = replace(recipe, policy=POLICIES["fp32"])
    base = bench.values(recipe, rows)[0]
    # FP32 against itself says nothing: its own rounding is that against FP64, and the other attention's.
    eager = replace(recipe, attention="eager" if recipe.attention == "sdpa" else "sdpa")
    exact = replace(recipe, policy=POLICIES["fp64"])
    errors = {level: bench.values(emulated(recipe, level), rows)[0] - base for level in EMULATED}
    max_abs = {level: float(np.abs(error).max()) for level, error in errors.items()}
    rms = {level: _rms(error) for level, error in errors.items()}
    if fp32 is None:
        own = [bench.values(other, rows)[0] - base for other in (eager, exact)]
        fp32 = max(float(np.abs(error).max()) for error in own)
        rms["fp32"] = max(map(_rms, own))
    return Numerics({"fp32": fp32, **max_abs}, rms, errors)


def emulated(recipe: Recipe, level: str) -> Recipe:
    """The recipe under the emulation of that level."""
    return replace(recipe, policy=POLICIES[EMULATED[level]])


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))


def _correlation(one: Matrix, other: Matrix) -> float:
    scale = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / scale) if scale > 0 else 0.0
