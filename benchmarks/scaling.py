"""One process against several that share the notes, from the shell to the run file: `python -m benchmarks.scaling`.

Each policy is scored by `python -m shifamind_core predict` and by the same under torchrun, with one process a GPU (two on a CPU)
and as many threads a process in both. Run files have to be equal bit for bit, or the benchmark fails. Two times are kept:
the whole command, start of Python and libraries included, and the scoring alone, as the run's manifest has it: until the first
process has what all of them found. Notes are synthetic, weights random; on a CPU the model is smaller. Rows go to `--json FILE`, or to
`$OUT/scaling.json`, as they come.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.throughput import BATCH, NOTES, TOKENS, make
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file
from shifamind_core.settings import processors

GPU = {"fp32": NOTES, "bf16-autocast": NOTES, "bitwise": 512}  # notes scored under each policy
CPU = {"fp32": 32}


def command(run: Path, base: Path, policy: str, notes: int, processes: int, out: Path) -> tuple[float, Run]:
    """Seconds from the shell to the end, and the run that was written."""
    starter = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    threads = max(1, processors() // processes_here())
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "SHIFAMIND_CACHE": str(out.with_suffix(".cache")),
        "GLOO_SOCKET_IFNAME": "lo",  # all on this machine, whatever its name resolves to
    }
    started = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, *(starter if processes > 1 else []), "-m", "shifamind_core", "predict", run),
            *("--base-model", base, "--policy", policy, "--limit", str(notes), "--output", out, "--json"),
            *("--max-length", str(TOKENS), "--batch-size", str(BATCH)),
        ],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started, read_run_file(out)


def processes_here() -> int:
    """One a GPU, two on a CPU."""
    return torch.cuda.device_count() or 2


def main() -> None:
    """Measure one process and several, one after the other, under each policy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    folder = os.environ.get("OUT")
    parser.add_argument("--json", type=Path, default=Path(folder) / "scaling.json" if folder else None)
    options = parser.parse_args()
    cuda, processes = torch.cuda.is_available(), processes_here()
    if processes == 1:
        print("One GPU: nothing to share out.")
        return
    about = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "torch": torch.__version__,
        "processes": processes,
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        run, base = make(Path(name), small=not cuda)
        # From here on files and bytecode are at hand, and Triton's kernels compiled.
        command(run, base, "bitwise" if cuda else "fp32", BATCH, 1, Path(name) / "warm.safetensors")
        for policy, notes in (GPU if cuda else CPU).items():
            taken, scored = zip(
                *(
                    command(run, base, policy, notes, count, Path(name) / f"{policy}{count}.safetensors")
                    for count in (1, processes)
                ),
                strict=True,
            )
            one, shared = scored
            assert one.manifest.duration_seconds and shared.manifest.duration_seconds
            scoring = one.manifest.duration_seconds, shared.manifest.duration_seconds
            row = {
                "policy": policy,
                "notes": notes,
                "command_seconds": [round(seconds, 2) for seconds in taken],
                "command_ratio": round(taken[0] / taken[1], 2),
                "scoring_seconds": list(scoring),
                "scoring_notes_per_second": [round(notes / seconds, 1) for seconds in scoring],
                "scoring_ratio": round(scoring[0] / scoring[1], 2),
                "equal": one.logits.tobytes() == shared.logits.tobytes() and one.digest == shared.digest,
                "remarks": [list(found.manifest.notes) for found in scored],
            }
            rows.append(row)
            print(json.dumps(about | row), flush=True)
            if options.json:
                options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    if not all(row["equal"] for row in rows):
        sys.exit("Runs differ.")


if __name__ == "__main__":
    main()
