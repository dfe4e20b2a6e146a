"""Run the checkpoint under a chosen precision."""

import pandas as pd
import streamlit as st

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.entry import RUN_FILE
from shifamind_core.ui.inference.form import ask_settings
from shifamind_core.ui.session import state
from shifamind_core.ui.session.measured import latest_job
from shifamind_core.ui.session.offers import Offer
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets import inspection
from shifamind_core.ui.widgets.jobs import duration, show_failure, show_jobs, start_job
from shifamind_core.ui.widgets.pick_runs import load_run, pick_run, runs_on_offer, show_error
from shifamind_core.ui.widgets.workspace import show_workspace


def show_last_result() -> None:
    """What came of the newest prediction."""
    last = latest_job(workspace, "predict")
    if last is None or last.status not in ("done", "cancelled"):
        return
    if last.status == "cancelled" or not last.result:
        st.info("The last prediction was cancelled; nothing of it was kept.", icon=":material/cancel:")
        return
    came = (
        "answered from the cache"
        if last.result.get("cached")
        else f"computed in {duration(last.result['seconds'] or 0)}"
    )
    st.success(
        f"{last.result['documents']:,} notes × {last.result['codes']} codes, {came}.",
        icon=":material/check_circle:",
    )
    for remark in last.result.get("remarks", []):
        st.warning(safe_text(remark))


def runs_table(offers: list[Offer]) -> pd.DataFrame:
    """The runs in the cache: columns Run, Split, Notes, Batch, Seconds, Computed (UTC), Digest."""
    return pd.DataFrame(
        {
            "Run": [offer.label for offer in offers],
            "Split": [offer.split for offer in offers],
            "Notes": [offer.documents for offer in offers],
            "Batch": [offer.manifest.batch_size for offer in offers],
            "Seconds": [offer.manifest.duration_seconds for offer in offers],
            "Computed (UTC)": pd.to_datetime(
                [offer.manifest.created_at_utc for offer in offers], utc=True
            ).tz_convert(None),
            "Digest": [offer.digest[:12] for offer in offers],
        }
    )


def show_run_actions(offer: Offer) -> None:
    """Download or delete one run; how many of its logits are not finite."""
    cache = RunCache(workspace.cache)
    try:
        if bad := load_run(offer).non_finite:
            st.warning(f"{bad:,} of its logits are NaN or infinite: it can be compared, but not scored.")
    except ShifamindError as error:
        show_error(error)
    with st.container(horizontal=True):
        st.download_button(
            "Download run file",
            lambda: (cache.runs / str(offer.source) / RUN_FILE).read_bytes(),
            file_name=f"run-{offer.key}.safetensors",
            mime="application/octet-stream",
            on_click="ignore",
            icon=":material/download:",
        )
        with st.popover("Delete", icon=":material/delete:"):
            st.write("The logits are deleted; they can be computed again.")
            st.button("Delete this run", type="primary", on_click=cache.remove, args=(str(offer.source),))


st.title("Inference")
st.caption(
    "Scores the notes of a split with the checkpoint, in a process of its own: closing this page does not stop it."
)
directory = show_workspace()
workspace = state.current_workspace()
if directory is not None:
    found = inspection.inspection_of(workspace)
    with st.container(border=True):
        settings = ask_settings(found, directory.splits)
    if st.button("Start", type="primary", icon=":material/play_arrow:"):
        start_job(workspace, "predict", settings)
active = show_jobs(workspace)
if not any(job.kind == "predict" for job in active):
    show_failure(workspace, "predict")
    show_last_result()

st.header("Runs in the cache")
computed = runs_on_offer(kind="computed")
if not computed:
    st.info(
        "None yet. Start one above: the same request is answered from here the next time.",
        icon=":material/info:",
    )
else:
    st.dataframe(
        runs_table(computed),
        hide_index=True,
        width="stretch",
        column_config={
            "Notes": st.column_config.NumberColumn(format="localized"),
            "Seconds": st.column_config.NumberColumn(format="%.1f"),
            "Computed (UTC)": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
        },
    )
    chosen = pick_run("Run", "run", computed)
    if chosen is not None:
        show_run_actions(chosen)
