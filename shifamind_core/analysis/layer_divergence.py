"""Layer profiles as numbers: how far two settings are apart after each module, and which module added more than it should.

A module's relative error has two parts. What its inputs brought: the reference's own module, fed the candidate's inputs,
already departs from the reference. And what the module itself added: the candidate's output against that replay. Only
the second says anything about the module; the first merely hands on, and may amplify, what came before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from shifamind_core.runs.layer_profile import LayerProfile

# A module has parted from the reference when it adds this many times what rounding explains. Measured on an H200
# (docs/gpu-evidence.md): 17 at most on BERT-base-sized checkpoints, under FP32 in a product over 3,072 inputs, whose rounding
# adds up; an error of 1e-4 planted in one matrix gave 1,600.
CLEAR_FACTOR = 32.0


@dataclass(frozen=True)
class Divergence:
    """The first module that adds more than rounding explains.

    `excess` is its own error over the expected one, infinite where it made NaN or infinity of finite inputs.
    """

    name: str
    kind: str
    position: int
    relative_error: float
    inherited_error: float
    own_error: float
    expected_error: float
    excess: float


def expected_error(profile: LayerProfile) -> Float64[np.ndarray, " modules"]:
    """What rounding explains: one unit roundoff on the module's inputs, as this module amplifies it.

    How much a module amplifies is measured where its inputs differ at all: inherited error over input error. A layer
    norm after a large common offset, or a product whose terms cancel, amplifies; so does the rounding inside it.
    """
    differs = np.isfinite(profile.input_error) & (profile.input_error > 0)
    differs &= np.isfinite(profile.inherited_error)
    amplification = np.ones(len(profile))
    np.divide(profile.inherited_error, profile.input_error, out=amplification, where=differs)
    return profile.unit_roundoff * np.maximum(amplification, 1.0)


def excess(profile: LayerProfile) -> Float64[np.ndarray, " modules"]:
    """Own error over expected error, per module: around 1 where rounding explains what the module adds."""
    return profile.own_error / expected_error(profile)


def diverged(profile: LayerProfile) -> Bool[np.ndarray, " modules"]:
    """Which modules add clearly more than rounding explains."""
    return excess(profile) > CLEAR_FACTOR


def first_divergence(profile: LayerProfile) -> Divergence | None:
    """The first module, in the order in which they finish, that adds clearly more than rounding explains.

    A module finishes after those inside it, so the innermost one is named. `None` where each adds what its format
    explains, however large the error has grown by then.
    """
    found = np.flatnonzero(diverged(profile))
    if not found.size:
        return None
    at = int(found[0])
    return Divergence(
        name=profile.names[at],
        kind=profile.kinds[at],
        position=at,
        relative_error=float(profile.relative_error[at]),
        inherited_error=float(profile.inherited_error[at]),
        own_error=float(profile.own_error[at]),
        expected_error=float(expected_error(profile)[at]),
        excess=float(excess(profile)[at]),
    )


def first_rounding(profile: LayerProfile) -> str | None:
    """The first module in which the coarser format shows: it adds clearly more than the finer one explains."""
    allowed = expected_error(profile) * profile.finer_roundoff / profile.unit_roundoff
    found = np.flatnonzero(profile.own_error > CLEAR_FACTOR * allowed)
    return profile.names[int(found[0])] if found.size else None


def main_line(names: Sequence[str], kinds: Sequence[str]) -> Bool[np.ndarray, " modules"]:
    """The modules that a curve against depth shows: those that contain none of the others, and attention.

    >>> main_line(["a.self.query", "a.self", "a"], ["Linear", "BertSelfAttention", "BertLayer"]).tolist()
    [True, True, False]
    """
    innermost = np.array([not any(other.startswith(name + ".") for other in names) for name in names])
    attention = np.array(
        [
            name.rsplit(".", 1)[-1] == "self" or kind == "ConceptFusion"
            for name, kind in zip(names, kinds, strict=True)
        ]
    )
    return innermost | attention


def profile_json(profile: LayerProfile) -> dict[str, Any]:
    """The JSON of one comparison: one entry a module, in the order in which they finish."""
    expected, over = expected_error(profile), excess(profile)
    line = main_line(profile.names, profile.kinds)
    columns: dict[str, Sequence[Any] | np.ndarray] = {
        "name": profile.names,
        "kind": profile.kinds,
        "mean": profile.mean,
        "std": profile.std,
        "absmax": profile.absmax,
        "non_finite": profile.non_finite,
        "relative_error": profile.relative_error,
        "input_error": profile.input_error,
        "inherited_error": profile.inherited_error,
        "own_error": profile.own_error,
        "expected_error": expected,
        "excess": over,
        "innermost": line,
    }
    rows = zip(
        *(column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()),
        strict=True,
    )
    first = first_divergence(profile)
    return {
        "policy": profile.candidate,
        "against": profile.reference,
        "notes": profile.notes,
        "unit_roundoff": profile.unit_roundoff,
        "activation_bytes": profile.activation_bytes,
        "layers": [{key: _finite(value) for key, value in zip(columns, row, strict=True)} for row in rows],
        "first_divergence": None if first is None else first.name,
        "first_rounding": first_rounding(profile),
        "explanation": explanation(profile),
    }


def explanation(profile: LayerProfile) -> str:
    """One sentence on what the profile shows."""
    first = first_divergence(profile)
    if first is None:
        over, shows = excess(profile), first_rounding(profile)
        return (
            f"No module parts: what each adds is at most {np.nanmax(over):.1f} times one rounding of {profile.unit_roundoff:.1e}, as "
            f"it amplifies it ({profile.names[int(np.nanargmax(over))]}); sums of many roundings were measured to reach 17 times. "
            + (f"The coarser format shows first in {shows}; what" if shows else "What")
            + " grows from there with depth is inherited."
        )
    if not np.isfinite(first.excess):
        return f"{first.name} makes NaN or infinity of finite inputs; everything after it inherits that."
    return (
        f"{first.name} parts first: it adds a relative error of {first.own_error:.2e}, {first.excess:.0f} times what rounding "
        f"explains there; its inputs brought {first.inherited_error:.2e}."
    )


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
