"""Slow and obvious versions of what the core does fast: loops, scikit-learn, brute force."""

import itertools

import numpy as np
from sklearn.metrics import f1_score


def seed_tune_threshold(probs_val, y_val):
    """The seed's own `tune_threshold`, word for word (it returns the best F1 too)."""
    best_threshold = 0.5
    best_f1 = 0
    for threshold in np.arange(0.1, 0.9, 0.01):
        preds = (probs_val > threshold).astype(int)
        f1 = f1_score(y_val, preds, average="micro", zero_division=0)
        if f1 > best_f1:
            best_f1 = f1
            best_threshold = threshold
    return best_threshold, best_f1


def sklearn_f1(labels, predicted, average):
    """`f1_score` with `zero_division=0`; one column is given as two, the second empty, and taken off again.

    scikit-learn reads a single column as a binary problem, not as one label.
    """
    predicted = np.asarray(predicted, int)
    if labels.shape[1] == 1:
        labels, predicted = (np.hstack([x, np.zeros_like(x)]) for x in (labels, predicted))
        values = f1_score(labels, predicted, average=None, zero_division=0)[:1]
        return values if average is None else values[0]
    return f1_score(labels, predicted, average=average, zero_division=0)


def counts(scores, labels, threshold):
    """True positives, predicted positives and support of each code, by the definition."""
    predicted = scores > threshold
    return (predicted & (labels == 1)).sum(axis=0), predicted.sum(axis=0), (labels == 1).sum(axis=0)


def top_k_decisions(scores, k):
    """The public scripts' loop over notes, with a stable sort so that ties are defined."""
    predicted = np.zeros(scores.shape, bool)
    for note, row in enumerate(scores):
        if k:
            predicted[note, np.argsort(row, kind="stable")[-k:]] = True
    return predicted


def f1_of_decisions(labels, predicted):
    """(macro F1 over all codes, micro F1, F1 per code) with 0/0 = 0, in plain Python."""

    def ratio(a, b):
        return a / b if b else 0.0

    rows = [
        (int((p & (y == 1)).sum()), int(p.sum()), int(y.sum()))
        for p, y in zip(predicted.T, labels.T, strict=True)
    ]
    per_code = [ratio(2 * tp, pp + positives) for tp, pp, positives in rows]
    tp, pp, positives = (sum(column) for column in zip(*rows, strict=True))
    return float(np.mean(per_code)), ratio(2 * tp, pp + positives), per_code


def every_flip(decided, free):
    """All decision matrices that differ from `decided` only where `free`."""
    cells = np.argwhere(free)
    for choice in itertools.product((False, True), repeat=len(cells)):
        flipped = decided.copy()
        for (note, code), flip in zip(cells, choice, strict=True):
            if flip:
                flipped[note, code] = not flipped[note, code]
        yield flipped


def tuned_choice(grid, decided, labels):
    """Index the seed's loop would choose in `grid` from decisions [thresholds, notes, codes]; None for its 0.5."""
    best, chosen = 0, None
    for index in range(len(grid)):
        _, micro, _ = f1_of_decisions(labels, decided[index])
        if micro > best:
            best, chosen = micro, index
    return chosen


def possible_choices(logits, labels, grid, epsilon):
    """All choices of `tuned_choice` under any perturbation of at most ε > 0, by trying every one.

    `grid` ascends. What matters of a perturbed logit is how many thresholds lie below it.
    """
    centers = np.log(grid) - np.log1p(-grid)
    lowest = (centers < logits[..., None] - epsilon).sum(axis=-1)
    highest = (centers <= logits[..., None] + epsilon).sum(axis=-1)
    options = [range(a, b + 1) for a, b in zip(lowest.ravel(), highest.ravel(), strict=True)]
    choices = set()
    for passed in itertools.product(*options):
        below = np.reshape(passed, logits.shape)
        decided = np.stack([below > index for index in range(len(grid))])
        choices.add(tuned_choice(grid, decided, labels))
    return choices
