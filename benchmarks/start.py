"""From the shell to the first notes scored, beside Python that imports torch and transformers alone: `python -m benchmarks.start`.

Both are processes of their own, in turns. The first start of each is not counted: libraries' files are read from the disk then.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SCORED = re.compile(rb"Scoring: [1-9]\d* of ")
IMPORTS = "import torch; from transformers import AutoTokenizer, BertModel"
REPEATS = 3


def first_note(demo: Path, cache: Path) -> float:
    """Seconds until `predict` says that notes are scored."""
    command = [sys.executable, "-m", "shifamind_core", "predict", str(demo), "--split", "test"]
    environment = os.environ | {"SHIFAMIND_CACHE": str(cache)}
    started = time.perf_counter()
    said = b""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stderr is not None
        while not SCORED.search(said):
            part = os.read(process.stderr.fileno(), 1 << 16)
            if not part:
                raise RuntimeError(said.decode(errors="replace"))
            said += part
        seconds = time.perf_counter() - started
        process.stderr.read()
    return seconds


def imports() -> float:
    """Seconds of a Python that imports the two libraries, and ends."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Measure, and print medians and their ratio."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as name:
        demo = Path(name) / "demo"
        subprocess.run(
            [sys.executable, "-m", "shifamind_core", "demo", str(demo)], check=True, capture_output=True
        )
        pairs = [(first_note(demo, Path(name) / f"cache-{turn}"), imports()) for turn in range(1 + REPEATS)]
    ours, theirs = (median(column) for column in zip(*pairs[1:], strict=True))
    print(
        f"first notes scored after {ours:.1f} s; importing torch and transformers {theirs:.1f} s; ratio {ours / theirs:.2f}"
    )


if __name__ == "__main__":
    main()
