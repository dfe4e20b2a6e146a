"""The precision ladder on a page: start it, watch it, read it; and the errors that it measured."""

from typing import Any

import pandas as pd
import streamlit as st

from shifamind_core.analysis.flip_bound import SampledRange
from shifamind_core.analysis.rungs import Ladder
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.manifest import Manifest, TokenizationRecord
from shifamind_core.runs.run import Run
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.measured import ladder_is_recorded
from shifamind_core.ui.session.offers import load_stored
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import plain_text, safe_text
from shifamind_core.ui.widgets.jobs import show_failure, show_jobs, start_job
from shifamind_core.ui.widgets.tables import show_table

SAMPLES = {"64": "64 notes", "256": "256 notes", "all": "Whole split"}
COLUMNS = ("policy", "max_abs", "p99_abs", "median_abs", "rms", "flips", "macro_f1", "micro_f1", "non_finite", "seconds")  # fmt: skip


def sampled_ranges(
    workspace: Workspace, ladder: Ladder, run: Run, policies: list[str]
) -> dict[str, SampledRange]:
    """F1 of `run` under errors drawn from what the ladder measured; policies whose runs were removed are left out."""
    entries = {entry.digest: entry.id for entry in RunCache(workspace.cache).entries()}
    wanted = {name: entries.get(ladder.run_digests.get(name, "")) for name in ("fp64", *policies)}
    loaded = {name: load_stored(entry, workspace) for name, entry in wanted.items() if entry is not None}
    if "fp64" not in loaded:
        return {}
    return {name: cached.sampled(run, loaded[name], loaded["fp64"]) for name in policies if name in loaded}


def show_ladder(workspace: Workspace, candidate: Manifest, ladder: Ladder | None, openable: bool) -> None:
    """The button, the running ladder, and the table of the last one. It scores the split under the candidate's tokenization."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.segmented_control(
            "Measure on", list(SAMPLES), default="64", format_func=SAMPLES.__getitem__, key="ladder.size", required=True
        )  # fmt: skip
        label = (
            "Run the ladder" if ladder is None or not ladder_is_recorded(workspace) else "Run the ladder here"
        )
        if st.button(label, type="primary", icon=":material/stairs:", disabled=not openable):
            limit = None if size == "all" else int(size)
            asked = {
                **_tokenized_like(candidate),
                "split": candidate.split or "test",
                "limit": limit,
            }
            start_job(workspace, "ladder", asked)
    active = show_jobs(workspace, kinds=("ladder",))
    if active:
        return
    show_failure(workspace, "ladder")
    if ladder is None:
        st.info(
            "Not run yet. It scores the same notes under every policy this device has, and takes FP64 as the referee.",
            icon=":material/info:",
        )
        return
    show_table(rungs_table(ladder), COLUMNS)
    where = "recorded on" if ladder_is_recorded(workspace) else "measured on"
    st.caption(
        f"Differences from FP64 in logits, and F1, on {ladder.documents:,} notes, {where} {safe_text(ladder.device, 60)} with weights "
        f"{safe_text(ladder.checkpoint[:8])}. Flips are decisions at 0.5 that are not FP64's."
    )
    for rung in ladder.rungs:
        if rung.refused:
            st.caption(
                f":material/block: **{safe_text(rung.policy)}** is refused here: {safe_text(rung.refused)}"
            )


def _tokenized_like(candidate: Manifest) -> dict[str, Any]:
    """The candidate's casing, length and padding, as far as its manifest knows them."""
    known = candidate.tokenization or TokenizationRecord()
    asked = {
        "lowercase": None if known.lowercase is None else str(known.lowercase).lower(),
        "max_length": known.max_length,
        "padding": known.padding,
    }
    return {name: value for name, value in asked.items() if value is not None}


def rungs_table(ladder: Ladder) -> pd.DataFrame:
    """One row a policy that ran, with the columns of `COLUMNS`."""
    rows: list[dict[str, Any]] = [
        {**vars(rung), "policy": plain_text(rung.policy, 40), "non_finite": rung.non_finite or None}
        for rung in ladder.rungs
        if not rung.refused
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"flips": "Int64", "non_finite": "Int64"})
