"""Where only some notes or codes changed and the others are equal: which, and whether note length decides."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int
from scipy.special import gammaln
from scipy.stats import hypergeom, spearmanr

from shifamind_core.analysis.neighbours import LEVEL
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.narrower import narrowed
from shifamind_core.diagnosis.evidence.reach import largest_by_level
from shifamind_core.diagnosis.exact.rows import placed
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed, judged, ruled_out
from shifamind_core.diagnosis.views import EvidencePlot, EvidenceTable, scatter

# BF16 keeps 8 significant bits, fewer than any other format that models compute in: it rounds by up to 2⁻⁸ of a value.
COARSEST = 2.0**-8
# What moves every note, and so is not at work where notes are equal.
MOVES_EVERY_NOTE = (
    "dropout_active",
    "weights_changed",
    "other_checkpoint",
    "head_not_loaded",
    "encoder_not_loaded",
)
# What moves every code of a note that it moves, and so is not at work where codes are equal in all notes.
MOVES_EVERY_CODE = ("dropout_active", "input_changed", "encoder_not_loaded")


def few_codes_changed(examination: Examination) -> Examination:
    """A minority of the codes changed and every score of the others is equal."""
    pair = examination.logits
    changed = pair.changed_codes
    if (
        not 0 < 2 * changed.sum() < pair.codes
        or _by_chance(pair, changed, axis=0) > LEVEL
        or _rounding_sized(pair)
    ):
        return examination
    others = pair.codes - int(changed.sum())
    told = f"{others:,} of {pair.codes} codes are {_equal(pair)} in all {pair.documents:,} notes: it would move every code."
    finding = _few_codes(examination, changed)
    return examination.found(pair.select(codes=~changed), finding).noted(
        *(ruled_out(cause, told, equal_codes=others) for cause in MOVES_EVERY_CODE)
    )


def some_documents_changed(examination: Examination) -> Examination:
    """Notes changed and every score of the others is equal: which notes, and what that rules out.

    If exactly the notes longer, or shorter, than some number of tokens changed, or did so by more than rounding could, length
    decides; if exactly those whose token ids differ, the input did. Else a minority is named. A majority without such a
    rule is handed on, with what is ruled out, and so are changes that rounding could make.
    """
    pair = examination.logits
    changed = pair.changed_notes
    equal = not changed.all() and _by_chance(pair, changed, axis=1) <= LEVEL
    if not changed.any():
        return examination
    if equal:
        examination = examination.noted(*_spared(examination, changed))
    if _rounding_sized(pair):
        return examination
    parts = [changed] * equal + [beyond_rounding(pair, examination.evidence.ladder)]
    ruled = [part for part in parts if part.any() and not part.all() and _rule(pair, part)]
    if ruled:
        changed = max(ruled, key=partial(_gap, pair))
        findings = _by_length(examination, changed)
    elif equal:
        findings = list(_by_tokens(examination, changed))
        if not findings and _may_be_strangers(examination, changed):
            return replace(examination, logits=pair.select(notes=~changed))
        if not findings and 2 * changed.sum() < pair.documents:
            findings = [_few_documents(pair, changed), *_short_only(examination, changed)]
    else:
        findings = []
    if not findings:
        return examination
    left = float((pair.difference[~changed] ** 2).sum() / (pair.difference**2).sum())
    whole = examination.left
    first, *others = (finding.changed(share=1 - left) for finding in findings)
    return examination.found(pair.select(notes=~changed), first).noted(
        *(finding.changed(share=finding.share * whole) for finding in others)
    )


def _may_be_strangers(examination: Examination, changed: np.ndarray) -> bool:
    """Are they no more than may be other notes, rows having been brought together as the nearest by far (once in a hundred)?"""
    order = examination.finding("document_order")
    return order is not None and order.status != "confirmed" and changed.sum() <= LEVEL * len(changed)


def _equal(pair: Pair) -> str:
    return "equal bit by bit" if pair.tolerance is None else "equal as far as the stored values tell"


def _by_chance(pair: Pair, changed: np.ndarray, axis: int) -> float:
    """How many notes (or codes) chance would leave equal throughout, if all had changed.

    The share of equal cells among those that did change (Laplace's rule of succession) gives the probability that all
    cells of another happen to be equal: so it is with coarse values, or with few codes. Cells that are left open say nothing.
    """
    known = np.ones(pair.difference.shape, bool) if pair.known is None else pair.known
    part = known & (changed[:, None] if axis == 1 else changed)
    equal = (np.count_nonzero((pair.difference == 0) & part) + 1) / (np.count_nonzero(part) + 2)
    return float((equal ** known.sum(axis=axis)).sum())


def _rounding_sized(pair: Pair) -> bool:
    """No change is larger than one step of the coarsest format at the note's largest logit: rounding could make it.

    Nor is it where in the notes that changed most scores are equal: what a model reads moves all scores of a note.
    """
    changed = pair.changed_notes
    moved = pair.select(changed, pair.changed_codes)
    known = moved.difference.size if moved.known is None else np.count_nonzero(moved.known)
    if 2 * np.count_nonzero(moved.difference) < known:
        return True
    return not beyond_rounding(pair).any()


def beyond_rounding(pair: Pair, ladder: Ladder | None = None) -> Bool[np.ndarray, " documents"]:
    """Notes that changed by more than rounding could make.

    With a ladder: by more than twice the largest error that it measured on this model, since both runs err. Else by more
    than one step of the coarsest format at the note's largest logit.
    """
    measured = largest_by_level(ladder)
    granted = 2 * max(measured.values()) if measured else COARSEST * _largest(pair)
    return np.abs(pair.difference).max(axis=1) > granted


def _largest(pair: Pair) -> np.ndarray:
    """Every note's largest logit, in either run."""
    return np.maximum(np.abs(pair.candidate), np.abs(pair.reference)).max(axis=1)


def _gap(pair: Pair, changed: np.ndarray) -> float:
    """How many times the largest change of the others (or FP32's step, below which nothing can be told) the smallest is here."""
    sizes = np.abs(pair.difference).max(axis=1)
    step = np.finfo(np.float32).eps * _largest(pair).max()
    return float(sizes[changed].min() / max(sizes[~changed].max(), step))


def _spared(examination: Examination, changed: np.ndarray) -> Iterator[Finding]:
    """Notes that are equal rule out what would move every note, but weights that the manifests say are others."""
    equal = int((~changed).sum())
    told = f"{equal:,} of {len(changed):,} notes are {_equal(examination.logits)} in every score: it would move every note."
    other_weights = examination.evidence.manifests.differs("checkpoint.weights_digest")
    for cause in MOVES_EVERY_NOTE:
        if not (other_weights and cause in ("weights_changed", "other_checkpoint")):
            yield ruled_out(cause, told, equal_notes=equal)


# --- which codes, which notes


def _few_codes(examination: Examination, changed: Bool[np.ndarray, " codes"]) -> Finding:
    pair = examination.logits
    evidence = examination.evidence
    names = evidence.reference.codes or evidence.candidate.codes
    worst = [int(code) for code in np.argsort(-pair.code_size) if changed[code]]
    label = [names[code] if names else f"column {code}" for code in worst]
    rows = int(pair.changed_notes.sum())
    return confirmed(
        "few_codes_changed",
        f"{len(worst)} of {pair.codes} codes changed ({', '.join(label[:5])}{', …' if len(worst) > 5 else ''}), in "
        f"{rows:,} of {pair.documents:,} notes; the others are {_equal(pair)}.",
        evidence={"codes_changed": len(worst), "codes": label, "columns": worst, "documents_changed": rows},
        view=EvidenceTable(
            "Difference and correlation of the codes that changed",
            ("code", "root mean square difference", "correlation", "mean difference"),
            tuple(
                (
                    name,
                    float(np.sqrt((pair.difference[:, code] ** 2).mean())),
                    float(pair.correlation[code]),
                    float(pair.difference[:, code].mean()),
                )
                for name, code in zip(label, worst, strict=True)
            ),
        ),
    )


def _few_documents(pair: Pair, changed: Bool[np.ndarray, " documents"]) -> Finding:
    rows = np.flatnonzero(changed)
    return confirmed(
        "few_documents_changed",
        f"{len(rows):,} of {pair.documents:,} notes changed ({placed(rows, pair.documents)}), by up to {pair.largest:.2g} in a "
        f"logit; the others are {_equal(pair)}.",
        evidence={
            "documents_changed": len(rows),
            "share": float(changed.mean()),
            "first_row": int(rows[0]),
            "last_row": int(rows[-1]),
            "contiguous": bool(rows[-1] - rows[0] + 1 == len(rows)),
            "largest": pair.largest,
        },
        view=scatter(
            "Change by note",
            "row",
            "difference ⁄ standard deviation",
            "notes",
            np.arange(len(changed)),
            pair.note_size,
        ),
    )


# --- what decided


def _by_tokens(examination: Examination, changed: np.ndarray) -> Iterator[Finding]:
    """Exactly the notes whose token ids differ changed."""
    same = examination.evidence.tokens.same
    if examination.partner is not None or same is None or not np.array_equal(changed, ~same):
        return
    moved = int(changed.sum())
    yield confirmed(
        "input_changed",
        f"Exactly the {moved:,} note{'s' * (moved != 1)} with other token ids changed; the other {int(same.sum()):,} are "
        f"{_equal(examination.logits)}.",
        evidence={"documents_changed": moved, "same_tokens": float(same.mean())},
    )


@dataclass(frozen=True)
class LengthRule:
    """Exactly the notes longer (`long`) or shorter (`short`) than `limit` tokens changed.

    `by_chance` is the probability that notes drawn at random are those; `growth` Spearman's correlation of the change
    with the tokens beyond the limit (or missing to it), 0 where either never varies.
    """

    side: Literal["long", "short"]
    limit: int
    by_chance: float
    growth: float


def length_rule(
    counts: Int[np.ndarray, " documents"], changed: Bool[np.ndarray, " documents"], sizes: np.ndarray
) -> LengthRule | None:
    """The length that parts the notes that changed from the others; `None` where none does, or any lot would.

    >>> length_rule(np.arange(20), np.arange(20) > 9, np.arange(20.0)).limit
    9
    """
    there, elsewhere = counts[changed], counts[~changed]
    if there.min() > elsewhere.max():
        side, limit, beyond = "long", int(elsewhere.max()), there
    elif there.max() < elsewhere.min():
        side, limit, beyond = "short", int(elsewhere.min()), -there
    else:
        return None
    total, part = len(counts), len(there)
    choices = gammaln(total + 1) - gammaln(part + 1) - gammaln(total - part + 1)
    by_chance = 2 * float(np.exp(-choices))  # at either end
    if by_chance > LEVEL:
        return None
    varies = part > 2 and np.ptp(beyond) > 0 and np.ptp(sizes[changed]) > 0
    growth = float(np.asarray(spearmanr(beyond, sizes[changed]))[0]) if varies else 0.0
    return LengthRule("long" if side == "long" else "short", limit, by_chance, growth)


def _rule(pair: Pair, changed: np.ndarray) -> LengthRule | None:
    return None if pair.token_counts is None else length_rule(pair.token_counts, changed, pair.note_size)


def _by_length(examination: Examination, changed: np.ndarray) -> list[Finding]:
    """Truncation where long notes changed, padding or mask where short ones did: twins share the probability."""
    pair = examination.logits
    rule = _rule(pair, changed)
    assert rule is not None
    most = float(np.abs(pair.difference[~changed]).max())
    how, rest = (
        (
            " by more than rounding could",
            f"changed by at most {most:.2g} in a logit, which rounding could make",
        )
        if most
        else ("", f"are {_equal(pair)}")
    )
    moved = int(changed.sum())
    told = (
        f"Exactly the {moved:,} note{'s' * (moved != 1)} {'longer' if rule.side == 'long' else 'shorter'} than {rule.limit:,} "
        f"tokens changed{how}; the other {int((~changed).sum()):,} {rest}."
    )
    evidence = {"side": rule.side, "limit": rule.limit, "by_chance": rule.by_chance, "growth": rule.growth}
    view = _sizes_by_length(pair)
    general = "max_length" if rule.side == "long" else "padding"
    return [
        judged(
            cause,
            probability * (1 - rule.by_chance),
            f"{told} {numbers}".strip(),
            meaning=meaning,
            evidence=evidence,
            view=view,
        )
        for cause, probability, meaning, numbers in _twins(general, examination.evidence)
    ]


def _twins(general: str, evidence: Evidence) -> Iterator[tuple[str, float, str, str]]:
    """What can have moved these notes, by what the manifests say; equally probable where they say nothing.

    A long note can be cut in other ways than shorter or from its other end (its head and its tail kept, say): as
    probable as each of those, unless a manifest names one.
    """
    parts = narrowed({general: 1.0}, evidence)
    told = any(part.numbers for part in parts) or general == "padding" or parts[0].cause == "input_changed"
    for part in parts:
        probability = part.probability if told else 1 / (len(parts) + 1)
        other = general == "max_length" and part.cause == "input_changed"
        yield part.cause, probability, _CUT_OTHERWISE if other else part.meaning, part.numbers
    if not told:
        yield "input_changed", 1 / (len(parts) + 1), _CUT_OTHERWISE, ""


_CUT_OTHERWISE = "Long notes were cut in another way, for example to their head and their tail."


def _short_only(examination: Examination, changed: np.ndarray) -> Iterator[Finding]:
    """None of the notes that changed is among the longest: batches without a long note may have been padded less."""
    counts = examination.logits.token_counts
    if counts is None:
        return
    longest = int(counts[changed].max())
    part = int(changed.sum())
    by_chance = float(hypergeom.pmf(part, len(counts), int((counts <= longest).sum()), part))
    if by_chance > LEVEL:
        return
    for part_ in narrowed({"padding": 1.0}, examination.evidence):
        if part_.cause == "padding":
            yield judged(
                "padding",
                part_.probability * (1 - by_chance) / 2,  # padding, or another change of these very notes
                f"None of the notes that changed has more than {longest:,} tokens (by chance: {by_chance:.1g}): batches without a "
                "long note may have been padded less.",
                evidence={"longest_changed": longest, "by_chance": by_chance},
                view=_sizes_by_length(examination.logits),
            )


def _sizes_by_length(pair: Pair) -> EvidencePlot:
    assert pair.token_counts is not None
    return scatter(
        "Change by length",
        "tokens",
        "difference ⁄ standard deviation",
        "notes",
        pair.token_counts,
        pair.note_size,
    )
