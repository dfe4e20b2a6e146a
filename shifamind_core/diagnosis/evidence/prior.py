"""What is known beside the logits, as log-odds that are added to the cause model's: ids, token and weights digests, manifests.

Equal digests exclude: bits that are equal cannot have been the difference. Everything else shifts odds by one number,
`TRUST`, in one direction or the other.
"""

import math
from collections.abc import Iterator

from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.findings import Finding, ruled_out

# A recorded fact is taken to be wrong, or to differ beside the true cause, once in a hundred times: an assumption, not a
# fit. docs/cause-model.md shows what once in ten and once in a thousand give.
TRUST = math.log(100)
TRUSTED = 1 - math.exp(-TRUST)  # the probability of what one such fact alone says
EXCLUDED = -math.inf
FEW = 0.5  # a minority: what the word means
OF_THE_INPUT = ("input_changed", "max_length")  # classes of the cause model that other token ids explain
TOKEN_FIELDS = (
    "tokenization.lowercase",
    "tokenization.max_length",
    "tokenization.truncation_side",
    "tokenization.special_tokens",
    "tokenization.vocabulary_sha256",
)
PRECISION_FIELDS = ("policy.weights", "policy.autocast", "policy.tf32", "policy.emulate")
PADDING_FIELDS = ("tokenization.padding", "tokenization.max_length")


def prior_log_odds(evidence: Evidence) -> dict[str, float]:
    """Additive log-odds by class of the cause model; a class that is not named stands at 0."""
    odds = {finding.cause: EXCLUDED for finding in excluded_by_digests(evidence)}
    if evidence.aligned.documents.by == "id":
        odds["different_documents"] = EXCLUDED  # of the notes that are compared
    differs, equal = evidence.manifests.differs, evidence.manifests.equal
    share = evidence.tokens.changed_share
    if share is not None:
        odds["few_documents_changed"] = TRUST if 0 < share < FEW else -TRUST
    if share or (share is None and any(differs(field) for field in TOKEN_FIELDS)):
        odds |= dict.fromkeys(OF_THE_INPUT, TRUST)
    if any(differs(field) for field in PADDING_FIELDS):
        odds["padding"] = TRUST
    if any(differs(field) for field in PRECISION_FIELDS):
        odds["numerics"] = TRUST
    if "checkpoint.weights_digest" in equal:
        # They may still have been lost on the way into the model; rows of a head get lost all together.
        odds |= dict.fromkeys(("weights_changed", "few_codes_changed"), -TRUST)
    elif differs("checkpoint.weights_digest"):
        odds["weights_changed"] = TRUST
    return odds


def excluded_by_digests(evidence: Evidence) -> Iterator[Finding]:
    """Causes that equal digests rule out."""
    if evidence.tokens.all_same:
        told = "Every note has the same token ids in both runs (equal digests)."
        for cause in ("input_changed", "tokenizer_casing", "max_length", "truncation_side"):
            yield ruled_out(cause, told, same_tokens=1.0)
    if "checkpoint.weights_digest" in evidence.manifests.equal:
        yield ruled_out("other_checkpoint", "Both runs read the same weights (equal digests).")
