"""What people call a map of scores: percent, softmax, temperature, a number a note."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix
from shifamind_core.diagnosis.exact.formats import Side
from shifamind_core.diagnosis.exact.map_fit import (
    IDENTITY,
    LOG,
    LOG_SIGMOID,
    LOGIT,
    SIGMOID,
    Form,
    Group,
    Interval,
)

SUMS = 1e-3  # likewise, of sums over a note
ALIKE = 1e-5  # relative; parameters this near to a round number are called by it: for words, not for verdicts


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """A map that gives every score of `side` from the other run's.

    `kind` and `words` name it; `slope` and `offset` hold one value, one a code or one a note, and are `None` where there is
    no formula.
    """

    side: Side
    group: Group
    kind: str
    words: str
    slope: np.ndarray | None = None
    offset: np.ndarray | None = None

    @property
    def has_name(self) -> bool:
        """Is it a script's own way of writing scores, and not merely fitted?"""
        return self.kind not in NAMELESS and self.slope is not None


def order_words(group: Group, sign: int) -> str:
    where = {"run": "", "code": " within every code", "note": " within every note"}[group]
    return f"some {'increasing' if sign > 0 else 'decreasing'} function: the order of all scores{where} is {'kept' if sign > 0 else 'reversed'} exactly"


def named(
    side: Side, form: Form, target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray
) -> ScoreMap:
    """The map under the name that people have for it."""
    namer = {"run": _name_of_run, "code": _name_of_code, "note": _name_of_note}[form.group]
    kind, words = namer(target, source, slope, offset)
    return ScoreMap(side, form.group, kind, words, slope.ravel(), offset.ravel())


def _alike(values: np.ndarray, wanted: np.ndarray | float, target: Interval) -> bool:
    """Equal as far as fitted parameters tell: to five digits, or to the scores' own rounding."""
    width = target.width[np.isfinite(target.width)]
    near = ALIKE * np.maximum(np.abs(wanted), np.ptp(target.middle)) + (
        2 * float(np.median(width)) if width.size else 0.0
    )
    return bool((np.abs(values - wanted) <= near).all())


def _name_of_run(
    target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray
) -> tuple[str, str]:
    a, b = float(slope.item()), float(offset.item())
    functions = target.function, source.function
    no_offset, is_one = _alike(offset, 0.0, target), abs(a - 1) <= ALIKE
    if functions == (IDENTITY, IDENTITY):
        if no_offset and abs(a + 1) <= ALIKE:
            return "negation", "the scores with the other sign"
        if no_offset:
            return "factor", f"every score times {a:.6g}, which is a temperature of {1 / a:.6g}"
        if is_one:
            return "shift", f"{b:+.6g} on every score"
        known = _scaled(target, None)
        if known is not None:
            return f"{known[0]}_run", f"all scores brought to {known[1]}"
        return "affine", f"every score times {a:.6g}, {b:+.6g}"
    if functions == (IDENTITY, SIGMOID):
        if is_one and no_offset:
            inside = source.middle.min() >= 0.5 and source.middle.max() <= expit(
                1.0
            )  # the sigmoid's own, of [0, 1]
            return ("double_sigmoid" if inside else "sigmoid"), "the sigmoid of every score"
        if no_offset:
            return ("percent" if abs(a - 100) <= 100 * ALIKE else "factor_of_probability"), (
                f"the probability times {a:.6g}"
            )
        if abs(a + 1) <= ALIKE and _alike(offset, 1.0, target):
            return "complement", "one less the probability"
        return "affine_of_probability", f"the probability times {a:.6g}, {b:+.6g}"
    if functions == (IDENTITY, LOG_SIGMOID) and is_one and no_offset:
        return "log_probability", "the logarithm of the probability (log sigmoid)"
    if (
        functions in ((LOG, LOG_SIGMOID), (LOG_SIGMOID, LOG_SIGMOID), (LOG_SIGMOID, LOG), (LOG, LOG))
        and no_offset
    ):
        if is_one and target.function is not source.function:
            if source.function is LOG_SIGMOID:
                return "sigmoid", "the sigmoid of every score"
            return "logit", "the logit of every score"
        return "power", f"the probability to the power of {a:.6g}"
    if functions == (LOG, IDENTITY) and is_one and no_offset:
        return "odds", "the exponential of every score (the odds)"
    if functions == (IDENTITY, LOG) and is_one and no_offset:
        return "log", "the logarithm of every score"
    if functions == (IDENTITY, LOGIT) and is_one and no_offset:
        return "logit", "the logit of every score"
    told = "" if no_offset else f" {b:+.6g}"
    return "formula", f"{functions[0].name} = {a:.6g} × {functions[1].name}{told}"


def _scaled(target: Interval, axis: int | None) -> tuple[str, str] | None:
    """How scores were brought to a common scale, if each group has 0 and 1 as its ends, or as mean and spread."""
    y = target.middle
    if _alike(y.min(axis), 0.0, target) and _alike(y.max(axis), 1.0, target):
        return "min_max", "0 to 1"
    if _alike(y.mean(axis), 0.0, target) and (
        _alike(y.std(axis), 1.0, target) or _alike(y.std(axis, ddof=1), 1.0, target)
    ):
        return "standardised", "mean 0 and standard deviation 1"
    return None


def _log_sums(scores: Matrix, axis: int) -> np.ndarray:
    """What softmax takes off: the negative logarithm of the sum of exponentials."""
    return -np.asarray(logsumexp(scores, axis=axis, keepdims=True))


def _name_of_note(
    target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray
) -> tuple[str, str]:
    functions, x, y = (target.function, source.function), source.middle, target.middle
    scaled = slope * x
    temperature = "" if _alike(slope, 1.0, target) else f" at a temperature of {1 / slope.flat[0]:.6g}"
    if source.function is IDENTITY and slope.size == 1:
        if target.function is not IDENTITY:
            if _alike(offset, _log_sums(scaled, 1), target):
                return "softmax", f"softmax over the codes of every note{temperature}"
            return (
                "factor_of_exponential",
                "the exponential of every score times a number of every note's own",
            )
        if _alike(offset, _log_sums(scaled, 1), target):
            return "log_softmax", f"log-softmax over the codes of every note{temperature}"
        if not temperature and _alike(y.mean(axis=1), 0.0, target):
            return "centred_note", "every note's mean taken off its scores"
        if not temperature and _alike(y.max(axis=1), 0.0, target):
            return "less_largest", "every note's largest score taken off its scores"
        return "note_shift", f"a number of every note's own on all its scores{temperature}"
    words = "probability" if source.function in (SIGMOID, LOG_SIGMOID) else "score"
    logs = functions in ((LOG, LOG_SIGMOID), (LOG_SIGMOID, LOG_SIGMOID), (LOG, LOG)) and not temperature
    if logs or (target.function is IDENTITY and _alike(offset, 0.0, target)):
        written = np.exp(y) if logs else y
        if words == "probability" and np.allclose(written.sum(axis=1), 1.0, atol=SUMS):
            return "normalised_note", "the probabilities divided by their sum in every note"
        if np.allclose((written**2).sum(axis=1), 1.0, atol=SUMS):
            return "unit_length_note", "every note's scores divided by their length"
        return "note_factor", f"every {words} times a number of every note's own"
    known = _scaled(target, 1) if target.function is IDENTITY else None
    if known is not None:
        return f"{known[0]}_note", f"every note's {words} brought to {known[1]}"
    return "note_affine", f"a factor and a shift of every note's own on every {words}"


def _name_of_code(
    target: Interval, source: Interval, slope: np.ndarray, offset: np.ndarray
) -> tuple[str, str]:
    functions = target.function, source.function
    words = {IDENTITY: "score", SIGMOID: "probability"}.get(source.function, source.function.name)
    if functions in ((LOG, IDENTITY), (LOG_SIGMOID, IDENTITY)) and _alike(
        offset, _log_sums(slope * source.middle, 0), target
    ):
        return "softmax_over_notes", "softmax over the notes of every code, where codes were meant"
    if functions == (IDENTITY, IDENTITY) and _alike(slope, 1.0, target):
        return (
            "code_shift",
            f"a number of every code's own on all its scores ({offset.min():+.4g} to {offset.max():+.4g})",
        )
    if target.function is IDENTITY and _alike(offset, 0.0, target):
        return (
            "code_factor",
            f"every {words} times a number of every code's own ({slope.min():.4g} to {slope.max():.4g})",
        )
    known = _scaled(target, 0) if target.function is IDENTITY else None
    if known is not None:
        return f"{known[0]}_code", f"every code's {words} brought to {known[1]}"
    return "code_affine", f"a factor and a shift of every code's own on every {words}"


# Fitted, but no script's own way of writing scores: the other run as the map of this one may have a name.
NAMELESS = (
    "affine",
    "formula",
    "note_shift",
    "note_factor",
    "note_affine",
    "code_affine",
    "factor_of_exponential",
)
IN_THE_HEAD = (
    "code_shift",
    "code_factor",
    "code_affine",
)  # an output layer with other numbers leaves these too
