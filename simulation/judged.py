"""The corpus as rows to learn from and to be judged by, and how well a model does on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from shifamind_core.diagnosis.evidence.features import NAMES

# Causes that no exact matcher explains, in the order of the model.
CAUSES = (
    "numerics", "dropout_active", "input_changed", "max_length", "padding", "few_documents_changed", "few_codes_changed",
    "calibration_shift", "weights_changed", "head_not_loaded", "encoder_not_loaded", "different_documents",
)  # fmt: skip
LENGTH_FEATURES = ("tokens_known", "longer", "shorter", "length_rank")
# Faults that act on every score: where they leave less than rounding does on the same model, they can look like it.
MAY_BE_ROUNDING = (
    "dropout_active", "weights_changed", "input_changed", "calibration_shift", "padding", "max_length",
)  # fmt: skip
# Log10 of rounding over the spread of the logits. A model whose logits BF16 moves further than notes do tells notes apart in
# no half precision: training collapsed, and nothing is left for a fault to change.
COLLAPSED = 0.0
# The same of the code that rounding on top of another fault moves most, which says it of models that were left unfinished.
CODE_COLLAPSED = 1.0
DROWNED = 0.15  # decades: where noise of one's own size is added, the sum is 1.4 times as loud
UNLINKED = float(
    np.arcsinh(3)
)  # of `link`: codes correlate with themselves by less than three standard errors
UNREADABLE = 0.05  # of `readable_most`: neither run tells anything of the other
UNRELATED = {
    "different_documents",
    "input_changed",
    "dropout_active",
}  # twins where no note is linked with itself
UNREAD = {
    "weights_changed",
    "encoder_not_loaded",
}  # twins where, besides, nothing can be read off the other run
ROUNDED_WEIGHTS = ("fp16 weights", "bf16 weights")  # weights that were rounded are other weights
BINS = 10


def read(path: str) -> pd.DataFrame:
    """The corpus, from Parquet or from the text that a machine without it wrote."""
    return pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path, keep_default_na=False)


def collapsed(corpus: pd.DataFrame) -> list[str]:
    """Models whose logits hardly depend on the note: they take no part, held out or not."""
    whole = corpus[corpus["part"] == "whole"]
    half = whole[whole["fault"].isin(["bf16 autocast", "bf16 weights", "fp16 autocast"])]
    bf16 = half[half["level"] == "bf16"].groupby("model")["size"].min()
    fp16 = half[half["level"] == "fp16"].groupby("model")["size"].min()
    on_top = whole[whole["nuisance"].isin(["bf16", "fp16"])].groupby("model")["floor"].max()
    far = on_top[on_top >= CODE_COLLAPSED]
    return sorted({*bf16[bf16 >= COLLAPSED].index, *fp16[fp16 >= COLLAPSED].index, *far.index})


def judged_rows(corpus: pd.DataFrame) -> pd.DataFrame:
    """Every case as it looks with note lengths and as it looks without, with what may be said of it.

    Adds `right` (names that are right), `truth` (the one that was planted), `limit` (log10 of the largest rounding on the
    same model), `smaller` (than that, though it acts on every score), `drowned` (the rounding that came on top is as
    loud as the fault, so that rounding is as right a name) and `kind` (the family, whatever its sizes).
    """
    corpus = corpus[~corpus["model"].isin(collapsed(corpus))]
    rounding = corpus[
        (corpus["cause"] == "numerics")
        & (corpus["part"] == "whole")
        & ~corpus["fault"].str.contains(" against ")
    ]
    limits = rounding[rounding["level"] != ""].groupby("model")["size"].max()
    known = corpus[corpus["tokens_known"] == 1].assign(truth=lambda t: t["cause"])
    unknown = corpus.assign(truth=corpus["alone"], **dict.fromkeys(LENGTH_FEATURES, 0.0))
    rows = pd.concat([known, unknown], ignore_index=True)
    rows["limit"] = rows["model"].map(limits)
    rows["smaller"] = rows["truth"].isin(MAY_BE_ROUNDING) & (rows["size"] <= rows["limit"])
    rows["drowned"] = (rows["truth"] != "numerics") & drowned(rows)
    rows["right"] = [_right_names(row) for row in rows.to_dict("records")]
    rows["kind"] = rows["family"].where(~rows["family"].str.contains("×"), rows["architecture"])
    return rows


def drowned(rows: Any) -> Any:
    """Is the rounding that came on top as loud as the fault? Of a row, or of many."""
    return (rows["nuisance"] != "") & (rows["loudest"] <= rows["floor"] + DROWNED)


def _right_names(row: Mapping[str, Any]) -> frozenset[str]:
    names = {row["truth"], *filter(None, row["twins"].split(","))}
    if row["drowned"]:
        names.add("numerics")
    if row["truth"] == "numerics" and row["fault"] in ROUNDED_WEIGHTS:
        names.add("weights_changed")
    if row["link"] < UNLINKED:
        if row["truth"] in UNRELATED:
            names |= UNRELATED
        elif row["truth"] in UNREAD and row["readable_most"] < UNREADABLE:
            names |= UNREAD
    return frozenset(names)


def matrix(rows: pd.DataFrame, names: Sequence[str] = NAMES) -> np.ndarray:
    """Features [rows, features]."""
    return rows[list(names)].to_numpy(float)


def weights(rows: pd.DataFrame) -> np.ndarray:
    """So that every cause counts alike, and within a cause every model."""
    own = rows.groupby(["truth", "model"])["size"].transform("size")
    models = rows.groupby("truth")["model"].transform("nunique")
    found = 1 / (own * models)
    return (found / found.mean()).to_numpy(float)


@dataclass(frozen=True)
class Score:
    """How well probabilities did: shares of rows, each cause counting alike, and each row counting alike."""

    rows: int
    first: float
    first_by_row: float
    among_three: float
    calibration_error: float
    numerics_for_another: int
    of_others: int
    another_for_numerics: int
    of_numerics: int


def score(rows: pd.DataFrame, probabilities: np.ndarray, causes: Sequence[str] = CAUSES) -> Score:
    """First, among three, calibration (binned by the first's probability), and the two errors that must not be."""
    order = np.argsort(-probabilities, axis=1)
    names = np.array(causes)[order]
    right = rows["right"].to_numpy()
    first = np.array([name in good for name, good in zip(names[:, 0], right, strict=True)])
    three = np.array([bool(good & set(best[:3])) for best, good in zip(names, right, strict=True)])
    weight = weights(rows)
    numeric = (rows["truth"] == "numerics").to_numpy()
    called = names[:, 0] == "numerics"
    return Score(
        rows=len(rows),
        first=float(np.average(first, weights=weight)),
        first_by_row=float(first.mean()),
        among_three=float(np.average(three, weights=weight)),
        calibration_error=calibration_error(probabilities.max(axis=1), first, weight),
        numerics_for_another=int((called & ~first).sum()),
        of_others=int((~numeric).sum()),
        another_for_numerics=int((numeric & ~first).sum()),
        of_numerics=int(numeric.sum()),
    )


def reliability(
    confidence: np.ndarray, right: np.ndarray, weight: np.ndarray, bins: int = BINS
) -> list[tuple[float, float, float]]:
    """(mean probability, share right, share of the weight) a bin of equal width."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    found = []
    for number in range(bins):
        inside = which == number
        if inside.any():
            own = weight[inside]
            found.append(
                (
                    float(np.average(confidence[inside], weights=own)),
                    float(np.average(right[inside], weights=own)),
                    float(own.sum() / weight.sum()),
                )
            )
    return found


def calibration_error(confidence: np.ndarray, right: np.ndarray, weight: np.ndarray) -> float:
    """Expected calibration error: mean distance between probability and share right."""
    return sum(share * abs(said - was) for said, was, share in reliability(confidence, right, weight))
