import numpy as np
from hypothesis import given, settings
from sklearn.metrics import precision_recall_curve

from shifamind_core.analysis import ceiling as module
from shifamind_core.analysis.ceiling import ceiling, ceiling_of
from shifamind_core.runs.run import Run
from tests.support import oracles, strategies
from tests.support.refused import refused


def by_brute_force(scores, labels, average):
    """(highest F1, lowest threshold that gives it, next higher score) by trying 0 and every score."""
    thresholds = np.unique(np.append(scores, np.float32(0)))
    f1 = np.array([oracles.sklearn_f1(labels, scores > t, average) for t in thresholds])
    best = int(np.argmax(f1))  # the first: the lowest
    return f1[best], thresholds[best], np.append(thresholds, np.inf)[best + 1]


@settings(max_examples=40)
@given(strategies.scored())
def test_the_ceiling_is_scikit_learns_best_over_all_thresholds_ties_included(case):
    scores, labels = case
    found = ceiling_of(scores, labels)
    assert found.distinct == len(np.unique(np.append(scores, np.float32(0))))
    for one, average in ((found.macro_f1, "macro"), (found.micro_f1, "micro")):
        assert (one.f1, one.threshold, one.below) == by_brute_force(scores, labels, average)
    for column in range(labels.shape[1]):
        code = slice(column, column + 1)
        best = by_brute_force(scores[:, code], labels[:, code], "macro")
        assert (found.code_f1[column], found.code_thresholds[column]) == best[:2]


def test_every_code_of_a_run_reaches_what_the_best_point_of_scikit_learns_curve_does():
    generator = np.random.default_rng(0)
    labels = (generator.random((900, 6)) < 0.2).astype(np.uint8)
    logits = (generator.normal(-2, 1.5, labels.shape) + labels).astype(np.float32)
    found = ceiling(Run(logits, labels=labels))
    for column in range(6):
        precision, recall, _ = precision_recall_curve(labels[:, column], logits[:, column])
        with np.errstate(invalid="ignore"):
            best = np.nanmax(2 * precision * recall / (precision + recall))
        assert abs(found.code_f1[column] - best) < 1e-15
    assert found.macro_f1_own_thresholds >= found.macro_f1.f1


def test_a_run_without_a_right_code_is_at_zero_wherever_its_threshold_is():
    found = ceiling(Run(np.array([[-1.0, 2.0]]), labels=np.zeros((1, 2), np.uint8)))
    assert (found.macro_f1.f1, found.macro_f1.threshold) == (0, 0)
    assert (found.micro_f1.f1, found.micro_f1.threshold) == (0, 0)


def test_a_run_too_large_to_sort_is_refused(monkeypatch):
    monkeypatch.setattr(module, "MOST_CELLS", 1)
    with refused("2 scores", "at most 1"):
        ceiling(Run(np.array([[-1.0, 2.0]]), labels=np.zeros((1, 2), np.uint8)))
