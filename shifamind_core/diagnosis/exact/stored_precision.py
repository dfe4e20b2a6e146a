"""Rounding: which precision the stored values betray, and whether a difference is of its size and shape."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.runs.manifest import Manifest

Level = Literal["fp32", "tf32", "fp16", "bf16"]
Lattice = Literal["bf16", "fp16"]
LEVELS: tuple[Level, ...] = ("fp32", "tf32", "fp16", "bf16")

# Relative size (spreads, root mean square) that rounding reaches on the worst-conditioned models measured, where
# no ladder was measured on this one. Well-conditioned ones: fp32 3e-7, tf32 4e-4, fp16 1e-3, bf16 8e-3.
REACH: Mapping[Level, float] = {"fp32": 5e-5, "tf32": 1.5e-2, "fp16": 2e-2, "bf16": 0.12}


@runtime_checkable
class MeasuredRung(Protocol):
    """A rung of the precision ladder (`analysis.rungs.Rung`), as far as it is needed here.

    `rms` is the root mean square difference of logits from FP64 on this very model; `None` if it could not run.
    """

    @property
    def policy(self) -> str: ...

    @property
    def rms(self) -> float | None: ...


Rungs: TypeAlias = Iterable[MeasuredRung]


def level_of_policy(policy: str) -> Level | None:
    """The level that a policy's name stands for.

    >>> [level_of_policy(name) for name in ("bf16-autocast", "emulated-tf32", "portable", "default")]
    ['bf16', 'tf32', 'fp32', None]
    """
    for level in ("bf16", "fp16", "tf32", "fp32"):
        if level in policy:
            return level
    return "fp32" if policy in ("portable", "fp64") else None


def level_of_manifest(manifest: Manifest) -> Level | None:
    """The precision that a manifest vouches for: its policy, and TF32 where a product showed it; else `None`.

    >>> from shifamind_core.runs.manifest import PolicyRecord
    >>> level_of_manifest(Manifest(policy=PolicyRecord(name="fp32"))), level_of_manifest(Manifest())
    ('fp32', None)
    """
    measured = manifest.flags.tf32_measured if manifest.flags else None
    on_cpu = manifest.environment is not None and manifest.environment.device == "cpu"
    named = manifest.policy.name if manifest.policy else None
    level = level_of_policy(named) if named else None
    if level is None and (named is None or not (on_cpu or measured is not None)):
        return None
    return "tf32" if measured and level in (None, "fp32") else level or "fp32"


def allowed_level(candidate: Manifest, reference: Manifest) -> Level | None:
    """The coarser of the levels that both manifests vouch for."""
    levels = level_of_manifest(candidate), level_of_manifest(reference)
    return None if levels[0] is None or levels[1] is None else coarser(levels[0], levels[1])


def coarser(one: Level, other: Level) -> Level:
    """The coarser of two levels."""
    return one if LEVELS.index(one) >= LEVELS.index(other) else other


def reach(ladder: Rungs | None) -> dict[Level, float]:
    """Root mean square error per level, in logits, from a measured ladder: the largest rung of each level."""
    sizes: dict[Level, float] = {}
    for rung in ladder or ():
        level = level_of_policy(rung.policy)
        if level is not None and rung.rms is not None:
            sizes[level] = max(sizes.get(level, 0.0), rung.rms)
    return sizes


def within_fp32(logits: np.ndarray) -> np.ndarray:
    """Which values are finite in FP32. No network computes farther out, and squares of larger ones leave FP64 as well."""
    finite = np.isfinite(logits)
    if logits.dtype == np.float64:
        finite &= np.abs(logits) <= float(np.finfo(np.float32).max)
    return finite


def lattice(logits: np.ndarray) -> Lattice | None:
    """The coarse grid that all values lie on: BF16's 8 or FP16's 11 significant bits, or none.

    A value computed in either format keeps its grid when it is widened; by chance not one in a thousand values
    lies on it.
    """
    values = logits[within_fp32(logits)].astype(np.float32).ravel()
    values = values[values != 0]
    if len(values) < 8:
        return None
    if not (values.view(np.uint32) & 0xFFFF).any():
        return "bf16"
    normal = values[(np.abs(values) < 65504) & (np.abs(values) > 6.2e-5)]
    if logits.dtype == np.float16 or (len(normal) and (normal.astype(np.float16) == normal).all()):
        return "fp16"
    return None


def decimals(logits: np.ndarray, most: int = 6) -> int | None:
    """How many decimals the values were rounded to when they were written, if that shows."""
    values = logits[within_fp32(logits)].astype(np.float64).ravel()[:20000]
    if not len(values):
        return None
    for places in range(1, most + 1):
        # 32-bit storage shifts a decimal by up to 2⁻²⁴ of its value.
        slack = 10**places * np.abs(values) * 2.0**-23 + 1e-9
        off = np.abs(values * 10**places - np.round(values * 10**places))
        if (off <= slack).all() and slack.max() < 0.05:
            return places
    return None


@dataclass(frozen=True)
class Rounding:
    """What the values and the size of the difference say about rounding.

    Attributes
    ----------
    level : the coarsest precision that the difference or the values' lattice asks for
    lattices : lattice of the candidate's and of the reference's stored values
    size : relative root mean square difference
    limit : the size that rounding at this level reaches, measured on this model or else at most
    measured : whether `limit` comes from a ladder measured on this model
    stored_only : the candidate is the reference rounded to the lattice, no more (or the other way round)
    rounded_to_decimals : decimals that either run was written with
    """

    level: Level
    lattices: tuple[Lattice | None, Lattice | None]
    size: float
    limit: float
    measured: bool
    stored_only: bool
    rounded_to_decimals: int | None


def rounding(
    pair: Pair,
    lattices: tuple[Lattice | None, Lattice | None],
    written: int | None,
    ladder: Rungs | None = None,
    allowed: Level | None = None,
) -> Rounding:
    """Read level and limit off the lattice, what both manifests allow, the ladder and the size."""
    measured = reach(ladder)
    typical = float(np.sqrt(np.mean(pair.spread**2)))
    limits: dict[Level, float] = {
        level: 3 * measured[level] / typical if level in measured else REACH[level] for level in LEVELS
    }
    size = bulk_size(pair)
    coarse = _coarse(lattices)
    level: Level = coarse or _smallest_level(size, limits, measured)
    if allowed is not None:  # a manifest may lie, and what was observed stands: it only ever allows more
        level = coarser(level, allowed)
    limit = limits[level]
    if written is not None:  # rounding to decimals is uniform: √(1/12) of the last one
        limit = max(limit, 3 * 10.0**-written / np.sqrt(12) / typical)
    stored = _stored_only(pair, coarse)
    return Rounding(level, lattices, size, float(limit), level in measured, stored, written)


def _coarse(lattices: tuple[Lattice | None, Lattice | None]) -> Lattice | None:
    """The coarsest lattice of the two runs."""
    if "bf16" in lattices:
        return "bf16"
    return "fp16" if "fp16" in lattices else None


def _smallest_level(size: float, limits: Mapping[Level, float], measured: Mapping[Level, float]) -> Level:
    """Without a lattice: FP32 or TF32 by size; a measured ladder may ask for more (half precision widened late)."""
    if size <= limits["fp32"]:
        return "fp32"
    if "bf16" in measured and size > limits["tf32"]:
        return "fp16" if "fp16" in measured and size <= limits["fp16"] else "bf16"
    return "tf32"


def bulk_size(pair: Pair) -> float:
    """Relative size of the difference in all but the hundredth of the notes that differ most."""
    sizes = pair.note_size**2
    return float(np.sqrt(sizes[sizes <= np.quantile(sizes, 0.99)].mean()))


def _stored_only(pair: Pair, coarse: Lattice | None) -> bool:
    if coarse is None:
        return False
    return any(
        np.array_equal(round_to(fine, coarse), rounded)
        for rounded, fine in ((pair.candidate, pair.reference), (pair.reference, pair.candidate))
    )


def round_to(values: np.ndarray, lattice: Lattice) -> np.ndarray:
    """Values rounded to nearest (ties to even) in FP16 or BF16, as float64.

    >>> round_to(np.array([1.01]), "bf16").tolist(), round_to(np.array([1.01]), "fp16").tolist()
    ([1.0078125], [1.009765625])
    """
    single = values.astype(np.float32)
    if lattice == "fp16":
        return single.astype(np.float16).astype(np.float64)
    bits = np.ascontiguousarray(single).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)
