"""A run: the logits of one pass over some notes, with whatever else is known about them."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from shifamind_core.arrays import DocumentIds, Labels, Logits, TokenCounts, frozen
from shifamind_core.artifacts._limited import printable
from shifamind_core.errors import ShifamindError
from shifamind_core.progress import counted
from shifamind_core.runs.blocks import finite_range
from shifamind_core.runs.manifest import Manifest, digest_of
from shifamind_core.runs.mapped import refuse_if_cut

LOGIT_DTYPES = (np.float16, np.float32, np.float64)


HASHED_BYTES = 1 << 26  # at once: between two, who waits is told


@dataclass(frozen=True, eq=False)
class Run:
    """Logits [documents, codes] and what goes with them; an uploaded file is a `Run` too.

    Attributes
    ----------
    logits : float16/32/64 [documents, codes]
        Before the sigmoid, in the dtype computed (BF16 is stored as float32, which holds it exactly).
        May hold NaN or infinity: they are counted and reported, never dropped.
    name : str
        For people: a file's name, or split and policy. No part of the digest.
    codes : tuple of str, optional
        Column names.
    labels : uint8 [documents, codes], optional
        0 or 1.
    document_ids : int64 [documents], optional
        First 8 bytes of the SHA-256 of the note's text (big-endian, signed).
    token_digests : int64 [documents], optional
        The same of the token ids fed to the model (int32, little-endian, without padding).
    token_counts : int32 [documents], optional
        Tokens of the note before truncation, special tokens counted.
    concept_scores : float [documents, concepts], optional
        After the sigmoid.

    Raises
    ------
    ShifamindError
        Arrays whose shapes or values cannot belong together.
    """

    logits: Logits
    name: str = "run"
    codes: tuple[str, ...] | None = None
    labels: Labels | None = None
    document_ids: DocumentIds | None = None
    token_digests: DocumentIds | None = None
    token_counts: TokenCounts | None = None
    concept_scores: Float[np.ndarray, "documents concepts"] | None = None
    manifest: Manifest = field(default_factory=Manifest)

    def __post_init__(self) -> None:
        if self.logits.ndim != 2:
            raise ShifamindError(
                f"{self.name}: logits have shape {self.logits.shape}; expected notes × codes, two axes."
            )
        documents, codes = self.logits.shape
        if not documents or not codes:
            raise ShifamindError(
                f"{self.name} is empty: {documents} notes × {codes} codes. Upload a run that holds both."
            )
        if self.logits.dtype not in LOGIT_DTYPES:
            raise ShifamindError(
                f"{self.name}: logits are {self.logits.dtype}; expected float16, float32 or float64."
            )
        if self.codes is not None:
            if len(self.codes) != codes:
                raise ShifamindError(
                    f"{self.name}: {len(self.codes)} code names for {codes} columns of logits."
                )
            if len(set(self.codes)) != codes:
                twice = Counter(self.codes).most_common(1)[0][0]
                raise ShifamindError(
                    f"{self.name}: the code {printable(twice)!r} names more than one column."
                )
        if self.labels is not None and self.labels.shape != self.logits.shape:
            raise ShifamindError(
                f"{self.name}: labels are {' × '.join(map(str, self.labels.shape))}, "
                f"logits {documents} × {codes}. Both are notes × codes."
            )
        if self.labels is not None and self.labels.max() > 1:
            note, column = np.argwhere(self.labels > 1)[0]
            code = self.codes[column] if self.codes else column
            raise ShifamindError(
                f"{self.name}: the label of note {note}, code {code} is {self.labels[note, column]}; expected 0 or 1."
            )
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, np.ndarray):
                if len(value) != documents:
                    raise ShifamindError(
                        f"{self.name}: {part.name} has {len(value)} rows, logits have {documents}."
                    )
                object.__setattr__(self, part.name, frozen(value))

    @property
    def documents(self) -> int:
        """Number of notes."""
        return self.logits.shape[0]

    @property
    def codes_of(self) -> int:
        """Of how many codes these are a part: all there are, as far as anybody knows."""
        return max(self.manifest.codes_of or 0, self.logits.shape[1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the run says: arrays and code names, not its name or manifest."""
        content = hashlib.sha256(repr(self.codes).encode())
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, np.ndarray):
                content.update(f"{part.name} {value.dtype.str} {value.shape}".encode())
                data = value.reshape(-1).view(np.uint8).data
                for start in counted(range(0, len(data), HASHED_BYTES), -(-len(data) // HASHED_BYTES)):
                    refuse_if_cut(value)
                    content.update(data[start : start + HASHED_BYTES])
        return content.hexdigest()

    @cached_property
    def identity(self) -> str:
        """SHA-256 of all that the run says, its name and manifest included."""
        return digest_of([self.digest, self.name, self.manifest])

    @cached_property
    def _range(self) -> tuple[float, float, int]:
        return finite_range(self.logits)

    @property
    def non_finite(self) -> int:
        """How many logits are NaN or infinite."""
        return self._range[2]

    @property
    def ends(self) -> tuple[float, float]:
        """Least and greatest of the finite logits."""
        return self._range[:2]

    def select(self, rows: np.ndarray | None = None, columns: np.ndarray | None = None) -> "Run":
        """The run with these notes and codes (index arrays), in this order; of how many codes they are, it keeps."""
        rows = np.arange(self.documents) if rows is None else rows
        columns = np.arange(self.logits.shape[1]) if columns is None else columns
        cell = np.ix_(rows, columns)
        by_row = {
            part: getattr(self, part)[rows]
            for part in ("document_ids", "token_digests", "token_counts", "concept_scores")
            if getattr(self, part) is not None
        }
        part = len(columns) < self.codes_of
        return replace(
            self,
            logits=self.logits[cell],
            manifest=replace(self.manifest, codes_of=self.codes_of) if part else self.manifest,
            labels=None if self.labels is None else self.labels[cell],
            codes=None if self.codes is None else tuple(self.codes[i] for i in columns),
            **by_row,
        )
