"""What the worker and the command line do alike: a specification in, JSON out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.inference.pipeline import Outcome, Pipeline, Setting
from shifamind_core.inference.tokenization import Progress, Tokenization
from shifamind_core.precision.policy import Attention, policy_named
from shifamind_core.records import from_json
from shifamind_core.runs.manifest import Padding

Casing = Literal["auto", "true", "false"]
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
        "remarks": list(run.manifest.notes),
    }


def _predict(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    return predict_summary(run_predict(from_json(PredictSpec, spec, "spec"), cache, report.progress))


def _inspect(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    from shifamind_core.inference.inspection import inspect

    report.progress("Reading the run directory", 0, 1)
    return inspect(open_pipeline(spec["run_directory"], spec.get("base_model"), cache))


def _ladder(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    from shifamind_core.diagnosis.ladder import climb

    asked = from_json(PredictSpec, spec, "spec")
    pipeline = open_pipeline(asked.run_directory, asked.base_model, cache)
    return climb(
        pipeline, asked.split, asked.setting(), asked.limit, report.progress, report.partial
    ).to_json()


def _replay(spec: dict[str, Any], cache: Path, report: Report) -> dict[str, Any]:
    from shifamind_core.diagnosis.replay.run import ReplaySpec, replay
    from shifamind_core.runs.cache import RunCache

    asked = from_json(ReplaySpec, spec, "spec")
    # The reference is named by its id in the cache: the worker reads no file that a browser names.
    reference = RunCache(cache).load(asked.reference) if asked.reference else None

    def watch(trials: Sequence[Any], done: int, total: int) -> None:
        report.partial({"trials": [trial.to_json() for trial in trials[:30]]})
        report.progress("Trying interventions", done, total)

    return replay(asked, reference, cache, watch)


TASKS: dict[str, Callable[[dict[str, Any], Path, Report], dict[str, Any]]] = {
    "predict": _predict,
    "inspect": _inspect,
    "ladder": _ladder,
    "replay": _replay,
}
