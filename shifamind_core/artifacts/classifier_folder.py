"""A folder that Hugging Face's `save_pretrained` wrote: its configuration, weights, tokenizer and label names. Needs no torch."""

import re
from pathlib import Path

import numpy as np

from shifamind_core.artifacts.json_file import read_json_object
from shifamind_core.errors import ShifamindError

PLACES = (".", "model")  # of the model, seen from its run directory
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
CHECKPOINTS = (".ckpt", ".pt", ".pth")  # that training scripts leave beside a configuration
ADAPTER = "adapter_config.json"
SHARDED = tuple(f"{name}.index.json" for name in WEIGHTS)
FEWEST = 5  # notes that may all have one label by chance
UNNAMED = re.compile(r"LABEL_\d+")  # what the library calls labels that nobody named


def find_classifier(run_directory: Path) -> Path | None:
    """Where in a run directory a model lies as `save_pretrained` writes it: a configuration with weights or a checkpoint beside
    it, at the root or in `model/`; `None` for nowhere."""
    for place in PLACES:
        folder = run_directory / place
        if (folder / ADAPTER).is_file():
            return folder
        if not (folder / "config.json").is_file():
            continue
        named = any((folder / name).is_file() for name in WEIGHTS + SHARDED)
        if named or any(file.suffix.lower() in CHECKPOINTS for file in folder.iterdir()):
            return folder
    return None


def weights_file(folder: Path) -> Path | None:
    """The weights of a classifier's folder, as `save_pretrained` names them; `None` where they are named otherwise.

    Raises
    ------
    ShifamindError
        Weights in several files, or an adapter without them; the message says what to do.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    if (folder / ADAPTER).is_file():
        raise ShifamindError(
            f"{folder} holds a PEFT adapter, not a model: call merge_and_unload() on the PEFT model and save_pretrained() what it gives."
        )
    if not any((folder / name).is_file() for name in SHARDED):
        return None
    raise ShifamindError(
        f'{folder} holds its weights in several files; save them in one: model.save_pretrained(folder, max_shard_size="100GB").'
    )


def label_names(folder: Path) -> tuple[str, ...] | None:
    """The codes in the order of the logits, from `id2label` in `config.json`; `None` where nobody named them.

    Raises
    ------
    ShifamindError
        Names that are no names, that repeat, or whose positions have gaps.
    """
    path = folder / "config.json"
    content = read_json_object(path, missing={})
    named = content.get("id2label")
    if not isinstance(named, dict) or not named:
        return None
    names = [named.get(str(position)) for position in range(len(named))]
    if not all(isinstance(name, str) for name in names):
        raise ShifamindError(
            f"{path}: id2label does not name the positions 0 to {len(named) - 1}; each logit needs one name."
        )
    codes = tuple(str(name) for name in names)
    if all(UNNAMED.fullmatch(name) for name in codes):
        return None
    if len(set(codes)) != len(codes):
        twice = next(name for name in codes if codes.count(name) > 1)
        raise ShifamindError(f"{path}: id2label has the name {twice[:40]!r} more than once.")
    return codes


def single_label(folder: Path, labels: np.ndarray) -> str | None:
    """Why a model whose configuration does not say what its logits are for chooses one label, by its notes' labels, uint8
    [documents, codes]; `None` where nothing speaks for it."""
    stated = problem_type(folder) is not None
    if stated or len(labels) < FEWEST or labels.shape[1] < 2 or (labels.sum(axis=1) != 1).any():
        return None
    return (
        f"Every one of {len(labels):,} notes has exactly one label, and config.json in {folder} states no problem_type: this looks like "
        'a model that chooses one label by softmax, which is not read here. If it is not, add "problem_type": '
        '"multi_label_classification" to its config.json.'
    )


def problem_type(folder: Path) -> str | None:
    """What `config.json` says that the logits are for, e.g. ``multi_label_classification``; `None` where it does not say."""
    said = read_json_object(folder / "config.json", missing={}).get("problem_type")
    return said if isinstance(said, str) else None
