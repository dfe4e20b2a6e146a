"""Interventions that edit the model on its way: its forward pass, and weights that were not loaded or came from elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shifamind_core.model.architectures import Architecture
from shifamind_core.replay.recipe import Edit, EditContext, Intervention, masked_mean, plain_mean, with_edit

BERT_INITIAL_STD = 0.02


def pooling() -> list[Intervention]:
    """Another vector than [CLS] is read."""

    def pooled(name: str, how: Callable[[Tensor, Tensor], Tensor], words: str) -> Intervention:
        edit = Edit(name, lambda model, _: setattr(model, "pool", how))
        return Intervention(
            name,
            "forward",
            f"a forward pass that averages over {words}",
            "Read the [CLS] position.",
            with_edit(edit),
        )

    return [
        pooled("pooling=mean", masked_mean, "a note's tokens"),
        pooled("pooling=mean_with_padding", plain_mean, "all positions, padding included"),
    ]


def dropout_on() -> Intervention:
    """Nobody called `eval()`."""
    return Intervention(
        "dropout=on",
        "forward",
        "a model left in training mode",
        "Call model.eval() before evaluation in the other pipeline.",
        with_edit(Edit("dropout=on", lambda model, _: _train(model), random=True)),
    )


def segments(model: nn.Module, kind: Architecture) -> list[Intervention]:
    """Token types of ones: at every position; or, where padding may count, at a note's own."""
    embeddings = getattr(model.get_submodule("base_model"), "embeddings", None)
    table = getattr(embeddings, "token_type_embeddings", None)
    if not isinstance(table, nn.Embedding) or table.num_embeddings < 2:
        return []
    ways = ("", "padding left 0") if kind.reads_padding is not None else ("",)
    return [
        Intervention(
            "segments=ones",
            "forward",
            "a loop that passes ones, or the attention mask, as token_type_ids",
            "Pass the tokenizer's token_type_ids in the other pipeline, or none: a note is one segment, number 0.",
            with_edit(Edit(f"segments=ones {way}".strip(), partial(_of_ones, not way))),
            way,
        )
        for way in ways
    ]


def weights(model: nn.Module, kind: Architecture) -> list[Intervention]:
    """A part of the checkpoint was not loaded, and stands as it was made."""

    def made(
        name: str, what: str, variant: str, apply: Callable[[nn.Module, EditContext], None]
    ) -> Intervention:
        return Intervention(
            name,
            "weights",
            f"a checkpoint whose {what} was skipped or renamed (strict=False)",
            "Load with strict=True and read the missing keys in the other pipeline.",
            with_edit(Edit(f"{name} {variant}".strip(), apply, random=True)),
            variant,
        )

    diagnosis = kind.head(model.state_dict())
    encoder = model.get_submodule("base_model")
    heads = [name for name, part in model.named_children() if part is not encoder]
    head = partial(made, "head=not_loaded", "head")
    return [
        made("encoder=not_loaded", "encoder", "", partial(_initialise, ["base_model"], _as_bert)),
        head("", partial(_initialise, [diagnosis], _as_torch)),
        head("as BERT initialises", partial(_initialise, [diagnosis], _as_bert)),
        head("every layer after the encoder", partial(_initialise, heads, _as_torch)),
    ]


def concepts(model: nn.Module, embeddings: Mapping[str, np.ndarray]) -> list[Intervention]:
    """Concept embeddings made anew, or those of another file."""
    own = model.get_parameter("concept_embeddings")
    spread = float(own.std())
    random = [
        Intervention(
            "concept_embeddings=random",
            "weights",
            "concept embeddings made anew instead of loaded",
            "Load concept_embeddings from the checkpoint in the other pipeline.",
            with_edit(
                Edit(f"concept_embeddings=random {std:g}", partial(_random_concepts, std), random=True)
            ),
            f"standard deviation {std:.2g}",
        )
        for std in (0.02, 1.0, spread)  # the public script's, torch.randn's, and as large as the trained ones
    ]
    external = [
        Intervention(
            "concept_embeddings=external",
            "weights",
            f"concept embeddings of {where} in place of those in the state dict",
            f"Do not pass the embeddings of {where} to the model in the other pipeline: the state dict holds the trained ones.",
            with_edit(Edit(f"concept_embeddings=external {where}", partial(_external_concepts, where))),
            where,
        )
        for where, array in embeddings.items()
        if array.shape == tuple(own.shape) and not np.array_equal(array, own.detach().cpu().numpy())
    ]
    return random + external


def fusion_reversed() -> Intervention:
    """Hidden states in the other order."""
    return Intervention(
        "fusion_order=reversed",
        "forward",
        "a forward pass that fuses the hidden states in the other order",
        "Fuse the hidden states in the order of training: last first.",
        with_edit(Edit("fusion_order=reversed", _reverse_fusion)),
    )


def _of_ones(padded: bool, model: nn.Module, _: EditContext) -> None:
    base_model = model.get_submodule("base_model")
    padding = base_model.config.pad_token_id or 0  # type: ignore[union-attr]

    def ones(module: nn.Module, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids = given["input_ids"]  # [batch, tokens]
        return args, given | {"token_type_ids": torch.ones_like(ids) if padded else (ids != padding).long()}

    base_model.get_submodule("embeddings").register_forward_pre_hook(ones, with_kwargs=True)


def _train(model: nn.Module) -> None:
    model.train()


def _initialise(
    parts: Sequence[str],
    how: Callable[[nn.Module, float, torch.Generator], None],
    model: nn.Module,
    context: EditContext,
) -> None:
    config: Any = model.get_submodule("base_model").config
    std = getattr(config, "initializer_range", BERT_INITIAL_STD)
    for part in parts:
        for module in model.get_submodule(part).modules():
            how(module, std, context.generator)


def _as_bert(module: nn.Module, std: float, generator: torch.Generator) -> None:
    """BERT's initialisation: normal matrices, zero biases, unit LayerNorm, zero padding embedding."""
    if isinstance(module, nn.Linear | nn.Embedding):
        module.weight.data.normal_(0, std, generator=generator)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        module.weight.data[module.padding_idx] = 0
    if isinstance(module, nn.Linear) and module.bias is not None:
        module.bias.data.zero_()
    if isinstance(module, nn.LayerNorm):
        module.weight.data.fill_(1)
        module.bias.data.zero_()


def _as_torch(module: nn.Module, std: float, generator: torch.Generator) -> None:
    """As torch makes layers: an `nn.Linear` uniform within 1/√inputs, an `nn.LayerNorm` of ones."""
    if isinstance(module, nn.Linear):
        bound = module.in_features**-0.5
        for parameter in (module.weight, module.bias):
            parameter.data.uniform_(-bound, bound, generator=generator)
    if isinstance(module, nn.LayerNorm):
        module.weight.data.fill_(1)
        module.bias.data.zero_()


def _random_concepts(std: float, model: nn.Module, context: EditContext) -> None:
    model.get_parameter("concept_embeddings").data.normal_(0, std, generator=context.generator)


def _external_concepts(where: str, model: nn.Module, context: EditContext) -> None:
    own = model.get_parameter("concept_embeddings")
    own.data.copy_(torch.from_numpy(context.concept_embeddings[where]))


def _reverse_fusion(model: Any, _: EditContext) -> None:
    model.reverse_fusion()
