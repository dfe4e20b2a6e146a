"""One line to send to a colleague: equal fingerprints, equal logits in every bit."""

import hashlib
import json

import numpy as np

from shifamind_core.runs.run import Run

FORMAT = "shifamind-fingerprint/1"


def is_bitwise(run: Run) -> bool:
    """Whether the run's manifest says that it was computed under `bitwise`, and its logits are FP32 as it leaves them."""
    policy = run.manifest.policy
    return policy is not None and bool(policy.bitwise) and run.logits.dtype == np.float32


def fingerprint(run: Run) -> str | None:
    """SHA-256 of the codes, the document ids and the logits, in the order of the ids; 64 hexadecimal digits.

    The order of the notes decides nothing: notes of one id are put in the order of their logits' bytes. `None` where equal
    bits are not to be expected: another policy than `bitwise`, or a run without codes or ids.
    """
    if not is_bitwise(run) or run.codes is None or run.document_ids is None:
        return None
    logits, ids = run.logits.astype("<f4"), run.document_ids.astype("<i8")
    order = sorted(range(run.documents), key=lambda row: (ids[row], logits[row].tobytes()))
    content = hashlib.sha256(json.dumps([FORMAT, list(run.codes), list(logits.shape)]).encode())
    content.update(ids[order].tobytes())
    content.update(logits[order].tobytes())
    return content.hexdigest()


def bitwise_verdict(candidate: Run, reference: Run) -> str | None:
    """What two runs under `bitwise` say of their GPUs, in a sentence or two; `None` unless both manifests name that policy.

    Equal or not, no GPU made a difference: where no machine can change a bit, unequal bits have another cause.

    Raises
    ------
    ValueError
        The runs are not aligned (`analysis.alignment` does that).
    """
    if not (is_bitwise(candidate) and is_bitwise(reference)):
        return None
    if candidate.logits.shape != reference.logits.shape:
        raise ValueError(f"shapes differ: {candidate.logits.shape} and {reference.logits.shape}")
    ours, theirs = (np.ascontiguousarray(run.logits).view(np.uint32) for run in (candidate, reference))
    different = int(np.count_nonzero(ours != theirs))
    if not different:
        return (
            f"Both runs are bitwise, and all {ours.size:,} logits are equal in every bit: "
            "neither GPU, precision, libraries nor batch size changed anything."
        )
    return (
        f"Both runs are bitwise, and {different:,} of {ours.size:,} logits differ. Under that policy no GPU, precision, library or "
        "batch size can change a bit: weights, tokens, padding, notes or code differ."
    )
