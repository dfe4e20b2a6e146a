"""A command's result as lines for people: every number under its name, with its unit where it has one."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What a key of the JSON is called here, where the key itself would not say it or lacks the unit.
NAMES: Mapping[str, str] = {
    "documents": "notes",
    "aligned_documents": "notes in both runs",
    "aligned_codes": "codes in both runs",
    "codes_of": "codes in the task",
    "macro_f1_over": "macro F1 is the mean over",
    "macro_f1_of_means": "F1 of mean precision and mean recall",
    "macro_f1_with_support": "macro F1 over codes that occur",
    "macro_f1_own_thresholds": "macro F1, each code at its own best threshold",
    "threshold": "threshold (probability)",
    "below": "next threshold with another F1 (probability)",
    "plateau": "thresholds within 0.001 of the best",
    "k": "k (codes a note)",
    "support": "support (notes)",
    "mean_difference": "mean difference (logits)",
    "rms_difference": "root mean square difference (logits)",
    "max_abs_difference": "largest difference (logits)",
    "abs_percentiles": "so many percent of the differences are at most (logits)",
    "abs_p50": "50 % at most (logits)",
    "abs_p90": "90 % at most (logits)",
    "abs_p99": "99 % at most (logits)",
    "correlation": "correlation of the logits",
    "decisions_flipped": "decisions that differ",
    "decisions_gained": "assigned by the candidate alone (decisions)",
    "decisions_lost": "assigned by the reference alone (decisions)",
    "candidate_f1": "F1, candidate",
    "reference_f1": "F1, reference",
    "f1_gap": "F1, gap",
    "gap": "gap (candidate − reference)",
    "non_finite": "scores that are not finite",
    "non_finite_cells": "scores that are not finite",
    "stand_ins": "scores saved as exactly 0 or 1",
    "stand_in_cells": "scores saved as exactly 0 or 1",
    "cells": "in either run",
    "label_conflicts": "labels that differ",
    "repeated_ids": "notes whose id occurs twice",
    "flippable": "decisions that could flip",
    "epsilon": "change of every logit, ε (logits)",
    "max_abs": "largest error (logits)",
    "p99_abs": "99 % of errors at most (logits)",
    "median_abs": "median error (logits)",
    "rms": "root mean square (logits)",
    "flips": "decisions that flip",
    "seconds": "time (seconds)",
    "bytes": "size (bytes)",
    "activation_bytes": "activations kept (bytes)",
    "unit_roundoff": "unit roundoff of the coarser format (relative)",
    "absmax": "largest value",
    "std": "standard deviation",
    "relative_error": "relative error",
    "own_error": "error added here (relative)",
    "inherited_error": "error handed on (relative)",
    "input_error": "error of the input (relative)",
    "expected_error": "error that rounding explains (relative)",
    "excess": "error added ⁄ explained",
    "max_abs_residual": "largest remaining difference (logits)",
    "rms_residual": "root mean square of what remains (logits)",
    "explained": "share of the squared difference explained",
    "distance": "distance from the reported scores (sampling errors)",
    "measured_error": "largest error against FP64 (logits)",
    "measured_notes": "notes measured against FP64",
    "smallest_margin": "nearest decision to the threshold (logits)",
    "size": "the same, relative to the standard deviation over notes",
    "level": "kind of rounding",
    "limit_measured": "limit measured on this model",
    "same_tokens": "share of notes with equal tokens",
    "lowest": "lowest score",
    "highest": "highest score",
    "at_risk": "decisions another machine could flip",
}
SAID_FIRST = ("sentence", "explanation")  # the answer stands before the numbers
UNKNOWN = "–"
LONG = 40  # a column of longer texts stands last, where it may run on
HEADER = 13  # letters of a column's name beside each other, unless its cells are wider
DIGITS = 4  # of a number in a table


def listing(result: Mapping[str, Any]) -> str:
    """The result in lines: what it says in words first, then one name a line, nested ones indented, lists of records as tables."""
    said = [textwrap.fill(str(result[key]), 100) for key in SAID_FIRST if result.get(key)]
    rest = {key: value for key, value in result.items() if key not in SAID_FIRST}
    return "\n".join([*said, *([""] if said else []), *_lines(rest, "")])


def named(key: str) -> str:
    """What a key is called.

    >>> named("abs_p50"), named("micro_f1"), named("top_k")
    ('50 % at most (logits)', 'micro F1', 'top k')
    """
    return NAMES.get(key) or re.sub(r"\bf1\b", "F1", key.replace("_", " "))


def _lines(result: Mapping[str, Any], indent: str) -> Iterable[str]:
    for key, value in result.items():
        if isinstance(value, dict) and value:
            yield f"{indent}{named(key)}:"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{named(key)}:"
            yield from table(value, f"{indent}  ")
        elif isinstance(value, list) and value and isinstance(value[0], str) and key != "interventions":
            yield f"{indent}{named(key)}:"
            yield from (f"{indent}  {item}" for item in value)
        else:
            yield f"{indent}{named(key)}: {cell(value)}"


def table(rows: Sequence[Mapping[str, Any]], indent: str = "") -> list[str]:
    """The records below each other, under their names; what none of them knows is left out."""
    flat = [_flat(row) for row in rows]
    every = dict.fromkeys(key for row in flat for key in row)
    columns = [
        _column(key, [row.get(key) for row in flat])
        for key in every
        if any(row.get(key) is not None for row in flat)
    ]
    columns.sort(key=lambda column: len(column[-1]) > LONG)
    height = max((len(column) for column in columns), default=0)
    whole = ([" " * len(column[0])] * (height - len(column)) + column for column in columns)
    return [f"{indent}{'  '.join(line)}".rstrip() for line in zip(*whole, strict=True)]


def _column(key: str, values: Sequence[Any]) -> list[str]:
    """Name and cells in lines of one width: words begin at the left, numbers end at the right."""
    cells = [cell(value, DIGITS) for value in values]
    head = textwrap.wrap(named(key), max(HEADER, *map(len, cells)))
    width = max(map(len, [*head, *cells]))
    words = any(isinstance(value, str) for value in values)
    return [one.ljust(width) if words else one.rjust(width) for one in [*head, *cells]]


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A record without records in it."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        found |= _flat(value, f"{before}{key} ") if isinstance(value, dict) else {f"{before}{key}": value}
    return found


def cell(value: Any, digits: int = 6) -> str:
    """A value as people read it."""
    if value is None or value == []:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, list) and len(value) == 2 and all(isinstance(item, float) for item in value):
        return " to ".join(cell(item, digits) for item in value)
    if isinstance(value, list):
        return ", ".join(cell(item, digits) for item in value)
    return str(value)
