"""Which validation run a test run is tuned on."""

from shifamind_core.analysis.validation import require_validation
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.partner import VALIDATION_SPLITS, validation_partner
from shifamind_core.runs.run import Run
from shifamind_core.ui.widgets.pick_runs import load_run, runs_on_offer


def validation_of(run: Run) -> Run | None:
    """The validation run of the same configuration, if one was computed, recorded or uploaded.

    Raises
    ------
    ShifamindError
        It was removed or damaged meanwhile.
    """
    offers = [
        offer
        for offer in runs_on_offer(archived=True)
        if offer.split in VALIDATION_SPLITS and offer.labelled and offer.columns == run.logits.shape[1]
    ]
    return validation_partner(run, (load_run(offer) for offer in offers))


def may_tune(run: Run, validation: Run | None) -> bool:
    """Whether the threshold of `run` can be tuned on `validation`: labels, finite logits, and other notes than are scored.

    Where it cannot, the thresholds page says why.
    """
    if validation is None or run.labels is None or run.non_finite:
        return False
    try:
        require_validation(run, validation)
    except ShifamindError:
        return False
    return True
