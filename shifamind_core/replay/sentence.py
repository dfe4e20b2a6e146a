"""A replay's verdict in one sentence or two, for people: what was found, and what to change."""

from collections.abc import Sequence

from shifamind_core.replay.result import Trial
from shifamind_core.replay.rounding import Numerics


def advice_of(winner: Trial) -> str:
    """What to change where the winner is what happened; empty where it changes nothing."""
    advice = dict.fromkeys(step.advice for step in winner.interventions)
    if winner.fit.document_order:
        advice["Save rows, labels and ids in one order."] = None
    return " ".join(advice)


def sentence_of(
    verdict: str,
    start: Trial,
    winner: Trial,
    attempt: Trial,
    numerics: Numerics,
    level: str | None,
    rivals: Sequence[str] = (),
) -> str:
    """Numbers are of the confirming notes; `attempt` is the nearest trial, whether or not it won; `rivals` would do as well."""
    names = " + ".join(winner.names)
    variants = "; ".join(step.variant for step in winner.interventions if step.variant)
    names += f" ({variants})" if variants else ""
    rest = f"{winner.fit.max_abs_residual:.2g}"
    advice = advice_of(winner)
    if verdict == "identical":
        return f"The two runs are identical on {start.notes} notes: there is nothing to explain."
    if verdict == "numerics":
        named = f" {names} reproduces it." if names else ""
        kind = f"rounding at the level of {level}" if level else "rounding"
        return (
            f"No logit differs by more than {start.fit.max_abs_residual:.2g}, which is {kind} on this model: "
            f"numerics, and no change to the pipeline.{named}"
        )
    if verdict == "confirmed":
        return (
            f"Confirmed: {names} reproduces the other run on {winner.notes} notes to within {rest} a logit "
            f"(rounding is granted {numerics.tolerance:.2g}). {advice}"
        )
    if verdict == "likely":
        how = (
            "as well as one draw resembles another; number by number, up to"
            if winner.recipe.random
            else f"{winner.fit.explained:.1%} of the squared difference; up to"
        )
        told = (
            f"Likely: {names} explains the other run on {winner.notes} notes, {how} {rest} a logit remains."
        )
        if rivals:
            told += f" So would {' or '.join(rivals)}: these logits have nothing left by which to tell them apart."
        return f"{told} {advice}"
    tried = " + ".join(attempt.names) or "nothing"
    return (
        f"Unexplained: no change that was tried reproduces the other run. The nearest, {tried}, explains "
        f"{attempt.fit.explained:.1%}; without any the rms difference is {start.fit.rms_residual:.2g}, at most "
        f"{start.fit.max_abs_residual:.2g} a logit."
    )
