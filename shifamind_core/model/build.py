"""From a checkpoint and a base model's configuration to a model ready for evaluation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from shifamind_core.errors import ShifamindError
from shifamind_core.model.architectures import Architecture, architecture_named
from shifamind_core.model.checkpoint import Checkpoint

Attention = Literal["sdpa", "eager"]


def build_model(
    checkpoint: Checkpoint, base_model: Path, attention: Attention = "sdpa", own_weights: bool = True
) -> nn.Module:
    """The checkpoint's model: strictly loaded, FP32, on the CPU, in evaluation mode, without gradients.

    Parameters
    ----------
    base_model : Path
        A folder with `config.json` (`RunDirectory.base_model`). Its weights are not needed: all are in the checkpoint.
    attention : str
        Which implementation computes attention. To change it, build again: transformers 4.57 ignores
        `set_attn_implementation` on a BERT that exists.
    own_weights : bool
        Whether the model gets a copy. Without, whoever changes its weights changes the checkpoint's.

    Raises
    ------
    ShifamindError
        Configuration and weights do not fit; the message names the first difference and both values.
    """
    kind = architecture_of_checkpoint(checkpoint)
    config = kind.config(base_model, checkpoint.state_dict, checkpoint.path.name)
    config._attn_implementation = attention

    def make() -> nn.Module:
        return kind.make(config, checkpoint.state_dict)

    with torch.device("meta"):  # no memory, no random numbers: every weight comes from the checkpoint
        model = make()
    _check_keys(checkpoint, model)
    weights = {
        key: tensor.to(torch.float32, copy=own_weights) for key, tensor in checkpoint.state_dict.items()
    }
    model.load_state_dict(weights, strict=True, assign=True)
    _fill_buffers(model, make)
    return model.eval().requires_grad_(False)


def empty_model(checkpoint: Checkpoint, base_model: Path) -> nn.Module:
    """The same model without weights: its modules and sizes, and no memory."""
    kind = architecture_of_checkpoint(checkpoint)
    config = kind.config(base_model, checkpoint.state_dict, checkpoint.path.name)
    with torch.device("meta"):
        return kind.make(config, checkpoint.state_dict)


def architecture_of_checkpoint(checkpoint: Checkpoint) -> Architecture:
    """The record of the checkpoint's architecture."""
    kind = architecture_named(checkpoint.architecture)
    assert kind is not None  # a checkpoint is read under the name of a record
    return kind


def positions_of(model: nn.Module) -> int | None:
    """How many tokens the model takes; `None` where nothing limits them.

    RoBERTa and its kin keep the rows up to that of the padding for no position, so that 514 rows are 512 positions.
    """
    encoder: Any = getattr(model, "base_model", None)
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding):
        return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    positions = getattr(getattr(encoder, "config", None), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def words_of(model: nn.Module) -> int | None:
    """How many tokens the embedding has a row for."""
    encoder: Any = getattr(model, "base_model", None)
    table = encoder.get_input_embeddings() if hasattr(encoder, "get_input_embeddings") else None
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def attention_of(model: nn.Module, asked: Attention) -> Attention:
    """The implementation that the model runs where `asked` is asked for: some encoders have one of their own alone."""
    return asked if getattr(type(getattr(model, "base_model", None)), "_supports_sdpa", True) else "eager"


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


def _fill_buffers(model: nn.Module, make: Callable[[], nn.Module]) -> None:
    """Buffers that no checkpoint holds: position and token type ids by what they are, others from a model made for them."""
    plain: dict[str, Tensor] = {}
    for name, buffer in list(model.named_buffers()):
        if not buffer.is_meta:
            continue
        owner, _, attribute = name.rpartition(".")
        if attribute == "position_ids":
            value = torch.arange(buffer.shape[-1], dtype=buffer.dtype).expand(buffer.shape).clone()
        elif attribute == "token_type_ids":
            value = torch.zeros(buffer.shape, dtype=buffer.dtype)
        else:
            if not plain:
                with torch.random.fork_rng(devices=[]):  # its weights are drawn at random, and thrown away
                    plain = dict(make().named_buffers())
            value = plain[name].clone()
        setattr(model.get_submodule(owner), attribute, value)


def _some(keys: list[str]) -> str:
    return ", ".join(key[:80] for key in keys[:3]) + (", …" if len(keys) > 3 else "")
