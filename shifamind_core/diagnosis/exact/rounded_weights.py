"""Two checkpoints whose weights are the same once rounded to half precision: one is the other, saved in half."""

from typing import Literal

import numpy as np

from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import confirmed, ruled_out

DIGESTS: tuple[tuple[Literal["fp16", "bf16"], str], ...] = (
    ("fp16", "weights_digest_fp16"),
    ("bf16", "weights_digest_bf16"),
)


def rounded_weights(examination: Examination) -> Examination:
    """Confirm from both manifests' digests that the weights agree up to rounding: `numerics`, as replay calls the pair.

    Expects rows and columns in place. Leaves the scores as they are: digests show that rounding of the weights is at work,
    not that nothing else is. Its share is that of the notes whose token ids are known to be equal. Another checkpoint is
    ruled out.
    """
    records = [run.manifest.checkpoint for run in examination.evidence.whole]
    if records[0] is None or records[1] is None or examination.explained:
        return examination
    own, other = records[0].weights_digest, records[1].weights_digest
    if own is None or other is None or own == other:
        return examination
    for level, field in DIGESTS:
        digests = [getattr(record, field) for record in records]
        if digests[0] is not None and digests[0] == digests[1]:
            told = (
                f"Rounded to {level.upper()}, the weights of both checkpoints are the same (equal digests)."
            )
            return examination.noted(
                confirmed(
                    "numerics",
                    told,
                    share_of_same_tokens(examination),
                    meaning=f"One checkpoint is the other, saved in {level.upper()}: the difference is rounding of the weights.",
                    action="Nothing to mend: this is rounding. Use the checkpoint that was saved in FP32 where runs are compared.",
                    evidence={"level": level, "weights_rounded": True, field: digests[0]},
                ),
                ruled_out("other_checkpoint", told, level=level),
            )
    return examination


def share_of_same_tokens(examination: Examination) -> float:
    """Share of the squared difference that lies in notes with equal token ids; 0 where that is not known."""
    same, squares = examination.evidence.tokens.same, examination.logits.squares
    if same is None or len(same) != len(squares):
        return 0.0
    return float(np.sum(squares[same]) / max(float(squares.sum()), 1e-300)) * examination.left
