"""Two runs side by side: how far the logits differ, which decisions flip, what that does to the scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from shifamind_core.analysis import scores
from shifamind_core.analysis.alignment import AlignedRuns, align
from shifamind_core.analysis.checks import code_names, required_labels
from shifamind_core.analysis.counts import Counts, Decisions, check_thresholds, counts_of_decisions, decisions
from shifamind_core.analysis.fingerprint import bitwise_verdict, fingerprint
from shifamind_core.runs.probability import stand_ins
from shifamind_core.runs.run import Run

Differences = Float64[np.ndarray, "documents codes"]
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class DifferenceStatistics:
    """Candidate − reference logits in FP64, over the cells in which both are finite.

    `abs_percentiles` are NumPy's (linear interpolation) of |difference|, keyed by percent; `rms` is the root
    of the mean square; `correlation` is Pearson's r of the logits, `None` where one side is constant.
    With no finite cell everything is `None`.
    """

    cells: int
    mean: float | None
    rms: float | None
    max_abs: float | None
    abs_percentiles: dict[int, float | None]
    correlation: float | None


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
    candidate, reference = aligned.candidate, aligned.reference
    verdict = bitwise_verdict(candidate, reference)
    pair = (candidate.logits.astype(np.float64), reference.logits.astype(np.float64))
    finite = np.isfinite(pair[0]) & np.isfinite(pair[1])
    left_out = int(finite.size - np.count_nonzero(finite))
    standing_in = [
        stand_ins(run.logits, bool(run.manifest.logits_from_probabilities)) for run in (candidate, reference)
    ]
    told = finite & ~standing_in[0] & ~standing_in[1]
    beyond = int(np.count_nonzero(finite & ~told))
    assigned = decisions(candidate.logits, threshold), decisions(reference.logits, threshold)
    gained = assigned[0] & ~assigned[1] & finite
    lost = assigned[1] & ~assigned[0] & finite
    counts = _counts(candidate, assigned[0]), _counts(reference, assigned[1])
    odd = _non_finite_remarks(aligned, left_out) + _stand_in_remarks(standing_in, beyond)
    return RunComparison(
        aligned=aligned,
        threshold=threshold,
        difference=_pooled_statistics(pair, told, left_out + beyond),
        non_finite_cells=left_out,
        stand_ins=(int(standing_in[0].sum()), int(standing_in[1].sum())),
        stand_in_cells=beyond,
        decisions_gained=int(np.count_nonzero(gained)),
        decisions_lost=int(np.count_nonzero(lost)),
        macro_f1=Pair(*(None if c is None else float(scores.macro_f1(c)[0]) for c in counts)),
        micro_f1=Pair(*(None if c is None else float(scores.micro_f1(c)[0]) for c in counts)),
        per_code=_per_code_table(aligned, pair, finite, told, gained, lost, counts),
        remarks=aligned.remarks + odd + (() if verdict is None else (verdict,)),
        warnings=aligned.warnings + odd,
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


def _counts(run: Run, assigned: Decisions) -> Counts | None:
    """Counts of one run with its own labels; `None` where it cannot be scored."""
    if run.labels is None or run.non_finite:
        return None
    return counts_of_decisions(assigned, required_labels(run))


def _pooled_statistics(
    pair: tuple[Differences, Differences], finite: Decisions, left_out: int
) -> DifferenceStatistics:
    if left_out:
        return difference_statistics(pair[0][finite], pair[1][finite])
    return difference_statistics(pair[0].ravel(), pair[1].ravel())


def difference_statistics(
    candidate: Float64[np.ndarray, " cells"], reference: Float64[np.ndarray, " cells"]
) -> DifferenceStatistics:
    """Statistics of candidate − reference over finite cells."""
    if not candidate.size:
        nothing: dict[int, float | None] = dict.fromkeys(PERCENTILES)
        return DifferenceStatistics(0, None, None, None, nothing, None)
    difference = candidate - reference
    size = np.abs(difference)
    percentiles = np.percentile(size, PERCENTILES).tolist()
    return DifferenceStatistics(
        cells=candidate.size,
        mean=float(difference.mean()),
        rms=float(np.sqrt(np.mean(difference**2))),
        max_abs=float(size.max()),
        abs_percentiles=dict(zip(PERCENTILES, percentiles, strict=True)),
        correlation=correlation(candidate, reference),
    )


def correlation(x: Float64[np.ndarray, " cells"], y: Float64[np.ndarray, " cells"]) -> float | None:
    """Pearson's r in FP64; `None` where one side does not vary."""
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x * x).sum()) * np.sqrt((y * y).sum())
    return float(np.clip((x * y).sum() / scale, -1, 1)) if scale > 0 else None


def _per_code_table(
    aligned: AlignedRuns,
    pair: tuple[Differences, Differences],
    finite: Decisions,
    told: Decisions,
    gained: Decisions,
    lost: Decisions,
    counts: tuple[Counts | None, Counts | None],
) -> pd.DataFrame:
    ours, theirs = (np.ascontiguousarray(side.T) for side in pair)
    complete = np.all(told, axis=0, keepdims=True)[0]
    statistics = [
        difference_statistics(x, y) if whole else difference_statistics(x[keep], y[keep])
        for x, y, keep, whole in zip(ours, theirs, told.T, complete, strict=True)
    ]
    labels = aligned.candidate.labels
    codes = len(statistics)
    unknown = np.full(codes, np.nan)
    f1 = [unknown if c is None else scores.f1_per_code(c)[0] for c in counts]
    return pd.DataFrame(
        {
            "code": code_names(aligned.candidate),
            "support": pd.array(
                [None] * codes if labels is None else np.count_nonzero(labels, axis=0), dtype="Int64"
            ),
            "mean_difference": _column([s.mean for s in statistics]),
            "rms_difference": _column([s.rms for s in statistics]),
            "max_abs_difference": _column([s.max_abs for s in statistics]),
            **{f"abs_p{p}": _column([s.abs_percentiles[p] for s in statistics]) for p in PERCENTILES},
            "correlation": _column([s.correlation for s in statistics]),
            "decisions_gained": np.count_nonzero(gained, axis=0),
            "decisions_lost": np.count_nonzero(lost, axis=0),
            "candidate_f1": f1[0],
            "reference_f1": f1[1],
            "f1_gap": f1[0] - f1[1],
            "non_finite_cells": np.count_nonzero(~finite, axis=0),
            "stand_in_cells": np.count_nonzero(finite & ~told, axis=0),
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


def _stand_in_remarks(standing_in: list[Decisions], left_out: int) -> tuple[str, ...]:
    if not left_out:
        return ()
    sides = [
        f"the {side} has {np.count_nonzero(cells):,}"
        for side, cells in zip(("candidate", "reference"), standing_in, strict=True)
        if cells.any()
    ]
    return (
        f"Logits that stand for a stored probability of 0 or 1, which has none: {' and '.join(sides)}. Those {left_out:,} cells "
        "are left out of the differences; decisions and scores count them.",
    )
