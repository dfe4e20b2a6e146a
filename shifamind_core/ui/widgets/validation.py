"""Which validation run a test run is tuned on."""

from shifamind_core.runs.cache import VALIDATION_SPLITS, validation_partner
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
        for offer in runs_on_offer()
        if offer.split in VALIDATION_SPLITS and offer.labelled and offer.columns == run.logits.shape[1]
    ]
    return validation_partner(run, (load_run(offer) for offer in offers))
