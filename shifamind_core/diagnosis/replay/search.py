"""Search the interventions, one by one and then together, for the one that reproduces the other run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from shifamind_core.diagnosis.replay.recipe import Intervention, Recipe
from shifamind_core.diagnosis.replay.trials import Bench, Fit, Rows, fit
from shifamind_core.errors import ShifamindError
from shifamind_core.precision.policy import POLICIES

SCREENED = 64
CONFIRMED = 256
BEAM = 3
LIKELY = 0.9  # share explained from which a best explanation is worth naming
MARGIN = 1.5  # on the measured error of the coarsest policy, since it is a maximum over few notes

Verdict = Literal["identical", "numerics", "confirmed", "likely", "unexplained"]
Watch = Callable[[Sequence["Trial"], int, int], None]


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

    def to_json(self) -> dict[str, Any]:
        return {
            "interventions": list(self.names),
            "explained": self.fit.explained,
            "max_abs_residual": self.fit.max_abs_residual,
            "rms_residual": self.fit.rms_residual,
            "notes": self.notes,
        }


@dataclass(frozen=True, eq=False)
class Numerics:
    """What rounding alone does to this model on these notes, measured: policy name to largest and rms difference."""

    max_abs: dict[str, float] = field(default_factory=dict)
    rms: dict[str, float] = field(default_factory=dict)

    @property
    def tolerance(self) -> float:
        """The largest difference that rounding is granted: that of the coarsest policy, with a margin."""
        return MARGIN * max(self.max_abs.values(), default=0.0)

    def level(self, rms: float) -> str | None:
        """The finest format whose measured error is as large as this one."""
        for level, policy in (("fp32", "fp32"), ("tf32", "emulated-tf32"), ("bf16", "emulated-bf16")):
            if rms <= MARGIN * self.rms.get(policy, 0.0):
                return level
        return None


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
        All that was tried on the screening notes, best first.
    sentence : str
        The verdict and what to change, for people.
    """

    verdict: Verdict
    best: Trial
    base: Trial
    trials: tuple[Trial, ...]
    numerics: Numerics
    level: str | None
    sentence: str
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
            "remarks": list(self.remarks),
        }


class Search:
    """One search over one target; `watch` is told of every trial, for a live table."""

    def __init__(
        self,
        bench: Bench,
        base: Recipe,
        interventions: Sequence[Intervention],
        notes: int = SCREENED,
        depth: int = 3,
        watch: Watch | None = None,
    ) -> None:
        if notes < 8 or depth < 1:
            raise ShifamindError(
                f"A replay needs at least 8 notes and depth 1; asked for {notes} and {depth}."
            )
        self.bench, self.base, self.depth, self.watch = bench, base, depth, watch
        self.interventions = [step for step in interventions if step.apply(base) != base]
        self.rows = bench.target.choose(notes)
        self.confirming = bench.target.choose(max(CONFIRMED, notes))
        self.trials: list[Trial] = []
        self.remarks: list[str] = list(bench.target.remarks)
        self.expected = len(self.interventions)

    def run(self) -> Replay:
        """Screen, combine, confirm."""
        start = self._measure((), self.base, self.rows, reorder=False)
        assert start is not None
        numerics = self._numerics(self.rows)
        self._try(())  # nothing changed but, perhaps, the order of notes
        singles = [trial for step in self.interventions if (trial := self._try((step,))) is not None]
        best = self._combine(start, singles, numerics)
        return self._conclude(best)

    def _numerics(self, rows: Rows) -> Numerics:
        base = self.bench.values(self.base, rows)
        max_abs, rms = {}, {}
        for name in ("fp32", "emulated-tf32", "emulated-bf16"):
            # FP32 against itself says nothing: its own rounding is that against the other attention implementation.
            other = replace(self.base, policy=POLICIES[name])
            if name == "fp32":
                other = replace(other, attention="eager" if self.base.attention == "sdpa" else "sdpa")
            difference = self.bench.values(other, rows) - base
            max_abs[name] = float(np.abs(difference).max())
            rms[name] = float(np.sqrt((difference**2).mean()))
        return Numerics(max_abs, rms)

    def _measure(
        self, steps: tuple[Intervention, ...], recipe: Recipe, rows: Rows, reorder: bool = True
    ) -> Trial | None:
        base = self.bench.target.values[rows] - self.bench.values(self.base, rows)[0]
        try:
            values = self.bench.values(recipe, rows)
        except ShifamindError as error:
            self.remarks.append(f"{' + '.join(step.name for step in steps)} could not be tried: {error}")
            return None
        found = fit(values, self.bench.target, rows, float((base**2).sum()), reorder)
        return Trial(steps, recipe, found, len(rows))

    def _try(self, steps: tuple[Intervention, ...]) -> Trial | None:
        recipe = self.base
        for step in steps:
            recipe = step.apply(recipe)
        trial = self._measure(steps, recipe, self.rows)
        if trial is not None and trial.names:
            self.trials.append(trial)
        if self.watch is not None:
            self.watch(self.ranked(), len(self.trials), max(self.expected, len(self.trials)))
        return trial

    def ranked(self) -> list[Trial]:
        """All trials so far: most explained first, then fewest interventions."""
        return sorted(self.trials, key=_rank)

    def _combine(self, start: Trial, singles: list[Trial], numerics: Numerics) -> Trial:
        """Extend the best few by every other intervention that does anything, up to the depth."""
        best = min([start, *self.trials], key=_rank)
        if start.fit.max_abs_residual <= numerics.tolerance:
            return best
        acting = self._acting(singles, numerics)
        seen = {frozenset(trial.names) for trial in singles}
        beam = sorted((trial for trial in singles if trial.interventions[0] in acting), key=_rank)[:BEAM]
        for _ in range(self.depth - 1):
            if best.fit.max_abs_residual <= numerics.tolerance or (
                best.recipe.random and best.fit.explained > LIKELY
            ):
                break  # reproduced, or one more draw of the same random recipe: nothing is left to explain
            extended = []
            for trial in beam:
                for steps in self._extensions(trial, acting, seen):
                    seen.add(frozenset(step.name for step in steps))
                    if (longer := self._try(steps)) is not None:
                        extended.append(longer)
            better = [trial for trial in extended if _gains(trial, best)]
            if not better:
                break
            best = min(better, key=_rank)
            beam = sorted(extended, key=_rank)[:BEAM]
        return best

    def _acting(self, singles: list[Trial], numerics: Numerics) -> list[Intervention]:
        """Interventions that move the logits by more than rounding does: the others can explain nothing here."""
        base = self.bench.values(self.base, self.rows)
        acting = []
        for trial in singles:
            # A random one costs several draws a trial, and what it hides cannot be found beneath it.
            if trial.recipe.random and trial.fit.explained < 0.2:
                continue
            moved = np.abs(self.bench.values(trial.recipe, self.rows) - base).max()
            if moved > numerics.max_abs["fp32"] * MARGIN and trial.interventions[0].stage != "policy":
                acting.append(trial.interventions[0])
        return acting

    def _extensions(
        self, trial: Trial, acting: list[Intervention], seen: set[frozenset[str]]
    ) -> list[tuple[Intervention, ...]]:
        taken = {step.slot for step in trial.interventions}
        longer = []
        for step in acting:
            steps = (*trial.interventions, step)
            random = sum(any(edit.random for edit in s.apply(self.base).edits) for s in steps)
            if step.slot in taken or random > 1 or frozenset(s.name for s in steps) in seen:
                continue
            longer.append(tuple(sorted(steps, key=lambda s: s.stage == "outputs")))
        return longer

    def _conclude(self, best: Trial) -> Replay:
        """Measure the winner again on more notes, and say what it is worth."""
        start = self._measure((), self.base, self.confirming, reorder=False)
        winner = self._measure(best.interventions, best.recipe, self.confirming)
        assert start is not None and winner is not None
        numerics = self._numerics(self.confirming)
        verdict = _verdict(start, winner, numerics)
        if verdict in ("identical", "unexplained") or (
            verdict == "numerics" and winner.fit.explained < LIKELY
        ):
            winner, attempt = start, winner
        else:
            attempt = winner
        level = numerics.level(start.fit.rms_residual if verdict == "numerics" else winner.fit.rms_residual)
        level = level if verdict != "unexplained" else None
        sentence = _sentence(verdict, start, winner, attempt, numerics, level)
        return Replay(
            verdict,
            winner,
            start,
            tuple(self.ranked()),
            numerics,
            level,
            sentence,
            tuple(dict.fromkeys(self.remarks)),
        )


def _rank(trial: Trial) -> tuple[float, int]:
    return -round(trial.fit.explained, 6), len(trial.names)


def _gains(longer: Trial, best: Trial) -> bool:
    """Another intervention must take away a good part of what is left, or it is decoration."""
    # A random recipe's share is itself an estimate from few draws: more must be gained to be believed.
    left = 0.3 if longer.recipe.random else 0.7
    return 1 - longer.fit.explained < left * (1 - best.fit.explained)


def _verdict(start: Trial, winner: Trial, numerics: Numerics) -> Verdict:
    if start.fit.max_abs_residual == 0:
        return "identical"
    rounding = start.fit.max_abs_residual <= numerics.tolerance
    reproduced = winner.fit.explained >= LIKELY and bool(winner.names)
    only_rounding = not winner.fit.document_order and all(
        step.stage == "policy" or step.slot == "attention" for step in winner.interventions
    )
    if (only_rounding and reproduced) or (rounding and not reproduced):
        return "numerics"
    if not reproduced:
        return "unexplained"
    return "confirmed" if winner.fit.max_abs_residual <= numerics.tolerance else "likely"


def _sentence(
    verdict: Verdict, start: Trial, winner: Trial, attempt: Trial, numerics: Numerics, level: str | None
) -> str:
    names = " + ".join(winner.names)
    rest = f"{winner.fit.max_abs_residual:.2g}"
    advice = " ".join(step.advice for step in winner.interventions)
    if winner.fit.document_order:
        advice = f"{advice} Save rows, labels and ids in one order.".strip()
    if verdict == "identical":
        return f"The two runs are identical on {start.notes} notes: there is nothing to explain."
    if verdict == "numerics":
        named = f" {names} reproduces it." if names else ""
        return (
            f"No logit differs by more than {start.fit.max_abs_residual:.2g}, which rounding at the level of "
            f"{level or 'bf16'} does to this model: numerics, and no change to the pipeline.{named}"
        )
    if verdict == "confirmed":
        return (
            f"Confirmed: {names} reproduces the other run on {winner.notes} notes to within {rest} a logit "
            f"(rounding is granted {numerics.tolerance:.2g}). {advice}"
        )
    if verdict == "likely":
        return (
            f"Likely: {names} explains {winner.fit.explained:.1%} of the squared difference on {winner.notes} notes; up to "
            f"{rest} a logit remains. {advice}"
        )
    tried = " + ".join(attempt.names) or "nothing"
    return (
        f"Unexplained: no change that was tried reproduces the other run. The nearest, {tried}, explains "
        f"{attempt.fit.explained:.1%}; without any the rms difference is {start.fit.rms_residual:.2g}, at most "
        f"{start.fit.max_abs_residual:.2g} a logit."
    )
