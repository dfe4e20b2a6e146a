"""Runs from a person's computer: kept in the cache, with the run directory that they were brought to."""

from collections.abc import Callable
from typing import Any, Literal

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

FORMATS = ", ".join(EXTENSIONS)
CONVERTED = "It holds probabilities: they were turned back into logits, and where one is stored as exactly 0 or 1 its logit is not known."


def upload_reference(
    select_as: Literal["candidate", "reference"] | None = REFERENCE, key: str = "upload"
) -> None:
    """Take a run from the person's computer and keep it in the cache, so that it outlives a reload.

    A new upload becomes the choice of the picker whose key is `select_as`. A refused file is one line and
    changes nothing else.
    """
    help = (
        f"A run file (.safetensors), or scores as {', '.join(EXTENSIONS[1:])}. It belongs to this run directory. "
        "`python -m shifamind_core capture` prints the few lines that save one on any machine."
    )
    file = _ask_file(f"Upload a run ({FORMATS})", key, help, _take_upload, select_as)
    if file is not None:
        st.caption(f"{safe_text(file.name, 80)} is kept in the cache: a reload will not lose it.")
        if st.session_state.get(f"{key}.converted"):
            st.caption(CONVERTED)


def _ask_file(label: str, key: str, help: str, take: Callable[..., None], *args: Any) -> Any:
    """A file that was taken, or `None`. One that is refused goes, and the line that says why stays until the next.

    Which formats there are is not left to the browser: what it refuses, it does without a visible word.
    """
    turn = st.session_state.get(f"{key}.turn", 0)
    widget = f"{key}.{turn}" if turn else key

    def taken() -> None:
        file = st.session_state[widget]
        st.session_state[f"{key}.problem"] = None
        if file is None:
            return
        try:
            take(key, file, *args)
        except ShifamindError as error:
            st.session_state[f"{key}.problem"] = str(error)
            st.session_state[f"{key}.turn"] = turn + 1

    file = st.file_uploader(label, key=widget, on_change=taken, help=help)
    if (problem := st.session_state.get(f"{key}.problem")) is not None:
        show_error(problem)
    return file


def _take_upload(key: str, file: Any, select_as: str | None) -> None:
    """Runs before the page does, so that the pickers already offer the new run."""
    workspace = state.current_workspace()
    run = read_upload(file.name, file.getvalue())
    id = RunCache(workspace.cache).store_upload(run, workspace.owner)
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
    help = (
        f"The same model's run over the validation notes, with labels ({FORMATS}): the threshold is tuned on it, and the uploaded run is "
        "scored there."
    )
    _ask_file("Its validation run", key, help, _take_validation, str(uploads[chosen].source))


def _take_validation(key: str, file: Any, upload: str) -> None:
    """As `_take_upload`; a run that could not tune the upload is refused."""
    cache = RunCache(state.current_workspace().cache)
    validation = read_upload(file.name, file.getvalue())
    require_validation(cache.load(upload), validation)
    cache.attach_validation(upload, validation)
