"""What stands beside the scores of several runs: the settings that differ, and what the scores rest on."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from shifamind_core.analysis.comparison import RunComparison
from shifamind_core.runs.naming import differing
from shifamind_core.ui.session.offers import Offer
from shifamind_core.ui.text import plain_text, safe_text

MOST_NAMED = 4


def show_settings(offers: Sequence[Offer], expanded: bool = False) -> None:
    """Only what differs among the runs, as far as it is recorded; closed, its title names what differs."""
    distinct = {offer.label: offer.shown for offer in offers}
    if len(distinct) < 2:
        return
    rows = differing(distinct)
    if not rows:
        st.caption("No recorded setting differs between these runs.")
        return
    settings = [row["Setting"] for row in rows]
    more = f" and {len(settings) - MOST_NAMED} more" if len(settings) > MOST_NAMED else ""
    title = f"What differs between these runs: {', '.join(settings[:MOST_NAMED])}{more}"
    with st.expander(title, icon=":material/difference:", expanded=expanded):
        st.dataframe(
            pd.DataFrame([{name: plain_text(value, 100) for name, value in row.items()} for row in rows]),
            hide_index=True,
            width="stretch",
            column_config={"Setting": st.column_config.TextColumn(pinned=True)},
        )
        st.caption("Settings that are equal, or that no run recorded, are left out.")


def show_warnings(comparison: RunComparison) -> None:
    """What was assumed, left out or taken over to compare the two: beside their scores, since these rest on it."""
    said = [safe_text(one) for one in comparison.warnings]
    if said:
        body = (
            said[0] if len(said) == 1 else "These scores rest on:\n" + "".join(f"\n- {one}" for one in said)
        )
        st.warning(body, icon=":material/warning:")
