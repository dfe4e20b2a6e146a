"""What a difference between two runs looks like, as about thirty numbers without units: what the cause model reads.

Every number is the same whichever run is called the candidate, in whichever order notes and codes stand, and
whatever one factor or one sum both runs are multiplied by or moved by. Where a number needs one run to be the
source and the other the target, both ways are tried: noise in one run can be "predicted" from the noisy run, never
from the clean one, so that the smaller of the two is what the difference has to say.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from shifamind_core.diagnosis.evidence import shapes
from shifamind_core.diagnosis.evidence.measured import Measured
from shifamind_core.diagnosis.evidence.shapes import Matrix


@dataclass(frozen=True)
class Feature:
    """One number of a difference: its name, what it means, and the range it is kept to."""

    name: str
    meaning: str
    low: float
    high: float
    of: Callable[[Measured], float]


def measure(
    candidate: Matrix,
    reference: Matrix,
    token_counts: Int[np.ndarray, " documents"] | None = None,
    names: Collection[str] | None = None,
    stored: Matrix | None = None,
) -> dict[str, float]:
    """Features of two aligned runs: row by row the same note, column by column the same code.

    Parameters
    ----------
    candidate, reference : float64 [documents, codes]
        Finite logits.
    token_counts : int [documents], optional
        Tokens a note has before truncation. `tokens_known` is 0 without them, and what needs them is 0.
    names : collection of str, optional
        Of the features that are wanted; all by default.
    stored : float64 [documents, codes], optional
        Variance of each difference by how files were rounded, in squared logits; infinite where the two runs say nothing: sizes
        are means over the others.

    Returns
    -------
    dict
        One finite number a feature, within the feature's range.
    """
    measured = Measured(candidate, reference, token_counts, stored)
    found = {}
    for feature in FEATURES:
        if names is not None and feature.name not in names:
            continue
        value = float(feature.of(measured))
        found[feature.name] = (
            min(max(value, feature.low), feature.high) if np.isfinite(value) else feature.low
        )
    return found


def _unscaled(pair: Measured) -> float:
    return float(np.sqrt(2 * np.median(pair.apart)))


def _offset(pair: Measured) -> float:
    root = np.sqrt((pair.change**2).mean(axis=0))
    return float(np.median(np.abs(pair.change.mean(axis=0)) / np.where(root > 0, root, 1)))


def _bias(pair: Measured) -> float:
    deviation = pair.change.std(axis=0)
    mean = np.abs(pair.change.mean(axis=0))
    live = deviation > 0
    return float(np.median(mean[live] / deviation[live])) * np.sqrt(len(pair.change)) if live.any() else 0.0


def _code_shift(pair: Measured) -> float:
    """Largest mean change of a code over the typical code's, each in standard errors; none counts as less than one."""
    deviation = pair.change.std(axis=0)
    live = deviation > 0
    errors = np.abs(pair.change.mean(axis=0))[live] / deviation[live] * np.sqrt(len(pair.change))
    return shapes.beyond_typical(errors, least=1.0)


def _added(pair: Measured) -> float:
    correlation = np.clip(1 - pair.apart, 0.05, 1.0)
    lost = float(-np.log(correlation).mean())
    chance = pair.size / np.sqrt(len(pair.change) * pair.codes)
    return abs(float(pair.log_factors.mean())) / max(lost + chance, 1e-300)


def _link(pair: Measured) -> float:
    """Mean correlation of the codes with themselves, in standard errors, on a logarithmic scale beyond a few.

    Unrelated notes give r a variance of 1/n, and codes that go together err together; a head of other weights gives
    every code an r of its own, of either sign.
    """
    candidate, reference = pair.correlations
    chance = (candidate * reference).sum() / (len(pair.change) * pair.codes**2)
    independent = shapes.effective_rank(np.linalg.eigvalsh((candidate + reference) / 2))
    r = 1 - pair.apart
    error = np.sqrt(max(chance, 0.0) + r.var() / max(independent, 1.0) + 1e-12)
    return float(np.arcsinh(r.mean() / error))


def _own_row(pair: Measured) -> float:
    """Mean share of the other notes that are farther from a note than the note itself as the other run has it."""
    rows = shapes.sample(pair.scored[0] + pair.scored[1], shapes.KERNEL_NOTES)
    one, other = (scored[rows] for scored in pair.scored)
    distance = shapes.squared_distances(one, other)
    own = np.diag(distance)
    farther = [(distance > own[:, None]).sum(axis=1), (distance > own[None, :]).sum(axis=0)]
    return float(np.mean(farther) / max(len(rows) - 1, 1))


def _structure(pair: Measured) -> float:
    """Correlation of the codes' correlations in one run with those in the other."""
    if pair.codes < 4:
        return 0.0
    upper = np.triu_indices(pair.codes, 1)
    one, other = (matrix[upper] for matrix in pair.correlations)
    return float(np.corrcoef(one, other)[0, 1]) if np.ptp(one) and np.ptp(other) else 0.0


def _readable(pair: Measured) -> tuple[float, float]:
    """Share of one run that all codes of the other predict, either way: the smaller and the larger."""
    shares = [shapes.predicted_share(pair.scored[i], pair.directions[1 - i]) for i in (0, 1)]
    return min(shares), max(shares)


def _population(pair: Measured) -> float:
    return float(np.median(np.abs(pair.relative.mean(axis=0))))


def _first_direction(pair: Measured) -> float:
    values = np.linalg.eigvalsh(pair.change.T @ pair.change)
    return float(values[-1] / values.sum()) if values.sum() else 0.0


def _note_shift(pair: Measured) -> float:
    """Share of the change that is one number a note, beyond what chance gives."""
    total = float((pair.change**2).mean())
    share = float((pair.change.mean(axis=1) ** 2).mean()) / total if total else 0.0
    return (share - 1 / pair.codes) / (1 - 1 / pair.codes) if pair.codes > 1 else 0.0


def _grows(pair: Measured) -> float:
    """Rank correlation of the change's size with the logit's distance from its code's mean."""
    rows = shapes.sample(pair.runs[0] + pair.runs[1], shapes.KERNEL_NOTES)
    middle = np.abs(pair.scored[0][rows] + pair.scored[1][rows])
    return shapes.spearman(middle.ravel(), np.abs(pair.change[rows]).ravel())


def _grid(pair: Measured) -> float:
    return max(shapes.coarse_grid(run) for run in pair.runs)


def _lawful(share: float, coherence: float) -> float:
    """A share as information, relative to the information with which codes predict each other."""
    return shapes.information(share) / max(shapes.information(coherence), 0.2)


def _beyond_typical(sizes: np.ndarray) -> float:
    return shapes.log10(shapes.beyond_typical(sizes, shapes.TINY * float(sizes.max(initial=0.0))), 1.0)


def _least(name: str) -> Callable[[Measured], float]:
    return lambda pair: min(getattr(left, name) for left in pair.left)


def _mean(name: str) -> Callable[[Measured], float]:
    return lambda pair: float(np.mean([getattr(left, name) for left in pair.left]))


FEATURES: tuple[Feature, ...] = (
    Feature("notes", "How many notes (log10).", 0, 6, lambda p: np.log10(p.notes)),
    Feature("codes", "How many codes (log10).", 0, 4, lambda p: np.log10(p.codes)),
    Feature(
        "coherence",
        "How well a run's codes predict each other (share of variance).",
        0,
        1,
        lambda p: p.coherence,
    ),
    Feature(
        "size",
        "Root mean square difference over the standard deviation of a code's logits (log10).",
        -9,
        3,
        lambda p: shapes.log10(p.size, shapes.TINY),
    ),
    Feature(
        "unscaled_size",
        "The same once every code has mean 0 and standard deviation 1 in both runs (log10).",
        -9,
        0.31,
        lambda p: shapes.log10(_unscaled(p), shapes.TINY),
    ),
    Feature(
        "affine",
        "By how much a shift and a factor a code make the difference smaller (log10).",
        0,
        6,
        lambda p: shapes.log10(p.size, shapes.TINY) - shapes.log10(_unscaled(p), shapes.TINY),
    ),
    Feature(
        "monotone",
        "By how much any increasing curve a code makes it smaller still (log10, by ranks).",
        -2,
        6,
        lambda p: (
            shapes.log10(_unscaled(p), shapes.TINY)
            - shapes.log10(float(np.sqrt(2 * np.median(p.rank_apart))), shapes.TINY)
        ),
    ),
    Feature(
        "correlation", "Median correlation of a code with itself.", -1, 1, lambda p: 1 - np.median(p.apart)
    ),
    Feature("offset", "Mean change of a code over its root mean square change (median).", 0, 1, _offset),
    Feature(
        "bias",
        "Mean change of a code in standard errors (median, log10).",
        -2,
        5,
        lambda p: shapes.log10(_bias(p), 0.01),
    ),
    Feature(
        "population",
        "Mean change of a code in its standard deviations (median, log10).",
        -9,
        3,
        lambda p: shapes.log10(_population(p), shapes.TINY),
    ),
    Feature(
        "factor",
        "Ratio of the runs' standard deviations (median, size of its log).",
        0,
        8,
        lambda p: abs(np.median(p.log_factors)),
    ),
    Feature(
        "added",
        "Growth of the spread over loss of correlation: 1 where one run adds noise, 0 where neither does.",
        0,
        3,
        _added,
    ),
    Feature(
        "slope_spread",
        "How unequal the codes' slopes are, over what straight lines leave (log10).",
        -2,
        3,
        lambda p: shapes.log10(_least("slope_spread")(p), 0.01),
    ),
    Feature(
        "predicted",
        "What other codes' logits tell of what straight lines leave (−log of the share left).",
        0,
        9.3,
        lambda p: shapes.information(_least("predicted")(p)),
    ),
    Feature(
        "lawful",
        "The same over what codes tell of each other.",
        0,
        10,
        lambda p: _lawful(_least("predicted")(p), p.coherence),
    ),
    Feature(
        "lawful_change",
        "What other codes' logits tell of the whole change, over what codes tell of each other.",
        0,
        10,
        lambda p: _lawful(
            min(shapes.predicted_share(p.change - p.change.mean(axis=0), axes) for axes in p.directions),
            p.coherence,
        ),
    ),
    Feature(
        "smooth",
        "Share of what straight lines leave that is a smooth function of the note's logits.",
        0,
        1,
        _least("smooth"),
    ),
    Feature(
        "evenness",
        "Directions that the change spreads over, against those of the logits (log10).",
        -2,
        2,
        lambda p: shapes.log10(_mean("evenness")(p), 0.01),
    ),
    Feature(
        "along",
        "Power with which the change follows the directions in which notes differ.",
        -1,
        2,
        _mean("along"),
    ),
    Feature("alike", "Whether similar notes change alike (mean cosine).", -0.2, 1, _least("alike")),
    Feature(
        "scatter",
        "How unequally notes change once straight lines are taken out (decades).",
        0,
        3,
        _least("scatter"),
    ),
    Feature(
        "uneven", "How unequally notes change (decades).", 0, 4, lambda p: shapes.logs_of(p.note_sizes).std()
    ),
    Feature(
        "tail",
        "Largest notes' change over the median's (99th percentile, log10).",
        0,
        9,
        lambda p: shapes.quantiles(p.note_sizes, 0.99, 0.5),
    ),
    Feature(
        "farthest_note",
        "Change of the note that changed most over the typical note's (log10).",
        0,
        9,
        lambda p: _beyond_typical(p.note_sizes),
    ),
    Feature(
        "head",
        "The median note's change over the smallest notes' (5th percentile, log10).",
        0,
        9,
        lambda p: shapes.quantiles(p.note_sizes, 0.5, 0.05),
    ),
    Feature("notes_still", "Share of notes that hardly changed.", 0, 1, lambda p: shapes.still(p.note_sizes)),
    Feature(
        "notes_gap",
        "How clearly notes fall into changed and unchanged.",
        0,
        30,
        lambda p: shapes.gap(p.note_sizes),
    ),
    Feature(
        "notes_empty",
        "Widest empty stretch between notes' changes (decades).",
        0,
        9,
        lambda p: shapes.empty(p.note_sizes),
    ),
    Feature("codes_still", "Share of codes that hardly changed.", 0, 1, lambda p: shapes.still(p.code_sizes)),
    Feature(
        "codes_gap",
        "How clearly codes fall into changed and unchanged.",
        0,
        30,
        lambda p: shapes.gap(p.code_sizes),
    ),
    Feature(
        "codes_uneven",
        "How unequally codes change (decades).",
        0,
        4,
        lambda p: shapes.logs_of(p.code_sizes).std(),
    ),
    Feature(
        "farthest_code",
        "Change of the code that changed most over the typical code's (log10).",
        0,
        9,
        lambda p: _beyond_typical(p.code_sizes),
    ),
    Feature(
        "farthest_shift",
        "Mean change of the code that moved most over the typical code's, in standard errors (log10).",
        0,
        5,
        lambda p: shapes.log10(_code_shift(p), 1.0),
    ),
    Feature(
        "farthest_slope",
        "How far the oddest code's slope lies from the others' over how far the typical one does (log10).",
        0,
        5,
        lambda p: shapes.log10(_least("farthest_slope")(p), 1.0),
    ),
    Feature(
        "cell_tail",
        "How unequally a note's codes change (kurtosis, log10).",
        0,
        3,
        lambda p: shapes.log10(_least("tail")(p), 1),
    ),
    Feature("link", "Correlation of codes with themselves in standard errors (asinh).", -8, 20, _link),
    Feature(
        "own_row", "Share of other notes farther away than the same note in the other run.", 0, 1, _own_row
    ),
    Feature(
        "structure", "Whether codes go together in one run as in the other (correlation).", -1, 1, _structure
    ),
    Feature(
        "readable",
        "Share of one run that the other run's codes predict together (the smaller way).",
        0,
        1,
        lambda p: _readable(p)[0],
    ),
    Feature("readable_most", "The same, the larger way.", 0, 1, lambda p: _readable(p)[1]),
    Feature("first_direction", "Share of the change along its main direction.", 0, 1, _first_direction),
    Feature("note_shift", "Share of the change that is one number a note.", -1, 1, _note_shift),
    Feature("grows", "Whether logits far from their mean change more (rank correlation).", -1, 1, _grows),
    Feature("grid", "Values lie on BF16's grid (2), on FP16's (1), on none (0), in either run.", 0, 2, _grid),
    Feature(
        "tokens_known", "Whether note lengths are known.", 0, 1, lambda p: float(p.token_counts is not None)
    ),
    Feature(
        "longer",
        "Share of the notes' unequal change that one length explains, longer ones changing.",
        0,
        1,
        lambda p: p.lengths[0],
    ),
    Feature("shorter", "The same, shorter ones changing.", 0, 1, lambda p: p.lengths[1]),
    Feature(
        "length_rank",
        "Rank correlation of a note's change with its length.",
        -1,
        1,
        lambda p: 0.0 if p.token_counts is None else shapes.spearman(p.token_counts, p.note_sizes),
    ),
)
NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
