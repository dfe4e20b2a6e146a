"""Precision levels: which arithmetic a policy, a manifest or the size of a difference speaks of."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Literal, TypeAlias

from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.runs.manifest import Manifest

Level = Literal["fp32", "tf32", "fp16", "bf16"]
LEVELS: tuple[Level, ...] = ("fp32", "tf32", "fp16", "bf16")  # from fine to coarse
LEVEL_OF_FORMAT: Mapping[str, Level] = {
    "float64": "fp32", "float32": "fp32", "tf32": "tf32", "float16": "fp16", "bfloat16": "bf16"
}  # fmt: skip
# Levels → one size a measured model: the largest that any of the levels gave on it, relative to its logits' spread.
Sizes: TypeAlias = Callable[[Sequence[Level]], Sequence[float]]


def level_of_policy(policy: str) -> Level | None:
    """The level that a policy's name stands for.

    >>> [level_of_policy(name) for name in ("bf16-autocast", "emulated-tf32", "portable", "default")]
    ['bf16', 'tf32', 'fp32', None]
    """
    for level in LEVELS[::-1]:
        if policy.find(level) >= 0:
            return level
    return "fp32" if policy in ("portable", "bitwise", "fp64") else None


def level_of_manifest(manifest: Manifest) -> Level | None:
    """The precision that a manifest vouches for: its policy, or the formats observed; TF32 where a product showed it.

    `None` where it does not say, or FP32 was observed and nothing tells whether products went through TF32.

    >>> from shifamind_core.precision.policy import NumericFlags
    >>> from shifamind_core.runs.manifest import PolicyRecord
    >>> level_of_manifest(Manifest(policy=PolicyRecord(name="fp32"))), level_of_manifest(Manifest())
    ('fp32', None)
    >>> [level_of_manifest(Manifest(flags=NumericFlags(weights="float32", autocast=form))) for form in (None, "bfloat16")]
    [None, 'bf16']
    """
    flags = manifest.flags
    measured = flags.tf32_measured if flags else None
    on_cpu = manifest.environment is not None and manifest.environment.device == "cpu"
    named = manifest.policy.name if manifest.policy else None
    asked = level_of_policy(named) if named else None
    formats = (flags.emulated, flags.autocast, flags.weights) if flags and flags.weights else ()
    observed = LEVEL_OF_FORMAT.get(next(filter(None, formats), ""))
    level = asked or observed or ("fp32" if named else None)
    if asked is None and level == "fp32" and not (on_cpu or measured is not None):
        return None
    return "tf32" if measured and level == "fp32" else level


def coarser(one: Level, other: Level) -> Level:
    """The coarser of two levels."""
    return one if LEVELS.index(one) >= LEVELS.index(other) else other


def level_of_difference(
    evidence: Evidence, rms: float, size: float, grid: float, others: Sizes
) -> Level | None:
    """The level that rounding of this size speaks of; `None` where nothing was ever measured.

    What both manifests vouch for, where they do. Else what the values themselves show: all of them on BF16's grid, or on
    FP16's. Else the level whose rounding is nearest in size: as its ladder measured it on this model, or on the typical model
    measured before. docs/cause-model.md says how often that is right.

    Parameters
    ----------
    rms, size : float
        Root mean square of the difference in logits, and relative to the spread of the logits.
    grid : float
        Feature of the same name: 2 on BF16's grid, 1 on FP16's, else 0.
    others : Sizes
        Relative sizes of a level's rounding on models measured before.
    """
    candidate, reference = evidence.whole
    mine, theirs = level_of_manifest(candidate.manifest), level_of_manifest(reference.manifest)
    if mine is not None and theirs is not None:
        return coarser(mine, theirs)
    if grid:
        return "bf16" if grid == 2 else "fp16"
    rungs = evidence.ladder.rungs if evidence.ladder else ()
    apart: dict[Level, float] = {}
    for level in LEVELS:
        measured = [rung.rms for rung in rungs if rung.rms and level_of_policy(rung.policy) == level]
        before = others([level])
        typical, observed = (max(measured), rms) if measured else (median(before) if before else 0.0, size)
        if typical and observed:
            apart[level] = abs(math.log(observed / typical))
    return min(apart, key=lambda level: apart[level]) if apart else None
