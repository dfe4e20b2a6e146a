"""Two manifests side by side on a page."""

import streamlit as st

from shifamind_core.report.diagnosis import manifests_table
from shifamind_core.runs.run import Run


def show_provenance(candidate: Run, reference: Run) -> None:
    """Every field that either manifest knows; at first only what differs or is known of one alone."""
    table = manifests_table(candidate, reference)
    differing = list(table["agreement"]).count("differs")
    st.caption(
        f"{differing} of {len(table)} fields differ. A GPU or a version that differs is no cause by itself: the findings "
        "above say what each difference can and cannot explain."
    )
    everything = st.toggle("Show the fields that agree, too", key="provenance.all")
    st.dataframe(
        table if everything else table[table["agreement"] != "same"],
        hide_index=True,
        placeholder="not known",
        column_config={"field": "Field", "candidate": "Candidate", "reference": "Reference", "agreement": ""},
    )
