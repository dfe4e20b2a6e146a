"""F1 against threshold, the tuned threshold and its plateau, top-k: the three protocols of the seed."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np

from shifamind_core.analysis import scores
from shifamind_core.analysis.checks import code_names, over_codes, refuse_non_finite, required_labels
from shifamind_core.analysis.counts import (
    Counts,
    Decisions,
    counts_of_decisions,
    counts_of_logits,
    counts_one_by_one,
)
from shifamind_core.analysis.oddities import RepeatedIds, oddities, repeated_ids
from shifamind_core.analysis.validation import require_validation
from shifamind_core.arrays import Labels, Logits, Probabilities, Thresholds, frozen, probabilities
from shifamind_core.runs.blocks import over_blocks
from shifamind_core.runs.run import Run

GridName: TypeAlias = Literal["seed", "clean"]

# The seed's grid, exactly: 80 values without 0.9, of which 76 are not the nearest double to their two decimals
# ("0.5" is 0.4999999999999998).
SEED_GRID = frozen(np.arange(0.1, 0.9, 0.01))
# The same 80 decimals, each the nearest double.
CLEAN_GRID = frozen(np.arange(10, 90) / 100)
GRIDS: Mapping[GridName, Thresholds] = MappingProxyType({"seed": SEED_GRID, "clean": CLEAN_GRID})

FIXED_THRESHOLD = 0.5
PLATEAU_TOLERANCE = 0.001

# A logit that is 0.001 below another has a probability that is at least 0.001 % below, while that is at most 0.99; an FP32 sigmoid is right
# to about 1e-7 of itself down to −80, where it still is a normal number.
CLEAR, CLEAR_FROM, CLEAR_TO = 0.001, -80.0, 4.5


@dataclass(frozen=True, eq=False)
class ThresholdCurve:
    """Scores at every threshold of a grid. Decision: >; macro over all codes; 0/0 = 0.

    Attributes
    ----------
    name : str
        The run's name.
    counts : Counts
        From which every score of the curve is derived.
    """

    name: str
    counts: Counts

    @property
    def thresholds(self) -> Thresholds:
        """The grid, in its own order."""
        return self.counts.thresholds

    @cached_property
    def micro_f1(self) -> scores.PerThreshold:
        """F1 of the pooled counts."""
        return scores.micro_f1(self.counts)

    @cached_property
    def macro_f1(self) -> scores.PerThreshold:
        """Mean F1 over all codes."""
        return scores.macro_f1(self.counts)

    @cached_property
    def macro_f1_of_means(self) -> scores.PerThreshold:
        """Harmonic mean of mean precision and mean recall over all codes."""
        return scores.macro_f1_of_means(self.counts)

    @cached_property
    def micro_precision(self) -> scores.PerThreshold:
        """Right among all that was predicted."""
        return scores.micro_precision(self.counts)

    @cached_property
    def micro_recall(self) -> scores.PerThreshold:
        """Predicted among all that was right."""
        return scores.micro_recall(self.counts)


@dataclass(frozen=True)
class Plateau:
    """All grid thresholds whose micro F1 lies within `tolerance` of the best: none of them is "the" optimum.

    `thresholds` is complete and ascending; `contiguous` says that no threshold between the lowest and the
    highest of them falls out.
    """

    thresholds: tuple[float, ...]
    contiguous: bool
    tolerance: float = PLATEAU_TOLERANCE

    @property
    def lowest(self) -> float:
        return self.thresholds[0]

    @property
    def highest(self) -> float:
        return self.thresholds[-1]

    @property
    def count(self) -> int:
        return len(self.thresholds)


@dataclass(frozen=True)
class TunedThreshold:
    """The seed's `tune_threshold`: the first of the best by micro F1; 0.5 where nothing scores above 0."""

    threshold: float
    micro_f1: float
    plateau: Plateau


@dataclass(frozen=True)
class Score:
    """F1 at one decision rule (> threshold, or the k most probable); 0/0 = 0.

    `macro_f1` is the mean over all codes, `macro_f1_with_support` over those that occur among the labels,
    `macro_f1_of_means` the harmonic mean of mean precision and mean recall over all codes.
    """

    macro_f1: float
    micro_f1: float
    macro_f1_with_support: float
    macro_f1_of_means: float


@dataclass(frozen=True)
class CodeScore:
    """One code at threshold 0.5 (decision: >; 0/0 = 0)."""

    code: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One run under the seed's three protocols. Decision: >; macro over all codes; 0/0 = 0.

    Attributes
    ----------
    name, digest : str
        Of the run.
    documents, codes : int
    codes_of : int
        Of how many codes these are a part: every macro mean here is over `codes` of them.
    fixed : Score
        At threshold 0.5.
    tuned_threshold : TunedThreshold, optional
        Chosen on the validation run; `None` without one: nothing is ever tuned on the run that is scored.
    tuned : Score, optional
        This run at that threshold.
    shared : int, optional
        Notes of this run that the validation run holds too.
    k : int
        Rounded mean number of labels a note of this run.
    top_k : Score
        The k most probable codes of each note.
    per_code : tuple of CodeScore
        At threshold 0.5, in column order.
    repeated : RepeatedIds, optional
        Document ids that stand on several rows.
    remarks : tuple of str
        What was assumed or is odd about the run or its validation run.
    """

    name: str
    digest: str
    documents: int
    codes: int
    codes_of: int
    fixed: Score
    tuned_threshold: TunedThreshold | None
    tuned: Score | None
    shared: int | None
    k: int
    top_k: Score
    per_code: tuple[CodeScore, ...]
    repeated: RepeatedIds | None
    remarks: tuple[str, ...]

    @property
    def over(self) -> str:
        """What macro means are over, in words."""
        return over_codes(self.codes, self.codes_of)


def threshold_curve(run: Run, grid: Thresholds = SEED_GRID) -> ThresholdCurve:
    """Scores of the run at every threshold of the grid.

    Raises
    ------
    ShifamindError
        No labels, labels that are not 0 or 1, or logits that are not finite.
    """
    return ThresholdCurve(run.name, run_counts(run, grid))


def run_counts(run: Run, thresholds: Thresholds) -> Counts:
    """The run's counts; refuses what cannot be scored (see `threshold_curve`)."""
    labels = required_labels(run)
    refuse_non_finite(run)
    return counts_of_logits(run.logits, labels, thresholds)


def tune(curve: ThresholdCurve) -> TunedThreshold:
    """The threshold the seed's loop would choose: first best micro F1 in grid order, starting from 0 at 0.5.

    >>> validation = Run(np.array([[-0.8], [-1.4]]), labels=np.array([[1], [0]], np.uint8))  # 0.31, 0.198
    >>> tuned = tune(threshold_curve(validation, CLEAN_GRID))
    >>> tuned.threshold, tuned.plateau.lowest, tuned.plateau.highest, tuned.plateau.count
    (0.2, 0.2, 0.31, 12)
    """
    best = int(np.argmax(curve.micro_f1))
    micro_f1 = float(curve.micro_f1[best])
    threshold = float(curve.thresholds[best]) if micro_f1 > 0 else FIXED_THRESHOLD
    return TunedThreshold(threshold, micro_f1, plateau(curve))


def plateau(curve: ThresholdCurve, tolerance: float = PLATEAU_TOLERANCE) -> Plateau:
    """All thresholds of the grid within `tolerance` of the best micro F1."""
    order = np.argsort(curve.thresholds, kind="stable")
    within = np.flatnonzero(curve.micro_f1[order] >= curve.micro_f1.max() - tolerance)
    return Plateau(
        thresholds=tuple(float(t) for t in curve.thresholds[order][within]),
        contiguous=bool(within[-1] - within[0] + 1 == len(within)),
        tolerance=tolerance,
    )


def labels_per_note(labels: Labels) -> int:
    """Rounded mean number of labels a note (half to even, as Python rounds)."""
    notes = np.concatenate(list(over_blocks(lambda rows: labels[rows].sum(axis=1, dtype=np.int64), labels)))
    return round(float(notes.mean()))


def top_k_counts(probability: Probabilities, labels: Labels, k: int) -> Counts:
    """Counts when each note is assigned its k most probable codes.

    The public scripts take `np.argsort(row)[-k:]`; so does this, as a stable sort would: of equal probabilities the later
    column is taken first. (Theirs is unstable, so their ties are not defined.)
    """
    return counts_of_decisions(_most_probable(probability, k), labels)


def _most_probable_by_logit(logits: Logits, k: int) -> Decisions:
    """`_most_probable` of the FP32 sigmoid, taken of those notes alone in which another code is too near to the k-th."""
    if not k:
        return np.zeros(logits.shape, bool)
    least = _largest(logits, k).astype(np.float64)
    chosen = logits >= (least - CLEAR).astype(logits.dtype)
    clear = (least[:, 0] >= CLEAR_FROM) & (least[:, 0] <= CLEAR_TO)
    near = np.flatnonzero(~clear | (np.count_nonzero(chosen, axis=1) != k))
    chosen[near] = _most_probable(probabilities(logits[near]), k)
    return chosen


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """The k-th largest of every row: [documents, 1]."""
    place = values.shape[1] - k
    return np.partition(values, place, axis=1)[:, place, None]


def _most_probable(probability: Probabilities, k: int) -> Decisions:
    if not k:
        return np.zeros(probability.shape, bool)
    least = _largest(probability, k)
    chosen = probability >= least
    # Where more are level with the k-th than there is room for, the later columns have it.
    for note in np.flatnonzero(np.count_nonzero(chosen, axis=1) > k):
        level = np.flatnonzero(probability[note] == least[note])
        chosen[note, level[: np.count_nonzero(chosen[note]) - k]] = False
    return chosen


def _counted(run: Run, thresholds: Thresholds, k: int) -> tuple[Counts, Counts]:
    """Counts at the thresholds and of the k most probable codes, in one pass over blocks of notes: a run may be mapped."""
    labels = required_labels(run)

    def count(rows: slice) -> tuple[Counts, Counts]:
        logits = run.logits[rows]
        return (
            counts_one_by_one(logits, labels[rows], thresholds),
            counts_of_decisions(_most_probable_by_logit(logits, k), labels[rows]),
        )

    counted = over_blocks(count, run.logits, labels)
    fixed, most_probable = next(counted)
    for one, other in counted:
        fixed, most_probable = fixed + one, most_probable + other
    return fixed, most_probable


def evaluate(run: Run, validation: Run | None = None, grid: GridName = "seed") -> Evaluation:
    """The seed's three protocols: fixed at 0.5, tuned on validation, top-k.

    Raises
    ------
    ShifamindError
        No labels, labels that are not 0 or 1, logits that are not finite, or a validation run over other
        codes or over the notes that are scored.
    """
    tuned_threshold, shared = None, None
    thresholds = [FIXED_THRESHOLD]
    if validation is not None:
        shared = require_validation(run, validation)
        tuned_threshold = tune(threshold_curve(validation, GRIDS[grid]))
        thresholds.append(tuned_threshold.threshold)
    labels = required_labels(run)
    with ThreadPoolExecutor(1) as beside:
        digest = beside.submit(lambda: run.digest)  # a large run's takes as long as all the rest
        k = labels_per_note(labels)
        refuse_non_finite(run)
        counts, top_k = _counted(run, np.array(thresholds), k)
        remarks = tuple(_remarks(run, validation, shared))
    return Evaluation(
        name=run.name,
        digest=digest.result(),
        documents=run.documents,
        codes=run.logits.shape[1],
        codes_of=run.codes_of,
        fixed=score(counts.at(0)),
        tuned_threshold=tuned_threshold,
        tuned=None if tuned_threshold is None else score(counts.at(1)),
        shared=shared,
        k=k,
        top_k=score(top_k),
        per_code=code_scores(counts.at(0), code_names(run)),
        repeated=repeated_ids(run),
        remarks=remarks,
    )


def _remarks(run: Run, validation: Run | None, shared: int | None) -> Iterator[str]:
    if run.codes_of > run.logits.shape[1]:
        yield f"Macro means are over {over_codes(run.logits.shape[1], run.codes_of)}."
    yield from (*run.manifest.notes, *oddities(run))
    if validation is not None:
        said = (*validation.manifest.notes, *oddities(validation))
        yield from (f"Validation run: {remark}" for remark in said)
    if shared:
        yield (
            f"{shared:,} of the {run.documents:,} scored notes are in the validation run too: the tuned scores are in part "
            "of notes that the threshold was tuned on."
        )


def score(counts: Counts) -> Score:
    """Every F1 of counts at one threshold."""
    return Score(
        macro_f1=float(scores.macro_f1(counts)[0]),
        micro_f1=float(scores.micro_f1(counts)[0]),
        macro_f1_with_support=float(scores.macro_f1_with_support(counts)[0]),
        macro_f1_of_means=float(scores.macro_f1_of_means(counts)[0]),
    )


def code_scores(counts: Counts, codes: tuple[str, ...]) -> tuple[CodeScore, ...]:
    """Precision, recall and F1 of every code of counts at one threshold."""
    columns = (
        counts.positives.tolist(),
        scores.precision_per_code(counts)[0].tolist(),
        scores.recall_per_code(counts)[0].tolist(),
        scores.f1_per_code(counts)[0].tolist(),
    )
    return tuple(CodeScore(*row) for row in zip(codes, *columns, strict=True))


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """The `evaluate` command's document. `plateau` lists every threshold of it, ascending."""
    tuned = None
    if evaluation.tuned_threshold is not None and evaluation.tuned is not None:
        tuned = {
            "threshold": evaluation.tuned_threshold.threshold,
            "validation_micro_f1": evaluation.tuned_threshold.micro_f1,
            **_both(evaluation.tuned),
            "plateau": list(evaluation.tuned_threshold.plateau.thresholds),
        }
    return {
        "name": evaluation.name,
        "digest": evaluation.digest,
        "documents": evaluation.documents,
        "codes": evaluation.codes,
        "codes_of": evaluation.codes_of,
        "macro_f1_over": evaluation.over,
        "fixed": {"threshold": FIXED_THRESHOLD, **_both(evaluation.fixed)},
        "tuned": tuned,
        "top_k": {"k": evaluation.k, **_both(evaluation.top_k)},
        "macro_f1_of_means": evaluation.fixed.macro_f1_of_means,
        "macro_f1_with_support": evaluation.fixed.macro_f1_with_support,
        "repeated_ids": None if evaluation.repeated is None else vars(evaluation.repeated),
        "shared_with_validation": evaluation.shared,
        "remarks": list(evaluation.remarks),
        "per_code": [vars(code) for code in evaluation.per_code],
    }


def _both(value: Score) -> dict[str, float]:
    return {"macro_f1": value.macro_f1, "micro_f1": value.micro_f1}
