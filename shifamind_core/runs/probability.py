"""Probabilities back to logits, such that no decision changes."""

from collections.abc import Callable

import numpy as np

from shifamind_core.arrays import probabilities as sigmoid
from shifamind_core.runs.blocks import blocks_of_notes, finite_range

# Every threshold at which a decision is to survive: thousandths, and the grids of the public scripts, most of
# whose values are not the nearest double ("0.5" is 0.4999999999999998 in the seed's).
THRESHOLDS = np.unique(
    np.concatenate([np.arange(1, 1000) / 1000, np.arange(0.1, 0.9, 0.01), np.arange(0.05, 0.61, 0.01)])
)
NEAR, FAR = 4, 64  # steps tried to either side: where a probability is missed, where a decision would turn
BLOCK = 1 << 20

Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]


def logits_of(probabilities: np.ndarray) -> tuple[np.ndarray, str]:
    """Logits whose sigmoid is as near to these probabilities as floats allow, and a note for the manifest.

    log p − log(1 − p) in float64, then float32 (float64 stays float64). The FP32 sigmoid of a float32 logit
    does not reach every float32, and where it misses just at a threshold, the strict `>` would turn a decision
    round: one in twenty on probabilities rounded to two decimals. There the logit moves by a few steps, so
    that for float16 and float32 probabilities every decision at `THRESHOLDS` is kept. A float64 probability
    may lie between two thresholds that FP32 cannot tell apart ("0.15" is two doubles in the grids); the note
    counts those.

    Exactly 0 and 1 (a saturated sigmoid) have no finite logit; the nearest number of their dtype that has one
    stands in, and the note counts them. NaN stays NaN.

    Parameters
    ----------
    probabilities : float16/32/64 [documents, codes]
        From 0 to 1, or NaN.

    Returns
    -------
    logits : float32, or float64 for float64 [documents, codes]
    note : str
    """
    blocks = np.array_split(probabilities.ravel(), probabilities.size // BLOCK + 1)  # bounds the memory
    parts = [_block(block) for block in blocks]
    logits = np.concatenate([logits for logits, _, _ in parts])
    note = _note(sum(saturated for _, saturated, _ in parts), sum(turned for _, _, turned in parts))
    return logits.reshape(probabilities.shape), note


def is_stand_in(extreme: float, from_probabilities: bool = False) -> bool:
    """Whether a run's smallest or largest logit stands for a stored 0 or 1 rather than for itself.

    That is what `logits_of` puts there, and what scripts do that clip probabilities to [ε, 1 − ε] before they take the
    logit: ε a power of ten, or the machine epsilon or smallest number of a floating-point format.

    Parameters
    ----------
    extreme : float
        The run's smallest or largest logit.
    from_probabilities : bool
        The file held probabilities: `logits_of` made the logits.

    >>> [is_stand_in(logit) for logit in (-103.27893, 16.118095, -13.815511, 4.2)]
    [True, True, True, False]
    """
    wanted = OF_LOGITS_OF if from_probabilities else STAND_INS
    return bool(np.isclose(np.abs(extreme), wanted, rtol=2.0**-22, atol=0).any())


def stand_ins(logits: np.ndarray, from_probabilities: bool = False) -> np.ndarray:
    """Cells [documents, codes] whose logit stands for a stored 0 or 1."""
    return are_any_of(logits, stand_in_values(logits, from_probabilities))


def are_any_of(logits: np.ndarray, values: tuple[float, ...]) -> np.ndarray:
    """Cells that hold one of these values."""
    found = np.zeros(logits.shape, bool)
    for value in values:
        found |= logits == value
    return found


def stand_in_values(
    logits: np.ndarray, from_probabilities: bool = False, ends: tuple[float, float] | None = None
) -> tuple[float, ...]:
    """Logits that stand for a stored 0 or 1: the least and the greatest of [documents, codes], where they are such.

    `ends` are these two, where they are known.
    """
    ends = finite_range(logits)[:2] if ends is None else ends
    if ends[0] > ends[1]:
        return ()
    return tuple(
        end
        for end in dict.fromkeys(ends)
        if is_stand_in(end, True)
        or (not from_probabilities and is_stand_in(end) and not _on_grid(logits, end))
    )


def _on_grid(logits: np.ndarray, extreme: float) -> bool:
    """Whether the next value is twice as far from 0 or 1: then probabilities have as many decimals as ε, which is one of them."""
    side = -1 if extreme < 0 else 1
    next_to_it = 0.0
    for rows in blocks_of_notes(logits):
        sizes = logits[rows] * side
        inner = (sizes > 0) & (sizes != abs(extreme)) & np.isfinite(sizes)
        next_to_it = max(next_to_it, float(sizes[inner].max(initial=0)))
    if not next_to_it:
        return False
    step = np.exp(-abs(extreme))  # ε and 1 − ε alike: ε / (1 − ε)
    return bool(np.isclose(np.exp(-next_to_it), 2 * step, rtol=1e-3))


def _logit_sizes(epsilons: list[float]) -> np.ndarray:
    """|logit| of ε and of 1 − ε, the latter as FP16, FP32 and FP64 hold it."""
    small = np.array(epsilons)
    sizes = [np.log1p(-small) - np.log(small)]
    for kind in KINDS:
        near_one = (1 - small.astype(kind)).astype(np.float64)
        inside = near_one[near_one < 1]
        sizes.append(np.log(inside) - np.log1p(-inside))
    return np.unique(np.concatenate(sizes))


KINDS = (np.float16, np.float32, np.float64)
_ENDS = [float(end) for kind in KINDS for end in (np.finfo(kind).smallest_subnormal, np.finfo(kind).epsneg)]
_EPSILONS = [float(end) for kind in KINDS for end in (np.finfo(kind).eps, np.finfo(kind).tiny)]
OF_LOGITS_OF = _logit_sizes(_ENDS)
STAND_INS = np.unique(
    np.concatenate([OF_LOGITS_OF, _logit_sizes([*_EPSILONS, *(10.0**-k for k in range(3, 17))])])
)


def _block(probabilities: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Logits, how many probabilities were saturated, and how many decisions could not be kept."""
    kind = np.finfo(probabilities.dtype)
    values, places = np.unique(probabilities, return_inverse=True)  # rounded ones are few
    wide = values.astype(np.float64)
    inside = wide.clip(float(kind.smallest_subnormal), 1 - float(kind.epsneg))
    exact = np.log(inside) - np.log1p(-inside)
    logits = exact.astype(np.float64 if kind.dtype == np.float64 else np.float32)
    _approach(logits, inside, _distance, NEAR)
    _approach(logits, inside, _decisions_turned, FAR)
    turned = cells(sigmoid(logits)) != cells(wide)
    saturated = (wide == 0) | (wide == 1)
    return logits[places], int(saturated[places].sum()), int(turned[places].sum())


def cells(probabilities: np.ndarray) -> np.ndarray:
    """For each probability, how many of `THRESHOLDS` it exceeds: equal cells are equal decisions.

    >>> THRESHOLDS[cells(np.array([0.5])) - 1] < 0.5
    array([ True])
    """
    return np.searchsorted(THRESHOLDS, probabilities.astype(np.float64), side="left")


def _approach(logits: np.ndarray, wanted: np.ndarray, cost_of: Cost, steps: int) -> None:
    """Move the logits, in place, to whichever of the nearest `steps` to either side costs least, nearest first."""
    costs = cost_of(logits, wanted)
    places = np.flatnonzero(costs > 0)
    start, target, cost = logits[places].astype(np.float64), wanted[places], costs[places]
    # Above 1/2 many logits share one probability: there a step is a quarter of its last place.
    place = np.spacing(target.astype(np.float32)) / (target * (1 - target)) / 4
    step = np.maximum(np.spacing(np.abs(start).astype(np.float32)), place)
    best = logits[places]
    for i in range(1, steps + 1):
        for side in (-i, i):
            tried = (start + side * step).astype(np.float32)
            tried_cost = cost_of(tried, target)
            better = tried_cost < cost
            best[better], cost[better] = tried[better], tried_cost[better]
    logits[places] = best


def _distance(logits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.abs(sigmoid(logits) - wanted.astype(np.float32))


def _decisions_turned(logits: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return np.abs(cells(sigmoid(logits)) - cells(wanted))


def _note(saturated: int, turned: int) -> str:
    note = "Probabilities were turned back into logits."
    if saturated:
        note += (
            f" {saturated:,} were exactly 0 or 1 (saturated); the nearest finite logit stands in for each."
        )
    if turned:
        note += f" {turned:,} lie so close to a threshold of up to three decimals that FP32 decides them otherwise."
    return note
