"""Manifests are leads: each difference says what it can explain, and none is a cause by itself."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.diagnosis.evidence.manifests import RULES, compare_manifests
from shifamind_core.precision.policy import POLICIES, NumericFlags
from shifamind_core.runs.manifest import (
    OWN,
    CheckpointRecord,
    Environment,
    Manifest,
    PolicyRecord,
    TokenizationRecord,
    flatten,
)
from shifamind_core.runs.run import Run
from simulation import planted

BASE = Manifest(
    checkpoint=CheckpointRecord(weights_digest="a" * 64, architecture="concept_attention"),
    tokenization=TokenizationRecord(
        lowercase=True, max_length=512, padding="max_length", truncation_side="right"
    ),
    policy=PolicyRecord.of(POLICIES["fp32"]),
    flags=NumericFlags(float32_matmul_precision="highest", tf32_measured=False),
    environment=Environment(
        gpu="NVIDIA H100", torch="2.9.0", transformers="4.57.6", cuda="12.6", cudnn="9.1"
    ),
    batch_size=16,
)
REFERENCE = replace(planted.synthetic_run(600, seed=4), manifest=BASE)


def changed(part: str, **values: Any) -> Manifest:
    return replace(BASE, **{part: replace(getattr(BASE, part), **values)})


def other_input(share: float = 1.0) -> np.ndarray:
    """Logits of notes of which a part reads differently: another note's logits, partly, which spread as far as before."""
    other, middle = planted.synthetic_run(600, seed=4, notes=1).logits, REFERENCE.logits.mean(axis=0)
    mixed = (middle + 0.75 * (REFERENCE.logits - middle) + 0.66 * (other - middle)).astype(np.float32)
    stay = np.random.default_rng(0).random(600) >= share
    mixed[stay] = REFERENCE.logits[stay]
    return mixed


def test_equal_manifests_do_not_differ() -> None:
    provenance = compare_manifests(BASE, BASE)
    assert not provenance.differences
    assert set(flatten(BASE)) - {"policy.name", "policy.description"} == provenance.equal


def test_what_one_manifest_does_not_know_is_unknown_and_not_different() -> None:
    provenance = compare_manifests(Manifest(), BASE)
    assert not provenance.differences
    assert "tokenization.lowercase" in provenance.unknown


def test_deciding_differences_come_first_and_say_what_they_cannot_explain() -> None:
    other = replace(changed("tokenization", lowercase=False), environment=Environment(gpu="NVIDIA L4"))
    differences = compare_manifests(other, BASE).differences
    assert [difference.field for difference in differences] == ["tokenization.lowercase", "environment.gpu"]
    for difference in differences:
        assert difference.can_explain in difference.sentence
        assert difference.cannot_explain in difference.sentence


@pytest.mark.parametrize("seed", [0, 1])
def test_another_gpu_is_never_a_cause(seed: int) -> None:
    manifest = changed("environment", gpu="NVIDIA A100", cuda="12.8", cudnn="9.5")
    for logits in (REFERENCE.logits, other_input(), planted.rounding_noise(REFERENCE, 0.3, seed)):
        with_gpu = diagnose(replace(REFERENCE, logits=logits, manifest=manifest), REFERENCE)
        without = diagnose(replace(REFERENCE, logits=logits), REFERENCE)
        assert [(f.cause, f.score) for f in with_gpu.findings] == [
            (f.cause, f.score) for f in without.findings
        ]
        assert "confirmed" not in {h.verdict for h in with_gpu.hypotheses}


def test_no_rule_blames_a_gpu_for_more_than_rounding() -> None:
    for rule in RULES:
        if rule.prefix.startswith(("environment.gpu", "environment.cuda", "environment.cudnn")):
            assert set(rule.causes) <= {"numerics"}


def test_a_casing_that_differs_narrows_other_input() -> None:
    candidate = replace(REFERENCE, logits=other_input(), manifest=changed("tokenization", lowercase=False))
    diagnosis = diagnose(candidate, REFERENCE)
    assert diagnosis.cause == "tokenizer_casing"
    assert diagnosis.findings[0].status == "likely"


def test_a_casing_that_differs_without_a_trace_is_no_finding() -> None:
    diagnosis = diagnose(replace(REFERENCE, manifest=changed("tokenization", lowercase=False)), REFERENCE)
    assert diagnosis.cause == "identical"
    assert diagnosis.finding("tokenizer_casing") is None


def test_a_version_that_keeps_case_is_named_where_casing_is_not_recorded() -> None:
    unknown = replace(BASE, tokenization=replace(BASE.tokenization, lowercase=None))
    newer = replace(unknown, environment=replace(BASE.environment, transformers="5.0.0"))
    candidate = replace(REFERENCE, logits=other_input(), manifest=newer)
    casing = diagnose(candidate, replace(REFERENCE, manifest=unknown)).finding("tokenizer_casing")
    assert casing is not None and "5.0.0 and 4.57.6" in casing.meaning
    both = diagnose(candidate, replace(REFERENCE, manifest=newer))
    assert both.finding("tokenizer_casing") is None


@pytest.mark.parametrize(
    ("field", "value", "cause"),
    [("max_length", 384, "max_length"), ("truncation_side", "left", "truncation_side")],
)
def test_another_length_or_side_narrows_other_input(field: str, value: Any, cause: str) -> None:
    candidate = replace(
        REFERENCE, logits=other_input(0.8), manifest=changed("tokenization", **{field: value})
    )
    assert diagnose(candidate, REFERENCE).cause == cause


def test_other_weights_are_named_by_their_digest_and_ruled_out_by_an_equal_one() -> None:
    mixing = np.random.default_rng(0).standard_normal((50, 50)) * 0.06
    logits = (REFERENCE.logits @ (np.eye(50) + mixing)).astype(np.float32)
    other = diagnose(
        replace(REFERENCE, logits=logits, manifest=changed("checkpoint", weights_digest="b" * 64)), REFERENCE
    )
    assert other.cause == "other_checkpoint"
    # Somebody else may have read the same file and not loaded all of it; this product loads strictly.
    for producer, status in ((None, "likely"), (OWN, "possible")):
        reference = replace(REFERENCE, manifest=replace(BASE, producer=producer))
        same = diagnose(replace(reference, logits=logits), reference)
        finding = same.finding("weights_changed")
        assert finding is not None and finding.status == status
        assert ("a part was not loaded" in finding.meaning) == (producer is None)
        assert same.finding("other_checkpoint").status == "ruled_out"  # type: ignore[union-attr]


def test_equal_token_digests_rule_out_other_input() -> None:
    digests = np.arange(600, dtype=np.int64)
    with_tokens: Run = replace(REFERENCE, token_digests=digests)
    diagnosis = diagnose(replace(with_tokens, logits=other_input()), with_tokens)
    for cause in ("input_changed", "tokenizer_casing"):
        finding = diagnosis.finding(cause)
        assert finding is not None and finding.status == "ruled_out"


def test_token_digests_that_differ_exactly_where_logits_do_show_other_input() -> None:
    digests = np.arange(600, dtype=np.int64)
    logits = other_input(0.6)
    moved = (logits != REFERENCE.logits).any(axis=1)
    candidate = replace(REFERENCE, logits=logits, token_digests=np.where(moved, -digests - 1, digests))
    assert diagnose(candidate, replace(REFERENCE, token_digests=digests)).cause == "input_changed"


def test_values_rounded_to_bf16_after_they_were_computed_are_how_the_file_was_saved() -> None:
    diagnosis = diagnose(replace(REFERENCE, logits=planted.to_bf16(REFERENCE.logits)), REFERENCE)
    assert (diagnosis.cause, diagnosis.findings[0].status) == ("stored_precision", "confirmed")
    assert {hypothesis.verdict for hypothesis in diagnosis.hypotheses} == {"ruled_out"}
