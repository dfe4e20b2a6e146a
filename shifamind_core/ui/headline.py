"""The gap in a few numbers: what the overview opens with."""

from dataclasses import dataclass

import streamlit as st

from shifamind_core.analysis.comparison import Pair, compare
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.runs.run import Run
from shifamind_core.ui.offers import Offer, load_run
from shifamind_core.ui.state import Workspace


@dataclass(frozen=True)
class Headline:
    """Scores of two runs on the notes and codes they share; tuned ones where each has its own validation run."""

    documents: int
    decisions: int
    flipped: int
    max_abs_difference: float | None
    macro_f1: Pair
    micro_f1: Pair
    tuned_macro_f1: Pair
    tuned_micro_f1: Pair
    thresholds: Pair
    remarks: tuple[str, ...]


def headline(
    candidate: Run, reference: Run, candidate_validation: Run | None, reference_validation: Run | None
) -> Headline:
    """Compare at 0.5, and at the threshold that each run's own validation run tunes.

    Raises
    ------
    ShifamindError
        Two runs that cannot be aligned, or a validation run over other codes.
    """
    comparison = compare(candidate, reference)
    tuned = [
        evaluate(run, validation)
        if validation is not None and run.labels is not None and not run.non_finite
        else None
        for run, validation in (
            (comparison.aligned.candidate, candidate_validation),
            (comparison.aligned.reference, reference_validation),
        )
    ]
    scores = [one.tuned if one else None for one in tuned]
    thresholds = [one.tuned_threshold.threshold if one and one.tuned_threshold else None for one in tuned]
    logits = comparison.aligned.candidate.logits
    return Headline(
        documents=logits.shape[0],
        decisions=logits.size,
        flipped=comparison.decisions_flipped,
        max_abs_difference=comparison.difference.max_abs,
        macro_f1=comparison.macro_f1,
        micro_f1=comparison.micro_f1,
        tuned_macro_f1=Pair(*(score.macro_f1 if score else None for score in scores)),
        tuned_micro_f1=Pair(*(score.micro_f1 if score else None for score in scores)),
        thresholds=Pair(*thresholds),
        remarks=comparison.remarks,
    )


def validation_of(offer: Offer, options: list[Offer]) -> Offer | None:
    """The run of the validation split under the same configuration, where there is one."""
    digest = offer.manifest.configuration_digest
    if digest is None:
        return None
    return next(
        (one for one in options if one.split == "val" and one.manifest.configuration_digest == digest), None
    )


def headline_of(candidate: Offer, reference: Offer, options: list[Offer], workspace: Workspace) -> Headline:
    """`headline` of runs on offer, computed once for these four runs."""
    offers = (candidate, reference, validation_of(candidate, options), validation_of(reference, options))
    return _cached_headline(tuple(offer and offer.digest for offer in offers), offers, workspace)


@st.cache_data(max_entries=64, show_spinner=False)
def _cached_headline(
    digests: tuple[str | None, ...], _offers: tuple[Offer | None, ...], _workspace: Workspace
) -> Headline:
    candidate, reference, *validation = (offer and load_run(offer, _workspace) for offer in _offers)
    return headline(candidate, reference, *validation)
