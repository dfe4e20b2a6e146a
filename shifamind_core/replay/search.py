"""Search the interventions, one by one and then together, for the one that reproduces the other run."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.inference.tokenization import Progress
from shifamind_core.replay.effect import some, that_act
from shifamind_core.replay.fit import could_be_a_draw, fit, is_a_draw
from shifamind_core.replay.interventions import padding_acts
from shifamind_core.replay.recipe import Intervention, Recipe
from shifamind_core.replay.reference_rows import Rows
from shifamind_core.replay.result import Replay, Trial, Verdict
from shifamind_core.replay.rounding import measure
from shifamind_core.replay.runner import DRAWS, Bench, Values
from shifamind_core.replay.sentence import advice_of, sentence_of

SCREENED = 64
FEW = 16  # notes on which a change is looked at first where most changes will not do: one batch
CONFIRMED = 256
FEWEST = 8
BEAM = 3
PROMISING = 2  # ways to write a text, or to cut a note, that are combined with other changes
LIKELY = 0.9  # share explained from which a best explanation is worth naming
DRAWN = 0.99  # share that a random change is granted at most beside what can be reproduced
ROUNDED = 0.7  # share of what a change leaves that a policy must explain to be named beside it
EXACT = 0.99  # the same where what is left is no more than FP32's own rounding
GAINED = 0.9  # share of what is left, on the notes where most is, that a change may leave and still be measured on all

Watch = Callable[[Sequence[Trial], int, int], None]


class Search:
    """One search over one target; `watch` is told of every trial, for a live table, `tell` of every step.

    With `screen` most changes beside others are looked at on a few notes first, and those that cannot win are left there;
    without it everything is measured on all screening notes.
    """

    def __init__(
        self,
        bench: Bench,
        base: Recipe,
        interventions: Sequence[Intervention],
        notes: int = SCREENED,
        depth: int = 3,
        watch: Watch | None = None,
        tell: Progress | None = None,
        screen: bool = True,
    ) -> None:
        if notes < FEWEST or depth < 1:
            raise ShifamindError(
                f"A replay needs at least {FEWEST} notes and depth 1; asked for {notes} and {depth}."
            )
        self.bench, self.base, self.depth, self.watch, self.screen = bench, base, depth, watch, screen
        self._tell = tell or (lambda message, done, total: None)
        steps = [step for step in interventions if step.apply(base) != base]
        self.interventions, rewritten = that_act(bench, base, steps)
        self.rows = bench.target.more(some(rewritten, notes // 2), notes)
        self.confirming = bench.target.more(self.rows, max(CONFIRMED, notes))
        wanted = bench.target.values[self.rows]
        self._between_0_and_1 = bool(((wanted > 0) & (wanted < 1)).all())
        self.trials: list[Trial] = []
        self.looked_at: list[Trial] = []  # on few notes, and no further
        self._matched = False  # whether something reproduces the target to within FP32's rounding
        self._done = self._planned = 0
        self.remarks: list[str] = list(bench.target.remarks)
        self._levels: dict[Trial, str | None] = {}

    def run(self) -> Replay:
        """Screen, combine, confirm."""
        self.bench.tell = self._telling("Measuring what rounding does")
        start = self._measure((), self.base, self.rows, reorder=False)
        self.numerics = measure(self.bench, self.base, self.rows)
        self._matched = self._matches(start)
        self.bench.tell = self._tell_of_notes
        steps = [step for step in self.interventions if self._worth_trying(step, self.base)]
        # A random change takes several draws, and stands behind whatever reproduces the target.
        drawn = [step for step in steps if step.apply(self.base).random]
        self._planned = len(steps) + 1
        self._try(())  # nothing changed but, perhaps, the order of notes
        for part in ([step for step in steps if step not in drawn], drawn):
            if part is drawn and self._matched and self.screen:
                self._planned -= len(drawn)
                break
            for step in part:
                self._try((step,))
            if self.depth > 1 and not self._settled(min([start, *self.trials], key=_rank)):
                self._save_otherwise()
        best = self._with_rounding(self._combine(min([start, *self.trials], key=_rank), start))
        self.bench.tell = self._telling(f"Confirming on {len(self.confirming)} notes")
        return self._conclude(best)

    def ranked(self) -> list[Trial]:
        """The best trial of every set of names so far: most explained first, then fewest interventions."""
        best: dict[tuple[str, ...], Trial] = {}
        for trial in sorted(self.trials, key=_rank) + sorted(self.looked_at, key=_rank):
            best.setdefault(tuple(sorted(trial.names)), trial)
        return sorted(best.values(), key=_rank)

    def _measure(
        self,
        steps: tuple[Intervention, ...],
        recipe: Recipe,
        rows: Rows,
        reorder: bool = True,
        glance: bool = False,
    ) -> Trial:
        base = self.bench.values(self.base, rows)[0]
        values = self._draws(recipe, rows, glance)
        found = fit(values, base, self.bench.target, rows, reorder, recipe.rescaled)
        if self._between_0_and_1 and recipe.random and not recipe.outputs:
            # Small random logits may lie as near, but logits have both signs.
            found = replace(found, explained=min(found.explained, 0.5))
        return Trial(steps, recipe, found, len(rows))

    def _draws(self, recipe: Recipe, rows: Rows, glance: bool) -> Values:
        """Of a random recipe two draws; more if the target could be one, and twice as many if it seems to be.

        What one draw is expected to be off is known from few draws badly: where weights are made anew, all of them are
        off in the same few directions.
        """
        values, wanted = self.bench.values(recipe, rows, 2, glance), self.bench.target.values[rows]
        base = self.bench.values(self.base, rows)[0]
        if recipe.random and could_be_a_draw(values, base, wanted):
            values = self.bench.values(recipe, rows, DRAWS, glance)
            if is_a_draw(values, base, wanted):
                values = self.bench.values(recipe, rows, 2 * DRAWS, glance)
        return values

    def _try(self, steps: tuple[Intervention, ...], beside: Trial | None = None) -> Trial | None:
        """Measure these together; `None` where they cannot be tried, or, made `beside` another, change too little."""
        recipe = self.base
        for step in steps:
            recipe = step.apply(recipe)
        self._trying = " + ".join(step.name for step in steps) or "another order"
        self._tell_of_notes()
        trial = None
        try:
            rows = self._few(recipe, steps, beside)
            few = None if rows is None else self._measure(steps, recipe, rows, glance=True)
            if few is None or self._may_win(few, rows, beside):
                trial = self._measure(steps, recipe, self.rows)
            else:
                self.looked_at.append(few)
        except ShifamindError as error:
            self.remarks.append(f"{' + '.join(step.name for step in steps)} could not be tried: {error}")
        if trial is not None and trial.names:
            self.trials.append(trial)
            self._matched = self._matched or self._matches(trial)
        self._done += 1
        if self.watch is not None:
            self.watch(self.ranked(), self._done, self._planned)
        return trial

    def _telling(self, stage: str) -> Progress:
        """Progress of the notes' passes under the name of this stage."""
        return lambda _, done, total: self._tell(stage, done, total)

    def _tell_of_notes(self, _stage: str = "", done: int = 0, total: int = 0) -> None:
        """A step within a trial, which on a large model takes its time."""
        notes = f", {done} of {total} notes" if total else ""
        self._tell(f"Trying interventions · {self._trying}{notes}", self._done, self._planned)

    def _matches(self, trial: Trial) -> bool:
        """Whether a trial reproduces the target to within FP32's own rounding: then no other can be nearer."""
        return not trial.recipe.random and trial.fit.max_abs_residual <= self.numerics.fine

    def _few(self, recipe: Recipe, steps: tuple[Intervention, ...], beside: Trial | None) -> Rows | None:
        """Notes to look at first; `None` where all are to be measured at once, or cost no more."""
        if not self.screen or not (self._matched or beside) or len(self.rows) <= FEW:
            return None
        if self.bench.missing(recipe, self.rows) <= FEW:
            return None
        if self._matched or beside is None or beside.fit.residual is None or recipe.random:
            return some(self.rows, FEW)
        # What is left of most, and what the added change moves most: nowhere else could it show better.
        left = (beside.fit.residual**2).sum(axis=1)
        (added,) = (step for step in steps if step not in beside.interventions)
        alone = added.apply(self.base)
        if self.bench.missing(alone, self.rows):
            return some(self.rows, FEW)
        base = self.bench.values(self.base, self.rows)[0]
        moved = ((self.bench.values(alone, self.rows)[0] - base) ** 2).sum(axis=1)
        chosen = np.union1d(np.argsort(-left)[: FEW // 2], np.argsort(-np.nan_to_num(moved))[: FEW // 2])
        return self.rows[chosen]

    def _may_win(self, few: Trial, rows: Rows | None, beside: Trial | None) -> bool:
        """Whether what was seen on these few notes leaves it open that the change wins on all."""
        if self._matched:
            return self._matches(few)
        assert beside is not None and rows is not None
        if few.recipe.random:
            wanted, base = self.bench.target.values[rows], self.bench.values(self.base, rows)[0]
            return could_be_a_draw(self.bench.values(few.recipe, rows, 2, glance=True), base, wanted)
        without = self._measure(beside.interventions, beside.recipe, rows)
        return 1 - few.fit.explained < GAINED * (1 - without.fit.explained)

    def _worth_trying(self, step: Intervention, recipe: Recipe) -> bool:
        """Other batches are other interventions only where padding can act."""
        changed = step.apply(recipe)
        if step.slot != "padding" or padding_acts(self.bench.model(), changed):
            return True
        return step == next(one for one in self.interventions if one.name == step.name)

    def _save_otherwise(self) -> None:
        """Beside every change already computed, what was done to the outputs: that costs no forward pass, and a change of the
        outputs can hide how well the other explains (probabilities correlate with no logits)."""
        computed = [
            trial for trial in self.trials if len(trial.interventions) == 1 and not trial.only_rounding
        ]
        seen = {_way(trial.interventions) for trial in self.trials}
        pairs: dict[frozenset[int], tuple[Intervention, Intervention]] = {}
        for first in (trial.interventions[0] for trial in computed):
            for step in self.interventions:
                way = _way((first, step))
                if step.stage == "outputs" and step.slot != first.slot and way not in seen:
                    pairs.setdefault(way, (first, step))
        self._planned += len(pairs)
        for pair in pairs.values():
            self._try(pair)

    def _combine(self, best: Trial, start: Trial) -> Trial:
        """Extend the best few by every other intervention that does anything, up to the depth."""
        if self._settled(start):
            return best
        acting = self._acting()
        seen = {_way(trial.interventions) for trial in self.trials}
        singles = [t for t in self.trials if len(t.interventions) == 1 and t.interventions[0] in acting]
        beam = self._beam(singles)
        extended = [trial for trial in self.trials if len(trial.interventions) == 2]
        for length in range(2, self.depth + 1):
            believed = best.recipe.random and self._settled(best)
            if self._settled(best) and not (believed and length == 2):
                break
            if believed:
                # A random change resembles much. What can be reproduced number by number is tried before it is believed.
                beam = self._beam([trial for trial in singles if not trial.recipe.random])
            for place, trial in enumerate(beam):
                if any(self._settled(longer) and not longer.recipe.random for longer in extended):
                    break
                found = self._extensions(trial, acting, seen, random=place == 0 and not believed)
                self._planned += len(found)
                for steps in found:
                    seen.add(_way(steps))
                    if (longer := self._try(steps, beside=trial)) is not None:
                        extended.append(longer)
            better = [trial for trial in extended if self._improves(trial, best)]
            if not better:
                break
            best = min(better, key=_rank)
            beam, extended = self._beam(extended), []
        return best

    def _improves(self, longer: Trial, best: Trial) -> bool:
        """Another intervention must take away a good part of what is left, or it is decoration.

        Where a random change would do, only another that can be reproduced is better.
        """
        if best.recipe.random and self._settled(best):
            return not longer.recipe.random and self._settled(longer)
        # A random recipe's share is itself an estimate from few draws: more must be gained to be believed.
        left = 0.3 if longer.recipe.random else 0.7
        return 1 - longer.fit.explained < left * (1 - best.fit.explained)

    @staticmethod
    def _beam(trials: list[Trial]) -> list[Trial]:
        """The best explanations so far, the changes that promise most once others stand beside them, and other checkpoints,
        beside which nothing else shows."""
        by_explained = sorted(trials, key=_rank)
        by_promise = sorted(trials, key=lambda trial: -trial.fit.promise)
        beam: list[Trial] = []
        for trial in (by_explained[:1] + by_promise[:BEAM] + by_explained)[: 2 * BEAM]:
            if trial not in beam and len(beam) < BEAM:
                beam.append(trial)
        return beam + [trial for trial in trials if trial.recipe.checkpoint and trial not in beam]

    def _settled(self, trial: Trial) -> bool:
        """Whether nothing is left to explain: what remains is rounding, or as much as one draw differs from another.

        A change after which most remains has explained nothing, whatever remains may look like.
        """
        if trial.recipe.random:
            return trial.fit.explained > LIKELY
        if trial.names and trial.fit.explained < LIKELY:
            return False
        return self._level(trial) is not None

    def _level(self, trial: Trial) -> str | None:
        """The format whose rounding a trial on the screening notes leaves."""
        if trial not in self._levels:
            level = None
            rms = trial.fit.rms_residual
            if rms <= 2 * max(self.numerics.rms.values()) or trial.recipe.outputs:
                plain = not trial.interventions and not trial.fit.document_order
                numerics = (
                    self.numerics
                    if plain or trial.fit.max_abs_residual <= self.numerics.fine
                    else measure(self.bench, trial.recipe, self.rows, self.numerics.max_abs["fp32"])
                )
                level = numerics.level(trial.fit.residual, self.bench.target.values[self.rows])
            self._levels[trial] = level
        return self._levels[trial]

    def _acting(self) -> list[Intervention]:
        """Interventions that move the logits by more than rounding does, and those that may do so beside others."""
        base = self.bench.values(self.base, self.rows)
        acting = []
        for trial in self.trials:
            if len(trial.interventions) != 1 or trial.interventions[0].rounding:
                continue
            step = trial.interventions[0]
            if trial.recipe.random or step.stage in ("tokenization", "notes"):
                acting.append(step)
                continue
            moved = np.abs(self.bench.values(trial.recipe, self.rows) - base)
            if not np.isfinite(moved).all() or moved.max() > self.numerics.fine:
                acting.append(step)
        acting = self._promising(acting)
        tried = {id(step) for step in acting}
        others = [s for s in self.interventions if s.slot == "padding" and id(s) not in tried]
        return acting + others

    def _promising(self, steps: list[Intervention]) -> list[Intervention]:
        """Without those ways to write a text, or to take out a note's middle, that others of their kind stand before."""
        promise = {id(t.interventions[0]): t.fit.promise for t in self.trials if len(t.interventions) == 1}
        ways = [[step for step in steps if step.slot == slot] for slot in ("text", "truncation")]
        behind = [sorted(rivals, key=lambda step: -promise[id(step)])[PROMISING:] for rivals in ways]
        left_out = {id(step) for rivals in behind for step in rivals}
        return [step for step in steps if id(step) not in left_out]

    def _extensions(
        self, trial: Trial, acting: list[Intervention], seen: set[frozenset[int]], random: bool
    ) -> list[tuple[Intervention, ...]]:
        taken = {step.slot for step in trial.interventions}
        longer = []
        for step in acting:
            steps = (*trial.interventions, step)
            is_random = step.apply(self.base).random
            if (
                step.slot in taken
                or (is_random and (trial.recipe.random or not random))
                or _way(steps) in seen
                or not self._worth_trying(step, trial.recipe)
            ):
                continue
            longer.append(tuple(sorted(steps, key=lambda s: s.stage == "outputs")))
        return longer

    def _with_rounding(self, best: Trial) -> Trial:
        """The winner under the policy that it was computed under, where one explains what is left."""
        if best.recipe.random or best.only_rounding or not best.fit.max_abs_residual:
            return best
        is_fine = best.fit.max_abs_residual <= self.numerics.fine
        if best.fit.explained < LIKELY or (not is_fine and self._level(best) is None):
            return best
        kinds = ("policy=fp64", "attention=eager", "attention=sdpa")
        steps = [s for s in self.interventions if s.rounding and (not is_fine or s.name in kinds)]
        self._planned += len(steps)
        tried = [trial for step in steps if (trial := self._try((*best.interventions, step))) is not None]
        nearest = min(tried, key=lambda trial: trial.fit.rms_residual, default=best)
        left = (nearest.fit.rms_residual / best.fit.rms_residual) ** 2
        return nearest if left < 1 - (EXACT if is_fine else ROUNDED) else best

    def _conclude(self, best: Trial) -> Replay:
        """Measure the winner again on more notes, and say what it is worth."""
        start = self._measure((), self.base, self.confirming, reorder=False)
        winner = self._measure(best.interventions, best.recipe, self.confirming)
        screened = self._measure((), self.base, self.rows, reorder=False)
        level = self._level(screened)
        verdict = self._verdict(start, winner, level, self._level(best))
        attempt = winner
        if verdict in ("identical", "unexplained") or (
            verdict == "numerics" and (winner.fit.explained < LIKELY or not winner.only_rounding)
        ):
            winner = start
        if verdict != "numerics":
            level = self._level(best) if verdict == "confirmed" else None
        others = rivals(winner, self.ranked())
        sentence = sentence_of(verdict, start, winner, attempt, self.numerics, level, others)
        return Replay(
            verdict,
            winner,
            start,
            tuple(self.ranked()),
            self.numerics,
            level,
            sentence,
            advice_of(winner),
            tuple(dict.fromkeys(self.remarks)),
        )

    def _verdict(self, start: Trial, winner: Trial, level: str | None, left: str | None) -> Verdict:
        """`level` and `left` are the formats whose rounding the base and the winner differ by on the screening notes."""
        if start.fit.max_abs_residual == 0:
            return "identical"
        reproduced = winner.fit.explained >= LIKELY and bool(winner.names)
        if level == "fp32" or (reproduced and winner.only_rounding):
            return "numerics"
        if not reproduced:
            return "numerics" if level is not None else "unexplained"
        if winner.recipe.random or left is None:
            return "likely"
        numerics = self.numerics
        if winner.recipe.outputs:  # probabilities differ by less than logits do
            numerics = measure(self.bench, winner.recipe, self.rows, numerics.max_abs["fp32"])
        return "confirmed" if winner.fit.max_abs_residual <= numerics.tolerance else "likely"


def rivals(winner: Trial, ranked: Sequence[Trial]) -> tuple[str, ...]:
    """Of a random winner: other random changes of which the target looks like a draw, too."""
    if not winner.recipe.random:
        return ()
    draws = [trial for trial in ranked if trial.recipe.random and trial.fit.explained > LIKELY]
    return tuple(" + ".join(trial.names) for trial in draws if not set(trial.names) & set(winner.names))


def _rank(trial: Trial) -> tuple[float, int, float]:
    """Most explained, fewest names, and of random recipes that explain alike the one that says most precisely what.

    A share in distribution is an estimate: it stands behind what is reproduced number by number.
    """
    explained = min(trial.fit.explained, DRAWN) if trial.recipe.random else trial.fit.explained
    return -round(explained, 10), len(trial.names), trial.fit.rms_residual


def _way(steps: tuple[Intervention, ...]) -> frozenset[int]:
    return frozenset(map(id, steps))
