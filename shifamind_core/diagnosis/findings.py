"""What the diagnosis says: findings, each with its numbers, and the data that a figure of it draws."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

Status = Literal["confirmed", "likely", "possible", "ruled_out"]
Cause = Literal[
    "identical",
    "numerics",
    "document_order",
    "different_documents",
    "code_order",
    "different_codes",
    "different_labels",
    "probabilities_as_logits",
    "double_sigmoid",
    "calibration_shift",
    "few_codes_changed",
    "few_documents_changed",
    "dropout_active",
    "input_changed",
    "tokenizer_casing",
    "max_length",
    "padding",
    "attention_mask_ignored",
    "truncation_side",
    "weights_changed",
    "head_not_loaded",
    "encoder_not_loaded",
    "other_checkpoint",
    "metric_definition",
    "non_finite",
    "unknown",
]
CAUSES: tuple[str, ...] = get_args(Cause)


@dataclass(frozen=True, eq=False)
class Series:
    """One line, cloud or row of bars: `x` and `y` of equal length."""

    name: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class EvidencePlot:
    """Data of a figure, small enough to send to a browser; drawing is the business of `figures`."""

    kind: Literal["scatter", "line", "bar"]
    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]
    log_y: bool = False


@dataclass(frozen=True)
class EvidenceTable:
    """A small table that a person reads."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


View = EvidencePlot | EvidenceTable


@dataclass(frozen=True, eq=False)
class Finding:
    """One cause and what speaks for or against it.

    Attributes
    ----------
    cause : one of `CAUSES`
    status : confirmed, likely, possible or ruled_out
        `confirmed` only where a reproduction or an exact match shows it.
    score : float in [0, 1]
        Orders the findings. At least 0.5 where the status is confirmed or likely, below it where possible,
        and 0 where ruled out.
    explanation, how_to_confirm : str
        Sentences for a person; the first with the numbers, the second with the one experiment that decides.
    evidence : dict
        The same numbers as JSON values.
    view : EvidencePlot or EvidenceTable, optional
        What a page shows when the finding is opened.
    """

    cause: Cause
    status: Status
    score: float
    explanation: str
    how_to_confirm: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    view: View | None = None

    def to_json(self) -> dict[str, Any]:
        """The finding as `diagnose` prints it: JSON values, without the figure's data."""
        return {
            "cause": self.cause,
            "status": self.status,
            "score": round(float(self.score), 4),
            "evidence": json_value(self.evidence),
            "explanation": self.explanation,
            "how_to_confirm": self.how_to_confirm,
        }

    def changed(self, **values: Any) -> "Finding":
        """A copy with some fields replaced; new `evidence` is added to the old."""
        if "evidence" in values:
            values["evidence"] = {**self.evidence, **values["evidence"]}
        return replace(self, **values)


def ruled_out(cause: Cause, explanation: str, **evidence: Any) -> Finding:
    """A finding that says why a cause is not it."""
    return Finding(cause, "ruled_out", 0.0, explanation, evidence=evidence)


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


def most_likely_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """Ordered by score; equal scores keep their order."""
    return tuple(sorted(findings, key=lambda finding: -finding.score))


def thinned(x: np.ndarray, y: np.ndarray, points: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """At most so many evenly spaced points, as float32: enough for a figure."""
    step = max(1, -(-len(x) // points))
    return np.asarray(x)[::step].astype(np.float32), np.asarray(y)[::step].astype(np.float32)
