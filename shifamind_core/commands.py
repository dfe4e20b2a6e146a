"""The commands, each described once: its name, what it does, what it is asked for, and the function that does it.

The command line and the worker run them from here. Each function imports what it needs when it runs, so that `evaluate`
does not wait for torch.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from shifamind_core import specs
from shifamind_core.errors import ShifamindError
from shifamind_core.listing import listing
from shifamind_core.runs.run import Run

Result = dict[str, Any]
# What `transformers` imports because it is there, for generating text and reading pictures: 2.3 s of the 6.5 that importing it
# took on a machine with 5.17 and both.
UNUSED = ("sklearn", "torchvision")


@dataclass(frozen=True)
class Host:
    """What a command is given by whoever runs it.

    Attributes
    ----------
    cache : Path
        Folder of the runs that were computed.
    read : callable
        The run that a person names: by a file's name on the command line, by its id in the cache in the worker, which
        reads no file that a browser names.
    progress : callable
        Told of every step: what, how much of it is done, of how much.
    partial : callable
        Told of results so far, for a live table.
    say : callable
        Told a line that a person should read.
    afterwards : callable
        Told what is left to do once the result is printed: to stay, for a server.
    """

    cache: Path
    read: Callable[[str], Run]
    progress: Callable[[str, int, int], None]
    partial: Callable[[Result], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    afterwards: Callable[[Callable[[], None]], None] = lambda _: None


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes
    ----------
    spec : type
        The dataclass of what it is asked for; its fields are the options.
    run : callable
        Takes a `spec` and a `Host`; gives what is printed as JSON.
    job : bool
        Whether pages start it, in a worker.
    document : callable
        The result as the command line prints it.
    text : callable, optional
        The same for people, where a plain listing of its keys would not do.
    """

    name: str
    summary: str
    spec: type
    run: Callable[[Any, Host], Result]
    job: bool = False
    document: Callable[[Result], Result] = lambda result: result
    text: Callable[[Result], str] | None = None


def _demo(spec: specs.DemoSpec, host: Host) -> Result:
    from shifamind_core.demo import write_demo

    write_demo(spec.directory)
    return {"directory": str(spec.directory)}


def _serve(spec: specs.ServeSpec, host: Host) -> Result:
    from shifamind_core.serve import serve

    link, stay = serve(spec, host.cache, host.say)
    host.afterwards(stay)
    return {"link": link}


def prepare(command: Command) -> None:
    """Begin, beside all else, what the command will wait for: the process that reads its split; and load what models need."""
    if issubclass(command.spec, specs.ModelSpec):
        from shifamind_core.artifacts.splits import prepare_reader

        prepare_reader()
        import_transformers()


def import_transformers() -> None:
    """Import `transformers` as if what it would import for nothing here were not installed: in processes that are ours alone."""
    hidden = {name: None for name in UNUSED if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type] # `None`, so Python documents, stands for what cannot be found
    try:
        for name in ("transformers.models.bert.modeling_bert", "transformers.models.auto.tokenization_auto"):
            import_module(name)
    finally:
        for name in hidden:
            del sys.modules[name]


def _inspect(spec: specs.ModelSpec, host: Host) -> Result:
    from shifamind_core.inference.inspection import inspect
    from shifamind_core.tasks import open_pipeline

    host.progress("Reading the run directory", 0, 1)
    return inspect(open_pipeline(spec, host.cache))


def _predict(spec: specs.PredictSpec, host: Host) -> Result:
    from shifamind_core.runs.run_file import write_run_file
    from shifamind_core.tasks import predict_summary, run_predict

    outcome = run_predict(spec, host.cache, host.progress)
    if spec.output:
        write_run_file(outcome.run, spec.output)
    for remark in (*outcome.run.manifest.notes, *outcome.remarks):
        host.say(f"note: {remark}")
    return predict_summary(outcome)


def _evaluate(spec: specs.EvaluateSpec, host: Host) -> Result:
    from shifamind_core.analysis.ceiling import MOST_CELLS, ceiling, ceiling_json
    from shifamind_core.analysis.thresholds import evaluate, evaluation_json

    run = host.read(spec.run_file)
    validation = host.read(spec.validation) if spec.validation else None
    document = evaluation_json(evaluate(run, validation, spec.grid))
    highest = ceiling_json(ceiling(run)) if run.logits.size <= MOST_CELLS else None
    per_code = document.pop("per_code")  # the longest stays last
    return {**document, "ceiling": highest, "per_code": per_code}


def _compare(spec: specs.CompareSpec, host: Host) -> Result:
    from shifamind_core.analysis.comparison import compare, comparison_json

    return comparison_json(compare(host.read(spec.candidate), host.read(spec.reference)))


def _bound(spec: specs.BoundSpec, host: Host) -> Result:
    from shifamind_core.analysis.checks import over_codes
    from shifamind_core.analysis.flip_search import f1_range, smallest_epsilon

    run = host.read(spec.run_file)
    over = {"macro_f1_over": over_codes(run.logits.shape[1], run.codes_of)}
    if spec.epsilon is None:
        targets = {"macro_f1": spec.target_macro_f1, "micro_f1": spec.target_micro_f1}
        return {"epsilon": smallest_epsilon(run, spec.threshold, **targets), **over}
    found = f1_range(run, spec.threshold, spec.epsilon)
    return {
        "macro_f1": list(found.macro_f1),
        "micro_f1": list(found.micro_f1),
        "flippable": found.flippable,
        **over,
    }


def _bound_text(result: Result) -> str:
    """That no change reaches a score is an answer too."""
    unreached = "epsilon" in result and result["epsilon"] is None
    return listing(
        {"sentence": "No change of these logits reaches that score."} | result if unreached else result
    )


def _diagnosis_text(result: Result) -> str:
    from shifamind_core.diagnosis.printed import diagnosis_text

    return diagnosis_text(result)


def _diagnose(spec: specs.DiagnoseSpec, host: Host) -> Result:
    from shifamind_core.analysis.rungs import read_ladder
    from shifamind_core.diagnosis.diagnose import diagnose

    ladder = read_ladder(Path(spec.ladder)) if spec.ladder else None
    reported = None
    if spec.reported:
        from shifamind_core.analysis.reported_scores import parse_reported

        reported = parse_reported(spec.reported).values
    return diagnose(host.read(spec.candidate), host.read(spec.reference), ladder, reported).to_json()


def _report(spec: specs.ReportSpec, host: Host) -> Result:
    from shifamind_core.analysis.rungs import read_ladder
    from shifamind_core.diagnosis.diagnose import diagnose
    from shifamind_core.html_report.report import html_report
    from shifamind_core.report.diagnosis import read_replay
    from shifamind_core.report.files import Selection, archive, report
    from shifamind_core.runs.atomic import write_atomically

    if spec.output.suffix not in (".html", ".zip"):
        raise ShifamindError(
            f"The report cannot be written as {spec.output.name}. Name a file that ends in .html or .zip."
        )
    candidate, reference = host.read(spec.candidate), host.read(spec.reference)
    ladder = read_ladder(Path(spec.ladder)) if spec.ladder else None
    selection = Selection(
        candidate,
        reference,
        host.read(spec.candidate_validation) if spec.candidate_validation else None,
        host.read(spec.reference_validation) if spec.reference_validation else None,
        diagnosis=diagnose(candidate, reference, ladder),
        replay=read_replay(Path(spec.replay)) if spec.replay else None,
        ladder=ladder,
    )
    is_page = spec.output.suffix == ".html"
    content = html_report(selection).encode() if is_page else archive(report(selection))
    write_atomically(spec.output, content)
    return {"report": str(spec.output), "bytes": len(content)}


def _ladder(spec: specs.LadderSpec, host: Host) -> Result:
    from shifamind_core.runs.atomic import write_atomically
    from shifamind_core.tasks import run_ladder

    result = run_ladder(spec, host.cache, host.progress, host.partial)
    if spec.output:
        write_atomically(spec.output, json.dumps(result).encode())
    return result


def _replay(spec: specs.ReplaySpec, host: Host) -> Result:
    from shifamind_core.replay.task import replay

    def watch(trials: Sequence[Any], done: int, total: int) -> None:
        host.partial({"trials": [trial.to_json() for trial in trials[:30]]})
        host.progress("Trying interventions", done, total)

    reference = host.read(spec.reference) if spec.reference else None
    return replay(spec, reference, host.cache, watch, host.progress)


def _layers(spec: specs.LayersSpec, host: Host) -> Result:
    from shifamind_core.tasks import run_layers

    return run_layers(spec, host.cache, host.progress, host.partial)


def _one_profile(result: Result) -> Result:
    """Of a single policy, its profile without the list around it."""
    if len(result["profiles"]) != 1:
        return result
    (profile,) = result["profiles"]
    return {name: value for name, value in result.items() if name != "profiles"} | profile


def _probe(spec: specs.ProbeSpec, host: Host) -> Result:
    from shifamind_core.tasks import run_probe

    return run_probe(spec, host.cache, host.progress, host.partial)


def _certify(spec: specs.CertifySpec, host: Host) -> Result:
    from shifamind_core.tasks import run_certify

    return run_certify(spec, host.cache, host.progress)


def _rounding(spec: specs.RoundingSpec, host: Host) -> Result:
    from shifamind_core.tasks import run_rounding

    return run_rounding(spec, host.cache, host.progress)


def _capture(spec: specs.NoSpec, host: Host) -> Result:
    from shifamind_core.model.architectures import ARCHITECTURES
    from shifamind_core.runs.capture import snippet

    return {"snippet": snippet({one.name: one.marks for one in ARCHITECTURES})}


_ALL = (
    Command("demo", "Write the built-in run directory.", specs.DemoSpec, _demo),
    Command(
        "serve",
        "Start the dashboard and print the one link that opens it.",
        specs.ServeSpec,
        _serve,
        text=lambda result: result["link"],
    ),
    Command(
        "inspect",
        "What a run directory holds, whether it fits together, and this machine.",
        specs.ModelSpec,
        _inspect,
        job=True,
    ),
    Command(
        "predict",
        "Score a split under a precision policy and write a run file.",
        specs.PredictSpec,
        _predict,
        job=True,
    ),
    Command(
        "evaluate", "F1 of a run: fixed, tuned on validation, top-k, per code.", specs.EvaluateSpec, _evaluate
    ),
    Command("compare", "How two runs differ, note by note and code by code.", specs.CompareSpec, _compare),
    Command(
        "bound",
        "What F1 can become if no logit moves by more than epsilon, or the epsilon a score needs.",
        specs.BoundSpec,
        _bound,
        text=_bound_text,
    ),
    Command(
        "diagnose",
        "Why two runs differ: findings, most likely first.",
        specs.DiagnoseSpec,
        _diagnose,
        text=_diagnosis_text,
    ),
    Command("report", "Two runs compared in one file: a page, or all tables.", specs.ReportSpec, _report),
    Command(
        "ladder",
        "How far every policy moves this model's logits from FP64, measured here.",
        specs.LadderSpec,
        _ladder,
        job=True,
    ),
    Command(
        "replay",
        "Find the change to the pipeline that reproduces another run, or its scores.",
        specs.ReplaySpec,
        _replay,
        job=True,
    ),
    Command(
        "layers",
        "How far two policies are apart after each layer, and which parts first.",
        specs.LayersSpec,
        _layers,
        job=True,
        document=_one_profile,
    ),
    Command(
        "probe",
        "Small experiments with the checkpoint here: repeatability, padding, TF32, …",
        specs.ProbeSpec,
        _probe,
        job=True,
    ),
    Command(
        "certify",
        "How many decisions could differ on another machine under `portable`.",
        specs.CertifySpec,
        _certify,
        job=True,
    ),
    Command(
        "rounding",
        "What this machine's rounding changes: a split under `bitwise` and under another policy.",
        specs.RoundingSpec,
        _rounding,
        job=True,
    ),
    Command(
        "capture",
        "Print the few lines that save a run file from one's own evaluation loop.",
        specs.NoSpec,
        _capture,
        text=lambda result: result["snippet"],
    ),
)
COMMANDS = {command.name: command for command in _ALL}
