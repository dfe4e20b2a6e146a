"""How `bitwise` computes each model: its encoder, and its heads in operations that give the same bits on every machine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertForSequenceClassification, BertModel

from shifamind_core.model.shifamind import ClsFusion, ConceptAttention, ConceptFusion, cls
from shifamind_core.precision.bitwise import elementary, operations
from shifamind_core.precision.bitwise.operations import Dense, Kernels, Norm

# From the last four hidden states, last first, FP32 [batch, tokens, hidden], to what the model returns.
Head = Callable[[list[Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class BitwiseParts:
    """What `bitwise` needs to know of a model.

    Attributes
    ----------
    encoder : BertModel
    layers : int
        Those whose output the heads read; what comes after them decides nothing.
    cls_alone : bool
        Whether the heads read nothing but the first position.
    head : callable
        Makes the heads on a device.
    """

    encoder: BertModel
    layers: int
    cls_alone: bool
    head: Callable[[torch.device, Kernels], Head]


def of_cls_fusion(model: nn.Module) -> BitwiseParts | str:
    """The parts of a `ClsFusion`, or why it is not covered."""
    if type(model) is not ClsFusion:
        return _another(ClsFusion, model)
    encoder = model.base_model
    parts = BitwiseParts(
        encoder, encoder.config.num_hidden_layers, True, lambda device, run: ClsHead(model, device, run)
    )
    return _other_pooling(model) or parts


def of_concept_attention(model: nn.Module) -> BitwiseParts | str:
    """The parts of a `ConceptAttention`, or why it is not covered."""
    if type(model) is not ConceptAttention:
        return _another(ConceptAttention, model)
    parts = BitwiseParts(
        model.base_model, model.surviving_layer, False, lambda device, run: ConceptHead(model, device, run)
    )
    return _other_pooling(model) or parts


def of_classifier(model: nn.Module) -> BitwiseParts | str:
    """The parts of a `BertForSequenceClassification`, or why a classifier is not covered."""
    if type(model) is not BertForSequenceClassification:
        return _another(BertForSequenceClassification, model)
    encoder: Any = model.bert
    return BitwiseParts(
        encoder, encoder.config.num_hidden_layers, True, lambda device, run: SequenceHead(model, device, run)
    )


def _another(covered: type, model: nn.Module) -> str:
    return f"of this architecture it covers {covered.__name__}, and this is {type(model).__name__}"


def _other_pooling(model: ClsFusion | ConceptAttention) -> str | None:
    if model.pool is cls:
        return None
    return f"it pools at [CLS], and this model by {getattr(model.pool, '__name__', 'another way')}"


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
