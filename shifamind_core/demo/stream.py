"""Random choices that stay the same on every machine and for years.

Python promises the sequence of `random.Random(seed).random()` across versions, and nothing else of that
module; NumPy promises less. So every choice below is made from that one method.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Stream:
    """Choices named by what they are for: the same name gives the same choices.

    >>> Stream("demo", "test", 0).between(1, 6) == Stream("demo", "test", 0).between(1, 6)
    True
    """

    def __init__(self, *name: str | int) -> None:
        digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
        self.unit = random.Random(int.from_bytes(digest[:8], "big")).random

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self.unit() < probability

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return low + int(self.unit() * (high - low + 1))

    def value(self, low: float, high: float, digits: int = 1) -> str:
        """A number between the two, as text with that many decimals."""
        return f"{low + self.unit() * (high - low):.{digits}f}"

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices."""
        return choices[int(self.unit() * len(choices))]

    def weighted(self, choices: dict[T, float]) -> T:
        """One of the keys, each with its weight."""
        *others, last = choices
        left = self.unit() * sum(choices.values())
        for choice in others:
            left -= choices[choice]
            if left < 0:
                return choice
        return last

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order (Fisher–Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.between(0, last)
            order[last], order[other] = order[other], order[last]
        return order

    def some(self, items: Sequence[T], low: int, high: int) -> list[T]:
        """Between `low` and `high` of the items, in random order."""
        return self.shuffled(items)[: self.between(low, high)]
