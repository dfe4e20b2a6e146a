"""The manifest: everything known about how a run came to be. What is not known is `None`, never guessed."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from shifamind_core.precision.environment import Environment
from shifamind_core.precision.policy import DType, NumericFlags, PrecisionPolicy
from shifamind_core.records import to_json

Padding = Literal["max_length", "longest"]
# How `producer` begins: this product's own predictions, and the lines that `capture` prints, run in anybody's loop.
OWN, CAPTURED = "shifamind-diagnostics", "shifamind capture"
TRAINING_MODE = "The model was in training mode: dropout was on."  # what those lines note


@dataclass(frozen=True)
class TokenizationRecord:
    """How notes became token ids. `lowercase_requested` is `None` where the library's default was asked for;
    `lowercase` is the effective casing, observed on the normalizer itself."""

    lowercase_requested: bool | None = None
    lowercase: bool | None = None
    normalizer: str | None = None
    source: str | None = None
    tokenizer_class: str | None = None
    vocabulary_sha256: str | None = None
    max_length: int | None = None
    padding: Padding | None = None
    truncation_side: Literal["right", "left"] | None = None
    special_tokens: bool | None = None


@dataclass(frozen=True)
class CheckpointRecord:
    """Which weights. `weights_digest` is over names, dtypes, shapes and bytes of the state dict, so that it
    survives a re-saved file; `file_sha256` is over the file. `weights_digest_fp16` and `weights_digest_bf16` are over names,
    shapes and the weights rounded to that format, so that a copy saved in half precision is recognised. `part_digests` are over
    names, shapes and FP32 values of each part (`artifacts.weight_parts`), whatever dtype stores them; `base_model_digests` are those of the
    base model's encoder, where its weights are at hand. `untrained_parts` are those as the library makes them: every bias exactly 0,
    every normalization's weight exactly 1. `state_dict` is the name of the weights in a file that holds several."""

    file_sha256: str | None = None
    weights_digest: str | None = None
    weights_digest_fp16: str | None = None
    weights_digest_bf16: str | None = None
    part_digests: dict[str, str] | None = None
    base_model_digests: dict[str, str] | None = None
    untrained_parts: tuple[str, ...] | None = None
    architecture: str | None = None
    state_dict: str | None = None
    parameters: int | None = None
    epoch: int | None = None
    stored_macro_f1: float | None = None
    stored_micro_f1: float | None = None


@dataclass(frozen=True)
class PolicyRecord:
    """The precision policy asked for, as far as it is known: the fields of `PrecisionPolicy`, none of its defaults."""

    name: str | None = None
    description: str | None = None
    weights: DType | None = None
    autocast: DType | None = None
    tf32: bool | None = None
    deterministic: bool | None = None
    cudnn_benchmark: bool | None = None
    math_attention: bool | None = None
    fixed_padding: bool | None = None
    emulate: Literal["tf32", "bfloat16", "float16"] | None = None
    bitwise: bool | None = None

    @classmethod
    def of(cls, policy: PrecisionPolicy) -> "PolicyRecord":
        """The record of a policy that is known in full."""
        return cls(**vars(policy))


@dataclass(frozen=True)
class Manifest:
    """Provenance of a run. `notes` are remarks for the person, e.g. what was assumed on upload.

    `documents_of` and `codes_of` say of how many notes and codes these are a part. `validated_by` is the digest of the
    validation run that a person said belongs to this one.
    """

    producer: str | None = None
    created_at_utc: str | None = None
    run_directory: str | None = None
    split: str | None = None
    documents_of: int | None = None
    codes_of: int | None = None
    validated_by: str | None = None
    checkpoint: CheckpointRecord | None = None
    tokenization: TokenizationRecord | None = None
    policy: PolicyRecord | None = None
    flags: NumericFlags | None = None
    environment: Environment | None = None
    batch_size: int | None = None
    batch_size_requested: int | None = None
    duration_seconds: float | None = None
    logits_from_probabilities: bool | None = None
    cache_key: str | None = None
    configuration_digest: str | None = None
    notes: tuple[str, ...] = field(default=())


def flatten(record: Any, prefix: str = "") -> dict[str, Any]:
    """Known leaves of a record under dotted names, for comparison field by field.

    >>> flatten(Manifest(environment=Environment(gpu="L4")))
    {'environment.gpu': 'L4'}
    """
    leaves: dict[str, Any] = {}
    for name, value in to_json(record).items():
        if isinstance(value, dict):
            leaves.update(flatten(value, f"{prefix}{name}."))
        elif value not in ([], {}):
            leaves[prefix + name] = value
    return leaves


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(to_json(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
