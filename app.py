"""Launcher: Streamlit behind the access gate. `make run` and `streamlit run app.py` both come here."""

import streamlit as st

from shifamind_core.ui.site import launch

access = launch.access()

# Streamlit finds this assignment by reading the file: it has to stay literally `app = st.App(`.
app = st.App(
    launch.ROUTER,
    lifespan=launch.lifespan_with(access),
    middleware=[launch.gate(access), launch.compressed()],
)
