"""The ways in which such pipelines go wrong. Adding one is adding one entry here and one test.

Sources: docs/replay.md lists for each where it was seen in public.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from scipy.special import expit
from torch import nn

from shifamind_core.model.architectures import Architecture, architecture_of
from shifamind_core.model.build import attention_of, positions_of
from shifamind_core.precision.apply import refusal
from shifamind_core.precision.policy import POLICIES, Attention
from shifamind_core.replay.model_edits import (
    concepts,
    dropout_on,
    fusion_reversed,
    pooling,
    segments,
    weights,
)
from shifamind_core.replay.recipe import (
    Intervention,
    Output,
    OutputContext,
    Recipe,
    with_changes,
    with_output,
    with_tokenization,
)
from shifamind_core.replay.texts import REWRITINGS

LENGTHS = (128, 256, 384, 512, 1024, 2048, 4096)
ATTENTIONS: tuple[Attention, ...] = ("eager", "sdpa")
# Tokens kept from the beginning where the middle is taken out: of 510 the first 128 (Sun et al. 2019, "How to fine-tune BERT
# for text classification?"), half, half of 512, and all but the last 128.
HEADS = (128, 255, 256, 382)
BATCH_SIZES = (16, 1, 8, 32, 4, 64, 2, 128, 1_000_000)  # of unknown loaders; the last is all notes at once


@dataclass(frozen=True)
class Scene:
    """What decides which interventions there are to try.

    Attributes
    ----------
    siblings : tuple of str
        Names of other run directories whose checkpoints can be tried.
    sources : tuple of str or None
        Whose split the reference's rows may be (`Target.places`).
    embeddings : dict of str to float32 [concepts, hidden]
        Concept embeddings outside the state dict, by where they lie.
    codes, counts
        The columns, and how often each code occurs by whose count.
    batch_size : int, optional
        Of the reference, where its manifest says.
    casings : tuple of bool
        Lower-casing, as far as the tokenizer can be told.
    weights : tuple of str
        Other weights of this model in the checkpoint's file.
    """

    model: nn.Module
    device: torch.device
    siblings: tuple[str, ...] = ()
    sources: tuple[str | None, ...] = (None,)
    embeddings: Mapping[str, np.ndarray] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    batch_size: int | None = None
    casings: tuple[bool, ...] = (True, False)
    weights: tuple[str, ...] = ()


def interventions(scene: Scene) -> tuple[Intervention, ...]:
    """Every intervention that applies to this architecture, these files and this device.

    Where one mistake can be made in several ways, each is an entry of the same name and its own `variant`.
    """
    model, kind = scene.model, _kind(scene.model)
    listed = [
        *_tokenization(scene),
        *_texts(),
        *_padding(scene),
        *_forward(scene),
        *_outputs(scene),
        *segments(model, kind),
        *weights(model, kind),
    ]
    if "pooling" in kind.interventions:
        listed += pooling()
    if "concept_embeddings" in kind.interventions:
        listed += concepts(model, scene.embeddings)
    if "fusion_order" in kind.interventions and getattr(model, "fusions", 1) > 1:
        listed.append(fusion_reversed())
    listed += [_other_weights(name) for name in scene.weights]
    listed += [step for name in scene.siblings for step in _checkpoint(name, scene.sources)]
    listed += [
        _policy(name, policy.description)
        for name, policy in POLICIES.items()
        # `bitwise` errs less than FP32 and in a way of its own: no other run can have come of it unless it says so.
        if not policy.bitwise and not refusal(policy, scene.device)
    ]
    return tuple(listed)


def padding_acts(model: nn.Module, recipe: Recipe) -> bool:
    """Whether how far a note is padded can change its logits by more than rounding.

    It cannot where attention masks the padding and nothing but [CLS] is read.
    """
    averaged = any(edit.name == "pooling=mean_with_padding" for edit in recipe.edits)
    return _kind(model).reads_padding is not None or recipe.mask == "ones" or averaged


def _kind(model: nn.Module) -> Architecture:
    kind = architecture_of(model)
    assert kind is not None  # it was built by its record
    return kind


def _tokenization(scene: Scene) -> list[Intervention]:
    def made(name: str, suspects: str, advice: str, **changes: object) -> Intervention:
        return Intervention(name, "tokenization", suspects, advice, with_tokenization(**changes))

    casings = {
        True: made(
            "lowercase=true",
            "a tokenizer that lower-cases by default (transformers 4.57, or 5.3 and later)",
            "Set do_lower_case=False explicitly if the checkpoint was trained cased; else lower-casing is right.",
            lowercase=True,
        ),
        False: made(
            "lowercase=false",
            "a tokenizer that keeps case by default (transformers 5.0 to 5.2 with a vocabulary-only base model)",
            "Set do_lower_case=True explicitly in the tokenizer of the other pipeline.",
            lowercase=False,
        ),
    }
    return [
        *(casings[lowercase] for lowercase in scene.casings),
        *(
            made(
                f"max_length={length}",
                f"a script that truncates at {length} tokens",
                f"Use the same max_length in both pipelines; the other one truncates at {length}.",
                max_length=length,
            )
            for length in LENGTHS
            if length <= (positions_of(scene.model) or LENGTHS[-1])
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
        *(
            Intervention(
                "truncation=head_tail",
                "tokenization",
                "a script that takes the middle out of a long note",
                "Truncate alike in both pipelines; the other one keeps the beginning and the end of a note.",
                with_changes(head=head),
                f"the first {head} tokens, then the end",
            )
            for head in HEADS
        ),
    ]


def _texts() -> list[Intervention]:
    """Other texts; `effect.that_act` keeps those that change a token."""
    return [
        Intervention(
            f"text={rewriting.name}",
            "notes",
            rewriting.culprit,
            f"Give both pipelines the same texts: the other one reads those here {rewriting.words}.",
            with_changes(rewriting=rewriting),
        )
        for rewriting in REWRITINGS
    ]


def _padding(scene: Scene) -> list[Intervention]:
    def made(padding: str, loader: str, variant: str = "", **more: object) -> Intervention:
        change = with_tokenization(padding=padding)
        return Intervention(
            f"padding={padding}",
            "tokenization",
            f"a loader that pads to {loader}",
            "Pad alike in both pipelines: the concept gate averages over padding.",
            lambda recipe: replace(change(recipe), **more),
            variant,
        )

    orders = {"reference": "of its own rows", "split": "of the whole split"}
    longest = [
        made(
            "longest",
            "the longest note of a batch",
            f"batches of {size} {words}" if size < BATCH_SIZES[-1] else f"one batch {words}",
            batch_size=size,
            batch_order=order,
        )
        for size in ((scene.batch_size,) if scene.batch_size else BATCH_SIZES)
        for order, words in orders.items()
    ]
    return [*longest, made("max_length", "max_length")]


def _forward(scene: Scene) -> list[Intervention]:
    return [
        Intervention(
            "attention_mask=ignored",
            "forward",
            "a loop that passes no attention mask, or ones",
            "Pass the tokenizer's attention_mask to the model in the other pipeline.",
            with_changes(mask="ones"),
        ),
        dropout_on(),
        *(
            Intervention(
                f"attention={name}",
                "forward",
                f"a library that chose {name} attention",
                "Nothing to mend: both attention implementations are right to rounding.",
                with_changes(attention=name),
            )
            for name in ATTENTIONS
            if attention_of(scene.model, name) == name
        ),
    ]


def _outputs(scene: Scene) -> list[Intervention]:
    def made(
        name: str, suspects: str, advice: str, apply: Callable[..., np.ndarray], variant: str = ""
    ) -> Intervention:
        return Intervention(name, "outputs", suspects, advice, with_output(Output(name, apply)), variant)

    orders = []
    for name, variant, order in _code_orders(scene):
        words = "alphabetical order" if name.endswith("alphabetical") else "the order of frequency"
        orders.append(
            made(
                name,
                f"columns in {words} under names that are not, or the reverse",
                "Name the columns in the order of the checkpoint's top_50_codes.",
                partial(_reordered, order),
                variant,
            )
        )
    return [
        *orders,
        made(
            "output=probabilities",
            "sigmoid outputs saved under the name of logits",
            "Save the logits, before the sigmoid.",
            lambda logits, context: logits if context.turned_back else expit(logits),
        ),
        made(
            "output=double_sigmoid",
            "a sigmoid on top of sigmoid outputs",
            "Apply the sigmoid once.",
            # Where one sigmoid was turned back, the other is left.
            lambda logits, context: expit(logits) if context.turned_back else expit(expit(logits)),
        ),
    ]


def _code_orders(scene: Scene) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name, variant and permutation; those that change nothing, or what another does, are left out."""
    orders = [("code_order=alphabetical", "", np.argsort(np.array(scene.codes), kind="stable"))]
    for whose, counts in scene.counts.items():
        frequency = np.array([counts.get(code, 0) for code in scene.codes])
        orders.append(("code_order=frequency", f"as in {whose}", np.argsort(-frequency, kind="stable")))
    seen = {tuple(range(len(scene.codes)))}
    for name, variant, order in orders:
        for side, permutation in (("", order), ("names moved, not columns", np.argsort(order))):
            if tuple(permutation.tolist()) not in seen:
                seen.add(tuple(permutation.tolist()))
                yield name, ", ".join(filter(None, (variant, side))), permutation


def _policy(name: str, description: str) -> Intervention:
    return Intervention(
        f"policy={name}",
        "policy",
        f"a run computed under {name}: {description}",
        "Nothing to mend: this is rounding. Use policy portable or fp64 where runs are to be compared.",
        with_changes(policy=POLICIES[name]),
    )


def _checkpoint(name: str, sources: Sequence[str | None]) -> list[Intervention]:
    """The sibling's checkpoint on its own split, where the rows may be that split's, and on the notes as they are."""
    notes = [source for source in dict.fromkeys((name, sources[0])) if source in sources]
    return [
        Intervention(
            f"checkpoint={name}",
            "checkpoint",
            f"the checkpoint of {name}",
            f"The other run was computed from {name}; name the run directory explicitly instead of taking the newest or best.",
            partial(_from_sibling, name, source),
            f"on the split of {source}" if len(notes) > 1 and source is not None else "",
        )
        for source in notes
    ]


def weights_key(name: str) -> str:
    """Under which name a recipe has other weights of the same file in place of a sibling's checkpoint."""
    return f"weights={name}"


def _other_weights(name: str) -> Intervention:
    return Intervention(
        weights_key(name),
        "checkpoint",
        f"the weights under {name} in the same file (an average of the training's, usually)",
        f"Load the weights that are meant: the other pipeline took {name}.",
        with_changes(checkpoint=weights_key(name)),
    )


def _from_sibling(name: str, notes: str | None, recipe: Recipe) -> Recipe:
    return replace(recipe, checkpoint=name, notes=notes)


def _reordered(order: np.ndarray, logits: np.ndarray, context: OutputContext) -> np.ndarray:
    return logits[..., order]
