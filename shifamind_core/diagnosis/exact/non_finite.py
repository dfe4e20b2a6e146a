"""Where an examination begins: both runs as finite logits, and the cells that are no numbers counted and set aside."""

import numpy as np
from jaxtyping import Bool

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix, Pair
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.exact.formats import SIDES, UNIT32, probability_slack
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed
from shifamind_core.diagnosis.views import EvidenceTable
from shifamind_core.runs.run import Run

Cells = Bool[np.ndarray, "documents codes"]
LARGEST = float(np.finfo(np.float32).max)
LISTED = 50  # codes in the table


def start(evidence: Evidence) -> Examination:
    """The examination of two runs before anything was looked for.

    Cells that are NaN, infinite or beyond FP32 in either run are set to the other run's value (to 0 where both are
    broken) and left open by the pair's tolerance, so that nothing below is decided by them.
    """
    runs = evidence.candidate, evidence.reference
    values = [run.logits.astype(np.float64) for run in runs]
    broken = [~within_fp32(run.logits) for run in runs]
    tolerance = _read_back(runs, values)
    counts = (
        evidence.reference.token_counts
        if evidence.reference.token_counts is not None
        else evidence.candidate.token_counts
    )
    if not (broken[0].any() or broken[1].any()):
        return Examination(evidence, Pair(values[0], values[1], tolerance, counts))
    for own, other in ((0, 1), (1, 0)):
        bad = broken[own]
        values[own][bad] = np.where(broken[other][bad], 0.0, values[other][bad])
    tolerance = np.zeros(values[0].shape) if tolerance is None else tolerance
    tolerance[broken[0] | broken[1]] = np.inf
    examination = Examination(evidence, Pair(values[0], values[1], tolerance, counts))
    return examination.noted(_finding(runs, (broken[0], broken[1])))


def within_fp32(logits: np.ndarray) -> np.ndarray:
    """Which values are finite in FP32. No network computes farther out, and squares of larger ones leave FP64 as well."""
    finite = np.isfinite(logits)
    if logits.dtype == np.float64:
        finite &= np.abs(logits) <= LARGEST
    return finite


def _read_back(runs: tuple[Run, Run], values: list[Matrix]) -> Matrix | None:
    """What is left open where logits were made of probabilities on reading: an FP32 probability's last place."""
    total = None
    for run, logits in zip(runs, values, strict=True):
        if run.manifest.logits_from_probabilities:
            with np.errstate(invalid="ignore", over="ignore"):
                part = fp32_probability(logits)
            total = part if total is None else total + part
    return total


def fp32_probability(logits: Matrix) -> Matrix:
    """How far a logit may be off that was made of an FP32 probability: p's rounding and slack over p (1 − p).

    Infinite where that is half of the probability's distance from 0 or 1: a stored 0 or 1, which leaves all beyond open,
    and its neighbours. Their stand-ins are `stored_precision`'s to explain, so they are left as they are here.
    """
    size = -np.abs(logits)
    to_end = np.exp(size) / (1 + np.exp(size))  # min(p, 1 − p)
    probability = np.where(logits > 0, 1 - to_end, to_end)
    off = UNIT32 * probability + probability_slack(logits)
    small = off < to_end / 2
    return np.where(small, off / np.where(small, to_end * (1 - to_end), 1.0), 0.0)


def _finding(runs: tuple[Run, Run], broken: tuple[Cells, Cells]) -> Finding:
    both = broken[0] | broken[1]
    rows, codes = both.any(axis=1), both.any(axis=0)
    kinds = {side: _kinds(run.logits, bad) for side, run, bad in zip(SIDES, runs, broken, strict=True)}
    told = " and ".join(
        f"{sum(kinds[side].values()):,} of the {side}'s scores ({_listed(kinds[side])})"
        for side in SIDES
        if kinds[side]
    )
    whole, notes, columns = (int(each.sum()) for each in (both.all(axis=1), rows, codes))
    where = f"in {notes:,} note{'s' * (notes != 1)} ({whole:,} of them throughout) and {columns} code{'s' * (columns != 1)}"
    ends = _stored_ends(runs, broken)
    return confirmed(
        "non_finite",
        f"No numbers: {told}, {where}. They are left out of everything below.{ends}",
        evidence={
            "candidate": int(broken[0].sum()),
            "reference": int(broken[1].sum()),
            "kinds": kinds,
            "documents": int(rows.sum()),
            "documents_throughout": whole,
            "codes": int(codes.sum()),
            "first_row": int(np.flatnonzero(rows)[0]),
            "stored_ends": bool(ends),
        },
        view=_table(runs[0], broken),
    )


def _kinds(logits: np.ndarray, bad: Cells) -> dict[str, int]:
    values = logits[bad]
    counts = {
        "NaN": int(np.isnan(values).sum()),
        "+∞": int(np.isposinf(values).sum()),
        "−∞": int(np.isneginf(values).sum()),
        "beyond FP32": int(np.isfinite(values).sum()),
    }
    return {kind: count for kind, count in counts.items() if count}


def _listed(kinds: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())


def _stored_ends(runs: tuple[Run, Run], broken: tuple[Cells, Cells]) -> str:
    """A sentence, if the infinite scores of one run are where the other's are the most extreme of all: logits of 0 and 1."""
    for own, other in ((0, 1), (1, 0)):
        if not 0 < broken[own].mean() < 1 or broken[other].any() or np.isnan(runs[own].logits).any():
            continue
        low, high = np.isneginf(runs[own].logits), np.isposinf(runs[own].logits)
        rest, theirs = ~broken[own], runs[other].logits
        below = not low.any() or theirs[low].max() <= theirs[rest].min()
        above = not high.any() or theirs[high].min() >= theirs[rest].max()
        if below and above and (low | high).sum() == broken[own].sum():
            return (
                f" They stand where the {SIDES[other]}'s scores are the most extreme of all: probabilities of exactly 0 or 1 "
                "have no finite logit."
            )
    return ""


def _table(run: Run, broken: tuple[Cells, Cells]) -> EvidenceTable:
    per_code = [bad.sum(axis=0) for bad in broken]
    listed = np.flatnonzero(per_code[0] + per_code[1])[:LISTED]
    return EvidenceTable(
        "Scores that are no numbers, by code",
        ("code", *SIDES),
        tuple(
            (
                run.codes[code] if run.codes else f"column {code}",
                int(per_code[0][code]),
                int(per_code[1][code]),
            )
            for code in listed
        ),
    )
