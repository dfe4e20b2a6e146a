"""What is loaded, and how large is the gap?"""

import streamlit as st

from shifamind_core import jobs
from shifamind_core.analysis.comparison import Pair
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.cache import RunCache
from shifamind_core.ui.overview.headline import Headline, headline_of
from shifamind_core.ui.overview.story import show_story
from shifamind_core.ui.session import state
from shifamind_core.ui.session.measured import asked_about, last_ladder, last_replay
from shifamind_core.ui.session.offers import references_on_offer, what_is_said
from shifamind_core.ui.site.navigation import PAGES, page_path, present_pages
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets import inspection
from shifamind_core.ui.widgets.jobs import active_jobs, show_failure, show_jobs, start_job
from shifamind_core.ui.widgets.pick_runs import (
    load_run,
    pick_pair,
    runs_on_offer,
    show_error,
)
from shifamind_core.ui.widgets.side_by_side import show_settings, show_warnings
from shifamind_core.ui.widgets.uploads import upload_reference, upload_validation
from shifamind_core.ui.widgets.workspace import show_workspace


def card(label: str, pair: Pair, help: str) -> None:
    """One score of the candidate, and how far it is from the reference's."""
    value = "–" if pair.candidate is None else f"{pair.candidate:.4f}"
    gap = None if pair.gap is None else f"{pair.gap:+.4f}"
    against = None if pair.reference is None else f"reference {pair.reference:.4f}"
    st.metric(label, value, gap, border=True, height="stretch", help=help, delta_description=against)


def show_headline(found: Headline) -> None:
    """Four scores with their gaps, and one sentence on the decisions behind them."""
    comparison = found.comparison
    used = [
        "none" if one is None else f"{one:.2f}"
        for one in (found.thresholds.candidate, found.thresholds.reference)
    ]
    tuned = (
        "Each run at the threshold that its own validation run gives the best micro F1: "
        f"{used[0]} for the candidate, {used[1]} for the reference."
    )
    fixed = "A code is assigned where its probability is above 0.5."
    macro = comparison.aligned.macro_title
    cards = (
        (f"{macro} @0.5", comparison.macro_f1, f"Mean F1 over {comparison.aligned.over}. {fixed}"),
        ("Micro F1 @0.5", comparison.micro_f1, f"F1 of all decisions pooled. {fixed}"),
        (f"{macro}, tuned", found.tuned_macro_f1, tuned),
        ("Micro F1, tuned", found.tuned_micro_f1, tuned),
    )
    for column, (label, pair, help) in zip(st.columns(4), cards, strict=True):
        with column:
            card(label, pair, help)
    logits = comparison.aligned.candidate.logits
    furthest = comparison.difference.max_abs
    st.caption(
        f"On {logits.shape[0]:,} shared notes, {comparison.decisions_flipped:,} of {logits.size:,} decisions differ"
        + ("." if furthest is None else f"; logits differ by up to {furthest:.3g}.")
        + " Under each score: candidate − reference."
    )
    plain = [one for one in comparison.remarks if one not in comparison.warnings]
    st.caption("  \n".join(safe_text(remark) for remark in plain))


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
        candidate, reference = load_run(pair[0]), load_run(pair[1])
        found = headline_of(candidate, reference)
        replay = last_replay(workspace, asked_about(workspace, candidate.manifest.split, pair[1]), reference)
        show_story(workspace, found, (candidate, reference), last_ladder(workspace), replay)
        show_settings(pair)
        show_warnings(found.comparison)
        show_headline(found)
        show_next_steps()
    except ShifamindError as error:
        show_error(error)


def show_next_steps() -> None:
    named = {entry.name: entry for entry in present_pages()}
    with st.container(horizontal=True):
        for entry in PAGES:
            if entry.name in named and entry.section != "Run":
                st.page_link(str(entry.path), label=entry.question, icon=entry.icon)


def look_again() -> None:
    start_job(workspace, "inspect", {})


st.title("ShifaMind diagnostics")
directory = show_workspace()
workspace = state.current_workspace()
found = inspection.inspection_of(workspace) if directory is not None else None
active = active_jobs(workspace.cache)
show_gap()
show_jobs(workspace)
for kind in ("inspect", "predict"):
    show_failure(workspace, kind)
with st.expander("Bring a run from another machine", icon=":material/upload:"):
    upload_reference()
    upload_validation()

if directory is not None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("What is loaded", width="stretch")
        st.button("Look again", icon=":material/refresh:", on_click=look_again)
    stored = [*RunCache(workspace.cache).problems(), *jobs.damaged_jobs(workspace.cache)]
    for problem in [*references_on_offer(workspace)[1], *what_is_said(workspace)[1], *stored]:
        show_error(problem)
    if found is not None:
        inspection.show_inspection(found)
    elif any(job.kind == "inspect" for job in active):
        st.caption("The checkpoint is being looked at; this fills by itself.")
