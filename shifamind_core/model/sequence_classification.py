"""Any encoder that `AutoModelForSequenceClassification` reads, as a multi-label classifier."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub.errors
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from shifamind_core.artifacts.classifier_folder import problem_type
from shifamind_core.artifacts.json_file import read_json_object
from shifamind_core.errors import ShifamindError
from shifamind_core.model.architectures import architecture_named
from shifamind_core.model.bert_config import extended

# What a configuration may ask for that changes how a model is made or what it returns, and not what its logits are.
LEFT_OUT = frozenset(
    {
        "attn_implementation", "_attn_implementation", "auto_map", "dtype", "torch_dtype", "return_dict", "use_return_dict",
        "output_attentions", "output_hidden_states", "quantization_config", "torchscript",
    }
)  # fmt: skip
MULTI_LABEL = "multi_label_classification"
WORDS = ("word_embeddings.weight", "tok_embeddings.weight", "word_embedding.weight")
# What the library raises on values that do not go together; the last one checks them where it can.
REFUSED = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, ArithmeticError, RuntimeError, AssertionError,
    getattr(huggingface_hub.errors, "StrictDataclassError", ValueError),
)  # fmt: skip


def fitting_config(folder: Path, weights: Mapping[str, Tensor], file: str) -> Any:
    """The configuration in the folder, with as many labels and words as the weights have.

    Raises
    ------
    ShifamindError
        No configuration of a model that this library knows; one label of several (softmax), a regression, or a decoder.
    """
    path = folder / "config.json"
    content = read_json_object(path)
    kind = problem_type(folder)
    if kind not in (None, MULTI_LABEL):
        raise ShifamindError(
            f"{path} says problem_type {kind[:40]!r}: such a model chooses one label by softmax or gives a number, and only "
            "multi-label classifiers (one sigmoid a label) are read here."
        )
    if not isinstance(content.get("model_type"), str):
        raise ShifamindError(f"{path} names no model_type; copy the config.json that save_pretrained wrote.")
    if content["model_type"] not in CONFIG_MAPPING:
        own = (
            "asks for code of its own, which is never run"
            if "auto_map" in content
            else "is of no model that this library knows"
        )
        raise ShifamindError(f"{path} (model_type {content['model_type'][:40]!r}) {own}.")
    try:
        config: Any = CONFIG_MAPPING[content["model_type"]].from_dict(
            {key: value for key, value in content.items() if key not in LEFT_OUT}
        )
    except REFUSED as error:
        raise ShifamindError(
            f"{path} describes no model that this library can make ({type(error).__name__})."
        ) from error
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "is_decoder", False):
        raise ShifamindError(
            f"{path} describes a decoder ({content['model_type'][:40]}); encoders are read here."
        )
    config._attn_implementation = "sdpa"
    if (layers := getattr(config, "num_hidden_layers", 0)) > len(weights):
        raise ShifamindError(
            f"{path} says num_hidden_layers {layers:,}, but {file} has {len(weights)} tensors."
        )
    record = architecture_named("sequence_classification")
    assert record is not None
    config.num_labels = len(weights[f"{record.head(weights)}.weight"])
    words = next((tensor for name, tensor in weights.items() if name.endswith(WORDS)), None)
    if words is not None and words.ndim == 2 and isinstance(getattr(config, "vocab_size", None), int):
        config.vocab_size = extended(config.vocab_size, len(words))
    return config


def make(config: Any) -> nn.Module:
    """The model that the configuration describes.

    Raises
    ------
    ShifamindError
        The library has no classifier of this kind, or the sizes do not go together.
    """
    if not getattr(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None), "_supports_sdpa", True):
        config._attn_implementation = "eager"  # such a class refuses to be made with another
    try:
        return AutoModelForSequenceClassification.from_config(config)
    except REFUSED as error:
        raise ShifamindError(
            f"The library makes no classifier of a {str(config.model_type)[:40]} model of these sizes ({type(error).__name__})."
        ) from error
