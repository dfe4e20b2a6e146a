"""Another team's pipeline: notes to saved values, with faults to order, and not a line of this project's inference.

`tokenizers`, `transformers.BertModel` and plain torch only, reading the run directory's files themselves, so that replay
is tested against what others would have run and not against itself.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

State = dict[str, Tensor]
HEADS = 8  # of the concept attention
DTYPES = {"fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Faults:
    """What this pipeline does otherwise than it should. The defaults are the seed's evaluation, lower-cased."""

    lowercase: bool = True
    max_length: int = 512
    longest: bool = False
    left: bool = False
    beginning: int | None = (
        None  # tokens from the beginning of a note that is too long; the rest from its end
    )
    special: bool = True
    masked: bool = True
    segments: str = "zeros"  # or ones
    training: bool = False
    pooling: str = "cls"  # or mean, mean_with_padding, max
    reversed_fusion: bool = False
    attention: str = "sdpa"
    policy: str = "fp32"  # or fp64, fp16, bf16, fp16-autocast, bf16-autocast
    encoder: str = "loaded"  # or made anew: "new"
    head: str = "loaded"
    concepts: str = "loaded"  # or "random", "external"
    codes: str = "given"  # or "alphabetical", "frequency"
    rows: str = "given"  # or "reversed", "shuffled", "shifted"
    output: str = "logits"  # or probabilities, double_sigmoid
    rewrite: Callable[[str], str] | None = None  # of a note's text
    weight_noise: float = 0.0  # as a share of each matrix's spread: no intervention does that
    logit_noise: float = 0.0  # as a share of the logits' spread: likewise
    dropout: float | None = None  # another rate than the configuration's: likewise
    batch_size: int = 16


@dataclass(frozen=True, eq=False)
class Files:
    """What lies in a run directory."""

    state: State
    config: dict[str, Any]
    vocabulary: Path
    texts: Sequence[str]
    codes: Sequence[str]
    counts: dict[str, int]
    concepts: np.ndarray | None

    @property
    def concept_attention(self) -> bool:
        return "concept_embeddings" in self.state


def read_files(folder: Path, split: str = "test", base_model: Path | None = None) -> Files:
    """Read a run directory in the seed's layout, which the test wrote itself."""
    base_model = base_model or folder / "base_model"
    shared = folder / "shared_data"
    checkpoint = torch.load(folder / "checkpoints" / "phase1" / "phase1_best.pt", weights_only=False)
    info = json.loads((shared / "top50_icd10_info.json").read_text())
    concepts = shared / "concept_embeddings.npy"
    return Files(
        state=checkpoint["model_state_dict"],
        config=json.loads((base_model / "config.json").read_text()),
        vocabulary=base_model / "vocab.txt",
        texts=pd.read_pickle(shared / f"{split}_split.pkl")["text"].tolist(),
        codes=info["top_50_codes"],
        counts=info["top_50_counts"],
        concepts=np.load(concepts) if concepts.is_file() else None,
    )


def evaluate(files: Files, faults: Faults = Faults(), seed: int = 0) -> np.ndarray:
    """What this pipeline saves: [notes, codes]. `seed` decides whatever is drawn."""
    torch.manual_seed(seed)
    state, encoder = _weights(files, faults)
    autocast = faults.policy.endswith("-autocast")
    dtype = torch.float32 if autocast else DTYPES.get(faults.policy, torch.float32)
    encoder.train(faults.training)
    nn.Module.to(encoder, dtype)
    state = {name: tensor.to(dtype) for name, tensor in state.items()}
    notes = _tokens(files, faults)
    parts = []
    for start in range(0, len(notes), faults.batch_size):
        ids, mask = _batch(notes[start : start + faults.batch_size], faults)
        low = DTYPES[faults.policy.removesuffix("-autocast")] if autocast else torch.bfloat16
        with torch.inference_mode(), torch.autocast("cpu", low, enabled=autocast):
            types = torch.full_like(ids, int(faults.segments == "ones"))
            hidden = encoder(ids, mask, types, output_hidden_states=True).hidden_states
            head = _concept_attention if files.concept_attention else _cls_fusion
            parts.append(head(state, hidden, mask, faults).double())
    return _saved(torch.cat(parts).numpy(), files, faults, seed)


def _weights(files: Files, faults: Faults) -> tuple[State, BertModel]:
    config = BertConfig.from_dict(files.config)
    config._attn_implementation = faults.attention
    if faults.dropout is not None:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = faults.dropout
    encoder = BertModel(config)  # as BERT initialises it
    state = {name: tensor.clone() for name, tensor in files.state.items()}
    if faults.weight_noise:
        for tensor in state.values():
            if tensor.ndim == 2:
                tensor += faults.weight_noise * tensor.std() * torch.randn(tensor.shape)
    if faults.encoder == "loaded":
        inner = {
            name.removeprefix("base_model."): tensor
            for name, tensor in state.items()
            if name.startswith("base_model.")
        }
        encoder.load_state_dict(inner, strict=True)
    if faults.head == "new":
        name = "diagnosis_head" if files.concept_attention else "diagnosis_classifier"
        codes, width = state[f"{name}.weight"].shape
        fresh = nn.Linear(width, codes)
        state |= {f"{name}.weight": fresh.weight.detach(), f"{name}.bias": fresh.bias.detach()}
    if faults.concepts == "random":
        state["concept_embeddings"] = 0.02 * torch.randn(state["concept_embeddings"].shape)
    if faults.concepts == "external":
        assert files.concepts is not None
        state["concept_embeddings"] = torch.from_numpy(files.concepts)
    return state, encoder


def _tokens(files: Files, faults: Faults) -> list[list[int]]:
    tokenizer = BertWordPieceTokenizer(str(files.vocabulary), lowercase=faults.lowercase)
    texts = [faults.rewrite(text) if faults.rewrite else text for text in files.texts]
    room = faults.max_length - 2 * faults.special
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    notes = []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        ids = encoding.ids[-room:] if faults.left else encoding.ids[:room]
        if faults.beginning is not None and len(encoding.ids) > room:
            ids = encoding.ids[: faults.beginning] + encoding.ids[-(room - faults.beginning) :]
        notes.append([cls, *ids, sep] if faults.special else ids)
    return notes


def _batch(notes: list[list[int]], faults: Faults) -> tuple[Tensor, Tensor]:
    width = max(map(len, notes)) if faults.longest else faults.max_length
    ids = torch.zeros((len(notes), width), dtype=torch.long)  # [PAD] is 0
    mask = torch.zeros_like(ids)
    for row, note in enumerate(notes):
        ids[row, : len(note)] = torch.tensor(note)
        mask[row, : len(note)] = 1
    return ids, mask if faults.masked else torch.ones_like(mask)


def _pool(states: Tensor, mask: Tensor, faults: Faults) -> Tensor:
    if faults.pooling == "mean":
        weights = mask[:, :, None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)
    if faults.pooling == "mean_with_padding":
        return states.mean(1)
    if faults.pooling == "max":
        return states.masked_fill(mask[:, :, None] == 0, -1e4).amax(1)
    return states[:, 0]


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _cls_fusion(state: State, hidden: Sequence[Tensor], mask: Tensor, faults: Faults) -> Tensor:
    last_four = [_pool(hidden[-i], mask, faults) for i in (1, 2, 3, 4)]
    fused = _linear(
        state, "fusion_layer", torch.cat(last_four[::-1] if faults.reversed_fusion else last_four, -1)
    )
    concepts = torch.sigmoid(_linear(state, "concept_classifier", fused))
    return _linear(state, "diagnosis_classifier", torch.cat([fused, concepts], -1))


def _concept_attention(state: State, hidden: Sequence[Tensor], mask: Tensor, faults: Faults) -> Tensor:
    layers = sorted({int(name.split(".")[1]) for name in state if name.startswith("fusion_modules.")})
    layer = layers[0] if faults.reversed_fusion else layers[-1]
    module, rate = f"fusion_modules.{layer}", 0.1 if faults.dropout is None else faults.dropout

    def drop(x: Tensor) -> Tensor:
        return F.dropout(x, rate, training=faults.training)

    states, concepts = hidden[layer], state["concept_embeddings"]
    batch, tokens, width = states.shape
    query = _linear(state, f"{module}.query", states).view(batch, tokens, HEADS, -1).transpose(1, 2)
    key = _linear(state, f"{module}.key", concepts).view(len(concepts), HEADS, -1).transpose(0, 1)
    value = _linear(state, f"{module}.value", concepts).view(len(concepts), HEADS, -1).transpose(0, 1)
    scores = query @ key.transpose(-1, -2) / (width // HEADS) ** 0.5
    mixed = drop(scores.softmax(-1)) @ value
    context = _linear(state, f"{module}.out_proj", mixed.transpose(1, 2).reshape(batch, tokens, width))
    gate = torch.cat([states.mean(1), context.mean(1)], -1)
    gate = drop(torch.relu(_linear(state, f"{module}.gate_net.0", gate)))
    gate = torch.sigmoid(_linear(state, f"{module}.gate_net.3", gate))[:, None]
    norm = f"{module}.layer_norm"
    fused = F.layer_norm(gate * context, (width,), state[f"{norm}.weight"], state[f"{norm}.bias"])
    return _linear(state, "diagnosis_head", drop(_pool(fused, mask, faults)))


def _saved(logits: np.ndarray, files: Files, faults: Faults, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if faults.logit_noise:
        logits = logits + faults.logit_noise * logits.std() * random.standard_normal(logits.shape)
    logits = logits if faults.policy == "fp64" else logits.astype(np.float32)
    if faults.codes != "given":
        by = str if faults.codes == "alphabetical" else lambda code: -files.counts[code]
        order = sorted(range(len(files.codes)), key=lambda i: by(files.codes[i]))
        logits = logits[:, order]
    rows = {
        "given": np.arange(len(logits)),
        "reversed": np.arange(len(logits))[::-1],
        "shuffled": random.permutation(len(logits)),
        "shifted": np.roll(np.arange(len(logits)), 1),
    }
    logits = logits[rows[faults.rows]]
    times = {"logits": 0, "probabilities": 1, "double_sigmoid": 2}[faults.output]
    for _ in range(times):
        logits = 1 / (1 + np.exp(-logits))
    return logits
