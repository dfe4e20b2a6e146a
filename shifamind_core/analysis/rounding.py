"""What a machine's rounding changed: a run against one whose bits no machine can change."""

from typing import Any

from shifamind_core.analysis.comparison import Pair, RunComparison, comparison_json
from shifamind_core.analysis.fingerprint import fingerprint, is_bitwise

KEPT = ("max_abs_difference", "threshold", "decisions_flipped", "macro_f1", "micro_f1", "non_finite_cells")


def rounding_json(comparison: RunComparison) -> dict[str, Any]:
    """The JSON of `rounding`: counts and gaps (this machine − bitwise), the fingerprint, and one sentence.

    Raises
    ------
    ValueError
        The reference is no run under `bitwise`.
    """
    exact = comparison.aligned.reference
    if not is_bitwise(exact):
        raise ValueError("what rounding changed is measured against a run under bitwise")
    document = comparison_json(comparison)
    return {name: document[name] for name in KEPT} | {
        "documents": exact.documents,
        "decisions": exact.logits.size,
        "fingerprint": fingerprint(exact),
        "run_digests": [comparison.aligned.candidate.digest, exact.digest],
        "explanation": explanation(comparison),
    }


def explanation(comparison: RunComparison) -> str:
    """What the two runs show, in two sentences."""
    flipped, cells = comparison.decisions_flipped, comparison.aligned.reference.logits.size
    largest = comparison.difference.max_abs
    moved = "" if largest is None else f"; no logit moved by more than {largest:.1e}"
    scores = "".join(
        f", {name} F1 by {pair.gap:+.4f}"
        for name, pair in (("macro", comparison.macro_f1), ("micro", comparison.micro_f1))
        if _moved(pair)
    )
    return (
        f"This machine's rounding changed {flipped:,} of {cells:,} decisions{scores}{moved}. "
        "All else that decides these scores is the same on any machine with these files."
    )


def _moved(pair: Pair) -> bool:
    return bool(pair.gap)
