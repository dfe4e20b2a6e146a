"""What a diagnosis says: findings, each a cause with a tier, a probability and the numbers that show it; ranked once."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.views import View

Status = Literal["confirmed", "likely", "possible", "ruled_out"]
# A cause that is more likely than all others together is "likely": the meaning of the word, not a fitted number.
LIKELY = 0.5
LISTED = 0.01  # where people read, less probable causes are folded, or counted in a line


@dataclass(frozen=True, eq=False)
class Finding:
    """One cause and what speaks for or against it.

    Attributes
    ----------
    cause : a name in `causes.CAUSES`
    status : confirmed, likely, possible or ruled_out
        `confirmed` needs a reproduction or an exact match; `ruled_out` an exact match, equal bits, or the flip bound with
        errors measured on this model. Between them the probability decides: likely above `LIKELY`, else possible.
    probability : float in [0, 1]
        That the cause is at work: 1 where confirmed, 0 where ruled out, else from the cause model.
    share : float in [0, 1]
        The part of the difference between the runs that the cause accounts for, if it is at work.
    numbers : str
        Sentences with the numbers that show it; a page folds them.
    meaning, action : str
        What happened, if this is the cause, and what to do, in plain words; the cause's record gives both unless more is known.
    evidence : dict
        The same numbers as JSON values.
    view : EvidencePlot or EvidenceTable, optional
    """

    cause: str
    status: Status
    probability: float
    share: float = 1.0
    numbers: str = ""
    meaning: str = ""
    action: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    view: View | None = None

    def __post_init__(self) -> None:
        record = CAUSES[self.cause]
        object.__setattr__(self, "meaning", self.meaning or record.meaning)
        object.__setattr__(self, "action", self.action or record.action)

    @property
    def score(self) -> float:
        """Orders findings: the upper half for what is confirmed, by its share; the lower quarters for likely and possible.

        Confirmed: ½ + share ⁄ 2. Likely: ½ + probability × share ⁄ 4. Possible, or likely of less than half of the difference:
        probability × share ⁄ 2, as of a hundredth at least where likely. Ruled out: 0. So a confirmed cause of at least half of the difference stands before everything that
        is only likely, a fact that accounts for little behind a likely cause of the rest, and what is likely of the little that
        is left behind whatever may account for the most.
        """
        weight = float(np.clip(self.probability * self.share, 0.0, 1.0))
        if self.status == "confirmed":
            return 0.5 + weight / 2
        if self.status == "likely" and self.share >= 0.5:
            return 0.5 + weight / 4
        if self.status == "likely":  # told, however little it accounts for
            return max(weight, self.probability / 100) / 2
        return 0.0 if self.status == "ruled_out" else weight / 2

    @property
    def faint(self) -> bool:
        """Does hardly anything speak for it?"""
        return self.status == "possible" and self.probability < LISTED

    @property
    def sure(self) -> str:
        """How sure it is that this is the cause, to stand before what happened; empty where that is shown."""
        words: dict[Status, str] = {"likely": "Likely", "possible": "Possibly", "ruled_out": "Ruled out"}
        if self.status == "confirmed":
            return ""
        if self.status == "ruled_out":
            return words[self.status]
        cause = " the cause" if CAUSES[self.cause].subject else ""  # that nothing explains it is none
        return f"{words[self.status]}{cause} ({percent(self.probability)})"

    @property
    def sentence(self) -> str:
        """What happened, as a fact only where that is shown; of what is ruled out why."""
        said = self.numbers if self.status == "ruled_out" else self.meaning
        return f"{self.sure}: {said}" if self.sure else said

    @property
    def explanation(self) -> str:
        """What happened and how sure that is, then the numbers."""
        return self.sentence if self.status == "ruled_out" else f"{self.sentence} {self.numbers}".strip()

    def to_json(self) -> dict[str, Any]:
        """The finding as `diagnose` prints it: JSON values, without the figure's data."""
        return {
            "cause": self.cause,
            "status": self.status,
            "score": round(self.score, 4),
            "probability": round(float(self.probability), 4),
            "share": round(float(self.share), 4),
            "evidence": json_value(self.evidence),
            "explanation": self.explanation,
            "meaning": self.sentence,
            "how_to_confirm": self.action,
        }

    def changed(self, **values: Any) -> "Finding":
        """A copy with some fields replaced; new `evidence` is added to the old."""
        if "evidence" in values:
            values["evidence"] = {**self.evidence, **values["evidence"]}
        return replace(self, **values)


def confirmed(cause: str, numbers: str, share: float = 1.0, **more: Any) -> Finding:
    """A cause that an exact match shows; `share` of the difference is gone once it is undone."""
    return Finding(cause, "confirmed", 1.0, share, numbers, **more)


def judged(cause: str, probability: float, numbers: str, share: float = 1.0, **more: Any) -> Finding:
    """A cause with a probability: likely or possible."""
    status: Status = "likely" if probability > LIKELY else "possible"
    return Finding(cause, status, probability, share, numbers, **more)


def ruled_out(cause: str, numbers: str, **evidence: Any) -> Finding:
    """A cause that an exact match, equal bits or a measured bound excludes; `numbers` says which."""
    return Finding(cause, "ruled_out", 0.0, 1.0, numbers, evidence=evidence)


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding a cause (the first that is not weaker), strongest first; equal scores keep their order."""
    best: dict[str, Finding] = {}
    for finding in findings:
        known = best.get(finding.cause)
        if known is None or _strength(finding) > _strength(known):
            best[finding.cause] = finding
    return tuple(sorted(best.values(), key=lambda finding: -finding.score))


def _strength(finding: Finding) -> tuple[bool, float]:
    """What is confirmed stands before what is excluded, and that before what is only probable."""
    return finding.status in ("confirmed", "ruled_out"), finding.score


def percent(probability: float) -> str:
    """A probability as people read it: never 0 or 100 of what is neither.

    >>> percent(0.98476), percent(0.0045), percent(2e-5), percent(0.99997)
    ('98 %', '0.4 %', 'below 0.1 %', 'above 99.9 %')
    """
    if probability < 0.001:
        return "below 0.1 %"
    if probability > 0.999:
        return "above 99.9 %"
    whole = 0.01 <= probability <= 0.99
    return f"{probability:.0%}".replace("%", " %") if whole else f"{probability:.1%}".replace("%", " %")


def json_value(value: Any) -> Any:
    """NumPy scalars and arrays as plain Python; numbers that JSON has no word for become `None`.

    >>> json_value({"r": np.float32(0.5), "rows": np.arange(2), "worst": float("nan")})
    {'r': 0.5, 'rows': [0, 1], 'worst': None}
    """
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [json_value(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
