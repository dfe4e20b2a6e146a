"""The proof on a page: what rounding could do to F1 at worst, beside what the gap needs."""

from collections.abc import Sequence
from typing import cast

import pandas as pd
import streamlit as st

from shifamind_core.analysis.flip_bound import SampledRange
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.diagnosis.claims import SCORES, ScoreAgainstClaim
from shifamind_core.diagnosis.proof import Proof
from shifamind_core.errors import ShifamindError
from shifamind_core.figures.proof import TITLES, Metric, proof_figure
from shifamind_core.ui.diagnosis.ladder import sampled_ranges
from shifamind_core.ui.diagnosis.question import Question, show_codes_scored
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import plain_text, safe_text
from shifamind_core.ui.widgets.charts import show_figure

EXACT = (
    "The band holds every F1 that these logits could give if no logit moved by more than ε, even if every error were the "
    "worst one. Exact, not estimated."
)
TUNED = (
    "The band holds every F1 that could come of moving each logit of validation and test by at most ε and tuning the "
    "threshold anew. It is never too narrow."
)
PROTOCOLS = {"fixed": "At 0.5", "tuned": "At the tuned threshold"}


def proof_of(question: Question, ladder: Ladder | None, tuned: bool = False) -> Proof:
    """What the measured errors can do to the candidate's scores, at 0.5 or at the threshold its validation tunes.

    Raises
    ------
    ShifamindError
        A candidate without labels or with logits that are not finite.
    """
    measured = {} if ladder is None else ladder.measured()
    elsewhere = question.reference is None
    if tuned:
        return cached.proof(
            question.candidate, question.tuned_targets, measured, question.validation, elsewhere
        )
    return cached.proof(question.candidate, question.targets, measured, reported=elsewhere)


def try_proof(question: Question, ladder: Ladder | None) -> Proof | None:
    """`proof_of` at 0.5, or `None` for a candidate that cannot be scored."""
    try:
        return proof_of(question, ladder)
    except ShifamindError:
        return None


def show_proof(question: Question, ladder: Ladder | None, workspace: Workspace) -> None:
    """The figure with its two switches, the verdict, and the same in numbers."""
    with st.container(horizontal=True):
        metric = cast(
            Metric,
            st.segmented_control(
                "Score", list(TITLES), default="macro_f1", format_func=TITLES.__getitem__, key="proof.metric", required=True
            ),
        )  # fmt: skip
        protocol = "fixed"
        if question.validation is not None:
            protocol = st.segmented_control(
                "Threshold", list(PROTOCOLS), default="fixed", format_func=PROTOCOLS.__getitem__, key="proof.protocol", required=True
            )  # fmt: skip
    proof = proof_of(question, ladder, tuned=protocol == "tuned")
    drawn = _sampled(proof, question, ladder, workspace) if protocol == "fixed" else {}
    st.markdown(f"**{safe_text(proof.sentences.get(metric, proof.sentence))}**")
    show_codes_scored(question)
    show_figure(
        proof_figure(proof, metric, drawn),
        "proof",
        "Lowest and highest F1 that is possible when no logit moves by more than ε, with the measured error of every "
        "precision policy and the error that the gap needs.",
    )
    st.caption(_how_to_read(proof, metric, ladder, bool(drawn)))
    if proof.policies:
        st.dataframe(ranges_table(proof, drawn), hide_index=True, placeholder="")


def _sampled(
    proof: Proof, question: Question, ladder: Ladder | None, workspace: Workspace
) -> dict[str, SampledRange]:
    """For policies whose measured error is as large as what is needed: there the bound does not decide."""
    needed = [need.epsilon for need in proof.needs]
    if ladder is None or not needed or any(epsilon is None for epsilon in needed):
        return {}
    least = max(epsilon for epsilon in needed if epsilon is not None)
    undecided = [one.policy for one in proof.policies if least and one.epsilon >= least]
    return sampled_ranges(workspace, ladder, question.candidate, undecided) if undecided else {}


def _how_to_read(proof: Proof, metric: Metric, ladder: Ladder | None, drawn: bool) -> str:
    lines = [EXACT if proof.threshold is not None else TUNED]
    need = next((need for need in proof.needs if need.metric == metric), None)
    if need is not None and need.epsilon:
        lines.append(
            f"Solid: {need.epsilon:.2g}, the smallest ε with which {TITLES[metric]} could become {need.there:.4f}."
        )
    if ladder is not None:
        lines.append(
            f"Dotted: the largest error of each policy, measured on {ladder.documents:,} notes with this checkpoint on "
            f"{safe_text(ladder.device, 60)}."
        )
    if drawn:
        lines.append(
            "Diamonds are **sampled, not a bound**: F1 when each logit moves by an error drawn at random from those measured, "
            "with the central 95 % of 200 draws."
        )
    return " ".join(lines)


def ranges_table(proof: Proof, drawn: dict[str, SampledRange]) -> pd.DataFrame:
    """One row a policy: its largest error, the F1 that is possible with it, and what was sampled."""
    rows = []
    for one in proof.policies:
        row: dict[str, object] = {
            "Policy": plain_text(one.policy, 40),
            "Largest error": f"{one.epsilon:.2g}",
            "Macro F1, exact range": _range(one.macro_f1),
            "Micro F1, exact range": _range(one.micro_f1),
        }
        if drawn:
            found = drawn.get(one.policy)
            row["Macro F1, sampled (no bound)"] = None if found is None else _range(found.macro_f1.interval)
            row["Micro F1, sampled (no bound)"] = None if found is None else _range(found.micro_f1.interval)
        rows.append(row)
    return pd.DataFrame(rows)


def claims_table(claims: Sequence[ScoreAgainstClaim]) -> pd.DataFrame:
    """One row a reported score: here, there, the gap, its sampling error, and the ε that it needs."""
    return pd.DataFrame(
        {
            "Score": [SCORES[one.name] for one in claims],
            "Here": [one.here for one in claims],
            "Reported": [one.there for one in claims],
            "Gap": [one.gap for one in claims],
            "Sampling ±": [one.half_width for one in claims],
            "ε needed": [
                (
                    ""
                    if not one.bounded
                    else "no ε reaches it"
                    if one.epsilon is None
                    else f"{one.epsilon:.2g}"
                )
                for one in claims
            ],
        }
    )


def _range(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.4f} – {pair[1]:.4f}"
