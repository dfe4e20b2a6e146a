"""Everything in one page, and as CSV."""

from functools import partial

import streamlit as st

from shifamind_core.analysis.thresholds import FIXED_THRESHOLD
from shifamind_core.errors import ShifamindError
from shifamind_core.html_report.report import html_report
from shifamind_core.report.files import CONTENTS, Selection, archive, csv_file
from shifamind_core.ui.layers.profiles import last_layers
from shifamind_core.ui.portability.certificate import last_certificate
from shifamind_core.ui.portability.probes import last_probes
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.measured import asked_about, ladder_is_recorded, last_ladder, last_replay
from shifamind_core.ui.session.state import current_workspace
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.pick_runs import load_run, pick_pair, show_error
from shifamind_core.ui.widgets.validation import validation_of

MOST_ROWS = 500  # of a preview

st.title("Report")
workspace = current_workspace()
pair = pick_pair()
if pair is None:
    st.stop()
try:
    candidate, reference = load_run(pair[0]), load_run(pair[1])
    ladder = last_ladder(workspace)
    try:
        comparison = cached.comparison(candidate, reference, FIXED_THRESHOLD)
    except ShifamindError:
        comparison = None  # runs with nothing in common: the report says so, and has the other tables
    selection = Selection(
        candidate,
        reference,
        validation_of(candidate),
        validation_of(reference),
        comparison=comparison,
        diagnosis=cached.diagnosis(candidate, reference, ladder),
        replay=last_replay(workspace, asked_about(workspace, candidate.manifest.split, pair[1]), reference),
        ladder=ladder,
        layers=last_layers(workspace),
        probes=last_probes(workspace),
        certificate=last_certificate(workspace),
    )
    made = cached.whole_report(selection)
except ShifamindError as error:
    show_error(error)
    st.stop()

stem = f"{candidate.digest[:8]}-{reference.digest[:8]}"
with st.container(border=True):
    st.markdown(
        "**One page to send or to keep**: the verdict and its four steps, scores, figures that can be saved as SVG or PNG, findings, "
        "settings, machines, and what was not tested. It opens without a network."
    )
    st.download_button(
        "The report as one page",
        partial(html_report, selection, made, ladder is not None and ladder_is_recorded(workspace)),
        f"shifamind-report-{stem}.html",
        "text/html",
        on_click="ignore",
        key="download.page",
        type="primary",
        icon=":material/download:",
    )
st.subheader("Tables")
st.caption(
    "Every row carries the digests of the runs it speaks of, or of the weights it was measured on; *runs* says once what they are. "
    "No note and no document id is in any file."
)
for name, contents in CONTENTS.items():
    if name not in made.tables:
        continue
    table = made.tables[name]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            f"{name}.csv",
            partial(csv_file, table),
            f"shifamind-{name}-{stem}.csv",
            "text/csv",
            on_click="ignore",
            key=f"download.{name}",
            width=200,
        )
        st.markdown(f"{contents} {len(table):,} row{'s' if len(table) > 1 else ''}.")
st.download_button(
    "All of them in one archive, with a README",
    partial(archive, made),
    f"shifamind-report-{stem}.zip",
    "application/zip",
    on_click="ignore",
    key="download.archive",
)
for remark in made.remarks:
    st.caption(safe_text(remark))
if made.tables:
    shown = st.segmented_control("Preview", list(made.tables), default=next(iter(made.tables)), required=True)
    table = made.tables[shown]
    st.dataframe(table.head(MOST_ROWS), hide_index=True, placeholder="")
    if len(table) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {len(table):,} rows; the file holds all.")
