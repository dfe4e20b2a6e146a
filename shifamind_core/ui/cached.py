"""Results kept between reruns, under the digests of the runs they come from.

`st.cache_data` hashes a large array from a sample, so a run with one changed logit would be answered with
another run's result; hence digests, and arrays as arguments that are not hashed (leading underscore). The
name and the manifest are part of the key because results carry them. Results are frozen and shared: no page
changes one.
"""

import pandas as pd
import streamlit as st

from shifamind_core.analysis.comparison import RunComparison, compare
from shifamind_core.analysis.thresholds import (
    GRIDS,
    Evaluation,
    GridName,
    ThresholdCurve,
    evaluate,
    threshold_curve,
)
from shifamind_core.figures.differences import BinnedDifferences, bin_differences
from shifamind_core.report.files import Report, Selection, report
from shifamind_core.report.tables import codes_table
from shifamind_core.runs.manifest import digest_of
from shifamind_core.runs.run import Run


def curve(run: Run, grid: GridName) -> ThresholdCurve:
    """`threshold_curve` of the run over the grid of that name."""
    return _curve(_key(run), grid, run)


def evaluation(run: Run, validation: Run | None, grid: GridName) -> Evaluation:
    """`evaluate`."""
    return _evaluation(_key(run, validation), grid, run, validation)


def comparison(candidate: Run, reference: Run, threshold: float) -> RunComparison:
    """`compare`."""
    return _comparison(_key(candidate, reference), threshold, candidate, reference)


def differences(candidate: Run, reference: Run, threshold: float) -> BinnedDifferences:
    """`bin_differences` of the two runs, aligned."""
    return _differences(_key(candidate, reference), comparison(candidate, reference, threshold))


def codes(candidate: Run, reference: Run, threshold: float) -> pd.DataFrame:
    """`codes_table` of two aligned runs."""
    return _codes(_key(candidate, reference), threshold, candidate, reference)


def whole_report(selection: Selection) -> Report:
    """`report`."""
    key = _key(
        selection.candidate,
        selection.reference,
        selection.candidate_validation,
        selection.reference_validation,
    )
    return _report(key, selection.grid, selection.threshold, selection)


def _key(*runs: Run | None) -> str:
    return digest_of([None if run is None else [run.digest, run.name, run.manifest] for run in runs])


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


@st.cache_resource(max_entries=32, show_spinner=False)
def _codes(key: str, threshold: float, _candidate: Run, _reference: Run) -> pd.DataFrame:
    return codes_table(_candidate, _reference, threshold)


@st.cache_resource(max_entries=8, show_spinner=False)
def _report(key: str, grid: GridName, threshold: float, _selection: Selection) -> Report:
    return report(_selection)
