"""What this machine's rounding changes, on a page: one button, the counts, and the fingerprint to send to a colleague."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from shifamind_core.ui.session.measured import latest_job
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import plain_text, safe_text
from shifamind_core.ui.widgets.choices import CASINGS, KEEP
from shifamind_core.ui.widgets.jobs import show_failure, show_jobs, start_job
from shifamind_core.ui.widgets.measured_on import show_measured_on

NOTES: dict[str, int | None] = {"First 64": 64, "All": None}


def show_rounding(workspace: Workspace, splits: Sequence[str], openable: bool) -> None:
    """The button, the running job, and what the last one found."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = [name for name in ("test", "val", "train") if name in splits] or ["test"]
        split = st.selectbox("Split", order, key="rounding.split", width=120, **KEEP)
        notes = st.segmented_control(
            "Notes", list(NOTES), default="First 64", required=True, key="rounding.notes", **KEEP
        )
        casing = st.selectbox(
            "Casing", list(CASINGS), format_func=CASINGS.__getitem__, key="rounding.casing", width=180, **KEEP
        )
        if st.button(
            "Take the GPU out of the question",
            type="primary",
            icon=":material/balance:",
            disabled=not openable,
        ):
            asked = {"split": split, "limit": NOTES[notes], "lowercase": casing}
            start_job(workspace, "rounding", asked)
    if show_jobs(workspace, kinds=("rounding",)):
        return
    show_failure(workspace, "rounding")
    job = latest_job(workspace, "rounding", "done")
    if job is None or job.result is None:
        st.info(
            "Not run yet. It scores the notes as this machine does by default, and under `bitwise`, which gives the same bits on every "
            "machine: what differs is what this machine's rounding changed.",
            icon=":material/info:",
        )
        return
    _show_result(job.result)


def _show_result(result: Mapping[str, Any]) -> None:
    with st.container(horizontal=True):
        st.metric("Decisions changed", f"{result['decisions_flipped']:,} of {result['decisions']:,}")
        for name, title in (("macro_f1", "Macro F1"), ("micro_f1", "Micro F1")):
            gap = result[name]["gap"]
            if gap is not None:
                st.metric(f"{title} changed", f"{gap:+.4f}", help="This machine by default − `bitwise`.")
        if result["max_abs_difference"] is not None:
            st.metric("Largest difference", f"{result['max_abs_difference']:.1e}", help="Of a logit.")
    st.markdown(f"**{safe_text(result['explanation'], 600)}**")
    if result["fingerprint"]:
        st.markdown("Fingerprint of the `bitwise` logits:")
        st.code(plain_text(result["fingerprint"], 64), language=None)
        st.caption(
            "Send this line to a colleague who ran the same notes. Equal lines: every logit is equal in every bit. Unequal lines: the "
            "GPU is not the reason; weights, tokens, notes or this program's version are."
        )
    show_measured_on(
        result,
        f"{result['documents']:,} notes of the {safe_text(result['split'])} split under {safe_text(result['policy'])} and bitwise",
        f"threshold {result['threshold']:g}",
    )
