"""Codes under other spellings (dots, case, leading zeros), and columns that are named by their position."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence

from shifamind_core.errors import ShifamindError

Pairs = list[tuple[int, int]]

# What spreadsheets and exports change in a code's name, and how it is undone.
UNDO: dict[str, Callable[[str], str]] = {
    "dots": lambda code: re.sub(r"[.\s]", "", code),
    "case": str.upper,
    "leading zeros": lambda code: code.lstrip("0") or "0",
}


def plain_spelling(code: str, but: str | None = None) -> str:
    """A code without dots, in capitals, without leading zeros; `but` leaves one of them in.

    >>> plain_spelling("038.9"), plain_spelling("i10"), plain_spelling("0")
    ('389', 'I10', '0')
    """
    for what, undo in UNDO.items():
        code = code if what == but else undo(code)
    return code


def spelling_differs_in(one: str, other: str) -> list[str]:
    """What must be undone for two names of one code to be equal.

    >>> spelling_differs_in("I10", "i1.0")
    ['dots', 'case']
    """
    return [what for what in UNDO if plain_spelling(one, what) != plain_spelling(other, what)]


def match_names(candidate: Sequence[str], reference: Sequence[str]) -> tuple[Pairs, Pairs]:
    """Positions of equal names, and of names that are equal in plain spelling only, in the candidate's order.

    Raises
    ------
    ShifamindError
        Two codes of one run have the same plain spelling, so that none of them can be told to be the other run's.
    """
    place = {code: position for position, code in enumerate(reference)}
    equal = [(i, place[code]) for i, code in enumerate(candidate) if code in place]
    if len(equal) == min(len(candidate), len(reference)):
        return equal, []
    ours, theirs = _by_plain_spelling(candidate), _by_plain_spelling(reference)
    respelled = []
    matched, taken = {i for i, _ in equal}, {j for _, j in equal}
    for spelling, mine in ours.items():
        yours = theirs.get(spelling, [])
        if not set(mine) - matched or not set(yours) - taken:
            continue
        if len(mine) > 1:
            raise _collision([candidate[i] for i in mine], reference[yours[0]])
        if len(yours) > 1:
            raise _collision([reference[j] for j in yours], candidate[mine[0]])
        respelled.append((mine[0], yours[0]))
    return equal, respelled


def _collision(names: list[str], other: str) -> ShifamindError:
    return ShifamindError(
        f"The codes {names[0]!r} and {names[1]!r} of one run differ in {' and '.join(spelling_differs_in(*names[:2]))} "
        f"alone, so which of them the other run's {other!r} is cannot be told. Export both with the same spelling."
    )


def _by_plain_spelling(codes: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for position, code in enumerate(codes):
        found[plain_spelling(code)].append(position)
    return found


def all_numbers(codes: Sequence[str] | None) -> bool:
    """Whether there are names and all of them are whole numbers, without leading zeros."""
    return codes is not None and all(re.fullmatch(r"0|[1-9][0-9]{0,8}", code) for code in codes)


def as_positions(codes: Sequence[str], columns: int) -> list[int] | None:
    """The columns (from 0, of `columns`) that whole numbers for names mean; `None` where they are names after all.

    Numbers from 0 count from 0, numbers up to the number of columns count from 1. Numbers of which most are larger
    (ICD-9 knows codes like 401) are names.

    >>> as_positions(["0", "10", "2"], 11), as_positions(["11", "2"], 11), as_positions(["401", "4019"], 11)
    ([0, 10, 2], [10, 1], None)

    Raises
    ------
    ShifamindError
        Numbers that may be positions, but do not say whose.
    """
    numbers = [int(code) for code in codes]
    inside = sum(number <= columns for number in numbers)
    if inside * 2 < len(numbers):
        return None
    if inside == len(numbers) and (0 in numbers) != (columns in numbers):
        first = 0 if 0 in numbers else 1
        return [number - first for number in numbers]
    raise ShifamindError(
        f"One run numbers its columns ({min(numbers)} to {max(numbers)}) and the other has {columns} of them, so which "
        "is which cannot be told. Name the codes in both files, or number all of them from 0."
    )
