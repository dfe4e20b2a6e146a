"""What is kept here, and how much room does it take?"""

import streamlit as st

from shifamind_core.errors import ShifamindError
from shifamind_core.ui.session import state
from shifamind_core.ui.session.offers import what_is_said
from shifamind_core.ui.storage.kept import Row, delete, rows, summary, table
from shifamind_core.ui.storage.labelling import ask_label
from shifamind_core.ui.widgets.pick_runs import runs_on_offer, show_error

CHOSEN = "storage.chosen"


def delete_now(chosen: list[Row]) -> None:
    try:
        delete(chosen, cache)
        st.session_state[CHOSEN] = []
    except ShifamindError as error:
        show_error(error)


st.title("Storage")
workspace = state.current_workspace()
cache = workspace.cache
st.caption(
    "Runs of every run directory, with what replays and jobs left. No note's text is among it. Beyond the limit, what was used least "
    "recently goes first, uploads last, and never what a page shows."
)
said, problems = what_is_said(workspace)
for problem in problems:
    show_error(problem)
shown = rows(cache, said)
references = [offer for offer in runs_on_offer(archived=True) if offer.kind == "reference"]
titles = {row.label_key: row.title for row in shown if row.label_key is not None}
titles |= {offer.label_key: offer.label for offer in references if offer.label_key not in titles}
if titles and not problems:
    with st.expander("Name, note, tags, archive", icon=":material/label:"):
        ask_label(titles, said, cache)
if not shown:
    st.info("Nothing is kept yet. What is computed or uploaded will be listed here.", icon=":material/info:")
    st.stop()
st.markdown(f"**{summary(shown, cache)}**")
st.dataframe(
    table(shown),
    hide_index=True,
    width="stretch",
    column_config={"Last used (UTC)": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm")},
)
with st.container(horizontal=True, vertical_alignment="bottom"):
    by_key = {row.key: row for row in shown}
    chosen = st.multiselect("To delete", list(by_key), key=CHOSEN, format_func=lambda one: by_key[one].title)
    with st.popover("Delete", icon=":material/delete:", disabled=not chosen):
        st.write(
            f"{len(chosen)} of the rows above go. What was computed can be computed again; an upload cannot."
        )
        st.button(
            "Delete them now", type="primary", on_click=delete_now, args=([by_key[one] for one in chosen],)
        )
    with st.popover("Delete everything", icon=":material/delete_forever:"):
        st.write("Computed runs can be computed again; uploads, replays and results of jobs are gone.")
        st.button("Delete everything now", type="primary", on_click=delete_now, args=(shown,))
