"""What a search tried, and what it found."""

from dataclasses import dataclass
from typing import Any, Literal

from shifamind_core.replay.fit import Fit
from shifamind_core.replay.recipe import Intervention, Recipe
from shifamind_core.replay.rounding import Numerics

Verdict = Literal["identical", "numerics", "confirmed", "likely", "unexplained"]


@dataclass(frozen=True, eq=False)
class Trial:
    """One set of interventions and how far it got on `notes` notes."""

    interventions: tuple[Intervention, ...]
    recipe: Recipe
    fit: Fit
    notes: int

    @property
    def names(self) -> tuple[str, ...]:
        """The interventions' names; a found order of notes counts as one."""
        order = (self.fit.document_order,) if self.fit.document_order else ()
        return (*(step.name for step in self.interventions), *order)

    @property
    def only_rounding(self) -> bool:
        """Whether nothing but the arithmetic was changed."""
        return not self.fit.document_order and all(step.rounding for step in self.interventions)

    def to_json(self) -> dict[str, Any]:
        return {
            "interventions": list(self.names),
            "explained": self.fit.explained,
            "max_abs_residual": self.fit.max_abs_residual,
            "rms_residual": self.fit.rms_residual,
            "notes": self.notes,
            "variant": "; ".join(step.variant for step in self.interventions if step.variant) or None,
        }


@dataclass(frozen=True, eq=False)
class Replay:
    """What a search found.

    Attributes
    ----------
    verdict : str
        `identical`, `numerics` (nothing but rounding), `confirmed` (reproduced within rounding), `likely` (best
        explanation, something remains), `unexplained`.
    best : Trial
        The winner, measured on the confirming notes; without interventions where none is needed or none helps.
    base : Trial
        No intervention, on the same notes.
    trials : tuple of Trial
        All that was tried on the screening notes, best first; of several ways to make one mistake the best.
    level : str, optional
        Which format's rounding remains.
    sentence : str
        The verdict and what to change, for people.
    advice : str
        What to change alone; empty where nothing was found.
    """

    verdict: Verdict
    best: Trial
    base: Trial
    trials: tuple[Trial, ...]
    numerics: Numerics
    level: str | None
    sentence: str
    advice: str = ""
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON of `replay`."""
        return {
            "verdict": self.verdict,
            "best": self.best.to_json(),
            "base": self.base.to_json(),
            "trials": [trial.to_json() for trial in self.trials],
            "tolerance": self.numerics.tolerance,
            "numerics": {"max_abs": self.numerics.max_abs, "rms": self.numerics.rms, "level": self.level},
            "sentence": self.sentence,
            "advice": self.advice,
            "remarks": list(self.remarks),
        }
