"""What a diagnosis is about: a run against another, or against scores that somebody reported."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import streamlit as st

from shifamind_core.analysis.checks import over_codes
from shifamind_core.analysis.thresholds import FIXED_THRESHOLD
from shifamind_core.diagnosis.claims import SCORES, SEED_CLAIMS
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.offers import Offer
from shifamind_core.ui.widgets.choices import KEEP
from shifamind_core.ui.widgets.pick_runs import (
    CANDIDATE,
    load_run,
    pick_pair,
    pick_run,
    runs_on_offer,
    show_error,
)
from shifamind_core.ui.widgets.side_by_side import show_settings, show_warnings
from shifamind_core.ui.widgets.uploads import upload_reference
from shifamind_core.ui.widgets.validation import may_tune, validation_of

AGAINST = {"run": "Another run", "scores": "Scores reported elsewhere"}


@dataclass(frozen=True, eq=False)
class Question:
    """Candidate and reference as they were chosen, or the candidate and what was reported.

    `candidate` is aligned with the reference where there is one, so that both hold the same notes and codes.
    `targets` and `tuned_targets` are the other side's macro and micro F1 at 0.5 and at its tuned threshold.
    """

    offer: Offer
    candidate: Run
    validation: Run | None
    reference_offer: Offer | None = None
    reference: Run | None = None
    whole: tuple[Run, Run] | None = None
    reported: dict[str, float] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    tuned_targets: dict[str, float] = field(default_factory=dict)
    thresholds: tuple[float, float] | None = None
    remarks: tuple[str, ...] = ()


def show_codes_scored(question: Question) -> None:
    """Beside a macro F1 over a part of the codes: which part."""
    run = question.candidate
    if question.whole is not None:
        aligned = cached.comparison(*question.whole, FIXED_THRESHOLD).aligned
        if aligned.codes.matched < aligned.codes_of:
            st.caption(f"{aligned.macro_title}: the others are not in both runs.")
    elif run.logits.shape[1] < run.codes_of:
        over = over_codes(run.logits.shape[1], run.codes_of)
        st.caption(f"Macro F1 over {over}: the others have no scores in the candidate.")


@contextmanager
def told() -> Iterator[None]:
    """A known error becomes one line, and the rest of the page goes on."""
    try:
        yield
    except ShifamindError as error:
        show_error(error)


def ask_question() -> Question | None:
    """The choice at the head of the page; `None`, with what to do next, while it is not complete."""
    against = st.segmented_control(
        "Compare a run with",
        list(AGAINST),
        default="run",
        format_func=AGAINST.__getitem__,
        key="against",
        bind="query-params",
        required=True,
    )
    with told():
        return _about_scores() if against == "scores" else _about_runs()
    return None


def _about_runs() -> Question | None:
    with st.expander("Bring a run from another machine", icon=":material/upload:"):
        upload_reference()
    pair = pick_pair()
    if pair is None:
        return None
    show_settings(pair)
    candidate, reference = load_run(pair[0]), load_run(pair[1])
    if candidate.digest == reference.digest:
        st.info("Both are the same run: choose another one to see a difference.", icon=":material/info:")
    question = Question(pair[0], candidate, None, pair[1], reference, (candidate, reference))
    return _scored(question)


def _scored(question: Question) -> Question:
    """The question with scores, as far as both runs can be aligned and scored."""
    assert question.reference is not None and question.whole is not None
    try:
        comparison = cached.comparison(*question.whole, FIXED_THRESHOLD)
    except ShifamindError:
        return question  # runs with nothing in common: the findings say so
    show_warnings(comparison)
    aligned = comparison.aligned
    there = {"macro_f1": comparison.macro_f1.reference, "micro_f1": comparison.micro_f1.reference}
    validations = [validation_of(run) for run in (aligned.candidate, aligned.reference)]
    tuned = [
        cached.evaluation(run, validation, "seed") if may_tune(run, validation) else None
        for run, validation in zip((aligned.candidate, aligned.reference), validations, strict=True)
    ]
    ours, theirs = ((one.tuned, one.tuned_threshold) if one else (None, None) for one in tuned)
    return Question(
        question.offer,
        aligned.candidate,
        validations[0],
        question.reference_offer,
        aligned.reference,
        question.whole,
        targets={name: value for name, value in there.items() if value is not None},
        tuned_targets={"macro_f1": theirs[0].macro_f1, "micro_f1": theirs[0].micro_f1} if theirs[0] else {},
        thresholds=(ours[1].threshold, theirs[1].threshold) if ours[1] and theirs[1] else None,
        remarks=tuple(one for one in comparison.remarks if one not in comparison.warnings),
    )


def _about_scores() -> Question | None:
    offers = [offer for offer in runs_on_offer("test") if offer.labelled]
    offer = pick_run("Candidate", CANDIDATE, offers)
    if offer is None:
        return None
    reported = _ask_scores()
    candidate = load_run(offer)
    validation = validation_of(candidate)
    return Question(
        offer,
        candidate,
        validation if may_tune(candidate, validation) else None,
        reported=reported,
        targets=_of(reported, "macro_f1@0.5", "micro_f1@0.5"),
        tuned_targets=_of(reported, "tuned_macro_f1", "tuned_micro_f1"),
    )


def _of(reported: dict[str, float], macro: str, micro: str) -> dict[str, float]:
    return {
        metric: reported[name]
        for metric, name in (("macro_f1", macro), ("micro_f1", micro))
        if name in reported
    }


def _ask_scores() -> dict[str, float]:
    """Scores by the names that `replay --reported` takes; what is left empty is not there."""
    with st.container(border=True):
        st.pills(
            "Fill in a row of the reported table",
            list(SEED_CLAIMS),
            key="reported.preset",
            on_change=_fill_in,
            help="What was reported of one checkpoint on three GPUs: claims, not measured here.",
        )
        columns = st.columns(3) + st.columns(3)
        values = {}
        for column, (name, title) in zip(columns, SCORES.items(), strict=True):
            with column:
                values[name] = st.number_input(
                    title,
                    min_value=0.0,
                    max_value=1.0,
                    value=None,
                    step=0.01 if name == "best_threshold" else 0.0001,
                    format="%.2f" if name == "best_threshold" else "%.4f",
                    key=f"reported.{name}",
                    placeholder="not reported",
                    bind="query-params",
                    **KEEP,
                )
    return {name: value for name, value in values.items() if value is not None}


def _fill_in() -> None:
    """Runs before the page does: the row's scores become the form's, scores it lacks become empty."""
    row = SEED_CLAIMS.get(st.session_state["reported.preset"] or "")
    if row is not None:
        for name in SCORES:
            st.session_state[f"reported.{name}"] = row.get(name)
