"""A BERT base model's configuration, read from an untrusted folder and held against the checkpoint's tensors."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import BertConfig
from transformers.activations import ACT2FN

from shifamind_core.artifacts.json_file import read_json_object
from shifamind_core.errors import ShifamindError

# The configuration's sizes: which tensor shows each, and in which dimension.
EMBEDDINGS = "base_model.embeddings."
SIZES: dict[str, tuple[str, int]] = {
    "vocab_size": (EMBEDDINGS + "word_embeddings.weight", 0),
    "hidden_size": (EMBEDDINGS + "word_embeddings.weight", 1),
    "max_position_embeddings": (EMBEDDINGS + "position_embeddings.weight", 0),
    "type_vocab_size": (EMBEDDINGS + "token_type_embeddings.weight", 0),
    "intermediate_size": ("base_model.encoder.layer.0.intermediate.dense.weight", 0),
    "num_hidden_layers": ("", 0),
}
FRACTIONS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps")
# What of a configuration decides the logits (dropout: while it is left on; the initializer's range: where weights are not
# loaded). The rest is left at its defaults.
USED = (*SIZES, "num_attention_heads", "hidden_act", *FRACTIONS, "initializer_range")
ADDED_ROWS = (
    1000  # that a vocabulary may have been extended by since the base model's configuration was written
)


def read_config(base_model: Path) -> BertConfig:
    """The BERT configuration in `config.json`.

    Raises
    ------
    ShifamindError
        No such file, another kind of model, or sizes that are no positive integers.
    """
    path = base_model / "config.json"
    content = read_json_object(path)
    kind = content.get("model_type", "bert")
    if kind != "bert":
        raise ShifamindError(f"{path} describes a {str(kind)[:40]!r} model; expected 'bert'.")
    defaults = BertConfig().to_dict()
    values = {key: content.get(key, defaults[key]) for key in USED}
    for key in (*SIZES, "num_attention_heads"):
        if type(values[key]) is not int or values[key] < 1:
            raise ShifamindError(f"{path}: {key} is {_short(values[key])}; expected a positive integer.")
    for key in (*FRACTIONS, "initializer_range"):
        if type(values[key]) not in (int, float) or not 0 <= values[key] < 1:
            raise ShifamindError(
                f"{path}: {key} is {_short(values[key])}; expected a number from 0 to below 1."
            )
    if not isinstance(values["hidden_act"], str) or values["hidden_act"] not in ACT2FN:
        raise ShifamindError(
            f"{path}: hidden_act is {_short(values['hidden_act'])}; this library has no such function."
        )
    if values["hidden_size"] % values["num_attention_heads"]:
        raise ShifamindError(
            f"{path}: hidden_size {values['hidden_size']} is no multiple of num_attention_heads {values['num_attention_heads']}."
        )
    if content.get("position_embedding_type", "absolute") != "absolute":
        raise ShifamindError(f"{path}: position_embedding_type is not 'absolute', the only one supported.")
    return BertConfig.from_dict(values)


def fitting_config(base_model: Path, weights: Mapping[str, Tensor], file: str) -> BertConfig:
    """`read_config` of the folder, which must have the sizes of the weights; a vocabulary that was extended since counts.

    Sizes first: one size that differs would otherwise show as dozens of shapes.

    Raises
    ------
    ShifamindError
        As `read_config`, and where a size differs; the message names both values.
    """
    config = read_config(base_model)
    layers = {int(key.split(".")[3]) for key in weights if key.startswith("base_model.encoder.layer.")}
    if len(layers) != config.num_hidden_layers:
        raise ShifamindError(
            f"{file} has {len(layers)} encoder layers, but config.json of the base model says num_hidden_layers {config.num_hidden_layers}."
        )
    words = weights.get(SIZES["vocab_size"][0])
    if words is not None and words.ndim == 2:
        config.vocab_size = extended(config.vocab_size, len(words))
    for size, (key, dimension) in SIZES.items():
        tensor = weights.get(key)
        if tensor is not None and (tensor.ndim != 2 or tensor.shape[dimension] != getattr(config, size)):
            raise ShifamindError(
                f"{key} is {list(tensor.shape)} in {file}, but config.json of the base model says {size} {getattr(config, size):,}. "
                "Use the base model that the checkpoint was trained from."
            )
    return config


def extended(said: int, rows: int) -> int:
    """The vocabulary's size: the embedding's rows, where tokens or padding were added to what the configuration says."""
    return rows if said < rows <= said + ADDED_ROWS else said


def _short(value: object) -> str:
    return " ".join(repr(value).split())[:40]
