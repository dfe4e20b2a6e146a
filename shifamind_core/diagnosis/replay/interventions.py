"""The ways in which such pipelines go wrong. Adding one is adding one entry here and one test.

Sources: docs/diagnosis.md lists for each where it was seen in public.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from shifamind_core.diagnosis.replay.recipe import (
    Edit,
    EditContext,
    Intervention,
    Output,
    OutputContext,
    Stage,
    masked_mean,
    plain_mean,
    with_changes,
    with_edit,
    with_output,
    with_tokenization,
)
from shifamind_core.model.architectures import ClsFusion, ConceptAttention
from shifamind_core.precision.apply import refusal
from shifamind_core.precision.policy import POLICIES

HEADS = (
    "concept_classifier",
    "fusion_layer",
    "diagnosis_classifier",
    "fusion_modules",
    "concept_head",
    "diagnosis_head",
)


def interventions(
    model: nn.Module, device: torch.device, siblings: Iterable[str] = ()
) -> tuple[Intervention, ...]:
    """Every intervention that applies to this architecture on this device.

    Parameters
    ----------
    siblings : iterable of str
        Names of other run directories whose checkpoints can be tried.
    """
    listed = [*_tokenization(), *_forward(), *_weights(), *_outputs()]
    if isinstance(model, ConceptAttention):
        listed += _concepts()
    if (isinstance(model, ConceptAttention) and len(model.fusion_modules) > 1) or isinstance(
        model, ClsFusion
    ):
        listed.append(_FUSION_REVERSED)
    listed += [
        _policy(name, policy.description) for name, policy in POLICIES.items() if not refusal(policy, device)
    ]
    return (*listed, *(_checkpoint(name) for name in siblings))


def _tokenization() -> list[Intervention]:
    def made(name: str, suspects: str, advice: str, **changes: object) -> Intervention:
        return Intervention(name, "tokenization", suspects, advice, with_tokenization(**changes))

    return [
        made(
            "lowercase=true",
            "a tokenizer that lower-cases by default (transformers 4.57, or 5.3 and later)",
            "Set do_lower_case=False explicitly if the checkpoint was trained cased; else lower-casing is right.",
            lowercase=True,
        ),
        made(
            "lowercase=false",
            "a tokenizer that keeps case by default (transformers 5.0 to 5.2 with a vocabulary-only base model)",
            "Set do_lower_case=True explicitly in the tokenizer of the other pipeline.",
            lowercase=False,
        ),
        *(
            made(
                f"max_length={length}",
                f"a script that truncates at {length} tokens",
                f"Use the same max_length in both pipelines; the other one truncates at {length}.",
                max_length=length,
            )
            for length in (128, 256, 384, 512)
        ),
        *(
            made(
                f"padding={padding}",
                f"a loader that pads to {'the longest note of a batch' if padding == 'longest' else 'max_length'}",
                "Pad alike in both pipelines: the concept gate averages over padding.",
                padding=padding,
            )
            for padding in ("longest", "max_length")
        ),
        made(
            "truncation_side=left",
            "a tokenizer that keeps the end of a note",
            "Set truncation_side='right' in the other pipeline.",
            truncation_side="left",
        ),
        made(
            "special_tokens=none",
            "a tokenizer call with add_special_tokens=False",
            "Let the other pipeline's tokenizer add [CLS] and [SEP].",
            special_tokens=False,
        ),
    ]


def _forward() -> list[Intervention]:
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
        Intervention(
            "attention_mask=ignored",
            "forward",
            "a loop that passes no attention mask, or ones",
            "Pass the tokenizer's attention_mask to the model in the other pipeline.",
            with_changes(mask="ones"),
        ),
        Intervention(
            "dropout=on",
            "forward",
            "a model left in training mode",
            "Call model.eval() before evaluation in the other pipeline.",
            with_edit(Edit("dropout=on", lambda model, _: _train(model), random=True)),
        ),
        *(
            Intervention(
                f"attention={name}",
                "forward",
                f"a library that chose {name} attention",
                "Nothing to mend: both attention implementations are right to rounding.",
                with_changes(attention=name),
            )
            for name in ("eager", "sdpa")
        ),
        pooled("pooling=mean", masked_mean, "a note's tokens"),
        pooled("pooling=mean_with_padding", plain_mean, "all positions, padding included"),
    ]


def _weights() -> list[Intervention]:
    return [
        Intervention(
            "encoder=not_loaded",
            "weights",
            "a checkpoint whose encoder keys were skipped (strict=False)",
            "Load with strict=True and read the missing keys in the other pipeline.",
            with_edit(Edit("encoder=not_loaded", _random_encoder, random=True)),
        ),
        Intervention(
            "head=not_loaded",
            "weights",
            "a checkpoint whose diagnosis head was skipped or renamed (strict=False)",
            "Load with strict=True and read the missing keys in the other pipeline.",
            with_edit(Edit("head=not_loaded", _random_head, random=True)),
        ),
    ]


def _concepts() -> list[Intervention]:
    return [
        Intervention(
            "concept_embeddings=random",
            "weights",
            "concept embeddings made anew instead of loaded",
            "Load concept_embeddings from the checkpoint in the other pipeline.",
            with_edit(Edit("concept_embeddings=random", _random_concepts, random=True)),
        ),
        Intervention(
            "concept_embeddings=external",
            "weights",
            "concept_embeddings.npy in place of the checkpoint's own",
            "Do not pass concept_embeddings.npy to the model in the other pipeline: the checkpoint holds the trained ones.",
            with_edit(Edit("concept_embeddings=external", _external_concepts)),
        ),
    ]


_FUSION_REVERSED = Intervention(
    "fusion_order=reversed",
    "forward",
    "a forward pass that fuses the hidden states in the other order",
    "Fuse the hidden states in the order of training: last first.",
    with_edit(Edit("fusion_order=reversed", lambda model, _: _reverse_fusion(model))),
)


def _outputs() -> list[Intervention]:
    def made(
        name: str, suspects: str, advice: str, apply: Callable[..., np.ndarray], stage: Stage = "outputs"
    ) -> Intervention:
        return Intervention(name, stage, suspects, advice, with_output(Output(name, apply)))

    return [
        made(
            "code_order=alphabetical",
            "columns in alphabetical order under names that are not",
            "Name the columns in the order of the checkpoint's top_50_codes.",
            lambda logits, context: logits[..., np.argsort(np.array(context.codes), kind="stable")],
        ),
        made(
            "code_order=frequency",
            "columns by falling frequency under names that are not",
            "Name the columns in the order of the checkpoint's top_50_codes.",
            lambda logits, context: logits[..., _by_frequency(context)],
        ),
        made(
            "output=probabilities",
            "sigmoid outputs saved under the name of logits",
            "Save the logits, before the sigmoid.",
            lambda logits, context: expit(logits),
        ),
        made(
            "output=double_sigmoid",
            "a sigmoid on top of sigmoid outputs",
            "Apply the sigmoid once.",
            lambda logits, context: expit(expit(logits)),
        ),
    ]


def _policy(name: str, description: str) -> Intervention:
    return Intervention(
        f"policy={name}",
        "policy",
        f"a run computed under {name}: {description}",
        "Nothing to mend: this is rounding. Use policy portable or fp64 where runs are to be compared.",
        with_changes(policy=POLICIES[name]),
    )


def _checkpoint(name: str) -> Intervention:
    return Intervention(
        f"checkpoint={name}",
        "checkpoint",
        f"the checkpoint of {name}",
        f"The other run was computed from {name}; name the run directory explicitly instead of taking the newest or best.",
        lambda recipe: replace(recipe, checkpoint=name),
    )


def _train(model: nn.Module) -> None:
    model.train()


def _random_encoder(model: nn.Module, context: EditContext) -> None:
    _normal(model.get_submodule("base_model"), context.generator)


def _random_head(model: nn.Module, context: EditContext) -> None:
    """The diagnosis head as torch makes an `nn.Linear`: uniform within 1/√inputs."""
    name = "diagnosis_classifier" if isinstance(model, ClsFusion) else "diagnosis_head"
    head = model.get_submodule(name)
    assert isinstance(head, nn.Linear)
    bound = head.in_features**-0.5
    for parameter in (head.weight, head.bias):
        parameter.data.uniform_(-bound, bound, generator=context.generator)


def _random_concepts(model: nn.Module, context: EditContext) -> None:
    """Concept embeddings as the public training script makes them before training: N(0, 0.02)."""
    assert isinstance(model, ConceptAttention)
    model.concept_embeddings.data.normal_(0, 0.02, generator=context.generator)


def _external_concepts(model: nn.Module, context: EditContext) -> None:
    assert isinstance(model, ConceptAttention)
    if (
        context.concept_embeddings is None
        or context.concept_embeddings.shape != model.concept_embeddings.shape
    ):
        return
    model.concept_embeddings.data.copy_(torch.from_numpy(context.concept_embeddings))


def _normal(module: nn.Module, generator: torch.Generator) -> None:
    """BERT's initialisation: N(0, 0.02) for matrices, zero biases, unit LayerNorm, zero padding embedding."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.weight.data.normal_(0, 0.02, generator=generator)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight.data[part.padding_idx] = 0
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias.data.zero_()
        if isinstance(part, nn.LayerNorm):
            part.weight.data.fill_(1)
            part.bias.data.zero_()


def _reverse_fusion(model: nn.Module) -> None:
    """[CLS] vectors fourth-last first; or, with cross-attention, the earliest layer's fusion surviving."""
    if isinstance(model, ClsFusion):
        weight = model.fusion_layer.weight.data  # [hidden, 4 hidden]
        model.fusion_layer.weight.data = weight.unflatten(1, (4, -1)).flip(1).flatten(1)
    elif isinstance(model, ConceptAttention):
        model.surviving_layer = min(int(layer) for layer in model.fusion_modules)


def _by_frequency(context: OutputContext) -> np.ndarray:
    counts = np.array([context.counts.get(code, 0) for code in context.codes])
    return np.argsort(-counts, kind="stable")
