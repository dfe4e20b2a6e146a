"""When only some codes or some notes changed: which, and whether note length decides."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool
from scipy.stats import t as student

from shifamind_core.diagnosis.evidence.aligned_logits import Pair, two_groups
from shifamind_core.diagnosis.findings import Cause, EvidencePlot, EvidenceTable, Finding, Series, thinned

# Groups of sizes that hardly touch, and a changed one at least this many times the other.
SEPARATE = 3.0
APART = 5.0
SAMPLE = 4000  # notes: means are then known to a sixtieth of the noise
LEAST_CODES, LEAST_NOTES = 10, 30  # below which means of codes are no sample
EFFICIENCY = 0.37  # of the median absolute deviation of normal values
LEVEL = 1e-4  # probability that chance shifts any code
MOST_SHIFTED = 0.25  # share of the codes: of more, the others are no measure
SHORTEST = 24  # tokens: no one cuts notes shorter, but so short a note may hold nothing that casing changes
POSITIONS = 512  # of BERT: no input is longer


@dataclass(frozen=True, eq=False)
class Changed:
    """Which notes (or codes) changed, where some did not.

    Attributes
    ----------
    changed : bool [items]
    share : how many of them
    floor, ceiling : median relative size among the unchanged and the changed
    """

    changed: Bool[np.ndarray, " items"]
    floor: float
    ceiling: float

    @property
    def share(self) -> float:
        """Share of items that changed."""
        return float(self.changed.mean())


def changed_items(sizes: np.ndarray, smallest: float = 1e-4) -> Changed | None:
    """Split notes or codes into changed and unchanged, if they fall apart clearly; else `None`.

    Unchanged ones need not be equal: they may differ by rounding, far below the others.
    """
    large, separation = two_groups(sizes)
    unchanged = ~large
    if separation < SEPARATE or unchanged.sum() < max(2, 0.005 * len(sizes)):
        return None
    floor, ceiling = float(np.median(sizes[unchanged])), float(np.median(sizes[large]))
    if ceiling < smallest or ceiling < APART * floor:
        return None
    return Changed(large, floor, ceiling)


def shifted_codes(pair: Pair) -> Changed | None:
    """Codes whose change has a mean far from that of the other codes, in units of their own noise; else `None`.

    A shift far smaller than the noise of a single note shows in the mean over all of them. Rounding leaves means too
    (weights and biases are rounded once for all notes), but alike in every code relative to its noise: so the
    spread of the means over the codes counts beside the standard error. It is measured by the median absolute
    deviation, as good as a standard deviation over `EFFICIENCY` of the codes: Student's t with so many degrees of
    freedom, at a level shared by all codes.
    """
    pair = pair.sampled(SAMPLE)
    change, live = pair.relative, pair.code_size > 0
    if live.sum() < LEAST_CODES or pair.documents < LEAST_NOTES:
        return None
    change = change[:, live]
    middle = np.median(change, axis=0)
    noise = np.maximum(1.4826 * np.median(np.abs(change - middle), axis=0), 1e-3 * change.std(axis=0) + 1e-12)
    # Brought in to four deviations, so that a few notes that changed do not decide.
    means = (middle + np.clip(change - middle, -4 * noise, 4 * noise).mean(axis=0)) / noise
    apart = np.abs(means - np.median(means))
    error = np.sqrt((1.4826 * np.median(apart)) ** 2 + 1 / pair.documents)
    freedom = EFFICIENCY * (len(means) - 1)
    shifted = np.zeros(pair.codes, bool)
    shifted[live] = apart / error > student.isf(LEVEL / len(means) / 2, freedom)
    if not shifted.any() or shifted.mean() > MOST_SHIFTED:
        return None
    floor, ceiling = (float(np.median(pair.code_size[part])) for part in (~shifted, shifted))
    return Changed(shifted, floor, ceiling)


def few_codes_finding(pair: Pair, found: Changed, names: tuple[str, ...] | None, share: float) -> Finding:
    """Some columns changed and the others did not."""
    order = np.argsort(-pair.code_size)
    worst = [int(code) for code in order if found.changed[code]]
    label = [names[code] if names else f"column {code}" for code in worst]
    count = int(found.changed.sum())
    score = (0.5 + 0.49 * share) if found.share <= 0.5 else 0.35
    return Finding(
        "few_codes_changed",
        "likely" if found.share <= 0.5 else "possible",
        score,
        f"{count} of {pair.codes} codes changed ({', '.join(label[:5])}{', …' if count > 5 else ''}), by "
        f"{found.ceiling:.2g} spreads in the median; the others by {found.floor:.1e}.",
        "Compare the head's rows of these codes between the two checkpoints, and the two code lists.",
        {
            "codes_changed": count,
            "codes": label,
            "columns": worst,
            "size_of_changed": found.ceiling,
            "size_of_others": found.floor,
            "explained": share,
        },
        EvidenceTable(
            "Relative difference and correlation of the codes that changed",
            ("code", "size", "correlation", "mean"),
            tuple(
                (
                    names[code] if names else str(code),
                    float(pair.code_size[code]),
                    float(pair.correlation[code]),
                    float(pair.difference[:, code].mean()),
                )
                for code in worst
            ),
        ),
    )


def few_documents_finding(pair: Pair, found: Changed, share: float) -> Finding:
    """Some rows changed and the others did not."""
    rows = np.flatnonzero(found.changed)
    block = len(rows) > 1 and rows[-1] - rows[0] + 1 == len(rows)
    where = f"rows {rows[0]} to {rows[-1]} without a gap" if block else f"the first is row {rows[0]}"
    strong = found.share <= 0.25
    middling = found.share <= 0.5
    return Finding(
        "few_documents_changed",
        "likely" if middling else "possible",
        0.5 + 0.47 * share if strong else 0.55 if middling else 0.3,
        f"{len(rows):,} of {pair.documents:,} notes changed ({where}), by {found.ceiling:.2g} spreads in the median; "
        f"the others by {found.floor:.1e}.",
        "Compare the texts and token ids of these notes, and run them again alone.",
        {
            "documents_changed": len(rows),
            "share": found.share,
            "first_row": int(rows[0]),
            "last_row": int(rows[-1]),
            "contiguous": bool(block),
            "size_of_changed": found.ceiling,
            "size_of_others": found.floor,
            "explained": share,
        },
        _sizes_by_row(pair),
    )


def _sizes_by_row(pair: Pair) -> EvidencePlot:
    x, y = thinned(np.arange(pair.documents), pair.note_size)
    return EvidencePlot("scatter", "Change by note", "row", "relative difference", (Series("notes", x, y),))


@dataclass(frozen=True)
class LengthPattern:
    """How change goes with note length.

    `side` says which notes changed: those longer than `limit` tokens, or those shorter. `accuracy` is the share of
    notes for which that rule is right; `growth` the rank correlation of size with length (`long`) or with the
    tokens missing to the limit (`short`) among the changed.
    """

    side: Literal["long", "short"]
    limit: int
    accuracy: float
    growth: float


def length_pattern(pair: Pair, found: Changed) -> LengthPattern | None:
    """Whether a length decides who changed; `None` without token counts or where it does not."""
    counts = pair.token_counts
    if counts is None or len(np.unique(counts)) < 4:
        return None
    longest_unchanged = _best_split(counts, found.changed)
    shortest_unchanged = _best_split(-counts, found.changed)
    by_chance = max(found.share, 1 - found.share)
    best = max((longest_unchanged, "long"), (shortest_unchanged, "short"), key=lambda item: item[0][1])
    (threshold, accuracy), side = best
    if accuracy < 0.97 or (1 - accuracy) > 0.4 * (1 - by_chance):
        return None
    limit = int(threshold if side == "long" else -threshold)
    if side == "long" and limit < SHORTEST:
        return None
    lengths = counts[found.changed].astype(float)
    return LengthPattern(
        "long" if side == "long" else "short",
        limit,
        accuracy,
        rank_correlation(lengths if side == "long" else -lengths, pair.note_size[found.changed]),
    )


def _best_split(values: np.ndarray, changed: np.ndarray) -> tuple[float, float]:
    """The value above which most changed and at or below which few did, and how often that is right."""
    order = np.argsort(values, kind="stable")
    ordered, flags = values[order], changed[order]
    right = np.cumsum(~flags) + flags.sum() - np.cumsum(flags)  # unchanged up to here + changed after
    last_of_value = np.append(ordered[1:] != ordered[:-1], True)
    right = np.where(last_of_value, right, -1)
    best = int(np.argmax(right))
    return float(ordered[best]), float(right[best] / len(values))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's correlation; 0 where either never varies."""
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return 0.0
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float) for values in (x, y)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


@dataclass(frozen=True)
class InputLimits:
    """What manifests say of length: `max_length` of candidate and reference, padding, architecture."""

    max_lengths: tuple[int | None, int | None] = (None, None)
    paddings: tuple[str | None, str | None] = (None, None)
    architecture: str | None = None


def short_notes_only(pair: Pair, found: Changed) -> Finding | None:
    """Few notes changed and none of them is among the longest: as where a batch was padded less."""
    counts = pair.token_counts
    if counts is None:
        return None
    longest = counts[found.changed].max()
    by_chance = float((counts <= longest).mean()) ** int(found.changed.sum())
    if by_chance > 0.05:
        return None
    return Finding(
        "padding",
        "possible",
        0.45,
        f"None of the {int(found.changed.sum())} notes that changed has more than {longest} tokens (by chance: "
        f"{by_chance:.1%}): batches without a long note may have been padded less.",
        "Predict again with padding=longest and with padding=max_length.",
        {"longest_changed": int(longest), "by_chance": by_chance},
        _sizes_by_length(pair),
    )


def length_findings(pair: Pair, found: Changed, pattern: LengthPattern, limits: InputLimits) -> list[Finding]:
    """Truncation where long notes changed, padding or mask where short ones did."""
    ranked = _truncation(pattern, limits) if pattern.side == "long" else _padding(found, pattern, limits)
    notes = "longer" if pattern.side == "long" else "shorter"
    evidence = {
        "side": pattern.side,
        "limit": pattern.limit,
        "accuracy": pattern.accuracy,
        "growth": pattern.growth,
        "share": found.share,
        "size_of_changed": found.ceiling,
        "size_of_others": found.floor,
    }
    told = (
        f"Exactly the notes {notes} than {pattern.limit} tokens changed ({pattern.accuracy:.1%} of all notes follow "
        f"that rule), by {found.ceiling:.2g} spreads in the median; the others by {found.floor:.1e}."
    )
    view = _sizes_by_length(pair)
    return [
        Finding(
            cause, "likely" if score >= 0.5 else "possible", score, f"{told} {why}", confirm, evidence, view
        )
        for cause, score, why, confirm in ranked
    ]


def _truncation(pattern: LengthPattern, limits: InputLimits) -> list[tuple[Cause, float, str, str]]:
    known = [length for length in limits.max_lengths if length is not None]
    same = len(known) == 2 and known[0] == known[1]
    differ = len(known) == 2 and known[0] != known[1]
    at_end = pattern.limit >= POSITIONS - 2 and not differ
    if differ:
        length, side = 0.97, 0.1
    elif same or at_end:
        length, side = 0.3, 0.95
    else:
        length, side = 0.95, 0.49
    return [
        (
            "max_length",
            length,
            "One run cut its notes there and the other later.",
            f"Predict again with max_length={pattern.limit} and with the other run's length.",
        ),
        (
            "truncation_side",
            side,
            "Both runs cut there, but from different ends.",
            "Predict again with truncation_side=left.",
        ),
    ]


def _padding(
    found: Changed, pattern: LengthPattern, limits: InputLimits
) -> list[tuple[Cause, float, str, str]]:
    # With a mask, padding reaches only the concept gate's average; without one, every attention layer.
    strong = found.ceiling > 0.15
    mask, padding = (0.93, 0.45) if strong else (0.45, 0.93)
    if limits.architecture == "cls_fusion":
        mask, padding = 0.96, 0.05
    elif None not in limits.paddings and limits.paddings[0] != limits.paddings[1]:
        mask, padding = 0.4, 0.96
    elif None not in limits.paddings:
        mask, padding = 0.96, 0.2
    grows = f"Among them the change grows with the tokens missing to {pattern.limit} (rank correlation {pattern.growth:.2f})."
    return [
        ("attention_mask_ignored", mask, grows, "Predict again with the attention mask ignored."),
        ("padding", padding, grows, "Predict again with padding=longest and with padding=max_length."),
    ]


def _sizes_by_length(pair: Pair) -> EvidencePlot:
    assert pair.token_counts is not None
    x, y = thinned(pair.token_counts, pair.note_size)
    return EvidencePlot(
        "scatter", "Change by length", "tokens", "relative difference", (Series("notes", x, y),)
    )
