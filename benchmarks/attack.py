"""What can a file do to this program? `python -m benchmarks.attack [--count N] [--seconds S] [--seed N] [--write]`.

Seeded mutations of a valid file of every format go through the functions that read uploads, splits, checkpoints and the
small files of a run directory, as they are called by pages and jobs; then the attacks that succeeded once. Whatever a file
holds, it is read or refused in one line: any other exception, and an error that a reader did not foresee, is counted, shown,
and makes this fail. A child that a library brought down is counted apart: the program itself goes on, and says one line. With `--write` the numbers are kept in docs/security.md.
"""

import argparse
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shifamind_core.artifacts import limited
from shifamind_core.errors import ShifamindError
from simulation.attack import Reader, inputs, known

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "security.md"
MARKS = ("<!-- attack: begin -->", "<!-- attack: end -->")
DIED = "its reader died"
UNFORESEEN = ("did not expect", "an answer of another form", "died halfway")
MEBIBYTE = 1 << 20


@dataclass
class Measured:
    """What files of one kind did."""

    inputs: int = 0
    read: int = 0
    died: int = 0
    longest_seconds: float = 0.0
    most_bytes: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def watching() -> Iterator[list[int]]:
    """Inside, the most memory that each child held goes into the list."""
    peaks: list[int] = []
    run = limited._Reading.run

    def watched(self: limited._Reading, *given: object) -> object:
        try:
            return run(self, *given)  # type: ignore[arg-type]
        finally:
            peaks.append(self.peak_bytes)

    limited._Reading.run = watched  # type: ignore[method-assign, assignment]
    try:
        yield peaks
    finally:
        limited._Reading.run = run  # type: ignore[method-assign]


def read(path: Path, reader: Reader, measured: Measured, peaks: list[int], base_bytes: int) -> str:
    """Read one file; returns what was said of it."""
    peaks.clear()
    size = path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    before = _own_peak()
    began = time.monotonic()
    try:
        reader(path)
        said = "read"
        measured.read += 1
    except ShifamindError as error:
        said = str(error)
        measured.died += DIED in said
        unforeseen = DIED not in said and any(word in said for word in UNFORESEEN)
        if "\n" in said or len(said) > 800 or unforeseen:
            measured.failures.append(said[:300])
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        said = f"{type(error).__name__}: {error}"
        measured.failures.append(said[:300] + " | " + " > ".join(_places(error)))
    measured.inputs += 1
    measured.longest_seconds = max(measured.longest_seconds, time.monotonic() - began)
    beyond = max(0, max(peaks, default=0) - base_bytes - size) + max(0, _own_peak() - before)
    measured.most_bytes = max(measured.most_bytes, beyond)
    if beyond > 1 << 30:
        measured.failures.append(f"{path.name} took {beyond // MEBIBYTE:,} MiB beyond its own size")
    return said


def forget_peak() -> None:
    """What this process took to make a file is none of what reading it takes."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _places(error: BaseException) -> list[str]:
    return [
        f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
    ][-4:]


def fuzz(folder: Path, count: int, seconds: float, seed: int) -> dict[str, Measured]:
    """Mutated files, one after the other, until there were `count` or the time is over."""
    found: dict[str, Measured] = {}
    deadline = time.monotonic() + seconds
    with watching() as peaks:
        for number, (name, target, content) in enumerate(inputs(seed)):
            if number >= count or time.monotonic() > deadline:
                break
            path = target.place(folder / name, content)
            before = len((measured := found.setdefault(name, Measured())).failures)
            read(path, target.read, measured, peaks, base_bytes)
            if len(measured.failures) > before:
                kept = folder / "failures" / f"{number}-{target.name.replace('/', '-')}"
                kept.parent.mkdir(exist_ok=True)
                kept.write_bytes(content)
            if number % 5000 == 4999:
                failures = sum(len(one.failures) for one in found.values())
                print(f"{number + 1:,} inputs, {failures} failures", file=sys.stderr, flush=True)
    return found


base_bytes = 0  # of a child that has read nothing


def _measure_base() -> int:
    """What a child holds before it has read anything, all readers imported: shared with the process that forked it."""
    from simulation.attack import targets

    with watching() as peaks, tempfile.TemporaryDirectory() as folder:
        for name, target in targets().items():
            target.read(target.place(Path(folder, name), target.content))
        return min(peaks[-8:])


def table(fuzzed: dict[str, Measured], attacks: dict[str, tuple[int, Measured, str]], seed: int) -> str:
    """The numbers, in Markdown."""
    every = fuzzed.values()
    failures = sum(len(one.failures) for one in every)
    lines = [
        f"{sum(one.inputs for one in every):,} mutated files of {len(fuzzed)} formats (seed {seed}): "
        f"{sum(one.read for one in every):,} read, the others refused in one line, {sum(one.died for one in every)} of them because a library brought its child down; {failures} ended "
        f"in any other way. "
        f"Most memory beyond a file's own size {max(one.most_bytes for one in every) // MEBIBYTE:,} MiB, longest "
        f"{max(one.longest_seconds for one in every):.1f} s.",
        "",
        "| format | files | read | most memory beyond its size | longest |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one.inputs:,} | {one.read:,} | {one.most_bytes // MEBIBYTE:,} MiB | {one.longest_seconds:.2f} s |"
        for name, one in fuzzed.items()
    ]
    lines += [
        "",
        "| attack that once succeeded | its size | most memory beyond it | seconds | outcome |",
        "|---|---|---|---|---|",
    ]
    for name, (size, one, said) in attacks.items():
        outcome = "read" if said == "read" else "one line"
        lines.append(
            f"| {name} | {size:,} bytes | {one.most_bytes // MEBIBYTE:,} MiB | {one.longest_seconds:.1f} | {outcome} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the attack; the exit status says whether anything but a reading or a refusal happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="keep the numbers in docs/security.md")
    options = parser.parse_args()
    global base_bytes
    base_bytes = _measure_base()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="shifamind-attack-") as name:
        folder = Path(name)
        attacks: dict[str, tuple[int, Measured, str]] = {}
        with watching() as peaks:
            for what, path, reader in known(folder / "known"):
                size = path.stat().st_size if path.is_file() else 0
                forget_peak()
                said = read(path, reader, measured := Measured(), peaks, base_bytes)
                attacks[what] = size, measured, said
                print(f"{what}: {said[:160]}", file=sys.stderr, flush=True)
        forget_peak()
        fuzzed = fuzz(folder, options.count, options.seconds, options.seed)
    text = table(fuzzed, attacks, options.seed)
    print(text)
    print(f"\n{time.monotonic() - began:,.0f} s.")
    failures = [
        line for one in (*fuzzed.values(), *(one for _, one, _ in attacks.values())) for line in one.failures
    ]
    for line, count in Counter(failures).most_common(20):
        print(f"FAILED {count}x: {line}", file=sys.stderr)
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        DOCUMENT.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
