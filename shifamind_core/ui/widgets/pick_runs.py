"""Widgets that several pages share. Foreign text goes through `text.safe_text` here, so that no page forgets it."""

import streamlit as st

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.partner import VALIDATION_SPLITS
from shifamind_core.runs.run import Run
from shifamind_core.ui.session import offers as _offers
from shifamind_core.ui.session import state
from shifamind_core.ui.session.offers import Kind, Offer
from shifamind_core.ui.site.navigation import page_path
from shifamind_core.ui.text import safe_text

CANDIDATE, REFERENCE = "candidate", "reference"
ASKED = "The run that is asked about."
HELD = "The run that it is held against. Every gap and difference is candidate − reference."
FULL_PRECISION = ("fp32", "default", "portable")


def show_error(error: ShifamindError | str) -> None:
    """A known error, in its one line."""
    st.error(safe_text(error), icon=":material/error:")


def runs_on_offer(split: str | None = None, kind: Kind | None = None, archived: bool = False) -> list[Offer]:
    """The runs that can be chosen in this session, named among each other; runs of unknown split stay whatever `split` is
    asked for, archived ones only where they are asked for."""
    found = _offers.runs_on_offer(state.current_workspace())
    return _offers.named(
        [
            offer
            for offer in found
            if (split is None or offer.split in (split, None))
            and (kind is None or offer.kind == kind)
            and (archived or not offer.said.archived)
        ]
    )


def load_run(offer: Offer) -> Run:
    """The chosen run; arrays read-only, shared among sessions.

    Raises
    ------
    ShifamindError
        It was removed or damaged meanwhile.
    """
    return _offers.load_run(offer, state.current_workspace())


def pick_run(
    label: str,
    key: str,
    options: list[Offer] | None = None,
    default: Offer | None = None,
    help: str | None = None,
    link: bool = True,
) -> Offer | None:
    """One run; `None`, with what to do next, where there is none.

    `key` is also the parameter's name in links (`?candidate=1f3a…`), whose value is the digest's beginning.
    Pages that give the same key share the choice. With `link` the address names it.
    """
    options = runs_on_offer() if options is None else options
    if not options:
        show_no_runs()
        return None
    by_key = {offer.key: offer for offer in options}
    kept = st.session_state.get(key)
    if kept not in by_key:
        linked = st.query_params.get(key)
        _warn_of_missing([linked] if linked else [], by_key)
        fallback = default if default in options else options[0]
        kept = linked if linked in by_key else fallback.key
    # Written on every run: a page that opens for the first time would otherwise begin at the first option.
    st.session_state[key] = kept
    chosen = st.selectbox(
        label,
        list(by_key),
        key=key,
        help=help,
        format_func=lambda one: by_key[one].tagged,
        persist_state="session",
    )
    if link:
        st.query_params[key] = chosen
    return by_key[chosen]


def pick_runs(
    label: str,
    key: str,
    options: list[Offer] | None = None,
    default: list[Offer] | None = None,
    help: str | None = None,
) -> list[Offer]:
    """Any number of runs; the link's value is their keys, separated by commas."""
    options = runs_on_offer() if options is None else options
    if not options:
        show_no_runs()
        return []
    by_key = {offer.key: offer for offer in options}
    if key not in st.session_state:
        linked = [one for one in st.query_params.get(key, "").split(",") if one]
        _warn_of_missing(linked, by_key)
        usual = [offer.key for offer in (options[:2] if default is None else default) if offer.key in by_key]
        st.session_state[key] = [one for one in linked if one in by_key] or usual
    else:
        st.session_state[key] = [one for one in st.session_state[key] if one in by_key]
    chosen = st.multiselect(
        label,
        list(by_key),
        key=key,
        help=help,
        format_func=lambda one: by_key[one].tagged,
        persist_state="session",
    )
    if chosen:
        st.query_params[key] = ",".join(chosen)
    elif key in st.query_params:
        del st.query_params[key]
    return [by_key[one] for one in chosen]


def pick_pair(split: str = "test") -> tuple[Offer, Offer] | None:
    """Candidate and reference side by side, shared by all pages that compare; `None` where either is missing."""
    options = runs_on_offer(split)
    usual = default_pair(options)
    left, right = st.columns(2)
    with left:
        candidate = pick_run("Candidate", CANDIDATE, options, default=usual[0], help=ASKED, link=False)
    if candidate is None:
        return None
    with right:
        reference = pick_run("Reference", REFERENCE, options, default=usual[1], help=HELD, link=False)
    if reference is None:
        return None
    # Both at once: every change of the address is a step of the browser's history.
    st.query_params.update({CANDIDATE: candidate.key, REFERENCE: reference.key})
    return candidate, reference


def chosen_pair(options: list[Offer]) -> list[Offer]:
    """The pair that was chosen on another page or that the link names, as far as it is on offer; else the default one."""
    keys = [st.session_state.get(name) or st.query_params.get(name) for name in (CANDIDATE, REFERENCE)]
    found = [offer for key in keys for offer in options if offer.key == key]
    return found or [offer for offer in default_pair(options) if offer is not None]


def default_pair(options: list[Offer]) -> tuple[Offer | None, Offer | None]:
    """A run computed here, against the reference that differs most by its name: the cased one, where there is one;
    else the latest upload.

    Of the computed ones the latest over most notes, in full precision and with a validation run where there is one: a
    precision ladder leaves seven runs behind, often over a few notes, a certificate one that nothing tunes.
    """
    tunable = {
        offer.manifest.configuration_digest
        for offer in runs_on_offer(archived=True)
        if offer.split in VALIDATION_SPLITS
    }

    def usual(offer: Offer) -> tuple[int, bool, bool, bool]:
        policy, tokenization = offer.manifest.policy, offer.manifest.tokenization
        full = policy is not None and policy.name in FULL_PRECISION
        cased = tokenization is not None and tokenization.lowercase is False
        tuned = offer.manifest.configuration_digest in tunable
        return -offer.documents, not full, not tuned, cased and offer.kind != "computed"

    computed = sorted((offer for offer in options if offer.kind == "computed"), key=usual)
    candidate = next(iter([*computed, *sorted(options, key=usual)]), None)
    others = [offer for offer in options if offer.kind != "computed" and offer is not candidate]
    cased = [
        offer
        for offer in others
        if offer.manifest.tokenization and offer.manifest.tokenization.lowercase is False
    ]
    uploaded = [offer for offer in others if offer.kind == "uploaded"]
    reference = next(iter([*uploaded, *cased, *others, *computed[1:]]), candidate)
    return candidate, reference


def show_no_runs() -> None:
    """The empty case, and what to do about it."""
    st.info(
        "No run yet. Compute one, or upload one that you saved on another machine.", icon=":material/info:"
    )
    st.page_link(page_path("inference"), label="Compute a run", icon=":material/play_circle:")


def _warn_of_missing(keys: list[str], by_key: dict[str, Offer]) -> None:
    missing = [one for one in keys if one not in by_key]
    if missing:
        st.warning(
            f"This link names {'runs' if len(missing) > 1 else 'a run'} not on this machine, or archived: "
            f"{safe_text(', '.join(missing), 80)}. Another was chosen.",
            icon=":material/link_off:",
        )
