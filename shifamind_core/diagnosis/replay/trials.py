"""Run recipes on a few notes and measure how much of the other run's difference each explains."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import nn

from shifamind_core.arrays import frozen
from shifamind_core.artifacts.splits import Split
from shifamind_core.diagnosis.replay.recipe import EditContext, OutputContext, Recipe
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.pipeline import Pipeline
from shifamind_core.inference.predict import predict
from shifamind_core.inference.tokenization import ModelInput, NoteTokens, load_tokenizer, tokenize
from shifamind_core.precision.apply import applied
from shifamind_core.precision.environment import observe_environment
from shifamind_core.precision.policy import Attention
from shifamind_core.runs.manifest import digest_of
from shifamind_core.runs.run import Run

SEEDS = 6  # repetitions of a random recipe: enough for a mean, a variance and their spread
Rows = Int64[np.ndarray, " notes"]
Values = Float64[np.ndarray, "draws notes codes"]


@dataclass(frozen=True, eq=False)
class Target:
    """The other run, in this side's terms.

    Attributes
    ----------
    values : float64 [notes, codes]
        All its rows, columns in the order of the local codes.
    texts : tuple of str or None
        The note of each row, where it is known here.
    batch_size : int, optional
        As its manifest says.
    """

    values: Float64[np.ndarray, "notes codes"]
    texts: tuple[str | None, ...]
    codes: tuple[str, ...]
    from_probabilities: bool
    batch_size: int | None
    remarks: tuple[str, ...]

    @cached_property
    def known(self) -> Rows:
        """Rows whose note is here and whose values are finite."""
        finite = np.isfinite(self.values).all(axis=1)
        return np.flatnonzero(finite & np.array([text is not None for text in self.texts]))

    def choose(self, count: int) -> Rows:
        """Rows that separate the hypotheses: every length from short to long, upper and lower case alike.

        Sorted by length, every stretch gives its note with most and its note with least capitals in turn.
        """
        if len(self.known) <= count:
            return self.known
        texts = [self.texts[row] or "" for row in self.known]
        by_length = np.argsort([len(text) for text in texts], kind="stable")
        capitals = np.array([sum(map(str.isupper, text)) / max(len(text), 1) for text in texts])
        chosen = []
        for index, stretch in enumerate(np.array_split(by_length, count)):
            pick = np.argmax if index % 2 else np.argmin
            chosen.append(self.known[stretch[pick(capitals[stretch])]])
        return np.sort(np.array(chosen))


def target_of(reference: Run, splits: Mapping[str, Split], codes: tuple[str, ...]) -> Target:
    """Find the reference's notes among the splits (by document id; by position where it has none).

    Raises
    ------
    ShifamindError
        Other codes, or none of its notes is here.
    """
    remarks: list[str] = []
    columns = _columns(reference, codes, remarks)
    if reference.document_ids is not None:
        here = {
            int(identifier): text
            for split in splits.values()
            for identifier, text in zip(split.document_ids, split.texts, strict=True)
        }
        texts = tuple(here.get(int(identifier)) for identifier in reference.document_ids)
    else:
        split = next((split for split in splits.values() if len(split.texts) == reference.documents), None)
        if split is None:
            sizes = ", ".join(str(len(split.texts)) for split in splits.values())
            raise ShifamindError(
                f"{reference.name} has {reference.documents} notes without document ids, the split here has {sizes}. "
                "Without ids both must be the same notes in the same order."
            )
        texts = split.texts
        remarks.append(
            "The reference has no document ids: its rows are taken as the split's notes, in order."
        )
    target = Target(
        values=frozen(reference.logits[:, columns].astype(np.float64)),
        texts=texts,
        codes=codes,
        from_probabilities=bool(reference.manifest.logits_from_probabilities),
        batch_size=reference.manifest.batch_size,
        remarks=tuple(remarks),
    )
    if not len(target.known):
        raise ShifamindError(
            f"None of the {reference.documents} notes of {reference.name} is in this run directory's split. "
            "Give the split that the reference was computed on, or the sibling run directory that holds it."
        )
    return target


def _columns(reference: Run, codes: tuple[str, ...], remarks: list[str]) -> np.ndarray:
    if reference.codes is None:
        if reference.logits.shape[1] != len(codes):
            raise ShifamindError(
                f"{reference.name} has {reference.logits.shape[1]} unnamed columns, the checkpoint {len(codes)} codes."
            )
        remarks.append("The reference does not name its codes: they are taken in the checkpoint's order.")
        return np.arange(len(codes))
    missing = [code for code in codes if code not in reference.codes]
    if missing:
        raise ShifamindError(
            f"{reference.name} lacks {len(missing)} codes of the checkpoint, first {missing[0]!r}."
        )
    return np.array([reference.codes.index(code) for code in codes])


class Bench:
    """Runs recipes over chosen notes; tokens, models and values are kept, in memory and by digest in the cache."""

    def __init__(
        self,
        pipelines: Mapping[str | None, Pipeline],
        target: Target,
        device: torch.device,
        counts: dict[str, int],
        cache: Path | None = None,
    ) -> None:
        self.pipelines = pipelines  # None is the run directory itself, the others are siblings by name
        self.target = target
        self.device = device
        self.context = OutputContext(target.codes, counts)
        self.cache = cache
        self.forward_passes = 0
        self._environment = observe_environment(device)
        self._models: dict[tuple[str | None, Attention], nn.Module] = {}
        self._tokens: dict[tuple[str | None, bool | None, bytes], NoteTokens] = {}
        self._values: dict[str, Values] = {}

    def values(self, recipe: Recipe, rows: Rows) -> Values:
        """What the recipe saves for these notes: float64 [draws, notes, codes]; one draw where nothing is random."""
        values = self._forward(recipe, rows)
        for output in recipe.outputs:
            values = output.apply(values, self.context)
        return values

    def model(self, checkpoint: str | None = None, attention: Attention = "sdpa") -> nn.Module:
        """The checkpoint's model in FP32, built once."""
        key = (checkpoint, attention)
        if key not in self._models:
            self._models[key] = self.pipelines[checkpoint].model(attention).to(self.device)
        return self._models[key]

    def _forward(self, recipe: Recipe, rows: Rows) -> Values:
        key = self._key(recipe, rows)
        if key not in self._values:
            self._values[key] = self._cached(key, lambda: self._run(recipe, rows))
        return self._values[key]

    def _key(self, recipe: Recipe, rows: Rows) -> str:
        pipeline = self.pipelines[recipe.checkpoint]
        fields = recipe.forward_key() | {
            "weights": pipeline.checkpoint.record.weights_digest,
            "config": pipeline.directory_config_digest,
            "tokenizer": self._tokenizer(recipe).digest,
            "notes": digest_of([self._text(row) for row in rows.tolist()]),
            "widths": digest_of(self._widths(recipe, rows).tolist()),
            "environment": vars(self._environment),
            "seeds": SEEDS if recipe.random else 1,
            "codes": list(self.target.codes),
        }
        return digest_of(fields)

    def _cached(self, key: str, compute: Callable[[], Values]) -> Values:
        if self.cache is None:
            return compute()
        path = self.cache / "trials" / f"{key}.npy"
        if path.is_file():
            return np.load(path, allow_pickle=False)
        values = compute()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".tmp.npy")
        np.save(temporary, values)
        temporary.replace(path)
        return values

    def _run(self, recipe: Recipe, rows: Rows) -> Values:
        self.forward_passes += 1
        pipeline = self.pipelines[recipe.checkpoint]
        base = self.model(recipe.checkpoint, recipe.attention)
        seeds = range(SEEDS) if recipe.random else range(1)
        draws = [self._draw(recipe, rows, base, pipeline, seed) for seed in seeds]
        values = np.stack(draws)
        order = [self._codes_of(pipeline).index(code) for code in self.target.codes]
        return frozen(values[:, :, order])

    def _draw(self, recipe: Recipe, rows: Rows, base: nn.Module, pipeline: Pipeline, seed: int) -> np.ndarray:
        model = base
        if recipe.edits:
            model = copy.deepcopy(base).cpu()
            context = EditContext(
                torch.Generator().manual_seed(seed), pipeline.directory.concept_embeddings()
            )
            for edit in recipe.edits:
                edit.apply(model, context)
            model = model.to(self.device)
        values = np.empty((len(rows), len(self.target.codes)))
        with torch.random.fork_rng(), applied(recipe.policy, self.device, recipe.attention):
            torch.manual_seed(seed)
            for group, notes in self._groups(recipe, rows):
                prediction = predict(model, notes, recipe.policy, self.device, recipe.batch_size)
                values[group] = prediction.logits
        return values

    def _groups(self, recipe: Recipe, rows: Rows) -> list[tuple[np.ndarray, ModelInput]]:
        """The notes in groups of equal width: each is padded as in its own batch of the whole run."""
        prepared = self._notes(recipe, rows).prepare(replace(recipe.tokenization, padding="max_length"))
        widths = self._widths(recipe, rows)
        groups = []
        for width in np.unique(widths):
            group = np.flatnonzero(widths == width)
            lengths = prepared.lengths[group]
            if recipe.mask == "ones":
                lengths = np.full_like(lengths, width)
            part = replace(
                prepared,
                ids=frozen(prepared.ids[group, :width]),
                lengths=lengths,
                token_counts=prepared.token_counts[group],
                token_digests=prepared.token_digests[group],
                document_ids=prepared.document_ids[group],
                longest=False,
            )
            groups.append((group, part))
        return groups

    def _widths(self, recipe: Recipe, rows: Rows) -> np.ndarray:
        """How wide each note's batch is, padding included: int64 [notes]."""
        if recipe.tokenization.padding == "max_length":
            return np.full(len(rows), recipe.tokenization.max_length)
        size = self.target.batch_size or recipe.batch_size
        batches = [
            range(row // size * size, min((row // size + 1) * size, len(self.target.texts))) for row in rows
        ]
        mates = np.array(
            sorted({mate for batch in batches for mate in batch if self.target.texts[mate] is not None})
        )
        tokens = self._notes(recipe, mates)
        lengths = {int(mate): len(tokens.note(i, recipe.tokenization)) for i, mate in enumerate(mates)}
        return np.array([max(lengths.get(mate, 0) for mate in batch) for batch in batches])

    def _notes(self, recipe: Recipe, rows: Rows) -> NoteTokens:
        key = (recipe.checkpoint, recipe.tokenization.lowercase, rows.tobytes())
        if key not in self._tokens:
            texts = [self._text(row) for row in rows.tolist()]
            self._tokens[key] = tokenize(texts, self._tokenizer(recipe), self.cache)
        return self._tokens[key]

    def _tokenizer(self, recipe: Recipe) -> Any:
        return load_tokenizer(self.pipelines[recipe.checkpoint].base_model, recipe.tokenization.lowercase)

    def _text(self, row: int) -> str:
        text = self.target.texts[row]
        assert text is not None, "rows are chosen among those whose note is known"
        return text

    def _codes_of(self, pipeline: Pipeline) -> tuple[str, ...]:
        return pipeline.checkpoint.codes or self.target.codes


@dataclass(frozen=True, eq=False)
class Fit:
    """How near values come to the target on some notes.

    Attributes
    ----------
    explained : float
        Share of the squared difference between base and target that is gone, 0 to 1. For random recipes the
        variance between draws counts as explained, and only where the target looks like one more draw.
    max_abs_residual, rms_residual : float
        Of target − values (of their mean over draws).
    document_order : str, optional
        How the target's rows had to be moved for this, if they had to be.
    """

    explained: float
    max_abs_residual: float
    rms_residual: float
    document_order: str | None = None


def fit(values: Values, target: Target, rows: Rows, base_squares: float, reorder: bool = True) -> Fit:
    """Measure values [draws, notes, codes] against the target's rows; rows are matched anew where that helps."""
    wanted = target.values[rows]
    direct = _fit(values, wanted, base_squares)
    if not reorder or direct.explained > 0.9 or len(rows) < 8:
        return direct
    order = match_rows(values.mean(axis=0), target.values, rows)
    if order is None:
        return direct
    moved, name = order
    matched = _fit(values, target.values[moved], base_squares)
    return replace(matched, document_order=name) if matched.explained > direct.explained + 0.1 else direct


def _fit(values: Values, wanted: Float64[np.ndarray, "notes codes"], base_squares: float) -> Fit:
    mean = values.mean(axis=0)
    residual = wanted - mean
    squares = float((residual**2).sum())
    if len(values) > 1:
        noise = float(values.var(axis=0, ddof=1).sum()) * (1 + 1 / len(values))
        squares = abs(squares - noise) if _like_a_draw(values, wanted) else squares
    explained = 1.0 if base_squares == 0 and squares == 0 else 1 - squares / max(base_squares, 1e-300)
    return Fit(
        float(np.clip(explained, 0, 1)), float(np.abs(residual).max()), float(np.sqrt((residual**2).mean()))
    )


def _like_a_draw(values: Values, wanted: Float64[np.ndarray, "notes codes"]) -> bool:
    """Is `wanted` one more draw of the same random recipe? Its statistics must lie where those of the draws lie.

    Each draw is held against the others, as `wanted` is held against all: the typical size of a cell's deviation in
    units of the draws' spread, how that size follows the spread from cell to cell, how it varies between notes, and how
    far the note-by-note geometry agrees.
    """
    others = [_draw_statistics(np.delete(values, i, axis=0), values[i]) for i in range(len(values))]
    mean, spread = np.mean(others, axis=0), np.std(others, axis=0, ddof=1)
    deviation = np.abs(_draw_statistics(values, wanted) - mean)
    # Few draws know their own spread badly, hence the floor beside the factor.
    return bool((deviation <= 4 * spread + np.array([0.1, 0.1, 0.1, 0.1])).all())


def _draw_statistics(values: Values, one: Float64[np.ndarray, "notes codes"]) -> np.ndarray:
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
    # Cells share information: a spread from few draws is drawn towards that of its code.
    spread = np.sqrt((spread**2 + spread.mean(axis=0) ** 2) / 2) + 1e-12
    deviation = one - mean
    size = np.log(np.abs(deviation) / spread + 1e-6)
    by_note = np.sqrt((deviation**2).mean(axis=1))
    return np.array(
        [
            np.median(size),
            _correlation(np.log(np.abs(deviation) + 1e-9), np.log(spread)),
            by_note.std() / (by_note.mean() + 1e-12),
            _correlation(_geometry(one), np.mean([_geometry(draw) for draw in values], axis=0)),
        ]
    )


def _geometry(values: Float64[np.ndarray, "notes codes"]) -> np.ndarray:
    """Products between notes of centred, unit-length code columns: what a random readout keeps of the features."""
    centred = values - values.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=0) + 1e-12
    return (centred @ centred.T)[np.triu_indices(len(values), 1)]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.ravel() - one.mean(), other.ravel() - other.mean()
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-300))


def match_rows(
    mean: Float64[np.ndarray, "notes codes"], every: Float64[np.ndarray, "all codes"], rows: Rows
) -> tuple[Rows, str] | None:
    """The target's row nearest to each note, if the notes find rows of their own and mostly not those of their place."""
    finite = np.flatnonzero(np.isfinite(every).all(axis=1))
    if len(finite) < 2:
        return None
    pool = every[finite]
    squares = (mean**2).sum(axis=1)[:, None] + (pool**2).sum(axis=1) - 2 * mean @ pool.T  # [notes, all]
    first, second = np.partition(squares, 1, axis=1)[:, :2].clip(min=1e-12).T
    moved = finite[squares.argmin(axis=1)]
    own = len(np.unique(moved)) / len(rows)
    if own < 0.9 or np.median(first / second) > 0.7 or (moved == rows).mean() > 0.9:
        return None
    return moved, _order_name(rows, moved, len(every))


def _order_name(rows: Rows, moved: Rows, total: int) -> str:
    shift = moved - rows
    if (moved == total - 1 - rows).mean() > 0.9:
        return "document_order=reversed"
    shifts, counts = np.unique(shift[shift != 0], return_counts=True)
    if counts.max(initial=0) > 0.9 * (shift != 0).sum():
        start = rows[shift != 0].min()
        where = "" if (shift != 0).all() else f"_from_row_{start + 1}"
        return f"document_order=shifted_by_{shifts[counts.argmax()]}{where}"
    return "document_order=permuted"
