"""Commands, the bound at a tuned threshold and the certificate on two run files of Edin et al.'s MIMIC-IV size, 122,279 notes × 7,942 codes, made here: time, processor, memory.

python -m benchmarks.large                      two files of 4.9 GB in a temporary folder, deleted at the end
python -m benchmarks.large --notes 12228        a tenth
python -m benchmarks.large --keep FOLDER        files that are there already are used, and kept
python -m benchmarks.large --only compare tuned these alone, each by the first word of its name

Memory is what a command takes beyond the mapped files: the largest `RssAnon` that the kernel told while it ran.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from shifamind_core.analysis.certificate import certificate, sorted_margins
from shifamind_core.analysis.tuned_bound import TunedFlipBound
from shifamind_core.diagnosis.proof import prove_tuned
from shifamind_core.runs.run_file import FORMAT, map_run_file

NOTES, CODES = 122_279, 7_942
BLOCK = 1024
CODES_A_NOTE = 16
REFEREE_NOTES = 64


def make_pair(folder: Path, notes: int, codes: int) -> tuple[Path, Path]:
    """Candidate and reference over the same notes, in one order: the candidate's logits are the reference's and a little noise."""
    reference, candidate = folder / "reference.safetensors", folder / "candidate.safetensors"
    if reference.exists() and candidate.exists():
        return candidate, reference
    generator = np.random.default_rng(0)
    rates = CODES_A_NOTE / codes * np.geomspace(30, 0.03, codes)
    centre = logit(np.minimum(rates / np.mean(rates) * CODES_A_NOTE / codes, 0.5)).astype(np.float32)
    ids = generator.integers(-(2**62), 2**62, notes)
    files = [_RunFile(path, notes, codes, ids) for path in (reference, candidate)]
    for start in range(0, notes, BLOCK):
        shape = (min(BLOCK, notes - start), codes)
        logits = generator.standard_normal(shape, np.float32) * 2 + (centre - 1.5)
        labels = (generator.random(shape, np.float32) < expit(logits)).astype(np.uint8)
        files[0].write(start, logits, labels)
        files[1].write(start, logits + 3e-3 * generator.standard_normal(shape, np.float32), labels)
    return candidate, reference


class _RunFile:
    """A run file written in blocks of notes: `safetensors` writes whole tensors alone."""

    def __init__(self, path: Path, notes: int, codes: int, ids: np.ndarray) -> None:
        header: dict[str, object] = {
            "__metadata__": {"format": FORMAT, "codes": json.dumps([f"C{code:05d}" for code in range(codes)])}
        }
        end = 0
        for part, dtype, shape, size in (
            ("logits", "F32", [notes, codes], 4 * notes * codes),
            ("document_ids", "I64", [notes], 8 * notes),
            ("labels", "U8", [notes, codes], notes * codes),
        ):
            header[part] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        with path.open("wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            file.truncate(8 + len(head) + end)
        self._logits = np.memmap(path, "<f4", "r+", 8 + len(head), (notes, codes))
        after = 8 + len(head) + 4 * notes * codes
        np.memmap(path, "<i8", "r+", after, (notes,))[:] = ids
        self._labels = np.memmap(path, "u1", "r+", after + 8 * notes, (notes, codes))

    def write(self, start: int, logits: np.ndarray, labels: np.ndarray) -> None:
        self._logits[start : start + len(logits)] = logits
        self._labels[start : start + len(labels)] = labels


class Spent(NamedTuple):
    """What a command took, in seconds and MB; `beyond` leaves the mapped files out, `peak` does not."""

    wall: float
    processor: float
    beyond: float
    peak: float


def spent_by(arguments: list[str]) -> tuple[Spent, str]:
    """Run the command in a process of its own; what it took, and what it printed."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        child = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=subprocess.DEVNULL)
        beyond = 0
        while True:
            beyond = max(beyond, anonymous_kb(child.pid))
            pid, status, used = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.02)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read().decode()
    if child.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {child.returncode}: {printed}")
    return Spent(wall, used.ru_utime + used.ru_stime, beyond / 1024, used.ru_maxrss / 1024), printed


def anonymous_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def by_numpy(path: Path) -> float:
    """Seconds that plain NumPy takes for the counts at one threshold, streamed: the floor."""
    run = map_run_file(path)
    assert run.labels is not None
    right = predicted = positives = 0
    started = time.perf_counter()
    for start in range(0, run.documents, BLOCK):
        rows = slice(start, start + BLOCK)
        assigned = run.logits[rows] > 0
        right = right + np.count_nonzero(assigned & run.labels[rows].view(bool), axis=0)
        predicted = predicted + np.count_nonzero(assigned, axis=0)
        positives = positives + np.count_nonzero(run.labels[rows], axis=0)
    return time.perf_counter() - started


def tuned_build(candidate: Path, reference: Path) -> None:
    """The bound at the threshold that the reference tunes for the candidate, ready to be asked."""
    print(TunedFlipBound(map_run_file(reference), map_run_file(candidate)).reach)


def tuned_proof(candidate: Path, reference: Path) -> None:
    """All that a page asks of it: a curve, the ranges of three policies, two targets."""
    measured = {"fp32": 1e-5, "tf32": 2e-3, "bf16-autocast": 2e-2}
    targets = {"macro_f1": 0.05, "micro_f1": 0.25}
    print(prove_tuned(map_run_file(reference), map_run_file(candidate), targets, measured).sentence)


def certified(candidate: Path, reference: Path) -> None:
    """The certificate, the reference standing for FP64 on some notes, and what its figure shows."""
    run, referee = map_run_file(candidate), map_run_file(reference).logits[:REFEREE_NOTES]
    print(certificate(run, run.logits[:REFEREE_NOTES], referee).at_risk, sorted_margins(run)[0])


PARTS = {
    "tuned bound, built": tuned_build,
    "tuned bound, whole proof": tuned_proof,
    "certificate and its figure": certified,
}


def main(folder: Path, notes: int, codes: int, only: list[str]) -> None:
    started = time.perf_counter()
    candidate, reference = map(str, make_pair(folder, notes, codes))
    print(
        f"{notes:,} × {codes:,} = {notes * codes:,} scores; files made in {time.perf_counter() - started:.0f} s",
        flush=True,
    )
    commands = {
        "evaluate": ["evaluate", candidate],
        "bound --epsilon": ["bound", candidate, "--epsilon", "0.01"],
        "bound --target": ["bound", candidate, "--target-macro-f1", "0.05"],
        "compare": ["compare", candidate, reference],
        "diagnose": ["diagnose", candidate, reference],
    }
    processes = {name: ["-m", "shifamind_core", *arguments, "--json"] for name, arguments in commands.items()}
    processes |= {
        name: ["-m", "benchmarks.large", "--keep", str(folder), "--part", name] for name in PARTS
    }  # what no command does by itself
    floor = by_numpy(Path(candidate))
    print(f"{'NumPy, counts at one threshold, streamed':<42}{floor:>8.1f} s", flush=True)
    for name, arguments in processes.items():
        if only and name.split()[0] not in only:
            continue
        spent, _ = spent_by(arguments)
        print(
            f"{name:<42}{spent.wall:>8.1f} s  processor {spent.processor:>6.1f} s  {spent.wall / floor:>5.1f} × NumPy  "
            f"beyond the files {spent.beyond:>6.0f} MB  in all {spent.peak:>7.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--notes", type=int, default=NOTES)
    parser.add_argument("--codes", type=int, default=CODES)
    parser.add_argument("--keep", type=Path, help="folder of the files")
    parser.add_argument("--only", nargs="*", default=[], help="commands")
    parser.add_argument("--part", choices=PARTS, help="do this alone with the files of --keep")
    given = parser.parse_args()
    if given.part:
        PARTS[given.part](*make_pair(given.keep, given.notes, given.codes))
    elif given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        main(given.keep, given.notes, given.codes, given.only)
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made), given.notes, given.codes, given.only)
