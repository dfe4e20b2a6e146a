"""The tokenizer of a local folder: its casing observed and settable, its special tokens and its size known."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import huggingface_hub.errors
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from shifamind_core.artifacts.base_model import VOCABULARIES, read_vocabulary, vocabulary_marked
from shifamind_core.artifacts.regular_file import open_regular
from shifamind_core.errors import ShifamindError

LARGEST_BYTES = 64 << 20  # of each file of a tokenizer; what multilingual ones have, and more
LOWERCASE = {"type": "Lowercase"}
# What the library raises on files that it cannot make a tokenizer of; the last one checks the configuration beside them.
REFUSED = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError,
    getattr(huggingface_hub.errors, "StrictDataclassError", ValueError),
)  # fmt: skip
SPECIAL = ("cls_token_id", "sep_token_id", "pad_token_id")


@dataclass(frozen=True)
class NoteTokenizer:
    """A tokenizer whose casing was observed, not assumed. `remarks` say what of its files was mended."""

    backend: Tokenizer
    lowercase: bool
    normalizer: str
    source: str
    tokenizer_class: str
    cls_id: int
    sep_id: int
    pad_id: int
    vocabulary_sha256: str
    remarks: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the serialized tokenizer: vocabulary, normalizer, splitting and model."""
        return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

    @cached_property
    def size(self) -> int:
        """How many rows an embedding needs for every token that can come out, added ones among them.

        The empty token of a blank line in `vocab.txt` cannot.
        """
        vocabulary = self.backend.get_vocab(with_added_tokens=True)
        return 1 + max(place for token, place in vocabulary.items() if token)

    @cached_property
    def casings(self) -> tuple[bool, ...]:
        """The casings that can be set."""
        state = json.loads(self.backend.to_str())["normalizer"]
        return tuple(casing for casing in (True, False) if _normalizer(state, casing, self.lowercase) != {})


def load_tokenizer(base_model: Path, lowercase: bool | None = None) -> NoteTokenizer:
    """The tokenizer of a local folder, with its casing set (`True`, `False`) or left to the library (`None`).

    Where casing is asked for, the normalizer itself is set: the keyword that transformers takes for it has had
    other defaults and other effects from release to release.

    Raises
    ------
    ShifamindError
        The folder holds no tokenizer that transformers can load, one whose casing cannot be set, or one that puts its special
        tokens elsewhere than before and after a note.
    """
    read_vocabulary(base_model)
    for name in (*VOCABULARIES, "tokenizer_config.json"):
        if (base_model / name).exists():
            os.close(open_regular(base_model / name, LARGEST_BYTES))
    try:
        with _without_mark(base_model) as folder:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None:
            backend.encode("☃")  # a vocabulary without a token for what it does not know fails only here
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, REFUSED):
            raise  # the tokenizers, written in Rust, raise nothing narrower than `Exception`
        raise ShifamindError(
            f"No tokenizer could be loaded from {base_model} ({type(error).__name__}). It needs config.json and vocab.txt, unharmed."
        ) from error
    if backend is None:
        raise ShifamindError(
            f"{base_model} gives a {type(tokenizer).__name__}, which has no fast tokenizer behind it."
        )
    for name in SPECIAL:
        if getattr(tokenizer, name) is None:
            raise ShifamindError(
                f"The tokenizer in {base_model} has no {name.removesuffix('_id')}; a BERT tokenizer has."
            )
    # Truncation and padding that a tokenizer.json may carry are decided here, not there.
    backend.no_truncation()
    backend.no_padding()
    _check_special_tokens(backend, tokenizer, base_model)
    if lowercase is not None:
        backend = _with_casing(backend, lowercase)
    return NoteTokenizer(
        backend=backend,
        lowercase=_lowercases(backend),
        normalizer=json.dumps(json.loads(backend.to_str())["normalizer"], sort_keys=True),
        source=_source(base_model),
        tokenizer_class=type(tokenizer).__name__,
        cls_id=tokenizer.cls_token_id,
        sep_id=tokenizer.sep_token_id,
        pad_id=tokenizer.pad_token_id,
        vocabulary_sha256=_vocabulary_sha256(backend),
        remarks=_remarks(base_model),
    )


def check_vocabulary(tokenizer: NoteTokenizer, rows: int, base_model: Path, file: str) -> None:
    """Refuse tokens that the embedding has no row for. More rows than tokens are harmless."""
    if tokenizer.size <= rows:
        return
    blank = (read_vocabulary(base_model) or []).count("")
    why = f" ({blank} of them for blank lines in vocab.txt)" if blank else ""
    raise ShifamindError(
        f"The embedding in {file} has {rows:,} rows, but the tokenizer in {base_model} gives ids up to {tokenizer.size - 1:,}: it has "
        f"{tokenizer.size:,} tokens{why}. Use the tokenizer that the checkpoint was trained with."
    )


@contextmanager
def _without_mark(base_model: Path) -> Iterator[Path]:
    """The folder, or a copy of its small files where `vocab.txt` begins with a byte order mark: its first token is then no
    token of the model's."""
    if not vocabulary_marked(base_model):
        yield base_model
        return
    with tempfile.TemporaryDirectory() as place:
        for file in base_model.iterdir():
            if file.suffix in (".json", ".txt") and file.is_file():
                shutil.copyfile(file, Path(place) / file.name)
        vocabulary = Path(place) / "vocab.txt"
        vocabulary.write_bytes(vocabulary.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        yield Path(place)


def _remarks(base_model: Path) -> tuple[str, ...]:
    remarks = []
    if vocabulary_marked(base_model):
        remarks.append("vocab.txt begins with a byte order mark, which was left out.")
    if blank := (read_vocabulary(base_model) or []).count(""):
        lines = "1 blank line" if blank == 1 else f"{blank} blank lines"
        remarks.append(f"vocab.txt has {lines}; each takes an id that no token of a note gets.")
    return tuple(remarks)


def _check_special_tokens(backend: Tokenizer, tokenizer: Any, base_model: Path) -> None:
    """Notes are framed here as BERT's and RoBERTa's are; where a tokenizer does otherwise, ids would be wrong."""
    inner = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    if framed not in (inner, [tokenizer.cls_token_id, *inner, tokenizer.sep_token_id]):
        raise ShifamindError(
            f"The tokenizer in {base_model} ({type(tokenizer).__name__}) does not put one token before and one after a note, as BERT's "
            "and RoBERTa's do; such models are not read here."
        )


def _with_casing(backend: Tokenizer, lowercase: bool) -> Tokenizer:
    state = json.loads(backend.to_str())
    normalizer = _normalizer(state["normalizer"], lowercase, _lowercases(backend))
    if normalizer == {}:
        kind = state["normalizer"]["type"]
        raise ShifamindError(
            f"This tokenizer lower-cases by its {kind} normalizer, which cannot be told to keep case. Choose the default."
        )
    cased = Tokenizer.from_str(json.dumps(state | {"normalizer": normalizer}))
    cased.encode_special_tokens = backend.encode_special_tokens  # which its text leaves out
    return cased


def _normalizer(state: dict[str, Any] | None, lowercase: bool, observed: bool) -> dict[str, Any] | None:
    """The normalizer with this casing; `{}` where it cannot have it.

    BERT's has a switch. Before any other, a script can lower-case notes itself; what lower-cases within it stays.
    """
    if state and state.get("type") == "BertNormalizer":
        # Accents follow the casing, as BERT's own tokenizer does it.
        return state | {"lowercase": lowercase, "strip_accents": None}
    if lowercase == observed:
        return state
    if lowercase:
        return {"type": "Sequence", "normalizers": [LOWERCASE, *([state] if state else [])]}
    if state == LOWERCASE:
        return None
    inner = (state or {}).get("normalizers", [])
    return (
        state | {"normalizers": [one for one in inner if one != LOWERCASE]}
        if state and LOWERCASE in inner
        else {}
    )


def _lowercases(backend: Tokenizer) -> bool:
    return backend.normalizer is not None and backend.normalizer.normalize_str("A") == "a"


def _vocabulary_sha256(backend: Tokenizer) -> str:
    vocabulary = backend.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def _source(base_model: Path) -> str:
    """Which files decided the tokenizer; a vocabulary alone leaves casing to the library's default."""
    names = (
        "tokenizer.json",
        "tokenizer_config.json",
        *(name for name in VOCABULARIES if name != "tokenizer.json"),
    )
    found = [name for name in names if (base_model / name).is_file()]
    return "vocabulary only" if found == ["vocab.txt"] else " + ".join(found)
