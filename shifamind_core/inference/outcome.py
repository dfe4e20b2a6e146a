"""What scoring a split comes to: a run, and what of it was computed, now or by an earlier run that the cache kept."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from shifamind_core import __version__
from shifamind_core.inference.predict import Prediction
from shifamind_core.precision.environment import Environment
from shifamind_core.runs.run import Run


@dataclass(frozen=True)
class Outcome:
    """A run, whether the cache answered, and what of the cache had to be thrown away."""

    run: Run
    cached: bool
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Computed:
    """Logits and concept scores, and how they were computed: all that a cached run may lend to another request."""

    logits: np.ndarray
    concept_scores: np.ndarray | None
    batch_size: int
    producer: str | None
    created_at_utc: str | None
    environment: Environment | None
    duration_seconds: float | None
    notes: tuple[str, ...]

    @classmethod
    def now(cls, prediction: Prediction, environment: Environment) -> "Computed":
        """What a forward pass gave just now."""
        return cls(
            logits=prediction.logits,
            concept_scores=prediction.concept_scores,
            batch_size=prediction.batch_size,
            producer=f"shifamind-diagnostics {__version__}",
            created_at_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            environment=environment,
            duration_seconds=round(prediction.duration_seconds, 3),
            notes=prediction.remarks + _non_finite_remark(prediction.logits),
        )

    @classmethod
    def of(cls, run: Run) -> "Computed":
        """What a run that the cache kept says of its computation."""
        known = {name: getattr(run.manifest, name) for name in (
            "batch_size", "producer", "created_at_utc", "environment", "duration_seconds")}  # fmt: skip
        return cls(run.logits, run.concept_scores, **known, notes=_non_finite_remark(run.logits))


def _non_finite_remark(logits: np.ndarray) -> tuple[str, ...]:
    bad = int(logits.size - np.isfinite(logits).sum())
    return (f"{bad} of {logits.size} logits are NaN or infinite.",) if bad else ()
