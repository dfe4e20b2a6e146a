"""What is known beside the logits, as log-likelihoods that are added to the cause model's: ids, digests, manifests.

Equal digests exclude: bits that are equal cannot have been the difference. Everything else is held against what each cause
predicts of it (`causes.Cause.predicts`), at one assumed rate of exceptions, `TRUST`.
"""

import math
from collections.abc import Iterator, Mapping

from shifamind_core.artifacts.weight_parts import ENCODER, HEAD
from shifamind_core.diagnosis.causes import CAUSES, EXPECTED, OUTCOMES, Cause, Fact
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.facts import (
    Seen,
    both_loaded,
    ids_are_digests,
    observed,
    reads_padding,
)
from shifamind_core.diagnosis.findings import LIKELY, Finding, ruled_out

# A recorded fact is taken to be wrong, or to differ beside the true cause, once in a hundred times: an assumption, not a
# fit. docs/cause-model.md shows what once in ten and once in a thousand give.
TRUST = math.log(100)
TRUSTED = 1 - math.exp(-TRUST)  # the probability of what one such fact alone says
EXCLUDED = -math.inf
# Causes that have one class of the cause model, and foretell different facts: each as likely as the other.
TWINS: Mapping[str, tuple[str, ...]] = {"padding": ("padding", "attention_mask_ignored")}


def prior_log_odds(evidence: Evidence, classes: tuple[str, ...]) -> dict[str, float]:
    """By class of the cause model, how probable the recorded facts are under it (log); 0 throughout where none is."""
    odds = {}
    for name in classes:
        each = likelihoods(name, evidence).values()
        odds[name] = math.log(sum(each) / len(each))
    odds |= {finding.cause: EXCLUDED for finding in excluded_by_digests(evidence) if finding.cause in odds}
    if evidence.aligned.documents.by == "id":  # of the notes that are compared
        odds["different_documents"] += EXCLUDED if ids_are_digests(evidence) else -TRUST
    return odds


def likelihoods(name: str, evidence: Evidence) -> dict[str, float]:
    """How probable all recorded facts are together, under each of the causes that have this class of the cause model."""
    facts = observed(evidence)
    causes = [
        CAUSES[twin] for twin in TWINS.get(name, (name,)) if twin != "padding" or reads_padding(evidence)
    ]
    return {
        cause.name: math.prod(_likelihood(cause, fact, seen) for fact, seen in facts.items())
        for cause in causes
    }


def of_something_unknown(evidence: Evidence, known: float) -> float:
    """Probability that no cause of the model is at work, where its logits are like none that it was fitted on.

    Without records as likely as not, which is all that `likely` means; else weighed by how probable the records are under the
    model's causes (`known`) and under something that no record would show.
    """
    unknown = LIKELY * likelihoods("unknown", evidence)["unknown"]
    return unknown / (unknown + (1 - LIKELY) * known)


def _likelihood(cause: Cause, fact: Fact, seen: Seen) -> float:
    """Of one observation: what a cause predicts comes about but for the exceptions; within either, no outcome is likelier."""
    every = OUTCOMES[fact]
    predicted = cause.predicts.get(fact, EXPECTED[fact])
    exceptions = math.exp(-TRUST) if len(predicted) < len(every) else 0.0
    shares = (
        (1 - exceptions) / len(predicted)
        if outcome in predicted
        else exceptions / (len(every) - len(predicted))
        for outcome in every
        if outcome in seen
    )
    return sum(shares)


def excluded_by_digests(evidence: Evidence) -> Iterator[Finding]:
    """Causes that equal digests rule out."""
    if evidence.tokens.all_same:
        told = "Every note has the same token ids in both runs (equal digests)."
        for cause in ("input_changed", "tokenizer_casing", "max_length", "truncation_side"):
            yield ruled_out(cause, told, same_tokens=1.0)
    if "checkpoint.weights_digest" in evidence.manifests.equal:
        yield ruled_out("other_checkpoint", "Both runs read the same weights (equal digests).")
    parts = evidence.manifests.parts
    if parts is not None and both_loaded(evidence):
        for cause, side, name in (
            ("head_not_loaded", HEAD, "head"),
            ("encoder_not_loaded", ENCODER, "encoder"),
        ):
            if parts.all_same(side):
                yield ruled_out(cause, f"Both models held the same {name} (equal digests).")
