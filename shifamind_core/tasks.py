"""What needs a run directory and torch: what is asked for (`specs`) in, JSON out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from shifamind_core.analysis.fingerprint import fingerprint
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import PolicyRefused, ShifamindError
from shifamind_core.inference.group import joined
from shifamind_core.inference.pipeline import Outcome, Pipeline, Setting
from shifamind_core.inference.tokenization import Progress, Tokenization
from shifamind_core.precision.policy import POLICIES, PrecisionPolicy, policy_named
from shifamind_core.specs import (
    CertifySpec,
    LadderSpec,
    LayersSpec,
    ModelSpec,
    NotesSpec,
    PredictSpec,
    ProbeSpec,
    RoundingSpec,
    ScoreSpec,
)

Partial = Callable[[dict[str, Any]], None]
LOWERCASE: dict[str, bool | None] = {"auto": None, "true": True, "false": False}


def setting_of(spec: ScoreSpec, policy: PrecisionPolicy) -> Setting:
    """The setting that these values describe, under `policy`."""
    return Setting(
        policy=policy,
        tokenization=Tokenization(LOWERCASE[spec.lowercase], spec.max_length, spec.padding),
        attention=spec.attention,
        batch_size=spec.batch_size,
        device=spec.device,
    )


def open_pipeline(spec: ModelSpec, cache: Path | None) -> Pipeline:
    """The pipeline of a run directory, named by a path as a person types it."""
    override = Path(spec.base_model).expanduser() if spec.base_model else None
    return Pipeline(RunDirectory(Path(spec.run_directory).expanduser()), override, cache, spec.weights)


def run_predict(spec: PredictSpec, cache: Path | None, progress: Progress | None = None) -> Outcome:
    """Score a split as `spec` asks, or answer from the cache; together with the others that `torchrun` started."""
    with joined() as group:
        policy = policy_named(spec.policy)
        switches = {"deterministic": spec.deterministic, "cudnn_benchmark": spec.cudnn_benchmark}
        policy = replace(policy, **{name: value for name, value in switches.items() if value is not None})
        pipeline = open_pipeline(spec, cache)
        return pipeline.score(spec.split, setting_of(spec, policy), spec.limit, progress, group)


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
        "fingerprint": fingerprint(run),
        "cache_key": run.manifest.cache_key,
        "remarks": [*run.manifest.notes, *outcome.remarks],
    }


def run_ladder(
    spec: LadderSpec, cache: Path | None, progress: Progress | None = None, partial: Partial | None = None
) -> dict[str, Any]:
    """The precision ladder of `experiments.ladder` on a split."""
    from shifamind_core.experiments.ladder import climb

    pipeline = open_pipeline(spec, cache)
    setting = setting_of(spec, POLICIES["fp64"])
    return climb(pipeline, spec.split, setting, spec.limit, progress, partial).to_json()


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
    pipeline = open_pipeline(spec, cache)
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


def run_probe(
    spec: ProbeSpec, cache: Path | None, progress: Progress | None = None, partial: Partial | None = None
) -> dict[str, Any]:
    """The probes of `experiments.probes` on a run directory."""
    from shifamind_core.experiments.probes import Probe, probes_json, run_probes

    pipeline = open_pipeline(spec, cache)
    about = _measured_on(pipeline, spec.device)

    def tell(found: list[Probe]) -> None:
        if partial:
            partial(about | probes_json(found))

    return about | probes_json(run_probes(pipeline, spec.device, spec.notes, progress, tell))


def run_certify(spec: CertifySpec, cache: Path | None, progress: Progress | None = None) -> dict[str, Any]:
    """How many decisions could differ on another machine under the portable policy."""
    from shifamind_core.analysis.certificate import certificate, certificate_json
    from shifamind_core.analysis.counts import check_threshold

    if spec.referee_notes < 1:
        raise ShifamindError(f"FP64 was asked for on {spec.referee_notes} notes; at least 1 is needed.")
    check_threshold(spec.threshold)
    portable, fp64, bitwise = (_fixed_setting(spec, name) for name in ("portable", "fp64", "bitwise"))
    pipeline = open_pipeline(spec, cache)
    run = pipeline.score(spec.split, portable, spec.limit, progress).run
    count = min(spec.referee_notes, run.documents)
    exact = pipeline.score(spec.split, fp64, count, progress).run
    found = certificate(run, run.logits[:count], exact.logits, spec.threshold)
    about = _measured_on(pipeline, spec.device)
    try:
        line = fingerprint(pipeline.score(spec.split, bitwise, count, progress).run)
    except PolicyRefused:  # a model that bitwise does not cover can be certified all the same
        line = None
    return (
        about
        | certificate_json(found)
        | {
            "split": spec.split,
            "run_digest": run.digest,
            "documents": run.documents,
            "fingerprint": line,
            "fingerprint_notes": count,
        }
    )


def run_rounding(spec: RoundingSpec, cache: Path | None, progress: Progress | None = None) -> dict[str, Any]:
    """What this machine's rounding changes: the same notes under `bitwise` and under `spec.policy`."""
    from shifamind_core.analysis.comparison import compare
    from shifamind_core.analysis.rounding import rounding_json

    pipeline = open_pipeline(spec, cache)
    exact, usual = (
        pipeline.score(spec.split, _fixed_setting(spec, name), spec.limit, progress).run
        for name in ("bitwise", policy_named(spec.policy).name)
    )
    found = rounding_json(compare(usual, exact, spec.threshold))
    about = _measured_on(pipeline, spec.device)
    return about | found | {"split": spec.split, "policy": spec.policy}


def _fixed_setting(spec: NotesSpec, policy: str) -> Setting:
    return Setting(
        policy=POLICIES[policy],
        tokenization=Tokenization(LOWERCASE[spec.lowercase], spec.max_length),
        device=spec.device,
    )
