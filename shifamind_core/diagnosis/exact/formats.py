"""How scores were written: which numbers a file's format has, told from the values, and what it leaves open.

A value that was rounded lies on the format's grid. A value that was not lies there by chance, and how often is arithmetic:
an FP32 number is also an FP16 number once in 2¹³, has four decimals once in about 10³. `format_of` names a format only
where chance is excluded (`SURE`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool
from scipy.special import expit, logit

from shifamind_core.diagnosis.evidence.aligned_logits import Matrix
from shifamind_core.runs.probability import FAR, NEAR, is_stand_in
from shifamind_core.runs.run import Run

# Bits of evidence from which an accident is excluded: one in 2³⁰, a billion.
SURE = 30.0
TINY = float(np.finfo(np.float64).tiny)
LARGEST32 = float(np.finfo(np.float32).max)
UNIT32, UNIT64 = 2.0**-24, 2.0**-53  # unit roundoff, IEEE 754
# What a sigmoid, an exponential or a product may err beside its last rounding, in unit roundoffs: NumPy and torch keep
# FP32 elementary functions within 4 units in the last place (NumPy's own tests allow 4).
STEPS = 8
SAMPLE = 512  # values: at 13 bits each far beyond `SURE`

Kind = Literal["decimals", "digits", "bf16", "fp16", "fp32", "fp64"]
Scale = Literal["logits", "probabilities"]
Side = Literal["candidate", "reference"]
DECIMAL: tuple[Kind, Kind] = ("decimals", "digits")  # no arithmetic gives these: they are the file's
SIDES: tuple[Side, Side] = ("candidate", "reference")
# Significant bits and exponent of the smallest normal number.
BINARY: dict[Kind, tuple[int, int]] = {
    "bf16": (8, -126),
    "fp16": (11, -14),
    "fp32": (24, -126),
    "fp64": (53, -1022),
}


# As few digits as tell a number of the format from its neighbours: how NumPy prints numbers, and pandas writes them.
SHORTEST = -1


@dataclass(frozen=True)
class Format:
    """A way to write numbers: so many decimals or significant digits, or a binary format.

    Attributes
    ----------
    kind : Kind
    places : int
        Decimals or significant digits.
    written : int, optional
        Decimals in which numbers of a binary format were written after that, or `SHORTEST`.
    """

    kind: Kind
    places: int = 0
    written: int | None = None

    @property
    def words(self) -> str:
        """For a sentence: "rounded to …"."""
        if self.written is not None:
            how = "few digits" if self.written == SHORTEST else f"{self.written} decimals"
            return f"{self.kind.upper()} and written in {how}"
        if self.kind == "decimals":
            return f"{self.places} decimal{'' if self.places == 1 else 's'}"
        if self.kind == "digits":
            return f"{self.places} significant digit{'' if self.places == 1 else 's'}"
        return self.kind.upper()

    @property
    def smallest(self) -> float:
        """The smallest positive number (of significant digits: that of FP32)."""
        if self.kind == "decimals":
            return 10.0**-self.places
        bits, lowest = BINARY.get(self.kind, BINARY["fp32"])
        return 2.0 ** (lowest - bits + 1)

    def unit(self, values: np.ndarray) -> np.ndarray:
        """The distance between neighbours on the grid at each value.

        >>> Format("fp16").unit(np.array([1.0, 1e-9])).tolist() == [2.0**-10, 2.0**-24]
        True
        """
        if self.kind == "decimals":
            return np.full(values.shape, 10.0**-self.places)
        size = np.abs(values)
        if self.kind == "digits":
            exponent = np.floor(np.log10(np.maximum(size, self.smallest)) + 1e-12)
            return 10.0 ** (exponent - self.places + 1)
        bits, lowest = BINARY[self.kind]
        exponent = np.frexp(size)[1] - 1
        return np.ldexp(1.0, np.maximum(np.where(size > 0, exponent, lowest), lowest) - bits + 1)

    def kept(self, values: np.ndarray) -> np.ndarray:
        """The numbers of the binary format that were written so, where that can be told; other values as they are."""
        if self.written is None:
            return values
        unit = self.unit(values)
        told = unit > (0.0 if self.written == SHORTEST else 10.0**-self.written)
        return np.where(told, np.rint(values / unit) * unit, values)

    def resolution(self, values: np.ndarray) -> np.ndarray:
        """How far apart values are that can be told apart as written; 0 where nothing was lost in writing."""
        if self.written is None:
            return np.zeros(values.shape)
        if self.written != SHORTEST:
            return np.full(values.shape, 10.0**-self.written)
        decimals = [text.partition("e")[0].partition(".")[2] for text in _shortest(self.kept(values))]
        return 10.0 ** -np.array([len(one) for one in decimals], np.float64)

    def off(self, values: np.ndarray) -> np.ndarray:
        """How far each value is from its nearest neighbour on the grid, as written."""
        if self.written == SHORTEST:
            return np.abs(_shortest(self.kept(values)).astype(np.float64) - values)
        if self.written is not None:
            return np.abs(np.round(self.kept(values), self.written) - values)
        unit = self.unit(values)
        steps = values / np.where(unit > 0, unit, 1.0)
        return np.where(unit > 0, np.abs(steps - np.rint(steps)) * unit, 0.0)


def _shortest(numbers: np.ndarray) -> np.ndarray:
    """FP16 numbers as text."""
    with np.errstate(over="ignore"):  # what no FP16 number is becomes infinite, and is none
        return numbers.astype(np.float16).astype(str)


HALF: tuple[Kind, Kind] = ("fp16", "bf16")
FORMATS = (
    *(Format("decimals", places) for places in range(13)),
    *(Format("digits", places) for places in range(1, 13)),
    *(Format(kind) for kind in BINARY),
    Format("fp16", written=SHORTEST),
    *(Format(kind, written=places) for kind in HALF for places in range(4, 11)),
)


# Unit roundoff of the numbers that scores are kept in: these are no rounding of their own.
CONTAINERS: dict[Kind, float] = {"fp32": UNIT32, "fp64": UNIT64}


@dataclass(frozen=True, eq=False)
class Stored:
    """One run's scores as they were written.

    Attributes
    ----------
    logits : float64 [documents, codes]
        As they came into the examination.
    values : float64 [documents, codes]
        On the scale on which they were written: these logits, or their probabilities.
    scale : which of the two
    format : Format
    unit_roundoff : float
        Of the numbers that hold the logits: 2⁻²⁴ or 2⁻⁵³.
    moved : bool
        The logits were made of probabilities on reading, and may have been moved by a few steps.
    lowest, highest : float, optional
        A smallest or largest logit that may stand for all beyond it: a stored 0 or 1, or where scores were cut off.
    """

    logits: Matrix
    values: Matrix
    scale: Scale
    format: Format
    unit_roundoff: float
    moved: bool = False
    lowest: float | None = None
    highest: float | None = None

    @property
    def few_decimals(self) -> bool:
        """Do the values lie on a grid of decimals or digits, which is the file's? Logits so far out that a sigmoid is flat do not."""
        return self.format.kind in DECIMAL and (self.scale == "logits" or self.moved)

    @property
    def coarse(self) -> bool:
        """Was anything rounded beyond the numbers that hold the scores?"""
        return self.scale == "probabilities" or CONTAINERS.get(self.format.kind) != self.unit_roundoff

    def selected(self, notes: np.ndarray) -> "Stored":
        """The same for some notes."""
        return replace(self, logits=self.logits[notes], values=self.values[notes])

    def same_grid(self, other: "Stored") -> bool:
        """Were both written alike?"""
        return (self.scale, self.format) == (other.scale, other.format)

    def half(self, notes: np.ndarray | slice = slice(None)) -> Matrix:
        """By how much rounding may have moved each value: half a unit of its last place."""
        return self.format.unit(self.values[notes]) / 2

    def slack(self, notes: np.ndarray | slice = slice(None)) -> Matrix:
        """By how much each value may be off beside its rounding: what the numbers leave open that hold it now, and decimals in which
        it was written."""
        written = self.format.written
        lost = 0.0 if written in (None, SHORTEST) else 10.0**-written / 2
        if self.scale == "probabilities":
            return probability_slack(self.logits[notes], self.moved) + lost
        return self.unit_roundoff * np.abs(self.logits[notes]) + lost

    def on_scale(self, logits: np.ndarray) -> np.ndarray:
        """Logits on the scale on which these were written."""
        return logits if self.scale == "logits" else expit(logits)

    def bounds(self, notes: np.ndarray | slice = slice(None)) -> tuple[Matrix, Matrix]:
        """Between which logits each score lies, as far as its rounding and what holds it leave open."""
        values, off = self.values[notes], self.half(notes) + self.slack(notes)
        if self.scale == "logits":
            return values - off, values + off
        with np.errstate(divide="ignore"):
            return logit(np.clip(values - off, 0.0, 1 - UNIT64)), logit(np.clip(values + off, TINY, 1.0))


def unit_roundoff(values: np.ndarray) -> float:
    """Of the coarsest format of numbers that holds these values: of FP32 if they are FP32 numbers, else of FP64."""
    some = sampled(values)
    return UNIT32 if np.array_equal(some.astype(np.float32), some) else UNIT64


def read(
    logits: Matrix,
    from_probabilities: bool = False,
    left_open: Bool[np.ndarray, "documents codes"] | None = None,
) -> Stored:
    """How a run's scores were written, as far as the values show it.

    Parameters
    ----------
    logits : float64 [documents, codes]
    from_probabilities : bool
        The file held probabilities, and logits were made of them on reading.
    left_open : bool [documents, codes], optional
        Cells that say nothing.
    """
    eps = UNIT32 if from_probabilities else unit_roundoff(logits)
    container = Format("fp32" if eps == UNIT32 else "fp64")
    low, high = float(logits.min()), float(logits.max())
    inside = (logits != low) & (logits != high)  # stand-ins need not lie on the grid
    if left_open is not None:
        inside &= ~left_open
    found, scale = None, "logits"
    if not from_probabilities:
        found = format_of(logits, lambda x: x, lambda x: eps * np.abs(x), inside)
    if found is None:
        found = format_of(logits, expit, lambda x: probability_slack(x, from_probabilities), inside)
        scale = "probabilities" if found or from_probabilities else "logits"
    form = found or container
    ends = [_end(logits, end, form, from_probabilities) for end in (low, high)]
    if scale == "logits":
        return Stored(logits, form.kept(logits), "logits", form, eps, False, *ends)
    return Stored(logits, form.kept(expit(logits)), "probabilities", form, eps, from_probabilities, *ends)


def of_run(run: Run) -> Stored:
    """How a run's scores were written; what is no number of FP32 says nothing of that and is left out."""
    logits = run.logits.astype(np.float64)
    if run.non_finite or max(np.abs(run.ends)) > LARGEST32:
        within = logits[np.abs(logits) <= LARGEST32]
        logits = within[:, None] if len(within) else np.zeros((1, 1))
    return read(logits, bool(run.manifest.logits_from_probabilities))


def plain(logits: Matrix) -> Stored:
    """Scores taken as they stand, whatever they are called, and how they were written."""
    eps = unit_roundoff(logits)
    form = format_of(logits, slack=lambda x: eps * np.abs(x))
    return Stored(logits, logits, "logits", form or Format("fp32" if eps == UNIT32 else "fp64"), eps)


def probability_slack(logits: np.ndarray, moved: bool = True) -> np.ndarray:
    """By how much a probability may be off that is kept as an FP32 logit.

    The logit was computed and rounded (twice a unit roundoff). `logits_of` moves it beside that by up to `NEAR` steps, and by up to `FAR` where a decision would
    turn, which is only near a threshold of up to three decimals.
    """
    probability = expit(logits)
    slope = probability * (1 - probability)
    rounded = 2 * UNIT32 * np.abs(logits) * slope
    if not moved:
        return rounded
    step = np.maximum(rounded, UNIT32 * probability / 2)
    near = np.abs(probability * 1000 - np.rint(probability * 1000)) <= 1000 * (FAR + NEAR) * step
    return np.where(near, FAR + NEAR, NEAR + 1) * step


def format_of(
    logits: Matrix,
    scale: Callable[[np.ndarray], np.ndarray] = lambda x: x,
    slack: Callable[[np.ndarray], np.ndarray] = lambda x: UNIT32 * np.abs(x),
    inside: Bool[np.ndarray, "documents codes"] | None = None,
) -> Format | None:
    """The coarsest format on whose grid all of these values lie, and not by chance; else `None`.

    Parameters
    ----------
    logits : float64 [documents, codes]
    scale : callable
        To the values that may have been rounded.
    slack : callable
        Of logits: how far the numbers that hold those values are from what they stand for.
    inside : bool [documents, codes], optional
        Cells to look at.
    """
    few = np.unique(sampled(logits if inside is None else logits[inside]))
    few = few[scale(few) != 0]
    found = [form for form in FORMATS if len(few) and _on_grid(form, scale(few), slack(few), sure=True)]
    if not found:
        return None
    found.sort(key=lambda form: -float(np.median(form.unit(scale(few)))))
    cells = (logits if inside is None else logits[inside]).ravel()
    values, slacks = scale(cells), slack(cells)
    return next((form for form in found if _on_grid(form, values, slacks)), None)


def _on_grid(form: Format, values: np.ndarray, slack: np.ndarray, sure: bool = False) -> bool:
    # Units of decimals and their multiples are themselves rounded.
    if (form.off(values) > slack + 4 * UNIT64 * np.abs(values)).any():
        return False
    if not sure:
        return True
    # By chance a value comes within its slack of the grid so often; values of one grid point are one accident.
    unit = np.maximum(form.unit(values), 1e-300)
    window = np.maximum(2 * np.maximum(slack, UNIT64 * np.abs(values)), form.resolution(values)) / unit
    _, first = np.unique(np.rint(values / unit) * unit, return_index=True)
    return float(-np.log2(np.clip(window[first], TINY, 1.0)).sum()) >= SURE


def sampled(values: np.ndarray) -> np.ndarray:
    """Some of the values, evenly spaced."""
    return values.ravel()[:: max(1, values.size // SAMPLE)]


def _end(logits: Matrix, end: float, form: Format, from_probabilities: bool) -> float | None:
    """An extreme value, if it may stand for all beyond it: known for that, or repeated more than chance repeats values."""
    if is_stand_in(end, from_probabilities):
        return end
    repeated = np.count_nonzero(logits == end) - 1
    if repeated < 1:
        return None
    alike = float(form.unit(np.array([end]))[0]) / max(float(logits.std()), 1e-300)
    return end if repeated * -np.log2(np.clip(alike, TINY, 1.0)) >= SURE else None
