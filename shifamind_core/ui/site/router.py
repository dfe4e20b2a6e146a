"""The script that Streamlit runs for every page. It lives away from `pages/`: see `gate`."""

from pathlib import Path

import streamlit as st

from shifamind_core import jobs
from shifamind_core.ui.session import state
from shifamind_core.ui.site.launch import access_page
from shifamind_core.ui.site.navigation import present_pages

ASSETS = Path(__file__).with_name("assets")

# A local picture: a `:material/…:` icon here would be fetched from the web.
st.set_page_config(
    page_title="ShifaMind diagnostics",
    page_icon=str(ASSETS / "favicon.png"),
    layout="wide",
)
st.html(ASSETS / "site.css")

sections: dict[str, list] = {}
for entry in present_pages():
    sections.setdefault(entry.section, []).append(
        st.Page(
            entry.path,
            title=entry.title,
            icon=entry.icon,
            url_path=entry.name,
            default=entry.name == "overview",
        )
    )
page = st.navigation(sections)
st.set_page_config(page_title=f"{page.title} · ShifaMind diagnostics")
st.sidebar.link_button("Sign out", access_page(), type="tertiary", icon=":material/logout:")
state.settle()
page.run()
jobs.keep_warm()  # somebody is there, who may start one
