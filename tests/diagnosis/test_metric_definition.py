"""Which definition of F1 gives reported values: found to the last digit, and not believed where an accident would do."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from shifamind_core.analysis.metric_definitions import definitions, digits_of, match, tuned_on_itself
from shifamind_core.analysis.thresholds import run_counts, score, threshold_curve, tune
from shifamind_core.arrays import probabilities
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.exact.metric_definition import metric_definition
from shifamind_core.diagnosis.exact.non_finite import start
from shifamind_core.diagnosis.findings import Finding
from simulation import planted

RUN = planted.synthetic_run(2000, seed=4)
NAMES = ("macro_f1@0.5", "micro_f1@0.5")
DEFINED = {one.name: one for one in definitions(RUN.logits, RUN.labels, NAMES)}


def found(reported: dict[str, float], run=RUN) -> list[Finding]:
    return list(metric_definition(start(Evidence.of(run, run, reported=reported))).findings)


@pytest.mark.parametrize("average", ["macro", "weighted", "samples"])
def test_averages_are_scikit_learns(average: str) -> None:
    chosen = probabilities(RUN.logits) > 0.5
    name = {"macro": "usual"}.get(average, average)
    assert DEFINED[name].values["macro_f1@0.5"] == pytest.approx(
        f1_score(RUN.labels, chosen, average=average, zero_division=0), abs=1e-12
    )


def test_rules_are_what_their_names_say() -> None:
    for name, chosen in (
        ("on_logits", RUN.logits > 0.5),
        ("at_least", probabilities(RUN.logits) >= 0.5),
        ("top_3", np.argsort(np.argsort(-RUN.logits, axis=1), axis=1) < 3),
        ("threshold_0.3", probabilities(RUN.logits) > 0.3),
    ):
        assert DEFINED[name].values["micro_f1@0.5"] == f1_score(RUN.labels, chosen, average="micro")


@pytest.mark.parametrize(
    "name",
    ["f1_of_means", "weighted", "samples", "swapped", "on_logits", "double_sigmoid", "on_logits.f1_of_means", "top_5",
     "threshold_0.3", "tuned_on_scored.per_code", "mean_over_batches_of_16"],
)  # fmt: skip
def test_a_definition_that_gives_both_scores_is_confirmed(name: str) -> None:
    reported = {score: round(value, 4) for score, value in DEFINED[name].values.items()}
    (finding,) = found(reported)
    assert (finding.status, finding.evidence["definition"]) == ("confirmed", name)
    assert 0 < finding.evidence["accident"] <= 0.01 and "definitions were tried" in finding.numbers


def test_the_usual_definition_is_no_finding() -> None:
    assert found({score: round(value, 4) for score, value in DEFINED["usual"].values.items()}) == []
    assert found({}) == [] and found({"macro_f1@0.5": 0.3}, replace(RUN, labels=None)) == []


def test_one_score_among_many_definitions_is_not_confirmed() -> None:
    (finding,) = found({"micro_f1@0.5": round(DEFINED["threshold_0.37"].values["micro_f1@0.5"], 4)})
    assert finding.status in ("likely", "possible") and finding.evidence["accident"] > 0.01


def test_both_scores_must_agree() -> None:
    means = DEFINED["f1_of_means"].values
    (finding,) = found({NAMES[0]: round(means[NAMES[0]], 4), NAMES[1]: round(means[NAMES[1]], 4) + 0.01})
    assert finding.status == "possible" and finding.evidence["definition"] is None


def test_of_few_notes_no_definition_is_shown() -> None:
    few = planted.synthetic_run(20, 4, seed=9)
    tried = list(definitions(few.logits, few.labels, NAMES[:1]))
    assert not any(
        match(few.logits, few.labels, {NAMES[0]: round(one.values[NAMES[0]], 4)}).shown for one in tried[1:40]
    )


def test_accidents_are_as_frequent_as_they_are_said_to_be() -> None:
    """Values drawn from the range that the definitions span: how often one of all definitions gives them."""
    low, high = (f(one.values[NAMES[1]] for one in DEFINED.values()) for f in (min, max))
    rng = np.random.default_rng(0)
    drawn = [round(value, 4) for value in rng.uniform(low, high, 20000)]
    given = {round(one.values[NAMES[1]], 4) for one in DEFINED.values()}
    seen = np.mean([value in given for value in drawn])
    said = match(RUN.logits, RUN.labels, {NAMES[1]: next(v for v in drawn if v not in given)}).accident
    assert seen == pytest.approx(said, rel=0.15)


def test_a_threshold_tuned_on_the_scored_notes_is_told_by_its_validation_score() -> None:
    tuned = tune(threshold_curve(RUN))  # `evaluate` refuses to
    scored = score(run_counts(RUN, np.array([tuned.threshold])))
    reported = {
        "best_threshold": round(tuned.threshold, 2),
        "validation_micro_f1": round(tuned.micro_f1, 4),
        "tuned_macro_f1": round(scored.macro_f1, 4),
        "tuned_micro_f1": round(scored.micro_f1, 4),
    }
    (finding,) = found(reported)
    assert finding.status == "confirmed" and finding.evidence["definition"] == "tuned_on_scored.micro"
    honest = {name: value for name, value in reported.items() if name != "validation_micro_f1"}
    assert tuned_on_itself(RUN.logits, RUN.labels, honest) is None


def test_digits_are_those_of_the_longest_value() -> None:
    assert (digits_of([0.5]), digits_of([0.29, 0.421]), digits_of([0.2934, 0.42])) == (2, 3, 4)


def test_every_definition_has_a_name_of_its_own() -> None:
    names = Counter(one.name for one in definitions(RUN.logits, RUN.labels, NAMES))
    assert max(names.values()) == 1 and len(names) > 400
