"""Fit the cause model to the corpus: `python -m simulation.fit`.

L2-penalised multinomial logistic regression on splines of the features. Features and penalty are chosen by
cross-validation over models, the temperature on a further group of models, what a ladder tells on predictions for
models left out. Held-out families and everything recorded on a GPU take no part.
Writes `cause_model.json` into the product, and docs/cause-model.md.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut
from sklearn.preprocessing import SplineTransformer

from shifamind_core.diagnosis.classifier.cause_model import FILE, CauseModel
from shifamind_core.diagnosis.classifier.cause_model import read as load_model
from shifamind_core.diagnosis.evidence.features import FEATURES, NAMES
from shifamind_core.diagnosis.evidence.levels import LEVELS
from shifamind_core.diagnosis.evidence.prior import prior_log_odds
from shifamind_core.diagnosis.evidence.reach import Reach
from simulation import card, records
from simulation.judged import CAUSES, collapsed, judged_rows, matrix, read, score, weights

ROOT = Path(__file__).resolve().parents[1]
CORPUS = Path(__file__).with_name("corpus.parquet")
END_TO_END = Path(__file__).with_name("end_to_end.json")
DOCUMENT = ROOT / "docs" / "cause-model.md"
GPU_EVIDENCE = ROOT / "docs" / "gpu-evidence.json"
PENALTIES = (0.3, 1.0, 3.0)  # scikit-learn's C: the larger, the freer
KNOTS, DEGREE, FOLDS = 5, 2, 4
KEPT_BACK = 5  # every so many-th model gives the temperature
USELESS = 0.002  # log-loss that may be lost for fewer features
LEAST_FEATURES = 18
# Ends beyond which nothing else begins, so that nothing is unknown there: more notes or codes make the other features more
# exact, and notes more surely linked; what is smaller than the smallest rounding that was seen is rounding still.
OPEN_ENDS = {"notes": "high", "codes": "high", "link": "high", "size": "low"}
LADDER_KNOTS = (-2.0, -1.0, -0.5, 0.0, 0.15, 0.5, 1.0)  # log10 of a difference over what the ladder measured
LADDER_RIDGE = 1e-4  # keeps log-odds finite where no case lies


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
    """Features, their splines and the regression; the temperature divides what the regression says."""

    names: tuple[str, ...]
    splines: Splines
    regression: LogisticRegression
    temperature: float = 1.0

    def scores(self, rows: pd.DataFrame) -> np.ndarray:
        return self._scores(self.splines(matrix(rows, self.names)))

    def _scores(self, functions: np.ndarray) -> np.ndarray:
        found = self.regression.decision_function(functions) / self.temperature
        every = np.full((len(functions), len(CAUSES)), -1e3)
        every[:, [CAUSES.index(cause) for cause in self.regression.classes_]] = found
        return every

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        return softmax(self.scores(rows))

    def without(self, rows: pd.DataFrame, average: np.ndarray) -> Iterator[np.ndarray]:
        """Probabilities with each feature in turn replaced by what it is on average."""
        functions = self.splines(matrix(rows, self.names))
        ends = np.cumsum([part.n_features_out_ for part in self.splines.parts])
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            blind = functions.copy()
            blind[:, start:end] = average[start:end]
            yield softmax(self._scores(blind))


def softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def fit(rows: pd.DataFrame, penalty: float, names: Sequence[str] = NAMES) -> Fitted:
    """On all these rows."""
    splines = Splines.of(matrix(rows, names))
    regression = LogisticRegression(C=penalty, max_iter=500, tol=1e-3)
    regression.fit(splines(matrix(rows, names)), rows["truth"], sample_weight=weights(rows))
    return Fitted(tuple(names), splines, regression)


def left_out(rows: pd.DataFrame, penalty: float, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of models left out [rows, causes], and the log-loss that each feature saves [features]."""
    found = np.zeros((len(rows), len(CAUSES)))
    blind = np.zeros((len(names), len(rows), len(CAUSES)))
    for inside, outside in GroupKFold(FOLDS).split(rows, groups=rows["model"]):
        learned, asked = rows.iloc[inside], rows.iloc[outside]
        fitted = fit(learned, penalty, names)
        found[outside] = fitted.probabilities(asked)
        average = fitted.splines(matrix(learned, names)).mean(axis=0)
        for number, probabilities in enumerate(fitted.without(asked, average)):
            blind[number, outside] = probabilities
    return found, np.array([loss(rows, one) for one in blind]) - loss(rows, found)


def of_other_families(rows: pd.DataFrame, penalty: float, names: Sequence[str]) -> np.ndarray:
    """Scores [rows, causes], each from a fit to all families but the row's own."""
    scores = np.zeros((len(rows), len(CAUSES)))
    for inside, outside in LeaveOneGroupOut().split(rows, groups=rows["kind"]):
        scores[outside] = fit(rows.iloc[inside], penalty, names).scores(rows.iloc[outside])
    return scores


def chosen_features(rows: pd.DataFrame, penalty: float) -> tuple[tuple[str, ...], list[tuple[int, float]]]:
    """Backward elimination: the fewest features with which models left out lose nothing that counts.

    Step by step those go that save least, a few at once: many stand in for each other.
    """
    names = tuple(NAMES)
    tried: list[tuple[tuple[str, ...], float]] = []
    while len(names) >= LEAST_FEATURES:
        found, saved = left_out(rows, penalty, names)
        tried.append((names, loss(rows, found)))
        print(f"{len(names)} features: log-loss {tried[-1][1]:.4f}, {score(rows, found)}", flush=True)
        gone = np.argsort(saved)[: max(1, len(names) // 8)]
        names = tuple(name for i, name in enumerate(names) if i not in gone)
    least = min(lost for _, lost in tried)
    chosen = min((names for names, lost in tried if lost <= least + USELESS), key=len)
    return chosen, [(len(names), lost) for names, lost in tried]


def chosen_penalty(
    rows: pd.DataFrame, names: Sequence[str]
) -> tuple[float, dict[float, float], dict[float, np.ndarray]]:
    """The penalty whose probabilities lose least on models left out; losses and probabilities of all."""
    found = {penalty: left_out(rows, penalty, names)[0] for penalty in PENALTIES}
    losses = {penalty: loss(rows, probabilities) for penalty, probabilities in found.items()}
    return min(losses, key=lambda penalty: losses[penalty]), losses, found


def loss(rows: pd.DataFrame, probabilities: np.ndarray) -> float:
    where = [CAUSES.index(cause) for cause in rows["truth"]]
    own = np.clip(probabilities, 1e-9, 1)[np.arange(len(rows)), where]
    return float(np.average(-np.log(own), weights=weights(rows)))


def temperature_on(fitted: Fitted, rows: pd.DataFrame) -> float:
    """The temperature that suits models that the fit had not seen."""
    scores = fitted.scores(rows)
    found = minimize_scalar(
        lambda t: loss(rows, softmax(scores / np.exp(t))), bounds=(-1.5, 1.5), method="bounded"
    )
    return float(np.exp(found.x))


def learned_from(rows: pd.DataFrame) -> pd.DataFrame:
    """What takes part in the fit: no held-out family, no recording, nothing that other rounding drowns."""
    return rows[~rows["held_out"] & ~rows["recorded"] & ~rows["drowned"]].reset_index(drop=True)


def with_records(
    rows: pd.DataFrame, log_shares: np.ndarray, model: CauseModel
) -> tuple[pd.DataFrame, np.ndarray]:
    """Whole cases as they look with all that manifests and digests tell: rows, and probabilities [rows, causes].

    Parameters
    ----------
    log_shares : float [rows, causes], what logits and lengths give
    model : for how large rounding was at the levels that manifests vouch for
    """
    asked = ((rows["tokens_known"] == 1) & (rows["part"] == "whole")).to_numpy()
    rows, found = rows[asked].reset_index(drop=True), log_shares[asked].copy()
    right = []
    for number, row in enumerate(rows.to_dict("records")):
        evidence = records.evidence_of(row, str(number))
        odds = prior_log_odds(evidence, CAUSES)
        odds["numerics"] += Reach.of(evidence, model.sizes).vouched(10 ** row["size"])
        found[number] += [odds[cause] for cause in CAUSES]
        right.append(row["right"] | records.names({**row, "fields": records.fields_of(row)}))
    return rows.assign(right=right), softmax(found)


def ladder_cases(rows: pd.DataFrame, corpus: pd.DataFrame) -> pd.DataFrame:
    """Rows with `beyond`: log10 of the size over what a ladder on the same model says two runs can be apart.

    Once as if manifests vouched for the precision, and once as if they said nothing, so that every level is allowed.
    """
    plain = {"fp64": "fp32", "tf32": "tf32", "fp16 autocast": "fp16", "bf16 autocast": "bf16"}
    rungs = corpus[
        corpus["fault"].isin(list(plain)) & (corpus["part"] == "whole") & (corpus["cause"] == "numerics")
    ]
    sizes = rungs.assign(rung=rungs["fault"].map(plain)).pivot_table("size", "model", "rung")
    sizes = sizes.reindex(columns=list(LEVELS)).cummax(axis=1)
    level = rows["level"].where(
        rows["level"] != "", rows["nuisance"].where(rows["nuisance"].isin(LEVELS), "fp32")
    )
    stored = rows["fault"].str.contains("stored|by way of")
    parts = []
    for levels in (level, pd.Series("bf16", rows.index)):
        allowed = [sizes[one].get(model, np.nan) for one, model in zip(levels, rows["model"], strict=True)]
        parts.append(rows.assign(beyond=rows["size"] - np.array(allowed) - np.log10(2) / 2)[~stored])
    return pd.concat(parts, keys=("told", "open"), names=["manifests"]).dropna(subset="beyond")


def ladder_log_odds(cases: pd.DataFrame, log_odds: np.ndarray) -> np.ndarray:
    """What to add to the log-odds of `numerics` at each of `LADDER_KNOTS`, straight lines between them."""
    knots = np.array(LADDER_KNOTS)
    hats = np.stack([np.interp(cases["beyond"], knots, row) for row in np.eye(len(knots))], axis=1)
    truth = (cases["truth"] == "numerics").to_numpy()
    weight = weights(cases)

    def lost(added: np.ndarray) -> tuple[float, np.ndarray]:
        z = log_odds + hats @ added
        slope = weight * (expit(z) - truth) / len(z)
        value = np.average(np.logaddexp(0, z) - truth * z, weights=weight) + LADDER_RIDGE * (added**2).sum()
        return float(value), hats.T @ slope + 2 * LADDER_RIDGE * added

    return minimize(lost, np.zeros(len(knots)), jac=True, method="L-BFGS-B").x


def numerics_log_odds(probabilities: np.ndarray) -> np.ndarray:
    return logit(np.clip(probabilities[:, CAUSES.index("numerics")], 1e-9, 1 - 1e-9))


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
    """Sizes of rounding: emulated on the models of the fit, and those in docs/gpu-evidence.json."""
    own = corpus[
        (corpus["cause"] == "numerics") & (corpus["part"] == "whole") & ~corpus["held_out"] & ~corpus["recorded"]
        & ~corpus["model"].isin(collapsed(corpus))
        & ~corpus["fault"].str.contains(" against | stored | by way ")
    ]  # fmt: skip
    found = [
        {
            "model": row["model"],
            "level": row["level"],
            "size": float(f"{10 ** row['size']:.3g}"),
            "source": f"fleet, {row['fault']}" + ", emulated" * (row["level"] != "fp32"),
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
    fitted: Fitted,
    rows: pd.DataFrame,
    corpus: pd.DataFrame,
    path: Path,
    penalty: float,
    ladder: Sequence[float] = (0.0,) * len(LADDER_KNOTS),
) -> dict[str, Any]:
    """What `cause_model.json` holds."""
    values = matrix(rows, fitted.names)
    every = np.zeros((len(CAUSES), fitted.regression.coef_.shape[1]))
    intercepts = np.full(len(CAUSES), -30.0)  # a cause that was never planted
    where = [CAUSES.index(cause) for cause in fitted.regression.classes_]
    every[where], intercepts[where] = fitted.regression.coef_, fitted.regression.intercept_
    known = {feature.name: feature for feature in FEATURES}
    return {
        "causes": list(CAUSES),
        "bases": [
            {
                "name": name,
                "meaning": known[name].meaning,
                "knots": [float(f"{knot:.6g}") for knot in knots],
                "degree": degree,
                "low": float(values[:, i].min() if OPEN_ENDS.get(name) != "low" else known[name].low),
                "high": float(values[:, i].max() if OPEN_ENDS.get(name) != "high" else known[name].high),
            }
            for i, (name, knots, degree) in enumerate(
                zip(fitted.names, fitted.splines.knots, fitted.splines.degrees, strict=True)
            )
        ],
        "coefficients": np.round(every, 4).tolist(),
        "intercepts": np.round(intercepts, 4).tolist(),
        "temperature": round(fitted.temperature, 4),
        "ladder": {"beyond": list(LADDER_KNOTS), "log_odds": np.round(ladder, 3).tolist()},
        "corpus": {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "rows": len(rows),
            "models": sorted(rows["model"].unique()),
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
    parser.add_argument("--features", nargs="*", help="do not choose them, take these")
    options = parser.parse_args()
    corpus = read(str(options.corpus))
    rows = judged_rows(corpus)
    learned = learned_from(rows)
    print(Counter(learned["truth"]), learned["model"].nunique(), "models", flush=True)
    every = sorted(learned["model"].unique())
    back = learned["model"].isin(every[::KEPT_BACK])
    choosing = learned[~back].reset_index(drop=True)
    names, steps = (
        (tuple(options.features), [])
        if options.features
        else chosen_features(choosing, PENALTIES[len(PENALTIES) // 2])
    )
    penalty, losses, found = chosen_penalty(choosing, names)
    temperature = temperature_on(fit(choosing, penalty, names), learned[back])
    fitted = replace(fit(learned, penalty, names), temperature=temperature)
    cases = ladder_cases(choosing, corpus)
    scores = np.log(np.clip(found[penalty], 1e-12, 1)) / temperature
    log_odds = numerics_log_odds(softmax(scores))[cases.index.get_level_values(1)]
    ladder = ladder_log_odds(cases, log_odds)
    content = written(fitted, learned, corpus, options.corpus, penalty, ladder)
    options.model.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")
    held = rows[rows["held_out"] | rows["recorded"]].reset_index(drop=True)
    probabilities = fitted.probabilities(held)
    chosen = {"features": steps, "penalty": list(losses.items())}
    end_to_end = json.loads(END_TO_END.read_text()) if END_TO_END.exists() else None
    others = of_other_families(learned, penalty, names) / temperature
    told = with_records(learned, others, load_model(options.model))
    boosted = boosted_probabilities(ceiling(learned), matrix(held))
    text = card.text(
        corpus, learned, held, probabilities, softmax(others), told, boosted, content, chosen, end_to_end
    )
    options.card.write_text(text)
    (options.card.with_suffix(".svg")).write_text(card.diagram(held, probabilities))
    print(text)


if __name__ == "__main__":
    main()
