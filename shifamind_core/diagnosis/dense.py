"""When nearly every logit changed: what the shape of the change says about where it came from.

Dropout, other inputs and other weights all move every logit by a sizeable part of its spread. What tells them
apart, on real models, is how the change hangs together:

* **Other weights** act alike on every note, so the change can be predicted from the note's other logits.
* **Noise** inside the model (dropout, rounding) cannot be predicted, and comes from many hidden units at once:
  over the codes it spreads more evenly than logits themselves do.
* **Other input** is another note: it cannot be predicted either, but moves the logits along the very
  directions along which notes differ. Where a note's input did not change, nothing does.
* **A head that was not loaded** reads the same hidden states: nothing correlates code by code, yet all of it
  can be predicted. **An encoder that was not loaded** leaves logits that hardly vary and predict nothing.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from shifamind_core.diagnosis.findings import Cause
from shifamind_core.diagnosis.pair import FLAT, Matrix, Pair, standard_scores

SAMPLE = 6000  # notes: a share of variance is then known to ±0.01


@dataclass(frozen=True)
class Shape:
    """Scale-free statistics of a dense change. Medians are over codes.

    Attributes
    ----------
    notes, codes : how many they rest on
    size : root mean square difference in spreads
    correlation : median r of a code's logits in both runs
    predicted : share of what one straight line a code leaves that the other codes' logits predict (adjusted R²)
    predicted_change : the same of the whole change
    offset : median |mean change| over root mean square change
    slope_spread : standard deviation over codes of the slopes, over the relative size of what they leave
    evenness : effective number of directions of the unpredicted change over that of the logits
    along : exponent with which the change grows along the logits' own directions (1: like another note)
    spread_ratio : median ratio of the candidate's to the reference's spread
    unevenness : standard deviation over notes of log |change|
    """

    notes: int
    codes: int
    size: float
    correlation: float
    predicted: float
    predicted_change: float
    offset: float
    slope_spread: float
    evenness: float
    along: float
    spread_ratio: float
    unevenness: float

    def numbers(self) -> dict[str, Any]:
        """As evidence."""
        return asdict(self)


def shape_of(pair: Pair) -> Shape:
    """Measure the shape. Prediction is tried in both directions and the smaller share kept.

    A clean run predicts a noisy one no better with all codes than with one; the other way round the noise
    averages out over codes, and looks like prediction.
    """
    pair = pair.sampled(SAMPLE)
    forward, backward = _residual(pair.candidate, pair.reference), _residual(pair.reference, pair.candidate)
    best = min(forward, backward, key=lambda residual: residual.predicted)
    change = pair.difference
    centred = change - change.mean(axis=0)
    root = np.sqrt((change**2).mean(axis=0))
    spreads = pair.spreads
    note = pair.note_size
    return Shape(
        notes=pair.documents,
        codes=pair.codes,
        size=pair.size,
        correlation=float(np.median(pair.correlation)),
        predicted=best.predicted,
        predicted_change=min(
            _predicted_share(centred, _directions(matrix)) for matrix in (pair.reference, pair.candidate)
        ),
        offset=float(np.median(np.abs(change.mean(axis=0)) / np.where(root > 0, root, 1))),
        slope_spread=best.slope_spread,
        evenness=best.evenness,
        along=best.along,
        spread_ratio=float(np.median(spreads[0] / np.where(spreads[1] > FLAT, spreads[1], 1))),
        unevenness=float(np.log(np.maximum(note, note.max() * 1e-3)).std()) if note.max() else 0.0,
    )


def predictability(pair: Pair) -> float:
    """Share of the candidate's variance that all of the reference's codes predict together (adjusted R²)."""
    pair = pair.sampled(SAMPLE)
    return _predicted_share(pair.candidate - pair.candidate.mean(axis=0), _directions(pair.reference))


@dataclass(frozen=True)
class _Residual:
    predicted: float
    slope_spread: float
    evenness: float
    along: float


def _residual(target: Matrix, source: Matrix) -> _Residual:
    """What a straight line a code from source to target leaves, and how it hangs together."""
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    variance = (x**2).mean(axis=0)
    slope = (x * y).mean(axis=0) / np.where(variance > FLAT, variance, 1)
    left = y - slope * x
    size = left.std(axis=0)
    live = (size > 1e-9 * max(float(size.max()), FLAT)) & (variance > FLAT)
    if live.sum() < 2:
        return _Residual(0.0, 0.0, 1.0, 1.0)
    scored = left[:, live] / size[live]
    relative = np.median(size[live] / np.sqrt(variance[live]))
    values, vectors = np.linalg.eigh(_correlation(standard_scores(source)[:, live]))
    kept = values > 1e-3
    along = ((scored @ vectors[:, kept]) ** 2).mean(axis=0)
    return _Residual(
        predicted=_predicted_share(left[:, live], _directions(source), used=1),
        slope_spread=float(slope[live].std() / max(relative, 1e-12)),
        evenness=_effective_rank(np.linalg.eigvalsh(_correlation(scored))) / _effective_rank(values),
        along=_exponent(values[kept], along),
    )


def _correlation(scored: Matrix) -> np.ndarray:
    return scored.T @ scored / len(scored)


def _directions(matrix: Matrix) -> Float64[np.ndarray, "documents directions"]:
    """Principal components of the notes' standard scores, each of unit variance; few where notes are few."""
    scored = standard_scores(matrix)
    values, vectors = np.linalg.eigh(_correlation(scored))
    most = max(1, min(matrix.shape[1], len(matrix) // 5))
    kept = np.argsort(-values)[:most]
    kept = kept[values[kept] > 1e-6]
    return scored @ (vectors[:, kept] / np.sqrt(values[kept]))


def _predicted_share(
    target: Matrix, directions: Float64[np.ndarray, "documents directions"], used: int = 0
) -> float:
    """Median over codes of the share of variance that a linear fit explains, adjusted for chance."""
    notes, parameters = directions.shape
    variance = (target**2).mean(axis=0)
    live = variance > 0
    if not live.any() or notes <= parameters + 2:
        return 0.0
    explained = ((directions.T @ target[:, live] / notes) ** 2).sum(axis=0) / variance[live]
    chance = (notes - 1 - used) / (notes - 1 - parameters)
    return float(np.median(1 - (1 - explained) * chance))


def _effective_rank(eigenvalues: np.ndarray) -> float:
    """Participation ratio: 1 for one direction, n for n equal ones."""
    return float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


def _exponent(values: np.ndarray, along: np.ndarray) -> float:
    if len(values) < 3 or np.ptp(np.log(values)) < 0.1:
        return 1.0
    return float(np.polyfit(np.log(values), np.log(np.maximum(along, 1e-12)), 1)[0])


# Where the shapes of real models part (two architectures, well- and ill-conditioned, 1,600 notes each; see
# docs/diagnosis.md): the value at which evidence turns, and how far from it a vote counts one.
PREDICTED = (0.075, 0.025)  # dropout ≤ 0.02, other input ≤ 0.06, other weights ≥ 0.09
SLOPE_SPREAD = (0.085, 0.02)  # dropout ≤ 0.08, other weights ≥ 0.10
EVENNESS = (1.42, 0.2)  # other input ≤ 1.4, dropout ≥ 1.5
ALONG = (0.62, 0.1)  # dropout ≤ 0.65, other input ≥ 0.65
LAWFUL = (0.33, 0.06)  # rounding ≤ 0.25, neighbouring checkpoints ≥ 0.5
LINKED = (0.45, 0.08)  # |r| of anything that still reads the same notes with the same head
READABLE = (0.5, 0.1)  # prediction across codes with another head ≥ 0.85, without the encoder ≤ 0.04
QUIET = (0.12, 0.3)  # spread ratio of an encoder that was not loaded ≤ 0.04, of a head ≥ 0.27 (logarithmic)
POPULATION = (0.3, 0.08)  # offset of other notes ≤ 0.1, of another head or encoder ≥ 0.7


def vote(value: float, turn: tuple[float, float], most: float = 3.0) -> float:
    """Evidence in a value: 0 where it turns, ±1 one width beyond, never more than `most`."""
    centre, width = turn
    return float(np.clip((value - centre) / width, -most, most))


def odds_of_rounding(shape: Shape, size: float, limit: float) -> float:
    """Logit of the probability that a dense change is rounding, by its size and its lawfulness.

    A factor of 1.5 in size counts one. A change that other codes predict better than rounding ever was loses.
    """
    by_size = float(np.clip(np.log(limit / max(size, 1e-12)) / np.log(1.5), -6, 6))
    return by_size - max(0.0, vote(max(shape.predicted, shape.predicted_change), LAWFUL, 4.0))


def shares_of_linked(shape: Shape) -> dict[Cause, float]:
    """Probabilities of dropout, other input and other weights, if the runs still read the same notes alike."""
    lawful = vote(shape.predicted, PREDICTED)
    like_notes = float(np.clip(vote(shape.along, ALONG) - vote(shape.evenness, EVENNESS), -3, 3))
    return _softmax(
        {
            "dropout_active": -like_notes - lawful - max(0.0, vote(shape.slope_spread, SLOPE_SPREAD)),
            "input_changed": like_notes - lawful,
            "weights_changed": lawful,
        }
    )


def shares_of_unlinked(shape: Shape) -> dict[Cause, float]:
    """Probabilities of what leaves no correlation code by code."""
    readable = vote(shape.predicted, READABLE)
    ratio = np.log(max(min(shape.spread_ratio, 1 / max(shape.spread_ratio, 1e-9)), 1e-9))
    quiet = -vote(ratio, (np.log(QUIET[0]), QUIET[1]))
    same_population = -vote(shape.offset, POPULATION) + ratio / 0.3
    return _softmax(
        {
            "head_not_loaded": readable,
            "encoder_not_loaded": quiet - max(0.0, readable),
            "different_documents": same_population - max(0.0, readable),
            "weights_changed": -1.0,
        }
    )


def unlinked(shape: Shape) -> float:
    """Probability that nothing links the runs code by code any more."""
    return float(1 / (1 + np.exp(vote(abs(shape.correlation), LINKED, 6.0))))


def _softmax(logits: dict[Cause, float]) -> dict[Cause, float]:
    top = max(logits.values())
    total = sum(np.exp(value - top) for value in logits.values())
    return {cause: float(np.exp(value - top) / total) for cause, value in logits.items()}
