"""The two architectures: sizes, keys, arithmetic, and the seed's own evaluation loop."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import BertConfig

from shifamind_core.model.shifamind import ClsFusion, ConceptAttention
from simulation.builders import tiny_model, tiny_notes, tiny_tokens, write_base_model
from tests.support.seed_loop import seed_loop

ARCHITECTURES = ["cls_fusion", "concept_attention"]
get_probs_from_model = seed_loop(tqdm)["get_probs_from_model"]


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Tensor, Tensor]:
    base_model = write_base_model(tmp_path_factory.mktemp("base_model"))
    texts = tiny_notes(6)
    return texts, *tiny_tokens(texts, base_model)


@pytest.mark.parametrize(("kind", "parameters"), [(ClsFusion, 110_801_333), (ConceptAttention, 116_792_227)])
def test_at_full_size_the_parameters_are_those_of_the_published_runs(kind: Any, parameters: int) -> None:
    """BERT base with Bio_ClinicalBERT's vocabulary of 28,996; on the meta device no weight is allocated."""
    with torch.device("meta"):
        model = kind(BertConfig(vocab_size=28_996), codes=50, concepts=113)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == parameters


def test_at_full_size_the_head_shapes_are_the_seeds() -> None:
    with torch.device("meta"):
        state = ClsFusion(BertConfig(vocab_size=28_996), 50, 113).state_dict()
    assert tuple(state["concept_classifier.weight"].shape) == (113, 768)
    assert tuple(state["fusion_layer.weight"].shape) == (768, 3072)
    assert tuple(state["diagnosis_classifier.weight"].shape) == (50, 881)


def test_concept_attention_has_the_public_scripts_keys() -> None:
    keys = {key for key in tiny_model("concept_attention").state_dict() if not key.startswith("base_model.")}
    parts = ["query", "key", "value", "out_proj", "gate_net.0", "gate_net.3", "layer_norm"]
    assert keys == {
        "concept_embeddings",
        *(
            f"fusion_modules.{layer}.{part}.{kind}"
            for layer in (1, 3)
            for part in parts
            for kind in ("weight", "bias")
        ),
        *(f"{head}.{kind}" for head in ("concept_head", "diagnosis_head") for kind in ("weight", "bias")),
    }


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_seeds_evaluation_loop_runs_unchanged(architecture: str, notes: Any) -> None:
    texts, ids, mask = notes
    model = tiny_model(architecture)
    labels = torch.zeros(len(texts), 6)
    loader = [
        {
            "input_ids": ids[i : i + 4],
            "attention_mask": mask[i : i + 4],
            "labels": labels[i : i + 4],
            "text": texts[i : i + 4],
        }
        for i in (0, 4)
    ]
    probabilities, read_labels = get_probs_from_model(model, loader)
    assert probabilities.shape == read_labels.shape == (6, 6)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    with torch.no_grad():
        own = torch.sigmoid(model(ids, mask)["logits"]).numpy()
    np.testing.assert_allclose(probabilities, own, atol=1e-5)
    with_embeddings, _ = get_probs_from_model(
        model, loader, has_rag=True, concept_embeddings=torch.randn(5, 32)
    )
    assert with_embeddings.shape == (6, 6)


@torch.no_grad()
def test_cls_fusion_is_the_seeds_arithmetic(notes: Any) -> None:
    """The [CLS] vectors of the last four states, last first; by hand from the encoder's states."""
    _, ids, mask = notes
    model = tiny_model("cls_fusion")
    states = model.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    fused = model.fusion_layer(torch.cat([states[i][:, 0] for i in (4, 3, 2, 1)], dim=-1))
    concepts = torch.sigmoid(model.concept_classifier(fused))
    outputs = model(ids, mask)
    torch.testing.assert_close(
        outputs["logits"], model.diagnosis_classifier(torch.cat([fused, concepts], dim=-1))
    )
    torch.testing.assert_close(outputs["concept_scores"], concepts)


@torch.no_grad()
def test_concept_attention_is_the_public_scripts_arithmetic(notes: Any) -> None:
    """One head at a time, slowly, from facts about the public training script."""
    _, ids, mask = notes
    model = tiny_model("concept_attention")
    states = model.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[3]
    fusion = model.fusion_modules["3"]
    query, key, value = (
        fusion.query(states),
        fusion.key(model.concept_embeddings),
        fusion.value(model.concept_embeddings),
    )
    heads = [
        torch.softmax(query[..., h : h + 4] @ key[:, h : h + 4].T / 2.0, dim=-1) @ value[:, h : h + 4]
        for h in range(0, 32, 4)  # 8 heads of size 4, whose square root is 2
    ]
    context = fusion.out_proj(torch.cat(heads, dim=-1))
    gate = fusion.gate_net(torch.cat([states.mean(1), context.mean(1)], dim=-1))
    cls = fusion.layer_norm(gate[:, None, :] * context)[:, 0]
    outputs = model(ids, mask)
    torch.testing.assert_close(outputs["logits"], model.diagnosis_head(cls), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        outputs["concept_scores"], torch.sigmoid(model.concept_head(cls)), atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_concept_attention_depends_on_padding_and_cls_fusion_does_not(notes: Any) -> None:
    """The gate averages over padding too: so the public script does it."""
    _, ids, mask = notes
    short = int(mask.sum(1).argmin())
    length = int(mask[short].sum())
    moved = {}
    for architecture in ARCHITECTURES:
        model = tiny_model(architecture)
        padded = model(ids[[short]], mask[[short]])["logits"]
        bare = model(ids[[short], :length], mask[[short], :length])["logits"]
        moved[architecture] = float((padded - bare).abs().max())
    assert moved["cls_fusion"] < 1e-4 < 1e-2 < moved["concept_attention"]


def test_external_concept_embeddings_replace_the_models_own(notes: Any) -> None:
    _, ids, mask = notes
    model = tiny_model("concept_attention")
    with torch.no_grad():
        own = model(ids, mask)["logits"]
        same = model(ids, mask, model.concept_embeddings)["logits"]
        other = model(ids, mask, torch.randn(5, 32))["logits"]
    assert torch.equal(own, same)
    assert not torch.allclose(own, other)
