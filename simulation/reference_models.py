"""Small checkpoints that any machine can make again from a seed, to hold a CPU against a GPU on the very same weights.

`plain` ones round as trained models do. `ill` ones are conditioned badly on purpose: attention so sharp that a rounded
score can change which token is looked at, so that TF32 moves their logits by up to about 0.1 and BF16 by whole units.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import nn
from transformers import BertConfig

from shifamind_core.inference.tokenization import ModelInput
from shifamind_core.model.shifamind import ClsFusion, ConceptAttention
from shifamind_core.runs.manifest import TokenizationRecord

Architecture = Literal["cls_fusion", "concept_attention"]
Conditioning = Literal["plain", "ill"]
ARCHITECTURES: tuple[Architecture, ...] = ("cls_fusion", "concept_attention")
CONDITIONINGS: tuple[Conditioning, ...] = ("plain", "ill")

CODES, CONCEPTS = 50, 113
SPREAD = 2.5  # standard deviation of the logits
SHARPNESS = {"plain": 1.0, "ill": 4.0}  # factor on query and key weights


@dataclass(frozen=True)
class Size:
    """Of a model and its notes."""

    hidden: int = 128
    layers: int = 4
    heads: int = 8
    vocabulary: int = 2000
    tokens: int = 128
    notes: int = 128


SMALL = Size()


def reference_model(
    architecture: Architecture,
    conditioning: Conditioning,
    size: Size = SMALL,
    attention: Literal["sdpa", "eager"] = "sdpa",
) -> ClsFusion | ConceptAttention:
    """In evaluation mode, FP32; NumPy's generator fills it, so that every machine and torch version gets the same bits."""
    config = BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden,
        max_position_embeddings=size.tokens,
    )
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):  # what torch draws here is overwritten
        if architecture == "cls_fusion":
            model: ClsFusion | ConceptAttention = ClsFusion(config, CODES, CONCEPTS)
        else:
            last = size.layers - 1
            model = ConceptAttention(config, CODES, CONCEPTS, fusion_layers=(last - 2, last))
    fill(model, SHARPNESS[conditioning], seed=len(architecture) + 100 * len(conditioning))
    _spread(model, size)
    return model.eval().requires_grad_(False)


def reference_notes(size: Size = SMALL) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask [notes, tokens] of notes of different lengths."""
    random = np.random.default_rng(7)
    ids = random.integers(5, size.vocabulary, (size.notes, size.tokens))
    lengths = random.integers(size.tokens // 4, size.tokens + 1, size.notes)
    mask = np.arange(size.tokens) < lengths[:, None]
    return torch.from_numpy(np.where(mask, ids, 0)), torch.from_numpy(mask.astype(np.int64))


def reference_input(size: Size = SMALL) -> ModelInput:
    """The same notes as `predict` takes them."""
    ids, mask = (tensor.numpy().astype(np.int32) for tensor in reference_notes(size))
    lengths = mask.sum(axis=1).astype(np.int32)
    digests = np.arange(len(ids), dtype=np.int64)
    return ModelInput(ids, lengths, lengths, digests, digests, TokenizationRecord(), longest=False)


def fill(model: nn.Module, sharpness: float, seed: int) -> None:
    """Random weights that keep activations near unit size, in the order of their names."""
    random = np.random.default_rng(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "LayerNorm" in name or "layer_norm" in name:
            values = random.normal(1.0 if name.endswith("weight") else 0.0, 0.1, parameter.shape)
        elif parameter.ndim == 1:
            values = random.normal(0.0, 0.1, parameter.shape)
        elif "embeddings" in name:
            values = random.normal(0.0, 1.0, parameter.shape)
        else:
            values = random.normal(0.0, parameter.shape[1] ** -0.5, parameter.shape)
            if ".query." in name or ".key." in name:
                values *= sharpness
        parameter.data = torch.from_numpy(values.astype(np.float32))


def _spread(model: ClsFusion | ConceptAttention, size: Size) -> None:
    """One factor on the head, so that logits spread as a trained model's do; a power of two, which rounds nothing."""
    head = model.diagnosis_classifier if isinstance(model, ClsFusion) else model.diagnosis_head
    ids, mask = reference_notes(size)
    with torch.no_grad():
        found = float(model.eval().double()(ids[:16], mask[:16])["logits"].std())
    model.float()
    factor = 2.0 ** round(np.log2(SPREAD / found))
    head.weight.data *= factor
    head.bias.data *= factor


def head(notes: ModelInput, count: int) -> ModelInput:
    """The first notes."""
    names = ("ids", "lengths", "token_counts", "token_digests", "document_ids")
    return replace(notes, **{name: getattr(notes, name)[:count] for name in names})
