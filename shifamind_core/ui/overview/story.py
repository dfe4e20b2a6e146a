"""The answer at the head of the overview: one sentence, and the four steps that lead there, each with its number."""

from typing import Any

import streamlit as st

from shifamind_core.analysis.rungs import Ladder
from shifamind_core.html_report.story import bound_of, tell
from shifamind_core.runs.run import Run
from shifamind_core.ui.overview.headline import Headline
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.measured import ladder_is_recorded
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.site.navigation import page_path
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.answer import show_answer
from shifamind_core.ui.widgets.views import PARAMETER, View


def show_story(
    workspace: Workspace,
    found: Headline,
    runs: tuple[Run, Run],
    ladder: Ladder | None,
    replay: dict[str, Any] | None,
) -> None:
    """The sentence and the steps; they follow every ladder and every replay at once."""
    comparison = found.comparison
    labelled = comparison.macro_f1.gap is not None
    diagnosis = cached.diagnosis(*runs, ladder)
    story = tell(
        comparison,
        cached.gap_intervals(*runs) if labelled else None,
        bound_of(comparison, ladder, cached.proof),
        diagnosis,
        ladder,
        replay,
        ladder is not None and ladder_is_recorded(workspace),
    )
    # The page, and its view, that has the rest of each step.
    places: tuple[tuple[str, str, View | None], ...] = (
        ("codes", "Which codes carry it", None) if labelled else ("differences", "See the differences", None),
        ("diagnosis", "The bound", "rounding"),
        ("diagnosis", "The evidence", "looks"),
        ("diagnosis", "All that was tried" if replay else "Start a replay", "replay"),
    )
    with st.container(border=True):
        show_answer(story.answer)
        for number, (column, step, (page, link, view)) in enumerate(
            zip(st.columns(4), story.steps, places, strict=True), 1
        ):
            with column:
                st.metric(f"{number}. {step.title}", step.number)
                st.caption(safe_text(step.line, 300))
                st.page_link(
                    page_path(page),
                    label=link,
                    icon=":material/arrow_forward:",
                    query_params={PARAMETER: view} if view else None,
                )
        if diagnosis.looked_at:
            st.caption(f"Step 3: {safe_text(diagnosis.looked_at)}")
