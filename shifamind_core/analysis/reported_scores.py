"""Scores that somebody reported, by name."""

from dataclasses import dataclass

from shifamind_core.errors import ShifamindError

TUNED = ("best_threshold", "validation_micro_f1", "tuned_macro_f1", "tuned_micro_f1")


@dataclass(frozen=True)
class ReportedScores:
    """Scores as somebody reported them, by name: `macro_f1@0.5`, `micro_f1@0.5` (any threshold), `best_threshold`,
    `validation_micro_f1`, `tuned_macro_f1`, `tuned_micro_f1`."""

    values: dict[str, float]

    @property
    def tuned(self) -> bool:
        """Whether a validation split is needed."""
        return any(name in TUNED for name in self.values)

    @property
    def fixed(self) -> "ReportedScores":
        """Only those at a given threshold, where there are any: they need no validation split."""
        fixed = {name: value for name, value in self.values.items() if "@" in name}
        return ReportedScores(fixed) if fixed else self


def parse_reported(text: str) -> ReportedScores:
    """Read ``macro_f1@0.5=0.2934,micro_f1@0.5=0.4210``.

    >>> parse_reported("macro_f1@0.5=0.2934").values
    {'macro_f1@0.5': 0.2934}

    Raises
    ------
    ShifamindError
        An unknown score, or a value that is none.
    """
    values = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        values[name.strip()] = _score(name.strip(), value.strip())
    if not values:
        raise ShifamindError(
            "No reported score was given; write e.g. macro_f1@0.5=0.2934,micro_f1@0.5=0.4210."
        )
    return ReportedScores(values)


def _score(name: str, text: str) -> float:
    kind, at, threshold = name.partition("@")
    fixed = kind in ("macro_f1", "micro_f1") and at
    if not fixed and name not in TUNED:
        raise ShifamindError(f"{name!r} is no score; known are macro_f1@T, micro_f1@T, {', '.join(TUNED)}.")
    for number in (text, threshold) if fixed else (text,):
        try:
            inside = 0 <= float(number) <= 1
        except ValueError:
            inside = False
        if not inside:
            raise ShifamindError(f"{name}={text}: {number!r} is no number between 0 and 1.")
    return float(text)
