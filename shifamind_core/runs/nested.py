"""Arrays as other programs nest them: under other names, in lists of batches, two columns a code.

Hugging Face's `Trainer.predict` says `predictions` and `label_ids`, Lightning gives a list of batches, scikit-learn's
`predict_proba` a list with one array [notes, 2] a code. All of them come out as arrays named as in a run file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.assemble import ARRAYS, listed, shown

Nested: TypeAlias = Any  # an array, a list of these, or a mapping from names to these

ARRAY_NAMES = (*ARRAYS, "probabilities")
SCORE_NAMES = ("scores", "predictions", "preds", "y_score", "y_pred", "outputs", "output")
ALIASES = {
    **dict.fromkeys(SCORE_NAMES, "scores"),
    "logit": "logits",
    **dict.fromkeys(("probs", "prob", "proba", "y_prob", "y_proba"), "probabilities"),
    **dict.fromkeys(
        ("label_ids", "label", "targets", "target", "references", "y_true", "y_test", "y"), "labels"
    ),
    "document_id": "document_ids",
}
"""Names that other programs use, and ours (`scores`: they may be logits or probabilities)."""

SCORES = {"logits", "probabilities", "scores"}
ONE_AXIS = ("document_ids", "token_digests", "token_counts")
TO_ONE = 1e-3  # how far two probabilities of float16 may be from adding up to 1


@dataclass(frozen=True)
class Arrays:
    """Arrays under the names of `ARRAY_NAMES` or `scores`; names of what was not read; code names, where arrays bore them."""

    arrays: dict[str, np.ndarray]
    others: list[str]
    notes: list[str] = field(default_factory=list)
    codes: list[str] | None = None


def untangle(name: str, nested: Nested) -> Arrays:
    """The arrays of a file, however its writer nested them.

    Raises
    ------
    ShifamindError
        A nesting that says nothing about what is what, or batches that do not fit together.
    """
    notes: list[str] = []
    named = _named(name, nested, notes)
    chosen = _chosen(name, named, notes)
    arrays: dict[str, np.ndarray] = {}
    for part, value in chosen.items():
        arrays |= _joined(name, part, value, notes)
    used = {id(value) for value in chosen.values()}
    rest = {key: value for key, value in named.items() if id(value) not in used}
    if not SCORES & set(arrays) and (pairs := _pairs_by_code(name, rest)) is not None:
        codes, probabilities = pairs
        return Arrays({**arrays, "probabilities": probabilities}, [], [*notes, PAIRS_NOTE], codes)
    return Arrays(arrays, list(rest), notes)


PAIRS_NOTE = (
    "Two columns a code, as scikit-learn's predict_proba gives them: the second was read as the probability."
)


def _named(name: str, nested: Nested, notes: list[str]) -> Mapping[str, Nested]:
    """The outermost level as a mapping."""
    if isinstance(nested, np.ndarray):
        return {"scores": nested}
    if isinstance(nested, Mapping):
        return nested
    if not nested:
        raise ShifamindError(f"{name} holds an empty list. Save the scores of all notes.")
    if all(isinstance(item, Sequence) and len(item) == 1 for item in nested):
        nested = [item[0] for item in nested]  # one data loader, or one output a batch
    if len(nested) == 1 and not isinstance(nested[0], np.ndarray):
        return _named(name, nested[0], notes)
    if all(isinstance(item, np.ndarray) for item in nested):
        if _scores_and_labels([nested]):
            notes.append("Two arrays of one shape, the second of 0 and 1: read as scores and labels.")
            return {"scores": nested[0], "labels": nested[1]}
        return {"scores": nested}
    if all(isinstance(item, Mapping) for item in nested):
        keys = [key for key in nested[0] if all(key in item for item in nested)]
        return {key: [item[key] for item in nested] for key in keys}
    if len(nested) == 2 and all(_is_array(item) and isinstance(item, Sequence) for item in nested):
        together = [*zip(*nested, strict=False)]
        if len(nested[0]) == len(nested[1]) and _scores_and_labels(together):
            nested = together  # all batches of scores, then all of labels
    if all(isinstance(item, Sequence) for item in nested) and _scores_and_labels(nested):
        notes.append("Batches of two arrays, the second of 0 and 1: read as scores and labels.")
        return {"scores": [item[0] for item in nested], "labels": [item[1] for item in nested]}
    raise ShifamindError(
        f"{name} holds a list of {len(nested):,} things that are neither batches of scores nor of scores and labels (of "
        "several data loaders, save one). Save a dict with 'logits' and 'labels' in it."
    )


def _scores_and_labels(batches: Sequence[Nested]) -> bool:
    return all(
        isinstance(batch, Sequence)
        and len(batch) == 2
        and all(isinstance(array, np.ndarray) and array.ndim == 2 for array in batch)
        and batch[0].shape == batch[1].shape
        and zero_or_one(batch[1])
        for batch in batches
    ) and not all(zero_or_one(batch[0]) for batch in batches)


def zero_or_one(array: np.ndarray) -> bool:
    """Whether an array holds nothing but 0 and 1: labels or decisions."""
    return array.dtype.kind in "biuf" and bool(array.size) and bool(((array == 0) | (array == 1)).all())


def _chosen(name: str, named: Mapping[str, Nested], notes: list[str]) -> dict[str, Nested]:
    """What is read: under its own name, or under another program's where that is missing."""
    chosen = {part: named[part] for part in ARRAY_NAMES if part in named}
    has_scores = bool(SCORES & set(chosen))
    read_as = []
    for part in ("logits", "probabilities", "scores", "labels", "document_ids"):
        found = [key for key in named if ALIASES.get(key) == part and _is_array(named[key])]
        if part in chosen or not found or (has_scores and part in SCORES):
            continue
        if len(found) > 1:
            graded = [key for key in found if not all(zero_or_one(array) for array in _listed(named[key]))]
            found = graded if part == "scores" and graded else found
        if len(found) > 1:
            raise ShifamindError(
                f"{name} holds {listed(found)}; which of them are the {part} cannot be told. Name one of them "
                f"{'logits or probabilities' if part == 'scores' else part!r}."
            )
        chosen[part] = named[found[0]]
        has_scores = has_scores or part in SCORES
        if found[0] not in (part, "document_id"):
            read_as.append(f"{shown(found[0])} as {part}")
    if read_as:
        notes.append(f"Read {', '.join(read_as)}.")
    return chosen


def _is_array(value: Nested) -> bool:
    return isinstance(value, np.ndarray) or (
        isinstance(value, Sequence) and bool(value) and all(isinstance(item, np.ndarray) for item in value)
    )


def _listed(value: Nested) -> list[np.ndarray]:
    return [value] if isinstance(value, np.ndarray) else list(value)


def _joined(name: str, part: str, value: Nested, notes: list[str]) -> dict[str, np.ndarray]:
    """One array of an array, of batches, of rows, or of two columns a code."""
    if part in ("scores", "probabilities") and (pairs := _pairs(value)) is not None:
        _require_both_classes(name, pairs)
        notes.append(PAIRS_NOTE)
        return {"probabilities": np.column_stack([pair[:, 1] for pair in pairs])}
    if isinstance(value, np.ndarray):
        return {part: value}
    if not _is_array(value):
        raise ShifamindError(f"{name} holds a {type(value).__name__} under {part!r}; expected a tensor.")
    arrays = _listed(value)
    width = arrays[0].shape[1:]
    for i, array in enumerate(arrays):
        if array.ndim != arrays[0].ndim or (array.ndim and array.shape[1:] != width):
            raise ShifamindError(
                f"{name}: batch {i} of {part} has shape {array.shape}, the first {arrays[0].shape}. Batches are notes × "
                "codes, all over the same codes."
            )
    rows = arrays[0].ndim == 1 and part not in ONE_AXIS
    if rows and len({array.shape for array in arrays}) > 1:
        raise ShifamindError(f"{name}: the rows of {part} are of unequal length. Each has one number a code.")
    notes.append(
        f"{part.capitalize()}: {len(arrays):,} {'rows' if rows else 'batches'}, put one after the other."
    )
    return {part: np.stack(arrays) if rows or not arrays[0].ndim else np.concatenate(arrays)}


def _pairs(value: Nested) -> list[np.ndarray] | None:
    """Arrays [notes, 2], one a code, whose rows add up to 1: scikit-learn's. An array [notes, 1] may be among them."""
    arrays = list(value) if isinstance(value, np.ndarray) and value.ndim == 3 else value
    if isinstance(arrays, np.ndarray) or not _is_array(arrays):
        return None
    pairs = _listed(arrays)
    if any(pair.ndim != 2 or len(pair) != len(pairs[0]) or pair.dtype.kind != "f" for pair in pairs):
        return None
    if not any(pair.shape[1] == 2 for pair in pairs) or any(pair.shape[1] not in (1, 2) for pair in pairs):
        return None
    adds_up = all(
        (pair >= 0).all() and (np.abs(pair.sum(axis=1, dtype=np.float64) - 1) <= TO_ONE).all()
        for pair in pairs
    )
    return pairs if adds_up else None


def _require_both_classes(name: str, pairs: list[np.ndarray]) -> None:
    single = [i for i, pair in enumerate(pairs) if pair.shape[1] == 1]
    if single:
        raise ShifamindError(
            f"{name}: the array of code {single[0]} has one column, not two: in training this code was always 0 or always 1, "
            "and the array does not say which. Put a column of zeros (or ones) beside it."
        )


def _pairs_by_code(name: str, named: Mapping[str, Nested]) -> tuple[list[str] | None, np.ndarray] | None:
    """Arrays [notes, 2] under the codes' names, or under `arr_0`, `arr_1`, … as `numpy.savez` numbers them."""
    if not named or not all(isinstance(value, np.ndarray) for value in named.values()):
        return None
    names = list(named)
    numbered = all(key.startswith("arr_") and key[4:].isdecimal() for key in names)
    if numbered:
        names.sort(key=lambda key: int(key[4:]))
    values = [named[key] for key in names]
    single = values[0] if len(values) == 1 else values
    pairs = _pairs(single)
    if pairs is None:
        return None
    _require_both_classes(name, pairs)
    return None if numbered else names, np.column_stack([pair[:, 1] for pair in pairs])
