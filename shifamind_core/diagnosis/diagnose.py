"""From two runs to the causes of their difference, most likely first.

The examination undoes what it can name and looks again at what is left: values that are no logits, then the
scale, then the order of columns and rows, then calibration; what remains is located (some codes? some notes?)
and, where it is everywhere, told apart by its shape.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from shifamind_core.analysis.alignment import AlignedRuns, NothingInCommon, align
from shifamind_core.diagnosis import undo
from shifamind_core.diagnosis.evidence.manifests import Provenance, compare_manifests
from shifamind_core.diagnosis.exact import order
from shifamind_core.diagnosis.exact.labels import different_labels_finding, metric_finding
from shifamind_core.diagnosis.exact.stored_precision import REACH, Rungs
from shifamind_core.diagnosis.exact.subsets import InputLimits
from shifamind_core.diagnosis.findings import CAUSES, Cause, Finding, json_value, most_likely_first, ruled_out
from shifamind_core.diagnosis.hypotheses import Hypothesis, Observed, judge
from shifamind_core.diagnosis.narrow import compare_tokens, narrow, prior_odds
from shifamind_core.diagnosis.rest import CONFIRM, Known, examine_rest, sizes_table
from shifamind_core.diagnosis.undo import State
from shifamind_core.records import to_json
from shifamind_core.runs.run import Run


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The findings, most likely first, and what stands beside them.

    Attributes
    ----------
    findings : one a cause
    provenance : the manifests, compared
    hypotheses : a verdict on each way in which a GPU is said to change a score
    observed : how far the runs are apart; `None` where they could not be put side by side
    remarks : what was assumed to put them side by side
    """

    findings: tuple[Finding, ...]
    provenance: Provenance
    hypotheses: tuple[Hypothesis, ...]
    observed: Observed | None = None
    remarks: tuple[str, ...] = ()

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
    ladder: Rungs | None = None,
    reported: Mapping[str, float] | None = None,
) -> Diagnosis:
    """Why the two runs differ.

    Parameters
    ----------
    candidate, reference : Run
        Need not be aligned: notes are matched by id, codes by name, and where that fails by content.
    ladder : rungs, optional
        The error of each precision policy measured on this very model (`Ladder.rungs`). Without it the largest
        errors measured on other models stand in, and more stays `possible`.
    reported : mapping, optional
        Scores said to be the reference's, e.g. ``{"macro_f1@0.5": 0.2934}``; compared with what its logits and
        labels give.
    """
    rungs = tuple(ladder or ())
    provenance = compare_manifests(candidate.manifest, reference.manifest)
    try:
        aligned = align(candidate, reference)
    except NothingInCommon as problem:
        findings = conclude(_unaligned_findings(candidate, reference, problem, rungs))
        return Diagnosis(findings, provenance, judge(None, None, "", provenance), remarks=(str(problem),))
    odds = prior_odds(aligned.candidate, aligned.reference, provenance)
    state = examine(aligned.candidate, aligned.reference, rungs, odds)
    findings = [*_matching_findings(aligned), *_label_findings(aligned, state)]
    findings += [*_metric_findings(aligned, reported), *state.findings]
    if not state.findings and not state.pair.difference.any():
        findings = [*_equal_findings(state, any(finding.score >= 0.5 for finding in findings)), *findings]
    tokens = compare_tokens(aligned.candidate, aligned.reference, _changed_notes(state))
    concluded = conclude(narrow(best_of_each(findings), provenance, tokens))
    observed = _observed(aligned)
    numerics = next((finding for finding in concluded if finding.cause == "numerics"), None)
    hypotheses = judge(observed, numerics, concluded[0].cause, provenance, rungs)
    return Diagnosis(concluded, provenance, hypotheses, observed, aligned.remarks)


def _observed(aligned: AlignedRuns) -> Observed:
    pair = undo.start(aligned.candidate, aligned.reference).pair
    return Observed(pair.size, pair.largest, float(np.sqrt(np.mean(pair.spread**2))))


def _changed_notes(state: State) -> np.ndarray | None:
    """Which notes changed beyond rounding, if the rows stayed where they were."""
    if state.partner is not None:
        return None
    pair = undo.start(state.candidate, state.reference).pair
    return pair.note_size > REACH["tf32"]


def examine(
    candidate: Run, reference: Run, ladder: Rungs = (), odds: Mapping[Cause, float] | None = None
) -> State:
    """All signatures on two runs that are row by row the same notes, as far as anyone knows."""
    state = undo.start(candidate, reference)
    known = Known.of(state, ladder, input_limits(candidate, reference), odds)
    if not state.pair.difference.any():
        return state
    state = undo.undo_sigmoid(state)
    state = undo.undo_code_order(state)
    state = undo.undo_document_order(state)
    if state.partner is not None and not state.has("code_order"):
        state = undo.undo_code_order(state)  # codes stand out more clearly once the rows are right
    state = undo.undo_calibration(state)
    return examine_rest(state, known)


def best_of_each(findings: Iterable[Finding]) -> list[Finding]:
    """One finding a cause: the one that scores highest."""
    best: dict[str, Finding] = {}
    for finding in findings:
        if finding.cause not in best or finding.score > best[finding.cause].score:
            best[finding.cause] = finding
    return list(best.values())


def conclude(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Most likely first; `non_finite` first where nothing but rounding stands beside it, `unknown` if nothing does."""
    found = best_of_each(findings)
    if not any(finding.score > 0 for finding in found):
        found.append(
            Finding("unknown", "possible", 0.1, "Nothing found explains the difference.", CONFIRM["unknown"])
        )
    beside = [finding for finding in found if finding.cause not in ("non_finite", "numerics", "identical")]
    if all(finding.score < 0.5 for finding in beside):
        found = [
            finding.changed(score=0.9995) if finding.cause == "non_finite" else finding for finding in found
        ]
    return most_likely_first(_rounding_behind(found))


def _rounding_behind(findings: list[Finding]) -> list[Finding]:
    """Rounding stands behind every other cause that is likely or shown: it is beside each of them anyway."""
    others = [f.score for f in findings if f.cause not in ("numerics", "identical") and f.score >= 0.5]
    if not others:
        return findings
    first = [finding for finding in findings if finding.cause != "numerics"]
    last = [finding for finding in findings if finding.cause == "numerics"]
    behind = max(0.5, max(others) - 0.01)  # a likely one stays likely
    return [*first, *(finding.changed(score=min(finding.score, behind)) for finding in last)]


def _equal_findings(state: State, others: bool) -> list[Finding]:
    """All logits equal, or as far as stored probabilities tell; `others` says that labels or scores do differ."""
    score = 0.6 if others else 0.999
    pair = state.pair
    rounded = int((pair.candidate != pair.reference).sum())
    largest = float(np.abs(pair.candidate - pair.reference).max())
    evidence = {"documents": pair.documents, "codes": pair.codes, "largest_difference": largest}
    advice = "If reported scores differ, so do labels, the threshold or the metric's definition."
    identical = Finding(
        "identical",
        "possible" if rounded else "confirmed",
        0.45 if rounded else score,
        f"All {pair.candidate.size:,} logits are equal{', as far as can be told' if rounded else ''}. {advice}",
        "Score both runs with one command and one definition.",
        evidence,
        sizes_table(pair),
    )
    if not rounded:
        return [identical]
    told = (
        f"{rounded:,} logits differ, none by more than the rounding of the probabilities from which they were "
        f"made (at most {largest:.2g})."
    )
    storage = {"level": "fp32", "stored_as_probabilities": True, **evidence}
    rounding = Finding(
        "numerics", "likely", min(score, 0.95), told, "Save logits, not probabilities.", storage
    )
    return [rounding, identical]


def input_limits(candidate: Run, reference: Run) -> InputLimits:
    """What the manifests say of length, padding and architecture."""
    records = [run.manifest.tokenization for run in (candidate, reference)]
    checkpoints = [run.manifest.checkpoint for run in (candidate, reference)]
    lengths = [record.max_length if record else None for record in records]
    paddings = [record.padding if record else None for record in records]
    architecture = next((c.architecture for c in checkpoints if c is not None and c.architecture), None)
    return InputLimits((lengths[0], lengths[1]), (paddings[0], paddings[1]), architecture)


def _matching_findings(aligned: AlignedRuns) -> list[Finding]:
    """Notes or codes that only one run has, by their ids and names."""
    findings = []
    for cause, matching, things in (
        ("different_documents", aligned.documents, "notes"),
        ("different_codes", aligned.codes, "codes"),
    ):
        dropped = matching.dropped
        if any(dropped):
            share = max(dropped[0] / matching.candidate_size, dropped[1] / matching.reference_size)
            findings.append(
                Finding(
                    cause,  # type: ignore[arg-type]
                    "confirmed",
                    0.62 + 0.36 * share,
                    f"{dropped[0]:,} of the candidate's {matching.candidate_size:,} {things} and {dropped[1]:,} of the "
                    f"reference's {matching.reference_size:,} are not in the other run; {matching.matched:,} are compared.",
                    f"Export both runs over the same {things}.",
                    {
                        "shared": matching.matched,
                        "only_candidate": dropped[0],
                        "only_reference": dropped[1],
                    },
                )
            )
        elif not matching.assumed:
            findings.append(ruled_out(cause, f"All {matching.matched:,} {things} are in both runs."))  # type: ignore[arg-type]
    return findings


def _label_findings(aligned: AlignedRuns, state: State) -> list[Finding]:
    mine, theirs = aligned.candidate.labels, aligned.reference.labels
    if mine is None or theirs is None or aligned.labels_taken_from is not None:
        return []
    if state.partner is not None and len(state.partner) == len(mine):
        rows = np.flatnonzero(state.partner >= 0)
        moved = theirs[state.partner[rows]]
        if (mine[rows] != moved).sum() < (mine[rows] != theirs[rows]).sum():
            mine, theirs = mine[rows], moved  # the labels moved with the rows
    names = aligned.candidate.codes
    finding = different_labels_finding(mine, theirs, names, same_logits=not state.pair.size)
    if finding is None:
        return [ruled_out("different_labels", "All labels are equal.")]
    return [finding]


def _metric_findings(aligned: AlignedRuns, reported: Mapping[str, float] | None) -> list[Finding]:
    run = aligned.reference
    if not reported or run.labels is None:
        return []
    finding = metric_finding(run.logits, run.labels, reported, "reference")
    if finding is None:
        return [
            ruled_out(
                "metric_definition", "The reported scores follow from the reference's logits and labels."
            )
        ]
    return [finding]


def _unaligned_findings(
    candidate: Run, reference: Run, problem: NothingInCommon, ladder: Rungs
) -> list[Finding]:
    """Two runs that neither ids nor names bring together: look for shared content."""
    cause = "different_documents" if problem.what == "documents" else "different_codes"
    finding = Finding(cause, "confirmed", 0.98, str(problem), evidence={"shared": 0})
    if problem.what != "documents" or candidate.logits.shape[1] != reference.logits.shape[1]:
        return [finding]
    match = order.match_rows(*(undo.start(run, run).pair.candidate for run in (candidate, reference)))
    if match.found < 0.1:
        return [finding]
    rows = np.flatnonzero(match.partner >= 0)
    finding = finding.changed(
        explanation=(
            f"The runs hold other notes: by their logits, {len(rows):,} of the candidate's {candidate.documents:,} notes "
            f"are among the reference's {reference.documents:,}."
        ),
        how_to_confirm="Export document ids with the logits.",
        evidence={"shared": len(rows), "exact": match.exact},
    )
    common = [run.select(rows=part) for run, part in ((candidate, rows), (reference, match.partner[rows]))]
    return [finding, *examine(common[0], common[1], ladder).findings]


__all__ = ["CAUSES", "Diagnosis", "diagnose", "examine"]
