"""A BERT encoder and its heads, run in operations that give the same bits on every machine."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertModel

from shifamind_core.errors import PolicyRefused
from shifamind_core.model.architectures import ARCHITECTURES, architecture_of
from shifamind_core.model.bitwise_heads import BitwiseParts
from shifamind_core.precision.bitwise import elementary, operations
from shifamind_core.precision.bitwise.exact_products import LONGEST
from shifamind_core.precision.bitwise.operations import PLAIN, Dense, Kernels, Norm

ACTIVATIONS = {"gelu": elementary.gelu, "relu": elementary.relu}


def refusal(model: nn.Module) -> str | None:
    """Why `bitwise` does not cover this model, or `None` where it does: wholly or not at all."""
    parts = _parts(model)
    return parts if isinstance(parts, str) else None


def _parts(model: nn.Module) -> BitwiseParts | str:
    """What its architecture's record gives, if the encoder is covered; else the reason why not."""
    kind = architecture_of(model)
    if kind is None:
        titles = ", ".join(one.title for one in ARCHITECTURES)
        return f"it covers {titles}, and this is {type(model).__name__}"
    parts = kind.bitwise(model)
    if isinstance(parts, str):
        return parts
    config = parts.encoder.config
    sizes = max(config.hidden_size, config.intermediate_size, config.max_position_embeddings)
    first = (
        (model.training, "dropout is on (the model is in training mode)"),
        (config.hidden_act not in ACTIVATIONS, f"it has no activation {config.hidden_act!r}"),
        (
            getattr(config, "position_embedding_type", "absolute") != "absolute",
            "it has absolute positions only",
        ),
        (config.is_decoder, "it covers encoders, and this is a decoder"),
        (sizes > LONGEST, f"its sums are exact up to {LONGEST} terms, and this model has {sizes}"),
        (
            any(parameter.dtype != torch.float32 for parameter in model.parameters()),
            "weights must be FP32",
        ),
    )
    return next((reason for holds, reason in first if holds), parts)


class BitwiseModel:
    """The model on the device, its weights cut once; called like the model it was made of.

    Raises
    ------
    PolicyRefused
        An operation of the model is not covered; the message names it.
    """

    def __init__(self, model: nn.Module, device: torch.device, run: Kernels = PLAIN) -> None:
        parts = _parts(model)
        if isinstance(parts, str):
            raise PolicyRefused(f"bitwise does not cover this model: {parts}.")
        self.device = device
        self.cls_alone = parts.cls_alone
        self.encoder = Encoder(parts.encoder, device, parts.layers, parts.cls_alone, run)
        self.head = parts.head(device, run)

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Logits, and concept scores where the model has them, FP32; every NaN the same one.

        Positions that no note of the batch fills are cut off where the heads read [CLS] alone, which they do not move.
        """
        mask = attention_mask.bool()
        kinds = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        width = _filled(mask) if self.cls_alone else mask.shape[1]
        states = self.encoder(input_ids[:, :width], mask[:, :width], kinds[:, :width])
        return {
            name: torch.where(torch.isnan(value), torch.nan, value)
            for name, value in self.head(states).items()
        }


def _filled(mask: Tensor) -> int:
    """Positions up to the last one that a note fills; at least one."""
    filled = mask.any(dim=0).nonzero()
    return int(filled.max()) + 1 if len(filled) else 1


class Encoder:
    """Embeddings and layers of a `BertModel`; the last four hidden states, FP32 [batch, tokens, hidden], last first.

    With `cls_alone` the last one is [batch, 1, hidden]: nothing reads its other positions.
    """

    def __init__(
        self, model: BertModel, device: torch.device, layers: int, cls_alone: bool, run: Kernels
    ) -> None:
        self.cls_alone = cls_alone
        embeddings: Any = model.embeddings
        self.word, self.position, self.kind = (
            table.weight.detach().to(device)
            for table in (
                embeddings.word_embeddings,
                embeddings.position_embeddings,
                embeddings.token_type_embeddings,
            )
        )
        self.norm = Norm.of(embeddings.LayerNorm, device)
        self.layers = [Layer(layer, model.config, device, run) for layer in model.encoder.layer[:layers]]

    def __call__(self, ids: Tensor, mask: Tensor, kinds: Tensor) -> list[Tensor]:
        states = [
            operations.embed(self.word[ids], self.kind[kinds], self.position[: ids.shape[1]], self.norm)
        ]
        for layer in self.layers:
            last = self.cls_alone and layer is self.layers[-1]
            states = [layer(states[0], mask, 1 if last else None), *states[:3]]
        return states


class Layer:
    """One transformer layer."""

    def __init__(self, layer: Any, config: Any, device: torch.device, run: Kernels) -> None:
        self.run = run

        def cut(linear: nn.Linear) -> Dense:
            return Dense.of(linear, device)

        inner = layer.attention.self
        self.heads = config.num_attention_heads
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[config.hidden_act]
        self.query, self.key, self.value = cut(inner.query), cut(inner.key), cut(inner.value)
        self.mix, self.mix_norm = (
            cut(layer.attention.output.dense),
            Norm.of(layer.attention.output.LayerNorm, device),
        )
        self.widen, self.narrow = cut(layer.intermediate.dense), cut(layer.output.dense)
        self.norm = Norm.of(layer.output.LayerNorm, device)

    def __call__(self, states: Tensor, mask: Tensor, positions: int | None = None) -> Tensor:
        """The states after this layer, of the first `positions` alone where it is given."""
        key, value = (self.run.dense(states, part) for part in (self.key, self.value))
        read = states[:, :positions]
        mixed = self.run.attention(self.run.dense(read, self.query), key, value, mask, self.heads)
        attended = self.run.dense_and_normalize(mixed, self.mix, read, self.mix_norm)
        wide = self.run.dense(attended, self.widen, self.activation)
        return self.run.dense_and_normalize(wide, self.narrow, attended, self.norm)
