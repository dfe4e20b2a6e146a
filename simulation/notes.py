"""Notes as token ids, made by the thousand at no cost: topics, trigger words of codes, negations, capitals.

A world holds what all notes of one hospital share: how often words are, which belong together, which words tell of a
code. Nothing in it is language; what matters is that a model has to read words, their neighbours and rare ones to
learn the codes, and that other casing gives other tokens and more of them, as with a real vocabulary.
"""

from dataclasses import dataclass, replace

import numpy as np

PAD, UNK, CLS, SEP, MASK, NOT = range(6)
FIRST_WORD = 6


@dataclass(frozen=True, eq=False)
class Notes:
    """Token ids without special ones.

    Attributes
    ----------
    ids : int32 [notes, longest]; 0 beyond a note's length
    lengths : int32 [notes]
    """

    ids: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, rows: np.ndarray) -> "Notes":
        return Notes(self.ids[rows], self.lengths[rows])

    def replaced(self, rows: np.ndarray, other: "Notes") -> "Notes":
        """These rows read from `other` (the same notes in another form)."""
        width = max(self.ids.shape[1], other.ids.shape[1])
        ids, theirs = _widened(self.ids, width), _widened(other.ids, width)
        lengths = self.lengths.copy()
        ids[rows], lengths[rows] = theirs[rows], other.lengths[rows]
        return Notes(ids, lengths)


def _widened(ids: np.ndarray, width: int) -> np.ndarray:
    wide = np.zeros((len(ids), width), ids.dtype)
    wide[:, : ids.shape[1]] = ids
    return wide


def packed(flat: np.ndarray, lengths: np.ndarray) -> Notes:
    """Notes one after the other as rows."""
    lengths = lengths.astype(np.int32)
    ids = np.zeros((len(lengths), max(int(lengths.max()), 1)), np.int32)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = flat
    return Notes(ids, lengths)


def kept(notes: Notes, keep: np.ndarray) -> Notes:
    """Only the tokens where `keep` [notes, longest] holds."""
    keep = keep & (np.arange(notes.ids.shape[1]) < notes.lengths[:, None])
    return packed(notes.ids[keep], keep.sum(axis=1))


def without_beginning(notes: Notes, tokens: int) -> Notes:
    """Every note without its first tokens; a note keeps one at least."""
    first = np.minimum(tokens, np.maximum(notes.lengths - 1, 0))
    return kept(notes, np.arange(notes.ids.shape[1]) >= first[:, None])


def with_inserted(notes: Notes, token: int, every: int) -> Notes:
    """One token more after every so many: as line ends that are tokens in one run only."""
    places = np.arange(notes.ids.shape[1])
    again = np.where((places % every == every - 1) & (places < notes.lengths[:, None]), 2, 1)
    return _repeated(notes, again, token)


def _repeated(notes: Notes, pieces: np.ndarray, token: int) -> Notes:
    inside = np.arange(notes.ids.shape[1]) < notes.lengths[:, None]
    counts = pieces[inside]
    flat = np.repeat(notes.ids[inside], counts)
    flat[np.cumsum(counts)[counts == 2] - 1] = token
    return packed(flat, np.where(inside, pieces, 0).sum(axis=1))


def swapped_halves(notes: Notes) -> Notes:
    """The second half of every note before its first."""
    places = np.arange(notes.ids.shape[1])
    inside = places < notes.lengths[:, None]
    shift = notes.lengths[:, None] // 2
    source = np.where(inside, (places + shift) % np.maximum(notes.lengths[:, None], 1), places)
    return Notes(np.take_along_axis(notes.ids, source, axis=1), notes.lengths)


def head_and_tail(notes: Notes, room: int, tail: int) -> Notes:
    """Of notes longer than `room`, the beginning and the last `tail` tokens."""
    places = np.arange(notes.ids.shape[1])
    longer = notes.lengths[:, None] > room
    keep = (places < room - tail) | (places >= notes.lengths[:, None] - tail)
    return kept(notes, ~longer | keep)


@dataclass(frozen=True)
class World:
    """Sizes of what notes are about; `seed` decides the rest."""

    vocabulary: int
    codes: int
    length: int
    prevalence: float = 0.25
    topics: int = 30
    spread: float = 0.5
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """Notes with what is true of them."""

    notes: Notes
    labels: np.ndarray  # uint8 [notes, codes]

    def select(self, rows: np.ndarray) -> "Sample":
        return replace(self, notes=self.notes.select(rows), labels=self.labels[rows])


def write(world: World, count: int, seed: int) -> Sample:
    """So many notes of a world; `seed` decides which."""
    fixed, rng = np.random.default_rng([world.seed, 0]), np.random.default_rng([world.seed, 1, seed])
    words = fixed.permutation(np.arange(FIRST_WORD, world.vocabulary))
    common = 1 / np.arange(1, len(words) + 1) ** fixed.uniform(0.9, 1.2)
    topics = fixed.choice(words[: max(200, len(words) // 2)], (world.topics, 40))
    triggers = fixed.choice(words[20 : max(200, 3 * len(words) // 4)], (world.codes, 3))
    topic_of = fixed.integers(0, world.topics, world.codes)
    frequency = world.prevalence * np.geomspace(1, 0.05, world.codes)[fixed.permutation(world.codes)]
    loads = fixed.normal(0, 0.8, (6, world.codes))

    base = np.log(frequency / (1 - frequency))
    chance = 1 / (1 + np.exp(-(base + rng.standard_normal((count, 6)) @ loads)))
    labels = rng.random(chance.shape) < chance
    lengths = np.clip(rng.lognormal(np.log(world.length), world.spread, count), 6, 4 * world.length).astype(
        np.int32
    )
    width = int(lengths.max())
    below = np.cumsum(common)[:-1] / common.sum()
    ids = words[np.searchsorted(below, rng.random((count, width)))]
    # A third of the words belong to the note's topics: those of its codes, and two others.
    own = rng.integers(0, world.topics, (count, 4))
    for column in range(2):
        place = rng.integers(0, world.codes, count)
        own[:, column] = np.where(labels[np.arange(count), place], topic_of[place], own[:, column])
    inside = rng.random((count, width)) < 0.3
    which = np.take_along_axis(own, rng.integers(0, 4, (count, width)), axis=1)
    rank = np.minimum(rng.geometric(0.08, (count, width)) - 1, topics.shape[1] - 1)
    ids = np.where(inside, topics[which, rank], ids)
    for times in range(3):  # said once to thrice
        note, code = np.nonzero(labels & (rng.random(labels.shape) < (1.0, 0.6, 0.3)[times]))
        ids[note, (rng.random(len(note)) * lengths[note]).astype(int)] = triggers[
            code, rng.integers(0, 3, len(note))
        ]
    note, code = np.nonzero(~labels & (rng.random(labels.shape) < 0.3 / max(5, world.codes / 10)))
    place = (rng.random(len(note)) * np.maximum(lengths[note] - 1, 1)).astype(int)
    ids[note, place], ids[note, np.minimum(place + 1, width - 1)] = NOT, triggers[code, 0]
    ids[np.arange(width) >= lengths[:, None]] = PAD
    return Sample(Notes(ids.astype(np.int32), lengths), labels.astype(np.uint8))


def recased(notes: Notes, vocabulary: int, share: float, seed: int) -> Notes:
    """That share of the words in another casing: other tokens, and of half of them more than one.

    Which words have another form, and which one, is fixed by `seed`; how many of a note's words are concerned
    differs from note to note.
    """
    fixed = np.random.default_rng(seed)
    concerned = fixed.random(vocabulary) < share
    pieces = fixed.choice([1, 2], vocabulary, p=[0.75, 0.25])
    first, second = (fixed.integers(FIRST_WORD, vocabulary, vocabulary) for _ in range(2))
    capitals = fixed.beta(8, 10, len(notes))[:, None]
    inside = np.arange(notes.ids.shape[1]) < notes.lengths[:, None]
    changed = inside & concerned[notes.ids] & (fixed.random(notes.ids.shape) < capitals)
    counts = np.where(changed, pieces[notes.ids], 1)
    flat_ids, flat_counts = notes.ids[inside], counts[inside]
    flat = np.repeat(np.where(changed[inside], first[flat_ids], flat_ids), flat_counts)
    twice = flat_counts == 2
    flat[np.cumsum(flat_counts)[twice] - 1] = second[flat_ids[twice]]
    return packed(flat, np.where(inside, counts, 0).sum(axis=1))
