"""The answer in a sentence: what it was, how well that is shown, and what is known of the GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.findings import Finding, percent
from shifamind_core.diagnosis.hypotheses import Hypothesis

Shown = Literal["confirmed", "likely", "possible", "open"]
# What an intervention of `replay`, by the part of its name before "=", changes.
CAUSE_OF_INTERVENTION: Mapping[str, str] = {
    "lowercase": "tokenizer_casing",
    "max_length": "max_length",
    "truncation": "max_length",
    "truncation_side": "truncation_side",
    "padding": "padding",
    "attention_mask": "attention_mask_ignored",
    "special_tokens": "input_changed",
    "text": "input_changed",
    "segments": "input_changed",
    "dropout": "dropout_active",
    "policy": "numerics",
    "attention": "numerics",
    "encoder": "encoder_not_loaded",
    "head": "head_not_loaded",
    "checkpoint": "other_checkpoint",
    "weights": "other_checkpoint",
    "concept_embeddings": "weights_changed",
    "code_order": "code_order",
    "document_order": "document_order",
    "metric": "metric_definition",
}
CAUSE_OF_OUTPUT = {"probabilities": "probabilities_as_logits", "double_sigmoid": "double_sigmoid"}


@dataclass(frozen=True)
class Answer:
    """`sentence` is the headline; `meaning` says what happened, `action` what to do, `support` what shows it; `shown` how
    well; `cause` is `None` where none is named."""

    sentence: str
    meaning: str
    action: str
    support: str
    shown: Shown
    cause: str | None


def answer(
    findings: Sequence[Finding], hypotheses: Sequence[Hypothesis], replay: Mapping[str, Any] | None
) -> Answer:
    """What two runs and the last replay say together: a reproduction counts for more than what logits look like.

    Parameters
    ----------
    findings, hypotheses : of a diagnosis, ranked
    replay : the JSON of `replay` on the same reference, if there is one
    """
    verdict = replay and str(replay.get("verdict"))
    if replay is not None and verdict in ("confirmed", "likely", "numerics"):
        return _of_replay(replay, verdict, findings, hypotheses)  # type: ignore[arg-type]
    best = findings[0]

    def said(sentence: str, shown: Shown, cause: str | None) -> Answer:
        return Answer(sentence, best.sentence, best.action, best.numbers, shown, cause)

    if best.cause == "identical":
        return said("The two runs are identical.", "confirmed", best.cause)
    if best.cause == "unknown":
        others = [
            f"{CAUSES[one.cause].subject} ({percent(one.probability)})"
            for one in findings[1:]
            if one.status in ("likely", "possible") and not one.faint
        ]
        also = f" Not ruled out: {'; '.join(others)}." if others else ""
        sentence = f"Nothing known explains the difference yet{_of_gpu(hypotheses)}."
        return replace(said(sentence, "open", None), meaning=f"{best.sentence}{also}")
    subject = CAUSES[best.cause].subject
    # Scores that are no numbers may be an overflow, which is a matter of precision.
    gpu = "" if best.cause in ("numerics", "non_finite") else _of_gpu(hypotheses)
    word: dict[str, tuple[str, Shown]] = {
        "confirmed": ("It was", "confirmed"),
        "likely": ("Most likely it was", "likely"),
    }
    begins, shown = word.get(best.status, ("It may have been", "possible"))
    return said(f"{begins} {subject}{gpu}.", shown, best.cause)


def _of_replay(
    replay: Mapping[str, Any],
    verdict: Literal["confirmed", "likely", "numerics"],
    findings: Sequence[Finding],
    hypotheses: Sequence[Hypothesis],
) -> Answer:
    support = str(replay.get("sentence", ""))
    rounding = CAUSES["numerics"]
    if verdict == "numerics":
        return Answer("It was rounding.", rounding.meaning, rounding.action, support, "confirmed", "numerics")
    names = [str(name) for name in replay["best"]["interventions"]]
    causes = [cause_of(name) for name in names]
    known = {finding.cause: finding.meaning for finding in findings if finding.status != "ruled_out"}
    meanings = [known.get(cause, CAUSES[cause].meaning) for cause in causes if cause]
    subjects = [CAUSES[cause].subject if cause else name for name, cause in zip(names, causes, strict=True)]
    begins = "It was" if verdict == "confirmed" else "Most likely it was"
    # Reproduced within rounding: what is left of the difference is all that the GPU can have done.
    gpu = "" if "numerics" in causes else ", not the GPU" if verdict == "confirmed" else _of_gpu(hypotheses)
    return Answer(
        f"{begins} {' and '.join(dict.fromkeys(subjects))}{gpu}.",
        ("" if verdict == "confirmed" else "Likely: ") + " ".join(dict.fromkeys(meanings))
        if meanings
        else "",
        str(replay.get("advice", "")),
        support,
        verdict,
        causes[0] if len(causes) == 1 else None,
    )


def cause_of(intervention: str) -> str | None:
    """The cause that an intervention stands for, if one does.

    >>> cause_of("lowercase=false"), cause_of("output=double_sigmoid"), cause_of("fusion_order=reversed")
    ('tokenizer_casing', 'double_sigmoid', None)
    """
    kind, _, value = intervention.partition("=")
    return CAUSE_OF_OUTPUT.get(value) if kind == "output" else CAUSE_OF_INTERVENTION.get(kind)


def _of_gpu(hypotheses: Sequence[Hypothesis]) -> str:
    """What is known of the GPU, to end the sentence: ruled out, unlikely, or not measured."""
    verdicts = {one.verdict for one in hypotheses}
    if not verdicts or verdicts & {"confirmed", "likely"}:
        return ""
    if verdicts == {"ruled_out"}:
        return ", not the GPU"
    if verdicts <= {"ruled_out", "unlikely"}:
        return "; the GPU is unlikely"
    return "; the GPU is not ruled out yet"
