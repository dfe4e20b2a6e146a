"""Set up a replay: run directories in, search, JSON out. The command line and the worker both come here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.artifacts.splits import Split
from shifamind_core.diagnosis.replay.before_after import before_after
from shifamind_core.diagnosis.replay.interventions import interventions
from shifamind_core.diagnosis.replay.recipe import Intervention, Recipe
from shifamind_core.diagnosis.replay.reported import ReportedScores, ScoreSearch, parse_reported
from shifamind_core.diagnosis.replay.search import SCREENED, Search
from shifamind_core.diagnosis.replay.trials import Bench, target_of
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.tokenization import Tokenization, load_tokenizer
from shifamind_core.precision.apply import resolve_device
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.run import Run

Watch = Callable[[Sequence[Any], int, int], None]


@dataclass(frozen=True)
class ReplaySpec:
    """What a replay is asked for. Either a reference run or reported scores must be given.

    `only` restricts the search to interventions of these names, e.g. the decisive pair of casings.
    """

    run_directory: str
    base_model: str | None = None
    reference: str | None = None
    reported: str | None = None
    split: str = "test"
    notes: int | None = None
    depth: int = 3
    device: str = "auto"
    siblings: tuple[str, ...] = ()
    only: tuple[str, ...] = ()


def replay(
    spec: ReplaySpec, reference: Run | None, cache: Path | None = None, watch: Watch | None = None
) -> dict[str, Any]:
    """Find the change to the pipeline that reproduces `reference`, or else the reported scores.

    Returns
    -------
    dict
        `best` {`interventions`, `explained`, `max_abs_residual`}, `trials` (best first), `verdict`, `sentence`, ….

    Raises
    ------
    ShifamindError
        Neither or both were given, or run directory and reference have nothing in common.
    """
    if (reference is None) == (spec.reported is None):
        raise ShifamindError("Give either a reference run or reported scores.")
    setup = _Setup(spec, cache)
    if reference is not None:
        return _from_logits(setup, reference, watch)
    return _from_scores(setup, parse_reported(spec.reported or ""), watch)


class _Setup:
    def __init__(self, spec: ReplaySpec, cache: Path | None) -> None:
        self.spec, self.cache = spec, cache
        base_model = Path(spec.base_model).expanduser() if spec.base_model else None
        own = Pipeline(RunDirectory(Path(spec.run_directory).expanduser()), base_model, cache)
        self.remarks: list[str] = []
        self.pipelines: dict[str | None, Pipeline] = {None: own, **self._siblings(own)}
        self.own = own
        self.device = resolve_device(spec.device)
        self.codes = own.checkpoint.codes or own.split(spec.split).codes
        if self.codes is None:
            raise ShifamindError(f"{own.directory.name} names its codes nowhere; a replay needs them.")
        # Casing as it is here in effect, so that asking for the same casing by name is no intervention.
        lowercase = load_tokenizer(own.base_model).lowercase
        self.base = Recipe(Tokenization(lowercase), POLICIES["fp32"])

    def interventions(self) -> list[Intervention]:
        names = [name for name in self.pipelines if name is not None]
        listed = interventions(self.own.model(), self.device, names)
        unknown = set(self.spec.only) - {step.name for step in listed}
        if unknown:
            raise ShifamindError(
                f"No intervention {', '.join(sorted(unknown))} applies to this model on this device."
            )
        return [step for step in listed if not self.spec.only or step.name in self.spec.only]

    def counts(self) -> dict[str, int]:
        """How often each code occurs: as the JSON file says, else in the split."""
        info = self.own.directory.code_info
        if info is not None and info.counts:
            return info.counts
        split = self.own.split(self.spec.split)
        return dict(zip(split.codes or (), split.labels.sum(axis=0).tolist(), strict=False))

    def bench(self, reference: Run, splits: dict[str, Split]) -> Bench:
        assert self.codes is not None
        target = target_of(reference, splits, self.codes)
        return Bench(self.pipelines, target, self.device, self.counts(), self.cache)

    def _siblings(self, own: Pipeline) -> dict[str, Pipeline]:
        """Other checkpoints of the same shape: run directories beside this one, and those given."""
        found = {}
        given = [RunDirectory(Path(path).expanduser()) for path in self.spec.siblings]
        for directory in (*own.directory.siblings(), *given):
            if directory.path == own.directory.path:
                continue
            try:
                pipeline = Pipeline(directory, own.base_model, self.cache)
                pipeline.model()
                mine, theirs = own.checkpoint.codes, pipeline.checkpoint.codes
                if mine and theirs and set(mine) != set(theirs):
                    raise ShifamindError("it scores other codes.")
            except ShifamindError as error:
                self.remarks.append(f"The checkpoint of {directory.name} is left out: {error}")
                continue
            found[directory.name] = pipeline
        return found


def _from_logits(setup: _Setup, reference: Run, watch: Watch | None) -> dict[str, Any]:
    spec = setup.spec
    splits: dict[str | None, Split] = {None: setup.own.split(spec.split)}
    for name, pipeline in setup.pipelines.items():
        if name is not None and spec.split in pipeline.directory.splits:
            splits[name] = pipeline.split(spec.split)
    bench = setup.bench(reference, {str(name): split for name, split in splits.items()})
    search = Search(bench, setup.base, setup.interventions(), spec.notes or SCREENED, spec.depth, watch)
    search.remarks += setup.remarks
    result = search.run()
    return result.to_json() | {"before_after": before_after(bench, search, result, reference)}


def _from_scores(setup: _Setup, reported: ReportedScores, watch: Watch | None) -> dict[str, Any]:
    names = [setup.spec.split, *(["val"] if reported.tuned and "val" in setup.own.directory.splits else [])]
    splits = {("val" if name == "val" else "test"): setup.own.split(name) for name in names}
    templates = {
        name: Run(
            np.zeros(split.labels.shape, np.float32), name, setup.codes, split.labels, split.document_ids
        )
        for name, split in splits.items()
    }
    benches = {name: setup.bench(templates[name], {name: split}) for name, split in splits.items()}
    search = ScoreSearch(
        benches, templates, setup.base, setup.interventions(), reported, setup.spec.notes, watch=watch
    )
    result = search.run()
    return result | {"remarks": [*result["remarks"], *setup.remarks]}
