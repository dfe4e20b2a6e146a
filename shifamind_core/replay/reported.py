"""Replay without logits: which change to the pipeline gives the scores that somebody reported?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shifamind_core.analysis.bootstrap import score_intervals
from shifamind_core.analysis.thresholds import evaluate, run_counts, score
from shifamind_core.errors import ShifamindError
from shifamind_core.replay.recipe import Intervention, Recipe
from shifamind_core.replay.runner import Bench
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


@dataclass(frozen=True, eq=False)
class Bed:
    """One split to score: a run with its labels and ids and without logits, and the bench over its notes."""

    template: Run
    bench: Bench


class ScoreSearch:
    """Runs interventions over test (and validation) notes and ranks them by distance to the reported scores.

    Two rounds: all of them on the first `screened` notes, by scores at fixed thresholds where some were reported; then
    the nearest `kept` and the base on `notes`, by all scores.

    Parameters
    ----------
    beds : dict of source to dict of "test", "val" to Bed
        Whose splits: `None` the run directory's own, else a sibling's by name.
    """

    def __init__(
        self,
        beds: Mapping[str | None, Mapping[str, Bed]],
        base: Recipe,
        interventions: Sequence[Intervention],
        reported: ReportedScores,
        notes: int | None = None,
        screened: int = 128,
        kept: int = 4,
        watch: Callable[[Sequence[ScoredTrial], int, int], None] | None = None,
    ) -> None:
        if notes is not None and notes < 1:
            raise ShifamindError(f"Scores were asked for on {notes} notes; at least 1 is needed.")
        self.beds, self.base, self.reported = beds, base, reported
        # Rounding is decided by the proof panel, not here: scores cannot tell one policy from another.
        self.steps = [s for s in interventions if s.apply(base) != base and not s.rounding]
        self.notes, self.screened, self.kept, self.watch = notes, screened, kept, watch
        self.remarks: list[str] = []

    def run(self) -> dict[str, Any]:
        """The JSON of `replay` for reported scores."""
        total = self.beds[None]["test"].template.documents
        wanted = min(self.notes or total, total)
        if len(self.steps) <= self.kept:
            screened, steps = [], self.steps
        else:
            screened = self._round(self.steps, min(self.screened, wanted), self.reported.fixed, 0)
            names = [trial.interventions for trial in screened if trial.interventions][: self.kept]
            steps = [step for step in self.steps if (step.name,) in names]
        final = self._round(steps, wanted, self.reported, len(self.steps) + 1 if screened else 0)
        done = {trial.interventions for trial in final}
        trials = final + [trial for trial in screened if trial.interventions not in done]
        return {
            "verdict": "ranked",
            "best": final[0].to_json(),
            "base": next(trial for trial in final if not trial.interventions).to_json(),
            "trials": [trial.to_json() for trial in trials],
            "reported": self.reported.values,
            "sentence": _sentence(final, self.reported, wanted == total),
            "remarks": list(dict.fromkeys(self.remarks)),
        }

    def _round(
        self, steps: Sequence[Intervention], count: int, reported: ReportedScores, before: int
    ) -> list[ScoredTrial]:
        base = self._trial((), self.base, count, reported, None)
        trials = [base]
        for index, step in enumerate(steps):
            try:
                trials.append(
                    self._trial((step.name,), step.apply(self.base), count, reported, base.distance)
                )
            except ShifamindError as error:
                self.remarks.append(f"{step.name} could not be tried: {error}")
            if self.watch is not None:
                self.watch(
                    _ranked(trials), before + index + 1, max(len(self.steps), len(steps)) + self.kept + 1
                )
        return _ranked(trials)

    def _trial(
        self, names: tuple[str, ...], recipe: Recipe, count: int, reported: ReportedScores, base: float | None
    ) -> ScoredTrial:
        beds = self.beds[recipe.notes]
        wanted = ("test", "val") if reported.tuned and "val" in beds else ("test",)
        runs = {split: self._run(beds[split], recipe, count) for split in wanted}
        scores = scores_of(runs["test"], runs.get("val"), reported)
        if not scores:
            raise ShifamindError(
                "Tuned scores were reported, and there is no validation split here to tune on; report scores at a threshold."
            )
        widths = {name: _half_width(name, runs) for name in scores}
        terms = [((scores[n] - reported.values[n]) / max(widths[n], ROUNDING)) ** 2 for n in scores]
        distance = float(np.sqrt(np.mean(terms)))
        explained = 0.0 if not base else float(np.clip(1 - distance**2 / base**2, 0, 1))
        return ScoredTrial(names, scores, widths, distance, explained, runs["test"].documents)

    @staticmethod
    def _run(bed: Bed, recipe: Recipe, count: int) -> Run:
        rows = np.arange(min(count, bed.template.documents))
        values = bed.bench.values(replace(recipe, notes=None), rows, draws=1)[0]
        return replace(bed.template.select(rows), logits=values.astype(np.float32))


def _ranked(trials: Sequence[ScoredTrial]) -> list[ScoredTrial]:
    """Nearest first; of several ways to make one mistake the nearest."""
    best: dict[tuple[str, ...], ScoredTrial] = {}
    for trial in sorted(trials, key=lambda trial: (trial.distance, len(trial.interventions))):
        best.setdefault(trial.interventions, trial)
    return list(best.values())


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


def _sentence(trials: Sequence[ScoredTrial], reported: ReportedScores, whole: bool) -> str:
    """What the ranking is worth: reproduced to the digit, within sampling error, or not explained."""
    best, base = trials[0], next(trial for trial in trials if not trial.interventions)
    names = " + ".join(best.interventions) or "the pipeline as it is here"
    errors = f"{best.distance:.1f} sampling errors away on {best.notes} notes"
    without = f", against {base.distance:.1f} without it" if best.interventions else ""
    ask = "Scores suggest; logits of the other run would prove (python -m shifamind_core capture)."
    if whole and all(_same_digits(best.scores[name], reported.values[name]) for name in best.scores):
        return f"{names} gives the reported scores to four digits on all {best.notes} notes{without}. {ask}"
    if best.distance > 1:
        return (
            f"Nothing that was tried gives the reported scores: the nearest, {names}, is still {errors}{without}. "
            "The cause lies elsewhere: other weights, other notes, or several changes at once."
        )
    open_ = " The pipeline as it is here is within sampling error too: these scores alone decide nothing."
    return (
        f"{names} comes nearest to the reported scores: {errors}{without}."
        f"{open_ if best.interventions and base.distance <= 1 else ''} {ask}"
    )


def _same_digits(score: float, reported: float) -> bool:
    return abs(score - reported) <= 1.2 * ROUNDING
