"""Give a run a name, a note and tags, or archive it."""

from collections.abc import Mapping
from pathlib import Path

import streamlit as st

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.labels import LONGEST, NOTHING_SAID, RunLabel, say, tags_of
from shifamind_core.ui.widgets.pick_runs import show_error


def ask_label(titles: Mapping[str, str], said: Mapping[str, RunLabel], cache: Path) -> None:
    """A form for one run; `titles` are by label key, as the runs are named now."""
    key = st.selectbox("Run", list(titles), key="storage.run", format_func=titles.__getitem__)
    if key is None:
        return
    known = said.get(key, NOTHING_SAID)
    with st.form(f"storage.label.{key}", border=False):
        left, right = st.columns(2)
        name = left.text_input(
            "Name",
            known.name,
            max_chars=LONGEST["name"],
            placeholder="what distinguishes it, or its file's name",
        )
        tags = right.text_input("Tags, separated by commas", ", ".join(known.tags), placeholder="A100, test")
        note = st.text_area("Note", known.note, max_chars=LONGEST["note"], height=80)
        archived = st.checkbox(
            "Archived",
            known.archived,
            help="Kept, but offered by no page; it still tunes the runs it belongs to.",
        )
        saved = st.form_submit_button("Save", icon=":material/save:")
    if saved:
        try:
            say(
                cache,
                [key],
                name=" ".join(name.split()),
                note=note.strip(),
                tags=tags_of(tags),
                archived=archived,
            )
        except ShifamindError as error:
            show_error(error)
        else:
            st.rerun()
