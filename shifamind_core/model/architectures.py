"""What is known of each architecture: one record, and nothing about it anywhere else.

The records name torch only in functions that import it when they run, so that pages and the diagnosis, which load no
torch, read the same records. Adding one is described in CONTRIBUTING.md.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from shifamind_core.model.bitwise_heads import BitwiseParts

Weights = Mapping[str, "Tensor"]


def _no_names(base_model: Path) -> tuple[str, ...] | None:
    return None


def _fit(base_model: Path, labels: np.ndarray) -> str | None:
    return None


@dataclass(frozen=True)
class Architecture:
    """One kind of model.

    Attributes
    ----------
    name : str
        In JSON and manifests.
    title : str
        For people.
    marks : tuple of frozenset of str
        How keys of its state dict begin, by which it is recognised: all names of one of these sets.
    heads : tuple of str
        Where the layer that gives the logits may stand; the first that is there counts.
    config : callable
        The configuration in a base model's folder, held against the weights: `config(folder, weights, file_name)`. Refuses
        with a `ShifamindError` what does not fit.
    make : callable
        A model of the sizes that the weights show: `make(config, weights)`. Called with torch's default device `meta`
        where the weights are loaded anyway. It is called with `input_ids` and `attention_mask`, gives a mapping with
        `logits` [batch, codes] and, where it has concepts, `concept_scores`, and its encoder is `base_model`.
    bitwise : callable
        The parts from which `bitwise` computes this model, or the reason why it does not cover it.
    concept_head : str, optional
        The layer that gives the concept scores.
    reads_padding : str, optional
        Why the logits of one and the same note depend on how far it is padded; `None` where attention masks the padding and
        nothing but [CLS] is read.
    interventions : frozenset of str
        Of replay's interventions, those that this architecture allows and others may not, by slot: ``pooling``,
        ``fusion_order``, ``concept_embeddings``.
    codes : callable
        The codes' names, where the base model's folder has them.
    unfit : callable
        Why a split's labels, uint8 [documents, codes], cannot be this model's; `None` where they can.
    """

    name: str
    title: str
    marks: tuple[frozenset[str], ...]
    heads: tuple[str, ...]
    config: Callable[[Path, Weights, str], Any]
    make: Callable[[Any, Weights], "nn.Module"]
    bitwise: Callable[["nn.Module"], "BitwiseParts | str"]
    concept_head: str | None = None
    reads_padding: str | None = None
    interventions: frozenset[str] = frozenset()
    codes: Callable[[Path], tuple[str, ...] | None] = _no_names
    unfit: Callable[[Path, np.ndarray], str | None] = _fit

    def recognises(self, names: Collection[str]) -> bool:
        """Whether a state dict with these keys is of this architecture: it has all marks, and an encoder beside the heads."""
        starts = {name[:end] for name in names for end in _ends(name)}
        return len({name.split(".")[0] for name in names}) > 1 and any(way <= starts for way in self.marks)

    def head(self, names: Collection[str]) -> str:
        """The layer that gives the logits, of a state dict with these keys."""
        return next((head for head in self.heads if f"{head}.weight" in names), self.heads[0])


def _ends(name: str) -> list[int]:
    """Where a key's first one, two, … parts end."""
    return [place for place, letter in enumerate(name) if letter == "."] + [len(name)]


def architecture_named(name: str | None) -> Architecture | None:
    """The record of that name, if there is one."""
    return next((one for one in ARCHITECTURES if one.name == name), None)


def recognised(names: Collection[str]) -> Architecture | None:
    """The one architecture that a state dict with these keys is of; `None` for none, or more than one."""
    found = [one for one in ARCHITECTURES if one.recognises(names)]
    return found[0] if len(found) == 1 else None


def architecture_of(model: "nn.Module") -> Architecture | None:
    """The architecture of a built model."""
    return recognised(model.state_dict())


def title_of(name: object) -> str | None:
    """An architecture's name for people; one without a record as it is.

    >>> title_of("cls_fusion"), title_of("another"), title_of(None)
    ('CLS fusion', 'another', None)
    """
    known = architecture_named(name if isinstance(name, str) else None)
    return known.title if known else None if name is None else str(name)


def _bert_config(folder: Path, weights: Weights, file: str) -> Any:
    from shifamind_core.model.bert_config import fitting_config

    return fitting_config(folder, weights, file)


def _cls_fusion(config: Any, weights: Weights) -> "nn.Module":
    from shifamind_core.model.shifamind import ClsFusion

    return ClsFusion(
        config, len(weights["diagnosis_classifier.weight"]), len(weights["concept_classifier.weight"])
    )


def _concept_attention(config: Any, weights: Weights) -> "nn.Module":
    from shifamind_core.model.shifamind import ConceptAttention, fitting_fusion_layers

    codes, concepts = len(weights["diagnosis_head.weight"]), len(weights["concept_head.weight"])
    return ConceptAttention(config, codes, concepts, fitting_fusion_layers(config, weights))


def _classifier_config(folder: Path, weights: Weights, file: str) -> Any:
    from shifamind_core.model.sequence_classification import fitting_config

    return fitting_config(folder, weights, file)


def _classifier(config: Any, weights: Weights) -> "nn.Module":
    from shifamind_core.model.sequence_classification import make

    return make(config)


def _classifier_codes(folder: Path) -> tuple[str, ...] | None:
    from shifamind_core.artifacts.classifier_folder import label_names

    return label_names(folder)


def _classifier_unfit(folder: Path, labels: np.ndarray) -> str | None:
    from shifamind_core.artifacts.classifier_folder import single_label

    return single_label(folder, labels)


def _bitwise_cls_fusion(model: "nn.Module") -> "BitwiseParts | str":
    from shifamind_core.model.bitwise_heads import of_cls_fusion

    return of_cls_fusion(model)


def _bitwise_concept_attention(model: "nn.Module") -> "BitwiseParts | str":
    from shifamind_core.model.bitwise_heads import of_concept_attention

    return of_concept_attention(model)


def _bitwise_classifier(model: "nn.Module") -> "BitwiseParts | str":
    from shifamind_core.model.bitwise_heads import of_classifier

    return of_classifier(model)


CLASSIFIER_HEADS = (
    "classifier", "classifier.out_proj", "classifier.linear_out", "score", "logits_proj", "classification_head.out_proj",
)  # fmt: skip
ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        name="cls_fusion",
        title="CLS fusion",
        marks=(frozenset({"base_model", "concept_classifier", "fusion_layer", "diagnosis_classifier"}),),
        heads=("diagnosis_classifier",),
        concept_head="concept_classifier",
        config=_bert_config,
        make=_cls_fusion,
        bitwise=_bitwise_cls_fusion,
        interventions=frozenset({"pooling", "fusion_order"}),
    ),
    Architecture(
        name="concept_attention",
        title="Concept cross-attention",
        marks=(
            frozenset({"base_model", "concept_embeddings", "fusion_modules", "concept_head", "diagnosis_head"}),
        ),
        heads=("diagnosis_head",),
        concept_head="concept_head",
        config=_bert_config,
        make=_concept_attention,
        bitwise=_bitwise_concept_attention,
        reads_padding="The concept cross-attention averages over all positions, padding included.",
        interventions=frozenset({"pooling", "fusion_order", "concept_embeddings"}),
    ),
    Architecture(
        name="sequence_classification",
        title="Hugging Face classifier",
        marks=tuple(frozenset({f"{head}.weight"}) for head in CLASSIFIER_HEADS),
        heads=CLASSIFIER_HEADS,
        config=_classifier_config,
        make=_classifier,
        bitwise=_bitwise_classifier,
        codes=_classifier_codes,
        unfit=_classifier_unfit,
    ),
)  # fmt: skip
