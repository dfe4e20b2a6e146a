"""Two manifests side by side on a page."""

import pandas as pd
import streamlit as st

from shifamind_core.diagnosis.evidence.manifests import Provenance
from shifamind_core.report.diagnosis import manifests_table
from shifamind_core.runs.run import Run
from shifamind_core.ui.text import plain_text, safe_text

WEIGHTS = {"decides": "can decide", "may": "may matter", "cannot": "cannot matter"}


def show_provenance(candidate: Run, reference: Run, provenance: Provenance) -> None:
    """What differs and what that can and cannot explain, then every field that either manifest knows."""
    for met in provenance.hazards:
        st.warning(
            f"{safe_text(met.hazard.library)} {safe_text(met.candidate)} made the candidate, {safe_text(met.reference)} the "
            f"reference. {safe_text(met.hazard.message)}",
            icon=":material/warning:",
        )
    if provenance.differences:
        st.dataframe(
            differences_table(provenance),
            hide_index=True,
            placeholder="",
            column_config={side: st.column_config.Column(width=110) for side in ("Candidate", "Reference")},
        )
    else:
        st.caption("No field that both manifests know differs.")
    st.caption("A GPU or a version that differs is a lead, never a cause by itself.")
    if st.toggle("Show every field of both manifests", key="provenance.all"):
        st.dataframe(
            manifests_table(candidate, reference),
            hide_index=True,
            placeholder="not known",
            column_config={
                "field": "Field",
                "candidate": "Candidate",
                "reference": "Reference",
                "agreement": "",
            },
        )


def differences_table(provenance: Provenance) -> pd.DataFrame:
    """One row a field that differs, the deciding ones first."""
    return pd.DataFrame(
        [
            {
                "Field": one.field,
                "Candidate": plain_text(one.candidate, 100),
                "Reference": plain_text(one.reference, 100),
                "Weight": WEIGHTS[one.weight],
                "Can explain": one.can_explain,
                "Cannot explain": one.cannot_explain,
            }
            for one in provenance.differences
        ]
    )
