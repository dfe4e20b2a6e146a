"""Two runs brought to one grid: where one file holds few decimals and the other does not, the other is rounded alike.

Then both have the same resolution: what did not change is equal again, so that rows and columns can be found by their values,
and what did change is not mixed with the rounding of one side.
"""

from dataclasses import replace

import numpy as np
from scipy.special import expit

from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.exact.formats import SIDES, Format, Side, Stored, of_run
from shifamind_core.diagnosis.exact.stored_precision import given_by_rounding
from shifamind_core.runs.probability import logits_of
from shifamind_core.runs.run import Run


def on_one_grid(evidence: Evidence) -> tuple[Evidence, str] | None:
    """The evidence with the finer run rounded to the decimals of the other, and a sentence on that.

    `None` where neither run, or both alike, hold few decimals, where one holds scores on another scale, or none of FP32.
    """
    stored = [of_run(run) for run in evidence.whole]
    if any(one.logits.shape != run.logits.shape for one, run in zip(stored, evidence.whole, strict=True)):
        return None
    for place, side in enumerate(SIDES):
        if coarser(stored[place], stored[1 - place]):
            runs = list(evidence.whole)
            runs[1 - place] = _rounded(evidence, side, stored[place], stored[1 - place])
            alike = Evidence.of(runs[0], runs[1], evidence.ladder, evidence.reported)
            return alike, _told(side, stored[place])
    return None


def step_of(evidence: Evidence) -> str:
    """The decimals that the coarser file holds, in words; empty where neither holds few."""
    found = [stored.format for run in evidence.whole if (stored := of_run(run)).few_decimals]
    return max(found, key=lambda form: float(form.unit(np.ones(1))[0])).words if found else ""


def coarser(one: Stored, other: Stored) -> bool:
    """Does the first hold fewer decimals than the second, which can be rounded to them?"""
    if not one.few_decimals:
        return False
    if not other.few_decimals:
        return True
    alike = (one.scale, one.format.kind) == (other.scale, other.format.kind)
    return alike and one.format.places < other.format.places


def _rounded(evidence: Evidence, side: Side, stored: Stored, other: Stored) -> Run:
    """The other run as the file of this one would hold it: of probabilities, those of an FP32 sigmoid, as scripts export them.

    A score on the border between two numbers may have fallen to either, as FP32 arithmetic had it: where this run's number is
    one that rounding may give, it is taken.
    """
    place = SIDES.index(side)
    own, run = evidence.whole[place], evidence.whole[1 - place]
    scores = expit(run.logits.astype(np.float32)) if stored.scale == "probabilities" else run.logits
    values = _to_grid(stored.format, scores.astype(np.float64)).astype(own.logits.dtype)
    logits = logits_of(values)[0] if stored.scale == "probabilities" else values
    matched = evidence.aligned.documents, evidence.aligned.codes
    at = [np.ix_(*((m.candidate, m.reference)[which] for m in matched)) for which in (place, 1 - place)]
    given = given_by_rounding(_part(stored, at[0]), _part(other, at[1]))
    logits[at[1]] = np.where(given, own.logits[at[0]], logits[at[1]])
    manifest = replace(run.manifest, logits_from_probabilities=own.manifest.logits_from_probabilities)
    return replace(run, logits=logits, manifest=manifest)


def _to_grid(form: Format, values: np.ndarray) -> np.ndarray:
    if form.kind == "decimals":
        return np.round(values, form.places)
    unit = form.unit(values)
    return np.where(values == 0, 0.0, np.rint(values / unit) * unit)


def _part(stored: Stored, cells: tuple[np.ndarray, ...]) -> Stored:
    return replace(stored, logits=stored.logits[cells], values=stored.values[cells])


def _told(side: Side, stored: Stored) -> str:
    what = "probabilities" if stored.scale == "probabilities" else "scores"
    other = SIDES[1 - SIDES.index(side)]
    return (
        f"The {side}'s file holds {what} with {stored.format.words}, the {other}'s holds more: the {other}'s were rounded alike, "
        "so that both are compared at the same resolution."
    )
