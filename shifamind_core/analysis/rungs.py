"""What a precision ladder found, as plain data: read by those that do not import torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shifamind_core.artifacts.json_file import read_json
from shifamind_core.records import from_json, to_json


@dataclass(frozen=True)
class Rung:
    """One policy against FP64: differences of logits, decisions flipped at 0.5, scores.

    `refused` holds the reason where the device cannot honour the policy; all numbers are then `None`.
    `seconds` is the forward passes' time, of this machine and moment.
    """

    policy: str
    refused: str | None = None
    max_abs: float | None = None
    p99_abs: float | None = None
    median_abs: float | None = None
    rms: float | None = None
    flips: int | None = None
    decisions: int | None = None
    macro_f1: float | None = None
    micro_f1: float | None = None
    seconds: float | None = None
    non_finite: int = 0


@dataclass(frozen=True)
class Ladder:
    """All rungs, and what they were measured on."""

    rungs: tuple[Rung, ...]
    documents: int
    checkpoint: str
    device: str
    run_digests: dict[str, str]

    def measured(self) -> dict[str, float]:
        """Largest difference from FP64 by policy, for those that ran."""
        return {
            rung.policy: rung.max_abs
            for rung in self.rungs
            if rung.max_abs is not None and rung.policy != "fp64"
        }

    def to_json(self) -> dict[str, Any]:
        return to_json(self)


def read_ladder(path: Path) -> Ladder:
    """The ladder in a JSON file, as `ladder --output FILE` writes it.

    Raises
    ------
    ShifamindError
        No such file, no JSON, or another JSON than a ladder's.
    """
    return from_json(Ladder, read_json(path), path.name)
