"""Models with the notes they read, and what can be done to either: for planting faults where they happen. Needs torch."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo import write_demo
from shifamind_core.inference.tokenization import Tokenization, tokenize
from shifamind_core.inference.tokenizer import load_tokenizer
from shifamind_core.model.build import build_model
from shifamind_core.model.checkpoint import read_checkpoint
from shifamind_core.model.shifamind import ClsFusion, ConceptAttention
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import (
    CheckpointRecord,
    Environment,
    Manifest,
    PolicyRecord,
    TokenizationRecord,
)
from shifamind_core.runs.run import Run

Notes = Sequence[np.ndarray]
PAD, CLS, SEP = 0, 101, 102


@dataclass(frozen=True, eq=False)
class Feeding:
    """How token ids become a batch."""

    max_length: int
    pad_to_longest: bool = False
    mask: bool = True
    special: bool = True
    left: bool = False
    batch: int = 50
    sort: bool = False


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with the notes it reads: token ids without special ones, in the trained casing and in the other."""

    name: str
    model: nn.Module
    notes: Notes
    recased: Notes
    feeding: Feeding
    labels: np.ndarray
    codes: tuple[str, ...]
    ids: tuple[int, int, int] = (PAD, CLS, SEP)

    @property
    def counts(self) -> np.ndarray:
        """Tokens a note has before truncation, special ones counted."""
        return np.array([len(note) + 2 for note in self.notes], np.int32)


def demo_subject(folder: Path, notes: int = 400, max_length: int = 192, seed: int = 0) -> Subject:
    """The built-in demo's checkpoint and its test notes, lower-cased as it was trained.

    Every note is cut to a length of its own, from a fifth of what the model reads to nearly twice that: as they
    come, all would be longer, and length could decide nothing.
    """
    if not folder.exists():
        write_demo(folder)
    directory = RunDirectory(folder)
    model = build_model(read_checkpoint(directory.checkpoint), directory.base_model(None), "sdpa")
    split = directory.read_split("test")
    words = np.random.default_rng(seed).uniform(0.15 * max_length, 1.3 * max_length, notes).astype(int)
    texts = [" ".join(text.split()[:count]) for text, count in zip(split.texts, words, strict=False)]
    whole = Tokenization(max_length=1_000_000, special_tokens=False)
    both = []
    for lowercase in (True, False):
        tokens = tokenize(texts, load_tokenizer(directory.base_model(None), lowercase))
        both.append([tokens.note(row, whole) for row in range(len(texts))])
    tokenizer = load_tokenizer(directory.base_model(None), True)
    return Subject(
        "demo",
        model,
        both[0],
        both[1],
        Feeding(max_length),
        np.asarray(split.labels[: len(texts)], np.uint8),
        tuple(split.codes),
        (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id),
    )


def attention_subject(subject: Subject, seed: int = 0, steps: int = 60) -> Subject:
    """The same encoder and notes under concept attention: its head fitted to the subject's logits, then trained."""
    cls_fusion = subject.model
    assert isinstance(cls_fusion, ClsFusion)
    config, target = cls_fusion.base_model.config, forward(subject)
    layers = config.num_hidden_layers
    torch.manual_seed(seed)
    model = ConceptAttention(config, target.shape[1], 113, fusion_layers=(layers - 3, layers - 1))
    model.base_model = cls_fusion.base_model
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and not name.startswith("base_model"):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    model.eval().requires_grad_(False)
    fitted = replace(subject, name=f"{subject.name}-attention", model=model)
    inputs: list[torch.Tensor] = []
    hook = model.diagnosis_head.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    forward(fitted)
    hook.remove()
    states = torch.cat(inputs).double().numpy()
    centred = states - states.mean(axis=0)
    ridge = centred.T @ centred + 1e-2 * len(states) * np.eye(states.shape[1]) * centred.var()
    weight = np.linalg.solve(ridge, centred.T @ (target - target.mean(axis=0))).T
    model.diagnosis_head.weight.data = torch.from_numpy(weight.astype(np.float32))
    bias = target.mean(axis=0) - weight @ states.mean(axis=0)
    model.diagnosis_head.bias.data = torch.from_numpy(bias.astype(np.float32))
    trained = trained_on(fitted, steps, 3e-4, seed).requires_grad_(False)
    return replace(fitted, model=trained)


@torch.no_grad()
def forward(
    subject: Subject,
    model: nn.Module | None = None,
    notes: Notes | None = None,
    feeding: Feeding | None = None,
    autocast: torch.dtype | None = None,
) -> np.ndarray:
    """Logits [notes, codes] in the dtype computed, BF16 as float32."""
    model, notes, feeding = model or subject.model, notes or subject.notes, feeding or subject.feeding
    order = (
        np.argsort([len(note) for note in notes], kind="stable") if feeding.sort else np.arange(len(notes))
    )
    parts = []
    for start in range(0, len(notes), feeding.batch):
        rows = order[start : start + feeding.batch]
        ids, mask = _batch([notes[row] for row in rows], feeding, subject.ids)
        with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
            parts.append(model(ids, mask)["logits"])
    logits = torch.cat(parts)
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return logits.numpy()[back]


def _cut(note: np.ndarray, feeding: Feeding) -> np.ndarray:
    room = feeding.max_length - 2 * feeding.special
    return note[-room:] if feeding.left else note[:room]


def _batch(
    notes: Notes, feeding: Feeding, special: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    pad, cls, sep = special
    cut = [_cut(note, feeding) for note in notes]
    if feeding.special:
        cut = [np.concatenate([[cls], note, [sep]]) for note in cut]
    width = max(len(note) for note in cut) if feeding.pad_to_longest else feeding.max_length
    ids = np.full((len(cut), width), pad, np.int64)
    mask = np.zeros((len(cut), width), np.int64)
    for row, note in enumerate(cut):
        ids[row, : len(note)] = note
        mask[row, : len(note)] = 1
    return torch.from_numpy(ids), torch.from_numpy(mask if feeding.mask else np.ones_like(mask))


def reference_of(subject: Subject) -> Run:
    """The subject as it should be run, with all that a manifest knows."""
    feeding = subject.feeding
    attention = hasattr(subject.model, "fusion_modules")
    manifest = Manifest(
        checkpoint=CheckpointRecord(
            weights_digest="a" * 64, architecture="concept_attention" if attention else "cls_fusion"
        ),
        tokenization=TokenizationRecord(
            lowercase=True,
            max_length=feeding.max_length,
            padding="max_length",
            truncation_side="right",
            special_tokens=True,
        ),
        policy=PolicyRecord.of(POLICIES["fp32"]),
        environment=Environment(device="cpu"),
        batch_size=feeding.batch,
    )
    return Run(
        forward(subject),
        "reference",
        labels=subject.labels,
        codes=subject.codes,
        document_ids=np.arange(len(subject.notes)),
        token_digests=token_digests(subject.notes, feeding),
        token_counts=subject.counts,
        manifest=manifest,
    )


def token_digests(notes: Notes, feeding: Feeding) -> np.ndarray:
    """Of the ids that a model gets, padding aside."""
    return np.array([text_digest(_cut(note, feeding).astype("<i4").tobytes()) for note in notes], np.int64)


def with_dropout(subject: Subject, rate: float, seed: int, part: str = "") -> nn.Module:
    """The model in training mode, with that rate; where `part` is given, in modules of that name alone."""
    model = copy.deepcopy(subject.model).train()
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = rate if part in name else 0.0
    torch.manual_seed(seed)
    return model


class Widened(nn.Module):
    """A linear layer that autocast leaves in FP32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return self.linear(x.float())


def head_in_fp32(subject: Subject) -> nn.Module:
    """The model with a head that stays in FP32 under autocast."""
    model = copy.deepcopy(subject.model)
    for name, child in list(model.named_children()):
        if name.startswith("diagnosis"):
            setattr(model, name, Widened(child))
    return model


def perturbed(subject: Subject, relative: float, seed: int, part: str = "") -> nn.Module:
    """Noise on every matrix, as large as that share of its spread."""
    model = copy.deepcopy(subject.model)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and part in name:
            weight.data += relative * weight.data.std() * torch.randn(weight.shape, generator=generator)
    return model


def reinitialised(subject: Subject, part: str, seed: int) -> nn.Module:
    """Every parameter whose name holds `part` as a fresh model has it."""
    model = copy.deepcopy(subject.model)
    torch.manual_seed(seed)
    for name, module in model.named_modules():
        if part in name and isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def trained_on(subject: Subject, steps: int, rate: float, seed: int) -> nn.Module:
    """Another epoch: so many more steps of training on the subject's own notes and labels."""
    model = copy.deepcopy(subject.model).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    for _ in range(steps):
        rows = rng.choice(len(subject.notes), 16, replace=False)
        ids, mask = _batch([subject.notes[row] for row in rows], subject.feeding, subject.ids)
        target = torch.from_numpy(subject.labels[rows].astype(np.float32))
        loss = F.binary_cross_entropy_with_logits(model(ids, mask)["logits"], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


class TensorFloat(nn.Module):
    """A linear layer whose inputs are rounded as TF32 tensor cores round them: 10 bits, ties away from zero."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(_tf32(x), _tf32(self.weight), self.bias)


def _tf32(x: torch.Tensor) -> torch.Tensor:
    bits = x.detach().contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def in_tf32(subject: Subject) -> nn.Module:
    """The model with every linear layer in TF32."""
    model = copy.deepcopy(subject.model)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, TensorFloat(child))
    return model


def recased(subject: Subject, share: float, seed: int) -> Notes:
    """That share of the notes' words in the other casing: all, or only some kinds of words, as a table would have it."""
    if share >= 1:
        return subject.recased
    rng = np.random.default_rng(seed)
    chosen = set(rng.permutation(60_000)[: int(share * 60_000)].tolist())
    kept = []
    for note, other in zip(subject.notes, subject.recased, strict=True):
        if len(note) == len(other):
            kept.append(np.where(np.isin(note, list(chosen)), other, note))
        else:  # word pieces moved: another share of whole notes' beginnings
            stop = int(share * len(other))
            kept.append(np.concatenate([other[:stop], note[int(share * len(note)) :]]))
    return kept
