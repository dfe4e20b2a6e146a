"""A split that is read and tokenized beside everything else, and the notes whose tokens have arrived."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int32

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.artifacts.splits import Split
from shifamind_core.inference.group import ALONE, Group
from shifamind_core.inference.tokenization import (
    NoteTokens,
    Progress,
    Rows,
    Tokenization,
    tokenize,
)
from shifamind_core.inference.tokenizer import NoteTokenizer, load_tokenizer

T = TypeVar("T")


class NotComing(Exception):
    """Notes that somebody waits for will not arrive; who reads them knows why."""


class Arriving(Rows):
    """What the model gets, as `ModelInput` has it, while notes are still being tokenized: who scores waits for those it needs.

    Rows are filled by the thread that tokenizes; padded to `max_length`, since the longest note is not known yet.
    """

    longest = False

    def __init__(self, documents: int, tokenizer: NoteTokenizer, tokenization: Tokenization) -> None:
        super().__init__(documents, tokenization.max_length, tokenizer, tokenization)
        self._ended = False
        self._changed = threading.Condition()

    def add(self, notes: Iterable[Int32[np.ndarray, " tokens"]]) -> None:
        super().add(notes)
        with self._changed:
            self._changed.notify_all()

    def end(self) -> None:
        """No more come: all are there, or something went wrong."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, stop: int) -> None:
        """Return when the first `stop` notes are there.

        Raises
        ------
        NotComing
            Some of all notes will never be, so that scoring these is of no use.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.there >= min(stop, len(self)) or self._ended)
            if self._ended and self.there < len(self):
                raise NotComing


@dataclass(frozen=True, eq=False)
class Beginning:
    """A split that was read, those of its notes that are wanted, their tokenizer, and their tokens as they arrive, if one by one."""

    whole: Split
    split: Split
    tokenizer: NoteTokenizer
    arriving: Arriving | None


class Reading:
    """Another thread that reads a split, in a process of its own, and tokenizes it, mostly without Python's lock.

    Leaving its block ends it. What goes wrong in it is raised by `beginning` and `tokens`.
    """

    def __init__(
        self,
        directory: RunDirectory,
        base_model: Callable[[], Path],
        name: str,
        tokenization: Tokenization,
        limit: int | None = None,
        progress: Progress | None = None,
        group: Group = ALONE,
    ) -> None:
        self._beginning: Future[Beginning] = Future()
        self._over, self._progress = threading.Event(), progress
        # The longest note decides the padding of all, and processes agree on all notes before any.
        one_by_one = tokenization.padding == "max_length" and group.size == 1

        def read() -> NoteTokens:
            whole = directory.read_split(name)
            split = whole if limit is None else whole.head(limit)
            tokenizer = load_tokenizer(base_model(), tokenization.lowercase)
            arriving = Arriving(len(split), tokenizer, tokenization) if one_by_one else None
            self._beginning.set_result(Beginning(whole, split, tokenizer, arriving))
            try:
                return tokenize(
                    split.texts, tokenizer, self._tell, group, None if arriving is None else arriving.add
                )
            finally:
                if arriving:
                    arriving.end()

        self._read, self._thread = read, ThreadPoolExecutor(1)

    def __enter__(self) -> "Reading":
        self._tokens = self._thread.submit(self._read)
        self._tokens.add_done_callback(self._ended)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.shutdown()

    def _ended(self, tokens: Future[NoteTokens]) -> None:
        if not self._beginning.done():
            self._beginning.set_exception(tokens.exception())

    def beginning(self) -> Beginning:
        """The split, once it is read."""
        return self._beginning.result()

    def while_arriving(self, score: Callable[[Arriving], T]) -> T | None:
        """What `score` makes of the notes while they arrive; `None` where all have to be there before."""
        arriving = self.beginning().arriving
        if not arriving:
            return None
        self._progress = None  # `score` tells how far it is
        try:
            return score(arriving)
        except NotComing:
            return None

    def tokens(self) -> NoteTokens:
        """All notes' tokens, once they are there."""
        return self._tokens.result()

    def _tell(self, message: str, done: int, total: int) -> None:
        if self._over.is_set():
            raise CancelledError
        if progress := self._progress:  # which may end between two looks
            progress(message, done, total)
