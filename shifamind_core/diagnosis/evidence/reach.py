"""How far rounding reaches: measured on this very model by its ladder, or on the models measured before."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.levels import (
    LEVELS,
    Level,
    Sizes,
    coarser,
    level_of_manifest,
    level_of_policy,
)


@dataclass(frozen=True)
class Reach:
    """Rounding's size on this model or on others.

    Attributes
    ----------
    rms : float, optional
        Measured here: the root mean square, in logits, by which rounding can part these two runs; `None` without a ladder.
    largest : mapping of level to float
        Measured here: the largest difference from FP64 in a logit.
    others : sequence of float
        Sizes on other measured models at the allowed levels, relative to the spread of their logits.
    by_level : sequences of float
        The same at each level alone.
    allowed : level, optional
        The coarsest precision that both manifests vouch for; `None` where they do not say.
    """

    rms: float | None = None
    largest: Mapping[Level, float] = field(default_factory=dict)
    others: Sequence[float] = ()
    by_level: Sequence[Sequence[float]] = ()
    allowed: Level | None = None

    @classmethod
    def of(cls, evidence: Evidence, sizes: Sizes) -> "Reach":
        """From the ladder where there is one, and the sizes measured on other models (`CauseModel.sizes`)."""
        candidate, reference = evidence.whole
        ours = level_of_manifest(candidate.manifest)
        theirs = level_of_manifest(reference.manifest)
        allowed = None if ours is None or theirs is None else coarser(ours, theirs)
        within: Sequence[Level] = LEVELS if allowed is None else LEVELS[: LEVELS.index(allowed) + 1]
        rms = _rms_of(evidence.ladder, within)
        # Both runs may err, independently of each other.
        return cls(
            None if rms is None else math.sqrt(2) * rms,
            largest_by_level(evidence.ladder),
            sizes(within),
            [sizes([level]) for level in LEVELS],
            allowed,
        )

    @property
    def measured(self) -> bool:
        """Was it measured on this model?"""
        return self.rms is not None

    def reached(self, size: float) -> int:
        """On how many other models rounding was this large, relative to the spread of their logits."""
        return _reached(size, self.others)

    def log_odds(self, logits: Pair, beyond_ladder: Callable[[float], float]) -> float:
        """Added to the cause model's log-odds of rounding.

        Parameters
        ----------
        beyond_ladder : callable
            Fitted log-odds by how far (log10) a difference lies beyond what a ladder measured (`CauseModel.beyond_ladder`).
        """
        if self.rms:
            return beyond_ladder(math.log10(logits.rms / self.rms))
        return self.vouched(logits.size)

    def vouched(self, size: float) -> float:
        """Log-odds of rounding of this size, relative to the logits' spread, by the precision that manifests vouch for."""
        if self.allowed is None:
            return 0.0
        # The cause model expects any level. Those that manifests vouch for say how much likelier, or rarer, so large a size is.
        anywhere = fmean(_share(size, sizes) for sizes in self.by_level)
        return math.log(_share(size, self.others) / anywhere)

    def told(self, logits: Pair) -> str:
        """The measurement in a sentence."""
        if self.rms is not None:
            return f"Rounding parts two runs of this model by up to {self.rms:.2g} (measured here by the precision ladder)."
        return f"Rounding was this large on {self.reached(logits.size)} of {len(self.others)} models measured before."


def _reached(size: float, sizes: Sequence[float]) -> int:
    return sum(other >= size for other in sizes)


def _share(size: float, sizes: Sequence[float]) -> float:
    """Of models on which rounding was this large, by Laplace's rule."""
    return (_reached(size, sizes) + 1) / (len(sizes) + 1)


def largest_by_level(ladder: Ladder | None) -> dict[Level, float]:
    """Largest difference of a logit from FP64 by level, over the policies of that level."""
    found: dict[Level, float] = {}
    for policy, error in (ladder.measured() if ladder else {}).items():
        level = level_of_policy(policy)
        if level is not None:
            found[level] = max(found.get(level, 0.0), error)
    return found


def _rms_of(ladder: Ladder | None, levels: Sequence[Level]) -> float | None:
    sizes = [
        rung.rms
        for rung in (ladder.rungs if ladder else ())
        if rung.rms is not None and level_of_policy(rung.policy) in levels
    ]
    return max(sizes, default=None)
