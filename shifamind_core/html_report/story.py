"""What two runs, a ladder and a replay say together: one sentence, and the four steps that lead there, each with its number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shifamind_core.analysis.bootstrap import ScoreIntervals
from shifamind_core.analysis.comparison import RunComparison
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.answer import Answer, Shown, answer
from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.diagnosis.findings import Status, percent
from shifamind_core.diagnosis.hypotheses import Verdict
from shifamind_core.diagnosis.proof import Proof, hardest, prove, with_own
from shifamind_core.errors import ShifamindError

STATUS_WORDS: Mapping[Status | Verdict, str] = {
    "confirmed": "Confirmed",
    "likely": "Likely",
    "possible": "Possible",
    "unlikely": "Unlikely",
    "ruled_out": "Ruled out",
}
SHOWN_WORDS: Mapping[Shown, str] = {
    "confirmed": "Shown",
    "likely": "Likely",
    "possible": "Possible",
    "open": "Open",
}
VERDICT_WORDS: Mapping[str, str] = {
    "identical": "Identical",
    "numerics": "Numerics",
    "confirmed": "Reproduced",
    "likely": "Likely",
    "unexplained": "Unexplained",
    "ranked": "Nearest to the reported scores",
}
RECORDED = "recorded"  # set in a replay's JSON where it was not run here


@dataclass(frozen=True)
class Step:
    """One step: what is asked, the number (or word) that answers it, and a line on it."""

    title: str
    number: str
    line: str


@dataclass(frozen=True)
class Story:
    """The answer, and the steps in order."""

    answer: Answer
    gap: Step
    rounding: Step
    looks: Step
    reproduced: Step

    @property
    def steps(self) -> tuple[Step, Step, Step, Step]:
        return self.gap, self.rounding, self.looks, self.reproduced


def tell(
    comparison: RunComparison,
    sampled: ScoreIntervals | None,
    proof: Proof | None,
    diagnosis: Diagnosis,
    ladder: Ladder | None = None,
    replay: Mapping[str, Any] | None = None,
    ladder_recorded: bool = False,
) -> Story:
    """The story of two runs.

    Parameters
    ----------
    sampled : of resampled notes, where both runs are labelled
    proof : of the candidate against the reference's scores, with what the ladder measured, if there is one
    replay : the JSON of `replay` on these two, which holds ``recorded`` where it was run elsewhere
    ladder_recorded : whether the ladder was run elsewhere
    """
    return Story(
        answer(diagnosis.findings, diagnosis.hypotheses, replay),
        _gap(comparison, sampled),
        _rounding(comparison, proof, ladder, ladder_recorded),
        _looks(diagnosis),
        _reproduced(replay),
    )


def bound_of(
    comparison: RunComparison, ladder: Ladder | None, prove: Callable[..., Proof] = prove
) -> Proof | None:
    """`prove` (or one that remembers) of the candidate against the reference's scores; `None` where nothing can be scored."""
    targets = {"macro_f1": comparison.macro_f1.reference, "micro_f1": comparison.micro_f1.reference}
    known = {name: value for name, value in targets.items() if value is not None}
    measured = {} if ladder is None else ladder.measured()
    try:
        return prove(comparison.aligned.candidate, known, measured) if known else None
    except ShifamindError:
        return None  # logits that are not finite, or no labels


def _gap(comparison: RunComparison, sampled: ScoreIntervals | None) -> Step:
    """How large it is, whether other notes could give it, and in how many decisions."""
    macro = comparison.macro_f1
    decisions = f"{comparison.decisions_flipped:,} decisions differ at 0.5"
    if macro.gap is None or sampled is None:
        return Step("The gap", "–", f"Labels are missing; {decisions}.")
    line = (
        f"{comparison.aligned.macro_title}: {macro.candidate:.4f} against {macro.reference:.4f}; {sampled.macro_f1.low:+.4f} to "
        f"{sampled.macro_f1.high:+.4f} in 95 % of resamplings of the notes. {decisions}."
    )
    small = 0 < abs(macro.gap) < 5e-5  # four digits would show a zero
    return Step("The gap", "below 0.0001" if small else f"{macro.gap:+.4f}", line)


def _rounding(comparison: RunComparison, proof: Proof | None, ladder: Ladder | None, recorded: bool) -> Step:
    """What the gap needs of every logit, and what rounding was measured to do."""

    def step(number: str, line: str) -> Step:
        return Step("What rounding can do", number, line)

    needed = None if proof is None else hardest(proof)
    if proof is None or needed is None:
        return step("–", "Without labels and finite scores there is no bound.")
    if needed == 0:
        return step("no gap", "The scores agree within their rounding.")
    if needed == float("inf"):
        return step("impossible", "No change of these logits gives the other score.")
    need = f"To give this gap, every score would have to move by {needed:.2g} (logits) in the worst direction"
    if ladder is None:
        return step("not measured", f"{need}. The precision ladder measures what rounding does.")
    reach = with_own(ladder.measured(), comparison.aligned.candidate)
    name, largest = max(reach.items(), key=lambda item: item[1])
    where = f"{'recorded' if recorded else 'measured'} on {ladder.device}"
    if proof.excluded:
        line = f"{need}. The coarsest precision, {name}, moves none by more than {largest:.2g} ({where})."
        return step(f"{percent(largest / needed)} of it", line)
    fine = [policy for policy, error in reach.items() if error < needed]
    little = f", {', '.join(fine[-2:])} too little." if fine else "."
    return step("possible", f"{need}; {name} moves some by {largest:.2g} ({where}){little}")


def _looks(diagnosis: Diagnosis) -> Step:
    best = diagnosis.findings[0]
    sure = "" if best.status == "confirmed" else f", {percent(best.probability)}"
    line = f"{CAUSES[best.cause].title}. {best.meaning}"
    return Step("What it looks like", f"{STATUS_WORDS[best.status]}{sure}", line)


def _reproduced(replay: Mapping[str, Any] | None) -> Step:
    title = "What reproduces it"
    if replay is None:
        return Step(title, "not tried", "A replay changes the pipeline here until it gives the other run.")
    verdict = str(replay.get("verdict"))
    names = " + ".join(str(name) for name in replay["best"]["interventions"]) or "nothing changed"
    residual, notes = replay["best"]["max_abs_residual"], replay["best"]["notes"]
    rest = f"With {names} the pipeline here comes within {residual:.2g} (logits) of every score of the reference on {notes:,} notes"
    where = f"; recorded on {replay['device']}" if replay.get(RECORDED) else ""
    return Step(title, VERDICT_WORDS.get(verdict, verdict), f"{rest}{where}.")
