"""A recipe: one complete way to get logits from notes. Interventions turn one recipe into another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.precision.policy import Attention, PrecisionPolicy
from shifamind_core.replay.texts import Rewriting

Stage = Literal["tokenization", "notes", "weights", "model", "forward", "policy", "outputs", "checkpoint"]


@dataclass(frozen=True)
class EditContext:
    """What an edit of the model may draw on: a seeded generator, and concept embeddings kept outside the state dict."""

    generator: torch.Generator
    concept_embeddings: Mapping[str, np.ndarray] = field(
        default_factory=dict
    )  # where they lie: [concepts, hidden]


@dataclass(frozen=True)
class Edit:
    """A change to a built model, in place. A `random` one depends on the generator's seed."""

    name: str
    apply: Callable[[nn.Module, EditContext], None]
    random: bool = False


@dataclass(frozen=True)
class OutputContext:
    """What an output's change may draw on: whether probabilities were turned back into the reference's logits."""

    turned_back: bool = False


@dataclass(frozen=True)
class Output:
    """A change to finished logits [..., notes, codes], as a script makes it when it saves them."""

    name: str
    apply: Callable[[np.ndarray, OutputContext], np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """All choices that lead from notes to saved values. The defaults of the pipeline are the base recipe.

    Attributes
    ----------
    batch_size, batch_order
        Who pads with whom where padding is to the longest note of a batch: consecutive notes of the reference, or of
        the whole split.
    checkpoint : str, optional
        The sibling whose weights are used; `None` is the run directory's own.
    notes : str, optional
        Whose split the reference's rows are taken from where nothing but their position says; likewise.
    rewriting : Rewriting, optional
        How the notes' texts are written otherwise before they are tokenized.
    head : int, optional
        Of a note that is too long, how many tokens are kept from its beginning; the rest is its end. Without it the
        tokenization's truncation side decides.
    """

    tokenization: Tokenization
    policy: PrecisionPolicy
    attention: Attention = "sdpa"
    batch_size: int = 16
    batch_order: Literal["reference", "split"] = "reference"
    checkpoint: str | None = None
    notes: str | None = None
    rewriting: Rewriting | None = None
    head: int | None = None
    mask: Literal["given", "ones"] = "given"
    edits: tuple[Edit, ...] = ()
    outputs: tuple[Output, ...] = ()

    @property
    def random(self) -> bool:
        """Whether two runs of it differ by more than rounding."""
        return any(edit.random for edit in self.edits)

    @property
    def rescaled(self) -> bool:
        """Whether it saves other numbers than logits."""
        return any(output.name.startswith("output=") for output in self.outputs)


@dataclass(frozen=True)
class Intervention:
    """One way in which a pipeline may differ.

    Attributes
    ----------
    name : str
        As in the command's contract, e.g. ``lowercase=false``.
    stage : str
        Which part of the pipeline it changes; two of one `slot` exclude each other.
    suspects : str
        Who or what does this, for people.
    advice : str
        What to change in the other pipeline if this is what it does, for people.
    apply : callable
        The changed recipe.
    variant : str
        What tells it from others of the same name, for people: one mistake can be made in several ways.
    """

    name: str
    stage: Stage
    suspects: str
    advice: str
    apply: Callable[[Recipe], Recipe]
    variant: str = ""

    @property
    def rounding(self) -> bool:
        """Whether it changes how numbers are rounded, and nothing else."""
        return self.stage == "policy" or self.slot == "attention"

    @property
    def slot(self) -> str:
        """The choice it makes: ``max_length=384`` and ``max_length=256`` are one choice."""
        return self.name.split("=")[0]


def with_tokenization(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, tokenization=replace(recipe.tokenization, **changes))


def with_edit(edit: Edit) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, edits=(*recipe.edits, edit))


def with_output(output: Output) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, outputs=(*recipe.outputs, output))


def with_changes(**changes: Any) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, **changes)


def masked_mean(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over a note's own positions: [batch, tokens, hidden] to [batch, hidden]."""
    weights = attention_mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def plain_mean(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over all positions, padding included."""
    return states.mean(dim=1)
