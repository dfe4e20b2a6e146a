"""Parts of a model's weights, told by names alone, on the library's own models."""

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from shifamind_core.artifacts.weight_parts import weight_parts
from simulation.builders import tiny_model

KINDS = (
    "bert", "roberta", "distilbert", "deberta", "deberta-v2", "electra", "longformer", "mpnet", "albert", "xlnet",
)  # fmt: skip


def names(kind: str, make=AutoModelForSequenceClassification) -> list[str]:
    config = AutoConfig.for_model(kind, vocab_size=50, pad_token_id=0)
    config.num_hidden_layers = 2
    with torch.device("meta"):
        return list(make.from_config(config).state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_of_one_part_and_layers_embeddings_and_heads_are_found(kind: str) -> None:
    every = names(kind)
    parts = weight_parts(every)
    assert sorted(name for held in parts.values() for name in held) == sorted(every)
    layers = {"0"} if kind == "albert" else {"0", "1"}  # whose layers share their weights
    assert {part.split(".")[2] for part in parts if part.startswith("encoder.layer.")} == layers
    assert any(part.startswith(("encoder.embeddings", "encoder.word_embedding")) for part in parts)
    encoder = "transformer." if kind == "xlnet" else f"{kind.removesuffix('-v2')}."
    assert {name for part in parts if part.startswith("head.") for name in parts[part]} == {
        name for name in every if not name.startswith(encoder)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_normalizations_are_parts_of_their_own(kind: str) -> None:
    for part, held in weight_parts(names(kind)).items():
        inside = [name for name in held if "norm" in name.lower()]
        assert len(inside) == (len(held) if part.endswith(".norms") else 0)


def test_an_encoder_has_the_same_names_alone_and_in_every_model_around_it() -> None:
    def encoder(every: list[str]) -> dict[str, list[str]]:
        return {
            part: sorted(held.values())
            for part, held in weight_parts(every).items()
            if part.startswith("encoder.")
        }

    alone = encoder(names("bert", AutoModel))
    assert alone == encoder(names("bert")) == encoder([f"net.{name}" for name in names("bert")])
    assert set(alone) < set(encoder(list(tiny_model().state_dict())))  # which has more layers


def test_the_two_shifamind_models_have_their_heads_by_name() -> None:
    heads = [
        {part for part in weight_parts(list(tiny_model(kind).state_dict())) if part.startswith("head.")}
        for kind in ("cls_fusion", "concept_attention")
    ]
    assert heads[0] == {"head.concept_classifier", "head.diagnosis_classifier", "head.fusion_layer"}
    assert heads[1] == {
        "head.concept_embeddings", "head.concept_head", "head.diagnosis_head", "head.fusion_modules.1", "head.fusion_modules.3",
    }  # fmt: skip


@pytest.mark.parametrize(
    "every",
    [
        [],
        ["weight", "bias"],
        ["body.layer.0.weight", "head.weight"],  # numbered, but without embeddings
        ["body.embeddings.weight", "head.weight"],  # no layers
        [
            f"{tower}.{name}"
            for tower in ("notes", "codes")
            for name in ("embeddings.weight", "layer.0.weight")
        ],
    ],
)
def test_without_one_encoder_there_are_no_parts(every: list[str]) -> None:
    assert weight_parts(every) == {}
