"""A BERT encoder and its heads, run in operations that give the same bits on every machine."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertForSequenceClassification, BertModel

from shifamind_core.errors import PolicyRefused
from shifamind_core.model.architectures import ClsFusion, ConceptAttention, ConceptFusion, cls
from shifamind_core.precision.bitwise import elementary, operations
from shifamind_core.precision.bitwise.exact_products import LONGEST
from shifamind_core.precision.bitwise.operations import PLAIN, Dense, Kernels, Norm

ACTIVATIONS = {"gelu": elementary.gelu, "relu": elementary.relu}
COVERED = (ClsFusion, ConceptAttention, BertForSequenceClassification)


def refusal(model: nn.Module) -> str | None:
    """Why `bitwise` does not cover this model, or `None` where it does: wholly or not at all."""
    if type(model) not in COVERED:
        return f"it covers {', '.join(kind.__name__ for kind in COVERED)}, and this is {type(model).__name__}"
    encoder = _encoder(model)
    config = encoder.config
    pool = getattr(model, "pool", cls)
    sizes = max(config.hidden_size, config.intermediate_size, config.max_position_embeddings)
    first = (
        (model.training, "dropout is on (the model is in training mode)"),
        (config.hidden_act not in ACTIVATIONS, f"it has no activation {config.hidden_act!r}"),
        (
            getattr(config, "position_embedding_type", "absolute") != "absolute",
            "it has absolute positions only",
        ),
        (config.is_decoder, "it covers encoders, and this is a decoder"),
        (pool is not cls, f"it pools at [CLS], and this model by {getattr(pool, '__name__', 'another way')}"),
        (sizes > LONGEST, f"its sums are exact up to {LONGEST} terms, and this model has {sizes}"),
        (
            any(parameter.dtype != torch.float32 for parameter in model.parameters()),
            "weights must be FP32",
        ),
    )
    return next((reason for holds, reason in first if holds), None)


def _encoder(model: nn.Module) -> BertModel:
    encoder: Any = model.bert if isinstance(model, BertForSequenceClassification) else model.base_model
    return encoder


class BitwiseModel:
    """The model on the device, its weights cut once; called like the model it was made of.

    Raises
    ------
    PolicyRefused
        An operation of the model is not covered; the message names it.
    """

    def __init__(self, model: nn.Module, device: torch.device, run: Kernels = PLAIN) -> None:
        reason = refusal(model)
        if reason:
            raise PolicyRefused(f"bitwise does not cover this model: {reason}.")
        self.device = device
        self.cls_alone = not isinstance(model, ConceptAttention)
        self.encoder = Encoder(_encoder(model), device, _layers_used(model), self.cls_alone, run)
        self.head = HEADS[type(model)](model, device, run)

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


def _layers_used(model: nn.Module) -> int:
    """Layers whose output the heads read; those after them decide nothing."""
    return (
        model.surviving_layer
        if isinstance(model, ConceptAttention)
        else _encoder(model).config.num_hidden_layers
    )


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


class ClsHead:
    """`ClsFusion` behind its encoder."""

    def __init__(self, model: ClsFusion, device: torch.device, run: Kernels) -> None:
        self.run = run
        self.concepts = Dense.of(model.concept_classifier, device)
        self.fusion = Dense.of(model.fusion_layer, device)
        self.diagnosis = Dense.of(model.diagnosis_classifier, device)

    def __call__(self, states: list[Tensor]) -> dict[str, Tensor]:
        fused = self.run.dense(torch.cat([state[:, 0] for state in states], dim=-1), self.fusion)
        scores = self.run.dense(fused, self.concepts, elementary.sigmoid)
        logits = self.run.dense(torch.cat([fused, scores], dim=-1), self.diagnosis)
        return {"logits": logits, "concept_scores": scores}


class ConceptHead:
    """`ConceptAttention` behind its encoder, up to the one position that the heads read."""

    def __init__(self, model: ConceptAttention, device: torch.device, run: Kernels) -> None:
        self.run = run
        fusion: Any = model.fusion_modules[str(model.surviving_layer)]
        concepts = model.concept_embeddings.detach().to(device)
        self.query, self.out = Dense.of(fusion.query, device), Dense.of(fusion.out_proj, device)
        self.key, self.value = (
            self.run.dense(concepts, Dense.of(layer, device)) for layer in (fusion.key, fusion.value)
        )
        self.gate = Dense.of(fusion.gate_net[0], device), Dense.of(fusion.gate_net[3], device)
        self.norm = Norm.of(fusion.layer_norm, device)
        self.concepts = Dense.of(model.concept_head, device)
        self.diagnosis = Dense.of(model.diagnosis_head, device)

    def __call__(self, states: list[Tensor]) -> dict[str, Tensor]:
        last = states[0]
        key, value = (x.expand(len(last), -1, -1) for x in (self.key, self.value))
        mixed = self.run.attention(self.run.dense(last, self.query), key, value, None, ConceptFusion.heads)
        context = self.run.dense(mixed, self.out)
        pooled = torch.cat([operations.mean_of_positions(x) for x in (last, context)], dim=-1)
        hidden = self.run.dense(pooled, self.gate[0], elementary.relu)
        gate = self.run.dense(hidden, self.gate[1], elementary.sigmoid)
        product = gate.to(torch.float64) * context[:, 0]  # 24 bits times 24: exact
        fused = operations.normalized(product, self.norm)
        scores = self.run.dense(fused, self.concepts, elementary.sigmoid)
        return {"logits": self.run.dense(fused, self.diagnosis), "concept_scores": scores}


class SequenceHead:
    """`BertForSequenceClassification` behind its encoder: the pooler's tanh, then the classifier."""

    def __init__(self, model: BertForSequenceClassification, device: torch.device, run: Kernels) -> None:
        self.run = run
        pooler: Any = model.bert.pooler
        classifier: Any = model.classifier
        self.pooler, self.classifier = Dense.of(pooler.dense, device), Dense.of(classifier, device)

    def __call__(self, states: list[Tensor]) -> dict[str, Tensor]:
        pooled = self.run.dense(states[0][:, 0], self.pooler, elementary.tanh)
        return {"logits": self.run.dense(pooled, self.classifier)}


Head = Callable[[list[Tensor]], dict[str, Tensor]]
HEADS: dict[type, Callable[[Any, torch.device, Kernels], Head]] = {
    ClsFusion: ClsHead,
    ConceptAttention: ConceptHead,
    BertForSequenceClassification: SequenceHead,
}
