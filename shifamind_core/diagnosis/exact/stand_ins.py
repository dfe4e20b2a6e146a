"""What stands for a stored 0 or 1, once nothing exact explains it: how large those logits were, nobody knows."""

from dataclasses import replace

import numpy as np

from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.runs.probability import are_any_of, stand_in_values


def stand_ins_aside(examination: Examination) -> Examination:
    """The examination with every such cell set to the other run's value, and left open by the pair's tolerance."""
    return replace(examination, logits=aside(examination.logits, examination.evidence))


def aside(pair: Pair, evidence: Evidence) -> Pair:
    """The pair with stand-ins of one run as the other has them, those of both at the end of what is known; left open all."""
    values = [pair.candidate, pair.reference]
    standing = [
        are_any_of(
            logits, stand_in_values(run.logits, bool(run.manifest.logits_from_probabilities), run.ends)
        )
        for logits, run in zip(values, (evidence.candidate, evidence.reference), strict=True)
    ]
    either = standing[0] | standing[1]
    if not either.any() or either.all():
        return pair
    known = [logits[~either] for logits in values]
    low, high = min(one.min() for one in known), max(one.max() for one in known)
    both = standing[0] & standing[1]
    brought = [
        np.where(both, np.clip(own, low, high), np.where(stands, other, own))
        for own, other, stands in ((*values, standing[0]), (*values[::-1], standing[1]))
    ]
    tolerance = np.zeros(pair.candidate.shape) if pair.tolerance is None else pair.tolerance.copy()
    tolerance[either] = np.inf
    return pair.changed(candidate=brought[0], reference=brought[1], tolerance=tolerance)
