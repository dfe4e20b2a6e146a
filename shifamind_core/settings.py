"""Where things are kept, and what the environment may say about it."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def cache_folder() -> Path:
    """`SHIFAMIND_CACHE`, or `cache/` beside the package; readable by its owner only."""
    folder = Path(os.environ.get("SHIFAMIND_CACHE") or PROJECT / "cache").expanduser()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
