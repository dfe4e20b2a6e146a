"""The report: tables about a candidate and, where there is one, its reference."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pandas as pd

from shifamind_core.analysis.checks import over_codes
from shifamind_core.analysis.comparison import RunComparison, compare
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
from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.errors import ShifamindError
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.diagnosis import findings_table, trials_table
from shifamind_core.report.measurements import certificate_table, ladder_table, layers_table, probes_table
from shifamind_core.report.provenance import runs_table, with_digests
from shifamind_core.report.tables import codes_table, comparison_table, curve_table, metrics_table
from shifamind_core.runs.run import Run

T = TypeVar("T")
CONTENTS: Mapping[str, str] = {
    "metrics": "Micro and macro F1 at 0.5, at the tuned threshold, and with the k most probable codes.",
    "codes": "F1, precision and recall of every code.",
    "comparison": "Logit differences, flips and F1 gaps, for all codes together and for each.",
    "thresholds": "Micro and macro F1 at every threshold, on test and validation notes.",
    "findings": "What the difference looks like: causes with status, score, evidence and how to confirm them.",
    "trials": "What a replay tried, and how much of the difference each change explains.",
    "ladder": "What every precision policy does to this model's logits, against FP64.",
    "layers": "Error and statistics of every module under each policy.",
    "probes": "Small experiments with the checkpoint, each with verdict and number.",
    "certificate": "How many decisions could differ on another machine under the portable policy.",
    "runs": "The runs that the other files speak of, by digest: precision policy, GPU, versions, casing, weights.",
}
UNITS = """\
Scores (F1, precision, recall), thresholds, shares and correlations go from 0 to 1. Logits, their differences and errors (difference, residual,
mean, std, absmax, epsilon, rms, p50 to p99) are in logits: natural logarithms of odds, before the sigmoid. Differences and gaps are the candidate's value less
the reference's. support, documents, notes, flipped, gained, lost and decisions are counts; a decision is one code of one note.
An empty cell is not known. Tables are UTF-8 with a byte order mark, separated by commas; numbers have a point and read back to the last bit. An
apostrophe before =, +, - or @ keeps a spreadsheet from executing a text. No note and no document id is in any file."""
BOM = "\ufeff"  # by which spreadsheets know UTF-8


@dataclass(frozen=True, eq=False)
class Selection:
    """What a report is about. A validation run is the one its run was tuned on, if any.

    `comparison` (at 0.5), `diagnosis` and `replay` (its JSON) are of these two runs, where they were made. `ladder`, `layers`, `probes` and
    `certificate` (the last three as JSON) were measured on the checkpoint of the selected run directory.
    """

    candidate: Run
    reference: Run | None = None
    candidate_validation: Run | None = None
    reference_validation: Run | None = None
    grid: GridName = "seed"
    comparison: RunComparison | None = None
    diagnosis: Diagnosis | None = None
    replay: Mapping[str, Any] | None = None
    ladder: Ladder | None = None
    layers: Mapping[str, Any] | None = None
    probes: Mapping[str, Any] | None = None
    certificate: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """The tables that could be made, and one line for each thing that could not, or that was assumed.

    `comparison`, and of either role the evaluation and the curves (of the scored notes, then of validation): from what
    the tables were made, for figures.
    """

    tables: Mapping[str, pd.DataFrame]
    remarks: tuple[str, ...]
    comparison: RunComparison | None = None
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    curves: Mapping[str, tuple[ThresholdCurve, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Part:
    """One of the two runs; `scored` is the run, or its aligned twin with the labels that the other lent it."""

    role: str
    run: Run
    scored: Run
    validation: Run | None


def report(selection: Selection) -> Report:
    """All tables of the selection, each row with the digests of the runs, or of the checkpoint, it speaks of.

    What cannot be made (no labels, logits that are not finite, runs with nothing in common) is left out, and
    the remarks say why.
    """
    refusals: list[str] = []

    def attempt(make: Callable[[], T]) -> T | None:
        try:
            return make()
        except ShifamindError as error:
            refusals.append(str(error))
            return None

    candidate, reference = selection.candidate, selection.reference
    comparison = selection.comparison
    if comparison is None and reference is not None:
        comparison = attempt(lambda: compare(candidate, reference, FIXED_THRESHOLD))
    parts = _parts(selection, comparison)
    scored = [attempt(partial(evaluate, part.scored, part.validation, selection.grid)) for part in parts]
    curves = [attempt(partial(_curves, part, selection.grid)) for part in parts]
    tables: dict[str, pd.DataFrame | None] = {
        "metrics": _stacked([_metrics(*pair, selection.grid) for pair in zip(parts, scored, strict=True)]),
        "codes": attempt(lambda: _codes(selection, comparison)),
        "comparison": None if comparison is None else _of_both(selection, comparison_table(comparison)),
        "thresholds": _stacked(
            [_curves_table(*pair, selection.grid) for pair in zip(parts, curves, strict=True)]
        ),
        "findings": None
        if selection.diagnosis is None
        else _of_both(selection, findings_table(selection.diagnosis)),
        "trials": None if selection.replay is None else _of_both(selection, trials_table(selection.replay)),
        "ladder": None if selection.ladder is None else ladder_table(selection.ladder),
        "layers": None if selection.layers is None else layers_table(selection.layers),
        "probes": None if selection.probes is None else probes_table(selection.probes),
        "certificate": None if selection.certificate is None else certificate_table(selection.certificate),
        "runs": runs_table(dict(_runs(selection))),
    }
    remarks = [*(() if comparison is None else comparison.remarks), *refusals]
    for part, evaluation in zip(parts, scored, strict=True):
        said = () if evaluation is None else evaluation.remarks
        remarks += [f"{part.role.capitalize()}: {remark}" for remark in said]
    roles = [part.role for part in parts]
    return Report(
        {name: table for name, table in tables.items() if table is not None},
        tuple(dict.fromkeys(remarks)),
        comparison,
        {role: one for role, one in zip(roles, scored, strict=True) if one is not None},
        {role: some for role, some in zip(roles, curves, strict=True) if some is not None},
    )


def csv_files(made: Report) -> dict[str, str]:
    """File name → CSV, for the tables that there are."""
    return {f"{name}.csv": csv_file(table) for name, table in made.tables.items()}


def csv_file(table: pd.DataFrame) -> str:
    """One table as a file that spreadsheets know for UTF-8."""
    return BOM + csv_text(table)


def readme(made: Report) -> str:
    """What each file of the report holds, in which units, and what could not be made or was assumed."""
    files = [
        f"{name}.csv ({len(table):,} rows)\n    {CONTENTS[name]}\n    Columns: {', '.join(map(str, table.columns))}."
        for name, table in made.tables.items()
    ]
    remarks = ["What could not be made, or was assumed:", *(f"- {one}" for one in made.remarks)]
    parts = [
        "ShifaMind diagnostics: two runs of one checkpoint compared",
        *files,
        UNITS,
        *(["\n".join(remarks)] if made.remarks else []),
    ]
    return "\n\n".join(parts) + "\n"


def archive(made: Report) -> bytes:
    """The report's tables in one archive, with a README."""
    return zipped({"README.txt": readme(made), **csv_files(made)})


def zipped(files: Mapping[str, str]) -> bytes:
    """The files in one archive; the same files give the same bytes (no clock in it)."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in files.items():
            target.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def _runs(selection: Selection) -> Iterator[tuple[str, Run | None]]:
    yield "candidate", selection.candidate
    yield "reference", selection.reference
    yield "candidate's validation run", selection.candidate_validation
    yield "reference's validation run", selection.reference_validation


def _parts(selection: Selection, comparison: RunComparison | None) -> list[_Part]:
    """A run without labels is scored with those that the alignment lent it; any other as it came, whole."""
    sides: list[tuple[str, Run | None, Run | None, Run | None]] = [
        (
            "candidate",
            selection.candidate,
            None if comparison is None else comparison.aligned.candidate,
            selection.candidate_validation,
        ),
        (
            "reference",
            selection.reference,
            None if comparison is None else comparison.aligned.reference,
            selection.reference_validation,
        ),
    ]
    return [
        _Part(role, run, run if run.labels is not None or lent is None else lent, validation)
        for role, run, lent, validation in sides
        if run is not None
    ]


def _metrics(part: _Part, evaluation: Evaluation | None, grid: GridName) -> pd.DataFrame | None:
    return None if evaluation is None else _with_part(part, part.run, metrics_table(evaluation), grid)


def _curves(part: _Part, grid: GridName) -> tuple[ThresholdCurve, ...]:
    """Of the run itself, then of its validation run."""
    runs = (part.scored, part.validation)
    return tuple(threshold_curve(run, GRIDS[grid]) for run in runs if run is not None)


def _curves_table(
    part: _Part, curves: tuple[ThresholdCurve, ...] | None, grid: GridName
) -> pd.DataFrame | None:
    """One below the other; `used_for` tells them apart."""
    sources = ((part.run, "scoring"), (part.validation, "tuning"))
    return _stacked(
        [
            _with_part(
                part,
                run,
                curve_table(curve).assign(
                    macro_f1_over=over_codes(run.logits.shape[1], run.codes_of), used_for=use
                ),
                grid,
            )
            for curve, (run, use) in zip(curves or (), sources, strict=False)
            if run is not None
        ]
    )


def _codes(selection: Selection, comparison: RunComparison | None) -> pd.DataFrame:
    if comparison is None or selection.reference is None:
        table = codes_table(selection.candidate, None, FIXED_THRESHOLD)
        return with_digests(table.assign(threshold=FIXED_THRESHOLD), candidate=selection.candidate)
    aligned = comparison.aligned
    table = codes_table(aligned.candidate, aligned.reference, FIXED_THRESHOLD)
    return _of_both(selection, table.assign(threshold=FIXED_THRESHOLD))


def _of_both(selection: Selection, table: pd.DataFrame) -> pd.DataFrame:
    """The table with the digests of candidate and reference."""
    assert selection.reference is not None
    return with_digests(table, candidate=selection.candidate, reference=selection.reference)


def _with_part(part: _Part, run: Run, table: pd.DataFrame, grid: GridName) -> pd.DataFrame:
    table.insert(0, "role", part.role)
    table["grid"] = grid
    table["validation_digest"] = None if part.validation is None else part.validation.digest
    return with_digests(table, run=run)


def _stacked(tables: list[pd.DataFrame | None]) -> pd.DataFrame | None:
    made = [table for table in tables if table is not None]
    return pd.concat(made, ignore_index=True) if made else None
