"""Replay without logits: which change to the pipeline gives the scores that somebody reported?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shifamind_core.analysis.bootstrap import score_intervals
from shifamind_core.analysis.metric_definitions import match, tuned_on_itself
from shifamind_core.analysis.reported_scores import TUNED, ReportedScores
from shifamind_core.analysis.thresholds import evaluate, run_counts, score
from shifamind_core.errors import ShifamindError
from shifamind_core.replay.effect import that_act
from shifamind_core.replay.recipe import Intervention, Recipe
from shifamind_core.replay.runner import Bench
from shifamind_core.runs.run import Run

ROUNDING = 5e-5  # reported scores have four decimals
STEP = 0.01  # of the threshold grid


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

    First of all, where the whole split is scored, definitions of F1: one that gives every reported score to the last digit
    explains more with less than any change to the pipeline, and nothing else is then tried. After that two rounds: all of them on the first `screened` notes, by scores at fixed thresholds where some were reported; then
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
        steps = [s for s in interventions if s.apply(base) != base and not s.rounding]
        self.steps, _ = that_act(beds[None]["test"].bench, base, steps)
        self.notes, self.screened, self.kept, self.watch = notes, screened, kept, watch
        self.remarks: list[str] = []

    def run(self) -> dict[str, Any]:
        """The JSON of `replay` for reported scores."""
        total = self.beds[None]["test"].template.documents
        wanted = min(self.notes or total, total)
        defined = self._defined() if wanted == total else None
        if defined is not None:
            return defined
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

    def _defined(self) -> dict[str, Any] | None:
        """The JSON, if a definition of F1 gives the reported scores on the base's own logits, accidents excluded."""
        beds = self.beds[None]
        wanted = ("test", "val") if self.reported.tuned and "val" in beds else ("test",)
        runs = {split: self._run(beds[split], self.base, beds[split].template.documents) for split in wanted}
        test = runs["test"]
        usual = scores_of(test, runs.get("val"), self.reported)
        values = {name: self.reported.values[name] for name in usual}
        if not usual or test.non_finite or _all_same_digits(usual, values) or test.labels is None:
            return None
        given, names, told = dict(usual), [], []
        found = match(test.logits, test.labels, values)
        if found is not None and found.found is not None and not found.is_usual:
            if not found.shown:
                self.remarks.append(
                    f"metric={found.found.name} gives the reported scores as well, but so may an accident: {found.accident_words}"
                )
                return None
            given |= found.found.values
            names.append(f"metric={found.found.name}")
            told.append(f"{found.found.words}; {found.accident_words}")
        tuned = tuned_on_itself(test.logits, test.labels, values)
        if tuned is not None and not _all_same_digits(usual, {n: v for n, v in values.items() if n in TUNED}):
            given |= {name: tuned.values[name] for name in values if name in tuned.values}
            names.append(f"metric={tuned.name}")
            told.append(f"{tuned.words}.")
        if not names or not _all_same_digits(given, values):
            return None
        base = self._trial((), self.base, test.documents, self.reported, None)
        best = replace(base, interventions=tuple(names), scores=given, distance=0.0, explained=1.0)
        return {
            "verdict": "ranked",
            "best": best.to_json(),
            "base": base.to_json(),
            "trials": [best.to_json(), base.to_json()],
            "reported": self.reported.values,
            "sentence": (
                f"{' + '.join(names)} gives the reported scores to the last digit on all {test.documents} notes, from the "
                f"scores that the pipeline gives as it is here: F1 was computed in another way ({' '.join(told)[:-1]}). "
                "Score both with one definition."
            ),
            "remarks": ["Changes to the pipeline were not tried: none is needed.", *self.remarks],
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


def _all_same_digits(scores: Mapping[str, float], reported: Mapping[str, float]) -> bool:
    return all(_same_digits(scores[name], value) for name, value in reported.items())


def _same_digits(score: float, reported: float) -> bool:
    return abs(score - reported) <= 1.2 * ROUNDING
