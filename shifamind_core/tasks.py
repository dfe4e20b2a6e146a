"""What the worker and the command line do alike: a specification in, JSON out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import PolicyRefused, ShifamindError
from shifamind_core.inference.pipeline import Outcome, Pipeline, Setting
from shifamind_core.inference.tokenization import Progress, Tokenization
from shifamind_core.precision.policy import Attention, policy_named
from shifamind_core.records import from_json
from shifamind_core.runs.manifest import Padding

Casing = Literal["auto", "true", "false"]
Partial = Callable[[dict[str, Any]], None]
LOWERCASE: dict[str, bool | None] = {"auto": None, "true": True, "false": False}


class Report(Protocol):
    """Where a task says how far it is."""

    def progress(self, message: str, done: int, total: int) -> None: ...
    def partial(self, value: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class PredictSpec:
    """What `predict` is asked for; the defaults are the seed's, under FP32."""

    run_directory: str
    base_model: str | None = None
    split: str = "test"
    policy: str = "fp32"
    lowercase: Casing = "auto"
    max_length: int = 512
    padding: Padding = "max_length"
    attention: Attention = "sdpa"
    batch_size: int = 16
    limit: int | None = None
    device: str = "auto"
    deterministic: bool | None = None
    cudnn_benchmark: bool | None = None

    def setting(self) -> Setting:
        """The setting that these values describe; toggles that are `None` leave the policy as it is."""
        policy = policy_named(self.policy)
        if self.deterministic is not None:
            policy = replace(policy, deterministic=self.deterministic)
        if self.cudnn_benchmark is not None:
            policy = replace(policy, cudnn_benchmark=self.cudnn_benchmark)
        return Setting(
            policy=policy,
            tokenization=Tokenization(LOWERCASE[self.lowercase], self.max_length, self.padding),
            attention=self.attention,
            batch_size=self.batch_size,
            device=self.device,
        )


def open_pipeline(run_directory: str, base_model: str | None, cache: Path | None) -> Pipeline:
    """The pipeline of a run directory, named by a path as a person types it."""
    override = Path(base_model).expanduser() if base_model else None
    return Pipeline(RunDirectory(Path(run_directory).expanduser()), override, cache)


def run_predict(spec: PredictSpec, cache: Path | None, progress: Progress | None = None) -> Outcome:
    """Score a split as `spec` asks, or answer from the cache."""
    pipeline = open_pipeline(spec.run_directory, spec.base_model, cache)
    return pipeline.score(spec.split, spec.setting(), spec.limit, progress)


def predict_summary(outcome: Outcome) -> dict[str, Any]:
    """The JSON of `predict`."""
    run = outcome.run
    return {
        "documents": run.documents,
        "codes": run.logits.shape[1],
        "seconds": run.manifest.duration_seconds,
        "cached": outcome.cached,
        "non_finite": run.non_finite,
        "run_digest": run.digest,
        "cache_key": run.manifest.cache_key,
        "remarks": [*run.manifest.notes, *outcome.remarks],
    }


@dataclass(frozen=True)
class LayersSpec:
    """What `layers` is asked for: every policy against one and the same, on the first notes of a split."""

    run_directory: str
    base_model: str | None = None
    policies: tuple[str, ...] = ("fp32",)
    against: str = "fp64"
    attention: Attention = "sdpa"
    against_attention: Attention = "sdpa"
    split: str = "test"
    notes: int = 8
    lowercase: Casing = "auto"
    max_length: int = 512
    device: str = "auto"


def run_layers(
    spec: LayersSpec, cache: Path | None, progress: Progress | None = None, partial: Partial | None = None
) -> dict[str, Any]:
    """Layer profiles of `spec`'s policies, and the model and notes that they were measured on.

    Of several policies, one that the device cannot honour is listed under `refused`, with the reason.

    Raises
    ------
    PolicyRefused
        The device can honour none of the policies, or not the one that they are held against.
    """
    from shifamind_core.analysis.layer_divergence import profile_json
    from shifamind_core.inference.activations import LayerSetting, profile_layers
    from shifamind_core.precision.apply import check_honoured, refusal, resolve_device

    if spec.notes < 1:
        raise ShifamindError(f"Layers were asked for on {spec.notes} notes; at least 1 is needed.")
    tokenization = Tokenization(LOWERCASE[spec.lowercase], spec.max_length)
    pipeline = open_pipeline(spec.run_directory, spec.base_model, cache)
    reference = LayerSetting(policy_named(spec.against), spec.against_attention)
    device = resolve_device(spec.device)
    refused = {name: reason for name in spec.policies if (reason := refusal(policy_named(name), device))}
    candidates = [
        LayerSetting(policy_named(name), spec.attention) for name in spec.policies if name not in refused
    ]
    check_honoured(reference.policy, device)
    if not candidates:
        raise PolicyRefused(" ".join(refused.values()))
    pipeline.check_length(tokenization)
    split = pipeline.split(spec.split).head(spec.notes)
    notes = pipeline.tokens(split, tokenization.lowercase, progress).prepare(tokenization)
    result: dict[str, Any] = {
        **_measured_on(pipeline, spec.device),
        "split": spec.split,
        "tokens": int(notes.ids.shape[1]),
        "refused": refused,
        "profiles": [],
    }
    for candidate in candidates:
        profile = profile_layers(
            pipeline.model, notes, candidate, reference, device, progress=_named(candidate.name, progress)
        )
        result["profiles"].append(profile_json(profile))
        if partial:
            partial(result)
    return result


def _measured_on(pipeline: Pipeline, device: str) -> dict[str, Any]:
    """Which model and which machine a measurement speaks of: it holds for no other."""
    from shifamind_core.precision.apply import resolve_device
    from shifamind_core.precision.observe import observe_environment

    machine = observe_environment(resolve_device(device))
    record = pipeline.checkpoint.record
    return {
        "model": {
            "run_directory": pipeline.directory.name,
            "architecture": pipeline.checkpoint.architecture,
            "parameters": record.parameters,
            "weights_digest": record.weights_digest,
        },
        "device": machine.device,
        "gpu": machine.gpu,
    }


def _named(name: str, progress: Progress | None) -> Progress | None:
    return (
        None if progress is None else lambda message, done, total: progress(f"{message}: {name}", done, total)
    )


@dataclass(frozen=True)
class ProbeSpec:
    """What `probe` is asked for."""

    run_directory: str
    base_model: str | None = None
    device: str = "auto"
    notes: int = 8


def run_probe(
    spec: ProbeSpec, cache: Path | None, progress: Progress | None = None, partial: Partial | None = None
) -> dict[str, Any]:
    """The probes of `experiments.probes` on a run directory."""
    from shifamind_core.experiments.probes import Probe, probes_json, run_probes

    pipeline = open_pipeline(spec.run_directory, spec.base_model, cache)
    about = _measured_on(pipeline, spec.device)

    def tell(found: list[Probe]) -> None:
        if partial:
            partial(about | probes_json(found))

    return about | probes_json(run_probes(pipeline, spec.device, spec.notes, progress, tell))


@dataclass(frozen=True)
class CertifySpec:
    """What `certify` is asked for: the portable policy on a split, and FP64 on its first notes."""

    run_directory: str
    base_model: str | None = None
    split: str = "test"
    limit: int | None = None
    referee_notes: int = 64
    threshold: float = 0.5
    lowercase: Casing = "auto"
    max_length: int = 512
    device: str = "auto"


def run_certify(spec: CertifySpec, cache: Path | None, progress: Progress | None = None) -> dict[str, Any]:
    """How many decisions could differ on another machine under the portable policy."""
    from shifamind_core.analysis.certificate import certificate, certificate_json
    from shifamind_core.analysis.counts import check_threshold

    if spec.referee_notes < 1:
        raise ShifamindError(f"FP64 was asked for on {spec.referee_notes} notes; at least 1 is needed.")
    check_threshold(spec.threshold)
    asked = PredictSpec(
        run_directory=spec.run_directory,
        base_model=spec.base_model,
        split=spec.split,
        policy="portable",
        lowercase=spec.lowercase,
        max_length=spec.max_length,
        limit=spec.limit,
        device=spec.device,
    )
    pipeline = open_pipeline(spec.run_directory, spec.base_model, cache)
    run = pipeline.score(spec.split, asked.setting(), spec.limit, progress).run
    count = min(spec.referee_notes, run.documents)
    referee = replace(asked, policy="fp64").setting()
    exact = pipeline.score(spec.split, referee, count, progress).run
    found = certificate(run, run.logits[:count], exact.logits, spec.threshold)
    about = _measured_on(pipeline, spec.device)
    return (
        about
        | certificate_json(found)
        | {"split": spec.split, "run_digest": run.digest, "documents": run.documents}
    )


def _predict(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    return predict_summary(run_predict(from_json(PredictSpec, spec, "spec"), cache, report.progress))


def _inspect(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    from shifamind_core.inference.inspection import inspect

    report.progress("Reading the run directory", 0, 1)
    return inspect(open_pipeline(spec["run_directory"], spec.get("base_model"), cache))


def _ladder(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    from shifamind_core.experiments.ladder import climb

    asked = from_json(PredictSpec, spec, "spec")
    pipeline = open_pipeline(asked.run_directory, asked.base_model, cache)
    return climb(
        pipeline, asked.split, asked.setting(), asked.limit, report.progress, report.partial
    ).to_json()


def _replay(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    from shifamind_core.replay.task import ReplaySpec, replay
    from shifamind_core.runs.cache import RunCache

    asked = from_json(ReplaySpec, spec, "spec")
    # The reference is named by its id in the cache: the worker reads no file that a browser names.
    reference = RunCache(cache).load(asked.reference) if asked.reference else None

    def watch(trials: Sequence[Any], done: int, total: int) -> None:
        report.partial({"trials": [trial.to_json() for trial in trials[:30]]})
        report.progress("Trying interventions", done, total)

    return replay(asked, reference, cache, watch)


def _layers(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    return run_layers(from_json(LayersSpec, spec, "spec"), cache, report.progress, report.partial)


def _probe(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    return run_probe(from_json(ProbeSpec, spec, "spec"), cache, report.progress, report.partial)


def _certify(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    return run_certify(from_json(CertifySpec, spec, "spec"), cache, report.progress)


TASKS: dict[str, Callable[[dict[str, Any], Path, Report], dict[str, Any]]] = {
    "predict": _predict,
    "inspect": _inspect,
    "ladder": _ladder,
    "replay": _replay,
    "layers": _layers,
    "probe": _probe,
    "certify": _certify,
}
