"""Texts to token ids in bulk: here, where there are few, else by processes of their own (`_encode.py`).

The tokenizer has all cores, but the lists that it gives are Python's: making arrays of them holds Python's lock, and with it
whoever feeds a GPU meanwhile. Other processes have the same tokenizer and give the same ids.
"""

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
from tokenizers import Tokenizer

from shifamind_core.inference import _encode
from shifamind_core.settings import processors

CHUNK = 512  # notes a call here: enough to keep every core busy, few enough to keep the encodings small
SENT = 32  # notes that a process gets at once
# From which on processes are worth their start (0.2 s): lists of so many characters hold Python's lock for longer.
MANY_CHARACTERS = 8_000_000
MOST_PROCESSES = 8  # 40 MB each; of 16 cores, 4 with 4 threads each are 6 % slower, 16 as fast


def encode(texts: Sequence[str], backend: Tokenizer) -> Generator[list[np.ndarray], None, None]:
    """Each note's ids, int32 [tokens], without special tokens: some notes at a time, in order."""
    count = min(MOST_PROCESSES, processors(), len(texts) // SENT)
    if count < 2 or sum(map(len, texts)) < MANY_CHARACTERS:
        for start in range(0, len(texts), CHUNK):
            yield _arrays(*_encode.encoded(backend, list(texts[start : start + CHUNK])))
        return
    with Encoders(backend, count) as encoders, ThreadPoolExecutor(count) as threads:
        parts = [list(texts[start : start + SENT]) for start in range(0, len(texts), SENT)]
        yield from threads.map(encoders.encode, parts)


class Encoders:
    """Processes that encode; they end with their block."""

    def __init__(self, backend: Tokenizer, count: int) -> None:
        self._backend = backend
        self._started: list[subprocess.Popen[bytes]] = []
        self._free: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()
        # What a tokenizer's own text leaves out: whether `[SEP]` in a note is that token or a word.
        about = [[place for place in sys.path if isinstance(place, str)], backend.encode_special_tokens]
        first = [json.dumps(about), backend.to_str()]
        for _ in range(count):
            self._free.put(self._begin(first, max(1, processors() // count)))

    def __enter__(self) -> "Encoders":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.communicate()

    def _begin(self, first: list[str], threads: int) -> "subprocess.Popen[bytes] | None":
        """A process that was told its tokenizer; `None` where the system gives none."""
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", _encode.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what a library prints may quote what it reads
                env=os.environ | {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"},
            )
            self._started.append(process)
            assert process.stdin is not None
            _encode.write_texts(process.stdin, first)
        except OSError:
            return None
        return process

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """Each note's ids, by a process that is free; here, if that one was lost."""
        process, found = self._free.get(), None
        try:
            if process is not None:
                found = _asked(process, texts)
        except (OSError, EOFError):
            pass
        finally:  # one that was not heard to the end would answer the next question with the rest
            self._free.put(process if found else None)
        return _arrays(*(found or _encode.encoded(self._backend, texts)))


def _asked(process: "subprocess.Popen[bytes]", texts: list[str]) -> tuple[bytes, bytes]:
    assert process.stdin is not None and process.stdout is not None
    _encode.write_texts(process.stdin, texts)
    lengths = _encode.read(process.stdout, len(texts) * _encode.WORD)
    return lengths, _encode.read(process.stdout, sum(array("q", lengths)) * array("i").itemsize)


def _arrays(lengths: bytes, ids: bytes) -> list[np.ndarray]:
    ends = np.frombuffer(lengths, np.int64).cumsum()
    return np.split(np.frombuffer(ids, np.int32), ends[:-1])
