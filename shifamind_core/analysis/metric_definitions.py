"""The ways in which the field turns scores and labels into "macro F1" and "micro F1", and which of them gives reported values.

A definition is a decision rule (what is assigned) and an average (what is called macro and micro). Sources: Opitz & Burst
(arXiv 1911.03347) for the two macro F1s, Edin et al. (arXiv 2304.10909) for averages over codes that occur and for
thresholds tuned on the scored split; scikit-learn's `average` values; the public scripts of CAML, LAAT, MSMN and their kin.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shifamind_core.analysis.counts import (
    Counts,
    Decisions,
    counts_of_decisions,
    counts_of_logits,
    decisions,
)
from shifamind_core.analysis.scores import (
    f1,
    f1_per_code,
    macro_f1,
    macro_f1_of_means,
    macro_f1_with_support,
    micro_f1,
)
from shifamind_core.analysis.thresholds import SEED_GRID
from shifamind_core.arrays import Labels, Logits, probabilities

FEWEST_DIGITS = 2
BATCHES = (8, 16, 32, 64, 128)  # sizes over which scripts average F1
TOP = 20  # most codes a note is assigned
GRID = np.round(np.arange(1, 100) / 100, 2)
# Beyond this chance that some definition matches by accident, a match is no proof: the usual 1 %.
ACCIDENT = 0.01


@dataclass(frozen=True)
class Definition:
    """One way to compute F1, and the values that it gives under the names that were reported.

    Attributes
    ----------
    name : for `metric=NAME`
    words : for a sentence
    tier : how far it is from the usual one: 0 is the usual, 1 another average, 2 another decision, 3 another threshold
    values : by reported name
    """

    name: str
    words: str
    tier: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Match:
    """What the definitions make of reported values.

    Attributes
    ----------
    usual : Definition
        Decision >, all codes averaged, 0/0 = 0.
    found : Definition, optional
        The simplest that gives every reported value to the last digit, if any does.
    nearest : Definition
    accident : float
        The chance that one of so many would give values like these by accident.
    digits : decimals of the reported values
    all : every definition tried, up to and including the tier of the one that was found
    """

    usual: Definition
    found: Definition | None
    nearest: Definition
    accident: float
    digits: int
    all: tuple[Definition, ...]

    @property
    def tried(self) -> int:
        """How many definitions."""
        return len(self.all)

    @property
    def is_usual(self) -> bool:
        """Does the usual definition give the reported values?"""
        return self.found is not None and self.found.tier == 0

    @property
    def shown(self) -> bool:
        """Is another definition shown to be the one, accidents excluded?"""
        return self.found is not None and not self.is_usual and self.accident <= ACCIDENT

    @property
    def accident_words(self) -> str:
        """The chance in a sentence."""
        return (
            f"{self.tried} definitions were tried; by accident one of them would give values like these in "
            f"{self.accident:.2g} of such reports."
        )


def digits_of(values: Sequence[float]) -> int:
    """Decimals to which values were reported: the most that any of them has.

    >>> digits_of([0.421, 0.2934])
    4
    """
    return max(FEWEST_DIGITS, *(len(repr(float(value)).partition(".")[2]) for value in values))


def distance(definition: Definition, reported: Mapping[str, float]) -> float:
    """The largest difference between what a definition gives and what was reported."""
    return max(abs(definition.values[name] - value) for name, value in reported.items())


def match(logits: Logits, labels: Labels, reported: Mapping[str, float]) -> Match | None:
    """Which definition gives the reported values on these scores and labels; `None` where no F1 at a threshold was reported.

    Parameters
    ----------
    logits, labels : [documents, codes]
    reported : mapping
        E.g. ``{"macro_f1@0.5": 0.2934}``. Names without a threshold are not looked at.
    """
    wanted = {name: value for name, value in reported.items() if "@" in name}
    if not wanted:
        return None
    digits = digits_of(list(wanted.values()))
    half = 0.5 * 10.0**-digits + 1e-9  # a value in the middle of two decimals may go either way
    tried: list[Definition] = []
    found: Definition | None = None
    for one in definitions(logits, labels, tuple(wanted)):
        if found is not None and one.tier > found.tier:
            break  # the rest is farther from the usual one than what was found
        tried.append(one)
        if found is None and distance(one, wanted) <= half:
            found = one
    nearest = min(tried, key=lambda one: distance(one, wanted))
    # F1 moves in steps: of a few notes it takes few values, and equal ones say little.
    step = max(2 * half, 1 / max(int(np.count_nonzero(labels)), 1))
    accident = 0.0 if found is tried[0] else _accident(tried, wanted, half, step)
    return Match(tried[0], found, nearest, accident, digits, tuple(tried))


def _accident(tried: Sequence[Definition], reported: Mapping[str, float], half: float, step: float) -> float:
    """The chance that one of these definitions gives reported values that none of them made.

    Values that the usual definition gives are no evidence for another one, so only the others count, and only definitions
    that leave the former as they are. The reported value is taken to be anywhere in the range that the definitions span;
    definitions that give the same values are one.
    """
    usual = tried[0]
    kept = {name: value for name, value in reported.items() if abs(usual.values[name] - value) <= half}
    moved = [name for name in reported if name not in kept]
    rivals = [
        one for one in tried if all(abs(one.values[name] - value) <= half for name, value in kept.items())
    ]
    if not moved:
        return 1.0
    distinct = {tuple(round(one.values[name] / step) for name in moved) for one in rivals if one is not usual}
    cells = 1.0
    for name in moved:
        values = [one.values[name] for one in tried] + [reported[name]]
        cells *= max((max(values) - min(values)) / step, 1.0)
    return float(min(1.0, -math.expm1(len(distinct) * math.log1p(-1 / max(cells, 1 + 1e-9)))))


def definitions(logits: Logits, labels: Labels, names: Sequence[str]) -> Iterator[Definition]:
    """Every definition with the values it gives under these names (``macro_f1@0.5``, …); the usual one first, nearest first."""
    scored = _Scored(logits, labels)
    wanted = [(name, name.split("@")[0], float(name.split("@")[1])) for name in names]

    def defined(rule: "_Rule", average: "_Average", tier: int) -> Definition:
        values = {}
        for name, kind, threshold in wanted:
            decided = rule.decided(scored, threshold)
            values[name] = (average.macro if kind == "macro_f1" else average.micro)(decided)
        return Definition(
            ".".join(filter(None, (rule.name, average.name))) or "usual",
            ", ".join(filter(None, (rule.words, average.words))) or "decision >, all codes averaged, 0/0 = 0",
            tier,
            values,
        )

    for average in AVERAGES:
        yield defined(GREATER, average, 0 if average is AVERAGES[0] else 1)
    for rule in RULES:
        for average in AVERAGES:
            yield defined(rule, average, 2)
    for rule in (*_top_k(logits.shape[1]), *_tuned(scored)):
        for average in AVERAGES[:FEW]:
            yield defined(rule, average, 3)
    for size in BATCHES:
        if size < len(logits):
            yield defined(GREATER, _batched(size), 3)
    yield from _thresholds(scored, wanted)


def tuned_on_itself(logits: Logits, labels: Labels, reported: Mapping[str, float]) -> Definition | None:
    """The tuned scores that were reported, if tuning on the scored run itself gives all of them to the last digit.

    The threshold is the first best by micro F1, or by macro F1, on the seed's grid. The validation score must be among them:
    a threshold that was tuned on other notes often falls on the same value, the score there does not.
    """
    wanted = {name: value for name, value in reported.items() if name in TUNED}
    if "validation_micro_f1" not in wanted or len(wanted) < 2:
        return None
    half = (
        0.5 * 10.0 ** -digits_of([value for name, value in wanted.items() if name != "best_threshold"]) + 1e-9
    )
    swept = _Scored(logits, labels).swept(tuple(SEED_GRID))
    macro, micro = macro_f1(swept), micro_f1(swept)
    for by, values in (("micro", micro), ("macro", macro)):
        best = int(np.argmax(values))
        threshold = float(SEED_GRID[best])
        given = dict(
            zip(TUNED, (threshold, float(values[best]), float(macro[best]), float(micro[best])), strict=True)
        )
        definition = Definition(
            f"tuned_on_scored.{by}", f"threshold tuned on the scored notes by {by} F1", 3, given
        )
        near = {name: STEP / 2 if name == "best_threshold" else half for name in wanted}
        if all(abs(given[name] - value) <= near[name] for name, value in wanted.items()):
            return definition
    return None


TUNED: tuple[str, ...] = ("best_threshold", "validation_micro_f1", "tuned_macro_f1", "tuned_micro_f1")
STEP = 0.01  # of the seed's grid


@dataclass(frozen=True, eq=False)
class _Decided:
    """Decisions and their counts."""

    chosen: Decisions
    labels: Labels

    @cached_property
    def counts(self) -> Counts:
        return counts_of_decisions(self.chosen, self.labels)

    @property
    def per_code(self) -> np.ndarray:
        return f1_per_code(self.counts)[0]

    @cached_property
    def per_note(self) -> np.ndarray:
        """F1 of every note; 0/0 = 0."""
        right = np.count_nonzero(self.chosen & (self.labels != 0), axis=1)
        return f1(right, np.count_nonzero(self.chosen, axis=1), np.count_nonzero(self.labels, axis=1))


class _Scored:
    """Logits and labels, and what several definitions need of them, computed once."""

    def __init__(self, logits: Logits, labels: Labels) -> None:
        self.logits, self.labels = logits, labels
        self._decided: dict[tuple[str, float], _Decided] = {}

    @cached_property
    def probability(self) -> np.ndarray:
        return probabilities(self.logits)

    @cached_property
    def ranked(self) -> np.ndarray:
        """Codes of every note, most probable first."""
        return np.argsort(-self.logits, axis=1, kind="stable")

    def swept(self, grid: tuple[float, ...]) -> Counts:
        return counts_of_logits(self.logits, self.labels, np.array(grid))

    def decided(
        self, name: str, threshold: float, choose: Callable[["_Scored", float], np.ndarray]
    ) -> _Decided:
        key = name, threshold
        if key not in self._decided:
            self._decided[key] = _Decided(choose(self, threshold), self.labels)
        return self._decided[key]


@dataclass(frozen=True)
class _Rule:
    """What is assigned."""

    name: str
    words: str
    choose: Callable[[_Scored, float], np.ndarray]

    def decided(self, scored: _Scored, threshold: float) -> _Decided:
        return scored.decided(self.name, threshold, self.choose)


@dataclass(frozen=True)
class _Average:
    """What is called macro, and what micro."""

    name: str
    words: str
    macro: Callable[[_Decided], float]
    micro: Callable[[_Decided], float]


def _macro(decided: _Decided) -> float:
    return float(macro_f1(decided.counts)[0])


def _micro(decided: _Decided) -> float:
    return float(micro_f1(decided.counts)[0])


def _of_means(decided: _Decided) -> float:
    return float(macro_f1_of_means(decided.counts)[0])


def _occurring(decided: _Decided) -> float:
    return float(macro_f1_with_support(decided.counts)[0])


def _weighted(decided: _Decided) -> float:
    positives = decided.counts.positives
    return float((decided.per_code * positives).sum() / max(int(positives.sum()), 1))


def _samples(decided: _Decided) -> float:
    return float(decided.per_note.mean())


def _seen(decided: _Decided) -> float:
    """Over codes that occur or are assigned, as `zero_division=nan` averages them."""
    seen = (decided.counts.positives + decided.counts.predicted_positives[0]) > 0
    return float(decided.per_code[seen].mean()) if seen.any() else 0.0


def _ones(decided: _Decided) -> float:
    """0/0 = 1 (`zero_division=1`)."""
    seen = (decided.counts.positives + decided.counts.predicted_positives[0]) > 0
    return float(np.where(seen, decided.per_code, 1.0).mean())


def _accuracy(decided: _Decided) -> float:
    return float((decided.chosen == (decided.labels != 0)).mean())


def _exactly(decided: _Decided) -> float:
    return float((decided.chosen == (decided.labels != 0)).all(axis=1).mean())


AVERAGES = (
    _Average("", "", _macro, _micro),
    _Average("f1_of_means", "macro as F1 of mean precision and mean recall", _of_means, _micro),
    _Average("codes_that_occur", "macro over codes that occur", _occurring, _micro),
    _Average("weighted", "macro weighted by support", _weighted, _micro),
    _Average("samples", "macro as mean over notes", _samples, _micro),
    _Average("samples_as_micro", "micro as mean over notes", _macro, _samples),
    _Average("swapped", "macro and micro exchanged", _micro, _macro),
    _Average("codes_seen", "macro over codes that occur or are assigned", _seen, _micro),
    _Average("zero_division_1", "macro with 0/0 = 1", _ones, _micro),
    _Average("accuracy_as_micro", "share of right decisions in place of micro", _macro, _accuracy),
    _Average("exact_match_as_micro", "share of notes right throughout in place of micro", _macro, _exactly),
)
FEW = 5  # averages that are tried with decisions far from the usual one


def _labels_a_note(scored: _Scored) -> int:
    return round(float(scored.labels.sum(axis=1, dtype=np.int64).mean()))


def _chosen_top(scored: _Scored, k: int) -> np.ndarray:
    chosen = np.zeros(scored.logits.shape, bool)
    np.put_along_axis(chosen, scored.ranked[:, :k], True, axis=1)
    return chosen


def _softmax(scored: _Scored) -> np.ndarray:
    shifted = np.exp(scored.logits - scored.logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


GREATER = _Rule("", "", lambda scored, threshold: decisions(scored.logits, threshold))
RULES = (
    _Rule("at_least", "decision ≥ threshold", lambda scored, t: scored.probability >= t),
    _Rule("on_logits", "threshold applied to the logits", lambda scored, t: scored.logits > t),
    _Rule("double_sigmoid", "sigmoid applied twice", lambda scored, t: probabilities(scored.probability) > t),
    _Rule("softmax", "softmax instead of sigmoid", lambda scored, t: _softmax(scored) > t),
    _Rule(
        "rounded", "probabilities rounded (half to even)", lambda scored, t: np.round(scored.probability) > 0
    ),
    _Rule(
        "top_mean",
        "as many codes a note as notes have on average",
        lambda scored, t: _chosen_top(scored, _labels_a_note(scored)),
    ),
)


def _top_k(codes: int) -> Iterator[_Rule]:
    for k in range(1, min(TOP, codes - 1) + 1):
        yield _Rule(f"top_{k}", f"top {k} codes of every note", lambda scored, t, k=k: _chosen_top(scored, k))


def _tuned(scored: _Scored) -> Iterator[_Rule]:
    """Thresholds chosen on the scored notes themselves: one by micro F1, one by macro F1, one for every code."""
    swept = scored.swept(tuple(SEED_GRID))
    for by, values in (("micro", micro_f1(swept)), ("macro", macro_f1(swept))):
        best = float(SEED_GRID[int(np.argmax(values))])
        yield _Rule(
            f"tuned_on_scored.{by}",
            f"threshold tuned on the scored notes by {by} F1",
            lambda scored, t, best=best: decisions(scored.logits, best),
        )
    own = SEED_GRID[np.argmax(f1_per_code(swept), axis=0)]
    yield _Rule(
        "tuned_on_scored.per_code",
        "a threshold for every code, tuned on the scored notes",
        lambda scored, t: scored.probability > own,
    )


def _batched(size: int) -> _Average:
    """The mean of F1 over batches of that many consecutive notes."""

    def mean(of: Callable[[_Decided], float]) -> Callable[[_Decided], float]:
        return lambda decided: float(
            np.mean(
                [
                    of(_Decided(decided.chosen[start : start + size], decided.labels[start : start + size]))
                    for start in range(0, len(decided.labels), size)
                ]
            )
        )

    return _Average(
        f"mean_over_batches_of_{size}", f"mean over batches of {size} notes", mean(_macro), mean(_micro)
    )


def _thresholds(scored: _Scored, wanted: Sequence[tuple[str, str, float]]) -> Iterator[Definition]:
    """Another threshold than the one reported, on the grid of hundredths."""
    swept = scored.swept(tuple(GRID))
    micro = micro_f1(swept)
    macros = {
        "": macro_f1(swept),
        "f1_of_means": macro_f1_of_means(swept),
        "codes_that_occur": macro_f1_with_support(swept),
    }
    for average, macro in macros.items():
        for place, threshold in enumerate(GRID):
            values = {
                name: float((macro if kind == "macro_f1" else micro)[place]) for name, kind, _ in wanted
            }
            words = next(one.words for one in AVERAGES if one.name == average)
            yield Definition(
                ".".join(filter(None, (f"threshold_{threshold:g}", average))),
                ", ".join(filter(None, (f"threshold {threshold:g}", words))),
                3,
                values,
            )
