"""From a checkpoint and a base model's configuration to a model ready for evaluation."""

from pathlib import Path
from typing import Literal

import torch
from torch import nn
from transformers import BertConfig, BertModel
from transformers.activations import ACT2FN

from shifamind_core.artifacts.base_model import count_vocabulary
from shifamind_core.artifacts.json_file import read_json_object
from shifamind_core.errors import ShifamindError
from shifamind_core.model.architectures import ClsFusion, ConceptAttention, ConceptFusion
from shifamind_core.model.checkpoint import Checkpoint

Attention = Literal["sdpa", "eager"]


def build_model(
    checkpoint: Checkpoint, base_model: Path, attention: Attention = "sdpa"
) -> ClsFusion | ConceptAttention:
    """The checkpoint's model: strictly loaded, FP32, on the CPU, in evaluation mode, without gradients.

    Parameters
    ----------
    base_model : Path
        A folder with `config.json` (`RunDirectory.base_model`). Its weights are not needed: all are in the checkpoint.
    attention : str
        Which implementation computes attention. To change it, build again: transformers 4.57 ignores
        `set_attn_implementation` on a BERT that exists.

    Raises
    ------
    ShifamindError
        Configuration and weights do not fit; the message names the first difference and both values.
    """
    config = read_config(base_model)
    _check_fit(checkpoint, config, base_model)
    config._attn_implementation = attention
    with torch.device("meta"):  # no memory, no random numbers: every weight comes from the checkpoint
        model = empty_model(checkpoint, config)
    _check_keys(checkpoint, model)
    weights = {key: tensor.to(torch.float32, copy=True) for key, tensor in checkpoint.state_dict.items()}
    model.load_state_dict(weights, strict=True, assign=True)
    _fill_buffers(model.base_model, config)
    return model.eval().requires_grad_(False)


def empty_model(checkpoint: Checkpoint, config: BertConfig) -> ClsFusion | ConceptAttention:
    """A model of the checkpoint's architecture and sizes, with weights of its own."""
    if checkpoint.architecture == "cls_fusion":
        return ClsFusion(config, checkpoint.code_count, checkpoint.concept_count)
    return ConceptAttention(config, checkpoint.code_count, checkpoint.concept_count, checkpoint.fusion_layers)


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


def _short(value: object) -> str:
    return " ".join(repr(value).split())[:40]


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


def _check_fit(checkpoint: Checkpoint, config: BertConfig, base_model: Path) -> None:
    """Sizes first: one size that differs would otherwise show as dozens of shapes."""
    name = checkpoint.path.name
    layers = {
        int(key.split(".")[3]) for key in checkpoint.state_dict if key.startswith("base_model.encoder.layer.")
    }
    if len(layers) != config.num_hidden_layers:
        raise ShifamindError(
            f"{name} has {len(layers)} encoder layers, but config.json of the base model says num_hidden_layers {config.num_hidden_layers}."
        )
    for size, (key, dimension) in SIZES.items():
        tensor = checkpoint.state_dict.get(key)
        if tensor is not None and (tensor.ndim != 2 or tensor.shape[dimension] != getattr(config, size)):
            raise ShifamindError(
                f"{key} is {list(tensor.shape)} in {name}, but config.json of the base model says {size} {getattr(config, size):,}. "
                "Use the base model that the checkpoint was trained from."
            )
    words = count_vocabulary(base_model)
    if words is not None and words != config.vocab_size:
        raise ShifamindError(
            f"{EMBEDDINGS}word_embeddings.weight has {config.vocab_size:,} rows in {name}, but vocab.txt of the base model has "
            f"{words:,} entries. Use the vocabulary that the checkpoint was trained with."
        )
    if checkpoint.fusion_layers and checkpoint.fusion_layers[-1] > config.num_hidden_layers:
        raise ShifamindError(
            f"{name} fuses after layer {checkpoint.fusion_layers[-1]}, but the base model has {config.num_hidden_layers} layers."
        )
    if checkpoint.fusion_layers and config.hidden_size % ConceptFusion.heads:
        raise ShifamindError(
            f"Concept attention has {ConceptFusion.heads} heads, which do not divide hidden_size {config.hidden_size}."
        )


def _check_keys(checkpoint: Checkpoint, model: nn.Module) -> None:
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in checkpoint.state_dict.items()}
    name = checkpoint.path.name
    missing, unexpected = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unexpected:
        parts = [
            f"{len(keys)} {what} ({_some(keys)})"
            for what, keys in (("missing", missing), ("unexpected", unexpected))
            if keys
        ]
        raise ShifamindError(
            f"{name} is {checkpoint.architecture}, but its keys differ: {' and '.join(parts)} of {len(wanted)} keys."
        )
    wrong = [key for key in sorted(wanted) if wanted[key] != found[key]]
    if wrong:
        key = wrong[0]
        raise ShifamindError(
            f"{name}: {len(wrong)} of {len(wanted)} tensors have another shape than {checkpoint.architecture} needs, first {key}: "
            f"{list(found[key])}, expected {list(wanted[key])}."
        )


def _fill_buffers(model: BertModel, config: BertConfig) -> None:
    """Buffers that no checkpoint holds (position and token type ids), as a model of hardly any weights has them."""
    small = config.to_dict() | {
        "hidden_size": config.num_attention_heads,
        "intermediate_size": 1,
        "num_hidden_layers": 0,
    }
    with torch.random.fork_rng(devices=[]):  # its few weights are drawn at random, and thrown away
        plain = dict(BertModel(BertConfig.from_dict(small)).named_buffers())
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, plain[name].clone())


def _some(keys: list[str]) -> str:
    return ", ".join(key[:80] for key in keys[:3]) + (", …" if len(keys) > 3 else "")
