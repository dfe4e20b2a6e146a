"""From two runs to the causes of their difference, most likely first.

Run × Run → Evidence → exact matchers, each of which undoes what it explains → the cause model on what is left → findings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shifamind_core.analysis.alignment import NothingInCommon
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.answer import answer
from shifamind_core.diagnosis.classifier.cause_model import load
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.manifests import Provenance, compare_manifests
from shifamind_core.diagnosis.evidence.reach import largest_by_level
from shifamind_core.diagnosis.exact.labels import f1_at
from shifamind_core.diagnosis.exact.stand_ins import aside, within_a_step
from shifamind_core.diagnosis.exact.stored_precision_grid import on_one_grid, step_of
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed, json_value, ranked, ruled_out
from shifamind_core.diagnosis.hypotheses import Hypothesis, Observed, judge_hypotheses, moves
from shifamind_core.diagnosis.judge import judge_rest
from shifamind_core.diagnosis.matchers import examine, nothing_in_common
from shifamind_core.diagnosis.proof import hardest, prove
from shifamind_core.diagnosis.sample import sample
from shifamind_core.progress import doing
from shifamind_core.records import to_json
from shifamind_core.runs.run import Run

# Of the time it takes, for who waits: measured on 20,000 notes × 500 codes.
ALIGNED, EXAMINED = 0.02, 0.77


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The findings, most likely first, and what stands beside them.

    Attributes
    ----------
    findings : one a cause
    provenance : the manifests, compared
    hypotheses : a verdict on each way in which a GPU is said to change a score; empty where the runs share nothing
    observed : how far the runs are apart; `None` where they could not be put side by side
    remarks : what was assumed to put them side by side
    looked_at : at which part of the runs, where they are too large to be looked at whole; one of the remarks
    """

    findings: tuple[Finding, ...]
    provenance: Provenance
    hypotheses: tuple[Hypothesis, ...] = ()
    observed: Observed | None = None
    remarks: tuple[str, ...] = ()
    looked_at: str = ""

    @property
    def cause(self) -> str:
        """The best finding's cause."""
        return self.findings[0].cause

    def finding(self, cause: str) -> Finding | None:
        """The finding on one cause."""
        return next((finding for finding in self.findings if finding.cause == cause), None)

    def to_json(self) -> dict[str, Any]:
        """What `python -m shifamind_core diagnose --json` prints."""
        return {
            "answer": answer(self.findings, self.hypotheses, None).sentence,
            "cause": self.cause,
            "findings": [finding.to_json() for finding in self.findings],
            "differences": [
                {**json_value(to_json(difference)), "sentence": difference.sentence}
                for difference in self.provenance.differences
            ],
            "hypotheses": [to_json(hypothesis) for hypothesis in self.hypotheses],
            "observed": None if self.observed is None else to_json(self.observed),
            "remarks": list(self.remarks),
        }


def diagnose(
    candidate: Run,
    reference: Run,
    ladder: Ladder | None = None,
    reported: Mapping[str, float] | None = None,
) -> Diagnosis:
    """Why the two runs differ.

    Parameters
    ----------
    candidate, reference : Run
        Need not be aligned: notes are matched by id or content, codes by name, and where that fails by content.
    ladder : Ladder, optional
        The error of each precision policy measured on this very model. Without it rounding is never ruled out.
    reported : mapping, optional
        Scores said to be the reference's, e.g. ``{"macro_f1@0.5": 0.2934}``; compared with what its logits and labels give.

    Of runs that are too large the same part of both is looked at, and the remarks say so (`sample`).
    """
    manifests = compare_manifests(candidate.manifest, reference.manifest)
    candidate, reference, part = sample(candidate, reference)
    said, looked_at = ((), "") if part is None else ((part,), part)
    try:
        with doing("notes and codes side by side", 0.0, ALIGNED):
            evidence = Evidence.of(candidate, reference, ladder, reported)
    except NothingInCommon as problem:
        remarks = (*said, str(problem))
        return Diagnosis((nothing_in_common(problem),), manifests, remarks=remarks, looked_at=looked_at)
    with doing("", ALIGNED, EXAMINED):
        begun, examination = examine(evidence)
    alike = None if _as_saved(examination) else on_one_grid(evidence)
    if alike is not None:
        evidence, rounded = alike
        said = (*said, rounded)
        with doing("", EXAMINED, EXAMINED):
            begun, examination = examine(evidence)
    pair, needed = aside(begun.logits, evidence), _needed(evidence)
    observed = Observed(pair.size, pair.largest, float(np.sqrt(np.mean(pair.spread**2))))
    nothing = _nothing_known(examination) and within_a_step(begun.logits, evidence)
    identical, step = not begun.logits.largest or nothing, step_of(evidence)
    examination = examination.noted(*_on_rounding(examination, observed, needed, identical, step))
    with doing("the shape of the difference", EXAMINED, 1.0):
        findings = ranked(judge_rest(examination).findings)
    hypotheses = judge_hypotheses(
        evidence, observed, findings, examination.explained, needed, load().sizes, step
    )
    remarks = (*said, *evidence.aligned.remarks)
    return Diagnosis(findings, manifests, hypotheses, observed, remarks, looked_at)


def _as_saved(examination: Examination) -> bool:
    """Do the files as they stand say enough: rounding one gives every score of the other, or something else explains all?"""
    found = {finding.cause for finding in examination.findings if finding.status != "ruled_out"}
    if found == {"stored_precision"}:
        return all(run.documents == examination.logits.documents for run in examination.evidence.whole)
    return examination.explained and "stored_precision" not in found


def _nothing_known(examination: Examination) -> bool:
    """Is nothing found, and no difference left but of scores of which a file says too little?"""
    return examination.explained and all(finding.status == "ruled_out" for finding in examination.findings)


def _needed(evidence: Evidence) -> float | None:
    """The flip bound's ε for the gap in F1 at 0.5: the smallest change of every logit that reaches the other score.

    Only where a ladder was measured, which it is held against; `None` too where nothing can be scored.
    """
    runs = evidence.candidate, evidence.reference
    if evidence.ladder is None or any(run.labels is None or run.non_finite for run in runs):
        return None
    assert evidence.reference.labels is not None
    targets = f1_at(evidence.reference.logits, evidence.reference.labels)
    return hardest(prove(evidence.candidate, targets, {}, reported=False))


def _on_rounding(
    examination: Examination, observed: Observed, needed: float | None, identical: bool, step: str
) -> list[Finding]:
    """What equal bits or the flip bound say of rounding, and whether the runs are identical.

    Scores that are equal in a file of few decimals (`step`) may have differed by less: that rules nothing out.
    """
    exact = (
        "equal bit by bit" if examination.logits.tolerance is None else "equal as far as stored values tell"
    )
    if identical:
        beside = any(finding.status == "confirmed" for finding in examination.findings)
        broken = examination.finding("non_finite") is not None
        told = f"All {examination.logits.documents:,} × {examination.logits.codes} scores{' that are numbers in both runs' * broken} are {exact}."
        share = 0.0 if beside else 1.0  # what else differs stands before it
        notes = examination.logits.documents
        in_part = any(run.documents > notes for run in examination.evidence.whole)
        meaning = f"On the {notes:,} notes that both runs hold, neither the model nor the machine made a difference."
        equal = confirmed("identical", told, share=share, meaning=meaning * in_part)
        return [equal] if step else [equal, ruled_out("numerics", told)]
    if examination.explained:
        told = f"Once what was found is undone, all scores are {exact}."
        return [] if step else [ruled_out("numerics", told)]
    ladder = largest_by_level(examination.evidence.ladder)
    moved = moves(ladder, ladder, own=None)
    if moved is None or not needed or needed <= moved:
        return []
    need = (
        "no change of the scores gives"
        if math.isinf(needed)
        else f"a change of {needed:.2g} in every score is needed for"
    )
    told = f"By the flip bound {need} the other run's F1; rounding moves no score of this model by more than {moved:.2g}, both runs taken together (measured by the ladder)."
    return [ruled_out("numerics", told, needed=needed, measured=moved)]
