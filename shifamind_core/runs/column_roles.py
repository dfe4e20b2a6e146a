"""What the columns of a foreign table are: scores, labels, or neither; from their names and their values.

People write `I10_prob`, `logit_I10`, `label_I10`, `prediction_0`: what stands before or after the code says what the
column holds, and the code is what remains. A column that holds nothing but 0 and 1 is never taken for scores.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.assemble import listed, shown

Role = Literal["logits", "probabilities", "percentages", "scores", "labels", "decisions"]

WORDS: dict[str, Role] = {
    **dict.fromkeys(("logit", "logits"), "logits"),
    **dict.fromkeys(("prob", "probs", "proba", "probability", "probabilities", "y_prob", "y_proba", "p"), "probabilities"),
    **dict.fromkeys(("percent", "percentage", "pct", "%"), "percentages"),
    **dict.fromkeys(
        ("score", "scores", "pred", "preds", "prediction", "predictions", "y_pred", "y_score", "output", "outputs"),
        "scores",
    ),
    **dict.fromkeys(
        ("label", "labels", "true", "truth", "target", "targets", "gold", "actual", "y_true", "y"), "labels"
    ),
    **dict.fromkeys(("decision", "decisions", "predicted", "assigned", "pred_label"), "decisions"),
}  # fmt: skip
_WORD = "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True))
_BEFORE = re.compile(rf"(?P<word>{_WORD})(?:[ _.:/-]+(?P<code>.+)|[(\[](?P<inside>.+)[)\]])", re.IGNORECASE)
_AFTER = re.compile(rf"(?P<code>.+?)[ _.:/-]+\(?(?P<word>{_WORD})\)?", re.IGNORECASE)
NUMBERED = "The columns are numbered, not named: the numbers are positions, the code names are not known."
# No two percentages lie further apart, nor whole logits: FP32's sigmoid has left 0 at -104 and reached 1 at 17.
WIDEST_PERCENT = 100
SCORES: tuple[Role | None, ...] = ("logits", "probabilities", "percentages", "scores", None)  # best first


@dataclass(frozen=True)
class Column:
    """One column: `code` is its name without the word that says what it holds (`role`, `None` where none does)."""

    name: str
    code: str
    role: Role | None
    values: np.ndarray

    @property
    def two_valued(self) -> bool:
        """Nothing but 0 and 1, and both of them: labels or decisions."""
        return self.zero_or_one and bool((self.values == 1).any())

    @property
    def numbers_rows(self) -> bool:
        """Whole numbers that count up from 0 or 1: a row number, and no scores."""
        start = int(self.values[0] == 1)
        return len(self.values) > 2 and np.array_equal(
            self.values, np.arange(start, start + len(self.values))
        )

    @property
    def holds_ids(self) -> bool:
        """Whole numbers, none twice, that reach further than percentages do: ids of notes or admissions, and no scores."""
        values = self.values
        return (
            bool((values == np.rint(values)).all() and np.isfinite(values).all())
            and np.ptp(values) > WIDEST_PERCENT
            and len(np.unique(values)) == len(values)
        )

    @property
    def zero_or_one(self) -> bool:
        """Nothing but 0 and 1, as far as there are numbers."""
        numbers = self.values[~np.isnan(self.values)]
        return bool(numbers.size and ((numbers == 0) | (numbers == 1)).all())


@dataclass(frozen=True)
class Sorted:
    """What a table holds: arrays named as in `uploads.ARRAY_NAMES` (`scores` came without a name), in one order."""

    arrays: dict[str, np.ndarray]
    codes: list[str] | None
    codes_of: int | None
    notes: list[str] = field(default_factory=list)


def word_and_code(name: str) -> tuple[Role | None, str]:
    """What a column's name says that it holds, and of which code.

    >>> word_and_code("I10_prob"), word_and_code("logit I10"), word_and_code("P(I10)"), word_and_code("I10")
    (('probabilities', 'I10'), ('logits', 'I10'), ('probabilities', 'I10'), (None, 'I10'))
    """
    role: Role | None = None
    while name.lower() not in WORDS and (found := _BEFORE.fullmatch(name) or _AFTER.fullmatch(name)):
        role = WORDS[found["word"].lower()] if role in (None, "scores") else role
        name = (found.groupdict().get("inside") or found["code"]).strip()
    return role, name


def sort_out(name: str, table: Mapping[str, np.ndarray]) -> Sorted:
    """Scores, labels and codes of a table's columns.

    Raises
    ------
    ShifamindError
        No column holds scores, two hold those of one code, a merge left two of a code, one holds ids, or only some codes
        have labels.
    """
    _require_one_side(name, table)
    columns, notes = _read_names(table)
    if numbering := [column.name for column in columns if column.numbers_rows]:
        columns = [column for column in columns if not column.numbers_rows]
        notes.append(f"Ignored, since it numbers the rows: {listed(numbering)}.")
    if ids := [column.name for column in columns if column.holds_ids]:
        raise ShifamindError(
            f"{name}: the column {shown(ids[0])} holds whole numbers of which none occurs twice, as ids do and scores do not. Name it "
            "'document_id' if it says which note a row is; else leave it out."
        )
    labels = [column for column in columns if column.role == "labels" and column.zero_or_one]
    rest = [column for column in columns if column not in labels]
    if rest and all(column.role == "labels" for column in rest):
        rest = [
            Column(column.name, column.code, None, column.values) for column in rest
        ]  # LABEL_0 … of a model
    for column in rest:
        if column.role == "labels":
            raise ShifamindError(
                f"{name}: the column {shown(column.name)} holds other values than 0 and 1, and its name says labels. "
                "Labels are 0 or 1; give scores another name."
            )
    roles = [role for role in SCORES if any(c.role == role and not c.two_valued for c in rest)]
    candidates = [column for column in rest if roles and column.role == roles[0]]
    scores = [column for column in candidates if not column.two_valued]
    if all(column.zero_or_one for column in scores):
        raise ShifamindError(
            f"{name} holds nothing but 0 and 1: labels or decisions. Upload the scores before thresholding."
        )
    _require_one_a_code(name, scores)
    _require_one_a_code(name, labels)
    notes += _left_out_notes(scores, [column for column in rest if column not in scores])
    asked = {column.code for column in candidates} | {column.code for column in labels}
    order, codes = _order([column.code for column in scores])
    if codes is None:
        moved = "" if order == sorted(order) else " They were brought into the order of the numbers."
        notes.append(f"{NUMBERED}{moved}")
    arrays: dict[str, np.ndarray] = {roles[0] or "scores": np.column_stack([scores[i].values for i in order])}
    if labels:
        arrays["labels"] = _labels_of(name, [scores[i].code for i in order], labels)
    return Sorted(arrays, codes, len(asked) if len(asked) > len(scores) else None, notes)


def _read_names(table: Mapping[str, np.ndarray]) -> tuple[list[Column], list[str]]:
    """The columns under their codes; a word beside a code counts if it is the rule, or if the code has other columns."""
    read = {name: word_and_code(name) for name in table}
    worded = sum(role is not None for role, _ in read.values())
    times = Counter(code for _, code in read.values())
    columns = [
        Column(name, code, role, table[name])
        if role is not None and (2 * worded >= len(read) or times[code] > 1)
        else Column(name, name, None, table[name])
        for name, (role, code) in read.items()
    ]
    changed = [column for column in columns if column.name != column.code]
    if not changed:
        return columns, []
    first = changed[0]
    more = ", …" if len(changed) > 1 else ""
    return columns, [
        f"Columns were read as the codes in their names: {shown(first.name)} as {shown(first.code)}{more} "
        f"({len(changed):,} columns)."
    ]


def _require_one_side(name: str, table: Mapping[str, np.ndarray]) -> None:
    """Refuse what pandas' merge writes where both tables have a column: which of the two is meant, nobody can tell."""
    merged = [left[:-2] for left in table if left.endswith("_x") and f"{left[:-2]}_y" in table]
    if merged:
        first = merged[0]
        raise ShifamindError(
            f"{name} has two columns for {len(merged):,} of its codes, the first {shown(f'{first}_x')} and {shown(f'{first}_y')}: so "
            "pandas names them where two merged tables both have them. Keep one side, without its ending; name labels "
            f"{shown(f'label_{first}')}."
        )


def _require_one_a_code(name: str, columns: Sequence[Column]) -> None:
    first: dict[str, Column] = {}
    for column in columns:
        if column.code in first:
            raise ShifamindError(
                f"{name} has two columns for the code {shown(column.code)}: {shown(first[column.code].name)} and "
                f"{shown(column.name)}. Each code has one."
            )
        first[column.code] = column


def _left_out_notes(scores: Sequence[Column], left_out: Sequence[Column]) -> list[str]:
    notes = []
    binary = [column.name for column in left_out if column.two_valued]
    if binary:
        notes.append(
            f"Not read as scores, since they hold nothing but 0 and 1 (labels or decisions): {listed(binary)}. "
            "To have them read as labels, name them label_CODE."
        )
    others = [column.name for column in left_out if not column.two_valued]
    if others:
        notes.append(f"Ignored: {listed(others)}.")
    empty = [column.name for column in scores if column.zero_or_one]
    if empty:
        notes.append(f"0 throughout, and read as scores all the same: {listed(empty)}.")
    return notes


def _order(codes: list[str]) -> tuple[list[int], list[str] | None]:
    """The columns' order, and their names: numbers from 0 (or 1) without a gap are positions, however they are sorted."""
    everything = list(range(len(codes)))
    if not all(re.fullmatch(r"[0-9]{1,9}", code) for code in codes):
        return everything, codes
    numbers = [int(code) for code in codes]
    if sorted(numbers) not in (everything, [number + 1 for number in everything]):
        return everything, codes
    return sorted(everything, key=numbers.__getitem__), None


def _labels_of(name: str, codes: Sequence[str], labels: Sequence[Column]) -> np.ndarray:
    known = {column.code: column.values for column in labels}
    missing = [code for code in codes if code not in known]
    if missing:
        raise ShifamindError(
            f"{name} has labels for {len(codes) - len(missing):,} of its {len(codes):,} codes; {shown(missing[0])} has "
            "none. Give every code a column of labels, or no code."
        )
    return np.column_stack([known[code] for code in codes])
