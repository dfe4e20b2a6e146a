"""Fit the cause model to the corpus: `python -m simulation.fit`.

L2-penalised multinomial logistic regression on splines of the features; the penalty is chosen by cross-validation over
models, the temperature on models that were kept back. Held-out families and everything recorded on a GPU take no part.
Writes `cause_model.json` into the product, and docs/cause-model.md.
"""

import argparse
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import SplineTransformer

from shifamind_core.diagnosis.classifier.cause_model import FILE
from shifamind_core.diagnosis.evidence.features import FEATURES, NAMES
from simulation import card
from simulation.judged import CAUSES, judged_rows, matrix, read, score, weights

ROOT = Path(__file__).resolve().parents[1]
CORPUS = Path(__file__).with_name("corpus.parquet")
DOCUMENT = ROOT / "docs" / "cause-model.md"
GPU_EVIDENCE = ROOT / "docs" / "gpu-evidence.json"
PENALTIES = (0.1, 0.3, 1.0, 3.0)  # scikit-learn's C: the larger, the freer
KNOTS, DEGREE, FOLDS = 5, 2, 5
KEPT_BACK = 5  # every so many-th model gives the temperature


@dataclass(frozen=True, eq=False)
class Splines:
    """One spline transformer a feature; a feature of few values gets straight lines between them."""

    parts: tuple[SplineTransformer, ...]
    knots: tuple[np.ndarray, ...]
    degrees: tuple[int, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> "Splines":
        parts, every, degrees = [], [], []
        for column in values.T:
            knots = np.unique(np.quantile(column, np.linspace(0.005, 0.995, KNOTS)))
            least = np.ptp(column) / 50  # knots that nearly meet would make steep steps of hardly any rows
            knots = knots[np.append(True, np.diff(knots) > least)] if len(knots) > 1 else knots
            if len(knots) < 2:
                knots = np.array([knots[0], knots[0] + 1.0])
            degree = DEGREE if len(knots) > 2 else 1
            part = SplineTransformer(
                knots=knots[:, None], degree=degree, extrapolation="constant", include_bias=False
            )
            parts.append(part.fit(column[:, None]))
            every.append(knots)
            degrees.append(degree)
        return cls(tuple(parts), tuple(every), tuple(degrees))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.hstack([part.transform(values[:, [i]]) for i, part in enumerate(self.parts)])


@dataclass(frozen=True, eq=False)
class Fitted:
    """Splines and regression; the temperature divides what the regression says."""

    splines: Splines
    regression: LogisticRegression
    temperature: float = 1.0

    def scores(self, values: np.ndarray) -> np.ndarray:
        found = self.regression.decision_function(self.splines(values)) / self.temperature
        every = np.full((len(values), len(CAUSES)), -1e3)
        every[:, [CAUSES.index(cause) for cause in self.regression.classes_]] = found
        return every

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        return softmax(self.scores(values))


def softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def fit(rows: pd.DataFrame, penalty: float) -> Fitted:
    """On all these rows."""
    splines = Splines.of(matrix(rows))
    regression = LogisticRegression(C=penalty, max_iter=2000)
    regression.fit(splines(matrix(rows)), rows["truth"], sample_weight=weights(rows))
    return Fitted(splines, regression)


def chosen_penalty(rows: pd.DataFrame) -> tuple[float, dict[float, float]]:
    """The penalty whose probabilities lose least on models left out."""
    losses: dict[float, float] = {}
    for penalty in PENALTIES:
        found = np.zeros((len(rows), len(CAUSES)))
        for inside, outside in GroupKFold(FOLDS).split(rows, groups=rows["model"]):
            found[outside] = fit(rows.iloc[inside], penalty).probabilities(matrix(rows.iloc[outside]))
        losses[penalty] = loss(rows, found)
        print(f"C = {penalty:g}: log-loss {losses[penalty]:.4f}, {score(rows, found)}", flush=True)
    return min(losses, key=lambda penalty: losses[penalty]), losses


def loss(rows: pd.DataFrame, probabilities: np.ndarray) -> float:
    where = [CAUSES.index(cause) for cause in rows["truth"]]
    return float(
        log_loss(
            where, np.clip(probabilities, 1e-9, 1), sample_weight=weights(rows), labels=range(len(CAUSES))
        )
    )


def with_temperature(fitted: Fitted, rows: pd.DataFrame) -> Fitted:
    """The temperature that suits models that the fit had not seen."""
    scores = fitted.scores(matrix(rows))
    found = minimize_scalar(
        lambda t: loss(rows, softmax(scores / np.exp(t))), bounds=(-1.5, 1.5), method="bounded"
    )
    return Fitted(fitted.splines, fitted.regression, float(np.exp(found.x)))


def learned_from(rows: pd.DataFrame) -> pd.DataFrame:
    """What takes part in the fit: no held-out family, no recording, nothing that cannot be told from rounding."""
    return rows[~rows["held_out"] & ~rows["recorded"] & ~rows["within"]].reset_index(drop=True)


def ceiling(rows: pd.DataFrame) -> HistGradientBoostingClassifier:
    """A boosted model of the same rows: what more freedom would bring."""
    model = HistGradientBoostingClassifier(
        max_iter=200, learning_rate=0.08, max_leaf_nodes=15, l2_regularization=1.0, random_state=0
    )
    return model.fit(matrix(rows), rows["truth"], sample_weight=weights(rows))


def boosted_probabilities(model: HistGradientBoostingClassifier, values: np.ndarray) -> np.ndarray:
    every = np.zeros((len(values), len(CAUSES)))
    every[:, [CAUSES.index(cause) for cause in model.classes_]] = model.predict_proba(values)
    return every


def measured_rounding(corpus: pd.DataFrame) -> list[dict[str, Any]]:
    """Sizes of rounding: emulated on the fleet, recorded on its GPU, and those in docs/gpu-evidence.json."""
    own = corpus[
        (corpus["cause"] == "numerics") & (corpus["part"] == "whole")
        & ~corpus["fault"].str.contains(" against | stored | by way ")
    ]  # fmt: skip
    found = [
        {
            "model": row["model"],
            "level": row["level"],
            "size": float(f"{10 ** row['size']:.3g}"),
            "source": f"fleet, {row['fault']}"
            + ("" if row["recorded"] else ", emulated" * (row["level"] != "fp32")),
        }
        for _, row in own.iterrows()
    ]
    return found + evidence_rounding()


def evidence_rounding() -> list[dict[str, Any]]:
    """What one H200 measured: root mean square difference from FP64 over the standard deviation of all logits."""
    content = json.loads(GPU_EVIDENCE.read_text())
    gpu = content["environment"]["machine"]["gpu"]
    ladders: dict[str, list[dict[str, Any]]] = {
        item["model"]: [
            {"policy": policy, "rms": value["rms"], "spread": item["spread"]}
            for policy, value in item.items()
            if isinstance(value, dict) and "rms" in value
        ]
        for item in content["small"]
    }
    ladders |= {f"MiniLM {name}": item["ladder"] for name, item in content["pretrained"].items()}
    for name in ("base_cls_fusion", "base_concept_attention"):
        ladders[name] = content[name]["ladder"]
        ladders[f"{name}, ill-conditioned"] = content[name]["ill_conditioned"]
    found = []
    for model, rungs in ladders.items():
        for rung in rungs:
            level = next(
                (level for level in ("bf16", "fp16", "tf32", "fp32") if rung["policy"].startswith(level)),
                None,
            )
            if level and rung.get("rms") and rung.get("spread"):
                size = float(f"{rung['rms'] / rung['spread']:.3g}")
                source = f"docs/gpu-evidence.json, {gpu}, {rung['policy']}"
                found.append({"model": model, "level": level, "size": size, "source": source})
    return found


def written(
    fitted: Fitted, rows: pd.DataFrame, corpus: pd.DataFrame, path: Path, penalty: float
) -> dict[str, Any]:
    """What `cause_model.json` holds."""
    values = matrix(rows)
    every = np.zeros((len(CAUSES), fitted.regression.coef_.shape[1]))
    intercepts = np.full(len(CAUSES), -30.0)  # a cause that was never planted
    where = [CAUSES.index(cause) for cause in fitted.regression.classes_]
    every[where], intercepts[where] = fitted.regression.coef_, fitted.regression.intercept_
    return {
        "causes": list(CAUSES),
        "bases": [
            {
                "name": name,
                "meaning": feature.meaning,
                "knots": [float(f"{knot:.6g}") for knot in knots],
                "degree": degree,
                "low": float(values[:, i].min()),
                "high": float(values[:, i].max()),
            }
            for i, (name, feature, knots, degree) in enumerate(
                zip(NAMES, FEATURES, fitted.splines.knots, fitted.splines.degrees, strict=True)
            )
        ],
        "coefficients": np.round(every, 4).tolist(),
        "intercepts": np.round(intercepts, 4).tolist(),
        "temperature": round(fitted.temperature, 4),
        "corpus": {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "rows": len(rows),
            "models": int(rows["model"].nunique()),
            "penalty": penalty,
        },
        "rounding": measured_rounding(corpus),
    }


def main() -> None:
    """Read, choose, fit, write, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--model", type=Path, default=FILE, help="where the model is written")
    parser.add_argument("--card", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    corpus = read(str(options.corpus))
    rows = judged_rows(corpus)
    learned = learned_from(rows)
    print(Counter(learned["truth"]), learned["model"].nunique(), "models", flush=True)
    names = sorted(learned["model"].unique())
    back = learned["model"].isin(names[::KEPT_BACK])
    penalty, losses = chosen_penalty(learned[~back].reset_index(drop=True))
    fitted = with_temperature(fit(learned[~back], penalty), learned[back])
    held = rows[rows["held_out"] | rows["recorded"]].reset_index(drop=True)
    boosted = ceiling(learned[~back])
    content = written(fitted, learned, corpus, options.corpus, penalty)
    options.model.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")
    text = card.text(
        corpus, learned, held, fitted.probabilities(matrix(held)), boosted_probabilities(boosted, matrix(held)),
        content, losses,
    )  # fmt: skip
    options.card.write_text(text)
    (options.card.with_suffix(".svg")).write_text(card.diagram(held, fitted.probabilities(matrix(held))))
    print(text)


if __name__ == "__main__":
    main()
