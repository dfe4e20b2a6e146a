"""The five ways in which a GPU is said to change a score, each with the number that decides.

A hypothesis is ruled out by equal bits, by an exact match that leaves nothing, or by the flip bound with errors measured
on this model; by nothing else. Without a measurement on this model the strongest word is "unlikely".
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shifamind_core.analysis.fingerprint import bitwise_verdict
from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.evidence.evidence import Evidence
from shifamind_core.diagnosis.evidence.levels import Level, Sizes, level_of_manifest
from shifamind_core.diagnosis.evidence.reach import largest_by_level
from shifamind_core.diagnosis.findings import Finding

Verdict = Literal["confirmed", "likely", "possible", "unlikely", "ruled_out"]
# Of measured models on which rounding was as large: below one in twenty, the usual level of a test, it is unlikely.
UNUSUAL = 0.05


@dataclass(frozen=True)
class Observed:
    """How far two runs are apart: root mean square over the logits' spread, largest in logits, the spread in logits."""

    size: float
    largest: float
    spread: float


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis, its verdict, and the sentence with the number."""

    name: str
    title: str
    verdict: Verdict
    explanation: str


@dataclass(frozen=True)
class Kind:
    """A way in which a GPU is said to change a score.

    `levels` are the precisions at which it rounds, `fields` the manifest's fields that would have to differ, `how` what it
    does, as "It …".
    """

    name: str
    title: str
    levels: tuple[Level, ...]
    fields: tuple[str, ...]
    how: str


KINDS: tuple[Kind, ...] = (
    Kind(
        "tensor_cores",
        "Tensor-core precision (TF32, FP16, BF16)",
        ("tf32", "fp16", "bf16"),
        ("flags.tf32_measured", "flags.autocast", "flags.weights"),
        "rounds the inputs of matrix products",
    ),
    Kind(
        "library_versions",
        "cuDNN and CUDA versions",
        ("fp32",),
        ("environment.cudnn", "environment.cuda", "environment.torch"),
        "chooses other kernels, which add in another order",
    ),
    Kind(
        "matmul_default",
        "The default precision of matrix products",
        ("tf32",),
        ("flags.float32_matmul_precision", "flags.cuda_matmul_allow_tf32", "flags.tf32_measured"),
        "lets TF32 in without being asked",
    ),
    Kind(
        "nondeterminism",
        "Non-deterministic operations",
        ("fp32",),
        ("flags.deterministic_algorithms", "flags.cudnn_benchmark"),
        "adds in an order that changes from run to run",
    ),
    Kind(
        "memory_layout",
        "Memory layout",
        ("fp32",),
        ("flags.attention", "batch_size"),
        "changes the order in which numbers are added",
    ),
)


def judge_hypotheses(
    evidence: Evidence,
    observed: Observed,
    findings: Sequence[Finding],
    explained: bool,
    needed: float | None,
    sizes: Sizes,
    step: str = "",
) -> tuple[Hypothesis, ...]:
    """A verdict on each hypothesis.

    Parameters
    ----------
    findings : ranked; `explained` says that exact matches leave no difference at all
    needed : float, optional
        Smallest change of every logit that turns one F1 into the other (the flip bound's ε); infinite where none does,
        `None` where there is no gap or nothing to score.
    sizes : how large rounding was on models measured before, relative to the spread of their logits (`CauseModel.sizes`)
    step : decimals of the coarser file, in words, where one holds few: what is smaller does not show
    """
    bitwise = bitwise_verdict(evidence.candidate, evidence.reference) if observed.largest else None
    shown = bitwise or _excluded_at_once(observed, findings, explained)
    if shown is not None:
        verdict: Verdict = "unlikely" if step and not bitwise else "ruled_out"
        if verdict == "unlikely":
            shown += f" What moves a score by less than a step of {step} does not show."
        return tuple(Hypothesis(kind.name, kind.title, verdict, shown) for kind in KINDS)
    return tuple(
        Hypothesis(kind.name, kind.title, *_verdict(kind, evidence, observed, findings, needed, sizes))
        for kind in KINDS
    )


def _excluded_at_once(observed: Observed, findings: Sequence[Finding], explained: bool) -> str | None:
    """What excludes all five by equal scores, if anything does."""
    if not observed.largest:
        return "No score differs: the largest difference is 0."
    if explained and findings and findings[0].status == "confirmed":
        title = CAUSES[findings[0].cause].title
        return f"{title}: that explains every score exactly, and leaves nothing for rounding to explain."
    return None


def _verdict(
    kind: Kind,
    evidence: Evidence,
    observed: Observed,
    findings: Sequence[Finding],
    needed: float | None,
    sizes: Sizes,
) -> tuple[Verdict, str]:
    excluded = excluded_by_bound(kind, evidence, needed)
    if excluded is not None:
        return "ruled_out", excluded
    best = findings[0]
    if best.cause == "numerics" and best.evidence.get("weights_rounded"):
        return (
            "unlikely",
            f"It {kind.how}; but the difference is of weights that were rounded when saved, which no GPU does.",
        )
    if best.cause == "numerics":
        level = best.evidence.get("level")
        if level in kind.levels and best.status in ("confirmed", "likely"):
            return best.status, f"It {kind.how}. The difference looks like {level} rounding."  # type: ignore[return-value]
        if level is None:
            return (
                "possible",
                f"It {kind.how}. The files hold too few decimals to tell which kind of rounding it is.",
            )
        return "possible", f"It {kind.how}. The difference looks like rounding, but of another kind: {level}."
    agree = [field for field in kind.fields if field in evidence.manifests.equal]
    if len(agree) == len(kind.fields):
        return "unlikely", f"It {kind.how}; but both manifests record the same settings for it."
    largest = sizes(kind.levels)
    reached = sum(size >= observed.size for size in largest)
    told = f"It {kind.how}; rounding was this large on {reached} of {len(largest)} models measured before"
    advice = "" if evidence.ladder else " The precision ladder measures how large it is on this one."
    unusual = reached < UNUSUAL * len(largest)
    return "unlikely" if unusual else "possible", f"{told}.{advice}"


def excluded_by_bound(kind: Kind, evidence: Evidence, needed: float | None) -> str | None:
    """The sentence that rules a hypothesis out by the flip bound and errors measured on this model, if they do."""
    measured = largest_by_level(evidence.ladder)
    return beyond(kind, moves(kind.levels, measured, level_of_manifest(evidence.candidate.manifest)), needed)


def beyond(kind: Kind, moved: float | None, needed: float | None) -> str | None:
    """The sentence where the needed change is larger than the largest measured one; else `None`."""
    if moved is None or not needed or needed <= moved:
        return None
    reach = f"It {kind.how}: with the candidate's own rounding at most {moved:.2g} in a score, measured on this model"
    if math.isinf(needed):
        return f"{reach}. No change of the scores whatever gives this F1."
    return f"{reach}. The gap in F1 needs {needed:.2g} in every decision at once, {needed / moved:,.0f} times that."


def moves(levels: Iterable[Level], measured: Mapping[Level, float], own: Level | None) -> float | None:
    """The largest difference in a logit that rounding at these levels can make, against a run at level `own`.

    `None` where the ladder did not measure one of the levels. A run that does not say its level may be at any.
    """
    wanted = list(levels)
    if not measured or any(level not in measured for level in wanted):
        return None
    return max(measured[level] for level in wanted) + measured.get(own, max(measured.values()))  # type: ignore[arg-type]
