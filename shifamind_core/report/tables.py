"""Results as tables that a person reads: on the pages and, with provenance, in the files."""

import numpy as np
import pandas as pd

from shifamind_core.analysis import scores
from shifamind_core.analysis.checks import code_names
from shifamind_core.analysis.comparison import PERCENTILES, RunComparison
from shifamind_core.analysis.thresholds import (
    FIXED_THRESHOLD,
    CodeScore,
    Evaluation,
    Score,
    ThresholdCurve,
    code_scores,
    run_counts,
)
from shifamind_core.arrays import probabilities
from shifamind_core.artifacts.code_titles import code_title
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import over_blocks
from shifamind_core.runs.run import Run

ALL_CODES = "all codes"
_METRICS_COLUMNS = (
    "protocol", "threshold", "k", "macro_f1", "micro_f1", "macro_f1_with_support", "macro_f1_of_means",
    "validation_micro_f1", "plateau_lowest", "plateau_highest",
)  # fmt: skip


def metrics_table(evaluation: Evaluation) -> pd.DataFrame:
    """One row a protocol.

    Columns: `protocol` (fixed, tuned, top_k), `threshold` (empty for top_k), `k`, `macro_f1` (mean over all
    codes), `micro_f1`, `macro_f1_with_support` (mean over the codes that occur), `macro_f1_of_means`
    (harmonic mean of mean precision and mean recall), `validation_micro_f1`, `plateau_lowest`,
    `plateau_highest`, `documents`, `codes`, `codes_of` and `macro_f1_over` (what "all codes" are here, in numbers and in
    words). Decision: >; 0/0 = 0.
    """
    tuned = evaluation.tuned_threshold
    rows = [
        _metrics_row("fixed", evaluation.fixed, threshold=FIXED_THRESHOLD),
        *(
            []
            if tuned is None or evaluation.tuned is None
            else [
                _metrics_row(
                    "tuned",
                    evaluation.tuned,
                    threshold=tuned.threshold,
                    validation_micro_f1=tuned.micro_f1,
                    plateau_lowest=tuned.plateau.lowest,
                    plateau_highest=tuned.plateau.highest,
                )
            ]
        ),
        _metrics_row("top_k", evaluation.top_k, k=evaluation.k),
    ]
    table = pd.DataFrame(rows, columns=list(_METRICS_COLUMNS))
    return table.assign(
        k=table["k"].astype("Int64"),
        documents=evaluation.documents,
        codes=evaluation.codes,
        codes_of=evaluation.codes_of,
        macro_f1_over=evaluation.over,
    )


def _metrics_row(protocol: str, score: Score, **more: float) -> dict[str, object]:
    return {"protocol": protocol, **vars(score), **more}


def codes_table(
    candidate: Run, reference: Run | None = None, threshold: float = FIXED_THRESHOLD
) -> pd.DataFrame:
    """One row a code, the largest gap first, whichever way it goes (without a reference: the lowest F1 first).

    Columns: `code`, `title`, `support` (notes that carry it, by the candidate's labels), `f1`, `precision`,
    `recall`; with a reference each of the three as `candidate_…` and `reference_…`, and `f1_gap`
    (candidate − reference). Decision: >; 0/0 = 0.

    Raises
    ------
    ShifamindError
        A run cannot be scored, or the two are not aligned.
    """
    ours = _scored(candidate, threshold)
    table = pd.DataFrame(
        {
            "code": [score.code for score in ours],
            "title": pd.Series([code_title(score.code) for score in ours], dtype=object),
            "support": [score.support for score in ours],
        }
    )
    if reference is None:
        return table.assign(**_columns("", ours)).sort_values("f1", kind="stable", ignore_index=True)
    theirs = _scored(reference, threshold)
    if [score.code for score in ours] != [score.code for score in theirs]:
        raise ShifamindError(f"{candidate.name} and {reference.name} are not aligned: align them first.")
    table = table.assign(**_columns("candidate_", ours), **_columns("reference_", theirs))
    table.insert(3, "f1_gap", table["candidate_f1"] - table["reference_f1"])
    return table.sort_values("f1_gap", key=lambda gap: -gap.abs(), kind="stable", ignore_index=True)


def flipped_decisions(candidate: Run, reference: Run, code: int, threshold: float) -> pd.DataFrame:
    """The notes on which two aligned runs decide otherwise about one code (its column), the largest change first.

    Columns: those of `decisions_within`, without `code`.
    """
    ours, theirs = (
        probabilities(_finite(run.logits[:, [code]])) > threshold for run in (candidate, reference)
    )
    rows = np.flatnonzero((ours != theirs)[:, 0] & _both_finite(candidate, reference, code))
    return _decisions(candidate, reference, rows, np.full(len(rows), code), threshold).drop(columns="code")


def decisions_within(
    candidate: Run, reference: Run, low: float, high: float, threshold: float, most: int
) -> tuple[pd.DataFrame, int]:
    """The decisions of two aligned runs whose logits differ by `low` to `high`, candidate − reference; and how many there are.

    Columns: `note` (its id as 16 hexadecimal digits, else its row), `code`, `label` (0 or 1, missing without labels),
    `candidate_probability`, `reference_probability`, `difference` (of the logits) and `decision` (``gained`` or ``lost``, by the
    candidate; ``same``). The `most` that moved furthest, those first. Logits that are not finite are left out.
    """
    codes = candidate.logits.shape[1]

    def look(rows: slice) -> tuple[int, np.ndarray, np.ndarray]:
        change = candidate.logits[rows].astype(np.float64)
        with np.errstate(invalid="ignore"):
            change -= reference.logits[rows]
            cells = np.flatnonzero((change >= low) & (change <= high) & np.isfinite(change))
        size, found = np.abs(change.ravel()[cells]), len(cells)
        if found > most:
            kept = np.argpartition(-size, most)[:most]
            cells, size = cells[kept], size[kept]
        return found, cells + rows.start * codes, size

    found, cells, sizes = zip(*over_blocks(look, candidate.logits, reference.logits), strict=True)
    place, size = np.concatenate(cells), np.concatenate(sizes)
    rows, columns = np.divmod(place, codes)
    kept = np.lexsort((rows, columns, -size))[:most]
    return _decisions(candidate, reference, rows[kept], columns[kept], threshold), sum(found)


def note_name(document_id: int) -> str:
    """A document id as tables show it: 16 hexadecimal digits.

    >>> note_name(-1)
    'ffffffffffffffff'
    """
    return f"{document_id & (2**64 - 1):016x}"


def _both_finite(candidate: Run, reference: Run, code: int) -> np.ndarray:
    return np.isfinite(candidate.logits[:, code]) & np.isfinite(reference.logits[:, code])


def _finite(logits: np.ndarray) -> np.ndarray:
    return np.nan_to_num(logits.astype(np.float32))


def _decisions(
    candidate: Run, reference: Run, rows: np.ndarray, codes: np.ndarray, threshold: float
) -> pd.DataFrame:
    """Single decisions, by row and column of finite logits, the largest change first."""
    change = candidate.logits[rows, codes].astype(np.float64) - reference.logits[rows, codes]
    order = np.argsort(-np.abs(change), kind="stable")
    rows, codes, change = rows[order], codes[order], change[order]
    ours, theirs = (
        probabilities(run.logits[rows, codes].astype(np.float32)[:, None])[:, 0]
        for run in (candidate, reference)
    )
    gained, lost = (ours > threshold) & (theirs <= threshold), (theirs > threshold) & (ours <= threshold)
    ids, labels = candidate.document_ids, candidate.labels
    return pd.DataFrame(
        {
            "note": [str(row) for row in rows] if ids is None else [note_name(int(ids[row])) for row in rows],
            "code": np.array(code_names(candidate), dtype=object)[codes],
            "label": pd.array(
                [pd.NA] * len(rows) if labels is None else labels[rows, codes].astype(int), dtype="Int64"
            ),
            "candidate_probability": ours,
            "reference_probability": theirs,
            "difference": change,
            "decision": np.select([gained, lost], ["gained", "lost"], "same"),
        }
    )


def _scored(run: Run, threshold: float) -> tuple[CodeScore, ...]:
    return code_scores(run_counts(run, np.array([threshold])), code_names(run))


def _columns(prefix: str, scored: tuple[CodeScore, ...]) -> dict[str, list[float]]:
    return {
        prefix + name: [getattr(score, name) for score in scored] for name in ("f1", "precision", "recall")
    }


def comparison_table(comparison: RunComparison) -> pd.DataFrame:
    """A first row for all codes together (`code` = "all codes"), then one row a code.

    Columns: `code`, `title`, then those of `RunComparison.per_code` (differences are candidate − reference
    in logits; flips at the comparison's threshold), and `threshold`. In the first row `candidate_f1`,
    `reference_f1` and `f1_gap` are macro F1, over what `macro_f1_over` says; `micro_f1_…` is filled there only.
    """
    difference = comparison.difference
    first = {
        "code": ALL_CODES,
        "support": comparison.per_code["support"].sum(min_count=1),
        "mean_difference": difference.mean,
        "rms_difference": difference.rms,
        "max_abs_difference": difference.max_abs,
        **{f"abs_p{percent}": difference.abs_percentiles[percent] for percent in PERCENTILES},
        "correlation": difference.correlation,
        "decisions_gained": comparison.decisions_gained,
        "decisions_lost": comparison.decisions_lost,
        "candidate_f1": comparison.macro_f1.candidate,
        "reference_f1": comparison.macro_f1.reference,
        "f1_gap": comparison.macro_f1.gap,
        "non_finite_cells": comparison.non_finite_cells,
        "stand_in_cells": comparison.stand_in_cells,
        "micro_f1_candidate": comparison.micro_f1.candidate,
        "micro_f1_reference": comparison.micro_f1.reference,
        "micro_f1_gap": comparison.micro_f1.gap,
    }
    rows = comparison.per_code.astype(object)
    rows.insert(1, "title", pd.Series([code_title(code) for code in rows["code"]], dtype=object))
    table = pd.concat([pd.DataFrame([first], dtype=object), rows], ignore_index=True)
    table = table[[*rows.columns, "micro_f1_candidate", "micro_f1_reference", "micro_f1_gap"]]
    return table.assign(
        threshold=comparison.threshold,
        documents=comparison.aligned.documents.matched,
        macro_f1_over=comparison.aligned.over,
    )


def curve_table(curve: ThresholdCurve) -> pd.DataFrame:
    """One row a threshold of the grid, in its order.

    Columns: `threshold`, `micro_f1`, `macro_f1` (mean over all codes), `macro_f1_of_means`,
    `micro_precision`, `micro_recall`. Decision: >; 0/0 = 0.
    """
    return pd.DataFrame(
        {
            "threshold": curve.thresholds,
            "micro_f1": curve.micro_f1,
            "macro_f1": curve.macro_f1,
            "macro_f1_of_means": scores.macro_f1_of_means(curve.counts),
            "micro_precision": curve.micro_precision,
            "micro_recall": curve.micro_recall,
        }
    )
