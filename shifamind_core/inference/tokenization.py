"""Notes to token ids: once per vocabulary and casing, for all lengths, sides and paddings.

A note is tokenized whole and kept so; truncation, special tokens and padding are slices of that. So asking for
another length costs nothing, the token count before truncation is known, and left truncation is exact.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int32, Int64

from shifamind_core.arrays import frozen
from shifamind_core.artifacts.digests import text_digest
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.encoding import encode
from shifamind_core.inference.group import ALONE, Group
from shifamind_core.inference.tokenizer import NoteTokenizer
from shifamind_core.runs.manifest import Padding, TokenizationRecord

Progress = Callable[[str, int, int], None]
Arrived = Callable[[Sequence[np.ndarray]], None]


@dataclass(frozen=True)
class Tokenization:
    """How notes become ids. `lowercase` is `None` for whatever the installed library's default does."""

    lowercase: bool | None = None
    max_length: int = 512
    padding: Padding = "max_length"
    truncation_side: Literal["right", "left"] = "right"
    special_tokens: bool = True

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ShifamindError(f"The length is {self.max_length} tokens; it must be at least 3.")

    @property
    def special(self) -> int:
        """How many special tokens a note gets."""
        return 2 if self.special_tokens else 0

    @property
    def room(self) -> int:
        """How many tokens of a note's own are kept."""
        return self.max_length - self.special


def check_positions(length: int, positions: int) -> None:
    """Refuse notes longer than the model's positions."""
    if length > positions:
        raise ShifamindError(
            f"Notes of {length} tokens were asked for, but the model has {positions} positions. "
            f"Choose a length of at most {positions}."
        )


@dataclass(frozen=True)
class NoteTokens:
    """Every note's tokens, whole: `flat[offsets[i]:offsets[i + 1]]`, without special tokens.

    From token ids a note can be read back, so they stay in memory: no file ever holds them.
    """

    flat: Int32[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " documents_plus_one"]
    document_ids: Int64[np.ndarray, " documents"]
    tokenizer: NoteTokenizer

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def note(self, row: int, tokenization: Tokenization) -> Int32[np.ndarray, " tokens"]:
        """Ids of one note as the model gets them: truncated, with special tokens, without padding."""
        return cut(self.flat[self.offsets[row] : self.offsets[row + 1]], self.tokenizer, tokenization)

    def prepare(self, tokenization: Tokenization, filled: "Rows | None" = None) -> "ModelInput":
        """The ids [documents, tokens] that the model gets under this tokenization, and their digests.

        `filled` holds the rows where they were filled as the notes arrived.
        """
        counts = np.diff(self.offsets) + tokenization.special
        if filled is None:
            longest = min(int(counts.max()), tokenization.max_length)
            width = tokenization.max_length if tokenization.padding == "max_length" else longest
            filled = Rows(len(self), width, self.tokenizer, tokenization)
            filled.add(self.flat[start:stop] for start, stop in pairwise(self.offsets))
        assert filled.there == len(self)
        return ModelInput(
            ids=frozen(filled.ids),
            lengths=frozen(filled.lengths),
            token_counts=frozen(counts.astype(np.int32)),
            token_digests=frozen(filled.digests),
            document_ids=self.document_ids,
            record=tokenization_record(self.tokenizer, tokenization),
            longest=tokenization.padding == "longest",
        )


class Rows:
    """What the model gets of each note, filled in order: ids [documents, tokens] padded on the right, length, digest."""

    def __init__(
        self, documents: int, width: int, tokenizer: NoteTokenizer, tokenization: Tokenization
    ) -> None:
        self.ids = np.empty((documents, width), np.int32)  # takes memory as rows are filled
        self.lengths, self.digests = np.zeros(documents, np.int32), np.zeros(documents, np.int64)
        self.there = 0
        self._tokenizer, self._tokenization = tokenizer, tokenization

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, notes: Iterable[Int32[np.ndarray, " tokens"]]) -> None:
        """The next notes' tokens, whole.

        Raises
        ------
        ShifamindError
            A note has none.
        """
        row = self.there
        for whole in notes:
            note = cut(whole, self._tokenizer, self._tokenization)
            if not len(note):
                raise ShifamindError(
                    f"Note {row + 1} has no tokens at all; without special tokens it cannot be scored."
                )
            self.ids[row, : len(note)] = note
            self.ids[row, len(note) :] = self._tokenizer.pad_id
            self.lengths[row] = len(note)
            self.digests[row] = text_digest(note.astype("<i4").tobytes())
            row += 1
        self.there = row


def tokenization_record(tokenizer: NoteTokenizer, tokenization: Tokenization) -> TokenizationRecord:
    """What a manifest says of this tokenization: what was asked for and what was observed."""
    return TokenizationRecord(
        lowercase_requested=tokenization.lowercase,
        lowercase=tokenizer.lowercase,
        normalizer=tokenizer.normalizer,
        source=tokenizer.source,
        tokenizer_class=tokenizer.tokenizer_class,
        vocabulary_sha256=tokenizer.vocabulary_sha256,
        max_length=tokenization.max_length,
        padding=tokenization.padding,
        truncation_side=tokenization.truncation_side,
        special_tokens=tokenization.special_tokens,
    )


def cut(
    ids: Int32[np.ndarray, " tokens"], tokenizer: NoteTokenizer, tokenization: Tokenization
) -> Int32[np.ndarray, " tokens"]:
    """A whole note's ids as the model gets them: truncated, with special tokens, without padding."""
    room = tokenization.room
    if len(ids) > room:
        ids = ids[:room] if tokenization.truncation_side == "right" else ids[-room:]
    if tokenization.special_tokens:
        ids = np.concatenate(([tokenizer.cls_id], ids, [tokenizer.sep_id]))
    return np.asarray(ids, np.int32)


@dataclass(frozen=True)
class ModelInput:
    """What the model gets: ids [documents, tokens] padded on the right, and each note's length.

    With `longest`, a batch is cut to its own longest note; else every batch is as wide as `ids`.
    """

    ids: Int32[np.ndarray, "documents tokens"]
    lengths: Int32[np.ndarray, " documents"]
    token_counts: Int32[np.ndarray, " documents"]
    token_digests: Int64[np.ndarray, " documents"]
    document_ids: Int64[np.ndarray, " documents"]
    record: TokenizationRecord
    longest: bool

    def __len__(self) -> int:
        return len(self.ids)

    def wait_for(self, stop: int) -> None:
        """Nothing to wait for: all notes are there."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ids, lengths and order: with the batch size it also fixes the padding of every batch."""
        content = hashlib.sha256(f"{self.ids.shape} {self.longest}".encode())
        content.update(self.ids.data)
        content.update(self.lengths.data)
        return content.hexdigest()


def tokenize(
    texts: Sequence[str],
    tokenizer: NoteTokenizer,
    progress: Progress | None = None,
    group: Group = ALONE,
    arrived: Arrived | None = None,
) -> NoteTokens:
    """All notes tokenized whole, in bulk, each process of `group` a part of them.

    `arrived` is given the tokens of some notes at a time, in order, as soon as they are there.
    """
    document_ids = frozen(np.array([text_digest(text.encode()) for text in texts], np.int64))
    group.require_same({"the split's notes": document_ids.tobytes()})
    first, last = (len(texts) * rank // group.size for rank in (group.rank, group.rank + 1))
    parts: list[np.ndarray] = []
    with closing(encode(texts[first:last], tokenizer.backend)) as coming:
        for some in coming:
            parts += some
            if arrived:
                arrived(some)
            if progress:
                progress("Tokenizing", len(parts), last - first)
    lengths = np.zeros(len(texts), np.int64)
    lengths[first:last] = [len(part) for part in parts]
    offsets = np.concatenate(([0], np.cumsum(group.joined(lengths))))
    flat = np.zeros(offsets[-1], np.int32)
    if parts:
        np.concatenate(parts, out=flat[offsets[first] : offsets[last]])
    return NoteTokens(frozen(group.joined(flat)), frozen(offsets), document_ids, tokenizer)


def forget_tokens(cache: Path) -> None:
    """Delete what an earlier version wrote: it kept token ids in the cache."""
    shutil.rmtree(cache / "tokens", ignore_errors=True)
