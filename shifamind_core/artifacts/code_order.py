"""Checks of what a run directory says twice: the seed's code-order check, in every pair of places.

A run directory names its codes up to four times: in the checkpoint's config, in the JSON file, as columns of
the split and, without names, as positions of the `labels` lists. Logits and labels meet by position in the
seed's evaluation, so one permuted list is a wrong score without any error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shifamind_core.artifacts._limited import printable

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One thing looked at. `message` says what was found and, unless all is well, what to do."""

    name: str
    status: Status
    message: str


def compare_codes(
    name: str,
    first: Sequence[str],
    first_place: str,
    second: Sequence[str],
    second_place: str,
    by_name: bool = False,
) -> Check:
    """Are two lists of codes the same, in the same order?

    The message names how many positions differ and the first of them, counted from 1. Where labels and logits meet
    `by_name`, another order is no error.

    >>> compare_codes("code_order", ["I10", "E785"], "the checkpoint", ["E785", "I10"], "the JSON").message
    "the checkpoint and the JSON hold the same 2 codes in another order: 2 positions differ, first at 1 ('I10' in the checkpoint, 'E785' in the JSON). Labels and logits meet by position: reorder one of them."
    """
    if list(first) == list(second):
        return Check(
            name, "ok", f"{first_place} and {second_place} hold the same {len(first)} codes in order."
        )
    differ = [i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b]
    at = differ[0] if differ else min(len(first), len(second))
    places = f"first at {at + 1} ({_item(first, at)} in {first_place}, {_item(second, at)} in {second_place})"
    if len(first) != len(second):
        message = (
            f"{first_place} holds {len(first)} codes and {second_place} {len(second)}; they differ {places}. "
            "Use files of one and the same run."
        )
    elif by_name and sorted(first) == sorted(second):
        message = f"{first_place} and {second_place} hold the same {len(first)} codes in another order; they are matched by name."
        return Check(name, "ok", message)
    elif sorted(first) == sorted(second):
        message = (
            f"{first_place} and {second_place} hold the same {len(first)} codes in another order: "
            f"{len(differ)} positions differ, {places}. Labels and logits meet by position: reorder one of them."
        )
    else:
        foreign = len(set(first) - set(second))
        message = (
            f"{first_place} and {second_place} do not share a code list: {foreign} of {len(first)} codes are "
            f"in one of them only and {len(differ)} positions differ, {places}. Use files of one and the same run."
        )
    return Check(name, "error", message)


def _item(codes: Sequence[str], index: int) -> str:
    return repr(printable(codes[index])) if index < len(codes) else "nothing"
