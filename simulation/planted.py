"""Faults planted into a run's logits, one function a cause: for the tests and the benchmark.

Only causes that act on the output are planted here (order, scale, storage, single codes and notes). Those that
act on the model or its input are planted there, see `planted_models`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, log_expit, log_softmax, logit, softmax

from shifamind_core.analysis.metric_definitions import definitions
from shifamind_core.diagnosis.exact.labels import f1_at
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.probability import logits_of
from shifamind_core.runs.run import Run


@dataclass(frozen=True, eq=False)
class Planted:
    """A candidate and a reference, and the cause planted between them.

    Attributes
    ----------
    cause : what was planted, by the narrow name that manifests allow
    also : what was planted beside it (combinations): naming one of them first is as right
    general : names that are right where only logits are known
    twins : other causes that leave the same trace in the logits, so that logits alone cannot tell (`TWINS`)
    reported : scores said to be the reference's
    """

    cause: str
    variant: str
    candidate: Run
    reference: Run
    also: tuple[str, ...] = ()
    general: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    reported: Mapping[str, float] | None = None

    @property
    def right(self) -> set[str]:
        """Causes that may stand first where manifests are known."""
        return {self.cause, *self.also} - ({"numerics"} if self.cause != "numerics" else set())

    def right_alone(self, token_counts: bool = False) -> set[str]:
        """Causes that may stand first where only logits are known, or logits and token counts.

        Which notes changed says what a length did only to those who know lengths.
        """
        return self.right if token_counts and self.cause in LENGTH_CAUSES else {*self.right, *self.general}

    def alone(self, token_counts: bool = False) -> "Planted":
        """The same without manifests, ids and token digests; with token counts or without."""
        bare = [
            replace(
                run,
                manifest=Manifest(logits_from_probabilities=run.manifest.logits_from_probabilities),
                document_ids=None,
                token_digests=None,
                token_counts=run.token_counts if token_counts else None,
            )
            for run in (self.candidate, self.reference)
        ]
        return replace(self, candidate=bare[0], reference=bare[1])


LENGTH_CAUSES = ("max_length", "truncation_side", "padding", "attention_mask_ignored")
# Pairs that logits cannot tell apart, and why.
TWINS: dict[frozenset[str], str] = {
    frozenset(
        {"max_length", "truncation_side"}
    ): "both change the notes longer than the limit, and no others",
    frozenset({"attention_mask_ignored", "padding"}): (
        "both change the notes shorter than the limit; only the size differs, and that depends on the model"
    ),
    frozenset({"input_changed", "weights_changed"}): (
        "special tokens left out of every note act alike on all of them, as other weights do"
    ),
    frozenset({"numerics", "dropout_active"}): (
        "BF16 inside a model whose head stays in FP32 leaves noise without a lattice, as weak dropout does"
    ),
    frozenset({"document_order", "different_documents"}): (
        "where casing changes notes by as much as notes differ, a row that was moved as well is nobody's any more"
    ),
}


def synthetic_run(
    documents: int = 2000, codes: int = 50, seed: int = 0, hidden: int = 24, notes: int = 0
) -> Run:
    """Logits as a classifier over a few latent features gives them, with labels of long-tailed prevalence.

    `seed` decides about the model, `notes` about what it reads.
    """
    model, rng = np.random.default_rng(seed), np.random.default_rng([seed, notes])
    scales = np.sort(model.gamma(1.5, 1.0, hidden))[::-1]
    features = rng.standard_normal((documents, hidden)) * scales
    head = model.standard_normal((hidden, codes)) / np.sqrt((scales**2).sum())
    own = rng.standard_normal((documents, codes)) * 0.3
    logits = 2.2 * (features @ head + own) - np.linspace(0.5, 3.5, codes)
    labels = (rng.random(logits.shape) < expit(1.3 * logits)).astype(np.uint8)
    return Run(
        logits=logits.astype(np.float32),
        name="reference",
        labels=labels,
        codes=tuple(f"{'ABEFIJKNRZ'[i % 10]}{i:03d}" for i in model.permutation(codes)),
        token_counts=np.clip(rng.lognormal(5.6, 0.6, documents), 20, 3000).astype(np.int32),
    )


def with_logits(run: Run, logits: np.ndarray, **changes: object) -> Run:
    """The run with other logits, called candidate."""
    return replace(run, logits=logits, name="candidate", **changes)  # type: ignore[arg-type]


def to_bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to BF16, kept as float32."""
    bits = np.ascontiguousarray(values.astype(np.float32)).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def rounding_noise(run: Run, relative: float, seed: int) -> np.ndarray:
    """The logits with independent noise of that size in spreads, as float32 arithmetic leaves it."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(run.logits.shape) * relative * run.logits.std(axis=0)
    return (run.logits + noise).astype(np.float32)


# Row orders: the row of the reference that stands at each row of the candidate.
def shuffled(documents: int, rng: np.random.Generator, share: float = 1.0) -> np.ndarray:
    """A random permutation of that share of the rows."""
    rows = np.arange(documents)
    chosen = np.sort(rng.choice(documents, int(share * documents), replace=False))
    rows[chosen] = rng.permutation(chosen)
    return rows


def shifted(documents: int, start: int, by: int) -> np.ndarray:
    """From `start` on every row holds the note `by` rows later; the last ones hold those skipped."""
    rows = np.arange(documents)
    rows[start:] = np.roll(rows[start:], -by)
    return rows


def swapped_blocks(documents: int, rng: np.random.Generator) -> np.ndarray:
    """Two stretches of rows exchanged."""
    a, b, c, d = np.sort(rng.choice(np.arange(1, documents), 4, replace=False))
    rows = np.arange(documents)
    return np.concatenate([rows[:a], rows[c:d], rows[b:c], rows[a:b], rows[d:]])


def interleaved(documents: int, processes: int) -> np.ndarray:
    """Rows dealt out to processes in turn and written process by process."""
    return np.concatenate([np.arange(first, documents, processes) for first in range(processes)])


def row_orders(documents: int, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Every kind of row order, by name."""
    yield "permutation", shuffled(documents, rng)
    yield "permutation of 30 %", shuffled(documents, rng, 0.3)
    yield "permutation of 3 %", shuffled(documents, rng, 0.03)
    yield "shift by 1 from the middle", shifted(documents, documents // 2, 1)
    yield "shift by 64 from a tenth", shifted(documents, documents // 10, 64)
    yield "swapped blocks", swapped_blocks(documents, rng)
    yield "reversed", np.arange(documents)[::-1].copy()
    yield "interleaved", interleaved(documents, 4)


def code_permutation(codes: int, moved: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation that moves exactly so many codes (a cycle)."""
    order = np.arange(codes)
    chosen = rng.choice(codes, moved, replace=False)
    order[chosen] = np.roll(chosen, 1)
    return order


def plant_document_order(run: Run, seed: int) -> Iterator[Planted]:
    """Rows in another order, labels left where they were; alone and under rounding."""
    rng = np.random.default_rng(seed)
    for name, rows in row_orders(run.documents, rng):
        yield Planted("document_order", name, with_logits(run, run.logits[rows]), run)
        noisy = rounding_noise(run, 1e-3, seed)
        yield Planted(
            "document_order", f"{name}, with noise", with_logits(run, noisy[rows]), run, ("numerics",)
        )
        coarse = to_bf16(rounding_noise(run, 5e-3, seed))
        yield Planted(
            "document_order", f"{name}, in BF16", with_logits(run, coarse[rows]), run, ("numerics",)
        )


def plant_code_order(run: Run, seed: int) -> Iterator[Planted]:
    """Columns in another order under unchanged names; alone and under rounding."""
    rng = np.random.default_rng(seed)
    codes = run.logits.shape[1]
    orders = {
        "2 codes": code_permutation(codes, 2, rng),
        "10 codes": code_permutation(codes, 10, rng),
        "all codes": rng.permutation(codes),
        "reversed": np.arange(codes)[::-1],
        "alphabetical": np.argsort(np.array(run.codes)) if run.codes else rng.permutation(codes),
    }
    for name, order in orders.items():
        yield Planted("code_order", name, with_logits(run, run.logits[:, order]), run)
        coarse = to_bf16(rounding_noise(run, 5e-3, seed))
        yield Planted(
            "code_order", f"{name}, in BF16", with_logits(run, coarse[:, order]), run, ("numerics",)
        )


def plant_both_orders(run: Run, seed: int) -> Iterator[Planted]:
    """Rows and columns out of order together."""
    rng = np.random.default_rng(seed)
    order = code_permutation(run.logits.shape[1], 12, rng)
    for name, rows in row_orders(run.documents, rng):
        if "3 %" not in name:
            moved = run.logits[rows][:, order]
            yield Planted(
                "document_order", f"{name} and code order", with_logits(run, moved), run, ("code_order",)
            )


def plant_scale(run: Run, seed: int) -> Iterator[Planted]:
    """Probabilities instead of logits; one sigmoid too many, called logits or called probabilities."""
    probability = expit(run.logits)
    rng = np.random.default_rng(seed)
    rows = shuffled(run.documents, rng)
    marked = Manifest(logits_from_probabilities=True)
    twice = expit(probability)
    yield Planted("probabilities_as_logits", "FP32", with_logits(run, probability), run)
    yield Planted("probabilities_as_logits", "FP16", with_logits(run, probability.astype(np.float16)), run)
    noisy = expit(rounding_noise(run, 1e-3, seed))
    yield Planted("probabilities_as_logits", "with noise", with_logits(run, noisy), run, ("numerics",))
    permuted = with_logits(run, probability[rows])
    yield Planted("probabilities_as_logits", "and note order", permuted, run, ("document_order",))
    yield Planted("double_sigmoid", "called logits", with_logits(run, twice), run)
    as_uploaded = logit(twice.astype(np.float64)).astype(np.float32)
    yield Planted(
        "double_sigmoid", "called probabilities", with_logits(run, as_uploaded, manifest=marked), run
    )


def plant_calibration(run: Run, seed: int) -> Iterator[Planted]:
    """Maps that keep the ranking of notes within every code: exact ones, and some under noise."""
    rng = np.random.default_rng(seed)
    logits, codes = run.logits.astype(np.float64), run.logits.shape[1]
    shifts = rng.normal(0, 0.5, codes)
    slopes = rng.uniform(0.6, 1.5, codes)
    maps = {
        "shift −0.35": logits - 0.35,
        "shift +0.02": logits + 0.02,
        "temperature 1.7": logits / 1.7,
        "temperature 0.95": logits / 0.95,
        "temperature and shift": logits * 0.8 + 0.3,
        "shift a code": logits + shifts,
        "affine a code": logits * slopes + shifts,
        "soft clipping": 4 * np.tanh(logits / 4),
    }
    for name, mapped in maps.items():
        yield Planted("score_map", name, with_logits(run, mapped.astype(np.float32)), run)
    for name in ("shift −0.35", "temperature 1.7", "affine a code"):
        noisy = (maps[name] + rounding_noise(run, 1e-3, seed) - logits).astype(np.float32)
        yield Planted("calibration_shift", f"{name}, with noise", with_logits(run, noisy), run, ("numerics",))
    order = code_permutation(codes, 10, rng)
    both = (logits - 0.35)[:, order].astype(np.float32)
    yield Planted("code_order", "10 codes and a shift", with_logits(run, both), run, ("score_map",))


def plant_few(run: Run, seed: int) -> Iterator[Planted]:
    """Some codes or some notes changed; in the others nothing, or rounding."""
    rng = np.random.default_rng(seed)
    documents, codes = run.logits.shape
    spread = run.logits.std()
    for count in (1, 5, 15):
        columns = rng.choice(codes, count, replace=False)
        for floor in (0.0, 1e-3):
            logits = rounding_noise(run, floor, seed)
            logits[:, columns] += rng.standard_normal((documents, count)).astype(np.float32) * spread * 0.5
            also = ("numerics",) if floor else ()
            yield Planted(
                "few_codes_changed", f"{count}, noise {floor:g}", with_logits(run, logits), run, also
            )
    for share in (0.002, 0.02, 0.15):
        count = max(3, int(share * documents))
        rows = rng.choice(documents, count, replace=False)
        for floor in (0.0, 1e-3):
            logits = rounding_noise(run, floor, seed)
            logits[rows] += rng.standard_normal((count, codes)).astype(np.float32) * spread * 0.5
            also = ("numerics",) if floor else ()
            yield Planted(
                "few_documents_changed", f"{share:.1%}, noise {floor:g}", with_logits(run, logits), run, also
            )


def plant_other_data(run: Run, other: Run, seed: int) -> Iterator[Planted]:
    """Other notes, other labels: `other` is a run of the same model over other notes."""
    rng = np.random.default_rng(seed)
    documents = run.documents
    bare = with_logits(run, other.logits[:documents], labels=None, token_counts=None)
    yield Planted("different_documents", "another split", bare, run)
    half = documents // 2
    mixed = np.concatenate([run.logits[half:], other.logits[:half]])
    other_half = with_logits(run, mixed, labels=None, token_counts=None)
    yield Planted("different_documents", "half of them", other_half, run, ("document_order",))
    fewer = np.sort(rng.choice(documents, int(0.9 * documents), replace=False))
    part = replace(run.select(rows=fewer), name="candidate", labels=None)
    yield Planted("missing_documents", "nine in ten, no ids", part, run)
    shared = replace(run, document_ids=np.arange(documents))
    third = documents // 3
    part_of_each = np.concatenate([run.logits[third:], other.logits[:third]])
    overlap = with_logits(shared, part_of_each, labels=None, document_ids=np.arange(documents) + third)
    yield Planted("different_documents", "overlapping ids", overlap, shared, general=("document_order",))
    assert run.labels is not None
    for share in (0.001, 0.05):
        labels = run.labels.copy()
        flipped = rng.random(labels.shape) < share
        labels[flipped] ^= 1
        yield Planted("different_labels", f"{share:.1%}", with_logits(run, run.logits, labels=labels), run)
    yield Planted(
        "different_labels", "rows", with_logits(run, run.logits, labels=np.roll(run.labels, 1, axis=0)), run
    )
    renamed = tuple(f"X{code}" if i < 5 else code for i, code in enumerate(run.codes or ()))
    yield Planted("different_codes", "5 other names", with_logits(run, run.logits, codes=renamed), run)


def plant_rows(run: Run, seed: int) -> Iterator[Planted]:
    """Notes under other ids, repeated, left out, filled up or on several rows; with ids and without, alone and with an order.

    Labels and token counts stand with their rows, as where a loader yields them together.
    """
    rng = np.random.default_rng(seed)
    documents, every = run.documents, np.arange(run.documents)
    ids = rng.integers(-(2**63), 2**63, documents)
    named = replace(run, document_ids=ids)

    def rows(of: Run, taken: np.ndarray) -> Run:
        return replace(of.select(rows=taken), name="candidate")

    padded = np.append(every, every[:24])
    yield Planted("repeated_documents", "last 24 repeat the first 24", rows(run, padded), run)
    yield Planted("repeated_documents", "last 24 repeat the first 24, with ids", rows(named, padded), named)
    filled = np.vstack([run.logits, np.full((24, run.logits.shape[1]), -100, np.float32)])
    fill = replace(rows(run, padded), logits=filled)
    yield Planted("repeated_documents", "24 rows of -100", fill, run)
    windows = np.repeat(every, rng.integers(1, 5, documents))
    first = np.append(True, windows[1:] != windows[:-1])[:, None]
    moved = rounding_noise(run, 0.3, seed)
    cut = replace(rows(named, windows), logits=np.where(first, run.logits[windows], moved[windows]))
    yield Planted("repeated_documents", "a row a window", cut, named)
    whole = documents // 32 * 32 - 32  # at least one note short of all, however many there are
    yield Planted("missing_documents", "last batch dropped", rows(run, every[:whole]), run)
    yield Planted("missing_documents", "last batch dropped, with ids", rows(named, every[:whole]), named)
    shuffled_rows = shuffled(documents, rng)[:whole]
    yield Planted(
        "missing_documents",
        "last batch dropped, shuffled",
        rows(run, shuffled_rows),
        run,
        ("document_order",),
    )
    for processes in (3, 7):
        total = -(-documents // processes) * processes
        dealt = interleaved(total, processes) % documents
        variant = f"dealt to {processes} processes and filled up"
        also = ("repeated_documents",) if total > documents else ()
        yield Planted("document_order", variant, rows(run, dealt), run, also)
        short = interleaved(documents // processes * processes, processes)
        missing = ("missing_documents",) if len(short) < documents else ()
        yield Planted("document_order", f"dealt to {processes}, rest dropped", rows(run, short), run, missing)
        noisy = rows(with_logits(run, rounding_noise(run, 1e-3, seed)), dealt)
        yield Planted("document_order", f"{variant}, with noise", noisy, run, (*also, "numerics"))
    yield Planted(
        "document_ids", "other line ends", replace(named, document_ids=ids ^ 2**40, name="candidate"), named
    )
    some = np.where(every % 3 == 0, ids, ids ^ 2**40)
    yield Planted(
        "document_ids", "line ends in some notes", replace(named, document_ids=some, name="candidate"), named
    )
    floats = (ids // 4).astype(np.float64).astype(np.int64)
    uncut = replace(named, document_ids=ids // 4)
    yield Planted("document_ids", "cut digits", replace(uncut, document_ids=floats, name="candidate"), uncut)
    counted = replace(run, document_ids=every)
    yield Planted(
        "document_ids",
        "counted from one",
        replace(counted, document_ids=every + 1, name="candidate"),
        counted,
    )
    tokens = replace(named, token_digests=rng.integers(-(2**63), 2**63, documents))
    noisy = with_logits(tokens, rounding_noise(run, 1e-3, seed), document_ids=ids ^ 2**40)
    yield Planted("numerics", "and other line ends, token digests equal", noisy, tokens, ("document_ids",))


def plant_metric(run: Run, seed: int) -> Iterator[Planted]:
    """The same logits and labels, and reported scores that another definition or threshold gives."""
    assert run.labels is not None
    usual = f1_at(run.logits, run.labels)
    for number, definition in enumerate(
        definitions(run.logits, run.labels, tuple(f"{name}@0.5" for name in usual))
    ):
        if number % 12 == seed % 12 or number < 8:
            reported = {name: round(score, 4) for name, score in definition.values.items()}
            same = all(abs(reported[f"{name}@0.5"] - usual[name]) < 5e-5 for name in usual)
            cause = "identical" if same else "metric_definition"
            yield Planted(cause, definition.name, with_logits(run, run.logits), run, reported=reported)


def plant_dense(run: Run, other: Run, seed: int) -> Iterator[Planted]:
    """Changes of every logit, in the shapes that input, weights, dropout and another head give (for timing)."""
    rng = np.random.default_rng(seed)
    codes = run.logits.shape[1]
    mixed = 0.8 * run.logits + 0.2 * other.logits
    yield Planted("input_changed", "another note, partly", with_logits(run, mixed), run)
    rows = shuffled(run.documents, rng)
    yield Planted("document_order", "and other input", with_logits(run, mixed[rows]), run, ("input_changed",))
    mixing = np.eye(codes) + 0.05 * rng.standard_normal((codes, codes))
    turned = (run.logits @ mixing).astype(np.float32)
    yield Planted("weights_changed", "codes mixed", with_logits(run, turned), run)
    head = (run.logits @ rng.standard_normal((codes, codes)) / np.sqrt(codes)).astype(np.float32)
    yield Planted("head_not_loaded", "another head", with_logits(run, 0.3 * head), run)
    for size in (0.1, 0.3, 0.9):
        noisy = with_logits(run, rounding_noise(run, size, seed))
        yield Planted("dropout_active", f"noise {size:g}", noisy, run)


def plant_non_finite(run: Run, seed: int) -> Iterator[Planted]:
    """NaN in a few notes, infinity in single cells, and NaN over rounding."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(run.documents, 3, replace=False)
    logits = run.logits.copy()
    logits[rows] = np.nan
    yield Planted("non_finite", "notes", with_logits(run, logits), run)
    logits = rounding_noise(run, 1e-3, seed)
    logits[rows, :3] = np.inf
    yield Planted("non_finite", "cells, with noise", with_logits(run, logits), run, ("numerics",))


def plant_storage(run: Run, seed: int) -> Iterator[Planted]:
    """Noise of the sizes that rounding has, in FP32 and in BF16."""
    for relative in (3e-7, 1e-6, 2e-4, 1e-3, 4e-3):
        yield Planted(
            "numerics", f"noise {relative:g}", with_logits(run, rounding_noise(run, relative, seed)), run
        )
    for relative in (5e-3, 2e-2):
        coarse = to_bf16(rounding_noise(run, relative, seed))
        yield Planted("numerics", f"noise {relative:g} in BF16", with_logits(run, coarse), run)


def plant_nothing(run: Run, seed: int) -> Iterator[Planted]:
    """The same run again."""
    yield Planted("identical", "copy", with_logits(run, run.logits.copy()), run)


# --- how scores are written


def cut_off(values: np.ndarray, places: int) -> np.ndarray:
    """Decimals cut off after so many places."""
    return np.trunc(values.astype(np.float64) * 10**places) / 10**places


def in_few_digits(values: np.ndarray) -> np.ndarray:
    """FP16 numbers as pandas writes them into a CSV file, read again in FP64."""
    return values.astype(np.float16).astype(str).astype(np.float64)


def significant(values: np.ndarray, digits: int) -> np.ndarray:
    """Rounded to so many significant digits, as ``%.4g`` writes them."""
    size = np.maximum(np.abs(values.astype(np.float64)), 1e-300)
    places = digits - 1 - np.floor(np.log10(size))
    return np.rint(values * 10**places) / 10**places


def of_probabilities(run: Run, probability: np.ndarray) -> Run:
    """The run as it is read from a file of probabilities."""
    logits, note = logits_of(probability)
    return with_logits(run, logits, manifest=Manifest(logits_from_probabilities=True, notes=(note,)))


def stored_scores(run: Run) -> Iterator[tuple[str, Run]]:
    """The same scores in every way of rounding, by name."""
    logits, probability = run.logits, expit(run.logits)
    for places in (1, 3, 5):
        yield f"{places} decimals", with_logits(run, np.round(logits, places))
    for places in (2, 4, 6):
        yield f"{places} decimals of probabilities", of_probabilities(run, np.round(probability, places))
    yield "4 decimals in FP64", of_probabilities(run, np.round(expit(logits.astype(np.float64)), 4))
    yield "4 significant digits", with_logits(run, significant(logits, 4))
    yield "4 significant digits of probabilities", of_probabilities(run, significant(probability, 4))
    yield "cut off after 4 decimals", with_logits(run, cut_off(logits, 4))
    yield "cut off after 3 decimals of probabilities", of_probabilities(run, cut_off(probability, 3))
    yield "BF16", with_logits(run, to_bf16(logits))
    yield "FP16", with_logits(run, logits.astype(np.float16))
    yield "FP16 probabilities", of_probabilities(run, probability.astype(np.float16))
    yield "BF16 probabilities", of_probabilities(run, to_bf16(probability))
    yield "FP16 in few digits", with_logits(run, in_few_digits(logits))
    yield "FP16 in 6 decimals", with_logits(run, np.round(logits.astype(np.float16).astype(np.float64), 6))
    yield "BF16 in 5 decimals", with_logits(run, np.round(to_bf16(logits).astype(np.float64), 5))
    yield "FP16 probabilities in few digits", of_probabilities(run, in_few_digits(probability))
    clipped = np.clip(np.round(probability.astype(np.float64), 4), 1e-7, 1 - 1e-7)
    yield "4 decimals, clipped, as logits", with_logits(run, logit(clipped).astype(np.float32))


def plant_stored_precision(run: Run, seed: int) -> Iterator[Planted]:
    """Scores rounded when saved; alone, under FP32 noise, against half precision, and with stand-ins for 0 and 1."""
    for name, stored in stored_scores(run):
        yield Planted("stored_precision", name, stored, run)
    half = replace(with_logits(run, run.logits.astype(np.float16)), name="reference")
    yield Planted(
        "stored_precision", "4 decimals against FP16", with_logits(run, np.round(run.logits, 4)), half
    )
    noisy = rounding_noise(run, 3e-7, seed)
    yield Planted(
        "stored_precision", "4 decimals, with noise", with_logits(run, np.round(noisy, 4)), run, ("numerics",)
    )
    sure = with_logits(run, 6 * run.logits)  # a tenth of its probabilities is 0 or 1 in FP32
    wide = replace(sure, name="reference")
    clipped = np.clip(expit(sure.logits).astype(np.float64), 1e-7, 1 - 1e-7)
    yield Planted("stored_precision", "stored 0 and 1", of_probabilities(run, expit(sure.logits)), wide)
    yield Planted("stored_precision", "clipped", with_logits(run, logit(clipped).astype(np.float32)), wide)
    yield Planted("identical", "FP32 probabilities", of_probabilities(run, expit(run.logits)), run)


def plant_score_map(run: Run, seed: int) -> Iterator[Planted]:
    """Scores converted: in percent, over the codes or notes, by a number of every note's or code's own, by rank."""
    rng = np.random.default_rng(seed)
    logits = run.logits.astype(np.float64)
    documents = run.documents
    probability = expit(logits)
    maps = {
        "percent": 100 * probability,
        "softmax": softmax(logits, axis=1),
        "softmax over notes": softmax(logits, axis=0),
        "log softmax": log_softmax(logits, axis=1),
        "log softmax at a temperature": log_softmax(logits / 2, axis=1),
        "log probability": log_expit(logits),
        "other sign": -logits,
        "odds": np.exp(logits),
        "normalised": probability / probability.sum(axis=1, keepdims=True),
        "a number a note": logits + rng.normal(0, 1, (documents, 1)),
        "centred a note": logits - logits.mean(axis=1, keepdims=True),
        "standardised a note": (logits - logits.mean(axis=1, keepdims=True))
        / logits.std(axis=1, keepdims=True),
        "standardised a code": (logits - logits.mean(axis=0)) / logits.std(axis=0),
        "0 to 1": (logits - logits.min()) / np.ptp(logits),
        "ranks": np.argsort(np.argsort(logits, axis=None)).reshape(logits.shape).astype(np.float64),
        "clip": np.clip(logits, -5, 3),
    }
    for name, mapped in maps.items():
        yield Planted("score_map", name, with_logits(run, mapped.astype(np.float32)), run)
    yield Planted("score_map", "percent, 1 decimal", with_logits(run, np.round(100 * probability, 1)), run)
    yield Planted(
        "score_map", "temperature in FP16", with_logits(run, (logits / 1.7).astype(np.float16)), run
    )
    yield Planted(
        "score_map", "softmax, 4 decimals", of_probabilities(run, np.round(softmax(logits, axis=1), 4)), run
    )
    rows = shuffled(documents, rng)
    percent = (100 * probability[rows]).astype(np.float32)
    yield Planted("score_map", "percent and note order", with_logits(run, percent), run, ("document_order",))


OUTPUT_PLANTERS: tuple[Callable[[Run, int], Iterator[Planted]], ...] = (
    plant_nothing,
    plant_storage,
    plant_document_order,
    plant_code_order,
    plant_both_orders,
    plant_rows,
    plant_scale,
    plant_calibration,
    plant_stored_precision,
    plant_score_map,
    plant_few,
    plant_non_finite,
)
