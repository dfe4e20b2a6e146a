"""Two runs side by side, measured once: what the features share, and what a straight line a code leaves of the change."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import rankdata

from shifamind_core.diagnosis.evidence import shapes
from shifamind_core.diagnosis.evidence.shapes import Matrix

SAMPLE = 4000  # notes: a share of variance is then known to ±0.01


class Measured:
    """A pair and the intermediate results that several features share, each computed once.

    `stored` is the variance [documents, codes] that the rounding of files leaves in each difference, infinite where nothing is
    known of it: there both runs hold the same.
    """

    def __init__(
        self,
        candidate: Matrix,
        reference: Matrix,
        token_counts: np.ndarray | None,
        stored: Matrix | None = None,
    ) -> None:
        self.known = None if stored is None else np.isfinite(stored)
        self.notes, self.codes = candidate.shape
        self.token_counts = token_counts
        self.difference = candidate - reference
        spread = np.sqrt((candidate.var(axis=0) + reference.var(axis=0)) / 2)
        flat = shapes.TINY * max(np.abs(candidate).max(), np.abs(reference).max(), 1e-300)
        live = spread > flat
        spread = np.where(live, spread, np.median(spread[live]) if live.any() else 1.0)
        self.relative = self.difference / spread
        rows = shapes.sample(candidate + reference, SAMPLE)
        self.runs = candidate[rows], reference[rows]
        self.change = self.relative[rows]
        self.spread = spread
        self.stored = np.zeros(self.codes)
        if stored is not None:
            counts = np.maximum(np.isfinite(stored).sum(axis=0), 1)
            self.stored = stored.sum(axis=0, where=np.isfinite(stored)) / counts / spread**2

    @cached_property
    def size(self) -> float:
        """Root mean square relative difference."""
        return float(self._root_mean_square(None))

    @cached_property
    def note_sizes(self) -> np.ndarray:
        return self._root_mean_square(1)

    @cached_property
    def code_sizes(self) -> np.ndarray:
        return self._root_mean_square(0)

    def _root_mean_square(self, axis: int | None) -> np.ndarray:
        """Of the relative differences that are known; 0 where none is."""
        squares = self.relative**2
        if self.known is None:
            return np.sqrt(squares.mean(axis=axis))
        counts = np.maximum(self.known.sum(axis=axis), 1)
        return np.sqrt(squares.sum(axis=axis, where=self.known) / counts)

    @cached_property
    def spreads(self) -> np.ndarray:
        """Standard deviations [2, codes]."""
        return np.stack([run.std(axis=0) for run in self.runs])

    @cached_property
    def scored(self) -> tuple[Matrix, Matrix]:
        return shapes.standard_scores(self.runs[0]), shapes.standard_scores(self.runs[1])

    @cached_property
    def apart(self) -> np.ndarray:
        """1 − r of every code [codes], exact where r is close to 1."""
        return ((self.scored[0] - self.scored[1]) ** 2).mean(axis=0) / 2

    @cached_property
    def rank_apart(self) -> np.ndarray:
        ranks = [shapes.standard_scores(rankdata(run, axis=0)) for run in self.runs]
        return ((ranks[0] - ranks[1]) ** 2).mean(axis=0) / 2

    @cached_property
    def correlations(self) -> tuple[np.ndarray, np.ndarray]:
        """Of codes with codes, in each run."""
        first, second = (scored.T @ scored / len(scored) for scored in self.scored)
        return first, second

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        return shapes.directions(self.scored[0]), shapes.directions(self.scored[1])

    @cached_property
    def coherence(self) -> float:
        return min(shapes.coherence(scored) for scored in self.scored)

    @cached_property
    def left(self) -> tuple["Left", "Left"]:
        """What a straight line a code leaves: of the candidate from the reference, and the other way."""
        return Left.of(self, 0), Left.of(self, 1)

    @cached_property
    def log_factors(self) -> np.ndarray:
        """log of the ratio of spreads, a code."""
        floor = shapes.TINY * max(self.spreads.max(), 1e-300)
        logs = np.log(np.maximum(self.spreads, floor))
        return logs[0] - logs[1]

    @cached_property
    def lengths(self) -> tuple[float, float]:
        """How well a length tells who changed: those above it, those below it. 1: without an error, 0: not at all."""
        if self.token_counts is None or not np.ptp(self.token_counts):
            return 0.0, 0.0
        logs = shapes.logs_of(self.note_sizes)
        return shapes.best_split(self.token_counts, logs), shapes.best_split(-self.token_counts, logs)


@dataclass(frozen=True, eq=False)
class Left:
    """What a straight line a code leaves of the target, and what the source says of it."""

    predicted: float = 0.0  # share that the source's other codes explain, adjusted for chance
    smooth: float = 0.0  # share that a smooth function of the source explains on notes left out
    slope_spread: float = 0.0
    farthest_slope: float = 1.0  # distance of the oddest slope from the others over the typical one's
    evenness: float = 1.0
    along: float = 1.0
    alike: float = 0.0
    scatter: float = 0.0
    tail: float = 3.0

    @classmethod
    def of(cls, pair: Measured, target: int) -> "Left":
        source = pair.scored[1 - target]
        y = pair.runs[target] - pair.runs[target].mean(axis=0)
        y = y / pair.spread
        live = (source**2).mean(axis=0) > 0
        slope = (source * y).mean(axis=0)
        left = y - source * slope
        size = np.sqrt((left**2).mean(axis=0))
        live &= size > shapes.TINY * max(float(size.max()), 1e-300)
        live &= size**2 > 2 * pair.stored  # else most of it is how files were rounded
        if live.sum() < 2 or float(size.max()) < shapes.TINY:
            return cls()
        scored = left[:, live] / size[live]
        from_others = np.abs(slope[live] - np.median(slope[live])) / size[live] * np.sqrt(len(left))
        values, vectors = np.linalg.eigh(pair.correlations[1 - target])
        kept = values > 1e-3
        amount = ((scored @ vectors[live][:, kept]) ** 2).mean(axis=0)
        note = np.sqrt((scored**2).mean(axis=1))
        return cls(
            predicted=shapes.predicted_share(left[:, live], pair.directions[1 - target], used=1),
            smooth=shapes.smooth_share(pair.scored[1 - target], scored),
            slope_spread=shapes.slope_spread(slope[live], size[live], len(left)),
            farthest_slope=shapes.beyond_typical(from_others, least=1.0),
            evenness=shapes.effective_rank(np.linalg.eigvalsh(scored.T @ scored / len(scored)))
            / shapes.effective_rank(values),
            along=shapes.exponent(values[kept], amount),
            alike=shapes.alike(source, scored),
            scatter=float(shapes.logs_of(note).std()),
            tail=float((scored**4).mean() / (note**4).mean()),
        )
