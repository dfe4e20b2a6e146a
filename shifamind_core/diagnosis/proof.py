"""The proof panel: what rounding can and cannot do to F1, against what the gap needs. NumPy only."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from shifamind_core.analysis.flip_bound import F1Ranges, FlipBound, MinMax, flip_bound
from shifamind_core.analysis.flip_search import LargeFlipBound
from shifamind_core.analysis.thresholds import SEED_GRID
from shifamind_core.analysis.tuned_bound import TunedFlipBound
from shifamind_core.arrays import Thresholds
from shifamind_core.runs.run import Run

ROUNDING = 5e-5  # a score reported with four decimals may be this much nearer than it reads
POINTS, TUNED_POINTS = 160, 32  # of the curves
MOST_CELLS = 1 << 22  # of a run whose margins are sorted all at once, at some 50 bytes each


@dataclass(frozen=True)
class Need:
    """The smallest change of a logit, in every decision at once, that could turn one score into another.

    `epsilon` is `None` where no change whatever could.
    """

    metric: str
    here: float
    there: float
    epsilon: float | None


@dataclass(frozen=True)
class PolicyRange:
    """What one policy's measured largest error could do to F1 at worst and at best."""

    policy: str
    epsilon: float
    macro_f1: tuple[float, float]
    micro_f1: tuple[float, float]


@dataclass(frozen=True, eq=False)
class TunedCurve:
    """F1 ranges of the tuned protocol for several ε; the last axis is (minimum, maximum)."""

    epsilons: Float64[np.ndarray, " epsilons"]
    macro_f1: MinMax
    micro_f1: MinMax


@dataclass(frozen=True, eq=False)
class Proof:
    """Curves of the F1 range against ε, the measured errors, the needed ε and the verdict in one sentence.

    `threshold` is `None` where it is tuned on validation, and so may itself move. `sentences` has the verdict on each score
    alone, by its name; `sentence` is about the one that is hardest to reach.
    """

    threshold: float | None
    curve: F1Ranges | TunedCurve
    policies: tuple[PolicyRange, ...]
    needs: tuple[Need, ...]
    excluded: bool | None
    sentence: str
    sentences: Mapping[str, str]


def prove(
    run: Run,
    targets: Mapping[str, float],
    measured: Mapping[str, float],
    threshold: float = 0.5,
    reported: bool = True,
) -> Proof:
    """Can the measured errors turn this run's scores into the targets?

    Parameters
    ----------
    targets : mapping
        `macro_f1` and/or `micro_f1` of the other run, at the same threshold. Where `reported`, they are taken as
        rounded to four decimals: the nearest value that rounds to them is what must be reached.
    measured : mapping
        Policy name to the largest difference of a logit from FP64, on this model and machine (`Ladder.measured`).
    """
    bound = flip_bound(run, threshold) if run.logits.size <= MOST_CELLS else LargeFlipBound(run, threshold)
    here = {"macro_f1": bound.macro_f1, "micro_f1": bound.micro_f1}
    needs = tuple(_need(bound, name, here[name], there, reported) for name, there in targets.items())
    epsilons = _axis(measured.values(), [need.epsilon for need in needs], bound.largest_margin)
    ladder = sorted(measured.items(), key=lambda m: m[1])
    policies: tuple[PolicyRange, ...] = ()
    if ladder:
        found = bound.f1_ranges(np.array([epsilon for _, epsilon in ladder]))
        ranges = zip(ladder, found.macro_f1.tolist(), found.micro_f1.tolist(), strict=True)
        policies = tuple(
            PolicyRange(name, epsilon, (macro[0], macro[1]), (micro[0], micro[1]))
            for (name, epsilon), macro, micro in ranges
        )
    reach = with_own(measured, run)
    excluded = _excluded(needs, reach)
    said = _sentences(needs, reach)
    return Proof(threshold, bound.f1_ranges(epsilons), policies, needs, excluded, *said)


def prove_tuned(
    validation: Run,
    test: Run,
    targets: Mapping[str, float],
    measured: Mapping[str, float],
    grid: Thresholds = SEED_GRID,
    reported: bool = True,
) -> Proof:
    """The same for scores at the threshold that `validation` tunes: ε moves the logits of both runs, and with them
    the threshold. The ranges are sound, and exact while 2ε is less than the spacing of the grid in logits. Of large runs they are
    known for ε up to some size (`TunedFlipBound.reach`), and where that does not reach a target, it stands for the ε needed.

    Parameters
    ----------
    targets : mapping
        `macro_f1` and/or `micro_f1` of the other run at its own tuned threshold.
    """
    bound = TunedFlipBound(validation, test, grid)
    now = bound.f1_range(0.0)
    here = {"macro_f1": now.macro_f1[0], "micro_f1": now.micro_f1[0]}
    needs = tuple(_need(bound, name, here[name], there, reported) for name, there in targets.items())
    largest = max(map(abs, test.ends))
    epsilons = _axis(measured.values(), [need.epsilon for need in needs], largest, points=TUNED_POINTS)
    epsilons = np.unique(np.minimum(epsilons, bound.reach))
    ranges = [bound.f1_range(float(epsilon)) for epsilon in epsilons]
    curve = TunedCurve(
        epsilons, np.array([r.macro_f1 for r in ranges]), np.array([r.micro_f1 for r in ranges])
    )
    policies = tuple(
        _policy_range(bound, name, epsilon)
        for name, epsilon in sorted(measured.items(), key=lambda m: m[1])
        if epsilon <= bound.reach
    )
    reach = with_own(measured, test)
    excluded = _excluded(needs, reach)
    sentence, sentences = _sentences(needs, reach, "tuned ")
    if bound.reach < np.inf:
        sentence += (
            f" In runs of this size the tuned bound is searched for changes of up to {bound.reach:.2g}."
        )
    return Proof(None, curve, policies, needs, excluded, sentence, sentences)


def hardest(proof: Proof) -> float | None:
    """The largest ε that one of the targets needs: any smaller error cannot explain all of them. `None` is not known
    or, where no ε reaches a target, infinite."""
    epsilons = [math.inf if need.epsilon is None else need.epsilon for need in proof.needs]
    return max(epsilons, default=None)


def with_own(measured: Mapping[str, float], run: Run) -> dict[str, float]:
    """How far a score of the run may lie from one computed under each policy: that policy's error and the run's own.

    Errors are measured against FP64, and both runs have one. A run that does not say its policy may have the largest.
    """
    policy = run.manifest.policy.name if run.manifest.policy else None
    own = measured.get(policy or "", max(measured.values(), default=0.0))
    return {name: error + own for name, error in measured.items()}


def _need(
    bound: FlipBound | LargeFlipBound | TunedFlipBound, name: str, here: float, there: float, reported: bool
) -> Need:
    slack = ROUNDING if reported else 0.0
    nearest = min(max(here, there - slack), there + slack)
    epsilon = 0.0 if nearest == here else bound.smallest_epsilon(**{name: nearest})
    return Need(name, here, there, epsilon)


def _policy_range(bound: TunedFlipBound, name: str, epsilon: float) -> PolicyRange:
    found = bound.f1_range(epsilon)
    return PolicyRange(name, epsilon, found.macro_f1, found.micro_f1)


# Where the axis of errors may begin: a score at the threshold needs hardly any. FP32 logits of 0.01 lie 1e-9 apart.
LEAST = 1e-9


def _axis(
    measured: Iterable[float], needed: Iterable[float | None], largest: float, points: int = POINTS
) -> Float64[np.ndarray, " epsilons"]:
    """Logarithmic, from below the smallest error to beyond what is needed."""
    marks = [value for value in (*measured, *needed) if value and value > LEAST]
    low = min([*marks, 1e-3]) / 10
    high = min(max([*marks, 0.1]) * 4, max(largest, 0.1))
    return np.geomspace(low, max(high, low * 10), points)


def _excluded(needs: Sequence[Need], measured: Mapping[str, float]) -> bool | None:
    """`True`: no measured policy reaches what is needed; `None`: nothing was measured, or nothing is needed."""
    if not measured or not needs:
        return None
    largest = max(measured.values())
    return any(need.epsilon is None or need.epsilon > largest for need in needs)


def _sentences(
    needs: Sequence[Need], measured: Mapping[str, float], protocol: str = ""
) -> tuple[str, dict[str, str]]:
    """The verdict on all scores together, and on each alone."""

    def said(some: Sequence[Need]) -> str:
        return _sentence(some, measured, _excluded(some, measured), protocol)

    return said(needs), {need.metric: said([need]) for need in needs}


def _sentence(
    needs: Sequence[Need], measured: Mapping[str, float], excluded: bool | None, protocol: str = ""
) -> str:
    if not needs:
        return "Give a reference run or the scores reported elsewhere: then this says which error a logit would need."
    hardest = max(needs, key=lambda need: np.inf if need.epsilon is None else need.epsilon)
    step = f"{protocol}{hardest.metric.replace('_f1', ' F1')} {hardest.here:.4f} → {hardest.there:.4f}"
    if hardest.epsilon == 0:
        return f"{_capital(step)}: the scores agree within their rounding, there is no gap to explain."
    if hardest.epsilon is None:
        need = f"{step} cannot be reached by any change of these logits under these labels"
        return f"{_capital(need)}: the notes, the labels or the metric differ."
    need = f"{step} needs at least {hardest.epsilon:.2g} in every decision at once"
    if not measured:
        return (
            f"{_capital(need)}. Run the precision ladder to see how far rounding moves this model's logits."
        )
    name, largest = max(measured.items(), key=lambda item: item[1])
    fine = {policy: error for policy, error in measured.items() if error < hardest.epsilon}
    if excluded:
        return (
            f"{name}, the coarsest policy measured, parts two runs by at most {largest:.2g} in a logit here; {need}. "
            "Rounding cannot explain this gap."
        )
    if fine:
        known, error = max(fine.items(), key=lambda item: item[1])
        return (
            f"{known} parts two runs by at most {error:.2g} in a logit here; {need}. {known} and finer cannot explain this gap; "
            f"{name} reaches {largest:.2g}, so the bound alone does not rule it out: see the sampled range."
        )
    return (
        f"{_capital(need)}, and every policy measured reaches more (up to {largest:.2g}). The bound, which lets every "
        "error be the worst one, rules nothing out: see the sampled range."
    )


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
