"""One line to send to a colleague: equal fingerprints, equal logits in every bit."""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

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


@dataclass(frozen=True)
class BitwiseVerdict:
    """What two runs under `bitwise` say about GPUs: the matter is settled either way.

    `equal` logits of `cells` compared; `different` of them differ in a bit.
    """

    verdict: Literal["equal", "not_the_gpu"]
    different: int
    cells: int
    explanation: str


def bitwise_verdict(candidate: Run, reference: Run) -> BitwiseVerdict | None:
    """What equal or unequal bits prove, of two runs aligned note by note and code by code; `None` unless both are bitwise.

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
    different = int((ours != theirs).sum())
    if different == 0:
        return BitwiseVerdict(
            "equal",
            0,
            ours.size,
            f"All {ours.size:,} logits are equal in every bit: the machines did the same.",
        )
    return BitwiseVerdict(
        "not_the_gpu",
        different,
        ours.size,
        f"{different:,} of {ours.size:,} logits differ, and under bitwise no GPU, precision, batch size or library kernel can "
        "change one bit. Weights, tokens, padding, code or notes differ.",
    )
