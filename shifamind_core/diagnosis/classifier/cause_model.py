"""Which cause a difference's features speak for: probabilities calibrated on models that the fit had not seen.

A softmax over spline functions of the features, fitted by `python -m simulation.fit` (docs/cause-model.md) and kept in
`cause_model.json`. What is known beside the logits (manifests, digests, ids) is added as log-odds.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64

FILE = Path(__file__).with_name("cause_model.json")


@dataclass(frozen=True, eq=False)
class Basis:
    """B-splines of one feature, as scikit-learn's `SplineTransformer(include_bias=False, extrapolation="constant")`.

    Attributes
    ----------
    name : of the feature
    knots : strictly increasing; beyond the first and the last the functions stay as they are there
    degree : of the pieces
    low, high : range of the feature in fitting, widened to the feature's own where beyond it nothing else begins
    """

    name: str
    knots: Float64[np.ndarray, " knots"]
    degree: int
    low: float
    high: float

    def values(self, x: Float64[np.ndarray, " rows"]) -> Float64[np.ndarray, "rows functions"]:
        """All functions but the last, which follows from the others: they add up to 1."""
        knots, degree = self.knots, self.degree
        before = knots[0] - (knots[1] - knots[0]) * np.arange(degree, 0, -1)
        after = knots[-1] + (knots[-1] - knots[-2]) * np.arange(1, degree + 1)
        t = np.concatenate([before, knots, after])
        x = np.clip(x, knots[0], knots[-1])[:, None]
        # The piece in which x lies; the last one holds its right end as well.
        piece = np.clip(np.searchsorted(knots, x[:, 0], side="right") - 1, 0, len(knots) - 2) + degree
        basis = (np.arange(len(t) - 1) == piece[:, None]).astype(float)
        for order in range(1, degree + 1):  # Cox and de Boor
            left = (x - t[: -order - 1]) / (t[order:-1] - t[: -order - 1])
            right = (t[order + 1 :] - x) / (t[order + 1 :] - t[1:-order])
            basis = left * basis[:, :-1] + right * basis[:, 1:]
        return basis[:, :-1]


@dataclass(frozen=True)
class Judgement:
    """What the model makes of one difference.

    Attributes
    ----------
    probabilities : of every cause, adding up to 1, most likely first
    outside : features beyond the range that the fit had seen: there the probabilities are no measurement
    """

    probabilities: Mapping[str, float]
    outside: tuple[str, ...]

    @property
    def cause(self) -> str:
        """The most likely one."""
        return next(iter(self.probabilities))


@dataclass(frozen=True)
class MeasuredRounding:
    """How far rounding moved one model's logits: root mean square over a code's standard deviation."""

    model: str
    level: str
    size: float
    source: str


@dataclass(frozen=True, eq=False)
class CauseModel:
    """The fitted model.

    Attributes
    ----------
    causes : in the order of the coefficients
    bases : one a feature
    coefficients, intercepts : [causes, functions of all features], [causes]
    temperature : by which scores are divided, so that probabilities are shares of right answers
    ladder : [2, knots], log10 of a difference over what a ladder on the same model measured, and the log-odds that it adds
        to rounding; straight lines between
    rounding : sizes of rounding measured on the fleet and on GPUs, for "as large in k of n measured models"
    digest : SHA-256 of the corpus that it was fitted to
    """

    causes: tuple[str, ...]
    bases: tuple[Basis, ...]
    coefficients: Float64[np.ndarray, "causes functions"]
    intercepts: Float64[np.ndarray, " causes"]
    temperature: float
    ladder: Float64[np.ndarray, "2 knots"]
    rounding: tuple[MeasuredRounding, ...]
    digest: str

    @property
    def names(self) -> tuple[str, ...]:
        """The features that it reads."""
        return tuple(basis.name for basis in self.bases)

    def scores(self, features: Mapping[str, float]) -> Float64[np.ndarray, " causes"]:
        """Log-odds up to a constant."""
        functions = np.concatenate(
            [basis.values(np.array([features[basis.name]], float))[0] for basis in self.bases]
        )
        return (self.coefficients @ functions + self.intercepts) / self.temperature

    def judge(self, features: Mapping[str, float], prior: Mapping[str, float] | None = None) -> Judgement:
        """Probabilities of the causes.

        Parameters
        ----------
        features : what `evidence.features.measure` gives
        prior : mapping, optional
            Log-odds by cause, of what is known beside the logits; 0 where a cause is not named.
        """
        prior = prior or {}
        scores = self.scores(features) + np.array([prior.get(cause, 0.0) for cause in self.causes])
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        ranked = sorted(zip(self.causes, shares.tolist(), strict=True), key=lambda item: -item[1])
        outside = [basis.name for basis in self.bases if not basis.low <= features[basis.name] <= basis.high]
        return Judgement(dict(ranked), tuple(outside))

    def beyond_ladder(self, beyond: float) -> float:
        """Log-odds of rounding, of a difference that is 10^`beyond` times what the ladder says two runs can be apart."""
        return float(np.interp(beyond, *self.ladder))

    def sizes(self, levels: Sequence[str]) -> list[float]:
        """How far rounding at any of these levels moved logits at most, one number a measured model."""
        largest: dict[str, float] = {}
        for found in self.rounding:
            if found.level in levels:
                largest[found.model] = max(found.size, largest.get(found.model, 0.0))
        return list(largest.values())


@lru_cache(maxsize=1)
def load() -> CauseModel:
    """The model that the product ships with."""
    return read(FILE)


def read(path: Path) -> CauseModel:
    """A model as `simulation.fit` writes it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return CauseModel(
        causes=tuple(content["causes"]),
        bases=tuple(
            Basis(item["name"], np.array(item["knots"], float), item["degree"], item["low"], item["high"])
            for item in content["bases"]
        ),
        coefficients=np.array(content["coefficients"], float),
        intercepts=np.array(content["intercepts"], float),
        temperature=content["temperature"],
        ladder=np.array([content["ladder"]["beyond"], content["ladder"]["log_odds"]], float),
        rounding=tuple(MeasuredRounding(**item) for item in content["rounding"]),
        digest=content["corpus"]["sha256"],
    )
