"""How does F1 depend on the decision threshold?"""

from typing import cast

import pandas as pd
import streamlit as st

from shifamind_core.analysis.thresholds import Evaluation, GridName
from shifamind_core.errors import ShifamindError
from shifamind_core.figures.thresholds import threshold_lines, thresholds_figure
from shifamind_core.report.tables import metrics_table
from shifamind_core.ui.session import cached
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.pick_runs import chosen_pair, load_run, pick_runs, runs_on_offer, show_error
from shifamind_core.ui.widgets.side_by_side import show_settings
from shifamind_core.ui.widgets.tables import show_table
from shifamind_core.ui.widgets.validation import validation_of

GRIDS: dict[GridName, str] = {"seed": "The protocol's", "clean": "Exact decimals"}
COLUMNS = ("run", "protocol", "threshold", "k", "micro_f1", "macro_f1", "macro_f1_of_means", "validation_micro_f1",
           "plateau_lowest", "plateau_highest", "macro_f1_over")  # fmt: skip
PROTOCOLS = {"fixed": "at 0.5", "tuned": "tuned on validation", "top_k": "k most probable codes"}


def answer(found: list[Evaluation]) -> str:
    """What is left of the gap in micro F1 between two runs once each has the threshold that its validation run tunes."""
    ours, theirs = found
    if ours.tuned is None or theirs.tuned is None:
        return f"**At 0.5 the two runs differ by {ours.fixed.micro_f1 - theirs.fixed.micro_f1:+.4f} in micro F1.**"
    fixed, tuned = ours.fixed.micro_f1 - theirs.fixed.micro_f1, ours.tuned.micro_f1 - theirs.tuned.micro_f1
    return (
        f"**The gap in micro F1 is {fixed:+.4f} at 0.5, and {tuned:+.4f} with each run at its own best threshold:** what is left "
        "then no choice of thresholds explains."
    )


st.title("Thresholds")
offers = [offer for offer in runs_on_offer("test") if offer.labelled]
pair = chosen_pair(offers)
if st.session_state.get("runs.pair") not in (None, [one.key for one in pair]):
    st.session_state.pop("runs", None)  # another pair was chosen meanwhile: what is shown here follows it
st.session_state["runs.pair"] = [one.key for one in pair]
chosen = pick_runs("Runs", "runs", offers, default=pair)
if not offers:
    st.stop()
if not chosen:
    st.info("Choose at least one run above.", icon=":material/info:")
    st.stop()
grid = cast(
    GridName,
    st.segmented_control(
        "Threshold grid, 0.10 to 0.89",
        list(GRIDS),
        default="seed",
        format_func=GRIDS.__getitem__,
        help="The protocol's script adds 0.01 again and again, so its 0.5 is 0.4999999999999998.",
        required=True,
    ),
)

lines, tables, untuned, said, found = [], [], [], [], []
for offer in chosen:
    try:
        run = load_run(offer)
        validation = validation_of(run)
        evaluation = cached.evaluation(run, validation, grid)
        curves = [cached.curve(one, grid) for one in (run, validation) if one is not None]
    except ShifamindError as error:
        show_error(error)
        continue
    lines += threshold_lines(run.name, *curves, tuned=evaluation.tuned_threshold)
    found.append(evaluation)
    tables.append(metrics_table(evaluation).assign(run=run.name))
    if validation is None:
        untuned.append(run.name)
    said += [f"{run.name}: {remark}" for remark in evaluation.remarks]
if not tables:
    st.stop()

show_settings(chosen)
if len(found) == 2:
    st.markdown(answer(found))
show_figure(
    thresholds_figure(lines),
    "thresholds",
    "Micro and macro F1 of each chosen run against the decision threshold, on test and validation notes.",
)
st.caption(
    "Solid: test notes; dashed: validation notes, on which the threshold is tuned. The diamond is the tuned threshold, "
    "the shaded band every threshold within 0.001 of its micro F1: inside its band, a tuned threshold that moves means "
    "nothing. A lower peak of micro F1 is no shift of calibration alone: ranking was lost."
)
for name in untuned:
    st.caption(
        f"{safe_text(name)} has no validation run of the same configuration, so its threshold is not tuned. "
        "Run the val split under the same settings, or give an upload its validation run on the overview."
    )
table = pd.concat(tables, ignore_index=True)
show_table(table.assign(protocol=table["protocol"].replace(PROTOCOLS)), COLUMNS)
for remark in said:
    st.caption(safe_text(remark))
