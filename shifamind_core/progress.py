"""Who waits for a long computation is told what is being done, and how much of it is.

Loops over parts go through `counted` or `steps`, parts that follow each other stand in `doing`; whoever waits looks in by
`watched`. Nobody else pays for it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
Watch = Callable[[str, float], None]  # what is being done, and the share of all that is done, 0 to 1


@dataclass(eq=False)
class _Part:
    """A part of what it stands in: from this share of it to that one."""

    words: str
    begin: float
    end: float


@dataclass
class _Work:
    """What one thread computes while somebody watches: the parts it is in, the innermost last."""

    watch: Watch
    within: list[_Part] = field(default_factory=list)

    def tell(self) -> None:
        share = 0.0
        for part in reversed(self.within):
            share = part.begin + share * (part.end - part.begin)
        self.watch(next((part.words for part in reversed(self.within) if part.words), ""), share)


class _Local(threading.local):
    work: _Work | None = None


_local = _Local()


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """What this thread computes meanwhile is told to `watch`, which has to be quick."""
    before, _local.work = _local.work, _Work(watch)
    try:
        yield
    finally:
        _local.work = before


@contextmanager
def doing(words: str, begin: float, end: float) -> Iterator[None]:
    """Meanwhile this is done: from that share of the whole to that one."""
    yield from _within(_local.work, [(None, _Part(words, begin, end))])


def counted(parts: Iterable[T], total: int) -> Iterator[T]:
    """The parts of a loop; the words are those of what the loop is a part of."""
    yield from _within(
        _local.work, ((part, _Part("", at / total, (at + 1) / total)) for at, part in enumerate(parts))
    )


def steps(parts: Sequence[T], words: Callable[[T], str]) -> Iterator[T]:
    """The parts of a loop, each with words for what is done in it."""
    total = len(parts)
    yield from _within(
        _local.work,
        ((part, _Part(words(part), at / total, (at + 1) / total)) for at, part in enumerate(parts)),
    )


def _within(work: _Work | None, parts: Iterable[tuple[T, _Part]]) -> Iterator[T]:
    """Each in turn, told as long as it lasts."""
    for value, part in parts:
        if work is None:
            yield value
            continue
        work.within.append(part)
        work.tell()
        try:
            yield value
        finally:
            work.within.remove(part)
