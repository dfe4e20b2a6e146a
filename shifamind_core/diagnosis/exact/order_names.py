"""What kind of order a map of rows or columns is, in words."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int64

Map: TypeAlias = Int64[np.ndarray, " _"]  # position in the reference, -1 where there is none


def describe_columns(
    partner: Map, codes: tuple[str, ...] | None, prevalence: np.ndarray | None
) -> str | None:
    """A name for the candidate's true column order, if it has one: alphabetical, by frequency or reversed."""
    identity = np.arange(len(partner))
    if np.array_equal(partner, identity[::-1]):
        return "reversed"
    if len(set((partner - identity) % len(partner))) == 1:
        return "rotated"
    if codes is not None and [codes[i] for i in partner] == sorted(codes):
        return "alphabetical"
    if prevalence is not None and (np.diff(prevalence[partner]) <= 0).all():
        return "frequency"
    return None


@dataclass(frozen=True)
class Block:
    """Consecutive rows that moved by one offset."""

    first: int
    last: int
    offset: int


def describe_rows(partner: Map, token_counts: np.ndarray | None = None) -> tuple[str, dict[str, Any]]:
    """What kind of order a row map is, in words and as evidence; rows without a partner are left aside.

    `token_counts` are those of the reference's rows.
    """
    rows = np.flatnonzero(partner >= 0)
    target = partner[rows]
    rank = np.argsort(np.argsort(target))  # without the rows of the reference that nobody took
    evidence: dict[str, Any] = {"rows_moved": int((target != rows).sum())}
    if len(rows) > 2 and (np.diff(rank) == -1).all():
        return "the rows are reversed", {**evidence, "kind": "reversed"}
    processes = _stride(target)
    if processes is not None:
        text = f"the rows are interleaved as {processes} processes write them one after the other"
        return text, {**evidence, "kind": "interleaved", "processes": processes}
    steps = np.flatnonzero((np.diff(target) != 1) | (np.diff(rows) != 1)) + 1
    evidence["blocks"] = len(steps) + 1
    bounds = np.append(np.append(0, steps), len(rows))
    # Blocks of one or two rows are no blocks: a permutation consists of them.
    if 3 * (len(steps) + 1) > len(rows):
        return _describe_permutation(target, evidence, token_counts)
    blocks = [
        Block(int(rows[start]), int(rows[end - 1]), int(target[start] - rows[start]))
        for start, end in pairwise(bounds.tolist())
    ]
    return _describe_blocks(blocks, int(rows[-1]), evidence)


def _describe_permutation(
    target: np.ndarray, evidence: dict[str, Any], token_counts: np.ndarray | None
) -> tuple[str, dict[str, Any]]:
    if token_counts is not None and len(token_counts) > target.max() and _sorted_by(token_counts[target]):
        return "the rows are sorted by length", {**evidence, "kind": "sorted_by_length"}
    share = evidence["rows_moved"] / max(len(target), 1)
    return f"{share:.0%} of the rows are permuted without a pattern", {**evidence, "kind": "permutation"}


def _describe_blocks(blocks: list[Block], last: int, evidence: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    shifted = [block for block in blocks if block.offset]
    evidence = {**evidence, "kind": "blocks", "moved_blocks": [vars(block) for block in shifted]}
    if len(shifted) == 1 and shifted[0].last == last:
        text = f"from row {shifted[0].first} on every row is shifted by {shifted[0].offset}"
        return text, {**evidence, "kind": "shift"}
    if len(blocks) == 2 and len(shifted) == 2:
        return f"the rows are rotated by {-shifted[0].offset}", {**evidence, "kind": "rotation"}
    listed = ", ".join(f"rows {block.first}–{block.last} by {block.offset:+d}" for block in shifted[:4])
    return f"{len(shifted)} blocks of rows moved ({listed}{', …' if len(shifted) > 4 else ''})", evidence


def _stride(target: np.ndarray) -> int | None:
    """Number of processes if the rows were dealt out in turn and gathered process by process, or the inverse.

    Rows that a process repeats or leaves out do not hide it: what counts is that all of one process stand before all
    of the next, each in order.
    """
    for order in (target, np.argsort(target)):
        step = int(np.median(np.diff(order))) if len(order) > 3 else 0
        if 1 < step < len(order) / 2 and (np.diff(order % step * (order.max() + 1) + order) > 0).all():
            return step
    return None


def _sorted_by(lengths: np.ndarray) -> bool:
    steps = np.diff(lengths)
    return bool((steps >= 0).all() or (steps <= 0).all())
