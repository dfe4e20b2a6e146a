"""The recorded bitwise digests under another release of torch, in an environment of its own.

python -m benchmarks.bitwise_releases 2.10.0

downloads that release (its CUDA build: some gigabytes) into a temporary folder; `--python FILE` takes an environment that
is there already. Prints what each computes, this one first; exits with 1 if a digest differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NEEDED = ("transformers", "safetensors", "numpy", "scipy", "jaxtyping", "psutil", "packaging")


def environment(folder: Path, release: str) -> Path:
    """A Python with this release of torch, and what the core asks for in the versions of `constraints.txt`."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    kept = [
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("torch=")
    ]
    limits = folder / "constraints.txt"
    limits.write_text("\n".join(kept))
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        str(limits),
        f"torch=={release}",
        *NEEDED,
    ]
    subprocess.run(install, check=True)
    return python


def held(python: Path | str) -> dict[str, Any]:
    """What `simulation.bitwise_cases --hold` says there."""
    command = [str(python), "-m", "simulation.bitwise_cases", "--hold"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not done.stdout:
        sys.exit(f"error: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def main() -> None:
    """Hold every release to the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("release", nargs="*", help="of torch, as pip names it")
    parser.add_argument(
        "--python", nargs="*", default=[], help="interpreters that have another torch already"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = [environment(Path(folder) / release, release) for release in options.release]
        reports = [held(python) for python in (sys.executable, *options.python, *made)]
    for report in reports:
        said = ", ".join(report["different"]) or "none"
        print(
            f"torch {report['torch']:<16} {report['capability']:<8} {report['cases']} cases, different: {said}; FP32 {report['fp32'][:12]}"
        )
    sys.exit(any(report["different"] for report in reports))


if __name__ == "__main__":
    main()
