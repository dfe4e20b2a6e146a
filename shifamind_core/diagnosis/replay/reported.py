"""Replay without logits: which change to the pipeline gives the scores that somebody reported?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shifamind_core.analysis.bootstrap import score_intervals
from shifamind_core.analysis.thresholds import evaluate, run_counts, score
from shifamind_core.diagnosis.replay.recipe import Intervention, Recipe
from shifamind_core.diagnosis.replay.trials import Bench
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run

ROUNDING = 5e-5  # reported scores have four decimals
STEP = 0.01  # of the threshold grid
NAMES = ("best_threshold", "validation_micro_f1", "tuned_macro_f1", "tuned_micro_f1")


@dataclass(frozen=True)
class ReportedScores:
    """Scores as somebody reported them, by name: `macro_f1@0.5`, `micro_f1@0.5` (any threshold), `best_threshold`,
    `validation_micro_f1`, `tuned_macro_f1`, `tuned_micro_f1`."""

    values: dict[str, float]

    @property
    def tuned(self) -> bool:
        """Whether a validation split is needed."""
        return any(name in NAMES for name in self.values)


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
    if not fixed and name not in NAMES:
        raise ShifamindError(f"{name!r} is no score; known are macro_f1@T, micro_f1@T, {', '.join(NAMES)}.")
    for number in (text, threshold) if fixed else (text,):
        try:
            inside = 0 <= float(number) <= 1
        except ValueError:
            inside = False
        if not inside:
            raise ShifamindError(f"{name}={text}: {number!r} is no number between 0 and 1.")
    return float(text)


@dataclass(frozen=True, eq=False)
class ScoredTrial:
    """One set of interventions, the scores it gives, and how far they are from those reported.

    `distance` is the root mean square over scores of (score − reported) in units of its sampling error;
    `explained` is the share of the base's squared distance that is gone.
    """

    interventions: tuple[str, ...]
    scores: dict[str, float]
    half_widths: dict[str, float]
    distance: float
    explained: float
    notes: int

    def to_json(self) -> dict[str, Any]:
        return {
            "interventions": list(self.interventions),
            "explained": self.explained,
            "distance": self.distance,
            "scores": self.scores,
            "half_widths": self.half_widths,
            "max_abs_residual": None,
            "notes": self.notes,
        }


class ScoreSearch:
    """Runs interventions over test (and validation) notes and ranks them by distance to the reported scores.

    Two rounds: all of them on `screened` notes a split, then the nearest `kept` and the base on `notes`.
    """

    def __init__(
        self,
        benches: Mapping[str, Bench],
        templates: Mapping[str, Run],
        base: Recipe,
        interventions: Sequence[Intervention],
        reported: ReportedScores,
        notes: int | None = None,
        screened: int = 256,
        kept: int = 4,
        watch: Callable[[Sequence[ScoredTrial], int, int], None] | None = None,
    ) -> None:
        self.benches, self.templates, self.base, self.reported = benches, templates, base, reported
        # Rounding is decided by the proof panel, not here: scores cannot tell one policy from another.
        self.steps = [
            s
            for s in interventions
            if s.apply(base) != base and s.stage != "policy" and s.slot != "attention"
        ]
        self.notes, self.screened, self.kept, self.watch = notes, screened, kept, watch
        self.remarks: list[str] = []

    def run(self) -> dict[str, Any]:
        """The JSON of `replay` for reported scores."""
        total = max(run.documents for run in self.templates.values())
        wanted = min(self.notes or total, total)
        count = min(self.screened, wanted)
        screened = self._round(self.steps, count, 0)
        if wanted > count:
            nearest = {trial.interventions for trial in screened[: self.kept]}
            final = self._round([s for s in self.steps if (s.name,) in nearest], wanted, len(self.steps) + 1)
        else:
            final = screened
        done = {trial.interventions for trial in final}
        trials = final + [trial for trial in screened if trial.interventions not in done]
        return {
            "verdict": "ranked",
            "best": final[0].to_json(),
            "base": next(trial for trial in final if not trial.interventions).to_json(),
            "trials": [trial.to_json() for trial in trials],
            "reported": self.reported.values,
            "sentence": _sentence(final, wanted),
            "remarks": self.remarks,
        }

    def _round(self, steps: Sequence[Intervention], count: int, before: int) -> list[ScoredTrial]:
        base = self._trial((), self.base, count, None)
        assert base is not None
        trials = [base]
        for index, step in enumerate(steps):
            trial = self._trial((step.name,), step.apply(self.base), count, base.distance)
            trials += [trial] if trial is not None else []
            if self.watch is not None:
                watched = sorted(trials, key=lambda t: t.distance)
                self.watch(watched, before + index + 1, len(self.steps) + self.kept + 1)
        return sorted(trials, key=lambda trial: (trial.distance, len(trial.interventions)))

    def _trial(
        self, names: tuple[str, ...], recipe: Recipe, count: int, base: float | None
    ) -> ScoredTrial | None:
        try:
            runs = {split: self._run(split, recipe, count) for split in self.templates}
        except ShifamindError as error:
            self.remarks.append(f"{names[0]} could not be tried: {error}")
            return None
        scores = scores_of(runs["test"], runs.get("val"), self.reported)
        widths = {name: _half_width(name, runs) for name in scores}
        terms = [((scores[n] - self.reported.values[n]) / max(widths[n], ROUNDING)) ** 2 for n in scores]
        distance = float(np.sqrt(np.mean(terms)))
        explained = 0.0 if not base else float(np.clip(1 - distance**2 / base**2, 0, 1))
        return ScoredTrial(names, scores, widths, distance, explained, runs["test"].documents)

    def _run(self, split: str, recipe: Recipe, count: int) -> Run:
        template = self.templates[split]
        rows = np.arange(min(count, template.documents))
        values = self.benches[split].values(recipe, rows)[0]
        return replace(template.select(rows), logits=values.astype(np.float32))


def scores_of(test: Run, validation: Run | None, reported: ReportedScores) -> dict[str, float]:
    """This run's scores under the names that were reported; those that need a missing validation run are left out."""
    evaluation = evaluate(test, validation) if validation is not None and reported.tuned else None
    result = {}
    for name in reported.values:
        kind, at, threshold = name.partition("@")
        if at:
            result[name] = float(getattr(score(run_counts(test, np.array([float(threshold)]))), kind))
        elif (
            evaluation is not None and evaluation.tuned_threshold is not None and evaluation.tuned is not None
        ):
            result[name] = {
                "best_threshold": evaluation.tuned_threshold.threshold,
                "validation_micro_f1": evaluation.tuned_threshold.micro_f1,
                "tuned_macro_f1": evaluation.tuned.macro_f1,
                "tuned_micro_f1": evaluation.tuned.micro_f1,
            }[name]
    return result


def _half_width(name: str, runs: Mapping[str, Run]) -> float:
    """95 % sampling half-width of a score (bootstrap over notes); of a threshold, two steps of the grid: a plateau."""
    if name == "best_threshold":
        return 2 * STEP
    run = runs["val"] if name == "validation_micro_f1" else runs["test"]
    _, at, threshold = name.partition("@")
    intervals = score_intervals(run, float(threshold) if at else 0.5, draws=200)
    return (intervals.macro_f1 if "macro" in name else intervals.micro_f1).half_width


def _sentence(trials: Sequence[ScoredTrial], notes: int) -> str:
    best, base = trials[0], next(trial for trial in trials if not trial.interventions)
    if not best.interventions:
        return (
            f"None of the changes comes nearer to the reported scores than the pipeline as it is here ({notes} notes, "
            f"{base.distance:.1f} sampling errors away)."
        )
    return (
        f"{' + '.join(best.interventions)} comes nearest to the reported scores: {best.distance:.1f} sampling errors away on "
        f"{best.notes} notes, against {base.distance:.1f} without it. Scores suggest; logits of the other run would prove "
        "(python -m shifamind_core capture)."
    )
