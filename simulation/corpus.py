"""The corpus: every fault planted in every model of the fleet, and the features that it leaves.

    python -m simulation.corpus --device cuda --out DIR --minutes 8 --pretrained .weights

writes `corpus.parquet` (or `corpus.csv.gz` where Parquet cannot be written), one row a case, `corpus.json` (what was
made, on what, and what failed), and `pairs-N.npz`, logits of the held-out models for trying the whole product.
Models are made in processes of their own; one that fails is recorded, and the others go on. What is done when time is up
is kept.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import queue
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shifamind_core.settings import processors

PAIR_NOTES, PAIR_CODES = 300, 20  # of the pairs that are kept
PAIR_FILES, PAIR_BYTES = 4, 14_000_000
LEAST_NOTES, LEAST_CODES = 60, 5  # of a part of a case
KEPT_EVERY = 20  # rows; a process that is stopped when time is up loses no more
PARTS = 0.5  # probability that a part of a case is measured, too
DESCRIPTION = (
    "model", "family", "held_out", "recorded", "architecture", "fault", "strength", "cause", "alone", "twins", "level",
    "nuisance", "changed", "part", "floor", "loudest",
)  # fmt: skip


@dataclass(frozen=True)
class Order:
    """What a process is asked for; `device`, `pretrained` and so on as the command line says."""

    parts: Path
    device: str
    pretrained: Path | None
    small: bool
    until: float  # of time.time()
    seed: int
    cases: int | None
    pairs: bool


def rows_of(subject: Any, order: Order, pairs: "Pairs | None") -> Iterator[dict[str, Any]]:
    """Measure every case, whole, and of some a part: fewer notes, fewer codes; none in which nothing was planted."""
    from simulation.faults import planted, under
    from simulation.fleet import forward

    plan = subject.plan
    reference = forward(subject)
    counts = subject.sample.notes.lengths + 2
    rng = np.random.default_rng([order.seed, plan.number])
    plain: dict[str, np.ndarray] = {}  # no fault, in each arithmetic or storage that came on top of one
    if pairs is not None:
        pairs.start(reference, counts, subject.sample.labels)
    for number, case in enumerate(planted(subject, reference, order.seed + plan.number)):
        if time.time() > order.until or (order.cases is not None and number >= order.cases):
            return
        theirs = reference if case.reference is None else case.reference
        lengths = None if case.cause == "different_documents" else counts[: len(theirs)]
        if case.nuisance not in plain:
            plain[case.nuisance] = under(subject, case.nuisance)
        unharmed = plain[case.nuisance] if case.reference is None else theirs
        whole = Faulty(case.candidate, theirs, unharmed, case.other_tokens, lengths)
        if not whole.planted:
            continue
        changed = np.abs(whole.candidate - whole.reference).max(axis=1) > 1e-4 * whole.candidate.std()
        described = {
            "model": plan.name,
            "family": plan.family,
            "held_out": plan.held_out,
            "recorded": case.recorded,
            "architecture": plan.architecture,
            "fault": case.fault,
            "strength": case.strength,
            "cause": case.cause,
            "alone": case.alone or case.cause,
            "twins": ",".join(case.twins),
            "level": case.level,
            "nuisance": case.nuisance,
            "changed": float(changed.mean()),
        }
        yield {**described, "part": "whole", **whole.loudness, **whole.features()}
        if pairs is not None:
            pairs.add(case, whole, described)
        if rng.random() < PARTS:
            rows, columns = _part(rng, *theirs.shape)
            part = whole.part(rows, columns)
            if part.planted:
                yield {
                    **described,
                    "part": f"{len(rows)} × {len(columns)}",
                    **part.loudness,
                    **part.features(),
                }


@dataclass(frozen=True, eq=False)
class Faulty:
    """A faulty run, the run it is held against, and the run that has all but the fault.

    Attributes
    ----------
    candidate, reference, unharmed : float [notes, codes], logits
    other_tokens : bool [notes], notes whose token ids differ
    lengths : int [notes], tokens of the notes
    """

    candidate: np.ndarray
    reference: np.ndarray
    unharmed: np.ndarray
    other_tokens: np.ndarray | None = None
    lengths: np.ndarray | None = None

    def part(self, notes: np.ndarray, codes: np.ndarray) -> "Faulty":
        """What is left of it in some notes and codes."""
        return Faulty(
            *(run[notes][:, codes] for run in (self.candidate, self.reference, self.unharmed)),
            *(None if each is None else each[notes] for each in (self.other_tokens, self.lengths)),
        )

    @property
    def planted(self) -> bool:
        """Does anything differ, and is any of the fault in it?"""
        candidate = self.candidate
        return bool((candidate != self.reference).any() and (candidate != self.unharmed).any())

    @property
    def loudness(self) -> dict[str, float]:
        """How loud the difference is where it is loudest, and what came on top of the fault alone."""
        floor = self.unharmed - self.reference
        return {
            "floor": _loudest(floor, self.reference) if floor.any() else -9.0,
            "loudest": _loudest(self.candidate - self.reference, self.reference, self.other_tokens),
        }

    def features(self) -> dict[str, float]:
        from shifamind_core.diagnosis.evidence.features import measure

        return measure(self.candidate.astype(np.float64), self.reference.astype(np.float64), self.lengths)


def _loudest(difference: np.ndarray, reference: np.ndarray, notes: np.ndarray | None = None) -> float:
    """Root mean square relative difference (log10) in the notes concerned, or in the code that changed most."""
    squares = (difference / np.maximum(reference.std(axis=0), 1e-12)) ** 2
    concerned = squares[notes] if notes is not None and notes.any() else squares
    return float(np.log10(np.sqrt(max(concerned.mean(), squares.mean(axis=0).max(), 1e-18))))


def _part(rng: np.random.Generator, notes: int, codes: int) -> tuple[np.ndarray, np.ndarray]:
    few = int(np.exp(rng.uniform(np.log(min(LEAST_NOTES, notes)), np.log(notes))))
    some = int(np.exp(rng.uniform(np.log(min(LEAST_CODES, codes)), np.log(codes))))
    return rng.choice(notes, few, replace=False), rng.choice(codes, some, replace=False)


class Pairs:
    """Logits of a model's cases, few enough to be taken along: the reference once, every candidate."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.cases: list[dict[str, Any]] = []
        self.notes = self.codes = np.arange(0)

    def start(self, reference: np.ndarray, counts: np.ndarray, labels: np.ndarray) -> None:
        rng = np.random.default_rng(1)
        self.notes = np.sort(rng.permutation(len(reference))[:PAIR_NOTES])
        self.codes = np.sort(rng.permutation(reference.shape[1])[:PAIR_CODES])
        self.arrays |= {
            "reference": self._cut(reference),
            "token_counts": counts[self.notes].astype(np.int32),
            "labels": labels[self.notes][:, self.codes],
        }

    def add(self, case: Any, whole: Faulty, described: dict[str, Any]) -> None:
        """Cases whose rows are other than the model's own are left out, and those of whose fault nothing is in what is kept."""
        theirs = case.reference
        if len(case.candidate) <= self.notes.max():
            return
        part = whole.part(self.notes, self.codes)
        if not part.planted:
            return
        key = f"{len(self.cases):03d}"
        self.arrays[key] = part.candidate.astype(np.float32)
        if theirs is not None:
            self.arrays[f"{key}-reference"] = part.reference.astype(np.float32)
        if part.other_tokens is not None:
            self.arrays[f"{key}-tokens"] = np.packbits(part.other_tokens)
        self.cases.append({**described, **part.loudness, "key": key, "fields": case.fields})

    def _cut(self, logits: np.ndarray) -> np.ndarray:
        return logits[self.notes][:, self.codes].astype(np.float32)

    def save(self, path: Path) -> None:
        np.savez(path, **self.arrays, cases=np.array(json.dumps(self.cases)))  # type: ignore[arg-type]


def work(names: Any, order: Order) -> None:
    """One process: take a model, make it, measure it, write its rows; until none is left or time is up."""
    import torch

    from simulation.fleet import make, plans

    torch.set_num_threads(1)
    if order.device == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"
    every = {plan.name: plan for plan in plans()}
    while time.time() < order.until:
        try:
            name = names.get(timeout=5)
        except queue.Empty:
            return
        kept = every[name].held_out or order.pairs
        found, pairs, started = [], Pairs() if kept else None, time.time()
        marker = order.parts / f"{name}.started"
        marker.write_text("")
        try:
            subject = make(every[name], torch.device(order.device), order.pretrained, order.small)
            made = time.time()
            for row in rows_of(subject, order, pairs):
                found.append(row)
                if len(found) % KEPT_EVERY == 0:
                    _keep(order.parts / name, found, pairs)
            print(
                f"{name}: {len(found)} rows, made in {made - started:.0f} s, measured in {time.time() - made:.0f} s",
                flush=True,
            )
        finally:
            if sys.exc_info()[0] is not None:
                marker.with_suffix(".failed").write_text(traceback.format_exc())
            _keep(order.parts / name, found, pairs)
            marker.unlink()
        if order.device == "cuda":
            torch.cuda.empty_cache()


def _keep(path: Path, rows: list[dict[str, Any]], pairs: Pairs | None) -> None:
    """Whole files alone: the process may be ended at any moment."""
    if rows:
        pd.DataFrame(rows).to_pickle(path.with_name(f"{path.name}.rows"))
        path.with_name(f"{path.name}.rows").replace(path.with_name(f"{path.name}.pkl"))
    if pairs is not None and pairs.cases:
        pairs.save(path.with_name(f"{path.name}.pairs.npz"))
        path.with_name(f"{path.name}.pairs.npz").replace(path.with_name(f"{path.name}.npz"))


def run(order: Order, names: list[str], processes: int) -> None:
    """Keep so many processes at work; one that ends with an error is replaced."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # before the processes start: sixteen of them share the cores
    context = multiprocessing.get_context("spawn")
    waiting = context.Queue()
    for name in names:
        waiting.put(name)

    def started(number: int) -> Any:
        if order.device == "cuda":  # shared among the GPUs of this machine
            os.environ["CUDA_VISIBLE_DEVICES"] = str(number % gpus)
        process = context.Process(target=work, args=(waiting, order))
        process.start()
        return process

    gpus = _gpus() if order.device == "cuda" else 0
    workers = [started(number) for number in range(min(processes, len(names)))]
    spare = len(names)
    while any(worker.is_alive() for worker in workers) and time.time() < order.until + 20:
        time.sleep(0.5)
        for index, worker in enumerate(workers):
            if not worker.is_alive() and worker.exitcode and spare and time.time() < order.until:
                spare -= 1
                workers[index] = started(index)
    for worker in workers:
        if worker.is_alive():
            worker.terminate()
    waiting.cancel_join_thread()


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def gather(order: Order, out: Path, names: list[str], seconds: float) -> pd.DataFrame:
    """All rows in one table, the pairs in a few files, and what became of every model."""
    parts = order.parts
    out.mkdir(parents=True, exist_ok=True)
    tables = [pd.read_pickle(path) for name in names if (path := parts / f"{name}.pkl").exists()]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(DESCRIPTION))
    numbers = table.columns[len(DESCRIPTION) :]
    table[numbers] = table[numbers].astype(np.float32)
    if importlib.util.find_spec("pyarrow"):
        table.to_parquet(out / "corpus.parquet", compression="zstd", index=False)
    else:
        table.to_csv(out / "corpus.csv.gz", index=False, float_format="%.6g")
    failed = {
        name: path.read_text().strip().splitlines()[-1]
        for name in names
        if (path := parts / f"{name}.failed").exists()
    }
    unfinished = [name for name in names if (parts / f"{name}.started").exists()]
    never = [
        name
        for name in names
        if not any((parts / f"{name}{s}").exists() for s in (".pkl", ".failed", ".started"))
    ]
    _bundle(out, [parts / f"{name}.npz" for name in names])
    import torch

    record = {
        "rows": len(table),
        "models": int(table["model"].nunique()),
        "seconds": round(seconds, 1),
        "failed": failed,
        "unfinished": unfinished,
        "never_started": never,
        "device": torch.cuda.get_device_name() if order.device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "order": {key: str(value) for key, value in asdict(order).items()},
    }
    (out / "corpus.json").write_text(json.dumps(record, indent=1))
    print(json.dumps(record, indent=1))
    return table


def _bundle(out: Path, files: list[Path]) -> None:
    """The pairs' files, packed into a few: a model's arrays under its name; models take turns, so that none is left out."""
    opened = {path.stem: np.load(path) for path in files if path.exists()}
    cases = {name: json.loads(str(file["cases"])) for name, file in opened.items()}
    budget = PAIR_FILES * PAIR_BYTES
    kept: dict[str, list[dict[str, Any]]] = {name: [] for name in opened}
    rng = np.random.default_rng(0)
    turns = sorted(
        ((float(rng.random()), name, index) for name, items in cases.items() for index in range(len(items)))
    )
    used = sum(
        file[key].nbytes for file in opened.values() for key in ("reference", "token_counts", "labels")
    )
    for _, name, index in turns:
        case = cases[name][index]
        arrays = [
            key for key in opened[name].files if key == case["key"] or key.startswith(f"{case['key']}-")
        ]
        size = sum(opened[name][key].nbytes for key in arrays) + 500
        if used + size <= budget:
            used += size
            kept[name].append({**case, "arrays": arrays})
    bundles: list[dict[str, np.ndarray]] = [{} for _ in range(PAIR_FILES)]
    sizes = [0] * PAIR_FILES
    for name, items in sorted(kept.items(), key=lambda item: -len(item[1])):
        shared = ("reference", "token_counts", "labels")
        arrays = {
            f"{name}/{key}": opened[name][key] for key in (*shared, *(k for c in items for k in c["arrays"]))
        }
        arrays[f"{name}/cases"] = np.array(json.dumps(items))
        target = int(np.argmin(sizes))
        bundles[target] |= arrays
        sizes[target] += sum(array.nbytes for array in arrays.values())
    for number, bundle in enumerate(bundles):
        if bundle:
            np.savez_compressed(out / f"pairs-{number}.npz", **bundle)  # type: ignore[arg-type]


def main() -> None:
    """Parse the command line, run, gather."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--pretrained", type=Path, help="folder written by simulation.encoders")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="for everything; what is done by then is kept"
    )
    parser.add_argument("--processes", type=int, default=processors())
    parser.add_argument("--models", type=int, help="every so many-th only, so that this many are made")
    parser.add_argument("--only", nargs="*", help="names of models")
    parser.add_argument("--cases", type=int, help="at most so many cases a model")
    parser.add_argument("--small", action="store_true", help="few notes, little training")
    parser.add_argument(
        "--pairs", action="store_true", help="keep logits of every model, not of held-out ones alone"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from simulation.fleet import plans

    started = time.time()
    names = [plan.name for plan in plans()]
    if options.only:
        names = options.only
    elif options.models:
        names = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, options.models).astype(int))]
    until = started + 60 * options.minutes - (40 if options.minutes > 2 else 5)
    with tempfile.TemporaryDirectory() as parts:
        order = Order(
            Path(parts), options.device, options.pretrained, options.small, until, options.seed, options.cases,
            options.pairs,
        )  # fmt: skip
        run(order, names, options.processes)
        if gather(order, options.out, names, time.time() - started).empty:
            sys.exit("error: no model could be made; the reasons stand in corpus.json.")


if __name__ == "__main__":
    main()
