"""`python -m shifamind_core serve` in a process of its own, for tests that open what it prints."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulation.builders import tiny_run_directory
from tests.support.server import ROOT, free_port


@contextmanager
def serving(
    folder: Path, *options: str, port: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its link, once `serve --json` has printed it; what it says goes to `errors.txt` in `folder`.

    It opens on a small run directory; programs in `folder` are found before all others.
    """
    tiny_run_directory(folder / "run_1")
    options = ("--run-dir", str(folder / "run_1"), *options)
    command = [sys.executable, "-m", "shifamind_core", "serve", "--json", "--port", str(port or free_port())]
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "SHIFAMIND_CACHE": str(folder / "cache"), "PATH": path}
    with (folder / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    assert process.stdout is not None
    try:
        printed = process.stdout.readline()
        assert printed, (folder / "errors.txt").read_text()
        yield process, json.loads(printed)["link"]
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
