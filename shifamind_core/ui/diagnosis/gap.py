"""The parts of a gap on a page."""

import pandas as pd
import streamlit as st

from shifamind_core.analysis.gap_split import GapSplit
from shifamind_core.analysis.thresholds import FIXED_THRESHOLD
from shifamind_core.figures.findings import PARTS, gap_split_figure
from shifamind_core.ui.diagnosis.question import Question, show_codes_scored
from shifamind_core.ui.session import cached
from shifamind_core.ui.widgets.charts import show_figure

KINDS = {
    frozenset({"ranking", "calibration"}): "Two kinds of change: calibration moved, and ranking with it.",
    frozenset({"calibration"}): "Calibration moved, ranking is kept: recalibration would mend it.",
    frozenset({"ranking"}): "Ranking changed, calibration did not: no recalibration mends it.",
}
PROTOCOLS = {"fixed": "Both at 0.5", "tuned": "Each at its tuned threshold"}


def show_gap_split(question: Question) -> None:
    """What threshold, calibration and ranking account for, with intervals.

    Raises
    ------
    ShifamindError
        A run without labels or with logits that are not finite.
    """
    thresholds = (FIXED_THRESHOLD, FIXED_THRESHOLD)
    if question.thresholds is not None:
        protocol = st.segmented_control(
            "Thresholds", list(PROTOCOLS), default="fixed", format_func=PROTOCOLS.__getitem__, key="gap.protocol", required=True
        )  # fmt: skip
        thresholds = thresholds if protocol == "fixed" else question.thresholds
    assert question.whole is not None
    split = cached.gap_split(*question.whole, thresholds)
    st.markdown(gap_sentence(split))
    show_codes_scored(question)
    show_figure(
        gap_split_figure(split),
        "gap",
        "Parts of the macro and micro F1 gap as bars, with 95 percent intervals.",
    )
    st.caption(
        "The candidate is turned into the reference step by step: its labels and threshold, one stretch and shift of all its "
        "logits (calibration of the run), one for each code (calibration of codes); what is left is a different order of "
        "notes, the ranking. The parts add up to the gap. Bars show the central 95 % of a paired bootstrap over notes "
        f"({split.draws:,} draws). {split.looked_at}"
    )
    st.dataframe(gap_table(split), hide_index=True, placeholder="")


def gap_sentence(split: GapSplit) -> str:
    """Which parts are clearly there, largest first; a part whose interval holds 0 is not."""
    told, kinds = [], set()
    for name, metric in (("Macro F1", split.macro_f1), ("micro F1", split.micro_f1)):
        clear = {part: one.value for part, one in metric.parts.items() if one.low > 0 or one.high < 0}
        kinds |= {"calibration" if part.endswith("calibration") else part for part in clear}
        largest = sorted(clear, key=lambda part: -abs(clear[part]))
        parts = ", ".join(f"{PARTS[part]} {clear[part]:+.4f}" for part in largest)
        told.append(f"{name} {metric.gap.value:+.4f}: {parts or 'no part is clearly there'}")
    return f"**{'; '.join(told)}.** {KINDS.get(frozenset(kinds), '')}"


def gap_table(split: GapSplit) -> pd.DataFrame:
    """One row a part: macro and micro F1, each with its 95 % interval, as text."""
    columns = {"Part": [title[0].upper() + title[1:] for title in PARTS.values()]}
    for name, parts in (("Macro F1", split.macro_f1), ("Micro F1", split.micro_f1)):
        found = [parts.gap, *(parts.parts[part] for part in PARTS if part != "gap")]
        columns[name] = [f"{one.value:+.4f}" for one in found]
        columns[f"{name}, 95 %"] = [f"{one.low:+.4f} to {one.high:+.4f}" for one in found]
    return pd.DataFrame(columns)
