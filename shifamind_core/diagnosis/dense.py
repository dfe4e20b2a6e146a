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

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from shifamind_core.diagnosis.evidence.aligned_logits import FLAT, Matrix, Pair, standard_scores
from shifamind_core.diagnosis.findings import Cause

NEAREST, NEAR_DIRECTIONS, ASKED = 8, 12, 600  # neighbours; directions they are near in; notes asked
FEW_CODES = 15
LEAST_COHERENCE = 0.35  # below it codes say little of each other, and of anything else
SAMPLE = 4000  # notes: a share of variance is then known to ±0.01


@dataclass(frozen=True)
class Shape:
    """Scale-free statistics of a dense change. Medians are over codes.

    Attributes
    ----------
    notes, codes : how many they rest on
    size : root mean square difference in spreads
    correlation : median r of a code's logits in both runs
    link : mean r over codes in standard errors; beyond 4 the rows hold the same notes, read by the same head
    predicted : share of what one straight line a code leaves that the other codes' logits predict (adjusted R²)
    predicted_change : the same of the whole change
    lawful, lawful_change : either as a share of what could be: log(1 − R²) over that with which codes predict each other
    offset : median |mean change| over root mean square change
    slope_spread : standard deviation over codes of the slopes, over the relative size of what they leave
    evenness : effective number of directions of the unpredicted change over that of the logits
    along : exponent with which the change grows along the logits' own directions (1: like another note)
    alike : mean cosine of what a note's change leaves with that of the notes nearest to it
    scatter : standard deviation over notes of the logarithm of how much is left
    spread_ratio : median ratio of the candidate's to the reference's spread
    unevenness : standard deviation over notes of log |change|
    """

    notes: int
    codes: int
    size: float
    correlation: float
    link: float
    predicted: float
    predicted_change: float
    lawful: float
    lawful_change: float
    offset: float
    slope_spread: float
    evenness: float
    along: float
    alike: float
    scatter: float
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
    whole = min(_predicted_share(centred, _directions(matrix)) for matrix in (pair.reference, pair.candidate))
    return Shape(
        notes=pair.documents,
        codes=pair.codes,
        size=pair.size,
        correlation=float(np.median(pair.correlation)),
        link=link(pair),
        predicted=best.predicted,
        predicted_change=whole,
        lawful=best.lawful,
        lawful_change=_information(whole) / max(coherence(pair.reference), LEAST_COHERENCE),
        offset=float(np.median(np.abs(change.mean(axis=0)) / np.where(root > 0, root, 1))),
        slope_spread=best.slope_spread,
        evenness=best.evenness,
        along=best.along,
        alike=min(forward.alike, backward.alike),
        scatter=min(forward.scatter, backward.scatter),
        spread_ratio=float(np.median(spreads[0] / np.where(spreads[1] > FLAT, spreads[1], 1))),
        unevenness=float(np.log(np.maximum(note, note.max() * 1e-3)).std()) if note.max() else 0.0,
    )


def link(pair: Pair) -> float:
    """Mean correlation of the codes with themselves, in standard errors.

    Two sources of error: chance, since unrelated notes give r a variance of 1/n and codes that go together err
    together (covariance of r for codes i and j: product of their correlations in either run, over n); and a head
    of other weights, which gives every code an r of its own, of either sign.
    """
    candidate, reference = (_correlation(scored) for scored in pair.scored)
    chance = (candidate * reference).sum() / (pair.documents * pair.codes**2)
    independent = _effective_rank(np.linalg.eigvalsh(reference))
    dispersion = pair.correlation.var() / max(independent, 1.0)
    return float(pair.correlation.mean() / np.sqrt(max(chance, 0.0) + dispersion + 1e-12))


def coherence(matrix: Matrix) -> float:
    """How well codes predict each other: −log of the share of variance that all others leave of one (median).

    No lawful change can be predicted much better. Where notes hardly differ, everything is predictable; where
    notes are few, little is, by the same few directions that predict a change.
    """
    notes, codes = matrix.shape
    if codes < 3:
        return LEAST_COHERENCE
    scored = standard_scores(matrix)
    if notes < 5 * codes:
        others = (np.arange(codes) != code for code in range(codes))
        shares = [_predicted_share(scored[:, ~kept], _directions(scored[:, kept])) for kept in others]
        return _information(float(np.median(shares)))
    inverse = np.linalg.inv(_correlation(scored) + 1e-6 * np.eye(codes))
    left = 1 / np.diag(inverse) * (notes - 1) / (notes - codes)
    return _information(1 - float(np.median(left)))


def _information(share: float) -> float:
    """−log(1 − R²): additive where R² saturates."""
    return float(-np.log(np.clip(1 - share, 1e-6, 1.0)))


def predictability(pair: Pair) -> float:
    """Share of the candidate's variance that all of the reference's codes predict together (adjusted R²)."""
    pair = pair.sampled(SAMPLE)
    return _predicted_share(pair.candidate - pair.candidate.mean(axis=0), _directions(pair.reference))


@dataclass(frozen=True)
class _Residual:
    predicted: float = 0.0
    lawful: float = 0.0
    slope_spread: float = 0.0
    evenness: float = 1.0
    along: float = 1.0
    alike: float = 0.0
    scatter: float = 0.0


def _residual(target: Matrix, source: Matrix) -> _Residual:
    """What a straight line a code from source to target leaves, and how it hangs together."""
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    variance = (x**2).mean(axis=0)
    slope = (x * y).mean(axis=0) / np.where(variance > FLAT, variance, 1)
    left = y - slope * x
    size = left.std(axis=0)
    live = (size > 1e-9 * max(float(size.max()), FLAT)) & (variance > FLAT)
    if live.sum() < 2:
        return _Residual()
    scored = left[:, live] / size[live]
    relative = np.median(size[live] / np.sqrt(variance[live]))
    values, vectors = np.linalg.eigh(_correlation(standard_scores(source)[:, live]))
    kept = values > 1e-3
    along = ((scored @ vectors[:, kept]) ** 2).mean(axis=0)
    predicted = _predicted_share(left[:, live], _directions(source), used=1)
    return _Residual(
        predicted=predicted,
        lawful=_information(predicted) / max(coherence(source), LEAST_COHERENCE),
        slope_spread=float(slope[live].std() / max(relative, 1e-12)),
        evenness=_effective_rank(np.linalg.eigvalsh(_correlation(scored))) / _effective_rank(values),
        along=_exponent(values[kept], along),
        alike=_alike(source, scored),
        scatter=_scatter(scored),
    )


def _alike(source: Matrix, left: Matrix) -> float:
    """Do similar notes change alike? Mean cosine of what is left of a note and of its nearest notes.

    Lengths do not count, so that a few notes that changed most do not decide.
    """
    if len(source) <= 2 * NEAREST:
        return 0.0
    axes = _directions(source)[:, :NEAR_DIRECTIONS]
    axes = axes * np.sqrt(((standard_scores(source).T @ axes / len(axes)) ** 2).sum(axis=0))
    asked = np.arange(0, len(axes), -(-len(axes) // ASKED))
    squares = (axes**2).sum(axis=1)
    distance = squares[asked, None] + squares - 2 * axes[asked] @ axes.T
    distance[np.arange(len(asked)), asked] = np.inf
    nearest = np.argpartition(distance, NEAREST, axis=1)[:, :NEAREST]
    length = np.sqrt((left**2).sum(axis=1, keepdims=True))
    unit = left / np.maximum(length, 1e-300)
    return float(np.einsum("ij,ikj->ik", unit[asked], unit[nearest]).mean())


def _scatter(left: Matrix) -> float:
    size = np.sqrt((left**2).mean(axis=1))
    return float(np.log(np.maximum(size, size.max() * 1e-3)).std())


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
    squares = float((eigenvalues**2).sum())
    return float(eigenvalues.sum() ** 2 / squares) if squares else 1.0


def _exponent(values: np.ndarray, along: np.ndarray) -> float:
    if len(values) < 3 or np.ptp(np.log(values)) < 0.1:
        return 1.0
    return float(np.polyfit(np.log(values), np.log(np.maximum(along, 1e-12)), 1)[0])


# Where the shapes of real models part (two architectures, well- and ill-conditioned, 1,600 notes each; see
# docs/diagnosis.md): the value at which evidence turns, and how far from it a vote counts one.
MOVED_FAR = (0.65, 0.1)  # the same of an encoder that is not quiet ≥ 0.94
LAWFUL = (0.175, 0.03)  # dropout ≤ 0.05, other input and rounding ≤ 0.17, other weights ≥ 0.2
SLOPE_SPREAD = (0.12, 0.03)  # dropout ≤ 0.13
UNEQUAL = (0.5, 0.1)  # the same: other weights alone give codes factors so unequal; other input ≤ 0.33
EVENNESS = (1.02, 0.12)  # dropout 1.0 to 3, other input 0.6 to 1.4
ALIKE = (0.009, 0.004)  # dropout -0.02 to 0.01, other input 0.01 to 0.5
SCATTER = (0.3, 0.05)  # dropout 0.1 to 0.34, other input 0.2 to 0.8
ALONG = (0.67, 0.1)  # dropout 0.4 to 0.7, other input 0.5 to 0.9
UNEVEN = (0.45, 0.1)  # rounding as such, and dropout, ≤ 0.35; amplified rounding 0.4 to 1.4
BIAS = (2.5, 0.75)  # amplified rounding ≤ 1.0; other input in some notes ≥ 2.2
STEADY = (0.4, 0.06)  # dropout as small as rounding ≤ 0.2; rounding where notes hardly differ ≥ 0.48
AMPLIFICATION = 4.0  # BF16 reached 0.32 spreads on the worst-conditioned model, 0.08 on plain ones
NOISE = (
    0.045  # spreads: noise inside a model that is smaller is rounding; dropout at a rate of 0.01 leaves 0.08
)
LINK = (4.0, 1.0)  # standard errors: chance gives 4 once in thirty thousand
READABLE = (0.35, 0.07)  # lawfulness under another head ≥ 0.5, without the encoder ≤ 0.17
QUIET = (2.1, 0.3)  # |log spread ratio|: of an encoder that was not loaded ≥ 3, of a head ≤ 1.3
LOUD = (0.3, 0.1)  # the same: of dropout that drowns the logits ≥ 0.4, of other notes ≤ 0.1
LOUDER = (1.2, 0.3)  # the same where codes still correlate
MOVED = (0.3, 0.05)  # offset of an encoder that was not loaded ≥ 0.4, of drowning dropout ≤ 0.23
POPULATION = (0.3, 0.08)  # offset of other notes ≤ 0.1, of another head or encoder ≥ 0.7


def vote(value: float, turn: tuple[float, float], most: float = 3.0) -> float:
    """Evidence in a value: 0 where it turns, ±1 one width beyond, never more than `most`."""
    centre, width = turn
    return float(np.clip((value - centre) / width, -most, most))


def amplified(shape: Shape) -> float:
    """Factor on the size that rounding may reach, by whether the change looks like rounding that grew on its way.

    Where a model is badly conditioned, a rounding error grows from layer to layer by a factor that differs from
    note to note: sizes then spread over decades, and the change still has no bias, neither a mean nor a slope.
    Where a model says much the same of every note, rounding its weights moves all notes alike: half of the change
    is one shift a code. Dropout does neither: it has no mean to first order, and spares no note.
    """
    bias = shape.offset * np.sqrt(shape.notes)  # about 0.7 by chance
    grown = vote(shape.unevenness, UNEVEN) - max(0.0, vote(bias, BIAS))
    steady = vote(shape.offset, STEADY) - max(0.0, vote(shape.scatter, SCATTER))
    return float(AMPLIFICATION ** (1 / (1 + np.exp(-2 * max(grown, steady)))))


def odds_of_rounding(shape: Shape, size: float, limit: float) -> float:
    """Logit of the probability that a dense change is rounding, by its size and its lawfulness.

    A factor of 1.5 in size counts one. A change that other codes predict better than rounding ever was loses.
    """
    by_size = float(np.clip(np.log(limit / max(size, 1e-12)) / np.log(1.5), -6, 6))
    return by_size - max(0.0, vote(max(shape.lawful, shape.lawful_change), LAWFUL, 4.0))


def shares(shape: Shape, odds: Mapping[Cause, float]) -> dict[Cause, float]:
    """Probabilities of the causes of a dense change, rounding aside.

    `odds` are what is known beside the logits (manifests, ids, token digests), as logarithms.
    """
    apart = float(np.clip(vote(shape.link, LINK, 6.0), -6.0, 6.0))
    linked, unlinked = -np.logaddexp(0.0, -apart), -np.logaddexp(0.0, apart)
    votes: dict[Cause, float] = {}
    for family, parts in ((linked, _votes_if_linked(shape)), (unlinked, _votes_if_unlinked(shape))):
        for cause, value in parts.items():
            votes[cause] = float(np.logaddexp(votes.get(cause, -np.inf), family + value))
    return _softmax({cause: value + odds.get(cause, 0.0) for cause, value in votes.items()})


def code_weight(codes: int) -> float:
    """How much a shape over so many codes is worth: a half at `FEW_CODES`, since directions are no more than codes."""
    return codes**2 / (codes**2 + FEW_CODES**2)


def _votes_if_linked(shape: Shape) -> dict[Cause, float]:
    """The runs still read the same notes with the same head: dropout, other input, or other weights?"""
    lawful = vote(shape.lawful, LAWFUL)
    uneven_codes = max(0.0, vote(shape.slope_spread, SLOPE_SPREAD))
    manner = (
        vote(shape.scatter, SCATTER, 2.0)
        + vote(shape.along, ALONG, 2.0)
        - vote(shape.evenness, EVENNESS, 2.0)
    ) * code_weight(shape.codes)
    # Similar notes that change alike speak against noise without limit, but no more for input than for weights.
    alike = vote(shape.alike, ALIKE, 8.0)
    like_notes = float(np.clip((min(alike, 3.0) + manner) / 2, -2.5, 2.5))
    unlike_noise = float(np.clip((alike + manner) / 2, -2.5, 2.5))
    votes: dict[Cause, float] = {
        "dropout_active": -unlike_noise
        - lawful
        - uneven_codes
        - max(0.0, vote(shape.unevenness, UNEVEN, 6.0))  # dropout spares no note
        + max(0.0, vote(_apart(shape), LOUDER)),
        "input_changed": like_notes - lawful,
        "weights_changed": lawful + max(0.0, vote(shape.slope_spread, UNEQUAL)),
    }
    top = max(votes.values())
    return {cause: value - top for cause, value in votes.items()}


def _apart(shape: Shape) -> float:
    """How far apart the runs' spreads are: noise adds to one, and the wrong weights may leave nearly none."""
    return abs(float(np.log(max(shape.spread_ratio, 1e-9))))


def _votes_if_unlinked(shape: Shape) -> dict[Cause, float]:
    """Nothing correlates code by code: another head, no encoder, or other notes?"""
    readable = vote(shape.lawful, READABLE)
    apart = _apart(shape)
    same_mean = -vote(shape.offset, POPULATION)
    other_mean = min(0.0, vote(shape.offset, MOVED))
    moved = min(0.0, vote(shape.offset, MOVED_FAR))
    return {
        "head_not_loaded": readable,
        "encoder_not_loaded": max(vote(apart, QUIET), moved - 1.0) + other_mean - 2 * max(0.0, readable),
        "different_documents": same_mean - min(apart / 0.15, 6.0) - max(0.0, readable),
        # Noise that drowns the logits leaves their means, and adds to their spread.
        "dropout_active": min(0.0, vote(apart, LOUD)) - max(0.0, other_mean + 3.0) - max(0.0, readable),
    }


def _softmax(logits: dict[Cause, float]) -> dict[Cause, float]:
    top = max(logits.values())
    total = sum(np.exp(value - top) for value in logits.values())
    return {cause: float(np.exp(value - top) / total) for cause, value in logits.items()}
