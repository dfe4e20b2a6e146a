"""Faults planted where they happen: in the model, its input or its arithmetic. Needs torch."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo import write_demo
from shifamind_core.inference.tokenization import Tokenization, load_tokenizer, tokenize
from shifamind_core.model.architectures import ClsFusion, ConceptAttention
from shifamind_core.model.build import build_model
from shifamind_core.model.checkpoint import read_checkpoint
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import CheckpointRecord, Environment, Manifest, TokenizationRecord
from shifamind_core.runs.run import Run
from tests.planted import Planted, code_permutation, shuffled, to_bf16, with_logits

Notes = Sequence[np.ndarray]
PAD, CLS, SEP = 0, 101, 102
SLOW = 64  # notes


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
        tokens = tokenize(texts, load_tokenizer(directory.base_model(None), lowercase), None)
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
        policy=POLICIES["fp32"],
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


def plant_precision(subject: Subject, reference: Run) -> Iterator[Planted]:
    """Only the arithmetic differs."""
    model = subject.model

    def planted(variant: str, policy: str, logits: np.ndarray) -> Planted:
        return _planted(
            "numerics", variant, reference, logits, manifest=_with(reference, policy=POLICIES[policy])
        )

    yield planted("FP64", "fp64", forward(subject, copy.deepcopy(model).double()))
    yield planted("FP32, batch of 7", "fp32", forward(subject, feeding=replace(subject.feeding, batch=7)))
    yield planted("TF32", "tf32", forward(subject, in_tf32(subject)))
    yield planted("BF16 autocast", "bf16-autocast", forward(subject, autocast=torch.bfloat16))
    yield planted("BF16 weights", "bf16", forward(subject, copy.deepcopy(model).bfloat16()))
    # Processors without FP16 products take ten times as long: fewer notes.
    few = np.arange(SLOW)
    part, rest = replace(subject, notes=subject.notes[:SLOW]), reference.select(rows=few)
    for variant, policy, logits in (
        ("FP16 autocast", "fp16-autocast", forward(part, autocast=torch.float16)),
        ("FP16 weights", "fp16", forward(part, copy.deepcopy(model).half())),
    ):
        manifest = _with(reference, policy=POLICIES[policy])
        yield _planted("numerics", variant, rest, logits, manifest=manifest)
    widened = forward(subject, head_in_fp32(subject), autocast=torch.bfloat16)
    yield planted("BF16 autocast, head in FP32", "bf16-autocast", widened)


def plant_dropout(subject: Subject, reference: Run, seed: int, rates: Sequence[float]) -> Iterator[Planted]:
    """Dropout left on, at several rates; on either side; in part of the model; also in half precision."""
    for nth, rate in enumerate(rates):
        noisy = forward(subject, with_dropout(subject, rate, seed + nth))
        yield _planted("dropout_active", f"rate {rate:g}", reference, noisy)
    noisy = forward(subject, with_dropout(subject, 0.1, seed + 101))
    swapped = _planted("dropout_active", "in the reference", reference, noisy)
    yield replace(swapped, candidate=swapped.reference, reference=swapped.candidate)
    for part in ("attention", "output"):
        noisy = forward(subject, with_dropout(subject, 0.15, seed + 102, part))
        yield _planted("dropout_active", f"in {part} alone", reference, noisy)
    manifest = _with(reference, policy=POLICIES["bf16-autocast"])
    for rate in (0.03, 0.1):
        noisy = forward(subject, with_dropout(subject, rate, seed + 103), autocast=torch.bfloat16)
        yield _planted(
            "dropout_active", f"rate {rate:g} in BF16", reference, noisy, "numerics", manifest=manifest
        )


def plant_casing(subject: Subject, reference: Run, seed: int, shares: Sequence[float]) -> Iterator[Planted]:
    """Other tokens in some words or all; alone, rounded, and out of order."""

    def planted(cause: str, variant: str, logits: np.ndarray, *also: str, share: float = 1.0) -> Planted:
        return _planted(
            cause,
            variant,
            reference,
            logits,
            *also,
            manifest=_with(reference, tokenization__lowercase=False),
            digests=token_digests(recased(subject, share, seed), subject.feeding),
            general=("input_changed", "few_documents_changed") if share <= 0.2 else ("input_changed",),
        )

    for share in shares:
        logits = forward(subject, notes=recased(subject, share, seed))
        yield planted("tokenizer_casing", f"{share:.0%} of the words", logits, share=share)
    rng = np.random.default_rng(seed)
    cased = forward(subject, notes=subject.recased)
    yield planted("tokenizer_casing", "and BF16 storage", to_bf16(cased), "numerics")
    coarse = forward(subject, notes=subject.recased, autocast=torch.bfloat16)
    yield planted("tokenizer_casing", "in BF16", coarse, "numerics")
    part = forward(subject, in_tf32(subject), notes=recased(subject, 0.3, seed))
    yield planted("tokenizer_casing", "30% of the words, in TF32", part, "numerics", share=0.3)
    rows = shuffled(reference.documents, rng)
    order = code_permutation(cased.shape[1], 10, rng)
    yield planted("document_order", "and casing", cased[rows], "tokenizer_casing")
    yield planted("code_order", "and casing", cased[:, order], "tokenizer_casing")


def plant_input(subject: Subject, reference: Run, seed: int) -> Iterator[Planted]:
    """Other lengths, other ends, other padding, no mask, no special tokens, notes without their beginnings."""
    feeding = subject.feeding

    def planted(
        cause: str, variant: str, other: Feeding, *twins: str, notes: Notes | None = None, **fields: object
    ) -> Planted:
        case = _planted(
            cause,
            variant,
            reference,
            forward(subject, notes=notes, feeding=other),
            manifest=_with(reference, **{f"tokenization__{name}": value for name, value in fields.items()}),
            digests=token_digests(notes or subject.notes, other),
            general=("input_changed", "few_documents_changed"),
        )
        return replace(case, twins=twins)

    bare = replace(feeding, special=False)
    yield planted("input_changed", "no special tokens", bare, "weights_changed", special_tokens=False)
    yield planted("input_changed", "beginnings cut", feeding, notes=[note[15:] for note in subject.notes])
    for share in (0.75, 0.5):
        shorter = replace(feeding, max_length=int(share * feeding.max_length))
        yield planted("max_length", f"{share:.0%}", shorter, "truncation_side", max_length=shorter.max_length)
    yield planted(
        "truncation_side", "left", replace(feeding, left=True), "max_length", truncation_side="left"
    )
    yield planted("attention_mask_ignored", "fixed padding", replace(feeding, mask=False), "padding")
    if hasattr(subject.model, "fusion_modules"):
        for variant, other in (
            ("none at all", replace(feeding, pad_to_longest=True, batch=1)),
            ("by length", replace(feeding, pad_to_longest=True, sort=True, batch=20)),
        ):
            yield planted("padding", variant, other, "attention_mask_ignored", padding="longest")


def plant_weights(subject: Subject, reference: Run, seed: int, sizes: Sequence[float]) -> Iterator[Planted]:
    """Other weights, or some that were never loaded."""

    def planted(variant: str, model: nn.Module) -> Planted:
        return _planted(
            "other_checkpoint",
            variant,
            reference,
            forward(subject, model),
            manifest=_with(reference, checkpoint__weights_digest="b" * 64),
            general=("weights_changed",),
        )

    for nth, relative in enumerate(sizes):
        yield planted(f"noise of {relative:.0%}", perturbed(subject, relative, seed + nth))
    yield planted("noise of 10% in the head", perturbed(subject, 0.1, seed, "diagnosis"))
    for steps, rate in ((5, 3e-4), (20, 1e-4), (10, 2e-5)):
        yield planted(f"{steps} more steps at {rate:g}", trained_on(subject, steps, rate, seed))
    layers = sum(1 for name, _ in subject.model.named_modules() if name.endswith("attention.self"))
    # Concept attention reads the states that enter the last layer, and so never runs it to an effect.
    used = layers - 1 if not hasattr(subject.model, "fusion_modules") else layers - 2
    missing = reinitialised(subject, f"encoder.layer.{used}.", seed)
    yield _planted("weights_changed", "last layer not loaded", reference, forward(subject, missing))
    head = forward(subject, reinitialised(subject, "diagnosis", seed))
    yield _planted("head_not_loaded", "head", reference, head)
    encoder = forward(subject, reinitialised(subject, "base_model", seed))
    yield _planted("encoder_not_loaded", "encoder", reference, encoder)


def plant_models(
    subject: Subject,
    seed: int = 0,
    rates: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.3),
    shares: Sequence[float] = (1.0, 0.4, 0.15, 0.05),
    sizes: Sequence[float] = (0.01, 0.03, 0.1, 0.2),
) -> Iterator[Planted]:
    """Everything that is planted in a model."""
    reference = reference_of(subject)
    yield from plant_precision(subject, reference)
    yield from plant_dropout(subject, reference, seed, rates)
    yield from plant_casing(subject, reference, seed, shares)
    yield from plant_input(subject, reference, seed)
    yield from plant_weights(subject, reference, seed, sizes)


def _with(reference: Run, **changes: object) -> Manifest:
    """The reference's manifest with some fields changed, `part__field` for a field of a part."""
    manifest = reference.manifest
    for name, value in changes.items():
        part, _, inner = name.partition("__")
        manifest = replace(
            manifest, **{part: replace(getattr(manifest, part), **{inner: value}) if inner else value}
        )
    return manifest


def _planted(
    cause: str,
    variant: str,
    reference: Run,
    logits: np.ndarray,
    *also: str,
    manifest: Manifest | None = None,
    digests: np.ndarray | None = None,
    general: tuple[str, ...] = (),
) -> Planted:
    changes: dict[str, object] = {} if manifest is None else {"manifest": manifest}
    if digests is not None:
        changes["token_digests"] = digests
    candidate = with_logits(reference, logits, **changes)
    return Planted(cause, variant, candidate, reference, also, general)
