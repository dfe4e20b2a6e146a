"""The case as it was reported, and what follows from its numbers alone: no logit of it is known here.

The argument, with sources, is docs/case-study.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shifamind_core.diagnosis.claims import SEED_CLAIMS

Shown = Literal["follows", "likely", "open"]
DIGITS = 5e-5  # of scores that are reported with four decimals
BEST = "validation_micro_f1"
FIXED = "macro_f1@0.5"


@dataclass(frozen=True)
class Statement:
    """A sentence with its reason: it `follows` from the reported numbers, is `likely` by what was measured elsewhere, or `open`."""

    shown: Shown
    title: str
    reason: str


def what_follows(claims: Mapping[str, Mapping[str, float]] = SEED_CLAIMS) -> tuple[Statement, ...]:
    """What the reported scores say by themselves, and what they leave open."""
    h100, a100, l4 = claims["H100"], claims["A100"], claims["L4"]
    lost = h100[BEST] - a100[BEST]
    apart, fixed_apart = abs(a100[BEST] - l4[BEST]), a100[FIXED] - l4[FIXED]
    return (
        Statement(
            "follows",
            "Ranking was lost, not only calibration.",
            f"Micro F1 on the validation notes, each run at its own best threshold, fell from {h100[BEST]:.4f} to {a100[BEST]:.4f} "
            f"(by {lost:.4f}). A shift or a stretch of all scores moves the best threshold along and leaves this number where it is, so "
            "no threshold and no calibration of the whole run brings it back: notes and codes stand in another order.",
        ),
        Statement(
            "follows",
            "There are two gaps, and they need not have one cause.",
            f"A100 and L4 agree on that best micro F1 to {apart:.4f}, but differ by {fixed_apart:.4f} in macro F1 at 0.5. What parts "
            "these two looks like calibration, or another checkpoint; what parts both from the H100 does not.",
        ),
        Statement(
            "likely",
            "Rounding is unlikely.",
            "On a really pretrained encoder FP32 moved a logit by at most 3.2e-5, TF32 by 0.033 and BF16, which neither notebook asks "
            "for, by 0.36 (root mean square 0.086; measured on an H200). On synthetic scores shaped like these a fall of 26 % needs 0.28 in "
            "every decision at once, always in the bad direction. A badly conditioned checkpoint can round worse: on yours the "
            "ladder measures it, and the bound on the diagnosis page proves it or does not.",
        ),
        Statement(
            "likely",
            "The tokenizer's casing fits.",
            "Bio_ClinicalBERT brings a vocabulary and no tokenizer files, so the library's default decides: transformers 4.57 and from "
            "5.3 on lower-case the notes, 5.0 to 5.2 keep their case. Two notebooks that install at different times then read other "
            "tokens. On the demo, trained lower-cased, that alone takes macro F1 at 0.5 from 0.4951 to 0.3386.",
        ),
        Statement(
            "open",
            "None of this is proven for the case itself.",
            "Its checkpoint and its notes are not public. One experiment on any one GPU decides: score the split lower-cased, then cased. "
            f"It is the casing if the first gives {h100[FIXED]:.4f} and the second {l4[FIXED]:.2f} to {a100[FIXED]:.2f}; "
            "if both give the same, it is not.",
        ),
    )
