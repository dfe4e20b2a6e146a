"""Faults planted where they happen: in the model, its input or its arithmetic. Needs torch."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo import write_demo
from shifamind_core.inference.tokenization import Tokenization, load_tokenizer, tokenize
from shifamind_core.model.build import build_model
from shifamind_core.model.checkpoint import read_checkpoint
from shifamind_core.runs.run import Run
from tests.planted import Planted, code_permutation, shuffled, to_bf16, with_logits

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


def demo_subject(folder: Path, notes: int = 400, max_length: int = 512) -> Subject:
    """The built-in demo's checkpoint and test notes, lower-cased as it was trained."""
    write_demo(folder)
    directory = RunDirectory(folder)
    checkpoint = read_checkpoint(directory.checkpoint)
    model = build_model(checkpoint, directory.base_model(None), "sdpa")
    split = directory.read_split("test")
    whole = Tokenization(max_length=1_000_000, special_tokens=False)
    both = []
    for lowercase in (True, False):
        tokens = tokenize(split.texts[:notes], load_tokenizer(directory.base_model(None), lowercase), None)
        both.append([tokens.note(row, whole) for row in range(notes)])
    tokenizer = load_tokenizer(directory.base_model(None), True)
    return Subject(
        "demo",
        model,
        both[0],
        both[1],
        Feeding(max_length),
        np.asarray(split.labels[:notes], np.uint8),
        tuple(split.codes),
        (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id),
    )


def random_subject(
    model: nn.Module, name: str, vocabulary: int, max_length: int, notes: int, seed: int
) -> Subject:
    """Made-up notes for a model with random weights: each mixes the words of a few topics with common ones."""
    rng = np.random.default_rng(seed)
    topics = [rng.integers(110, vocabulary, 40) for _ in range(30)]
    made, recased = [], []
    other = rng.permutation(np.arange(110, vocabulary))
    for _ in range(notes):
        length = int(np.clip(rng.lognormal(np.log(0.7 * max_length), 0.5), 12, 3 * max_length))
        words = 110 + (rng.zipf(1.4, length) % (vocabulary - 110))
        for topic in rng.choice(len(topics), 4, replace=False):
            places = rng.integers(0, length, length // 8)
            words[places] = rng.choice(topics[topic], len(places))
        capital = rng.random(length) < rng.beta(8, 10)
        made.append(words.astype(np.int32))
        recased.append(np.where(capital, other[words - 110], words).astype(np.int32))
    labels = (rng.random((notes, 50)) < 0.1).astype(np.uint8)
    feeding = Feeding(max_length)
    return Subject(name, model.eval(), made, recased, feeding, labels, tuple(f"C{i:02d}" for i in range(50)))


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


def _batch(
    notes: Notes, feeding: Feeding, special: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    pad, cls, sep = special
    room = feeding.max_length - 2 * feeding.special
    cut = [note[-room:] if feeding.left else note[:room] for note in notes]
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
    """The subject as it should be run."""
    return Run(
        forward(subject), "reference", labels=subject.labels, codes=subject.codes, token_counts=subject.counts
    )


def with_dropout(subject: Subject, rate: float, seed: int) -> nn.Module:
    """The model in training mode, with that rate."""
    model = copy.deepcopy(subject.model).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
    torch.manual_seed(seed)
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
        rows = rng.choice(len(subject.notes), 32, replace=False)
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


def plant_precision(subject: Subject, reference: Run) -> Iterator[Planted]:
    """Only the arithmetic differs."""
    model = subject.model
    yield _planted("numerics", "FP64", reference, forward(subject, copy.deepcopy(model).double()))
    yield _planted(
        "numerics", "FP32, batch of 7", reference, forward(subject, feeding=replace(subject.feeding, batch=7))
    )
    yield _planted("numerics", "TF32", reference, forward(subject, in_tf32(subject)))
    for name, dtype in (("BF16", torch.bfloat16), ("FP16", torch.float16)):
        yield _planted("numerics", f"{name} autocast", reference, forward(subject, autocast=dtype))
        yield _planted(
            "numerics", f"{name} weights", reference, forward(subject, copy.deepcopy(model).to(dtype))
        )


def plant_dropout(subject: Subject, reference: Run, seed: int, rates: Sequence[float]) -> Iterator[Planted]:
    """Dropout left on, at several rates; also under BF16."""
    for rate in rates:
        noisy = forward(subject, with_dropout(subject, rate, seed))
        yield _planted("dropout_active", f"rate {rate:g}", reference, noisy)
    noisy = forward(subject, with_dropout(subject, 0.1, seed + 1), autocast=torch.bfloat16)
    yield _planted("dropout_active", "rate 0.1 in BF16", reference, noisy, "numerics")


def plant_input(subject: Subject, reference: Run, seed: int, shares: Sequence[float]) -> Iterator[Planted]:
    """Other tokens; other lengths; other padding."""
    for share in shares:
        logits = forward(subject, notes=recased(subject, share, seed))
        yield _planted("input_changed", f"casing of {share:.0%}", reference, logits)
    rng = np.random.default_rng(seed)
    rows = shuffled(reference.documents, rng)
    cased = forward(subject, notes=subject.recased)
    yield _planted("input_changed", "casing and BF16 storage", reference, to_bf16(cased), "numerics")
    yield _planted("document_order", "casing and note order", reference, cased[rows], "input_changed")
    order = code_permutation(cased.shape[1], 10, rng)
    yield _planted("code_order", "casing and code order", reference, cased[:, order], "input_changed")
    feeding = subject.feeding
    for share in (0.75, 0.5):
        shorter = replace(feeding, max_length=int(share * feeding.max_length))
        yield _planted("max_length", f"{share:.0%}", reference, forward(subject, feeding=shorter))
    yield _planted(
        "truncation_side",
        "left",
        reference,
        forward(subject, feeding=replace(feeding, left=True)),
        "max_length",
    )
    unmasked = forward(subject, feeding=replace(feeding, mask=False))
    yield _planted("attention_mask_ignored", "fixed padding", reference, unmasked, "padding")
    if hasattr(subject.model, "fusion_modules"):
        single = replace(feeding, pad_to_longest=True, batch=1)
        yield _planted(
            "padding", "none at all", reference, forward(subject, feeding=single), "attention_mask_ignored"
        )
        bucketed = replace(feeding, pad_to_longest=True, sort=True, batch=20)
        yield _planted(
            "padding", "by length", reference, forward(subject, feeding=bucketed), "attention_mask_ignored"
        )


def plant_weights(subject: Subject, reference: Run, seed: int, sizes: Sequence[float]) -> Iterator[Planted]:
    """Other weights, or some that were never loaded."""
    for relative in sizes:
        logits = forward(subject, perturbed(subject, relative, seed))
        yield _planted("weights_changed", f"noise of {relative:.0%}", reference, logits)
    for steps in (10, 40):
        logits = forward(subject, trained_on(subject, steps, 3e-4, seed))
        yield _planted("weights_changed", f"{steps} more steps", reference, logits)
    layers = sum(1 for name, _ in subject.model.named_modules() if name.endswith("attention.self"))
    missing = forward(subject, reinitialised(subject, f"encoder.layer.{layers - 1}.", seed))
    yield _planted("weights_changed", "last layer not loaded", reference, missing)
    head = forward(subject, reinitialised(subject, "diagnosis", seed))
    yield _planted("head_not_loaded", "head", reference, head)
    encoder = forward(subject, reinitialised(subject, "base_model", seed))
    yield _planted("encoder_not_loaded", "encoder", reference, encoder)


def plant_models(
    subject: Subject,
    seed: int = 0,
    rates: Sequence[float] = (0.05, 0.1, 0.2),
    shares: Sequence[float] = (1.0, 0.4, 0.15),
    sizes: Sequence[float] = (0.05, 0.2),
) -> Iterator[Planted]:
    """Everything that is planted in a model."""
    reference = reference_of(subject)
    yield from plant_precision(subject, reference)
    yield from plant_dropout(subject, reference, seed, rates)
    yield from plant_input(subject, reference, seed, shares)
    yield from plant_weights(subject, reference, seed, sizes)


def _planted(cause: str, variant: str, reference: Run, logits: np.ndarray, *also: str) -> Planted:
    return Planted(cause, variant, with_logits(reference, logits), reference, also)
