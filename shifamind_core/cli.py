"""`python -m shifamind_core COMMAND`: the contract that tools outside rely on.

With `--json` one JSON document goes to standard output and nothing else; progress and warnings go to standard error.
Exit status 0, or 2 with one line `error: …` for bad input. Each command imports what it needs when it runs, so that
`evaluate` does not wait for torch.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from shifamind_core.errors import ShifamindError
from shifamind_core.precision.policy import POLICIES

Command = Callable[[argparse.Namespace], dict[str, Any]]


class Parser(argparse.ArgumentParser):
    """Argparse with this program's error line."""

    def error(self, message: str) -> NoReturn:
        raise ShifamindError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        options = parser().parse_args(arguments)
        try:
            result = options.run(options)
        finally:
            _progress.end()
        if options.json:
            print(json.dumps(_finite(result), allow_nan=False))
        elif result:
            print(options.show(result) if hasattr(options, "show") else _listing(result))
    except ShifamindError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("error: interrupted.", file=sys.stderr)
        return 130
    return 0


def parser() -> Parser:
    """The commands and their options."""
    root = Parser(
        prog="python -m shifamind_core",
        description="Why does the same checkpoint score differently elsewhere?",
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, run: Command, summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--json", action="store_true", help="print one JSON document on standard output")
        command.set_defaults(run=run)
        return command

    command = add("demo", _demo, "Write the built-in run directory.")
    command.add_argument("directory", type=Path, metavar="DIR")

    command = add(
        "inspect", _inspect, "What a run directory holds, whether it fits together, and this machine."
    )
    _run_directory(command)

    command = add("predict", _predict, "Score a split under a precision policy and write a run file.")
    _run_directory(command)
    command.add_argument("--split", default="test", help="test, val or train (default: test)")
    command.add_argument("--policy", default="fp32", help=f"one of {', '.join(POLICIES)} (default: fp32)")
    command.add_argument("--output", type=Path, metavar="FILE", help="where to write the run file")
    command.add_argument("--max-length", type=int, default=512, metavar="N")
    command.add_argument("--padding", choices=("max_length", "longest"), default="max_length")
    command.add_argument("--lowercase", choices=("auto", "true", "false"), default="auto")
    command.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    command.add_argument("--batch-size", type=int, default=16, metavar="N")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N notes")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    command.add_argument(
        "--deterministic", action="store_const", const=True, help="deterministic algorithms only"
    )

    command = add("evaluate", _evaluate, "F1 of a run: fixed, tuned on validation, top-k, per code.")
    command.add_argument("run_file", metavar="RUN")
    command.add_argument("--validation", metavar="RUN", help="the run on which the threshold is tuned")
    command.add_argument("--grid", choices=("seed", "clean"), default="seed")

    command = add("compare", _compare, "How two runs differ, note by note and code by code.")
    command.add_argument("candidate")
    command.add_argument("reference")

    command = add(
        "bound",
        _bound,
        "What F1 can become if no logit moves by more than epsilon, or the epsilon a score needs.",
    )
    command.add_argument("run_file", metavar="RUN")
    command.add_argument("--threshold", type=float, default=0.5)
    wanted = command.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--epsilon", type=float, metavar="E", help="largest change of a logit")
    wanted.add_argument("--target-macro-f1", type=float, metavar="X")
    wanted.add_argument("--target-micro-f1", type=float, metavar="X")

    command = add("diagnose", _diagnose, "Why two runs differ: findings, most likely first.")
    command.add_argument("candidate")
    command.add_argument("reference")

    command = add(
        "replay", _replay, "Find the change to the pipeline that reproduces another run, or its scores."
    )
    _run_directory(command)
    other = command.add_mutually_exclusive_group(required=True)
    other.add_argument("--reference", metavar="RUN")
    other.add_argument("--reported", metavar="SCORES", help="e.g. macro_f1@0.5=0.2934,micro_f1@0.5=0.4210")
    command.add_argument("--split", default="test")
    command.add_argument(
        "--notes", type=int, metavar="N", help="notes to screen on (default: 64; all for scores)"
    )
    command.add_argument(
        "--depth", type=int, default=3, metavar="N", help="most interventions together (default: 3)"
    )
    command.add_argument("--device", default="auto")
    command.add_argument(
        "--sibling", action="append", default=[], metavar="RUN_DIR", help="another checkpoint to try"
    )
    command.add_argument(
        "--only", action="append", default=[], metavar="INTERVENTION", help="try these alone"
    )

    command = add(
        "layers", _layers, "How far two policies are apart after each layer, and which parts first."
    )
    _run_directory(command)
    command.add_argument("--policy", default="fp32", metavar="A", help=f"one of {', '.join(POLICIES)}")
    command.add_argument("--against", default="fp64", metavar="B", help="another policy (default: fp64)")
    command.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="of A")
    command.add_argument("--against-attention", choices=("sdpa", "eager"), default="sdpa", help="of B")
    command.add_argument("--notes", type=int, default=8, metavar="N")
    command.add_argument("--split", default="test")
    command.add_argument("--max-length", type=int, default=512, metavar="N")
    command.add_argument("--lowercase", choices=("auto", "true", "false"), default="auto")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")

    command = add(
        "probe", _probe, "Small experiments with the checkpoint here: repeatability, padding, TF32, …"
    )
    _run_directory(command)
    command.add_argument("--notes", type=int, default=8, metavar="N")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")

    command = add("certify", _certify, "How many decisions could differ on another machine under `portable`.")
    _run_directory(command)
    command.add_argument("--split", default="test")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N notes")
    command.add_argument(
        "--referee-notes", type=int, default=64, metavar="N", help="notes also scored in FP64"
    )
    command.add_argument("--threshold", type=float, default=0.5)
    command.add_argument("--max-length", type=int, default=512, metavar="N")
    command.add_argument("--lowercase", choices=("auto", "true", "false"), default="auto")
    command.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")

    command = add(
        "capture", _capture, "Print the few lines that save a run file from one's own evaluation loop."
    )
    command.set_defaults(show=lambda result: result["snippet"])
    return root


def _run_directory(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_directory", metavar="RUN_DIR")
    command.add_argument(
        "--base-model", metavar="DIR", help="folder with the base model's config.json and vocab.txt"
    )


def _demo(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.demo import write_demo

    write_demo(options.directory)
    return {"directory": str(options.directory)}


def _inspect(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.inference.inspection import inspect
    from shifamind_core.tasks import open_pipeline

    return inspect(open_pipeline(options.run_directory, options.base_model, None))


def _predict(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.runs.run_file import write_run_file
    from shifamind_core.settings import cache_folder
    from shifamind_core.tasks import PredictSpec, predict_summary, run_predict

    names = ("run_directory", "base_model", "split", "policy", "lowercase", "max_length", "padding", "attention",
             "batch_size", "limit", "device", "deterministic")  # fmt: skip
    spec = PredictSpec(**{name: getattr(options, name) for name in names})
    outcome = run_predict(spec, cache_folder(), _progress)
    if options.output:
        write_run_file(outcome.run, options.output)
    for remark in (*outcome.run.manifest.notes, *outcome.remarks):
        _say(f"note: {remark}")
    return predict_summary(outcome)


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.analysis.thresholds import evaluate, evaluation_json

    validation = _read(options.validation) if options.validation else None
    return evaluation_json(evaluate(_read(options.run_file), validation, options.grid))


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.analysis.comparison import compare, comparison_json

    return comparison_json(compare(_read(options.candidate), _read(options.reference)))


def _bound(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.analysis.flip_bound import flip_bound

    bound = flip_bound(_told(options.run_file), options.threshold)
    if options.epsilon is None:
        return {
            "epsilon": bound.smallest_epsilon(
                macro_f1=options.target_macro_f1, micro_f1=options.target_micro_f1
            )
        }
    found = bound.f1_range(options.epsilon)
    return {"macro_f1": list(found.macro_f1), "micro_f1": list(found.micro_f1), "flippable": found.flippable}


def _diagnose(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.diagnosis.diagnose import diagnose

    return diagnose(_read(options.candidate), _read(options.reference)).to_json()


def _replay(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.replay.task import ReplaySpec, replay
    from shifamind_core.settings import cache_folder

    for name in ("notes", "depth"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ShifamindError(f"--{name} is {getattr(options, name)}; it must be at least 1.")
    spec = ReplaySpec(
        run_directory=options.run_directory,
        base_model=options.base_model,
        reference=options.reference,
        reported=options.reported,
        split=options.split,
        notes=options.notes,
        depth=options.depth,
        device=options.device,
        siblings=tuple(options.sibling),
        only=tuple(options.only),
    )
    reference = _told(options.reference) if options.reference else None
    return replay(
        spec, reference, cache_folder(), lambda trials, done, total: _progress("Trying", done, total)
    )


def _layers(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.settings import cache_folder
    from shifamind_core.tasks import LayersSpec, run_layers

    spec = LayersSpec(policies=(options.policy,), **_named(options, "run_directory", "base_model", "against", "attention",
        "against_attention", "split", "notes", "lowercase", "max_length", "device"))  # fmt: skip
    result = run_layers(spec, cache_folder(), _progress)
    (profile,) = result.pop("profiles")
    return result | profile


def _probe(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.settings import cache_folder
    from shifamind_core.tasks import ProbeSpec, run_probe

    spec = ProbeSpec(**_named(options, "run_directory", "base_model", "device", "notes"))
    return run_probe(spec, cache_folder(), _progress)


def _certify(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.settings import cache_folder
    from shifamind_core.tasks import CertifySpec, run_certify

    spec = CertifySpec(**_named(options, "run_directory", "base_model", "split", "limit", "referee_notes", "threshold",
        "lowercase", "max_length", "device"))  # fmt: skip
    return run_certify(spec, cache_folder(), _progress)


def _named(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names}


def _capture(options: argparse.Namespace) -> dict[str, Any]:
    from shifamind_core.runs.capture import snippet

    return {"snippet": snippet()}


def _read(path: str) -> Any:
    from shifamind_core.runs.uploads import read_upload

    return read_upload(Path(path).name, Path(path))


def _told(path: str) -> Any:
    """The run in a file; what was assumed about it goes to standard error, where a result does not say it."""
    run = _read(path)
    for remark in run.manifest.notes:
        _say(f"note: {Path(path).name}: {remark}")
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


def _listing(result: dict[str, Any], indent: str = "") -> str:
    """Plain lines for people: one a key, nested ones indented."""
    lines = []
    for key, value in result.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", _listing(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{indent}{key}:")
            lines += [f"{indent}  {'  '.join(_cell(cell) for cell in row.values())}" for row in value]
        else:
            lines.append(f"{indent}{key}: {_cell(value)}")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    return str(value)
