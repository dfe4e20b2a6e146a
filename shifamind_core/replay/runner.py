"""Run recipes on chosen notes, and never the same note twice through the same model."""

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from shifamind_core import __version__
from shifamind_core.arrays import frozen
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.predict import cast, predict
from shifamind_core.inference.tokenization import ModelInput, Progress, cut, tokenize
from shifamind_core.inference.tokenizer import NoteTokenizer
from shifamind_core.precision.apply import applied
from shifamind_core.precision.observe import observe_environment
from shifamind_core.precision.policy import Attention, NumericFlags, PrecisionPolicy
from shifamind_core.records import to_json
from shifamind_core.replay.recipe import EditContext, OutputContext, Recipe
from shifamind_core.replay.reference_rows import RESOLVED, Rows, Target
from shifamind_core.runs.manifest import TokenizationRecord, digest_of
from shifamind_core.runs.room import make_room
from shifamind_core.runs.sealed import take_sealed, write_sealed

DRAWS = 8  # repetitions of a random recipe: enough for a mean, a variance and their spread
BATCH = 16  # notes a forward pass
Values = Float64[np.ndarray, "draws notes codes"]
Input = tuple[
    np.ndarray, int, int
]  # a note's ids, how many of its positions are attended to, its padded width


class Bench:
    """Gives the values that a recipe saves.

    A note's logits are kept under a digest of all that decides them (weights, edits and their seed, policy and
    observed flags, attention, machine and libraries; its ids, mask and width), in memory and, given a cache, on the
    disk. So what two recipes or two searches have in common is computed once: a note shorter than `max_length`, one
    without capitals, the notes that are screened again on confirming.
    """

    def __init__(
        self,
        pipelines: Mapping[str | None, Pipeline],
        target: Target,
        device: torch.device,
        cache: Path | None = None,
    ) -> None:
        self.pipelines = pipelines  # None is the run directory itself, the others are siblings by name
        self.target = target
        self.device = device
        self.context = OutputContext(target.turned_back)
        self.cache = cache
        self.notes_computed = 0
        self.tell: Progress = lambda message, done, total: None
        self.remarks: list[str] = []  # what of the cache was damaged and was computed again
        self._environment = observe_environment(device)
        self._flags: dict[tuple[PrecisionPolicy, Attention], NumericFlags] = {}
        self._models: dict[tuple[str | None, Attention], nn.Module] = {}
        self._tokenizers: dict[tuple[str | None, bool | None], NoteTokenizer] = {}
        self._ids: dict[str, dict[str, np.ndarray]] = {}  # by tokenizer, by text
        self._logits: dict[str, dict[bytes, np.ndarray]] = {}  # by model, by input
        self._glances: dict[str, dict[bytes, np.ndarray]] = {}  # likewise

    def values(self, recipe: Recipe, rows: Rows, draws: int = DRAWS, glance: bool = False) -> Values:
        """What the recipe saves for these notes: float64 [draws, notes, codes]; one draw where nothing is random.

        What a `glance` computes is kept apart: the notes are computed again with all others, in the batches that they
        would have been in without it, so that not a bit differs.
        """
        return self.finish(recipe, self.forward(recipe, rows, draws, glance))

    def changed(self, recipe: Recipe, other: Recipe, rows: Rows) -> Rows:
        """Those of the rows for which the model gets other tokens under the one recipe than under the other."""
        keys = [[_digest(one) for one in self._inputs(each, rows)] for each in (recipe, other)]
        return rows[[ours != theirs for ours, theirs in zip(*keys, strict=True)]]

    def missing(self, recipe: Recipe, rows: Rows) -> int:
        """For how many of these notes a draw of the recipe takes a forward pass; the cache is not asked."""
        known = self._logits.get(digest_of(self._deciding(recipe, 0)), {})
        return sum(_digest(one) not in known for one in self._inputs(recipe, rows))

    def finish(self, recipe: Recipe, values: Values) -> Values:
        """The recipe's changes of outputs, made to finished logits."""
        for output in recipe.outputs:
            values = output.apply(values, self.context)
        return values.clip(-RESOLVED, RESOLVED) if self.target.turned_back else values

    def forward(self, recipe: Recipe, rows: Rows, draws: int = DRAWS, glance: bool = False) -> Values:
        """The recipe's logits before any change of outputs."""
        inputs = self._inputs(recipe, rows)
        seeds = range(draws if recipe.random else 1)
        return np.stack([self._draw(recipe, inputs, seed, glance) for seed in seeds])

    def model(self, checkpoint: str | None = None, attention: Attention = "sdpa") -> nn.Module:
        """The checkpoint's model in FP32, on the device; of siblings only the last one used is kept."""
        key = (checkpoint, attention)
        if key not in self._models:
            for other in [k for k in self._models if k[0] not in (None, checkpoint)]:
                del self._models[other]
            self._models[key] = self.pipelines[checkpoint].model(attention).to(self.device)
        return self._models[key]

    def share(self, other: "Bench") -> None:
        """Take over what another bench over the same run directories and device has computed."""
        self._models, self._tokenizers, self._ids, self._logits, self._glances, self.remarks = (
            other._models, other._tokenizers, other._ids, other._logits, other._glances, other.remarks,
        )  # fmt: skip

    def _draw(
        self, recipe: Recipe, inputs: list[Input], seed: int, glance: bool
    ) -> Float64[np.ndarray, "notes codes"]:
        fields = self._deciding(recipe, seed)
        key = digest_of(fields)
        known = self._logits.setdefault(key, {})
        found = self._glances.setdefault(key, {}) | known if glance else known
        keys = [_digest(one) for one in inputs]
        missing = {key: one for key, one in zip(keys, inputs, strict=True) if key not in found}
        if missing:
            notes = digest_of(fields | {"notes": [key.hex() for key in missing]})
            logits = self._kept(notes)
            if logits is None:
                logits = self._run(recipe, list(missing.values()), seed)
                self._keep(notes, logits)
            found.update(zip(missing, logits, strict=True))
            if glance:
                self._glances[key] = found
        return np.stack([found[key] for key in keys])

    def _deciding(self, recipe: Recipe, seed: int) -> dict[str, Any]:
        """What decides a note's logits beside its input, as JSON."""
        pipeline = self.pipelines[recipe.checkpoint]
        return {
            "version": __version__,
            "weights": pipeline.checkpoint.record.weights_digest,
            "config": pipeline.directory_config_digest,
            "policy": to_json(recipe.policy),
            "flags": to_json(self._observed(recipe)),
            "attention": recipe.attention,
            "edits": [edit.name for edit in recipe.edits],
            "seed": seed if recipe.random else None,
            "embeddings": self._embeddings_digest(pipeline) if recipe.edits else None,
            "environment": to_json(self._environment),
            "codes": list(self.target.codes),
        }

    def _observed(self, recipe: Recipe) -> NumericFlags:
        key = (recipe.policy, recipe.attention)
        if key not in self._flags:
            with applied(recipe.policy, self.device, recipe.attention) as flags:
                self._flags[key] = flags
        return self._flags[key]

    @staticmethod
    def _embeddings_digest(pipeline: Pipeline) -> str:
        parts = pipeline.concept_embeddings.items()
        return digest_of({name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in parts})

    def _kept(self, key: str) -> np.ndarray | None:
        if self.cache is None:
            return None
        arrays, remarks = take_sealed(self.cache / "trials" / f"{key}.safetensors", key)
        self.remarks += remarks
        return None if arrays is None else arrays["logits"]

    def _keep(self, key: str, logits: np.ndarray) -> None:
        if self.cache is not None:
            make_room(self.cache, logits.nbytes)
            write_sealed(self.cache / "trials" / f"{key}.safetensors", key, {"logits": logits})

    def _run(self, recipe: Recipe, inputs: list[Input], seed: int) -> Float64[np.ndarray, "notes codes"]:
        self.notes_computed += len(inputs)
        pipeline = self.pipelines[recipe.checkpoint]
        model = self._edited(recipe, pipeline, seed)
        codes = pipeline.checkpoint.codes or self.target.codes
        values = np.empty((len(inputs), len(codes)))
        pad = self._tokenizer(recipe).pad_id
        with torch.random.fork_rng(), applied(recipe.policy, self.device, recipe.attention):
            torch.manual_seed(seed)
            model = cast(model, recipe.policy, self.device)
            widths = np.array([width for _, _, width in inputs])
            seen = 0
            for width in np.unique(widths):
                group = np.flatnonzero(widths == width)
                notes = _batch([inputs[i] for i in group], int(width), pad)
                values[group] = predict(
                    model, notes, recipe.policy, self.device, BATCH, self._counting(len(inputs), seen)
                ).logits
                seen += len(group)
        return frozen(values[:, [codes.index(code) for code in self.target.codes]])

    def _counting(self, total: int, before: int) -> Progress:
        """Progress of a pass over some of `total` notes, of which so many were done `before`."""
        return lambda message, done, _: self.tell(message, before + done, total)

    def _edited(self, recipe: Recipe, pipeline: Pipeline, seed: int) -> nn.Module:
        model = self.model(recipe.checkpoint, recipe.attention)
        if not recipe.edits:
            return model
        # On the CPU, so that one seed gives the same weights on every machine.
        model = copy.deepcopy(model).cpu()
        context = EditContext(torch.Generator().manual_seed(seed), pipeline.concept_embeddings)
        for edit in recipe.edits:
            edit.apply(model, context)
        return model.to(self.device)

    def _inputs(self, recipe: Recipe, rows: Rows) -> list[Input]:
        """What the model gets for each note: its ids, attended positions, and the width of its batch."""
        places = self.target.places[recipe.notes]
        tokenization = recipe.tokenization
        if tokenization.padding == "max_length":
            company = [np.array([place]) for place in places.index[rows]]
        else:
            company = [places.company(row, recipe.batch_size, recipe.batch_order) for row in rows.tolist()]
        wanted = np.unique(np.concatenate([*company, places.index[rows]])).tolist()
        notes = self._notes(recipe, [places.texts[place] for place in wanted])
        cut_to = dict(zip(wanted, notes, strict=True))
        inputs = []
        for place, mates in zip(places.index[rows].tolist(), company, strict=True):
            ids = cut_to[place]
            if not len(ids):
                raise ShifamindError("a note has no tokens at all.")
            longest = max(len(cut_to[mate]) for mate in mates.tolist())
            width = tokenization.max_length if tokenization.padding == "max_length" else longest
            inputs.append((ids, width if recipe.mask == "ones" else len(ids), width))
        return inputs

    def _notes(self, recipe: Recipe, texts: list[str]) -> list[np.ndarray]:
        """Ids of each note as the model gets them, without padding."""
        tokenizer = self._tokenizer(recipe)
        if recipe.rewriting is not None:
            texts = [recipe.rewriting.apply(text) for text in texts]
        known = self._ids.setdefault(tokenizer.digest, {})
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            tokens = tokenize(missing, tokenizer, self.tell)
            bounds = zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)
            known.update(zip(missing, (tokens.flat[a:b] for a, b in bounds), strict=True))
        room = recipe.tokenization.room
        whole = [_without_middle(known[text], recipe.head, room) for text in texts]
        return [cut(ids, tokenizer, recipe.tokenization) for ids in whole]

    def _tokenizer(self, recipe: Recipe) -> NoteTokenizer:
        pipeline, lowercase = self.pipelines[recipe.checkpoint], recipe.tokenization.lowercase
        key = (recipe.checkpoint, lowercase)
        if key not in self._tokenizers:
            self._tokenizers[key] = pipeline.tokenizer(lowercase)
        return self._tokenizers[key]


def _without_middle(ids: np.ndarray, head: int | None, room: int) -> np.ndarray:
    """A note's ids: of one that is too long, `head` tokens from its beginning and as many from its end as there is room."""
    if head is None or len(ids) <= room or head >= room:
        return ids
    return np.concatenate((ids[:head], ids[head - room :]))


def _batch(inputs: list[Input], width: int, pad: int) -> ModelInput:
    ids = np.full((len(inputs), width), pad, np.int32)
    for row, (note, _, _) in zip(ids, inputs, strict=True):
        row[: len(note)] = note
    nothing = np.zeros(len(inputs), np.int64)
    return ModelInput(
        ids=frozen(ids),
        lengths=frozen(np.array([attended for _, attended, _ in inputs], np.int32)),
        token_counts=nothing.astype(np.int32),
        token_digests=nothing,
        document_ids=nothing,
        record=TokenizationRecord(),
        longest=False,
    )


def _digest(one: Input) -> bytes:
    ids, attended, width = one
    return hashlib.blake2b(f"{attended} {width} ".encode() + ids.tobytes(), digest_size=16).digest()
