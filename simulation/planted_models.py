"""Faults planted where they happen: in the model, its input or its arithmetic. Needs torch."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.manifest import Manifest, PolicyRecord
from shifamind_core.runs.run import Run
from simulation.planted import Planted, code_permutation, shuffled, to_bf16, with_logits
from simulation.subjects import (
    Feeding,
    Notes,
    Subject,
    forward,
    head_in_fp32,
    in_tf32,
    perturbed,
    recased,
    reference_of,
    reinitialised,
    token_digests,
    trained_on,
    with_dropout,
)

SLOW = 64  # notes


def plant_arithmetic(subject: Subject, reference: Run) -> Iterator[Planted]:
    """Only the arithmetic differs."""
    model = subject.model

    def planted(variant: str, policy: str, logits: np.ndarray) -> Planted:
        return _planted(
            "numerics",
            variant,
            reference,
            logits,
            manifest=_with(reference, policy=PolicyRecord.of(POLICIES[policy])),
        )

    yield planted("FP64", "fp64", forward(subject, copy.deepcopy(model).double()))
    yield planted("FP32, batch of 7", "fp32", forward(subject, feeding=replace(subject.feeding, batch=7)))
    yield planted("TF32", "tf32", forward(subject, in_tf32(subject)))
    yield planted("BF16 autocast", "bf16-autocast", forward(subject, autocast=torch.bfloat16))
    yield planted("BF16 weights", "bf16", forward(subject, copy.deepcopy(model).bfloat16()))
    widened = forward(subject, head_in_fp32(subject), autocast=torch.bfloat16)
    off_lattice = planted("BF16 autocast, head in FP32", "bf16-autocast", widened)
    yield replace(off_lattice, twins=("dropout_active",))


def plant_fp16(subject: Subject, reference: Run) -> Iterator[Planted]:
    """FP16 arithmetic."""
    model = subject.model
    # Processors without FP16 products take ten times as long: fewer notes.
    few = np.arange(SLOW)
    part, rest = replace(subject, notes=subject.notes[:SLOW]), reference.select(rows=few)
    for variant, policy, logits in (
        ("FP16 autocast", "fp16-autocast", forward(part, autocast=torch.float16)),
        ("FP16 weights", "fp16", forward(part, copy.deepcopy(model).half())),
    ):
        manifest = _with(reference, policy=PolicyRecord.of(POLICIES[policy]))
        yield _planted("numerics", variant, rest, logits, manifest=manifest)


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
    manifest = _with(reference, policy=PolicyRecord.of(POLICIES["bf16-autocast"]))
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
    moved = planted("document_order", "and casing", cased[rows], "tokenizer_casing")
    yield replace(moved, twins=("different_documents",))
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


def plant_noise(subject: Subject, reference: Run, seed: int, sizes: Sequence[float]) -> Iterator[Planted]:
    """Other weights: noise of several sizes on all of them, or on the head."""
    for nth, relative in enumerate(sizes):
        model = perturbed(subject, relative, seed + nth)
        yield _other_weights(f"noise of {relative:.0%}", subject, reference, model)
    model = perturbed(subject, 0.1, seed, "diagnosis")
    yield _other_weights("noise of 10% in the head", subject, reference, model)


def plant_training(subject: Subject, reference: Run, seed: int) -> Iterator[Planted]:
    """Other weights: of another epoch."""
    for steps, rate in ((5, 3e-4), (20, 1e-4), (10, 2e-5)):
        model = trained_on(subject, steps, rate, seed)
        yield _other_weights(f"{steps} more steps at {rate:g}", subject, reference, model)


def _other_weights(variant: str, subject: Subject, reference: Run, model: nn.Module) -> Planted:
    return _planted(
        "other_checkpoint",
        variant,
        reference,
        forward(subject, model),
        manifest=_with(reference, checkpoint__weights_digest="b" * 64),
        general=("weights_changed",),
    )


def plant_loading(subject: Subject, reference: Run, seed: int) -> Iterator[Planted]:
    """Weights that were never loaded: of a layer, the head, the encoder."""
    layers = sum(1 for name, _ in subject.model.named_modules() if name.endswith("attention.self"))
    # Concept attention reads the states that enter the last layer, and so never runs it to an effect.
    used = layers - 1 if not hasattr(subject.model, "fusion_modules") else layers - 2
    missing = reinitialised(subject, f"encoder.layer.{used}.", seed)
    logits = forward(subject, missing)
    yield _planted("weights_changed", "last layer not loaded", reference, logits, "encoder_not_loaded")
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
    for cases in (
        plant_arithmetic(subject, reference),
        plant_fp16(subject, reference),
        plant_dropout(subject, reference, seed, rates),
        plant_casing(subject, reference, seed, shares),
        plant_input(subject, reference, seed),
        plant_noise(subject, reference, seed, sizes),
        plant_training(subject, reference, seed),
        plant_loading(subject, reference, seed),
    ):
        # What leaves every logit as it was is no fault to be found, e.g. no mask where every note fills the input.
        yield from (
            case for case in cases if not np.array_equal(case.candidate.logits, case.reference.logits)
        )


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
