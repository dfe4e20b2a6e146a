"""The answer on a page: what it was, what that means, what to do."""

import streamlit as st

from shifamind_core.diagnosis.answer import Answer
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.badges import shown_badge


def show_answer(said: Answer) -> None:
    """The headline with how well it is shown, and below it plain words; the numbers stand elsewhere."""
    st.subheader(f"{safe_text(said.sentence, 200)} {shown_badge(said.shown)}", anchor=False)
    st.markdown(safe_text(said.meaning or said.support, 900))
    if said.action:
        st.markdown(f":material/science: **What to do:** {safe_text(said.action, 600)}")
