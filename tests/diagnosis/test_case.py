"""What follows from the reported scores alone."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from shifamind_core.diagnosis.case import what_follows
from shifamind_core.diagnosis.claims import SEED_CLAIMS


def test_every_number_of_the_table_that_is_named_is_the_tables() -> None:
    said = " ".join(f"{one.title} {one.reason}" for one in what_follows())
    for number in ("0.5363", "0.4747", "0.0616", "0.0010", "0.0257", "0.2934", "0.19", "0.22"):
        assert number in said


def test_other_scores_are_other_statements() -> None:
    claims = {name: dict(scores) for name, scores in SEED_CLAIMS.items()}
    claims["A100"]["validation_micro_f1"] = 0.5
    assert "fell from 0.5363 to 0.5000 (by 0.0363)" in what_follows(claims)[0].reason


def test_nothing_that_was_not_measured_is_said_to_follow() -> None:
    shown = {one.title: one.shown for one in what_follows()}
    assert shown["Rounding is unlikely."] == "likely"
    assert shown["None of this is proven for the case itself."] == "open"
    assert list(shown.values()).count("follows") == 2


@pytest.mark.parametrize("machine", ["A100", "L4"])
def test_a_monotone_map_cannot_give_the_lost_micro_f1(machine: str) -> None:
    """The argument itself, on made-up scores: the best micro F1 over thresholds is the same under any increasing map."""
    random = np.random.default_rng(3)
    labels = (random.random((400, 6)) < 0.2).astype(np.uint8)
    logits = labels * 2 - 2 + random.normal(0, 1.5, labels.shape)

    def best(scores: np.ndarray) -> float:
        """At every threshold that tells two scores apart."""
        return max(f1_score(labels, scores > one, average="micro") for one in np.unique(scores)[:-1:7])

    assert best(logits) == pytest.approx(best(0.4 * logits - 1.3), abs=1e-12)
    assert SEED_CLAIMS["H100"]["validation_micro_f1"] - SEED_CLAIMS[machine]["validation_micro_f1"] > 0.05
