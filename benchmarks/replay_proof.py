"""Does replay find what another pipeline did otherwise? `python -m benchmarks.replay_proof`.

For either architecture, run directories of random weights, notes, labels and draws; faults planted by `simulation.replay_oracle`,
which shares no line with the inference here; every one searched for among all interventions, from 64 notes: each
alone, every two together, nothing, rounding, and changes that are not in the list. Prints a table and, with `--write`, keeps it
in docs/replay.md. `--pairs N` takes N pairs an architecture at random, since all of them take an hour on two cores.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simulation.replay_cases import (
    ARCHITECTURES,
    RIGHT,
    ROUNDING,
    SINGLES,
    UNLISTED,
    Case,
    Subject,
    applies,
    case_of,
    pairs,
)

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "replay.md"
MARKS = ("<!-- replay proof: begin -->", "<!-- replay proof: end -->")
GROUPS = ("alone", "in pairs", "nothing", "rounding", "not in the list")
PAIRS_FOUND = 0.9  # the bar; every other group must be found throughout
PER_SUBJECT = 8  # pairs that share a run directory and, with it, forward passes


def main() -> None:
    """Parse the command line, plant, search, print."""
    parser = argparse.ArgumentParser(description="Plant faults and let replay find them.")
    parser.add_argument("--notes", type=int, default=64)
    parser.add_argument("--pairs", type=int, metavar="N", help="only N pairs an architecture, at random")
    parser.add_argument("--seeds", type=int, default=2, help="run directories for each lone fault")
    parser.add_argument("--only", choices=GROUPS, action="append")
    parser.add_argument("--architecture", choices=ARCHITECTURES, action="append")
    parser.add_argument("--record", type=Path, metavar="FILE", help="one JSON line a search, appended")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/replay.md")
    options = parser.parse_args()
    rows = []
    batches = [batch for one in options.architecture or ARCHITECTURES for batch in planned(one, options)]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, spawn, torch.set_num_threads, (1,)) as pool:
        for done in as_completed([pool.submit(searches, batch) for batch in batches]):
            for row in done.result():
                rows.append(row)
                print(
                    *(row[key] for key in ("found", "architecture", "group", "planted", "said")), flush=True
                )
                if options.record:
                    with options.record.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    text = table(rows)
    print(text)
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        DOCUMENT.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")
    if missed := below_the_bar(rows):
        sys.exit(f"Below the bar: {'; '.join(missed)}.")


def below_the_bar(rows: list[dict[str, Any]]) -> list[str]:
    """Groups in which too few were found: nine in ten of the pairs, all of the others."""
    missed = []
    for group, architecture in sorted({(row["group"], row["architecture"]) for row in rows}):
        some = [row["found"] for row in rows if (row["group"], row["architecture"]) == (group, architecture)]
        if sum(some) < (PAIRS_FOUND if group == "in pairs" else 1) * len(some):
            missed.append(f"{group}, {architecture}: {sum(some)} of {len(some)}")
    return missed


@dataclass(frozen=True)
class Batch:
    """Searches that share a run directory; `names` are of pairs, all of the group's cases where it is empty."""

    architecture: str
    group: str
    seed: int
    notes: int
    names: tuple[tuple[str, str], ...] = ()


def planned(architecture: str, options: argparse.Namespace) -> Iterator[Batch]:
    """Every group and every stretch of pairs has a run directory of its own."""
    wanted = options.only or GROUPS
    seed = 8100 if architecture == "cls_fusion" else 8200  # none that the search was tuned on
    for group in (group for group in GROUPS if group in wanted and group != "in pairs"):
        for _ in range(options.seeds):
            seed += 1
            yield Batch(architecture, group, seed, options.notes)
    if "in pairs" in wanted:
        chosen = list(pairs(architecture))
        order = np.random.default_rng(seed).permutation(len(chosen))[: options.pairs]
        for start in range(0, len(order), PER_SUBJECT):
            seed += 1
            names = tuple(chosen[index] for index in order[start : start + PER_SUBJECT])
            yield Batch(architecture, "in pairs", seed, options.notes, names)


def searches(batch: Batch) -> list[dict[str, Any]]:
    """One row a search."""
    cases = [(" + ".join(names), case_of(*names)) for names in batch.names]
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject(Path(folder), batch.architecture, batch.seed, batch.notes)
        return [
            search(subject, batch.group, name, case)
            for name, case in cases or planted(batch.group, batch.architecture)
        ]


def planted(group: str, architecture: str) -> Iterator[tuple[str, Case]]:
    """The cases of a group that are not pairs."""
    if group == "alone":
        yield from ((name, case_of(name)) for name in SINGLES if applies(name, architecture))
    if group == "nothing":
        yield "nothing", case_of()
        yield "nothing, other batches", Case((), replace(RIGHT, batch_size=7))
    if group == "rounding":
        yield from ((name, case_of(name)) for name in ROUNDING)
    if group == "not in the list":
        yield from ((name, Case((), replace(RIGHT, **changes))) for name, changes in UNLISTED.items())


def search(subject: Subject, group: str, name: str, case: Case) -> dict[str, Any]:
    """Plant one case and let it be searched for."""
    draw = len(name)
    expected = (
        subject.expected_of_unlisted(case, draw) if group == "not in the list" else subject.expected(case)
    )
    begun = time.process_time()
    result = subject.replay(case, draw)
    return {
        "architecture": subject.architecture,
        "group": group,
        "planted": name,
        "found": expected.met_by(result),
        "excused": expected.why,
        "said": f"{result['verdict']}: {' + '.join(result['best']['interventions']) or 'nothing'}",
        "explained": result["best"]["explained"],
        "max_abs_residual": result["best"]["max_abs_residual"],
        "seed": subject.seed,
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: found of planted, by group and architecture, and what was missed."""
    lines = [
        "| planted | architecture | searches | as expected | what was said else |",
        "|---|---|---|---|---|",
    ]
    for group in GROUPS:
        for architecture in ARCHITECTURES:
            some = [row for row in rows if (row["group"], row["architecture"]) == (group, architecture)]
            if not some:
                continue
            good = sum(row["found"] for row in some)
            missed = [f"{row['planted']} → {row['said']}" for row in some if not row["found"]]
            more = f"; and {len(missed) - 6} more" if len(missed) > 6 else ""
            lines.append(
                f"| {group} | `{architecture}` | {len(some)} | {good} ({good / len(some):.0%}) | "
                f"{'; '.join(missed[:6]) + more or '–'} |"
            )
    excused = sorted({row["excused"] for row in rows if row["excused"]})
    return "\n".join([*lines, *(["", f"Not asked for: {'; '.join(excused)}."] if excused else [])])


if __name__ == "__main__":
    main()
