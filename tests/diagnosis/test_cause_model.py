"""The cause model: splines as scikit-learn has them, a softmax that adds up, priors as log-odds."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import SplineTransformer

from shifamind_core.diagnosis.classifier.cause_model import FILE, Basis, CauseModel, load, read
from shifamind_core.diagnosis.evidence.features import FEATURES, NAMES
from simulation import fit, fleet
from simulation.corpus import DESCRIPTION
from simulation.judged import CAUSES, collapsed, judged_rows


@given(
    st.lists(st.floats(-5, 5).map(lambda x: round(x, 2)), min_size=2, max_size=6, unique=True),
    st.integers(1, 3),
    st.integers(0, 1000),
)
def test_splines_are_those_of_scikit_learn(knots: list[float], degree: int, seed: int) -> None:
    ordered = np.sort(np.array(knots))
    x = np.concatenate([np.random.default_rng(seed).normal(0, 5, 60), ordered])
    theirs = SplineTransformer(
        knots=ordered[:, None], degree=degree, extrapolation="constant", include_bias=False
    ).fit(x[:, None])
    ours = Basis("size", ordered, degree, -1, 1)
    np.testing.assert_allclose(ours.values(x), theirs.transform(x[:, None]), atol=1e-12)


def corpus(seed: int = 0, models: int = 12, cases: int = 30) -> pd.DataFrame:
    """A corpus in which the size tells rounding from dropout from other weights."""
    rng = np.random.default_rng(seed)
    rows = []
    for model in range(models):
        for cause, size, lawful in (
            ("numerics", -3, 0),
            ("dropout_active", -1, 0),
            ("weights_changed", -1, 2),
        ):
            for case in range(cases):
                features = dict.fromkeys(NAMES, 0.0) | {"tokens_known": 1.0}
                features |= {"size": size + rng.normal(0, 0.3), "lawful": lawful + rng.normal(0, 0.3)}
                rows.append(
                    {
                        "model": f"m{model}", "family": "a", "held_out": model == 0, "recorded": False,
                        "architecture": "bert", "fault": f"case {case}", "strength": 0.0, "cause": cause, "alone": cause,
                        "twins": "", "level": "bf16" if cause == "numerics" else "", "nuisance": "",
                        "floor": -9.0, "loudest": float(size), "part": "whole", "changed": 1.0,
                        **features,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[fit.Fitted, CauseModel, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("model")
    table = corpus()
    rows = fit.learned_from(judged_rows(table))
    found = replace(fit.fit(rows, 1.0), temperature=1.3)
    path = folder / "corpus.csv"
    table.to_csv(path)
    (folder / "model.json").write_text(json.dumps(fit.written(found, rows, table, path, 1.0)))
    return found, read(folder / "model.json"), rows


def test_the_product_gives_the_probabilities_of_the_fit(
    fitted: tuple[fit.Fitted, CauseModel, pd.DataFrame],
) -> None:
    theirs, ours, rows = fitted
    expected = theirs.probabilities(rows.head(50))
    for row, shares in zip(rows.head(50).to_dict("records"), expected, strict=True):
        found = ours.judge({name: row[name] for name in NAMES}).probabilities
        np.testing.assert_allclose([found[cause] for cause in CAUSES], shares, atol=2e-3)


def test_a_cause_that_was_planted_is_found_in_a_model_that_was_not_seen(
    fitted: tuple[fit.Fitted, CauseModel, pd.DataFrame],
) -> None:
    _, model, _ = fitted
    unseen = corpus(seed=5, models=1)
    named = [model.judge({name: row[name] for name in NAMES}).cause for row in unseen.to_dict("records")]
    assert np.mean(np.array(named) == unseen["cause"]) > 0.95


@given(st.floats(-3, 3), st.sampled_from(CAUSES))
def test_a_prior_adds_to_the_log_odds(amount: float, cause: str) -> None:
    model = load()
    features = {basis.name: (basis.low + basis.high) / 2 for basis in model.bases}
    before, after = model.judge(features).probabilities, model.judge(features, {cause: amount}).probabilities
    odds = [np.log(shares[cause]) - np.log1p(-shares[cause]) for shares in (before, after)]
    assert odds[1] - odds[0] == pytest.approx(amount, abs=1e-4)
    assert sum(after.values()) == pytest.approx(1)


def test_features_beyond_what_the_fit_saw_are_named() -> None:
    model = load()
    features = {basis.name: (basis.low + basis.high) / 2 for basis in model.bases}
    assert model.judge(features).outside == ()
    above = {basis.name: basis.high + 1e-6 for basis in model.bases}
    assert model.judge(above).outside == model.names


def test_the_shipped_model_reads_known_features_and_knows_every_cause() -> None:
    model = load()
    assert set(model.names) <= set(NAMES) and len(set(model.names)) == len(model.names)
    assert model.causes == CAUSES
    assert model.coefficients.shape == (len(CAUSES), sum(len(b.knots) + b.degree - 2 for b in model.bases))


@given(st.floats(-4, 3), st.floats(-4, 3))
def test_the_farther_beyond_its_ladder_the_less_a_difference_is_rounding(one: float, other: float) -> None:
    model = load()
    inside, beyond = model.beyond_ladder(min(one, 0.0)), model.beyond_ladder(max(other, 0.3))
    assert beyond < 0 < inside - beyond


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    return pd.read_parquet(fit.CORPUS)


def test_the_committed_corpus_holds_what_the_fit_reads(committed: pd.DataFrame) -> None:
    assert set(DESCRIPTION) <= set(committed.columns) and set(NAMES) <= set(committed.columns)
    assert np.isfinite(committed[list(NAMES)].to_numpy(float)).all()
    for feature in FEATURES:
        assert committed[feature.name].between(feature.low - 1e-6, feature.high + 1e-6).all(), feature.name
    assert set(committed["cause"]) <= set(CAUSES)
    assert fit.CORPUS.stat().st_size < 5e6


def test_the_shipped_model_was_fitted_to_the_committed_corpus_without_what_is_held_out(
    committed: pd.DataFrame,
) -> None:
    content = json.loads(FILE.read_text())
    assert content["corpus"]["sha256"] == hashlib.sha256(fit.CORPUS.read_bytes()).hexdigest()
    held = set(committed[committed["held_out"]]["model"])
    assert held and not held & set(content["corpus"]["models"])
    assert not set(collapsed(committed)) & set(content["corpus"]["models"])
    assert not fit.learned_from(judged_rows(committed))[["held_out", "recorded"]].any(axis=None)


def test_causes_are_found_in_models_that_the_fit_never_saw(committed: pd.DataFrame) -> None:
    rows = judged_rows(committed[committed["held_out"]])
    rows = rows[(rows["part"] == "whole") & ~rows["smaller"] & ~rows["drowned"]].iloc[::3]
    model = load()
    named = [model.judge({name: row[name] for name in model.names}).cause for row in rows.to_dict("records")]
    right = [name in good for name, good in zip(named, rows["right"], strict=True)]
    assert np.mean(right) > 0.7  # far from chance, one in twelve; docs/cause-model.md has the share


def test_the_temperature_makes_probabilities_of_other_models_honest(
    fitted: tuple[fit.Fitted, CauseModel, pd.DataFrame],
) -> None:
    sure = replace(fitted[0], temperature=1.0)
    unseen = fit.learned_from(judged_rows(corpus(seed=7)))
    unseen.loc[::5, "truth"] = "weights_changed"  # a fifth is hard to know: certainty would be dishonest
    scores = sure.scores(unseen)
    chosen = fit.temperature_on(sure, unseen)
    lost = {t: fit.loss(unseen, fit.softmax(scores / t)) for t in (chosen / 1.5, chosen, chosen * 1.5)}
    assert min(lost, key=lambda t: lost[t]) == chosen


def test_sizes_of_rounding_are_counted_by_model() -> None:
    model = load()
    sizes = model.sizes(["bf16"])
    assert len(sizes) > 10 and min(sizes) > 0
    assert len(model.sizes(["fp32", "bf16"])) >= len(sizes) and max(model.sizes(["fp32"])) < max(sizes)


def test_what_rounding_drowns_takes_no_part_in_the_fit_and_may_be_called_rounding() -> None:
    table = corpus()
    drowned = table["cause"] == "dropout_active"
    table.loc[drowned, ["nuisance", "floor", "loudest"]] = ["bf16", -1.0, -0.9]
    rows = judged_rows(table)
    learned = fit.learned_from(rows)
    assert set(learned["truth"]) == {"numerics", "weights_changed"}
    assert not learned["held_out"].any()
    assert all("numerics" in right for right in rows[rows["drowned"]]["right"])


def test_a_model_that_tells_no_notes_apart_takes_no_part() -> None:
    table = corpus()
    table.loc[(table["model"] == "m3") & (table["cause"] == "numerics"), ["fault", "size"]] = [
        "bf16 autocast",
        0.2,
    ]
    assert collapsed(table) == ["m3"]
    assert "m3" not in set(judged_rows(table)["model"])


def test_gpu_evidence_gives_sizes_with_their_source() -> None:
    found = fit.evidence_rounding()
    assert {item["level"] for item in found} == {"fp32", "tf32", "fp16", "bf16"}
    assert max(item["size"] for item in found if item["level"] == "fp32") > 1e-6
    assert all(Path(item["source"].split(",")[0]).exists() for item in found)


def test_what_runs_record_tells_other_weights_from_dropout_where_logits_say_nothing() -> None:
    rows = judged_rows(corpus(models=2, cases=4))
    told, found = fit.with_records(rows, np.zeros((len(rows), len(CAUSES))), load())
    odds = np.log(found[:, CAUSES.index("weights_changed")] / found[:, CAUSES.index("dropout_active")])
    other = (told["truth"] == "weights_changed").to_numpy()
    assert other.any() and odds[other].min() > 3 and odds[~other].max() < 0.1


def test_models_of_the_fleet_learn_when_training_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded copies of the weights must not outlive a step, as they do where autocast is entered around all of them."""
    monkeypatch.setattr(fleet, "trained_in_bf16", lambda device: torch.autocast(device.type, torch.bfloat16))
    plan = fleet.Plan(
        "learner", "test", "bert", hidden=32, layers=1, heads=2, max_length=16, vocabulary=60, codes=3, notes=200,
        prevalence=0.4, steps=120, studied=600, rate=3e-3,
    )  # fmt: skip
    subject = fleet.make(plan, torch.device("cpu"))
    logits = fleet.forward(subject)
    assert roc_auc_score(subject.sample.labels, logits, average="macro") > 0.75
