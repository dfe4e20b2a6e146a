"""The answer at the head of the overview: one sentence, and the four steps that lead there, each with its number."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.answer import Answer, answer
from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.diagnosis.proof import Proof, hardest, with_own
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run
from shifamind_core.ui.overview.headline import Headline
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.measured import RECORDED, ladder_is_recorded
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.site.navigation import page_path
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.badges import STATUS, VERDICTS, shown_badge
from shifamind_core.ui.widgets.views import PARAMETER, View


@dataclass(frozen=True)
class Step:
    """One step: what is asked, the number that answers it, a line on it, and the page (and its tab) that has the rest."""

    title: str
    number: str
    line: str
    page: str
    link: str
    view: View | None = None


def show_story(
    workspace: Workspace,
    found: Headline,
    runs: tuple[Run, Run],
    ladder: Ladder | None,
    replay: dict[str, Any] | None,
) -> None:
    """The sentence and the steps; they follow every ladder and every replay at once."""
    with st.spinner("Comparing the runs", show_time=False):
        diagnosis = cached.diagnosis(*runs, ladder)
    said = answer(diagnosis.findings, diagnosis.hypotheses, replay)
    with st.container(border=True):
        _show_answer(said)
        steps = (
            _gap(found, runs),
            _rounding(found, ladder, ladder is not None and ladder_is_recorded(workspace)),
            _looks(diagnosis),
            _reproduced(replay),
        )
        for number, (column, step) in enumerate(zip(st.columns(4), steps, strict=True), 1):
            with column:
                st.metric(f"{number}. {step.title}", step.number)
                st.caption(safe_text(step.line, 300))
                st.page_link(
                    page_path(step.page),
                    label=step.link,
                    icon=":material/arrow_forward:",
                    query_params={PARAMETER: step.view} if step.view else None,
                )


def _show_answer(said: Answer) -> None:
    st.subheader(f"{safe_text(said.sentence, 200)} {shown_badge(said.shown)}", anchor=False)
    st.markdown(safe_text(said.support, 700))


def _gap(found: Headline, runs: tuple[Run, Run]) -> Step:
    """How large it is, whether other notes could give it, and in how many decisions."""
    comparison = found.comparison
    macro = comparison.macro_f1
    decisions = f"{comparison.decisions_flipped:,} decisions differ at 0.5"
    if macro.gap is None:
        return Step("The gap", "–", f"Labels are missing; {decisions}.", "differences", "See the differences")
    sampled = cached.gap_intervals(*runs).macro_f1
    line = (
        f"{comparison.aligned.macro_title}: {macro.candidate:.4f} against {macro.reference:.4f}; {sampled.low:+.4f} to {sampled.high:+.4f} "
        f"in 95 % of resamplings of the notes. {decisions}."
    )
    return Step("The gap", f"{macro.gap:+.4f}", line, "codes", "Which codes carry it")


def _rounding(found: Headline, ladder: Ladder | None, recorded: bool) -> Step:
    """What the gap needs of every logit, and what rounding was measured to do."""
    title, link = "What rounding can do", "The bound"
    proof = _proof(found, ladder)
    needed = None if proof is None else hardest(proof)
    if proof is None or needed is None:
        return Step(
            title, "–", "Without labels and finite scores there is no bound.", "diagnosis", link, "rounding"
        )
    if needed == 0:
        return Step(title, "no gap", "The scores agree within their rounding.", "diagnosis", link, "rounding")
    if needed == float("inf"):
        return Step(
            title,
            "impossible",
            "No change of these logits gives the other score.",
            "diagnosis",
            link,
            "rounding",
        )
    need = f"The gap needs {needed:.2g} in every decision at once"
    if ladder is None:
        return Step(title, "not measured", f"{need}. The precision ladder measures what rounding does.", "diagnosis", link, "rounding")  # fmt: skip
    reach = with_own(ladder.measured(), found.comparison.aligned.candidate)
    name, largest = max(reach.items(), key=lambda item: item[1])
    where = f"{'recorded' if recorded else 'measured'} on {ladder.device}"
    if proof.excluded:
        line = f"{need}; {name}, the coarsest measured, reaches {largest:.2g} ({where})."
        return Step(title, f"{largest / needed:.0%} of it", line, "diagnosis", link, "rounding")
    fine = [policy for policy, error in reach.items() if error < needed]
    line = f"{need}; {name} reaches {largest:.2g} ({where})" + (
        f", {', '.join(fine[-2:])} too little." if fine else "."
    )
    return Step(title, "possible", line, "diagnosis", link, "rounding")


def _proof(found: Headline, ladder: Ladder | None) -> Proof | None:
    comparison = found.comparison
    targets = {"macro_f1": comparison.macro_f1.reference, "micro_f1": comparison.micro_f1.reference}
    known = {name: value for name, value in targets.items() if value is not None}
    measured = {} if ladder is None else ladder.measured()
    try:
        return cached.proof(comparison.aligned.candidate, known, measured) if known else None
    except ShifamindError:
        return None  # logits that are not finite, or no labels


def _looks(diagnosis: Diagnosis) -> Step:
    best = diagnosis.findings[0]
    word = STATUS[best.status][0]
    sure = "" if best.status == "confirmed" else f", {best.probability:.0%}"
    return Step(
        "What it looks like",
        f"{word}{sure}",
        f"{CAUSES[best.cause].title}. {best.meaning}",
        "diagnosis",
        "The evidence",
        "looks",
    )


def _reproduced(replay: dict[str, Any] | None) -> Step:
    title = "What reproduces it"
    if replay is None:
        return Step(title, "not tried", "A replay changes the pipeline here until it gives the other run.", "diagnosis", "Start a replay", "replay")  # fmt: skip
    verdict = str(replay.get("verdict"))
    word = VERDICTS.get(verdict, ("", "", verdict))[2]
    names = " + ".join(str(name) for name in replay["best"]["interventions"]) or "nothing changed"
    rest = f"{names}: at most {replay['best']['max_abs_residual']:.2g} a logit remains on {replay['best']['notes']:,} notes"
    where = f"; recorded on {replay['device']}" if replay.get(RECORDED) else ""
    return Step(title, word, f"{rest}{where}.", "diagnosis", "All that was tried", "replay")
