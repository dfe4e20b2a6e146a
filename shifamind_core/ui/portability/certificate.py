"""The certificate of the portable policy on a page: ask for it, read it, and what it does and does not promise."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from shifamind_core.analysis.rungs import Ladder
from shifamind_core.figures.certificate import at_risk_figure
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.measurements import certificate_table
from shifamind_core.runs.cache import RunCache
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.measured import latest_job
from shifamind_core.ui.session.offers import load_stored
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import plain_text, safe_text
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.choices import CASINGS, KEEP
from shifamind_core.ui.widgets.jobs import show_failure, show_jobs, start_job
from shifamind_core.ui.widgets.measured_on import show_measured_on

PROMISES = """
**Promised, by measurement.** Every decision farther from the threshold than ε falls the same way on any machine that is as near to
FP64 as this one was. How many are nearer is counted, not estimated, and so is the range of F1 if all of them fell the worst way.

**Not promised.** The error is the largest one *measured* on these notes, not a bound on all notes; and nobody measured the other
machine: certify there too, or compare the two runs. Of another checkpoint this says nothing.

**Equal bits on two kinds of GPU** come from `bitwise` alone, which rounds nothing that an order could change (above). From the
usual libraries they are on offer from nobody: cuBLAS gives the same bits only for one toolkit version on GPUs of the
same architecture and the same number of multiprocessors
([cuBLAS, Results reproducibility](https://docs.nvidia.com/cuda/cublas/index.html#results-reproducibility)); PyTorch guarantees
neither equal results ([Reproducibility](https://docs.pytorch.org/docs/stable/notes/randomness.html)) nor equal bits
([Numerical accuracy](https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html)) across releases and platforms.
`deterministic` means that *one* machine gives the same bits again.

**What to set:** `portable` is FP32 with TF32 off, deterministic algorithms, plain ("math") attention, notes padded to one fixed
length, batches of one fixed size. FP64 is the referee that any two machines share.
"""


def show_certificate(
    workspace: Workspace, splits: Sequence[str], openable: bool, ladder: Ladder | None
) -> None:
    """The button, the running job, and the last certificate with its figure."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = [name for name in ("test", "val", "train") if name in splits] or ["test"]
        split = st.selectbox("Split", order, key="certify.split", width=120, **KEEP)
        limit = st.number_input("First notes only", min_value=0, value=0, step=100, key="certify.limit", width=160, help="0: all notes.", **KEEP)  # fmt: skip
        referee = st.number_input("FP64 notes", min_value=1, max_value=4096, value=64, key="certify.notes", width=140, help="On so many notes the error against FP64 is measured.", **KEEP)  # fmt: skip
        casing = st.selectbox(
            "Casing", list(CASINGS), format_func=CASINGS.__getitem__, key="certify.casing", width=180, **KEEP
        )
        if st.button("Certify", type="primary", icon=":material/verified_user:", disabled=not openable):
            asked = {
                "split": split,
                "limit": int(limit) or None,
                "referee_notes": int(referee),
                "lowercase": casing,
            }
            start_job(workspace, "certify", asked)
    if show_jobs(workspace, kinds=("certify",)):
        return
    show_failure(workspace, "certify")
    result = last_certificate(workspace)
    if result is None:
        st.info(
            "Not certified yet. It scores the notes under `portable`, some of them under FP64 too, and counts the decisions "
            "that lie nearer to the threshold than the error found.",
            icon=":material/info:",
        )
        return
    _show_result(result, workspace, ladder)


def last_certificate(workspace: Workspace) -> Mapping[str, Any] | None:
    """The JSON of the newest certificate of the selected run directory."""
    job = latest_job(workspace, "certify", "done")
    return None if job is None else job.result


def _show_result(result: Mapping[str, Any], workspace: Workspace, ladder: Ladder | None) -> None:
    with st.container(horizontal=True):
        st.metric("Decisions that could differ", f"{result['at_risk']:,} of {result['decisions']:,}")
        st.metric(
            "Largest error measured", f"{result['measured_error']:.1e}", help="Of a logit, against FP64."
        )
        st.metric(
            "ε, twice that",
            f"{result['epsilon']:.1e}",
            help="Two machines, each as far from FP64, in opposite directions.",
        )
        st.metric(
            "Nearest decision", f"{result['smallest_margin']:.1e}", help="From the threshold, in logits."
        )
        for name, title in (("macro_f1", "Macro F1"), ("micro_f1", "Micro F1")):
            if result.get(name):
                low, high = result[name]
                st.metric(
                    title,
                    f"{low:.4f}" if low == high else f"{low:.4f} – {high:.4f}",
                    help="Exact range at ε.",
                )
    st.markdown(f"**{safe_text(result['explanation'], 600)}**")
    entries = RunCache(workspace.cache).entries()
    entry = next((entry for entry in entries if entry.digest == result["run_digest"]), None)
    if entry is not None:
        margins = cached.margins(load_stored(entry.id, workspace), result["threshold"])
        same = ladder is not None and ladder.checkpoint == (result.get("model") or {}).get("weights_digest")
        measured = ladder.measured() if ladder is not None and same else {}
        show_figure(
            at_risk_figure(margins, result["decisions"], result["epsilon"], measured),
            "certificate",
            "Number of decisions within ε of the threshold, against ε, with the certificate's ε and measured errors.",
        )
        st.caption(
            "The line counts the decisions whose logit lies within ε of the threshold. Where it begins right of the solid mark, no "
            "decision could differ."
            + (" Dotted: the largest error of each policy on the precision ladder." if measured else "")
        )
    show_measured_on(
        result,
        f"{result['documents']:,} notes of the {safe_text(result.get('split', 'test'))} split under portable, "
        f"{result['measured_notes']:,} of them under FP64",
        f"threshold {result['threshold']:g}",
    )
    if result.get("fingerprint"):
        st.caption(f"Fingerprint under `bitwise`, first {result['fingerprint_notes']:,} notes:")
        st.code(plain_text(result["fingerprint"], 64), language=None)
    digest = str(result["run_digest"])[:8]
    st.download_button(
        "Certificate as CSV",
        lambda: csv_text(certificate_table(result)),
        f"shifamind-certificate-{digest}.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
