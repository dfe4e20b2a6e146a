"""The report as one page: verdict, story, what differs, figures, findings, environment, and what was not tested."""

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import pandas as pd

import shifamind_core
from shifamind_core.analysis.bootstrap import gap_intervals
from shifamind_core.analysis.comparison import RunComparison, compare
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.analysis.thresholds import FIXED_THRESHOLD
from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.diagnose import Diagnosis, diagnose
from shifamind_core.diagnosis.findings import percent
from shifamind_core.diagnosis.proof import Proof
from shifamind_core.errors import ShifamindError
from shifamind_core.figures.codes import codes_figure
from shifamind_core.figures.differences import bin_differences, linear_histogram, linear_note
from shifamind_core.figures.proof import proof_figure
from shifamind_core.figures.replay import before_after_figure
from shifamind_core.figures.thresholds import threshold_lines, thresholds_figure
from shifamind_core.html_report.page import (
    Figure,
    figure_part,
    folded,
    list_part,
    page,
    steps_part,
    table_part,
)
from shifamind_core.html_report.story import SHOWN_WORDS, STATUS_WORDS, bound_of, tell
from shifamind_core.report.diagnosis import manifests_table, trials_table
from shifamind_core.report.files import Report, Selection, report
from shifamind_core.report.provenance import runs_table
from shifamind_core.runs.naming import NOT_RECORDED, Shown, differing, short_names
from shifamind_core.runs.run import Run

MOST_CODES = 100  # of a figure: those with the largest gaps
MOST_TRIALS = 40
# What each experiment would have added, for those that were not made.
UNTESTED = {
    "ladder": "The precision ladder: how far each precision moves this model's logits. Without it, what rounding can do is a bound, not a measurement.",
    "replay": "A replay: no change of the pipeline was tried, so nothing here was reproduced.",
    "layers": "Layer profiles: in which module a difference begins.",
    "probes": "Probes of the checkpoint: whether it is deterministic, whether padding and company change a note's logits.",
    "certificate": "The portability certificate: how many decisions could differ on another machine.",
}


def html_report(selection: Selection, made: Report | None = None, ladder_recorded: bool = False) -> str:
    """The page, about both runs of the selection; `made` are its tables, where there are some already.

    What cannot be made of them (no labels, logits that are not finite) is left out, and said at the end. No note's text and
    no document id is in it.

    Raises
    ------
    ShifamindError
        No reference, or two runs that have nothing in common.
    """
    candidate, reference = selection.candidate, selection.reference
    if reference is None:
        raise ShifamindError("A report as a page needs two runs; give a reference.")
    made = made or report(selection)
    comparison = made.comparison or compare(
        candidate, reference, FIXED_THRESHOLD
    )  # which says why there is none
    diagnosis = selection.diagnosis or diagnose(candidate, reference, selection.ladder)
    labelled = comparison.macro_f1.gap is not None
    proof = bound_of(comparison, selection.ladder)
    story = tell(
        comparison,
        gap_intervals(comparison.aligned) if labelled else None,
        proof,
        diagnosis,
        selection.ladder,
        selection.replay,
        ladder_recorded,
    )
    shown = [Shown(run.digest, run.manifest, run.documents) for run in (candidate, reference)]
    names = short_names(shown)
    if len(set(names)) < 2:
        names = ["candidate", "reference"]
    said = story.answer
    todo = f"<p>What to do: {escape(said.action)}</p>" if said.action else ""
    figures = [figure_part(one) for one in _figures(selection, made, comparison, proof, (names[0], names[1]))]
    title = f"{names[0]} against {names[1]}"
    return page(
        f"ShifaMind diagnostics: {title}",
        f"<header><h1>{escape(title)}</h1><p class='muted'>The candidate against the reference, on {comparison.aligned.candidate.documents:,} "
        "shared notes. Two runs of one checkpoint, compared by ShifaMind diagnostics.</p></header><main>",
        f"<section class='verdict'><p>{escape(said.sentence)} <span class='badge'>{SHOWN_WORDS[said.shown]}</span></p>"
        f"<p>{escape(said.meaning or said.support)}</p>{todo}{steps_part([(one.title, one.number, one.line) for one in story.steps])}</section>",
        _rests_on(comparison),
        "<h2>Scores</h2>",
        _scores(made.tables.get("metrics")),
        "<h2>What differs between the runs</h2>",
        _settings(dict(zip(names, shown, strict=True))),
        "<h2>Figures</h2>",
        *figures,
        "<h2>What the difference looks like</h2>",
        *([f"<p class='muted'>{escape(diagnosis.looked_at)}</p>"] if diagnosis.looked_at else []),
        _findings(diagnosis),
        *_measured(selection),
        "<h2>What was not tested</h2>",
        list_part(_untested(selection, proof)),
        *(["<h2>What was assumed, or could not be made</h2>", list_part(made.remarks)] if made.remarks else []),
        "<h2>The runs</h2>",
        table_part(_upright(runs_table({"candidate": candidate, "reference": reference})), "Where the numbers come from"),
        folded("Everything both manifests say", table_part(manifests_table(candidate, reference), "Fields that differ first")),
        f"</main><footer><p>ShifaMind diagnostics {escape(shifamind_core.__version__)}. No note and no document id is in this file, and it asks "
        "nothing of any server.</p></footer>",
    )  # fmt: skip


def _figures(
    selection: Selection,
    made: Report,
    comparison: RunComparison,
    proof: Proof | None,
    names: tuple[str, str],
) -> Iterator[Figure]:
    """Those that can be made; what speaks against the others is among the report's remarks."""

    def thresholds() -> Figure:
        lines = [
            line
            for name, role in zip(names, ("candidate", "reference"), strict=True)
            if role in made.evaluations and role in made.curves
            for line in threshold_lines(
                name, *made.curves[role], tuned=made.evaluations[role].tuned_threshold
            )
        ]
        if not lines:
            raise ShifamindError("No run is labelled.")
        description = "Micro and macro F1 of both runs against the decision threshold."
        caption = "F1 against the threshold. Solid: the notes that are scored; dashed: validation, on which the threshold is tuned."
        return Figure(thresholds_figure(lines), "thresholds", description, caption)

    def rounding() -> Figure:
        if proof is None:
            raise ShifamindError("There is no bound.")
        caption = f"What rounding can do to macro F1 alone. The band holds every value that is possible when no logit moves by more than ε. {proof.sentences.get('macro_f1', proof.sentence)}"
        description = "Lowest and highest macro F1 that is possible when no logit moves by more than ε."
        return Figure(proof_figure(proof), "rounding", description, caption)

    def codes() -> Figure:
        table = made.tables.get("codes")
        if table is None:
            raise ShifamindError("No run is labelled.")
        rest = len(table) - MOST_CODES
        caption = "F1 of every code at 0.5, the largest gap first."
        if rest > 0:
            caption = (
                f"F1 at 0.5 of the {MOST_CODES} codes with the largest gaps; {rest:,} more are in the tables."
            )
        description = "F1 of the codes under candidate and reference."
        return Figure(codes_figure(table.head(MOST_CODES), *names), "codes", description, caption)

    def differences() -> Figure:
        binned = bin_differences(comparison.aligned)
        caption = f"How far the logits lie apart, candidate − reference. {linear_note(binned.linear)} {binned.looked_at}"
        return Figure(
            linear_histogram(binned.linear), "differences", "Histogram of logit differences.", caption
        )

    def reproduced() -> Figure:
        compared = (selection.replay or {}).get("before_after")
        if not compared:
            raise ShifamindError("Nothing was reproduced.")
        caption = f"|difference| from the reference, before and after the change. {(selection.replay or {}).get('sentence', '')}"
        return Figure(
            before_after_figure(compared), "replay", "Logit differences before and after the change.", caption
        )

    makers: tuple[Callable[[], Figure], ...] = (thresholds, rounding, codes, differences, reproduced)
    for make in makers:
        try:
            yield make()
        except ShifamindError:
            continue


def _rests_on(comparison: RunComparison) -> str:
    if not comparison.warnings:
        return ""
    return f"<p>These scores rest on:</p>{list_part(comparison.warnings)}"


def _scores(metrics: pd.DataFrame | None) -> str:
    if metrics is None:
        return "<p>Neither run is labelled.</p>"
    named = {
        "role": "Run",
        "protocol": "Protocol",
        "threshold": "Threshold",
        "macro_f1": "Macro F1",
        "micro_f1": "Micro F1",
        "macro_f1_over": "Macro F1 over",
    }
    words = {"fixed": "at 0.5", "tuned": "tuned on validation", "top_k": "k most probable codes"}
    table = metrics[list(named)].assign(
        protocol=metrics["protocol"].replace(words),
        threshold=["" if pd.isna(one) else f"{one:.2f}" for one in metrics["threshold"]],
    )
    table = table.rename(columns=named)
    return table_part(table, "F1 under each protocol")


def _settings(runs: dict[str, Shown]) -> str:
    rows = differing(runs)
    if not rows:
        return "<p>No recorded setting differs between these runs.</p>"
    caption = f"Settings that differ; “{NOT_RECORDED}” may differ. Equal ones are left out."
    return table_part(pd.DataFrame(rows), caption)


def _findings(diagnosis: Diagnosis) -> str:
    rows = pd.DataFrame(
        {
            "Cause": [CAUSES[one.cause].title for one in diagnosis.findings],
            "Shown": [STATUS_WORDS[one.status] for one in diagnosis.findings],
            "Probability": [
                "" if one.status in ("confirmed", "ruled_out") else percent(one.probability)
                for one in diagnosis.findings
            ],
            "Why": [one.explanation for one in diagnosis.findings],
            "How to confirm": [one.action for one in diagnosis.findings],
        }
    )
    first, rest = rows.head(5), rows.iloc[5:]
    gpu = pd.DataFrame(
        {
            "Could the GPU do it by …": [one.title for one in diagnosis.hypotheses],
            "Verdict": [STATUS_WORDS[one.verdict] for one in diagnosis.hypotheses],
            "Why": [one.explanation for one in diagnosis.hypotheses],
        }
    )
    parts = [table_part(first, "The strongest findings")]
    if len(rest):
        parts.append(folded(f"{len(rest)} more", table_part(rest, "The other causes")))
    if len(gpu):
        parts.append(table_part(gpu, "The ways in which a GPU is said to change a score"))
    return "".join(parts)


def _measured(selection: Selection) -> Iterator[str]:
    if selection.ladder is not None:
        yield "<h2>What rounding was measured to do</h2>"
        yield _rungs(selection.ladder)
    if selection.replay is not None:
        yield "<h2>What a replay tried</h2>"
        yield f"<p>{escape(str(selection.replay.get('sentence', '')))}</p>"
        table = trials_table(selection.replay)
        yield table_part(
            table.head(MOST_TRIALS), f"The best {min(len(table), MOST_TRIALS)} of {len(table)} trials"
        )


def _rungs(ladder: Ladder) -> str:
    rungs = [one for one in ladder.rungs if one.policy != "fp64"]
    table = pd.DataFrame(
        {
            "Policy": [one.policy for one in rungs],
            "Largest change of a logit": [one.max_abs for one in rungs],
            "99 % stay below": [one.p99_abs for one in rungs],
            "Median": [one.median_abs for one in rungs],
            "Decisions flipped at 0.5": [
                "" if one.flips is None else f"{one.flips:,} of {one.decisions:,}" for one in rungs
            ],
            "Macro F1": [one.macro_f1 for one in rungs],
            "Micro F1": [one.micro_f1 for one in rungs],
        }
    )
    refused = [one.refused for one in rungs if one.refused]
    caption = f"Against FP64, on {ladder.documents:,} notes with this checkpoint on {ladder.device}"
    ran = table.loc[[not one.refused for one in rungs], :]
    return table_part(ran, caption) + (list_part(refused) if refused else "")


def _untested(selection: Selection, proof: Proof | None) -> list[str]:
    lines = [line for name, line in UNTESTED.items() if getattr(selection, name) is None]
    if proof is None:
        lines.append("The bound on F1: it needs labels and finite logits.")
    if selection.candidate_validation is None or selection.reference_validation is None:
        lines.append(
            "The tuned threshold of both runs: a validation run is missing for at least one of them."
        )
    runs: tuple[tuple[str, Run | None], ...] = (
        ("candidate", selection.candidate),
        ("reference", selection.reference),
    )
    for role, run in runs:
        if run is not None and run.manifest.environment is None:
            lines.append(f"The machine of the {role}: its file does not say where it was computed.")
    return lines


def _upright(table: pd.DataFrame) -> pd.DataFrame:
    """A column a run instead of a row."""
    rows: list[dict[str, Any]] = [
        {"": str(name), **{str(role): value for role, value in zip(table["role"], table[name], strict=True)}}
        for name in table.columns
        if name != "role"
    ]
    return pd.DataFrame(rows, dtype=object)
