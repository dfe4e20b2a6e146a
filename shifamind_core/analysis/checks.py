"""What the analysis demands of a run before it counts anything, each refusal in one clear line."""

import numpy as np

from shifamind_core.arrays import Labels
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run


def required_labels(run: Run) -> Labels:
    """The run's labels, all 0 or 1.

    Raises
    ------
    ShifamindError
        The run has no labels.
    """
    if run.labels is None:
        raise ShifamindError(
            f"{run.name} has no labels, so nothing can be scored. Upload a run file with `labels`, or compare "
            "it with a run that has them."
        )
    return run.labels


def refuse_non_finite(run: Run) -> None:
    """Refuse NaN and infinite logits: a score over them would hide them.

    Raises
    ------
    ShifamindError
        How many there are, and where the first one is.
    """
    if run.non_finite:
        note, column = np.argwhere(~np.isfinite(run.logits))[0]
        raise ShifamindError(
            f"{run.name}: {run.non_finite:,} of {run.logits.size:,} logits are not finite, first at note "
            f"{note}, code {code_names(run)[column]} ({run.logits[note, column]}). They are never scored "
            "silently; run it again in FP32, or compare the run to see which codes are affected."
        )


def over_codes(codes: int, codes_of: int) -> str:
    """What a macro mean is over, in words.

    >>> over_codes(22, 26), over_codes(50, 50)
    ('22 of 26 codes', 'all 50 codes')
    """
    return f"all {codes:,} codes" if codes == codes_of else f"{codes:,} of {codes_of:,} codes"


def code_names(run: Run) -> tuple[str, ...]:
    """The run's code names, or `column 0`, `column 1`, … where it has none."""
    return run.codes or tuple(f"column {column}" for column in range(run.logits.shape[1]))
