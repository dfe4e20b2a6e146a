"""The five ways in which a GPU is said to change a score, each with the number that decides."""

from dataclasses import dataclass
from typing import Literal

from shifamind_core.diagnosis.evidence.manifests import Provenance
from shifamind_core.diagnosis.exact.stored_precision import REACH, Level, Rungs, reach
from shifamind_core.diagnosis.findings import Finding

Verdict = Literal["ruled_out", "possible", "confirmed"]


@dataclass(frozen=True)
class Observed:
    """How far two runs are apart: root mean square in spreads, largest in logits, the typical spread in logits."""

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
class _Kind:
    name: str
    title: str
    levels: tuple[Level, ...]
    fields: tuple[str, ...]
    how: str


KINDS: tuple[_Kind, ...] = (
    _Kind(
        "tensor_cores",
        "Tensor-core precision (TF32, FP16, BF16)",
        ("tf32", "fp16", "bf16"),
        ("flags.tf32_measured", "flags.autocast", "flags.weights"),
        "rounds the inputs of matrix products",
    ),
    _Kind(
        "library_versions",
        "cuDNN and CUDA versions",
        ("fp32",),
        ("environment.cudnn", "environment.cuda", "environment.torch"),
        "chooses other kernels, which add in another order",
    ),
    _Kind(
        "matmul_default",
        "The default precision of matrix products",
        ("tf32",),
        ("flags.float32_matmul_precision", "flags.cuda_matmul_allow_tf32", "flags.tf32_measured"),
        "lets TF32 in without being asked",
    ),
    _Kind(
        "nondeterminism",
        "Non-deterministic operations",
        ("fp32",),
        ("flags.deterministic_algorithms", "flags.cudnn_benchmark"),
        "adds in an order that changes from run to run",
    ),
    _Kind(
        "memory_layout",
        "Memory layout",
        ("fp32",),
        ("flags.attention", "batch_size"),
        "changes the order in which numbers are added",
    ),
)


def judge(
    observed: Observed | None,
    numerics: Finding | None,
    best: str,
    provenance: Provenance,
    ladder: Rungs | None = None,
    needed: float | None = None,
) -> tuple[Hypothesis, ...]:
    """A verdict on each hypothesis.

    Parameters
    ----------
    observed : Observed, optional
        Difference of the two runs; `None` where they could not be put side by side.
    numerics : Finding, optional
        The finding on rounding; `best` the best cause.
    ladder : rungs, optional
        Measured errors of each policy on this model; without them the largest measured on others.
    needed : float, optional
        Smallest change of every logit that could turn one score into the other (the flip bound's ε).
    """
    measured = reach(ladder)
    return tuple(_judge(kind, observed, numerics, best, provenance, measured, needed) for kind in KINDS)


def _judge(
    kind: _Kind,
    observed: Observed | None,
    numerics: Finding | None,
    best: str,
    provenance: Provenance,
    measured: dict[Level, float],
    needed: float | None,
) -> Hypothesis:
    if observed is None:
        return Hypothesis(kind.name, kind.title, "possible", "The runs could not be put side by side.")
    if not observed.largest:
        return Hypothesis(kind.name, kind.title, "ruled_out", "No logit differs: largest difference 0.")
    limit, source = _limit(kind, observed, measured)
    told = (
        f"It {kind.how}: at most {limit:.2g} spreads ({source}). The runs differ by {observed.size:.2g} spreads, at most "
        f"{observed.largest:.2g} in a logit"
    )
    agree = [field for field in kind.fields if field in provenance.equal]
    same = f" Both manifests agree on {', '.join(agree)}." if agree else ""
    need = f" The gap in F1 needs {needed:.2g} in every decision at once." if needed else ""
    level = numerics.evidence.get("level") if numerics is not None and numerics.score >= 0.5 else None
    if observed.size > 3 * limit:
        return Hypothesis(
            kind.name,
            kind.title,
            "ruled_out",
            f"{told}, {observed.size / limit:,.0f} times that.{need}{same}",
        )
    if (
        best == "numerics"
        and level in kind.levels
        and numerics is not None
        and numerics.status == "confirmed"
    ):
        return Hypothesis(kind.name, kind.title, "confirmed", f"{told}. {numerics.explanation}{need}{same}")
    if best == "numerics" and level is not None and level not in kind.levels and level != "fp32":
        return Hypothesis(
            kind.name, kind.title, "ruled_out", f"{told}; the difference is of {level.upper()}'s kind.{same}"
        )
    return Hypothesis(kind.name, kind.title, "possible", f"{told}.{need}{same}")


def _limit(kind: _Kind, observed: Observed, measured: dict[Level, float]) -> tuple[float, str]:
    known = [measured[level] / observed.spread for level in kind.levels if level in measured]
    if known and observed.spread:
        return max(known), "measured on this model"
    return max(REACH[level] for level in kind.levels), "the largest measured on any model"
