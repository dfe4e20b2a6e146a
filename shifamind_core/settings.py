"""Where things are kept, how much of it, and what the environment may say about it."""

import os
import re
from functools import lru_cache
from pathlib import Path

from shifamind_core.errors import ShifamindError

PROJECT = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """`SHIFAMIND_CACHE`, or `cache/` beside the package; readable by its owner only."""
    return _made(os.environ.get("SHIFAMIND_CACHE") or str(PROJECT / "cache"))


@lru_cache(maxsize=8)
def _made(folder: str) -> Path:
    """Pages ask for it many times on every rerun."""
    made = Path(folder).expanduser().resolve()
    made.mkdir(parents=True, exist_ok=True, mode=0o700)
    return made


CACHE_LIMIT = (
    "10 GB"  # some 2,800 runs of 17,266 notes and 50 codes; a Colab machine has seven times that free
)
UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def cache_limit_bytes() -> int:
    """`SHIFAMIND_CACHE_LIMIT`, a number of bytes or one with a unit (`500 MB`, `2.5 GB`, `1 TiB`), or `CACHE_LIMIT`.

    Raises
    ------
    ShifamindError
        It is no such number.
    """
    text = os.environ.get("SHIFAMIND_CACHE_LIMIT") or CACHE_LIMIT
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([a-z]{0,3})\s*", text.lower())
    if found is None or found[2] not in UNITS:
        raise ShifamindError(
            f"SHIFAMIND_CACHE_LIMIT is {text[:40]!r}; expected a number of bytes, or one with a unit, like 500 MB or 10 GB."
        )
    return int(float(found[1]) * UNITS[found[2]])


def notes_may_be_shown() -> bool:
    """Whether a page may show a note's text to who asks for it: `SHIFAMIND_SHOW_NOTES` says 1; otherwise none does."""
    return os.environ.get("SHIFAMIND_SHOW_NOTES") == "1"


def rank_and_size() -> tuple[int, int]:
    """Which of how many processes this is, as `torchrun` says; (0, 1) for one that it did not start."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def processors() -> int:
    """How many of the machine's processors are this process's share, at least one.

    Those that it may run on (containers and batch systems give fewer than there are), divided among the processes that
    `torchrun` started here.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    return max(1, own // here)
