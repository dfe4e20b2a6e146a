"""Results kept between reruns, under the digests of the runs they come from.

`st.cache_data` hashes a large array from a sample, so a run with one changed logit would be answered with
another run's result; hence digests, and arrays as arguments that are not hashed (leading underscore). The
name and the manifest are part of the key because results carry them. Results are frozen and shared: no page
changes one.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import streamlit as st

from shifamind_core.analysis import bootstrap
from shifamind_core.analysis.bootstrap import ScoreIntervals
from shifamind_core.analysis.certificate import sorted_margins
from shifamind_core.analysis.comparison import RunComparison, compare
from shifamind_core.analysis.concepts import ConceptDifferences, compare_concepts
from shifamind_core.analysis.flip_bound import SampledRange, flip_bound
from shifamind_core.analysis.gap_split import GapSplit, split_gap
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.analysis.thresholds import (
    FIXED_THRESHOLD,
    GRIDS,
    Evaluation,
    GridName,
    ThresholdCurve,
    evaluate,
    threshold_curve,
)
from shifamind_core.diagnosis.claims import ScoreAgainstClaim, against_claims
from shifamind_core.diagnosis.diagnose import Diagnosis, diagnose
from shifamind_core.diagnosis.proof import Proof, prove, prove_tuned
from shifamind_core.figures.differences import BinnedDifferences, bin_differences
from shifamind_core.report.files import Report, Selection, report
from shifamind_core.report.tables import codes_table
from shifamind_core.runs.manifest import digest_of
from shifamind_core.runs.run import Run
from shifamind_core.ui.session.waiting import waited


def curve(run: Run, grid: GridName) -> ThresholdCurve:
    """`threshold_curve` of the run over the grid of that name."""
    return waited("Scoring at every threshold", lambda: _curve(_key(run), grid, run))


def evaluation(run: Run, validation: Run | None, grid: GridName) -> Evaluation:
    """`evaluate`."""
    return waited("Scoring", lambda: _evaluation(_key(run, validation), grid, run, validation))


def comparison(candidate: Run, reference: Run, threshold: float) -> RunComparison:
    """`compare`."""
    key = _key(candidate, reference)
    return waited("Comparing the runs", lambda: _comparison(key, threshold, candidate, reference))


def differences(candidate: Run, reference: Run, threshold: float) -> BinnedDifferences:
    """`bin_differences` of the two runs, aligned."""
    compared = comparison(candidate, reference, threshold)
    return waited(
        "Counting the differences by size", lambda: _differences(_key(candidate, reference), compared)
    )


def concepts(candidate: Run, reference: Run) -> ConceptDifferences:
    """`compare_concepts` of the two runs, aligned."""
    compared = comparison(candidate, reference, FIXED_THRESHOLD)
    return waited("Comparing the concepts", lambda: _concepts(_key(candidate, reference), compared))


def codes(candidate: Run, reference: Run, threshold: float) -> pd.DataFrame:
    """`codes_table` of two aligned runs."""
    key = _key(candidate, reference)
    return waited("Scoring every code", lambda: _codes(key, threshold, candidate, reference))


def diagnosis(candidate: Run, reference: Run, ladder: Ladder | None) -> Diagnosis:
    """`diagnose` with what a ladder measured."""
    key = _key(candidate, reference)
    return waited(
        "Looking for the cause", lambda: _diagnosis(key, digest_of(ladder), candidate, reference, ladder)
    )


def proof(
    run: Run,
    targets: Mapping[str, float],
    measured: Mapping[str, float],
    validation: Run | None = None,
    reported: bool = False,
) -> Proof:
    """`prove`; with a validation run `prove_tuned`."""
    asked = digest_of([dict(targets), dict(measured), reported])
    key = _key(run, validation)
    return waited(
        "Searching what rounding can do to F1",
        lambda: _proof(key, asked, run, validation, targets, measured, reported),
    )


def sampled(run: Run, policy_run: Run, referee: Run) -> SampledRange:
    """F1 at 0.5 of `run` when each logit moves by an error drawn from those of the policy's run against the referee's."""
    key = _key(run, policy_run, referee)
    return waited("Drawing errors at random", lambda: _sampled(key, run, policy_run, referee))


def gap_split(candidate: Run, reference: Run, thresholds: tuple[float, float]) -> GapSplit:
    """`split_gap` of the two runs, aligned, each at its threshold."""
    compared = comparison(candidate, reference, FIXED_THRESHOLD)
    key = _key(candidate, reference)
    return waited("Splitting the gap into its parts", lambda: _gap_split(key, thresholds, compared))


def gap_intervals(candidate: Run, reference: Run) -> ScoreIntervals:
    """`gap_intervals` of the two runs, aligned, at 0.5."""
    compared = comparison(candidate, reference, FIXED_THRESHOLD)
    return waited(
        "Drawing the notes again and again", lambda: _gap_intervals(_key(candidate, reference), compared)
    )


def claims(
    run: Run, validation: Run | None, reported: Mapping[str, float], fixed: Proof, tuned: Proof | None
) -> tuple[ScoreAgainstClaim, ...]:
    """`against_claims`."""
    own = evaluation(run, validation, "seed")
    key = _key(run, validation)
    return waited(
        "Holding the scores against those reported",
        lambda: _claims(key, digest_of(dict(reported)), run, own, reported, fixed, tuned),
    )


def margins(run: Run, threshold: float) -> np.ndarray:
    """`sorted_margins`."""
    return waited("Sorting the scores by their distance", lambda: _margins(run.digest, threshold, run))


def whole_report(selection: Selection) -> Report:
    """`report`."""
    key = _key(
        selection.candidate,
        selection.reference,
        selection.candidate_validation,
        selection.reference_validation,
    )
    measured = [selection.ladder, selection.layers, selection.probes, selection.certificate]
    found = digest_of([selection.diagnosis and selection.diagnosis.to_json(), selection.replay, *measured])
    return waited("Making the tables", lambda: _report(key, selection.grid, found, selection))


def _key(*runs: Run | None) -> str:
    return digest_of([None if run is None else run.identity for run in runs])


@st.cache_resource(max_entries=64, show_spinner=False)
def _curve(key: str, grid: GridName, _run: Run) -> ThresholdCurve:
    return threshold_curve(_run, GRIDS[grid])


@st.cache_resource(max_entries=64, show_spinner=False)
def _evaluation(key: str, grid: GridName, _run: Run, _validation: Run | None) -> Evaluation:
    return evaluate(_run, _validation, grid)


@st.cache_resource(max_entries=8, show_spinner=False)
def _comparison(key: str, threshold: float, _candidate: Run, _reference: Run) -> RunComparison:
    return compare(_candidate, _reference, threshold)


@st.cache_resource(max_entries=16, show_spinner=False)
def _differences(key: str, _comparison: RunComparison) -> BinnedDifferences:
    return bin_differences(_comparison.aligned)


@st.cache_resource(max_entries=64, show_spinner=False)
def _codes(key: str, threshold: float, _candidate: Run, _reference: Run) -> pd.DataFrame:
    return codes_table(_candidate, _reference, threshold)


@st.cache_resource(max_entries=8, show_spinner=False)
def _report(key: str, grid: GridName, found: str, _selection: Selection) -> Report:
    return report(_selection)


@st.cache_resource(max_entries=256, show_spinner=False)
def _diagnosis(
    key: str, measured: str, _candidate: Run, _reference: Run, _ladder: Ladder | None
) -> Diagnosis:
    return diagnose(_candidate, _reference, _ladder)


@st.cache_resource(max_entries=64, show_spinner=False)
def _proof(
    key: str,
    asked: str,
    _run: Run,
    _validation: Run | None,
    _targets: Mapping[str, float],
    _measured: Mapping[str, float],
    _reported: bool,
) -> Proof:
    if _validation is None:
        return prove(_run, _targets, _measured, FIXED_THRESHOLD, _reported)
    return prove_tuned(_validation, _run, _targets, _measured, reported=_reported)


@st.cache_resource(max_entries=64, show_spinner=False)
def _sampled(key: str, _run: Run, _policy_run: Run, _referee: Run) -> SampledRange:
    errors = (_policy_run.logits.astype(np.float64) - _referee.logits).ravel()
    return flip_bound(_run, FIXED_THRESHOLD).sampled_range(errors[np.isfinite(errors)])


@st.cache_resource(max_entries=8, show_spinner=False)
def _gap_split(key: str, thresholds: tuple[float, float], _comparison: RunComparison) -> GapSplit:
    return split_gap(_comparison.aligned, *thresholds)


@st.cache_resource(max_entries=16, show_spinner=False)
def _gap_intervals(key: str, _comparison: RunComparison) -> ScoreIntervals:
    return bootstrap.gap_intervals(_comparison.aligned)


@st.cache_resource(max_entries=4, show_spinner=False)
def _concepts(key: str, _comparison: RunComparison) -> ConceptDifferences:
    return compare_concepts(_comparison.aligned.candidate, _comparison.aligned.reference)


@st.cache_resource(max_entries=4, show_spinner=False)
def _margins(digest: str, threshold: float, _run: Run) -> np.ndarray:
    return sorted_margins(_run, threshold)


@st.cache_resource(max_entries=8, show_spinner=False)
def _claims(
    key: str,
    asked: str,
    _run: Run,
    _evaluation: Evaluation,
    _reported: Mapping[str, float],
    _fixed: Proof,
    _tuned: Proof | None,
) -> tuple[ScoreAgainstClaim, ...]:
    return against_claims(_run, _evaluation, _reported, _fixed, _tuned)
