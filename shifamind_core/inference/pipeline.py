"""From a run directory to a run: checkpoint, notes, policy, cache. Everything that decides the logits is named here."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from shifamind_core import __version__
from shifamind_core.artifacts.odd_texts import about_texts
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.artifacts.splits import Split
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.group import ALONE, Group
from shifamind_core.inference.outcome import Computed, Outcome
from shifamind_core.inference.predict import Prediction, predict
from shifamind_core.inference.reading import Arriving, Beginning, Reading
from shifamind_core.inference.tokenization import (
    ModelInput,
    NoteTokens,
    Progress,
    Tokenization,
    check_positions,
    forget_tokens,
    tokenization_record,
    tokenize,
)
from shifamind_core.inference.tokenizer import NoteTokenizer, check_vocabulary, load_tokenizer
from shifamind_core.model.base_weights import base_model_digests
from shifamind_core.model.build import (
    architecture_of_checkpoint,
    attention_of,
    build_model,
    empty_model,
    positions_of,
    words_of,
)
from shifamind_core.model.checkpoint import Checkpoint, read_checkpoint
from shifamind_core.precision.apply import applied, check_honoured, resolve_device
from shifamind_core.precision.environment import Environment
from shifamind_core.precision.observe import observe_environment
from shifamind_core.precision.policy import POLICIES, Attention, NumericFlags, PrecisionPolicy
from shifamind_core.records import to_json
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.manifest import Manifest, PolicyRecord, TokenizationRecord, digest_of
from shifamind_core.runs.run import Run

# What decides the logits of one note, of the libraries and machine. Times, paths and pandas do not.
DECIDING_ENVIRONMENT = (
    "device", "cpu", "gpu", "compute_capability", "multiprocessors", "driver", "cuda", "cudnn", "torch", "transformers",
)  # fmt: skip

SEED_TOKENIZATION = Tokenization()


@dataclass(frozen=True)
class Setting:
    """How a split is scored. The defaults are the seed's: 512 tokens, padded to them, 16 notes a batch."""

    policy: PrecisionPolicy = POLICIES["fp32"]
    tokenization: Tokenization = SEED_TOKENIZATION
    attention: Attention = "sdpa"
    batch_size: int = 16
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ShifamindError(f"The batch size is {self.batch_size}; it must be at least 1.")
        if self.policy.fixed_padding and self.tokenization.padding != "max_length":
            raise ShifamindError(
                f"{self.policy.name} needs padding to max_length: with padding to the longest note, the logits of one "
                "note may depend on its company."
            )


Conditions = Callable[[TokenizationRecord, int], dict[str, Any]]  # by tokenization and batch size


class Pipeline:
    """A run directory made ready: checkpoint and model are read once, tokens and splits when first needed."""

    def __init__(
        self,
        directory: RunDirectory,
        base_model: Path | None = None,
        cache: Path | None = None,
        weights: str | None = None,
    ) -> None:
        self.directory = directory
        self.weights = weights  # which, of a file that holds several
        self._base_model = base_model
        self.cache = cache
        self._splits: dict[str, Split] = {}
        self._tokens: dict[tuple[tuple[str, ...], bool | None], NoteTokens] = {}
        if cache is not None:
            forget_tokens(cache)

    @cached_property
    def base_model(self) -> Path:
        """The folder with the base model's configuration and vocabulary."""
        return self.directory.base_model(self._base_model)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint, with its codes' names where it or its configuration has them."""
        found = read_checkpoint(self.directory.checkpoint, self.weights)
        if found.codes is None and (named := architecture_of_checkpoint(found).codes(self.base_model)):
            if len(named) != found.code_count:
                raise ShifamindError(
                    f"config.json in {self.base_model} names {len(named)} labels, but {found.path.name} scores {found.code_count}. "
                    "Use files of one and the same model."
                )
            found = replace(found, codes=named)
        return found

    @cached_property
    def _base_model_digests(self) -> Future[dict[str, str] | None]:
        """Digests of the base model's own encoder, taken beside whatever is done meanwhile."""
        beside = ThreadPoolExecutor(1)
        digests = beside.submit(base_model_digests, self.base_model, self.checkpoint.path)
        beside.shutdown(wait=False)
        return digests

    @cached_property
    def outline(self) -> nn.Module:
        """The model without its weights, which tells what it takes and how."""
        return empty_model(self.checkpoint, self.base_model)

    @property
    def positions(self) -> int | None:
        """How many tokens of a note the model takes; `None` where nothing limits them."""
        return positions_of(self.outline)

    @cached_property
    def concept_embeddings(self) -> dict[str, np.ndarray]:
        """Concept embeddings kept outside the state dict, float32 [concepts, hidden] by where they lie."""
        beside = self.checkpoint.concept_embeddings
        found = {
            "concept_embeddings.npy": self.directory.concept_embeddings(),
            "the checkpoint file": None if beside is None else beside.float().numpy(),
        }
        return {where: array for where, array in found.items() if array is not None}

    def model(self, attention: Attention = "sdpa", own_weights: bool = True) -> nn.Module:
        """A fresh model in FP32 on the CPU, in eval mode; with the checkpoint's weights themselves for who leaves them alone."""
        return build_model(self.checkpoint, self.base_model, attention, own_weights)

    def split(self, name: str) -> Split:
        """The split of that name, read once, its labels in the order of the checkpoint's codes."""
        if name not in self._splits:
            self._splits[name] = self._fitting(self.directory.read_split(name))
        return self._splits[name]

    def _fitting(self, split: Split) -> Split:
        codes = self.checkpoint.codes or split.codes
        split = split.with_codes(codes) if codes else split
        if split.labels.shape[1] != self.checkpoint.code_count:
            raise ShifamindError(
                f"The {split.name} split has labels for {split.labels.shape[1]} codes, the checkpoint scores "
                f"{self.checkpoint.code_count}. Use files of one and the same run."
            )
        reason = architecture_of_checkpoint(self.checkpoint).unfit(self.base_model, split.labels)
        if reason is not None:
            raise ShifamindError(reason)
        return split

    def check_length(self, tokenization: Tokenization) -> None:
        """Refuse a length beyond the model's positions before any note is read.

        Padded to the longest note, notes may all be shorter than they were allowed to be; then only they can tell.
        """
        if tokenization.padding == "max_length" and self.positions is not None:
            check_positions(tokenization.max_length, self.positions)

    def tokenizer(self, lowercase: bool | None = None) -> NoteTokenizer:
        """The base model's tokenizer under this casing, whose every token the model has a row for."""
        return self._fitting_tokenizer(load_tokenizer(self.base_model, lowercase))

    def _fitting_tokenizer(self, tokenizer: NoteTokenizer) -> NoteTokenizer:
        if (rows := words_of(self.outline)) is not None:
            check_vocabulary(tokenizer, rows, self.base_model, self.checkpoint.path.name)
        return tokenizer

    def tokens(
        self,
        split: Split,
        lowercase: bool | None,
        progress: Progress | None = None,
        group: Group = ALONE,
    ) -> NoteTokens:
        """The split's notes, tokenized whole under this casing, once for all that is done with them."""
        key = split.texts, lowercase
        if key not in self._tokens:
            self._tokens[key] = tokenize(split.texts, self.tokenizer(lowercase), progress, group)
        return self._tokens[key]

    def score(
        self,
        split_name: str,
        setting: Setting,
        limit: int | None = None,
        progress: Progress | None = None,
        group: Group = ALONE,
    ) -> Outcome:
        """Score the first `limit` notes of a split (all where `None`).

        The cache answers with logits, and with how they were computed; whatever else a run says is that of this run
        directory, this split and this request.

        Raises
        ------
        DoneElsewhere
            In a process that is not the first of its `group`.
        """
        device = resolve_device(group.device(setting.device))
        check_honoured(setting.policy, device)
        environment = observe_environment(device)
        cache = RunCache(self.cache) if self.cache is not None and group.is_first else None
        with self._reading(split_name, setting.tokenization, limit, progress, group) as reading:
            self.check_length(setting.tokenization)
            setting = replace(setting, attention=attention_of(self.outline, setting.attention))
            _ = self._base_model_digests  # begun here, asked for when all is scored
            with applied(setting.policy, device, setting.attention) as flags:
                conditions = partial(self._conditions, setting, flags, environment)
                scorer = _Scorer(self, setting, device, progress, group)
                prediction = arrived = None
                if reading is not None:
                    prediction, arrived = self._arrived(
                        split_name, setting, reading, scorer, cache, conditions
                    )
                whole = self.split(split_name)
                split = _first(whole, limit)
                tokens = self.tokens(split, setting.tokenization.lowercase, progress, group)
                notes = tokens.prepare(setting.tokenization, arrived)
                fields = self._key_fields(conditions, notes, setting.batch_size)
                mixed = _require_same(group, fields)
                found, remarks = cache.find(digest_of(fields)) if cache is not None else (None, ())
                if group.most(found is not None):
                    group.leave_to_first()
                computed = Computed.of(found) if found is not None else None
                if computed is None:
                    prediction = prediction or scorer.scored(notes)
                    group.leave_to_first()
                    computed = Computed.now(prediction, environment)
        fields = self._key_fields(conditions, notes, computed.batch_size)
        run = Run(
            logits=computed.logits,
            name=" · ".join(filter(None, (split_name, setting.policy.name, _casing(notes), self.weights))),
            codes=split.codes,
            labels=split.labels,
            document_ids=notes.document_ids,
            token_digests=notes.token_digests,
            token_counts=notes.token_counts,
            concept_scores=computed.concept_scores,
            manifest=self._manifest(setting, flags, notes, computed, whole, split, fields),
        )
        if cache is not None:
            cache.store(run, digest_of(fields), fields, self.directory.path)
        return Outcome(run, found is not None, mixed + remarks)

    def _arrived(
        self,
        split_name: str,
        setting: Setting,
        reading: Reading,
        scorer: "_Scorer",
        cache: RunCache | None,
        conditions: Conditions,
    ) -> tuple[Prediction | None, Arriving | None]:
        """Keep what was read; what was scored meanwhile, unless the cache may know it, and the rows that were filled, if any."""
        _ = scorer.model  # built while the split is read
        beginning = self._take(split_name, reading)
        asked = conditions(tokenization_record(beginning.tokenizer, setting.tokenization), setting.batch_size)
        unknown = cache is None or not cache.may_answer(asked)
        prediction = reading.while_arriving(scorer.scored) if unknown else None
        self._tokens[beginning.split.texts, setting.tokenization.lowercase] = reading.tokens()
        return prediction, beginning.arriving

    def _key_fields(self, conditions: Conditions, notes: ModelInput, batch_size: int) -> dict[str, Any]:
        """What decides the logits: the configuration, the notes' tokens, and this program's own version."""
        weights = self.checkpoint.record.weights_digest
        own = {"weights": weights, "tokens": notes.digest, "version": __version__}
        return conditions(notes.record, batch_size) | own

    def _reading(
        self,
        split: str,
        tokenization: Tokenization,
        limit: int | None,
        progress: Progress | None,
        group: Group,
    ) -> AbstractContextManager[Reading | None]:
        """The split, read and tokenized while the checkpoint is read and its model built; nothing where it was read before."""
        if split in self._splits:
            return nullcontext()
        return Reading(self.directory, lambda: self.base_model, split, tokenization, limit, progress, group)

    def _take(self, split: str, reading: Reading) -> Beginning:
        """What was read, once it is there, and fits the checkpoint."""
        found = reading.beginning()
        self._splits[split] = self._fitting(found.whole)
        self._fitting_tokenizer(found.tokenizer)
        return found

    def _conditions(
        self,
        setting: Setting,
        flags: NumericFlags,
        environment: Environment,
        tokenization: TokenizationRecord,
        batch_size: int,
    ) -> dict[str, Any]:
        """What decides the logits of given weights and notes."""
        record = to_json(tokenization)
        # How casing came about does not matter, only what it is.
        record.pop("lowercase_requested", None)
        return {
            "architecture": self.checkpoint.architecture,
            "tokenization": record,
            "policy": to_json(setting.policy),
            "flags": to_json(flags),
            "batch_size": batch_size,
            "environment": {name: getattr(environment, name) for name in DECIDING_ENVIRONMENT},
            "base_model": self.directory_config_digest,
        }

    @cached_property
    def directory_config_digest(self) -> str:
        """SHA-256 of the base model's config.json: activation, head count and epsilon are no part of the weights."""
        return digest_of((self.base_model / "config.json").read_text())

    def _manifest(
        self,
        setting: Setting,
        flags: NumericFlags,
        notes: ModelInput,
        computed: Computed,
        whole: Split,
        scored: Split,
        fields: dict[str, Any],
    ) -> Manifest:
        configuration = {name: value for name, value in fields.items() if name not in ("tokens", "version")}
        return Manifest(
            producer=computed.producer,
            created_at_utc=computed.created_at_utc,
            run_directory=self.directory.name,
            split=whole.name,
            documents_of=len(whole),
            checkpoint=replace(self.checkpoint.record, base_model_digests=self._base_model_digests.result()),
            tokenization=notes.record,
            policy=PolicyRecord.of(setting.policy),
            flags=flags,
            environment=computed.environment,
            batch_size=computed.batch_size,
            batch_size_requested=setting.batch_size,
            duration_seconds=computed.duration_seconds,
            logits_from_probabilities=False,
            cache_key=digest_of(fields),
            configuration_digest=digest_of(configuration),
            notes=(*computed.notes, *about_texts(scored.texts)),
        )


class _Scorer:
    """Scores notes under one setting, with a model that is built once, when it is first needed."""

    def __init__(
        self,
        pipeline: Pipeline,
        setting: Setting,
        device: torch.device,
        progress: Progress | None,
        group: Group,
    ) -> None:
        self._pipeline, self._setting, self._device = pipeline, setting, device
        self._progress, self._group = progress, group

    @cached_property
    def model(self) -> nn.Module:
        return self._pipeline.model(self._setting.attention, own_weights=False)

    def scored(self, notes: ModelInput | Arriving) -> Prediction:
        if self._progress:
            self._progress("Scoring", 0, len(notes))
        given = self._setting.policy, self._device, self._setting.batch_size, self._progress, self._group
        return predict(self.model, notes, *given)


def _first(split: Split, limit: int | None) -> Split:
    return split if limit is None else split.head(limit)


def _require_same(group: Group, fields: dict[str, Any]) -> tuple[str, ...]:
    """Refuse processes that are not to score a split together; under `bitwise` say where machines differ, which they may."""
    machine = {f"environment ({name})": value for name, value in fields["environment"].items()}
    machine["precision switches or threads"] = fields["flags"]
    group.require_same(
        {name: value for name, value in fields.items() if name not in ("environment", "flags")}
    )
    if not fields["policy"]["bitwise"]:
        group.require_same(machine)
    if group.difference(machine) is None:
        return ()
    return (f"Scored by {group.size} processes on machines that differ, which decides no bit under bitwise.",)


def _casing(notes: ModelInput) -> str:
    return "lower-cased" if notes.record.lowercase else "cased"
