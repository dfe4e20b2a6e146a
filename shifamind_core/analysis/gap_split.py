"""Where a gap in F1 comes from: labels, threshold, calibration or ranking. Exactly additive.

The candidate is turned into the reference in five steps, and each part of the gap is what F1 loses in one:

0. the candidate's decisions at the threshold it was scored at, against its own labels
1. … against the reference's labels                                            0 − 1: **labels**
2. … at the threshold the reference was scored at                              1 − 2: **threshold**
3. … after one affine map of all its logits (slope > 0)                        2 − 3: **run calibration**
4. … after one affine map per code (slope > 0)                                 3 − 4: **code calibration**
5. the reference's decisions, threshold and labels                             4 − 5: **ranking**

So the parts sum to the gap, F1(0) − F1(5), by construction. Each says what that change alone would do to the
candidate next: "recalibrated per code, it would gain this much". What no affine map of a code's logits can
mend is a different order of notes within codes, hence the name of the last part (it includes any non-affine
distortion).

An affine map gives the candidate's logits the reference's mean and standard deviation (over all cells, then
code by code). Least squares would not do: it shrinks a badly correlated candidate towards its mean and so
would book lost ranking as calibration. Where runs are affine images of each other, both give the same map.

Labels are zero unless the runs' labels conflict, and threshold is zero when both runs are scored at one
threshold. A pure shift at 0.5 is then all run calibration; under the tuned protocol the same shift shows as a
calibration part and a threshold part that cancel: tuning made up for it. The order of steps matters (as in any
such decomposition), and the candidate's path is not the mirror image of the reference's.
"""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float64

from shifamind_core.analysis.alignment import AlignedRuns
from shifamind_core.analysis.bootstrap import Estimate, draw_notes, estimate
from shifamind_core.analysis.checks import refuse_non_finite, required_labels
from shifamind_core.analysis.counts import check_thresholds, decisions
from shifamind_core.arrays import Logits

PerCode = Float64[np.ndarray, " codes"]

MOST_CELLS = 1 << 23  # of larger runs, notes spread evenly over all are looked at


@dataclass(frozen=True)
class GapParts:
    """A gap (candidate − reference) and its parts, which sum to it, each with a 95 % paired bootstrap interval.

    The maps and thresholds are held fixed while notes are drawn: the intervals are those of the scores.
    """

    gap: Estimate
    labels: Estimate
    threshold: Estimate
    run_calibration: Estimate
    code_calibration: Estimate
    ranking: Estimate

    @property
    def parts(self) -> dict[str, Estimate]:
        """The parts without the gap, in the order of the steps."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "gap"}


@dataclass(frozen=True, eq=False)
class GapSplit:
    """The split of both gaps. Decision: >; macro over all codes; 0/0 = 0.

    Attributes
    ----------
    macro_f1, micro_f1 : GapParts
    candidate_threshold, reference_threshold : float
        At which each run was scored.
    slope, offset : float
        The map of step 3: candidate logit × slope + offset.
    code_slopes, code_offsets : float64 [codes]
        The maps of step 4, from the candidate's own logits.
    draws : int
        Of notes, behind the intervals.
    looked_at : str
        Of which notes this is, where it is not of all.
    """

    macro_f1: GapParts
    micro_f1: GapParts
    candidate_threshold: float
    reference_threshold: float
    slope: float
    offset: float
    code_slopes: PerCode
    code_offsets: PerCode
    draws: int
    looked_at: str = ""


def split_gap(
    aligned: AlignedRuns,
    candidate_threshold: float = 0.5,
    reference_threshold: float = 0.5,
    draws: int = 1000,
    seed: int = 0,
) -> GapSplit:
    """Split the macro and micro F1 gap of two aligned runs into the parts described above.

    For the tuned protocol give each run the threshold tuned on its own validation run.

    Raises
    ------
    ShifamindError
        A run without labels or with logits that are not finite, or a threshold that is no probability.
    """
    check_thresholds(np.array([candidate_threshold, reference_threshold]))
    candidate, reference = aligned.candidate, aligned.reference
    notes, codes = candidate.logits.shape
    step = -(-notes * codes // MOST_CELLS)
    looked_at = ""
    if step > 1:
        candidate, reference = (run.select(np.arange(0, notes, step)) for run in (candidate, reference))
        looked_at = f"Of {candidate.documents:,} of {notes:,} notes, spread evenly: the gap is theirs too."
    own, theirs = required_labels(candidate), required_labels(reference)
    refuse_non_finite(candidate)
    refuse_non_finite(reference)
    logits, target = candidate.logits.astype(np.float64), reference.logits.astype(np.float64)
    slope, offset = matching_map(logits.reshape(-1, 1), target.reshape(-1, 1))
    slopes, offsets = matching_map(logits, target)
    if np.array_equal(own, theirs):
        own = theirs
    at_candidate = at_reference = decisions(candidate.logits, reference_threshold)
    if candidate_threshold != reference_threshold:
        at_candidate = decisions(candidate.logits, candidate_threshold)
    steps = [
        (at_candidate, own),
        (at_candidate, theirs),
        (at_reference, theirs),
        (decisions(logits * slope + offset, reference_threshold), theirs),
        (decisions(logits * slopes + offsets, reference_threshold), theirs),
        (decisions(reference.logits, reference_threshold), theirs),
    ]
    # Steps that change nothing here are the same two arrays, and are drawn once.
    distinct = {(id(predicted), id(labels)): (predicted, labels) for predicted, labels in steps}
    place = [list(distinct).index((id(predicted), id(labels))) for predicted, labels in steps]
    drawn = draw_notes(list(distinct.values()), draws, seed)
    return GapSplit(
        macro_f1=_parts(drawn.macro_f1[place]),
        micro_f1=_parts(drawn.micro_f1[place]),
        candidate_threshold=candidate_threshold,
        reference_threshold=reference_threshold,
        slope=float(slope[0]),
        offset=float(offset[0]),
        code_slopes=slopes,
        code_offsets=offsets,
        draws=draws,
        looked_at=looked_at,
    )


def matching_map(logits: Logits, target: Logits) -> tuple[PerCode, PerCode]:
    """Slope and offset per column that give `logits` the mean and standard deviation of `target`.

    Where a column does not vary, the slope is 1: it is shifted only.

    >>> slopes, offsets = matching_map(np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]]))
    >>> slopes.tolist(), offsets.tolist()
    ([2.0], [1.0])
    """
    varies = logits.max(axis=0) > logits.min(axis=0)
    slope = np.divide(target.std(axis=0), logits.std(axis=0), out=np.ones(len(varies)), where=varies)
    return slope, target.mean(axis=0) - slope * logits.mean(axis=0)


def _parts(scores: Float64[np.ndarray, "steps draws"]) -> GapParts:
    return GapParts(estimate(scores[0] - scores[-1]), *(estimate(part) for part in scores[:-1] - scores[1:]))
