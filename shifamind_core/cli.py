"""`python -m shifamind_core COMMAND`: the contract that tools outside rely on.

With `--json` one JSON document goes to standard output and nothing else; progress and warnings go to standard error.
Exit status 0, or 2 with one line `error: …` for bad input. The commands themselves are in `commands`.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from shifamind_core.artifacts.limited import while_reading
from shifamind_core.commands import COMMANDS, Command, Host, prepare
from shifamind_core.errors import DoneElsewhere, ShifamindError
from shifamind_core.listing import listing
from shifamind_core.options import add_options, chosen
from shifamind_core.runs.run import Run
from shifamind_core.settings import cache_folder, rank_and_size

SHARED = ("predict",)  # what several processes do together


class Parser(argparse.ArgumentParser):
    """Argparse with this program's error line."""

    def error(self, message: str) -> NoReturn:
        raise ShifamindError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    rank, size = rank_and_size()
    try:
        given = parser().parse_args(arguments)
        command: Command = given.command
        if size > 1 and command.name not in SHARED:
            raise ShifamindError(
                f"torchrun starts {size} processes, and {command.name} shares its work with no other. Start it without torchrun."
            )
        progress = _progress if rank == 0 else _untold
        notes: list[tuple[str, str]] = []
        afterwards: list[Callable[[], None]] = []
        host = Host(cache_folder(), partial(_read, notes), progress, say=_say, afterwards=afterwards.append)
        try:
            spec = chosen(command.spec, given)
            with while_reading(progress), _libraries_on_standard_error():
                prepare(command)
                result = command.document(command.run(spec, host))
        finally:
            _progress.end()
        said = " ".join(result.get("remarks", []))
        for name, note in notes:
            if note not in said:
                _say(f"note: {name}: {note}")
        if given.json:
            print(json.dumps(_finite(result), allow_nan=False))
        elif result:
            print((command.text or listing)(result))
        sys.stdout.flush()
        for rest in afterwards:
            rest()
    except ShifamindError as error:
        if rank == 0:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except DoneElsewhere as done:
        if done.line:  # below the first one's line of progress
            print(f"\nerror: {' '.join(done.line.split())}", file=sys.stderr)
        return done.status
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("error: interrupted.", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _libraries_on_standard_error() -> Iterator[None]:
    """What libraries print meanwhile goes to standard error: standard output is for the result alone.

    The tokenizers library prints from Rust, past `sys.stdout`; so the file descriptor itself is turned as well.
    """
    sys.stdout.flush()
    standard_output = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(standard_output, 1)
        os.close(standard_output)


def parser() -> Parser:
    """The commands and their options."""
    root = Parser(
        prog="python -m shifamind_core",
        description="Why does the same checkpoint score differently elsewhere?",
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS.values():
        one = commands.add_parser(command.name, help=command.summary, description=command.summary)
        one.add_argument("--json", action="store_true", help="print one JSON document on standard output")
        one.set_defaults(command=command)
        add_options(one, command.spec)
    return root


def _read(notes: list[tuple[str, str]], path: str) -> Run:
    """The run in a file; `notes` takes what was assumed about it, to be said once the command has succeeded."""
    from shifamind_core.runs.uploads import read_run

    run = read_run(Path(path))
    notes += [(Path(path).name, note) for note in run.manifest.notes]
    return run


class _ProgressLine:
    """A line on standard error that is written over until its work is done, or until something else is to be said."""

    def __init__(self) -> None:
        self._open = False

    def __call__(self, message: str, done: int, total: int) -> None:
        self._open = done < total
        ending = "" if self._open else "\n"
        print(f"\r{message}: {done} of {total}", end=ending, file=sys.stderr, flush=True)

    def end(self) -> None:
        """What comes next begins on a line of its own."""
        if self._open:
            print(file=sys.stderr, flush=True)
        self._open = False


_progress = _ProgressLine()


def _untold(message: str, done: int, total: int) -> None:
    """The first of several processes tells how far they are."""


def _say(line: str) -> None:
    _progress.end()
    print(line, file=sys.stderr)


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a finite number becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
