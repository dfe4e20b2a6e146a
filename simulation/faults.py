"""Every cause in several strengths, planted where it happens: in the arithmetic, the model, its input, its output.

A planter yields cases: the logits that a faulty run has, what was done, and what an honest answer may be called. A new
cause is one function here.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from scipy.special import expit, logit
from torch import nn

from simulation import notes as texts
from simulation.arithmetic import EMULATED, OTHER_BATCH, PLAIN, Arithmetic, emulated, recorded
from simulation.fleet import Feeding, Subject, built, encoder_of, fine_tuned, forward, state_of
from simulation.notes import Notes

FEW = 0.25  # share of the notes up to which "few notes changed" is what everybody would say


@dataclass(frozen=True, eq=False)
class Case:
    """One planted fault.

    Attributes
    ----------
    fault, strength : what was done, and how much of it (0 where it has no amount)
    cause : what it is called where note lengths are known
    alone : what it is called where they are not
    twins : causes that leave the same trace, so that the logits cannot tell
    level : of the arithmetic, for `numerics`
    candidate : logits
    reference : logits, where they are not the subject's own
    other_tokens : bool [notes], notes whose token ids differ
    fields : manifest fields in which the runs would differ, with the candidate's value
    recorded : by this machine's own arithmetic, and so for testing alone
    nuisance : rounding or storage that came on top (`NUISANCES`)
    """

    fault: str
    strength: float
    cause: str
    candidate: np.ndarray
    alone: str = ""
    twins: tuple[str, ...] = ()
    level: str = ""
    reference: np.ndarray | None = None
    other_tokens: np.ndarray | None = None
    fields: tuple[tuple[str, object], ...] = ()
    recorded: bool = False
    nuisance: str = ""


Planter = Callable[[Subject, np.ndarray, np.random.Generator], Iterator[Case]]
WEIGHTS = (("checkpoint.weights_digest", "b" * 64),)


def _loguniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.2g}")


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 30))


# Arithmetic


def plant_numerics(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Nothing but the arithmetic, on one side or on both."""
    made: list[tuple[Arithmetic, np.ndarray]] = []
    own = iter(recorded(subject))
    for arithmetic in EMULATED:
        logits = arithmetic.run(subject)
        made.append((arithmetic, logits))
        yield _rounding(arithmetic, logits)
        for real in islice(own, 1):  # between the others, so that a cut leaves some
            yield replace(_rounding(real, real.run(subject)), recorded=True)
    for first, second in ((3, 5), (3, 9), (5, 9), (4, 5), (10, 3), (7, 9)):
        (one, logits), (other, theirs) = made[first], made[second]
        coarser = max(one, other, key=lambda a: ("fp32", "tf32", "fp16", "bf16").index(a.level))
        yield replace(_rounding(coarser, logits), fault=f"{one.name} against {other.name}", reference=theirs)
    yield replace(
        _rounding(made[5][0], made[5][1]),
        fault="bf16 autocast, other batch",
        reference=EMULATED[5].run(subject, batch=OTHER_BATCH),
    )
    for index, stored in ((3, "fp16"), (10, "bf16"), (11, "fp16")):
        arithmetic, logits = made[index]
        coarse = "bf16" if stored == "bf16" else arithmetic.level
        yield replace(
            _rounding(arithmetic, _stored(logits, stored)),
            fault=f"{arithmetic.name}, stored in {stored}",
            level=coarse,
        )
    yield replace(_rounding(made[3][0], _by_probability(made[3][1])), fault="tf32, by way of probabilities")


def _rounding(arithmetic: Arithmetic, logits: np.ndarray) -> Case:
    fields = () if arithmetic.level == "fp32" else (("policy.name", arithmetic.name),)
    return Case(arithmetic.name, 0.0, "numerics", logits, level=arithmetic.level, fields=fields)


def _stored(logits: np.ndarray, form: str) -> np.ndarray:
    if form == "fp16":
        return logits.astype(np.float16).astype(np.float32)
    return torch.from_numpy(logits.astype(np.float32)).bfloat16().float().numpy()


def _by_probability(logits: np.ndarray) -> np.ndarray:
    """By way of FP32 probabilities, as some evaluation loops store them."""
    probability = expit(logits.astype(np.float32)).astype(np.float64)
    return logit(np.clip(probability, 1e-30, 1 - 6e-8)).astype(np.float32)


FLOORS = ("", "batch", "tf32", "bf16")
NUISANCES = ("", "", "", "tf32", "bf16", "fp16", "store fp16", "store bf16", "probability", "batch")


def under(subject: Subject, nuisance: str, model: nn.Module | None = None, **keywords: object) -> np.ndarray:
    """A faulty run in the arithmetic, or the storage, that happens to be its own."""
    if nuisance in ("tf32", "bf16", "fp16"):
        return emulated(nuisance)(subject, model, **keywords)  # type: ignore[arg-type]
    if nuisance == "batch":
        return forward(subject, model, **{**keywords, "batch": OTHER_BATCH})  # type: ignore[arg-type]
    logits = PLAIN.run(subject, model, **keywords)
    if nuisance.startswith("store"):
        return _stored(logits, nuisance.split()[1])
    return _by_probability(logits) if nuisance == "probability" else logits


def _drawn(rng: np.random.Generator) -> str:
    return str(rng.choice(NUISANCES))


# Dropout


def plant_dropout(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Left on: everywhere, in attention or elsewhere alone, on one side or on both."""
    for rate in (0.01, 0.02, 0.05, 0.1, 0.1, 0.15, 0.2, 0.3, 0.5):
        nuisance = _drawn(rng)
        logits = under(subject, nuisance, with_dropout(subject, rate, _seed(rng)))
        yield Case("dropout", rate, "dropout_active", logits, nuisance=nuisance)
    rate = _loguniform(rng, 0.02, 0.3)
    for part in ("attention", "output"):
        noisy = forward(subject, with_dropout(subject, rate, _seed(rng), part))
        yield Case(f"dropout in {part} alone", rate, "dropout_active", noisy)
    rate = _loguniform(rng, 0.05, 0.2)
    both = [forward(subject, with_dropout(subject, rate, _seed(rng))) for _ in range(2)]
    yield Case("dropout in both runs", rate, "dropout_active", both[0], reference=both[1])


def with_dropout(subject: Subject, rate: float, seed: int, part: str = "") -> nn.Module:
    """The model in training mode with that rate, where `part` is given in modules of that name alone."""
    model = copy.deepcopy(subject.model).train()
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = rate if part in name else 0.0
    torch.manual_seed(seed)
    return model


# Input


def plant_casing(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Other tokens in some kinds of words or in all."""
    notes = subject.sample.notes
    for share in (1.0, 1.0, 0.7, 0.4, 0.2, 0.1, 0.05, 0.02):
        nuisance = _drawn(rng)
        other = subject.recased(notes, share, _seed(rng))
        yield _input(subject, "casing", share, other, nuisance, fields=(("tokenization.lowercase", False),))


def plant_text(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Other texts: beginnings cut, tokens lost, line ends that are tokens, parts in another order."""
    notes, vocabulary = subject.sample.notes, _vocabulary(subject)
    cut = int(_loguniform(rng, 1, 0.5 * subject.plan.max_length))
    yield _input(subject, "beginnings cut", cut, texts.without_beginning(notes, cut), _drawn(rng))
    for share in (_loguniform(rng, 0.003, 0.03), _loguniform(rng, 0.03, 0.5)):
        lost = rng.random(notes.ids.shape) > share
        yield _input(subject, "tokens lost", share, texts.kept(notes, lost), _drawn(rng))
        unknown = Notes(
            np.where((rng.random(notes.ids.shape) < share) & (notes.ids > 0), 1, notes.ids), notes.lengths
        )
        yield _input(subject, "unknown tokens", share, unknown, _drawn(rng))
    every = int(_loguniform(rng, 5, 60))
    token = int(rng.integers(6, vocabulary))
    yield _input(subject, "line ends", every, texts.with_inserted(notes, token, every), _drawn(rng))
    yield _input(subject, "parts swapped", 0, texts.swapped_halves(notes), _drawn(rng))
    gone = np.isin(notes.ids, rng.choice(vocabulary, max(1, int(0.03 * vocabulary)), replace=False))
    yield _input(subject, "words removed", 0.03, texts.kept(notes, ~gone), _drawn(rng))
    other = np.concatenate([np.arange(6), rng.permutation(np.arange(6, vocabulary))])
    shuffled = Notes(other[notes.ids].astype(np.int32), notes.lengths)
    yield _input(subject, "another vocabulary", 0, shuffled, "")


def plant_feeding(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Other lengths, ends, padding; no mask; no special tokens; other segments."""
    notes, feeding = subject.sample.notes, subject.feeding
    room, most = feeding.max_length - 2, feeding.max_length
    for share in (0.9, 0.75, 0.5, 0.3):
        shorter = max(8, int(share * most))
        changed = notes.lengths > shorter - 2
        yield _by_length(
            subject, "max_length", share, replace(feeding, max_length=shorter), changed, _drawn(rng),
            fields=(("tokenization.max_length", shorter),),
        )  # fmt: skip
    yield _by_length(
        subject, "truncation_side", 0, replace(feeding, left=True), notes.lengths > room, _drawn(rng),
        fields=(("tokenization.truncation_side", "left"),),
    )  # fmt: skip
    tail = int(rng.uniform(0.1, 0.7) * room)
    both = texts.head_and_tail(notes, room, tail)
    yield _by_length(
        subject, "head and tail", tail / room, feeding, notes.lengths > room, _drawn(rng), notes=both
    )
    padded = notes.lengths < room
    case = _input(
        subject,
        "mask ignored",
        0,
        notes,
        _drawn(rng),
        replace(feeding, mask=False),
        padded,
    )
    yield replace(case, cause="padding", alone="input_changed", other_tokens=np.zeros(len(notes), bool))
    if subject.plan.architecture == "concept_attention":
        for fault, other in (
            ("padding to the longest, one by one", replace(feeding, longest=1)),
            ("padding to the longest", replace(feeding, longest=8)),
            ("padding to the longest, sorted", replace(feeding, longest=16, sort=True)),
        ):
            few = texts.Notes(notes.ids[:400], notes.lengths[:400]) if other.longest == 1 else notes
            case = _input(
                subject,
                fault,
                0,
                few,
                "",
                other,
                padded[: len(few)],
                fields=(("tokenization.padding", "longest"),),
            )
            yield replace(
                case, cause="padding", alone="input_changed", reference=reference[: len(few)],
                other_tokens=np.zeros(len(few), bool),
            )  # fmt: skip
    bare = _input(
        subject,
        "no special tokens",
        0,
        notes,
        _drawn(rng),
        replace(feeding, special=False),
        fields=(("tokenization.special_tokens", False),),
    )
    yield replace(bare, twins=("weights_changed",))
    if subject.plan.architecture == "bert":
        ones = _input(subject, "segments of ones", 0, notes, _drawn(rng), replace(feeding, segment=1))
        yield replace(ones, twins=("weights_changed",), other_tokens=np.zeros(len(notes), bool))


def _vocabulary(subject: Subject) -> int:
    words = next(w for name, w in subject.model.named_parameters() if name.endswith("word_embeddings.weight"))
    return len(words)


def _input(
    subject: Subject,
    fault: str,
    strength: float,
    notes: Notes,
    nuisance: str = "",
    feeding: Feeding | None = None,
    changed: np.ndarray | None = None,
    fields: tuple[tuple[str, object], ...] = (),
) -> Case:
    """Notes read otherwise. Where that concerns few of them, "few notes" is what it is called."""
    if changed is None:
        changed = _differ(subject.sample.notes, notes, (feeding or subject.feeding).max_length)
    logits = under(subject, nuisance, notes=notes, feeding=feeding)
    cause, twins = _called(float(changed.mean()))
    return Case(
        fault, strength, cause, logits, cause, twins, other_tokens=changed, fields=fields, nuisance=nuisance
    )


def _called(share: float) -> tuple[str, tuple[str, ...]]:
    """By how many notes it concerns: both names are right in between, where it is a matter of words."""
    if share < FEW:
        return "few_documents_changed", ("input_changed",)
    return "input_changed", ("few_documents_changed",) if share < 0.75 else ()


def _differ(notes: Notes, other: Notes, room: int) -> np.ndarray:
    width = min(room, max(notes.ids.shape[1], other.ids.shape[1]))
    first, second = (
        np.pad(n.ids, ((0, 0), (0, max(0, width - n.ids.shape[1]))))[:, :width] for n in (notes, other)
    )
    return (first != second).any(axis=1)


def _by_length(
    subject: Subject,
    fault: str,
    strength: float,
    feeding: Feeding,
    changed: np.ndarray,
    nuisance: str,
    notes: Notes | None = None,
    fields: tuple[tuple[str, object], ...] = (),
) -> Case:
    """Only notes beyond a limit change: with lengths that is a cause of its own, without them it is other input."""
    logits = under(subject, nuisance, notes=notes, feeding=feeding)
    alone, twins = _called(float(changed.mean()))
    seen = 0.01 < changed.mean() < 0.98
    cause = "max_length" if seen else alone
    more = ("input_changed", "few_documents_changed") if not seen or changed.mean() < 0.03 else ()
    return Case(
        fault, strength, cause, logits, alone, (*twins, *more), other_tokens=changed, fields=fields, nuisance=nuisance
    )  # fmt: skip


# Weights


def plant_noise(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Noise of all sizes on all weights, the encoder's, the head's."""
    for part, low, high in (
        ("", 0.003, 0.03), ("", 0.03, 0.1), ("", 0.1, 0.5), (subject.encoder, 0.01, 0.3), (subject.head, 0.01, 0.05),
        (subject.head, 0.05, 0.5),
    ):  # fmt: skip
        size = _loguniform(rng, low, high)
        where = {"": "all weights", subject.encoder: "the encoder", subject.head: "the head"}[part]
        nuisance = _drawn(rng)
        logits = under(subject, nuisance, perturbed(subject, size, _seed(rng), part))
        yield _weights(f"noise on {where}", size, logits, nuisance=nuisance)
    for share in (0.05, 0.3):
        yield _weights("pruned", share, forward(subject, pruned(subject, share)))


def plant_training(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Another epoch, a few steps more, on the same notes or on others; only biases; a mean of two checkpoints."""
    rate = max(subject.plan.rate, 1e-4)
    for name, state in subject.snapshots.items():
        if name.startswith("at"):
            nuisance = _drawn(rng)
            logits = under(subject, nuisance, subject.variant(state))
            yield _weights(f"weights {name} of training", 0.0, logits, nuisance=nuisance)
    for steps, factor in ((1, 0.1), (3, 0.3), (10, 0.1), (20, 0.3), (50, 0.3), (100, 1.0)):
        model = copy.deepcopy(subject.model)
        fine_tuned(subject, model, subject.training, steps, factor * rate, _seed(rng), constant=True)
        nuisance = _drawn(rng)
        yield _weights(
            f"{steps} steps more", factor * rate, under(subject, nuisance, model), nuisance=nuisance
        )
    for steps, factor in ((10, 0.3), (60, 0.5)):
        model = copy.deepcopy(subject.model)
        fine_tuned(subject, model, subject.others, steps, factor * rate, _seed(rng), constant=True)
        yield _weights(f"{steps} steps on other notes", factor * rate, forward(subject, model))
        mean = {
            name: (value + model.state_dict()[name]) / 2 if value.is_floating_point() else value
            for name, value in subject.model.state_dict().items()
        }
        yield _weights("mean of two checkpoints", steps, forward(subject, subject.variant(mean)))
    if subject.plan.steps:
        model = subject.variant(subject.snapshots["before"])
        fine_tuned(subject, model, subject.training, subject.plan.steps, subject.plan.rate, _seed(rng))
        yield _weights("another seed from the same start", 0.0, forward(subject, model))
        longer = subject.variant(subject.snapshots["before"])
        fine_tuned(
            subject,
            longer,
            subject.training,
            int(1.5 * subject.plan.steps),
            subject.plan.rate,
            subject.plan.number,
        )
        yield _weights("trained half as long again", 0.5, forward(subject, longer))


def plant_loading(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Weights that were never loaded: of one layer, the head, the encoder."""
    layers = sorted(
        {
            name
            for name, _ in subject.model.named_modules()
            if name.split(".")[-1].isdigit() and ("encoder.layer" in name or "transformer.layer" in name)
        }
    )
    used = layers[:-1] if subject.plan.architecture == "concept_attention" and len(layers) > 1 else layers
    for layer in {used[-1], used[0]}:
        model = reinitialised(subject, layer, _seed(rng))
        nuisance = _drawn(rng)
        yield _weights(
            f"layer {layer.split('.')[-1]} not loaded", 0.0, under(subject, nuisance, model), ("encoder_not_loaded",), nuisance
        )  # fmt: skip
    norms = copy.deepcopy(subject.model)
    for name, module in norms.named_modules():
        if isinstance(module, nn.LayerNorm) and "layer." in name:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    yield _weights("layer norms not loaded", 0.0, forward(subject, norms))
    for spread in (0.02, subject.plan.hidden**-0.5, 0.1):
        nuisance = _drawn(rng)
        model = reinitialised(subject, subject.head, _seed(rng), spread)
        yield Case(
            "head not loaded", spread, "head_not_loaded", under(subject, nuisance, model), nuisance=nuisance
        )
    fresh = built(subject.plan, encoder_of(subject.model).config).to(subject.device)  # type: ignore[arg-type]
    inner = {n: v for n, v in subject.model.state_dict().items() if n.startswith(f"{subject.encoder}.")}
    everything = {**fresh.state_dict(), **inner}
    yield Case(
        "all but the encoder not loaded",
        0.0,
        "head_not_loaded",
        forward(subject, subject.variant(everything)),
    )
    for spread in (0.02, 0.02, 0.05):
        nuisance = _drawn(rng)
        model = reinitialised(subject, subject.encoder, _seed(rng), spread)
        yield Case(
            "encoder not loaded",
            spread,
            "encoder_not_loaded",
            under(subject, nuisance, model),
            nuisance=nuisance,
        )
    before = subject.snapshots.get("before")
    if before is not None and (subject.plan.pretraining or subject.plan.pretrained):
        base = {**state_of(subject.model), **{n: v for n, v in before.items() if n in inner}}
        logits = forward(subject, subject.variant(base))
        yield _weights("the base model's encoder", 0.0, logits, ("encoder_not_loaded",))


def perturbed(subject: Subject, relative: float, seed: int, part: str = "") -> nn.Module:
    """Noise on every matrix, as large as that share of its spread."""
    model = copy.deepcopy(subject.model)
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and part in name:
            weight.data += relative * weight.data.std() * torch.randn_like(weight)
    return model


def pruned(subject: Subject, share: float) -> nn.Module:
    """The smallest weights of every matrix of the encoder set to zero."""
    model = copy.deepcopy(subject.model)
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and "embeddings" not in name:
            size = weight.data.abs()
            least = size.flatten().kthvalue(max(1, int(share * size.numel()))).values
            weight.data[size <= least] = 0
    return model


def reinitialised(subject: Subject, part: str, seed: int, spread: float = 0.02) -> nn.Module:
    """Every parameter whose name begins with `part` as a fresh model has it."""
    model = copy.deepcopy(subject.model)
    torch.manual_seed(seed)
    for name, module in model.named_modules():
        if not f"{name}.".startswith(f"{part}."):
            continue
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=spread)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def _weights(
    fault: str, strength: float, logits: np.ndarray, twins: tuple[str, ...] = (), nuisance: str = ""
) -> Case:
    return Case(fault, strength, "weights_changed", logits, twins=twins, fields=WEIGHTS, nuisance=nuisance)


# Output


def plant_few_notes(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Some notes changed: they were read otherwise, or are others; in the rest nothing, or rounding."""
    notes = subject.sample.notes
    forms = forward(subject, notes=subject.recased(notes, 1.0, _seed(rng)))
    for share in (0.002, 0.005, 0.01, 0.03, 0.1, 0.2):
        count = max(2, int(share * len(notes)))
        rows = rng.choice(len(notes), count, replace=False)
        nuisance = str(rng.choice(FLOORS))
        floor = np.array(under(subject, nuisance), np.float32)
        which = int(rng.integers(3))
        values = (
            forms[rows],
            rng.permutation(reference)[:count],
            reference[rows]
            + rng.standard_normal((count, reference.shape[1])) * _loguniform(rng, 0.1, 1) * reference.std(),
        )[which]
        logits = floor.copy()
        logits[rows] = values
        fault = ("recased", "other notes", "noise")[which]
        changed = np.zeros(len(notes), bool)
        changed[rows] = True
        yield Case(
            f"few notes: {fault}", share, "few_documents_changed", logits, twins=("input_changed",), other_tokens=changed,
            nuisance=nuisance,
        )  # fmt: skip


def plant_few_codes(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Some codes changed: their rows of the head are others, or noise; in the rest nothing, or rounding."""
    codes = reference.shape[1]
    for share in (0.02, 0.02, 0.06, 0.06, 0.12, 0.2, 0.3):
        count = max(1, min(int(share * codes), codes - 2))
        columns = rng.choice(codes, count, replace=False)
        nuisance = str(rng.choice(FLOORS))
        floor = np.array(under(subject, nuisance), np.float32)
        logits = floor.copy()
        which = int(rng.integers(4))
        own = floor[:, columns]
        other = forward(subject, reinitialised(subject, subject.head, _seed(rng), subject.plan.hidden**-0.5))
        size = _loguniform(rng, 0.05, 1)
        logits[:, columns] = (
            other[:, columns],
            own + rng.standard_normal(own.shape) * size * reference.std(),
            own + rng.standard_normal(count) * size * reference.std(),
            own * rng.uniform(0.5, 1.6, count) + rng.standard_normal(count) * size,
        )[which]
        fault = ("other heads", "noise", "shifted", "rescaled")[which]
        yield Case(f"few codes: {fault}", share, "few_codes_changed", logits, nuisance=nuisance)


def plant_calibration(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Maps that nearly keep the ranking: under rounding, or of other probabilities than the reference's."""
    codes = reference.shape[1]
    spread = float(reference.std())
    for _ in range(8):
        nuisance = str(rng.choice(["tf32", "bf16", "fp16", "batch", "store bf16", "store fp16"]))
        logits = np.asarray(under(subject, nuisance), np.float64)
        which = int(rng.integers(5))
        size = _loguniform(rng, 0.05, 1.0) * float(rng.choice([-1, 1]))
        mapped = (
            logits + size * spread,
            logits * np.exp(size),
            logits * np.exp(size / 2) + size * spread,
            logits * rng.uniform(0.6, 1.5, codes) + rng.standard_normal(codes) * abs(size) * spread,
            3 * spread * np.tanh(logits / (3 * spread)),
        )[which]
        fault = ("shift", "temperature", "temperature and shift", "affine a code", "soft clipping")[which]
        yield Case(fault, abs(size), "calibration_shift", mapped.astype(np.float32), nuisance=nuisance)
    head = copy.deepcopy(subject.model)
    layer = head.get_submodule(subject.head)
    layer.bias.data += 0.5 * spread * torch.randn_like(layer.bias)  # type: ignore[operator,union-attr]
    yield Case(
        "other biases of the head", 0.5, "calibration_shift", under(subject, "bf16", head), twins=("weights_changed",),
        fields=WEIGHTS, nuisance="bf16",
    )  # fmt: skip


def plant_other_notes(subject: Subject, reference: np.ndarray, rng: np.random.Generator) -> Iterator[Case]:
    """Other notes of the same kind, without ids to tell."""
    others = subject.others.notes
    for nuisance in ("", "bf16"):
        yield Case(
            "other notes", 0.0, "different_documents", under(subject, nuisance, notes=others),
            other_tokens=np.ones(len(others), bool), nuisance=nuisance,
        )  # fmt: skip
    rows = rng.permutation(len(reference))
    half = len(rows) // 2
    if half >= 50:
        yield Case(
            "the other half of the notes", 0.0, "different_documents", reference[rows[:half]],
            reference=reference[rows[half : 2 * half]], other_tokens=np.ones(half, bool),
        )  # fmt: skip


PLANTERS: tuple[Planter, ...] = (
    plant_numerics,
    plant_dropout,
    plant_casing,
    plant_text,
    plant_feeding,
    plant_noise,
    plant_training,
    plant_loading,
    plant_few_notes,
    plant_few_codes,
    plant_calibration,
    plant_other_notes,
)


def planted(subject: Subject, reference: np.ndarray, seed: int) -> Iterator[Case]:
    """Every fault, in an order in which a cut leaves some of every kind; none that changed nothing."""
    streams = [
        planter(subject, reference, np.random.default_rng([seed, number]))
        for number, planter in enumerate(PLANTERS)
    ]
    while streams:
        left = []
        for stream in streams:
            case = next(stream, None)
            if case is None:
                continue
            left.append(stream)
            theirs = reference if case.reference is None else case.reference
            if (
                np.isfinite(case.candidate).all()
                and np.isfinite(theirs).all()
                and (case.candidate != theirs).any()
            ):
                yield case
        streams = left
