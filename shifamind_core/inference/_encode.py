"""The process that turns texts into token ids for `encoding.py`, which starts it as a script: `python -I -S _encode.py`.

It imports little, since that is most of what its start costs, and ends when nobody asks any more.
"""

import json
import os
import resource
import sys
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NICER = 10  # whoever reads a checkpoint or feeds a GPU goes before
WORD = 8  # bytes of a length


def encoded(backend: "Tokenizer", texts: list[str]) -> tuple[bytes, bytes]:
    """How many ids each text has, int64, and all of them, int32; without special tokens."""
    ids = [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    return array("q", map(len, ids)).tobytes(), array("i", chain.from_iterable(ids)).tobytes()


def write_texts(file: IO[bytes], texts: Sequence[str]) -> None:
    """How many they are, how long each is in bytes, and all of them."""
    contents = [text.encode() for text in texts]
    file.write(array("q", [len(contents), *map(len, contents)]).tobytes())
    file.writelines(contents)
    file.flush()


def read_texts(file: IO[bytes]) -> list[str]:
    """What `write_texts` wrote. Raises `EOFError` where nothing more comes."""
    (count,) = array("q", read(file, WORD))
    return [read(file, length).decode() for length in array("q", read(file, count * WORD))]


def read(file: IO[bytes], size: int) -> bytes:
    """So many bytes, and never fewer."""
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content


def main() -> None:
    """Be told where modules lie, the tokenizer, and then texts, over and over."""
    os.nice(NICER)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no note in a core file
    about, tokenizer = read_texts(sys.stdin.buffer)
    sys.path[:], special_as_words = json.loads(about)
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer)
    backend.encode_special_tokens = special_as_words
    while True:
        sys.stdout.buffer.writelines(encoded(backend, read_texts(sys.stdin.buffer)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        main()
    except (EOFError, OSError):
        sys.exit()
