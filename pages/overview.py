"""What is loaded, and how large is the gap?"""

import streamlit as st

from shifamind_core.analysis.comparison import Pair
from shifamind_core.errors import ShifamindError
from shifamind_core.ui import inspection, state
from shifamind_core.ui.headline import Headline, headline_of
from shifamind_core.ui.job_panel import show_failure, show_jobs
from shifamind_core.ui.navigation import PAGES, page_path, present_pages
from shifamind_core.ui.offers import references_on_offer
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets import pick_pair, runs_on_offer, show_error, upload_reference
from shifamind_core.ui.workspace_header import show_workspace


def card(label: str, pair: Pair, help: str) -> None:
    """One score of the candidate, and how far it is from the reference's."""
    value = "–" if pair.candidate is None else f"{pair.candidate:.4f}"
    gap = None if pair.gap is None else f"{pair.gap:+.4f}"
    against = None if pair.reference is None else f"reference {pair.reference:.4f}"
    st.metric(label, value, gap, border=True, help=help, delta_description=against)


def show_headline(found: Headline) -> None:
    thresholds = [
        f"{one:.2f}" if one is not None else "–"
        for one in (found.thresholds.candidate, found.thresholds.reference)
    ]
    tuned = f"At the threshold tuned on validation: candidate {thresholds[0]}, reference {thresholds[1]}. A run without a validation run of the same configuration has none."
    first, second, third, fourth = st.columns(4)
    with first:
        card(
            "Macro F1 @0.5",
            found.macro_f1,
            "Mean F1 over all codes; a code is assigned where its probability exceeds 0.5.",
        )
    with second:
        card("Micro F1 @0.5", found.micro_f1, "F1 of all decisions pooled, at threshold 0.5.")
    with third:
        card("Macro F1, tuned", found.tuned_macro_f1, tuned)
    with fourth:
        card("Micro F1, tuned", found.tuned_micro_f1, tuned)
    furthest = (
        "" if found.max_abs_difference is None else f"; logits differ by up to {found.max_abs_difference:.3g}"
    )
    st.caption(
        f"On {found.documents:,} shared notes, {found.flipped:,} of {found.decisions:,} decisions differ{furthest}. "
        "A gap is candidate − reference."
    )
    for remark in found.remarks:
        st.caption(safe_text(remark))


def show_gap() -> None:
    """The scores of two runs, or what is still missing for them."""
    options = runs_on_offer()
    if not any(offer.split in ("test", None) for offer in options):
        if not active:
            st.info(
                "Nothing has been computed yet: start with a run of the test split.", icon=":material/info:"
            )
            st.page_link(page_path("inference"), label="Compute a run", icon=":material/play_circle:")
        return
    pair = pick_pair()
    if pair is None:
        return
    try:
        show_headline(headline_of(*pair, options, workspace))
    except ShifamindError as error:
        show_error(error)


def show_next_steps() -> None:
    named = {entry.name: entry for entry in present_pages()}
    with st.container(horizontal=True):
        for entry in PAGES:
            if entry.name in named and entry.section != "Run":
                st.page_link(str(entry.path), label=entry.question, icon=entry.icon)


st.title("ShifaMind diagnostics")
directory = show_workspace()
workspace = state.current_workspace()
found = inspection.inspection_of(workspace) if directory is not None else None
active = show_jobs(workspace)
for kind in ("inspect", "predict"):
    show_failure(workspace, kind)

st.header("The gap")
show_gap()
show_next_steps()
with st.expander("Bring a run from another machine", icon=":material/upload:"):
    upload_reference()

if directory is not None:
    st.header("What is loaded")
    for problem in references_on_offer(workspace)[1]:
        show_error(problem)
    if found is None:
        st.caption("The checkpoint is being looked at; this fills by itself.")
    else:
        inspection.show_inspection(found)
