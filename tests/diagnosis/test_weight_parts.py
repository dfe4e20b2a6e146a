"""Digests of parts: what differs is said in words, what is equal is ruled out, and the base model's encoder is proven."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shifamind_core.diagnosis.diagnose import Diagnosis, diagnose
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.facts import observed
from shifamind_core.diagnosis.evidence.manifests import compare_manifests
from shifamind_core.diagnosis.evidence.narrower import narrowed
from shifamind_core.diagnosis.evidence.prior import prior_log_odds
from shifamind_core.diagnosis.evidence.weight_parts import compare_parts
from shifamind_core.model.checkpoint import part_digests, untrained_parts, weights_digest
from shifamind_core.runs.manifest import CAPTURED, OWN, CheckpointRecord, Manifest
from shifamind_core.runs.run import Run
from simulation import planted
from simulation.builders import tiny_model

MODEL = tiny_model()
RUN = replace(planted.synthetic_run(300, seed=1), token_digests=np.arange(300))


def record(*parts: str, norms: bool = True, base: nn.Module | None = None) -> CheckpointRecord:
    """Of a model whose tensors with one of these in their names were made anew."""
    state = copy.deepcopy(MODEL.state_dict())
    for name in state:
        if any(part in name for part in parts) and (norms or "LayerNorm" not in name):
            state[name] = state[name] + 1
    known = None if base is None else part_digests(base.state_dict())
    return CheckpointRecord(
        weights_digest=weights_digest(state),
        part_digests=part_digests(state),
        base_model_digests=known and {part: known[part] for part in known if part.startswith("encoder.")},
    )


@pytest.mark.parametrize(
    ("parts", "said", "where"),
    [
        ((), "", "same"),
        (("",), "every part differs", "both"),
        (("diagnosis_classifier", "fusion", "concept"), "only the head differs", "head"),
        (("diagnosis_classifier",), "only a part of the head differs", "head"),
        (("base_model",), "only the whole encoder differs", "encoder"),
        (("layer.2.",), "only layer 2 of the encoder differs", "part of the encoder"),
        (("layer.1.", "layer.3.", "diagnosis"), "only layers 1 and 3 of the encoder and a part of the head differ", "both"),
        (("embeddings.",), "only the embeddings differ", "part of the encoder"),
        (("LayerNorm",), "only layer norms of the encoder differ", "part of the encoder"),
        (("encoder.layer",), "only all layers of the encoder differ", "encoder"),
        (("pooler",), "only the pooler differs", "part of the encoder"),
    ],
)  # fmt: skip
def test_which_parts_differ_is_said_in_words(parts, said, where) -> None:
    found = compare_parts(record(*parts), record())
    assert (found.said, found.where) == (said, where)
    assert found.sentence == (f"Of the weights, {said}." if said else "")


def test_matrices_alone_that_differ_are_said_to() -> None:
    found = compare_parts(record("", norms=False), record())
    assert (found.said, found.where) == ("every part differs (but for layer norms)", "both")


def test_a_pooler_that_no_score_depends_on_and_no_training_moves_is_said_to_be_equal() -> None:
    trained = compare_parts(record("encoder.layer", "embeddings", "diagnosis", "fusion", "concept"), record())
    assert (trained.said, trained.where) == ("every part differs (but for the pooler)", "both")
    base = compare_parts(record("encoder.layer", "embeddings", norms=False), record())
    assert base.said == "only the whole encoder (but for layer norms and the pooler) differs"
    assert base.where == "encoder"


def test_a_manifest_without_parts_says_nothing_of_them() -> None:
    assert compare_parts(record(), None) is None
    assert compare_parts(CheckpointRecord(weights_digest="a"), record()) is None


def test_parts_are_no_fields_of_their_own_but_said_with_the_digest_of_all() -> None:
    ours, theirs = (Manifest(checkpoint=one) for one in (record("layer.2."), record(base=MODEL)))
    (difference,) = compare_manifests(ours, theirs).differences
    assert difference.field == "checkpoint.weights_digest"
    assert "these are other weights (only layer 2 of the encoder differs)" in difference.sentence


def runs(
    candidate: CheckpointRecord, reference: CheckpointRecord, producer: str | None = CAPTURED
) -> tuple[Run, Run]:
    """Two runs of noise, with these weights."""
    noisy = planted.with_logits(RUN, planted.rounding_noise(RUN, 0.3, 1))
    return tuple(
        replace(run, manifest=Manifest(producer=producer, checkpoint=one))
        for run, one in ((noisy, candidate), (RUN, reference))
    )  # type: ignore[return-value]


def ruled_out(diagnosis: Diagnosis) -> set[str]:
    return {finding.cause for finding in diagnosis.findings if finding.status == "ruled_out"}


@pytest.mark.parametrize(
    ("producer", "parts", "expected"),
    [
        (CAPTURED, ("layer.2.",), {"head_not_loaded"}),
        (CAPTURED, ("diagnosis_classifier",), {"encoder_not_loaded"}),
        (OWN, ("diagnosis_classifier",), {"encoder_not_loaded"}),
        (CAPTURED, ("",), set()),
        (None, ("diagnosis_classifier",), set()),  # of a file that may not have been loaded
        (CAPTURED, (), {"head_not_loaded", "encoder_not_loaded", "other_checkpoint"}),
    ],
)
def test_a_side_whose_parts_are_all_equal_in_both_models_is_ruled_out(producer, parts, expected) -> None:
    found = ruled_out(diagnose(*runs(record(*parts), record(), producer)))
    assert found & {"head_not_loaded", "encoder_not_loaded", "other_checkpoint"} == expected


@pytest.mark.parametrize(
    ("parts", "first"),
    [
        (("",), "weights_changed"),
        (("layer.2.",), "weights_changed"),
        (("LayerNorm",), "weights_changed"),
        (("base_model",), "encoder_not_loaded"),
        (("diagnosis_classifier",), "head_not_loaded"),
    ],
)
def test_where_the_weights_differ_tells_a_head_an_encoder_and_another_checkpoint_apart(parts, first) -> None:
    causes = ("weights_changed", "encoder_not_loaded", "head_not_loaded", "numerics", "dropout_active")
    odds = prior_log_odds(Evidence.of(*runs(record(*parts), record())), causes)
    assert max(odds, key=odds.__getitem__) == first


def test_the_same_values_in_another_dtype_are_the_same_weights() -> None:
    double = {name: tensor.double() for name, tensor in MODEL.state_dict().items()}
    other = CheckpointRecord(weights_digest=weights_digest(double), part_digests=part_digests(double))
    assert observed(Evidence.of(*runs(other, record())))["weights of the model"] == {"same"}


@pytest.mark.parametrize(
    ("producer", "parts", "cause"),
    [
        (OWN, ("",), "other_checkpoint"),
        (OWN, ("layer.2.",), "other_checkpoint"),  # this product loads every weight of its file
        (CAPTURED, ("",), "other_checkpoint"),
        (CAPTURED, ("layer.2.",), "weights_changed"),
    ],
)
def test_other_weights_are_said_part_by_part(producer, parts, cause) -> None:
    between = Evidence.of(*runs(record(*parts), record(), producer))
    first = narrowed({"weights_changed": 1.0}, between)[0]
    assert first.cause == cause and compare_parts(record(*parts), record()).sentence in first.meaning


BASE = tiny_model(seed=5)
FROM_BASE = copy.deepcopy(MODEL)
FROM_BASE.base_model.load_state_dict(BASE.base_model.state_dict())


def held(model: nn.Module, known: nn.Module | None = None) -> CheckpointRecord:
    digests = None if known is None else part_digests(known.state_dict())
    return CheckpointRecord(
        weights_digest=weights_digest(model.state_dict()),
        part_digests=part_digests(model.state_dict()),
        base_model_digests=digests
        and {part: digests[part] for part in digests if part.startswith("encoder.")},
    )


@pytest.mark.parametrize("known_here", [True, False])
def test_the_base_models_encoder_under_the_checkpoints_head_is_confirmed(known_here) -> None:
    """Whichever of the two runs knows the base model."""
    candidate = held(FROM_BASE, None if known_here else BASE)
    reference = held(MODEL, BASE if known_here else None)
    found = diagnose(*runs(candidate, reference)).findings[0]
    assert (found.cause, found.status, found.share) == ("encoder_not_loaded", "confirmed", 1.0)
    assert found.meaning.startswith("The candidate's model held the encoder of the base model")


TRAINED = copy.deepcopy(MODEL)
with torch.no_grad():
    for vector in TRAINED.parameters():
        if vector.ndim == 1:
            vector += 0.01 * torch.randn(vector.shape, generator=torch.Generator().manual_seed(1))


def with_made_anew(*parts: str) -> nn.Module:
    """The trained model with these parts as the library makes them."""
    model = copy.deepcopy(TRAINED)
    fresh = tiny_model(seed=8).state_dict()
    state = {
        name: fresh[name] if any(part in name for part in parts) else tensor
        for name, tensor in model.state_dict().items()
    }
    for name in state:
        if name.startswith("diagnosis_classifier.bias") and "diagnosis_classifier" in parts:
            state[name] = torch.zeros_like(state[name])  # as a classifier of the library has it
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(
    ("parts", "producer", "cause"),
    [
        (("base_model",), CAPTURED, "encoder_not_loaded"),
        (("diagnosis_classifier",), CAPTURED, "head_not_loaded"),
        (("layer.2.",), CAPTURED, "weights_changed"),
        (("LayerNorm",), CAPTURED, "weights_changed"),
        (("base_model", "diagnosis_classifier"), CAPTURED, None),  # another checkpoint, before its training
        (("base_model",), OWN, None),
        (("base_model",), None, None),
    ],
)
def test_parts_as_the_library_makes_them_were_not_loaded(parts, producer, cause) -> None:
    records = [
        replace(held(model), untrained_parts=untrained_parts(model.state_dict()))
        for model in (TRAINED, with_made_anew(*parts))
    ]
    for candidate, reference, place in (
        (records[1], records[0], "candidate"),
        (records[0], records[1], "reference"),
    ):
        findings = [
            f for f in diagnose(*runs(candidate, reference, producer)).findings if f.status == "confirmed"
        ]
        assert [finding.cause for finding in findings] == ([] if cause is None else [cause])
        assert all(finding.evidence["run"] == place and finding.share == 1.0 for finding in findings)


def test_weights_that_were_moved_and_not_made_anew_prove_nothing() -> None:
    moved = replace(held(FROM_BASE), untrained_parts=untrained_parts(FROM_BASE.state_dict()))
    own = replace(held(MODEL), untrained_parts=untrained_parts(MODEL.state_dict()))
    assert all(finding.status != "confirmed" for finding in diagnose(*runs(moved, own)).findings)


def test_nothing_is_confirmed_where_the_head_differs_or_both_or_neither_hold_the_base_models_encoder() -> (
    None
):
    elsewhere = copy.deepcopy(FROM_BASE)
    with torch.no_grad():
        elsewhere.diagnosis_classifier.bias += 1
    for candidate, reference, producer in (
        (held(elsewhere, BASE), held(MODEL), CAPTURED),
        (held(elsewhere, BASE), held(FROM_BASE), CAPTURED),
        (held(tiny_model(seed=6), BASE), held(MODEL), CAPTURED),
        (held(FROM_BASE, BASE), held(MODEL), None),
    ):
        assert all(
            finding.status != "confirmed"
            for finding in diagnose(*runs(candidate, reference, producer)).findings
        )
