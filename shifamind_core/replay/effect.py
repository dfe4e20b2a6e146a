"""Which other ways of writing the notes change what the model reads, and in which notes."""

from collections.abc import Sequence

import numpy as np

from shifamind_core.errors import ShifamindError
from shifamind_core.replay.recipe import Intervention, Recipe
from shifamind_core.replay.reference_rows import Rows
from shifamind_core.replay.runner import Bench

LOOKED_AT = 64  # notes that a rewriting changes, on which its tokens are compared
HELD = 4  # of the notes whose tokens it changes, how many a search must see


def that_act(bench: Bench, base: Recipe, steps: Sequence[Intervention]) -> tuple[list[Intervention], Rows]:
    """The interventions without those rewritings that change no token, and notes on which the others show.

    A rewriting that one casing undoes may act under the other, so both are looked at where both can be asked for.
    """
    casings = [base, *(step.apply(base) for step in steps if step.slot == "lowercase")]
    kept: list[Intervention] = []
    seen: list[Rows] = []
    for number, step in enumerate(steps):
        bench.tell("Looking for other ways to write the texts", number, len(steps))
        rewriting = step.apply(base).rewriting
        if rewriting is None:
            kept.append(step)
            continue
        texts = ((row, bench.target.text(base.notes, row)) for row in bench.target.known.tolist())
        rows = [row for row, text in texts if rewriting.apply(text) != text]
        looked_at = some(np.array(rows, np.int64), LOOKED_AT)
        changed = (_changed(bench, step.apply(casing), casing, looked_at) for casing in casings)
        shown = next((rows for rows in changed if len(rows)), None)
        if shown is not None:
            kept.append(step)
            seen.append(some(shown, HELD))
    return kept, np.unique(np.concatenate([*seen, np.empty(0, np.int64)]))


def _changed(bench: Bench, recipe: Recipe, other: Recipe, rows: Rows) -> Rows:
    try:
        return bench.changed(recipe, other, rows)
    except ShifamindError:  # a casing that this tokenizer does not have, a note without a token
        return rows[:0]


def some(rows: Rows, count: int) -> Rows:
    """Evenly spread, the first and the last among them."""
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).astype(int)]
