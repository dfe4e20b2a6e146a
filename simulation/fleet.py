"""The fleet: checkpoints of many shapes, made from a seed in seconds each, with the notes they read.

Both ShifaMind architectures and plain sequence classifiers; from untrained to overfitted; trained from random weights,
from a short pretraining on masked words, or fine-tuned from encoders that were really trained (the demo's, and the
6-layer MiniLM of a package, packed by `python -m simulation.encoders`).
"""

import copy
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    PretrainedConfig,
    RobertaConfig,
)

from shifamind_core.demo.concepts import CONCEPTS as DEMO_CONCEPTS
from shifamind_core.model.shifamind import ClsFusion, ConceptAttention
from shifamind_core.precision.emulate import Emulation
from simulation.notes import CLS, MASK, PAD, SEP, Notes, Sample, World, write

Architecture = Literal["cls_fusion", "concept_attention", "bert", "distilbert", "roberta"]
State = Mapping[str, Tensor]
CONCEPTS = 24
ENGLISH = ("english-mini", "english-cased", "english-deep", "english-wide", "english-flat", "english-tiny")
BATCH = 256  # notes at a time on a GPU
SLOWER = (1.0, 0.3, 0.1)  # shares of the learning rate, until training does not collapse
TELLING = 0.7  # rounding to BF16 over the spread of the logits
# Of DistilBERT's logits before training: what is more, training first does away with, by shutting the ReLUs of the layer before the
# head, for good.
RELU_SPREAD = 0.05
TRAINED_AT_ONCE = {"cpu": 32, "cuda": 128}  # notes a step


@dataclass(frozen=True)
class Plan:
    """How one model of the fleet is made.

    Attributes
    ----------
    family : what it shares with others; `held_out` families are never used in fitting
    encoder : None, or a really trained encoder's name ("demo", "minilm"), whose notes and labels come with it; "writer"
        stands for the demo's notes and words alone, under random weights
    shipped : the demo's checkpoint as it is, head and all
    steps, pretraining : training steps of the classifier; steps on masked words before them
    sharpness : factor on query and key weights; large ones make a model round badly
    studied : notes it is trained on; 0: a few for every step
    seen : the notes it is run on are those it was trained on
    frozen : only the head is trained
    """

    name: str
    family: str
    architecture: Architecture
    held_out: bool = False
    encoder: str | None = None
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    vocabulary: int = 2000
    max_length: int = 64
    codes: int = 50
    notes: int = 1000
    prevalence: float = 0.25
    length: float = 0.7  # of max_length: the typical note; of notes that come with an encoder, as `simulation.encoders` cuts them
    steps: int = 300
    pretraining: int = 0
    rate: float = 1e-3
    sharpness: float = 1.0
    spread: float = 0.5  # standard deviation of the logits that the head is scaled to before training
    dropout: float = 0.1
    studied: int = 0
    seen: bool = False
    frozen: bool = False
    shipped: bool = False
    seed: int = 0

    @property
    def pretrained(self) -> bool:
        """Does its encoder come trained?"""
        return self.encoder not in (None, "writer")

    @property
    def number(self) -> int:
        """A seed of its own."""
        return zlib.crc32(f"{self.name} {self.seed}".encode())


@dataclass(frozen=True, eq=False)
class Feeding:
    """How notes become a batch."""

    max_length: int
    mask: bool = True
    special: bool = True
    left: bool = False
    longest: int = 0  # notes a batch, each padded to its longest note; 0: all to max_length
    sort: bool = False
    segment: int = 0


@dataclass(frozen=True, eq=False)
class Subject:
    """A model of the fleet, ready to be run."""

    plan: Plan
    model: nn.Module
    sample: Sample  # what it is run on
    training: Sample
    others: Sample  # further notes of the same kind, as many
    recased: Callable[[Notes, float, int], Notes]
    snapshots: dict[str, State] = field(default_factory=dict)
    special: tuple[int, int, int] = (PAD, CLS, SEP)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def feeding(self) -> Feeding:
        return Feeding(self.plan.max_length)

    @property
    def encoder(self) -> str:
        """The prefix of the encoder's parameters."""
        return encoder_prefix(self.model)

    @property
    def head(self) -> str:
        """The prefix of the last layer's parameters."""
        return HEADS[self.plan.architecture]

    def variant(self, state: State) -> nn.Module:
        """The model with other weights."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(dict(state))
        return model


HEADS: dict[str, str] = {
    "cls_fusion": "diagnosis_classifier",
    "concept_attention": "diagnosis_head",
    "bert": "net.classifier",
    "distilbert": "net.classifier",
    "roberta": "net.classifier.out_proj",
}


class Plain(nn.Module):
    """A sequence classifier of the library, called as ShifaMind's are."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.net = AutoModelForSequenceClassification.from_config(config)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return {"logits": self.net(input_ids=input_ids, attention_mask=attention_mask, **more).logits}


def encoder_of(model: nn.Module) -> nn.Module:
    """The part that was, or could have been, pretrained."""
    return model.get_submodule(encoder_prefix(model))


def encoder_prefix(model: nn.Module) -> str:
    return "base_model" if hasattr(model, "base_model") else f"net.{model.net.base_model_prefix}"  # type: ignore[union-attr]


def configuration(plan: Plan) -> PretrainedConfig:
    """Of the encoder, and of the whole where the library builds it."""
    sizes: dict[str, Any] = {"vocab_size": plan.vocabulary, "num_labels": plan.codes}
    if plan.architecture == "distilbert":
        return DistilBertConfig(
            dim=plan.hidden,
            n_layers=plan.layers,
            n_heads=plan.heads,
            hidden_dim=4 * plan.hidden,
            max_position_embeddings=plan.max_length,
            dropout=plan.dropout,
            attention_dropout=plan.dropout,
            **sizes,
        )
    kind = RobertaConfig if plan.architecture == "roberta" else BertConfig
    return kind(
        hidden_size=plan.hidden,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.heads,
        intermediate_size=4 * plan.hidden,
        max_position_embeddings=plan.max_length + 2,
        hidden_dropout_prob=plan.dropout,
        attention_probs_dropout_prob=plan.dropout,
        pad_token_id=PAD,
        **sizes,
    )


def built(plan: Plan, config: PretrainedConfig, attention: str = "sdpa") -> nn.Module:
    """A model with random weights."""
    config = copy.deepcopy(config)
    config._attn_implementation, config.num_labels = attention, plan.codes
    if plan.architecture == "cls_fusion":
        return ClsFusion(config, plan.codes, len(DEMO_CONCEPTS) if plan.shipped else CONCEPTS)  # type: ignore[arg-type]
    if plan.architecture == "concept_attention":
        layers = config.num_hidden_layers
        fusion = (max(1, layers - 2), layers)
        model = ConceptAttention(config, plan.codes, CONCEPTS, fusion, dropout=plan.dropout)  # type: ignore[arg-type]
        nn.init.normal_(model.concept_embeddings, std=0.5)
        return model
    return Plain(config)


def make(plan: Plan, device: torch.device, pretrained: Path | None = None, small: bool = False) -> Subject:
    """Write the notes, build the model, train it.

    Parameters
    ----------
    pretrained : Path, optional
        The folder that `simulation.encoders` packed; without it, plans of really trained encoders cannot be made.
    small : bool
        Short notes, few of them, a narrow model, hardly any training: for trying out.
    """
    if small:
        plan = _small(plan)
    torch.manual_seed(plan.number)
    if plan.encoder is not None:
        from simulation.encoders import load

        start = load(plan, pretrained)
        config, plan, special = start.config, start.plan, start.special
        sample, training, others, forms = start.sample, start.training, start.others, start.recased
    else:
        config, special = configuration(plan), (PAD, CLS, SEP)
        sample, training, others = _written(plan)

        def forms(notes: Notes, share: float, seed: int) -> Notes:
            from simulation.notes import recased

            return recased(notes, plan.vocabulary, share, seed)

    for rate in plan.rate * np.array(SLOWER):
        model = built(plan, config)
        if plan.shipped:
            model.load_state_dict(start.state)
        elif plan.pretrained:
            encoder_of(model).load_state_dict(start.state, strict=False)
        tried = replace(plan, rate=float(rate))
        subject = Subject(tried, model.to(device), sample, training, others, forms, {}, special, device)
        subject = _trained(subject)
        if _tells_notes_apart(subject):
            break
    return subject


def _trained(subject: Subject) -> Subject:
    plan, model = subject.plan, subject.model
    if plan.shipped:
        return replace(subject, model=model.eval().requires_grad_(False))
    _sharpen(subject)
    if plan.pretraining:
        pretrain(subject, plan.pretraining, plan.rate)
    _start_at_base_rates(subject)
    _fit_scale(subject)
    subject.snapshots["before"] = state_of(model)
    subject.snapshots.update(
        fine_tuned(
            subject, model, subject.training, plan.steps, plan.rate, plan.number, keep=(0.5, 0.8, 0.95)
        )
    )
    return replace(subject, model=model.eval().requires_grad_(False))


def _tells_notes_apart(subject: Subject) -> bool:
    """Do logits differ more from note to note than BF16 rounds them? Where training collapsed they do not."""
    few = subject.sample.notes.select(np.arange(min(256, len(subject.sample.notes))))
    logits = forward(subject, notes=few)
    with Emulation("bfloat16"):
        rounded = forward(subject, notes=few)
    size = ((rounded - logits) / np.maximum(logits.std(axis=0), 1e-12)) ** 2
    return bool(np.sqrt(size.mean()) < TELLING)


def _small(plan: Plan) -> Plan:
    sizes = (
        {} if plan.encoder else {"hidden": 32, "heads": 4, "layers": min(plan.layers, 4), "vocabulary": 600}
    )
    return replace(
        plan, steps=min(plan.steps, 40), studied=min(plan.studied, 300), pretraining=min(plan.pretraining, 20), notes=min(plan.notes, 60 if plan.encoder else 200), max_length=32, **sizes
    )  # fmt: skip


def _written(plan: Plan) -> tuple[Sample, Sample, Sample]:
    world = World(
        plan.vocabulary, plan.codes, int(plan.length * plan.max_length), plan.prevalence, seed=plan.number
    )
    sample, others = write(world, plan.notes, 1), write(world, plan.notes, 2)
    studied = plan.studied or max(600, min(4000, 8 * plan.steps))
    training = sample if plan.seen else write(world, studied, 3)
    return sample, training, others


def _sharpen(subject: Subject) -> None:
    """Weights and embeddings of unit gain, and factors on query and key weights: attention that a rounded score can turn.

    The library's own start (0.02 whatever the width) lets a narrow encoder give every note nearly the same vector, from
    which training does not recover.
    """
    if subject.plan.pretrained:
        return
    for name, weight in encoder_of(subject.model).named_parameters():
        if weight.ndim < 2:
            continue
        if "word_embeddings" in name:
            weight.data.normal_(0, 1)
        else:
            weight.data.normal_(0, weight.shape[1] ** -0.5)
        if any(part in name for part in ("query", "key", "q_lin", "k_lin")):
            weight.data *= subject.plan.sharpness


def _fit_scale(subject: Subject) -> None:
    """Scale the head so that logits spread as asked for, code by code alike."""
    plan = subject.plan
    few = subject.sample.notes.select(np.arange(min(64, len(subject.sample.notes))))
    subject.model.eval()
    found = float(forward(subject, notes=few).std(axis=0).mean())
    layer = subject.model.get_submodule(HEADS[plan.architecture])
    spread = RELU_SPREAD if plan.architecture == "distilbert" else plan.spread
    layer.weight.data *= spread / max(found, 1e-12)  # type: ignore[union-attr,operator]


def _start_at_base_rates(subject: Subject) -> None:
    """Biases at the codes' own log-odds: so that training is spent on the notes."""
    share = np.clip(subject.training.labels.mean(axis=0), 0.002, 0.998)
    layer = subject.model.get_submodule(subject.head)
    layer.bias.data = torch.from_numpy(np.log(share / (1 - share)).astype(np.float32)).to(subject.device)  # type: ignore[union-attr]


def state_of(model: nn.Module) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def fine_tuned(
    subject: Subject,
    model: nn.Module,
    sample: Sample,
    steps: int,
    rate: float,
    seed: int,
    keep: tuple[float, ...] = (),
    constant: bool = False,
) -> dict[str, State]:
    """Train the model in place; weights on the way, at these shares of the steps."""
    if not steps:
        return {}
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model.train().requires_grad_(True)
    if subject.plan.frozen:
        encoder_of(model).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: 1.0 if constant else min(1.0, 10 * (step + 1) / steps) * (1 - step / (steps + 1)),
    )
    target = torch.from_numpy(sample.labels.astype(np.float32)).to(subject.device)
    ids, mask, _ = tensors(subject, sample.notes, subject.feeding)
    wanted, states = {int(share * steps): share for share in keep}, {}
    size = min(TRAINED_AT_ONCE[subject.device.type], len(sample.notes))
    for step in range(steps):
        rows = torch.from_numpy(rng.integers(0, len(sample.notes), size)).to(subject.device)
        with trained_in_bf16(subject.device):
            logits = model(ids[rows], mask[rows])["logits"]
        loss = F.binary_cross_entropy_with_logits(logits.float(), target[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step in wanted:
            states[f"at {wanted[step]:.0%}"] = state_of(model)
    model.eval().requires_grad_(False)
    return states


def pretrain(subject: Subject, steps: int, rate: float) -> None:
    """Masked words, from the word embeddings themselves: what encoders learn before they see a code."""
    model, encoder = subject.model, encoder_of(subject.model)
    words = next(w for name, w in encoder.named_parameters() if name.endswith("word_embeddings.weight"))
    optimizer = torch.optim.AdamW(encoder.parameters(), rate)
    ids, mask, _ = tensors(subject, subject.training.notes, subject.feeding)
    rng = np.random.default_rng(subject.plan.number + 1)
    size = min(TRAINED_AT_ONCE[subject.device.type], len(ids))
    model.train()
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(0, len(ids), size)).to(subject.device)
        asked = (torch.rand(ids[rows].shape, device=subject.device) < 0.15) & mask[rows].bool()
        read = torch.where(asked, MASK, ids[rows])
        with trained_in_bf16(subject.device):
            states = encoder(input_ids=read, attention_mask=mask[rows]).last_hidden_state[asked]
            scores = states @ words.T
        loss = F.cross_entropy(scores.float() / words.shape[1] ** 0.5, ids[rows][asked])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
    model.eval()


@contextmanager
def trained_in_bf16(device: torch.device) -> Iterator[None]:
    """Training is not what is measured: on a GPU it may round.

    For one forward pass: autocast keeps rounded copies of weights until it ends, so that around a whole training every step
    would see the weights of the first.
    """
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        yield


def tensors(subject: Subject, notes: Notes, feeding: Feeding) -> tuple[Tensor, Tensor, np.ndarray]:
    """Ids and mask [notes, max_length] on the device, and the length [notes] that each input has."""
    pad, cls, sep = subject.special
    room = feeding.max_length - 2 * feeding.special
    lengths = np.minimum(notes.lengths, room)
    start = np.where(feeding.left, notes.lengths - lengths, 0)
    place = np.arange(feeding.max_length) - int(feeding.special)
    source = np.clip(start[:, None] + place, 0, notes.ids.shape[1] - 1)
    ids = np.take_along_axis(notes.ids, source, axis=1)
    inside = (place >= 0) & (place < lengths[:, None])
    ids = np.where(inside, ids, pad)
    if feeding.special:
        ids[:, 0] = cls
        ids[np.arange(len(ids)), lengths + 1] = sep
        lengths = lengths + 2
    mask = np.arange(feeding.max_length) < lengths[:, None]
    if not feeding.mask:
        mask = np.ones_like(mask)
    return (
        torch.from_numpy(ids.astype(np.int64)).to(subject.device),
        torch.from_numpy(mask.astype(np.int64)).to(subject.device),
        lengths,
    )


@torch.no_grad()
def forward(
    subject: Subject,
    model: nn.Module | None = None,
    notes: Notes | None = None,
    feeding: Feeding | None = None,
    batch: int | None = None,
    autocast: torch.dtype | None = None,
) -> np.ndarray:
    """Logits [notes, codes], half precision widened to float32."""
    model, notes = model or subject.model, notes or subject.sample.notes
    feeding = feeding or subject.feeding
    ids, mask, lengths = tensors(subject, notes, feeding)
    batch = feeding.longest or batch or (64 if subject.device.type == "cpu" else BATCH)
    order = np.argsort(lengths, kind="stable") if feeding.sort else np.arange(len(lengths))
    rows_of = torch.from_numpy(order).to(subject.device)
    parts = []
    for first in range(0, len(order), batch):
        rows = rows_of[first : first + batch]
        width = int(lengths[order[first : first + batch]].max()) if feeding.longest else feeding.max_length
        more = (
            {"token_type_ids": torch.full_like(ids[rows][:, :width], feeding.segment)}
            if feeding.segment
            else {}
        )
        with torch.autocast(subject.device.type, autocast or torch.bfloat16, enabled=autocast is not None):
            parts.append(model(ids[rows][:, :width], mask[rows][:, :width], **more)["logits"])
    logits = torch.cat(parts)
    logits = (logits.float() if logits.dtype != torch.float64 else logits).cpu().numpy()
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return logits[back]


def plans() -> list[Plan]:
    """The fleet, the most telling first, held-out families among them."""
    rng = np.random.default_rng(20)
    made: list[Plan] = []
    architectures: tuple[Architecture, ...] = (
        "cls_fusion", "concept_attention", "bert", "concept_attention", "cls_fusion", "distilbert", "bert", "roberta",
    )  # fmt: skip
    code_counts = (50, 20, 50, 8, 100, 50, 5, 30, 200, 50, 12, 50)
    note_counts = (1000, 1500, 500, 2000, 1200, 200, 1000, 1500, 100, 1500, 300, 800)
    steps = (250, 100, 400, 40, 700, 150, 300, 500)
    for index in range(40):
        architecture = architectures[index % len(architectures)]
        heads = int(rng.choice([2, 4, 8]))
        hidden = heads * int(rng.choice([8, 16, 24, 32]))
        if architecture == "concept_attention" and hidden % 8:
            hidden = 64
        layers = int(rng.integers(3, 7)) if architecture == "cls_fusion" else int(rng.integers(2, 7))
        made.append(
            Plan(
                f"{architecture}-{index}",
                f"{architecture} {hidden}×{layers}",
                architecture,
                hidden=hidden,
                layers=layers,
                heads=heads,
                vocabulary=int(rng.choice([600, 2000, 6000])),
                max_length=int(rng.choice([48, 64, 96, 128])),
                codes=code_counts[index % len(code_counts)],
                notes=note_counts[(5 * index) % len(note_counts)],
                prevalence=float(rng.choice([0.1, 0.25, 0.5])),
                length=float(rng.choice([0.5, 0.75, 1.1, 1.6])),
                steps=steps[(3 * index) % len(steps)],
                pretraining=int(rng.choice([0, 0, 100, 250])),
                rate=float(rng.choice([3e-4, 1e-3, 2e-3])),
                dropout=float(rng.choice([0.1, 0.1, 0.2])),
                seen=index % 4 == 3,
                seed=index,
            )
        )
    made += [
        Plan("untrained-bert", "untrained", "bert", hidden=64, layers=3, steps=0, notes=1000, seed=60),
        Plan("untrained-cls", "untrained", "cls_fusion", hidden=96, layers=4, steps=0, spread=2.0, notes=800, seed=61),
        Plan("untrained-concept", "untrained", "concept_attention", hidden=64, layers=3, steps=0, spread=1.5, notes=1500, seed=62),
        Plan("ill-cls", "ill", "cls_fusion", hidden=64, layers=4, heads=8, steps=0, sharpness=4, spread=2.5, notes=1000, seed=63),
        Plan("ill-concept", "ill", "concept_attention", hidden=64, layers=4, heads=8, steps=0, sharpness=4, spread=2.5, notes=600, seed=64),
        Plan("ill-bert", "ill", "bert", hidden=96, layers=4, heads=8, steps=200, sharpness=3, notes=1200, seed=65),
        Plan("ill-trained", "ill", "cls_fusion", hidden=128, layers=5, heads=8, steps=400, sharpness=2, notes=1500, seed=66),
        Plan("many-notes-cls", "many", "cls_fusion", hidden=48, layers=3, max_length=48, notes=20000, steps=800, seed=67),
        Plan("many-notes-bert", "many", "bert", hidden=64, layers=2, max_length=64, codes=20, notes=17000, steps=800, seed=68),
        Plan("wide-bert", "wide", "bert", hidden=256, heads=8, layers=4, max_length=128, vocabulary=6000, notes=1500, steps=1000, rate=3e-4, seed=69),
        Plan("wide-concept", "wide", "concept_attention", hidden=320, heads=8, layers=3, max_length=96, vocabulary=6000, notes=1000, steps=800, rate=3e-4, seed=70),
    ]  # fmt: skip
    demo = Plan(
        "demo-cls", "demo", "cls_fusion", encoder="demo", max_length=320, notes=800, steps=400, rate=3e-4
    )
    made += [
        demo,
        replace(demo, name="demo-concept", architecture="concept_attention", steps=400, rate=3e-4, seed=71),
        replace(demo, name="demo-bert", architecture="bert", codes=20, steps=400, rate=3e-4, seed=72),
        replace(demo, name="demo-frozen", architecture="bert", max_length=512, notes=600, steps=600, rate=1e-2, frozen=True, seed=73),
        replace(demo, name="demo-short", architecture="cls_fusion", max_length=96, codes=30, steps=200, rate=1e-4, seed=74),
    ]  # fmt: skip
    made += _english()
    made += _grown()
    minilm = Plan(
        "minilm-cls", "minilm", "cls_fusion", True, "minilm", max_length=512, notes=600, steps=400, rate=2e-4
    )
    held = [
        minilm,
        replace(minilm, name="minilm-concept", architecture="concept_attention", max_length=320, notes=800, seed=81),
        replace(minilm, name="minilm-bert", architecture="bert", codes=20, max_length=192, notes=1200, seed=82),
        replace(minilm, name="minilm-long", architecture="bert", notes=400, steps=800, rate=1e-4, seed=83),
        replace(minilm, name="minilm-frozen", architecture="bert", max_length=384, notes=800, steps=800, rate=1e-2, frozen=True, seed=84),
        replace(minilm, name="minilm-overfitted", max_length=192, notes=400, steps=800, rate=3e-4, seen=True, seed=85),
        replace(minilm, name="minilm-grown", architecture="bert", notes=500, steps=1000, studied=10000, seed=87),
        replace(minilm, name="minilm-grown-cls", max_length=384, codes=30, notes=800, steps=1000, studied=10000, seed=88),
        replace(minilm, name="minilm-whole", architecture="bert", max_length=256, length=4, steps=800, studied=10000, seed=89),
        replace(minilm, name="minilm-few", architecture="concept_attention", max_length=256, codes=8, notes=1300, steps=300, seed=86),
    ]  # fmt: skip
    deep = Plan("deep-bert", "deep", "bert", True, hidden=96, heads=6, layers=10, max_length=96, notes=1200, steps=1000, rate=3e-4, pretraining=500, seed=90)  # fmt: skip
    held += [
        deep,
        replace(deep, name="deep-cls", architecture="cls_fusion", layers=9, codes=30, notes=2000, seed=91),
        replace(deep, name="deep-concept", architecture="concept_attention", layers=9, notes=500, seed=92),
        replace(deep, name="deep-roberta", architecture="roberta", codes=100, notes=1500, seed=93),
        replace(deep, name="deep-many", architecture="cls_fusion", layers=8, hidden=48, max_length=48, notes=17266, seed=94),
    ]  # fmt: skip
    grown = replace(
        deep,
        name="deep-grown",
        layers=8,
        max_length=128,
        studied=20000,
        steps=2000,
        pretraining=0,
        rate=5e-4,
        length=1.2,
        seed=95,
    )
    held += [grown, replace(grown, name="deep-grown-cls", architecture="cls_fusion", codes=30, notes=600, seed=96)]  # fmt: skip
    # What there is little of first, so that none of it is left when time runs out.
    return [*held, *made[40:], *made[:40]]


def _english() -> list[Plan]:
    """Classifiers on the encoders of `simulation.english`, each encoder a family."""
    made = []
    for number, encoder in enumerate(ENGLISH):
        seed = 100 + 10 * number
        cls = Plan(
            f"{encoder}-cls", encoder, "cls_fusion", encoder=encoder, max_length=320, notes=800, steps=400, rate=3e-4, seed=seed
        )  # fmt: skip
        if encoder != "english-tiny":  # whose two layers are too few to be fused
            made.append(cls)
        made += [
            replace(cls, name=f"{encoder}-bert", architecture="bert", codes=20, notes=1200, seed=seed + 1),
            replace(cls, name=f"{encoder}-concept", architecture="concept_attention", max_length=192, notes=1000, seed=seed + 2),
            replace(cls, name=f"{encoder}-frozen", architecture="bert", codes=30, notes=1000, steps=800, rate=1e-2, frozen=True, seed=seed + 3),
        ]  # fmt: skip
        more = (
            replace(cls, name=f"{encoder}-overfitted", notes=400, steps=1000, seen=True, seed=seed + 4),
            replace(cls, name=f"{encoder}-few", architecture="concept_attention", codes=8, notes=1300, steps=150, seed=seed + 4),
            replace(cls, name=f"{encoder}-long", architecture="bert", max_length=320, notes=600, steps=700, rate=1e-4, seed=seed + 4),
        )  # fmt: skip
        made.append(more[number % len(more)])
    return made


def _grown() -> list[Plan]:
    """Models trained for as long as people train theirs: their codes go ways of their own, and dropout hardly hurts them.

    On notes of `simulation.notes`, on the demo writer's from random weights and from the demo's encoder, and the demo's
    checkpoint as it is.
    """
    shapes: tuple[tuple[Architecture, int, int, int, int, int, float], ...] = (
        ("cls_fusion", 64, 3, 64, 50, 1000, 0.7), ("bert", 128, 4, 96, 20, 500, 1.5), ("concept_attention", 96, 4, 96, 30, 800, 1.0),
        ("distilbert", 64, 2, 128, 50, 1500, 0.6), ("roberta", 96, 3, 64, 12, 1000, 2.0), ("bert", 64, 6, 64, 100, 600, 1.2),
        ("cls_fusion", 128, 5, 128, 30, 400, 2.0), ("concept_attention", 64, 3, 64, 50, 1200, 0.5), ("bert", 96, 2, 96, 8, 2000, 0.9),
    )  # fmt: skip
    made = []
    for number, (architecture, hidden, layers, longest, codes, notes, length) in enumerate(shapes):
        made.append(
            Plan(
                f"grown-{architecture}-{number}", "grown", architecture, hidden=hidden, layers=layers, max_length=longest, codes=codes,
                notes=notes, length=length, prevalence=0.3, steps=1500, studied=20000, seed=200 + number,
            )
        )  # fmt: skip
    writer = Plan(
        "writer-cls", "writer", "cls_fusion", encoder="writer", hidden=96, layers=3, max_length=512, notes=600, steps=2500, studied=16000,
        seed=220,
    )  # fmt: skip
    shipped = Plan(
        "shipped",
        "shipped",
        "cls_fusion",
        encoder="demo",
        max_length=512,
        notes=600,
        steps=0,
        shipped=True,
        seed=240,
    )
    tuned = replace(
        writer,
        name="demo-grown-cls",
        family="demo-grown",
        encoder="demo",
        steps=800,
        studied=9000,
        rate=5e-4,
        seed=230,
    )
    return [
        *made,
        writer,
        replace(writer, name="writer-bert", architecture="bert", hidden=128, max_length=384, codes=20, notes=1000, seed=221),
        replace(writer, name="writer-concept", architecture="concept_attention", hidden=64, layers=4, notes=800, max_length=320, seed=222),
        replace(writer, name="writer-small", architecture="bert", hidden=64, layers=2, codes=30, notes=500, seed=223),
        tuned,
        replace(tuned, name="demo-grown-concept", architecture="concept_attention", max_length=384, notes=500, seed=231),
        replace(tuned, name="demo-grown-bert", architecture="bert", max_length=320, codes=20, notes=1200, seed=232),
        shipped,
        replace(shipped, name="shipped-256", max_length=256, notes=1000, seed=241),
        replace(shipped, name="shipped-128", max_length=128, notes=400, seed=242),
        replace(shipped, name="shipped-whole", max_length=256, length=4, notes=300, seed=243),
        replace(shipped, name="shipped-192-whole", max_length=192, length=2, notes=300, seed=244),
        replace(tuned, name="demo-grown-whole", architecture="bert", max_length=256, codes=30, length=4, seed=233),
        replace(writer, name="writer-whole", hidden=64, layers=4, max_length=256, length=4, seed=224),
        replace(made[1], name="grown-bert-whole", max_length=64, length=3, seed=209),
        replace(made[0], name="grown-cls_fusion-whole", max_length=48, length=4, notes=800, seed=210),
    ]  # fmt: skip
