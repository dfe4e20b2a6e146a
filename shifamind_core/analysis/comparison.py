"""Two runs side by side: how far the logits differ, which decisions flip, what that does to the scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shifamind_core.analysis import scores
from shifamind_core.analysis.alignment import AlignedRuns, align
from shifamind_core.analysis.checks import code_names
from shifamind_core.analysis.counts import (
    CodeCounts,
    Counts,
    check_thresholds,
    decisions,
    true_positives,
)
from shifamind_core.analysis.differences import (
    PERCENTILES,
    CodeDifferences,
    DifferenceStatistics,
    Interval,
    code_differences,
    intervals_about,
    pooled,
)
from shifamind_core.analysis.fingerprint import bitwise_verdict, fingerprint
from shifamind_core.runs.blocks import MOST_THREADS, code_by_code, in_order
from shifamind_core.runs.probability import are_any_of, stand_in_values
from shifamind_core.runs.run import Run


@dataclass(frozen=True)
class Pair:
    """One number of each run. `gap` is candidate − reference, `None` where one of them is not known."""

    candidate: float | None
    reference: float | None

    @property
    def gap(self) -> float | None:
        if self.candidate is None or self.reference is None:
            return None
        return self.candidate - self.reference


@dataclass(frozen=True, eq=False)
class RunComparison:
    """What `compare` found. Every gap and difference is candidate − reference.

    Attributes
    ----------
    aligned : AlignedRuns
        The two runs, row by row, and how they were matched.
    threshold : float
        On probability, for decisions and scores. Decision: >.
    difference : DifferenceStatistics
        Of the logits.
    non_finite_cells : int
        Cells in which a run has NaN or infinity: left out of the differences and flips.
    stand_ins : (int, int)
        Candidate's and reference's cells whose logit stands for a stored probability of 0 or 1: left out of the differences, kept in flips and scores.
    stand_in_cells : int
        Cells in which either run has one.
    decisions_gained, decisions_lost : int
        Codes that only the candidate assigns, and those that only the reference assigns.
    macro_f1, micro_f1 : Pair
        Each run with its own labels; macro over all codes; 0/0 = 0. `None` for a run without labels or with
        a logit that is not finite.
    per_code : DataFrame
        One row a code, in the candidate's order: `code`, `support` (notes that carry it; missing without
        labels), `mean_difference`, `rms_difference`, `max_abs_difference`, `abs_p50`, `abs_p90`, `abs_p99`,
        `correlation`, `decisions_gained`, `decisions_lost`, `candidate_f1`, `reference_f1`, `f1_gap`,
        `non_finite_cells`, `stand_in_cells`. NaN where there is nothing to compute from.
    remarks : tuple of str
        The alignment's, and what was left out here.
    warnings : tuple of str
        Those of them that limit what a score says (`AlignedRuns.warnings`).
    """

    aligned: AlignedRuns
    threshold: float
    difference: DifferenceStatistics
    non_finite_cells: int
    stand_ins: tuple[int, int]
    stand_in_cells: int
    decisions_gained: int
    decisions_lost: int
    macro_f1: Pair
    micro_f1: Pair
    per_code: pd.DataFrame
    remarks: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def decisions_flipped(self) -> int:
        """Decisions that differ, in either direction."""
        return self.decisions_gained + self.decisions_lost


def compare(candidate: Run, reference: Run, threshold: float = 0.5) -> RunComparison:
    """Align the runs, then the seed's statistics: differences, flips at `threshold`, gaps.

    Raises
    ------
    ShifamindError
        The runs have nothing in common, or the threshold is no probability.
    """
    check_thresholds(np.array([threshold]))
    aligned = align(candidate, reference)
    return compare_aligned(aligned, threshold)


def compare_aligned(aligned: AlignedRuns, threshold: float = 0.5) -> RunComparison:
    """`compare` for runs that are aligned already."""
    runs = aligned.candidate, aligned.reference
    verdict = bitwise_verdict(*runs)
    values = [
        stand_in_values(run.logits, bool(run.manifest.logits_from_probabilities), run.ends) for run in runs
    ]
    odd = [bool(run.non_finite or stand_ins) for run, stand_ins in zip(runs, values, strict=True)]
    codes: list[_Code] = []
    wider, difference = 1.0, None
    while difference is None:  # once, unless a sample misled on where the percentiles are
        intervals = intervals_about(runs[0].logits, runs[1].logits, wider)
        codes = list(_compared(aligned, threshold, values if any(odd) else None, intervals))
        difference = pooled([code.differences for code in codes], intervals)
        wider *= 4
    counted = _Counted(*np.array([code.counted for code in codes]).T)  # of arrays over codes
    support, counts = _counts(aligned, threshold, codes)
    left_out, beyond = int(counted.non_finite.sum()), int(counted.standing_in.sum())
    standing_in = int(counted.candidate_standing_in.sum()), int(counted.reference_standing_in.sum())
    remarks = _non_finite_remarks(aligned, left_out) + _stand_in_remarks(standing_in, beyond)
    return RunComparison(
        aligned=aligned,
        threshold=threshold,
        difference=difference,
        non_finite_cells=left_out,
        stand_ins=standing_in,
        stand_in_cells=beyond,
        decisions_gained=int(counted.gained.sum()),
        decisions_lost=int(counted.lost.sum()),
        macro_f1=Pair(*(None if c is None else float(scores.macro_f1(c)[0]) for c in counts)),
        micro_f1=Pair(*(None if c is None else float(scores.micro_f1(c)[0]) for c in counts)),
        per_code=_per_code_table(aligned, codes, counted, support, counts),
        remarks=aligned.remarks + remarks + (() if verdict is None else (verdict,)),
        warnings=aligned.warnings + remarks,
    )


def comparison_json(comparison: RunComparison) -> dict[str, Any]:
    """The `compare` command's document; what is not known is `null`."""
    difference = comparison.difference
    table = comparison.per_code.astype(object).where(comparison.per_code.notna(), None)
    return {
        "aligned_documents": comparison.aligned.documents.matched,
        "aligned_codes": comparison.aligned.codes.matched,
        "codes_of": comparison.aligned.codes_of,
        "macro_f1_over": comparison.aligned.over,
        "mean_difference": difference.mean,
        "rms_difference": difference.rms,
        "max_abs_difference": difference.max_abs,
        "abs_percentiles": {str(percent): value for percent, value in difference.abs_percentiles.items()},
        "correlation": difference.correlation,
        "threshold": comparison.threshold,
        "decisions_flipped": comparison.decisions_flipped,
        "decisions_gained": comparison.decisions_gained,
        "decisions_lost": comparison.decisions_lost,
        "macro_f1": _pair_json(comparison.macro_f1),
        "micro_f1": _pair_json(comparison.micro_f1),
        "fingerprint": _fingerprints(comparison.aligned),
        "non_finite_cells": comparison.non_finite_cells,
        "stand_ins": {
            "candidate": comparison.stand_ins[0],
            "reference": comparison.stand_ins[1],
            "cells": comparison.stand_in_cells,
        },
        "label_conflicts": comparison.aligned.label_conflicts,
        "repeated_ids": {
            side: None if found is None else vars(found)
            for side, found in zip(("candidate", "reference"), comparison.aligned.repeated, strict=True)
        },
        "remarks": list(comparison.remarks),
        "per_code": table.to_dict(orient="records"),
    }


class _Counted(NamedTuple):
    """Cells, one entry a code."""

    gained: CodeCounts
    lost: CodeCounts
    non_finite: CodeCounts
    standing_in: CodeCounts
    candidate_standing_in: CodeCounts
    reference_standing_in: CodeCounts


class _Code(NamedTuple):
    """One code compared: its cells, as in `_Counted`; how many notes get it in either run."""

    differences: CodeDifferences
    counted: tuple[int, ...]
    predicted: tuple[int, ...]


def _compared(
    aligned: AlignedRuns, threshold: float, values: list[tuple[float, ...]] | None, intervals: list[Interval]
) -> Iterator[_Code]:
    """Every code of both runs; `values` stand for a stored 0 or 1, `None` where every logit is one."""
    runs = aligned.candidate, aligned.reference
    room = [np.empty((3, aligned.candidate.documents)) for _ in range(MOST_THREADS)]

    def look(code: tuple[np.ndarray, ...]) -> _Code:
        mine = room.pop()
        try:
            return _one_code(threshold, values, intervals, mine, *code)
        finally:
            room.append(mine)

    for group in code_by_code(*(run.logits for run in runs)):
        yield from in_order(look, zip(*group, strict=True))


def _one_code(
    threshold: float,
    values: list[tuple[float, ...]] | None,
    intervals: list[Interval],
    room: np.ndarray,
    ours: np.ndarray,
    theirs: np.ndarray,
) -> _Code:
    """One code: both runs' logits [documents]."""
    assigned = [decisions(side[:, None], threshold)[:, 0] for side in (ours, theirs)]
    predicted = _sizes(*assigned)
    if values is None:
        (either,) = _sizes(assigned[0] | assigned[1])
        counted = either - predicted[1], either - predicted[0], 0, 0, 0, 0
    else:
        gained, lost = assigned[0] > assigned[1], assigned[1] > assigned[0]
        finite = np.isfinite(ours) & np.isfinite(theirs)
        standing_in = are_any_of(ours, values[0]), are_any_of(theirs, values[1])
        told = finite & ~standing_in[0] & ~standing_in[1]
        counted = _sizes(gained & finite, lost & finite, ~finite, finite & ~told, *standing_in)
        ours, theirs = ours[told], theirs[told]
    return _Code(code_differences(ours, theirs, intervals, room), counted, predicted)


def _sizes(*cells: np.ndarray) -> tuple[int, ...]:
    return tuple(int(np.count_nonzero(one)) for one in cells)


def _counts(
    aligned: AlignedRuns, threshold: float, codes: list[_Code]
) -> tuple[CodeCounts | None, tuple[Counts | None, Counts | None]]:
    """The support by the candidate's labels, `None` without any; the counts of each run with its own labels, `None` where it cannot be scored."""
    runs = aligned.candidate, aligned.reference
    ours, theirs = (run.labels for run in runs)
    if ours is None or theirs is None:  # a run that has labels lends them, so neither has any
        return None, (None, None)
    if aligned.label_conflicts:
        found = [
            true_positives(own, threshold, run.logits) for own, run in zip((ours, theirs), runs, strict=True)
        ]
        supports, right = [support for support, _ in found], [right for _, (right,) in found]
    else:
        support, right = true_positives(ours, threshold, *(run.logits for run in runs))
        supports = [support, support]
    predicted = np.array([code.predicted for code in codes]).T
    counts = [
        None if run.non_finite else Counts(np.array([np.nan]), hits[None], taken[None], own, run.documents)
        for run, hits, taken, own in zip(runs, right, predicted, supports, strict=True)
    ]
    return supports[0], (counts[0], counts[1])


def _per_code_table(
    aligned: AlignedRuns,
    codes: list[_Code],
    counted: _Counted,
    support: CodeCounts | None,
    counts: tuple[Counts | None, Counts | None],
) -> pd.DataFrame:
    statistics = [code.differences.statistics for code in codes]
    unknown = np.full(len(codes), np.nan)
    f1 = [unknown if c is None else scores.f1_per_code(c)[0] for c in counts]
    return pd.DataFrame(
        {
            "code": code_names(aligned.candidate),
            "support": pd.array([None] * len(codes) if support is None else support, dtype="Int64"),
            "mean_difference": _column([s.mean for s in statistics]),
            "rms_difference": _column([s.rms for s in statistics]),
            "max_abs_difference": _column([s.max_abs for s in statistics]),
            **{f"abs_p{p}": _column([s.abs_percentiles[p] for s in statistics]) for p in PERCENTILES},
            "correlation": _column([s.correlation for s in statistics]),
            "decisions_gained": counted.gained,
            "decisions_lost": counted.lost,
            "candidate_f1": f1[0],
            "reference_f1": f1[1],
            "f1_gap": f1[0] - f1[1],
            "non_finite_cells": counted.non_finite,
            "stand_in_cells": counted.standing_in,
        }
    )


def _column(values: list[float | None]) -> np.ndarray:
    return np.array(values, np.float64)  # None becomes NaN


def _fingerprints(aligned: AlignedRuns) -> dict[str, str | bool | None]:
    """Of the notes and codes that both runs have; whether they are `equal`, where both runs have one."""
    ours, theirs = fingerprint(aligned.candidate), fingerprint(aligned.reference)
    known = ours is not None and theirs is not None
    return {"candidate": ours, "reference": theirs, "equal": ours == theirs if known else None}


def _pair_json(pair: Pair) -> dict[str, float | None]:
    return {"candidate": pair.candidate, "reference": pair.reference, "gap": pair.gap}


def _non_finite_remarks(aligned: AlignedRuns, left_out: int) -> tuple[str, ...]:
    if not left_out:
        return ()
    sides = [
        f"the {side} has {run.non_finite:,}"
        for side, run in (("candidate", aligned.candidate), ("reference", aligned.reference))
        if run.non_finite
    ]
    return (
        f"Logits that are NaN or infinite: {' and '.join(sides)} of {aligned.candidate.logits.size:,}. Those "
        f"{left_out:,} cells are left out of differences and flips, and a run that has any is not scored.",
    )


def _stand_in_remarks(standing_in: tuple[int, int], left_out: int) -> tuple[str, ...]:
    if not left_out:
        return ()
    sides = [
        f"the {side} has {cells:,}"
        for side, cells in zip(("candidate", "reference"), standing_in, strict=True)
        if cells
    ]
    return (
        f"Logits that stand for a stored probability of 0 or 1, which has none: {' and '.join(sides)}. Those {left_out:,} cells "
        "are left out of the differences; decisions and scores count them.",
    )
