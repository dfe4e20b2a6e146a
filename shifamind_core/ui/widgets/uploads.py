"""Runs from a person's computer: kept in the cache, with the run directory that they were brought to."""

from typing import Literal

import streamlit as st

from shifamind_core.analysis.validation import require_validation
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.partner import VALIDATION_SPLITS
from shifamind_core.runs.uploads import EXTENSIONS, read_upload
from shifamind_core.ui.session import offers as _offers
from shifamind_core.ui.session import state
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.pick_runs import REFERENCE, runs_on_offer, show_error

CONVERTED = "It holds probabilities: they were turned back into logits, and where one is stored as exactly 0 or 1 its logit is not known."
UPLOAD_TYPES = [extension.removeprefix(".") for extension in EXTENSIONS]


def upload_reference(
    select_as: Literal["candidate", "reference"] | None = REFERENCE, key: str = "upload"
) -> None:
    """Take a run from the person's computer and keep it in the cache, so that it outlives a reload.

    A new upload becomes the choice of the picker whose key is `select_as`. A refused file is one line and
    changes nothing else.
    """
    file = st.file_uploader(
        "Upload a run",
        type=UPLOAD_TYPES,
        key=key,
        on_change=_take_upload,
        args=(key, select_as),
        help=f"A run file (.safetensors), or scores as {', '.join(UPLOAD_TYPES[1:])}. It belongs to this run directory. "
        "`python -m shifamind_core capture` prints the few lines that save one on any machine.",
    )
    problem = st.session_state.get(f"{key}.problem")
    if file is not None and problem is not None:
        show_error(problem)
    elif file is not None:
        st.caption(f"{safe_text(file.name, 80)} is kept in the cache: a reload will not lose it.")
        if st.session_state.get(f"{key}.converted"):
            st.caption(CONVERTED)


def _take_upload(key: str, select_as: str | None) -> None:
    """Runs before the page does, so that the pickers already offer the new run."""
    file = st.session_state[key]
    st.session_state[f"{key}.problem"] = None
    if file is None:
        return
    workspace = state.current_workspace()
    try:
        run = read_upload(file.name, file.getvalue())
        id = RunCache(workspace.cache).store_upload(run, workspace.owner)
    except ShifamindError as error:
        st.session_state[f"{key}.problem"] = str(error)
        return
    st.session_state[f"{key}.converted"] = bool(run.manifest.logits_from_probabilities)
    offer = _offers.offer_of_upload(workspace, id, run)
    if select_as is not None and offer is not None:
        st.session_state[select_as] = offer.key


def upload_validation(key: str = "validation") -> None:
    """Give an upload the validation run on which its threshold is tuned; nothing is shown while there is no upload."""
    uploads = {
        offer.key: offer
        for offer in runs_on_offer()
        if offer.kind == "uploaded" and offer.split not in VALIDATION_SPLITS
    }
    if not uploads:
        return
    chosen = st.selectbox(
        "Uploaded run to tune", list(uploads), key=f"{key}.of", format_func=lambda one: uploads[one].label
    )
    file = st.file_uploader(
        "Its validation run",
        type=UPLOAD_TYPES,
        key=key,
        on_change=_take_validation,
        args=(key, str(uploads[chosen].source)),
        help="The same model's run over the validation notes, with labels, in any of those formats: the threshold is "
        "tuned on it, and the uploaded run is scored there.",
    )
    problem = st.session_state.get(f"{key}.problem")
    if file is not None and problem is not None:
        show_error(problem)


def _take_validation(key: str, upload: str) -> None:
    """As `_take_upload`; a run that could not tune the upload is refused."""
    file = st.session_state[key]
    st.session_state[f"{key}.problem"] = None
    if file is None:
        return
    cache = RunCache(state.current_workspace().cache)
    try:
        validation = read_upload(file.name, file.getvalue())
        require_validation(cache.load(upload), validation)
        cache.attach_validation(upload, validation)
    except ShifamindError as error:
        st.session_state[f"{key}.problem"] = str(error)
