"""Scores that somebody reported from elsewhere: what is known without the other run's logits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shifamind_core.analysis.bootstrap import score_intervals
from shifamind_core.analysis.thresholds import Evaluation
from shifamind_core.diagnosis.exact.stored_precision import level_of_policy
from shifamind_core.diagnosis.hypotheses import KINDS, Hypothesis
from shifamind_core.diagnosis.proof import Proof
from shifamind_core.runs.run import Run

# As `replay --reported` names them. Title → what it is.
SCORES: Mapping[str, str] = {
    "macro_f1@0.5": "Macro F1 @0.5",
    "micro_f1@0.5": "Micro F1 @0.5",
    "best_threshold": "Best threshold",
    "validation_micro_f1": "Validation micro F1 there",
    "tuned_macro_f1": "Macro F1, tuned",
    "tuned_micro_f1": "Micro F1, tuned",
}
# The seed's table: claims of its author, 17,266 notes and 50 codes, never measured here.
SEED_CLAIMS: Mapping[str, Mapping[str, float]] = {
    "H100": dict(zip(SCORES, (0.2934, 0.4210, 0.25, 0.5363, 0.4360, 0.5325), strict=True)),
    "A100": dict(zip(SCORES, (0.2169, 0.3717, 0.22, 0.4747, 0.3838, 0.4719), strict=True)),
    "L4": {"macro_f1@0.5": 0.1912, "best_threshold": 0.21, "validation_micro_f1": 0.4757},
}
FIXED = {"macro_f1": "macro_f1@0.5", "micro_f1": "micro_f1@0.5"}
TUNED = {"macro_f1": "tuned_macro_f1", "micro_f1": "tuned_micro_f1"}


@dataclass(frozen=True)
class ScoreAgainstClaim:
    """One score here and as reported.

    `half_width` is the 95 % sampling error of the score here (bootstrap over notes); `epsilon` the smallest change of
    a logit that reaches the reported one, `None` where none does or where no bound applies; `bounded` tells which.
    """

    name: str
    here: float | None
    there: float
    half_width: float | None = None
    epsilon: float | None = None
    bounded: bool = False

    @property
    def gap(self) -> float | None:
        """Here − there."""
        return None if self.here is None else self.here - self.there


def against_claims(
    run: Run,
    evaluation: Evaluation,
    reported: Mapping[str, float],
    fixed: Proof | None = None,
    tuned: Proof | None = None,
) -> tuple[ScoreAgainstClaim, ...]:
    """Every reported score beside this run's own, in the order of `SCORES`.

    Raises
    ------
    ShifamindError
        A run that cannot be scored.
    """
    widths = score_intervals(run, draws=200)
    sampling = {"macro_f1@0.5": widths.macro_f1.half_width, "micro_f1@0.5": widths.micro_f1.half_width}
    here = scores_here(evaluation)
    needs = {**_needs(FIXED, fixed), **_needs(TUNED, tuned)}
    return tuple(
        ScoreAgainstClaim(
            name, here.get(name), reported[name], sampling.get(name), needs.get(name), name in needs
        )
        for name in SCORES
        if name in reported
    )


def scores_here(evaluation: Evaluation) -> dict[str, float]:
    """An evaluation's scores under the names that are reported; tuned ones only where there is a validation run."""
    found = {"macro_f1@0.5": evaluation.fixed.macro_f1, "micro_f1@0.5": evaluation.fixed.micro_f1}
    if evaluation.tuned_threshold is not None and evaluation.tuned is not None:
        found |= {
            "best_threshold": evaluation.tuned_threshold.threshold,
            "validation_micro_f1": evaluation.tuned_threshold.micro_f1,
            "tuned_macro_f1": evaluation.tuned.macro_f1,
            "tuned_micro_f1": evaluation.tuned.micro_f1,
        }
    return found


def ranking_remark(claims: Iterable[ScoreAgainstClaim], slack: float = 0.01) -> str | None:
    """What the best micro F1 over thresholds says by itself: one monotone map of all scores cannot change it."""
    best = next((claim for claim in claims if claim.name == "validation_micro_f1"), None)
    if best is None or best.gap is None:
        return None
    if abs(best.gap) <= slack:
        return (
            f"The best micro F1 over thresholds agrees ({best.here:.4f} here, {best.there:.4f} there): what differs at 0.5 "
            "then looks like calibration, or like a threshold."
        )
    return (
        f"The best micro F1 over thresholds is {best.here:.4f} here and {best.there:.4f} there. One monotone change of all "
        "scores cannot move it: the order of notes and codes differs, not only their calibration."
    )


def judge_by_bound(proof: Proof) -> tuple[Hypothesis, ...]:
    """The five hypotheses where only scores are known: ruled out by the flip bound, or not."""
    needed = hardest(proof)
    return tuple(
        Hypothesis(kind.name, kind.title, *_verdict(kind.levels, kind.how, proof, needed)) for kind in KINDS
    )


def hardest(proof: Proof) -> float | None:
    """The largest ε that one of the targets needs: any smaller error cannot explain all of them. `None` is not known
    or, where no ε reaches a target, infinite."""
    epsilons = [math.inf if need.epsilon is None else need.epsilon for need in proof.needs]
    return max(epsilons, default=None)


def _verdict(
    levels: Sequence[str], how: str, proof: Proof, needed: float | None
) -> tuple[Literal["ruled_out", "possible"], str]:
    measured = {one.policy: one.epsilon for one in proof.policies if level_of_policy(one.policy) in levels}
    if not measured:
        return (
            "possible",
            f"It {how}. How far that moves a logit of this model, the precision ladder measures.",
        )
    policy, largest = max(measured.items(), key=lambda item: item[1])
    told = f"It {how}: at most {largest:.2g} in a logit, measured on this model ({policy})."
    if not needed:
        return "possible", f"{told} There is no gap to explain, or none was given."
    if math.isinf(needed):
        return "ruled_out", f"{told} No change of the logits whatever gives the reported scores."
    need = f"The gap needs {needed:.2g} in every decision at once"
    if largest < needed:
        return "ruled_out", f"{told} {need}, {needed / largest:,.0f} times that."
    return "possible", f"{told} {need}: the bound alone does not rule it out."


def _needs(names: Mapping[str, str], proof: Proof | None) -> dict[str, float | None]:
    return {} if proof is None else {names[need.metric]: need.epsilon for need in proof.needs}
