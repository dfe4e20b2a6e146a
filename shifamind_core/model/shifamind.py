"""The two architectures that go by the name `ShifaMind2Phase1`, with the seed's call signature.

Attribute names are those of the checkpoints' keys, so that `load_state_dict(strict=True)` applies.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypedDict

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from shifamind_core.errors import ShifamindError

Pool = Callable[
    [Tensor, Tensor], Tensor
]  # [batch, tokens, hidden] and mask [batch, tokens] to [batch, hidden]


def cls(states: Tensor, attention_mask: Tensor) -> Tensor:
    """The vector at the first position, [CLS]."""
    return states[:, 0, :]


class Outputs(TypedDict):
    logits: Tensor  # [batch, codes], before the sigmoid
    concept_scores: Tensor  # [batch, concepts], after the sigmoid


class ClsFusion(nn.Module):
    """[CLS] of the last four hidden states, fused; concept scores join the fused vector.

    Source: the class printed in the seed document. 110,801,333 parameters with Bio_ClinicalBERT.
    """

    fusions = 4  # hidden states that are fused, in an order

    def __init__(self, config: BertConfig, codes: int, concepts: int) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.base_model = BertModel(config)
        self.concept_classifier = nn.Linear(hidden, concepts)
        self.fusion_layer = nn.Linear(hidden * 4, hidden)
        self.diagnosis_classifier = nn.Linear(hidden + concepts, codes)
        self.pool: Pool = cls  # replay puts others here

    def forward(
        self,
        input_ids: Tensor,  # [batch, tokens]
        attention_mask: Tensor,  # [batch, tokens]
        concept_embeddings_external: Tensor | None = None,
        input_texts: list[str] | None = None,
    ) -> Outputs:
        """Logits and concept scores; the two optional arguments are the seed's and unused here."""
        states = self.base_model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, return_dict=True
        ).hidden_states  # layers + 1 times [batch, tokens, hidden]
        pooled = [self.pool(states[-i], attention_mask) for i in range(1, 5)]
        last_four = torch.cat(pooled, dim=-1)  # [batch, 4 hidden]
        fused = self.fusion_layer(last_four)  # [batch, hidden]
        concept_scores = torch.sigmoid(self.concept_classifier(fused))
        logits = self.diagnosis_classifier(torch.cat([fused, concept_scores], dim=-1))
        return {"logits": logits, "concept_scores": concept_scores}

    def reverse_fusion(self) -> None:
        """Fuse the [CLS] vectors fourth-last first, as replay suspects that another script does."""
        weight = self.fusion_layer.weight.data  # [hidden, 4 hidden]
        self.fusion_layer.weight.data = weight.unflatten(1, (4, -1)).flip(1).flatten(1)


class ConceptFusion(nn.Module):
    """Cross-attention from hidden states to concepts, admitted by one gate a note.

    The gate averages over **all** positions, padding included, and takes no mask: so the public training
    script does it, and so the logits depend on how much padding a batch has. Reproduced, not repaired.
    """

    heads = 8

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, hidden)
        self.gate_net = nn.Sequential(
            nn.Linear(2 * hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.Sigmoid(),
        )
        self.layer_norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, concepts: Tensor) -> Tensor:
        """States [batch, tokens, hidden] and concepts [concepts, hidden] to [batch, tokens, hidden]."""
        batch, tokens, hidden = states.shape
        size = hidden // self.heads

        def split(x: Tensor) -> Tensor:  # [..., n, hidden] -> [..., heads, n, size]
            return x.unflatten(-1, (self.heads, size)).transpose(-3, -2)

        query, key, value = split(self.query(states)), split(self.key(concepts)), split(self.value(concepts))
        weights = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(size), dim=-1)
        mixed = self.dropout(weights) @ value  # [batch, heads, tokens, size]
        context = self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, hidden))
        pooled = torch.cat([states.mean(dim=1), context.mean(dim=1)], dim=-1)  # [batch, 2 hidden]
        gate = self.gate_net(pooled).unsqueeze(1)  # [batch, 1, hidden]
        return self.layer_norm(gate * context)


class ConceptAttention(nn.Module):
    """Concept cross-attention after the layers in `fusion_layers`; the last one's output feeds the heads.

    Source: the class in the public training script. 116,792,227 parameters with Bio_ClinicalBERT,
    113 concepts and fusion after layers 9 and 11.
    """

    def __init__(
        self,
        config: BertConfig,
        codes: int,
        concepts: int,
        fusion_layers: tuple[int, ...] = (9, 11),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.base_model = BertModel(config)
        self.concept_embeddings = nn.Parameter(torch.zeros(concepts, config.hidden_size))
        self.fusion_modules = nn.ModuleDict(
            {str(layer): ConceptFusion(config.hidden_size, dropout) for layer in fusion_layers}
        )
        # Each layer's fusion reads that layer's hidden state, so only the last one's output survives; the public
        # script computes the earlier ones all the same. They decide nothing and are skipped.
        self.surviving_layer = max(fusion_layers)
        self.fusions = len(fusion_layers)
        self.pool: Pool = cls  # replay puts others here
        self.dropout = nn.Dropout(dropout)
        self.concept_head = nn.Linear(config.hidden_size, concepts)
        self.diagnosis_head = nn.Linear(config.hidden_size, codes)

    def forward(
        self,
        input_ids: Tensor,  # [batch, tokens]
        attention_mask: Tensor,  # [batch, tokens]
        concept_embeddings_external: Tensor | None = None,
        input_texts: list[str] | None = None,
    ) -> Outputs:
        """Logits and concept scores; external concept embeddings [concepts, hidden] replace the model's own."""
        states = self.base_model(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, return_dict=True
        ).hidden_states
        concepts = (
            self.concept_embeddings if concept_embeddings_external is None else concept_embeddings_external
        )
        fusion = self.fusion_modules[str(self.surviving_layer)]
        fused = fusion(states[self.surviving_layer], concepts)  # [batch, tokens, hidden]
        pooled = self.dropout(self.pool(fused, attention_mask))  # [batch, hidden]
        return {
            "logits": self.diagnosis_head(pooled),
            "concept_scores": torch.sigmoid(self.concept_head(pooled)),
        }

    def reverse_fusion(self) -> None:
        """Let the earliest layer's fusion survive, as replay suspects that another script does."""
        self.surviving_layer = min(int(layer) for layer in self.fusion_modules)


def fusion_layers_of(weights: Mapping[str, Tensor], file: str = "The checkpoint") -> tuple[int, ...]:
    """Layers with a fusion module, from the names of a state dict.

    Raises
    ------
    ShifamindError
        A fusion module that is named by no layer.
    """
    layers = {key.split(".")[1] for key in weights if key.startswith("fusion_modules.")}
    if not all(layer.isascii() and layer.isdigit() and len(layer) < 4 for layer in layers):
        named = ", ".join(sorted(layer[:60] for layer in layers)[:8])
        raise ShifamindError(f"{file}: fusion_modules are named {named}; expected layer numbers.")
    return tuple(sorted(map(int, layers)))


def fitting_fusion_layers(config: BertConfig, weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    """`fusion_layers_of`, which must lie within the encoder.

    Raises
    ------
    ShifamindError
        A fusion after a layer that the encoder does not have, or heads that do not divide the hidden size.
    """
    layers = fusion_layers_of(weights)
    if layers[-1] > config.num_hidden_layers:
        raise ShifamindError(
            f"The checkpoint fuses after layer {layers[-1]}, but the base model has {config.num_hidden_layers} layers."
        )
    if config.hidden_size % ConceptFusion.heads:
        raise ShifamindError(
            f"Concept attention has {ConceptFusion.heads} heads, which do not divide hidden_size {config.hidden_size}."
        )
    return layers
