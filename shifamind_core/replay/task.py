"""Set up a replay: run directories in, search, JSON out. The command line and the worker both come here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shifamind_core.analysis.reported_scores import ReportedScores, parse_reported
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.artifacts.splits import Split
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.tokenization import Progress, Tokenization
from shifamind_core.model.build import attention_of
from shifamind_core.precision.apply import resolve_device
from shifamind_core.precision.observe import observe_environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.replay.before_after import before_after
from shifamind_core.replay.interventions import Scene, interventions, weights_key
from shifamind_core.replay.recipe import Intervention, Recipe
from shifamind_core.replay.reference_rows import Target, target_of
from shifamind_core.replay.reported import Bed, ScoreSearch
from shifamind_core.replay.runner import Bench
from shifamind_core.replay.search import SCREENED, Search
from shifamind_core.runs.run import Run
from shifamind_core.specs import ReplaySpec

Watch = Callable[[Sequence[Any], int, int], None]


def replay(
    spec: ReplaySpec,
    reference: Run | None,
    cache: Path | None = None,
    watch: Watch | None = None,
    tell: Progress | None = None,
) -> dict[str, Any]:
    """Find the change to the pipeline that reproduces `reference`, or else the reported scores.

    Returns
    -------
    dict
        `best` {`interventions`, `explained`, `max_abs_residual`}, `trials` (best first), `verdict`, `sentence`, …; `about`
        {`split`, `reference` (its digest), `reported`} and `device` say what it was asked, and where.

    Raises
    ------
    ShifamindError
        Neither or both were given, or run directory and reference have nothing in common.
    """
    if (reference is None) == (spec.reported is None):
        raise ShifamindError("Give either a reference run or reported scores.")
    for name in ("notes", "depth"):
        if (value := getattr(spec, name)) is not None and value < 1:
            raise ShifamindError(f"A replay was asked for with {name} {value}; it must be at least 1.")
    reported = None if spec.reported is None else parse_reported(spec.reported)  # before a model is built
    setup = Setup(spec, cache, tell)
    if reported is not None:
        found = _from_scores(setup, reported, watch)
    else:
        assert reference is not None
        found = setup.reproduce(reference, watch)
    asked = {"split": spec.split, "reference": reference and reference.digest, "reported": spec.reported}
    return found | {"about": asked, "device": observe_environment(setup.device).gpu or "CPU"}


class Setup:
    """The run directory, those beside it, and the pipeline as it is here; several replays may share one."""

    def __init__(self, spec: ReplaySpec, cache: Path | None, tell: Progress | None = None) -> None:
        self.spec, self.cache = spec, cache
        self.tell = tell or (lambda message, done, total: None)
        base_model = Path(spec.base_model).expanduser() if spec.base_model else None
        directory = RunDirectory(Path(spec.run_directory).expanduser())
        own = Pipeline(directory, base_model, cache, spec.weights)
        self.remarks: list[str] = list(own.directory.remarks)
        self.own = own
        self.device = resolve_device(spec.device)
        self.tell("Building the model", 0, 1)
        self.model = own.model()
        self.codes = own.checkpoint.codes or own.split(spec.split).codes
        if self.codes is None:
            raise ShifamindError(f"{own.directory.name} names its codes nowhere; a replay needs them.")
        self.pipelines: dict[str | None, Pipeline] = {None: own, **self._siblings()}
        self.other_weights = {
            other.name: Pipeline(directory, base_model, cache, other.name)
            for other in own.checkpoint.others
            if other.max_difference  # the same model, and not the same numbers
        }
        self.tokenizer = own.tokenizer()
        # Casing as it is here in effect, so that asking for the same casing by name is no intervention.
        tokenization = Tokenization(self.tokenizer.lowercase)
        positions = own.positions
        if positions is not None and positions < tokenization.max_length:
            self.remarks.append(f"The model has {positions} positions: notes are truncated there.")
            tokenization = replace(tokenization, max_length=positions)
        self.base = Recipe(tokenization, POLICIES["fp32"], attention_of(self.model, "sdpa"))
        self._bench: Bench | None = None
        self.screen = True  # see `Search`

    def reproduce(self, reference: Run, watch: Watch | None = None) -> dict[str, Any]:
        """Find the change that gives the reference's logits: the JSON of `replay`."""
        assert self.codes is not None
        spec = self.spec
        self.tell("Looking for the reference's notes", 0, 1)
        target = target_of(reference, self.splits(), self.codes)
        bench = self._sharing(self._bench_for(target))
        base = replace(self.base, notes=target.source, batch_size=target.batch_size or self.base.batch_size)
        steps, notes = self.interventions(target), spec.notes or SCREENED
        search = Search(bench, base, steps, notes, spec.depth, watch, self.tell, self.screen)
        search.remarks += self.remarks
        if idle := set(spec.only) - {step.name for step in search.interventions}:
            search.remarks.append(f"Not tried, since it changes nothing here: {', '.join(sorted(idle))}.")
        result = search.run()
        compared = before_after(bench, search, result, reference)
        said = result.to_json()
        return said | {"remarks": [*said["remarks"], *bench.remarks], "before_after": compared}

    def bed(self, pipeline: Pipeline, split_name: str) -> Bed:
        """A split to score; all of them share what the first computes."""
        assert self.codes is not None
        split = pipeline.split(split_name).with_codes(self.codes)
        nothing = np.zeros(split.labels.shape, np.float32)
        template = Run(nothing, split_name, self.codes, split.labels, split.document_ids)
        return Bed(template, self._sharing(self._bench_for(target_of(template, {None: split}, self.codes))))

    def _bench_for(self, target: Target) -> Bench:
        others = {weights_key(name): pipeline for name, pipeline in self.other_weights.items()}
        bench = Bench(self.pipelines | others, target, self.device, self.cache)
        bench.tell = self.tell
        return bench

    def _sharing(self, bench: Bench) -> Bench:
        if self._bench is not None:
            bench.share(self._bench)
        self._bench = bench
        return bench

    def interventions(
        self, target: Target, sources: tuple[str | None, ...] | None = None
    ) -> list[Intervention]:
        """All that apply, or those that were asked for; `sources` as in `Scene`, the target's by default."""
        scene = Scene(
            model=self.model,
            device=self.device,
            siblings=tuple(name for name in self.pipelines if name is not None),
            sources=tuple(target.places) if sources is None else sources,
            embeddings=self.own.concept_embeddings,
            codes=target.codes,
            counts=self._counts(),
            batch_size=target.batch_size,
            casings=self.tokenizer.casings,
            weights=tuple(self.other_weights),
        )
        listed = interventions(scene)
        unknown = set(self.spec.only) - {step.name for step in listed}
        if unknown:
            raise ShifamindError(
                f"No intervention {', '.join(sorted(unknown))} applies to this model on this device."
            )
        return [step for step in listed if not self.spec.only or step.name in self.spec.only]

    def splits(self) -> dict[str | None, Split]:
        """This directory's split, and those of its siblings by the same name."""
        splits: dict[str | None, Split] = {None: self.own.split(self.spec.split)}
        for name, pipeline in self.pipelines.items():
            if name is None or self.spec.split not in pipeline.directory.splits:
                continue
            try:
                splits[name] = pipeline.split(self.spec.split)
            except ShifamindError as error:
                self.remarks.append(f"The {self.spec.split} split of {name} is left out: {error}")
        return splits

    def _counts(self) -> dict[str, dict[str, int]]:
        """How often each code occurs, by whose count: in the JSON files, and in the split."""
        files = {"top50_icd10_info.json": self.own.directory.code_info}
        for name, pipeline in self.pipelines.items():
            if name is not None:
                files[f"top50_icd10_info.json of {name}"] = pipeline.directory.code_info
        split = self.own.split(self.spec.split)
        in_split = dict(zip(split.codes or (), split.labels.sum(axis=0).tolist(), strict=False))
        counts = {whose: dict(info.counts) for whose, info in files.items() if info}
        counts[f"the {split.name} split"] = in_split
        return {whose: count for whose, count in counts.items() if count}

    def _siblings(self) -> dict[str, Pipeline]:
        """Other checkpoints that score the same codes: run directories beside this one, and those given."""
        found: dict[str, Pipeline] = {}
        given = [RunDirectory(Path(path).expanduser()) for path in self.spec.siblings]
        seen = {self.own.directory.path}
        for directory in (*given, *self.own.directory.siblings()):
            if directory.path in seen:
                continue
            seen.add(directory.path)
            self.tell(f"Looking at the checkpoint of {directory.name}", 0, 1)
            try:
                pipeline = Pipeline(directory, self._base_model_of(directory), self.cache)
                pipeline.model()
                theirs = pipeline.checkpoint.codes
                if theirs and set(theirs) != set(self.codes or ()):
                    raise ShifamindError("it scores other codes.")
            except ShifamindError as error:
                self.remarks.append(f"The checkpoint of {directory.name} is left out: {error}")
                continue
            name = directory.name
            found[f"{directory.path.parent.name}/{name}" if name in found else name] = pipeline
        return found

    def _base_model_of(self, directory: RunDirectory) -> Path:
        own = directory.is_classifier or (directory.path / "base_model").is_dir()
        return directory.base_model() if own else self.own.base_model


def _from_scores(setup: Setup, reported: ReportedScores, watch: Watch | None) -> dict[str, Any]:
    wanted = {"test": setup.spec.split, **({"val": "val"} if reported.tuned else {})}
    beds: dict[str | None, dict[str, Bed]] = {}
    for source, pipeline in setup.pipelines.items():
        if setup.spec.split not in pipeline.directory.splits and source is not None:
            continue
        beds[source] = {
            part: setup.bed(pipeline, name)
            for part, name in wanted.items()
            if part == "test" or name in pipeline.directory.splits
        }
    bench = beds[None]["test"].bench
    steps = setup.interventions(bench.target, tuple(beds))
    search = ScoreSearch(beds, setup.base, steps, reported, setup.spec.notes, watch=watch)
    result = search.run()
    return result | {"remarks": [*result["remarks"], *setup.remarks, *bench.remarks]}
