"""The gap in a few numbers: what the overview opens with."""

from dataclasses import dataclass

from shifamind_core.analysis.comparison import Pair, RunComparison
from shifamind_core.analysis.thresholds import FIXED_THRESHOLD, Evaluation
from shifamind_core.runs.run import Run
from shifamind_core.ui.session import cached
from shifamind_core.ui.widgets.validation import may_tune, validation_of


@dataclass(frozen=True, eq=False)
class Headline:
    """Two runs on the notes and codes they share: at 0.5, and at the threshold each run's own validation run tunes.

    A tuned score is `None` for a run without labels, without a validation run, or with logits that are not finite.
    """

    comparison: RunComparison
    thresholds: Pair
    tuned_macro_f1: Pair
    tuned_micro_f1: Pair


def headline_of(candidate: Run, reference: Run) -> Headline:
    """Compare the runs and tune each on its own validation run, where there is one.

    Raises
    ------
    ShifamindError
        Two runs that have nothing in common.
    """
    comparison = cached.comparison(candidate, reference, FIXED_THRESHOLD)
    tuned = [_tuned(run) for run in (comparison.aligned.candidate, comparison.aligned.reference)]
    scores = [one.tuned if one else None for one in tuned]
    return Headline(
        comparison=comparison,
        thresholds=Pair(
            *(one.tuned_threshold.threshold if one and one.tuned_threshold else None for one in tuned)
        ),
        tuned_macro_f1=Pair(*(score.macro_f1 if score else None for score in scores)),
        tuned_micro_f1=Pair(*(score.micro_f1 if score else None for score in scores)),
    )


def _tuned(run: Run) -> Evaluation | None:
    validation = validation_of(run)
    if not may_tune(run, validation):
        return None
    return cached.evaluation(run, validation, "seed")
