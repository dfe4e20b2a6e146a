"""Layer profiles on a page: ask for one, see it, look at one layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import streamlit as st

from shifamind_core import jobs
from shifamind_core.analysis.layer_divergence import CLEAR_FACTOR
from shifamind_core.figures.layers import TITLES, Measure, depth_names, layers_figure
from shifamind_core.jobs import JobState
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.measurements import layers_table
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import plain_text, safe_text
from shifamind_core.ui.widgets.charts import show_figure
from shifamind_core.ui.widgets.choices import CASINGS, KEEP
from shifamind_core.ui.widgets.jobs import active_jobs
from shifamind_core.ui.widgets.measured_on import show_measured_on
from shifamind_core.ui.widgets.tables import show_table

KINDS = {"precision": "Precision policies", "attention": "Attention: eager against SDPA"}
USUAL = ("fp32", "tf32", "emulated-tf32", "bf16-autocast")
MOST_NOTES = 64
MODULE, PROFILE, NEWEST = "layers.module", "layers.profile", "layers.newest"
COLUMNS = ("policy", "relative_error", "input_error", "inherited_error", "own_error", "excess", "mean", "std", "absmax",
           "non_finite")  # fmt: skip
NEIGHBOURS = 3  # modules on either side


def ask_layers(policies: Sequence[str], splits: Sequence[str]) -> dict[str, Any] | None:
    """What to compare, named as a `layers` job takes it; `None` while there is nothing to compare."""
    kind = st.segmented_control(
        "Compare", list(KINDS), default="precision", format_func=KINDS.__getitem__, key="layers.kind", required=True, **KEEP
    )  # fmt: skip
    with st.container(horizontal=True):
        if kind == "attention":
            against = _select("Under", policies, "fp32", "layers.under")
            chosen = [against]
        else:
            usual = [name for name in USUAL if name in policies]
            chosen = st.multiselect("Policies", policies, default=usual, key="layers.policies", placeholder="Choose", width=355, **KEEP)  # fmt: skip
            against = _select("Against", policies, "fp64", "layers.against")
            chosen = [name for name in chosen if name != against]
        casing = st.selectbox(
            "Casing", list(CASINGS), format_func=CASINGS.__getitem__, key="layers.casing", width=165, **KEEP
        )
        notes = st.number_input(
            "Notes", min_value=1, max_value=MOST_NOTES, value=4, key="layers.notes", width=100, **KEEP
        )
    if not chosen:
        return None
    return {
        "policies": chosen,
        "against": against,
        "attention": "eager" if kind == "attention" else "sdpa",
        "split": "test" if "test" in splits or not splits else splits[0],
        "notes": int(notes),
        "lowercase": casing,
    }


def finished_profiles(workspace: Workspace) -> list[JobState]:
    """The `layers` jobs of the selected run directory that have a result, newest first."""
    return [
        job
        for job in jobs.list_jobs(workspace.cache)
        if (job.kind, job.status) == ("layers", "done") and job.result and workspace.owns(job.spec)
    ]


def last_layers(workspace: Workspace) -> Mapping[str, Any] | None:
    """The JSON of the newest layer profiles of the selected run directory."""
    finished = finished_profiles(workspace)
    return finished[0].result if finished else None


def pick_profile(finished: Sequence[JobState]) -> Mapping[str, Any]:
    """The newest result, or another one where there are several; one that has just come in is shown at once."""
    by_id = {job.id: job for job in finished}
    newest = finished[0].id
    if st.session_state.get(NEWEST) != newest:
        st.session_state[NEWEST] = st.session_state[PROFILE] = newest
    if len(by_id) > 1:
        newest = st.selectbox("Profile", list(by_id), format_func=lambda one: _title(by_id[one]), key=PROFILE)
    return by_id[newest].result or {}


def show_profile(result: Mapping[str, Any], stem: str) -> None:
    """The figure, what it says, and one layer with its neighbours; then every module."""
    profiles = result["profiles"]
    measure = cast(
        Measure,
        st.segmented_control(
            "Show", list(TITLES), default="relative_error", format_func=TITLES.__getitem__, key="layers.measure", required=True
        ),
    )  # fmt: skip
    names = depth_names(profiles)
    if st.session_state.get(MODULE) not in names:
        st.session_state[MODULE] = _first_of_interest(profiles, names)
    st.markdown(verdict(profiles))
    show_figure(
        layers_figure(profiles, measure, st.session_state[MODULE]),
        "layers",
        "Error after each module against depth, one line for each policy, on a logarithmic axis; a click shows one layer.",
        on_select=_take_click,
    )
    st.caption(HOW_TO_READ[measure])
    show_measured_on(
        result, f"{profiles[0]['notes']:,} notes", f"against {safe_text(profiles[0]['against'])}"
    )
    with st.expander("Policy by policy, in words", icon=":material/notes:"):
        for profile in profiles:
            st.markdown(f"**{safe_text(profile['policy'])}**: {safe_text(profile['explanation'], 600)}")
    for policy, reason in (result.get("refused") or {}).items():
        st.markdown(f":material/block: **{safe_text(policy)}** was refused: {safe_text(reason)}")
    st.subheader("One layer")
    chosen = st.selectbox("Module", names, key=MODULE, help="Or click a point of the figure.", width=520)
    show_table(layer_table(profiles, chosen), COLUMNS)
    st.markdown(_layer_sentence(profiles, chosen))
    st.caption("Before and after it:")
    st.dataframe(neighbours_table(profiles, names, chosen), hide_index=True, placeholder="–")
    with st.expander("Every module", icon=":material/table_rows:"):
        table = layers_table(result)
        show_table(table, ("policy", "name", "kind", *COLUMNS[1:]), height=460)
    st.download_button(
        "Layers as CSV",
        lambda: csv_text(layers_table(result)),
        f"shifamind-layers-{stem}.csv",
        "text/csv",
        on_click="ignore",
        icon=":material/download:",
    )


def show_live(cache: Path) -> None:
    """The profiles that are done while others still run."""
    for job in active_jobs(cache, ("layers",)):
        if job.partial and job.partial.get("profiles"):
            figure = layers_figure(job.partial["profiles"])
            show_figure(
                figure, "layers-so-far", "Error after each module against depth, as far as it was measured."
            )


def verdict(profiles: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on all of them, as Markdown."""
    parted = [profile for profile in profiles if profile["first_divergence"]]
    if not parted:
        names = ", ".join(safe_text(profile["policy"]) for profile in profiles)
        most = max(
            (layer["excess"] or 0.0 for profile in profiles for layer in profile["layers"]), default=0.0
        )
        return (
            f"**No module parts** under {names}: each adds at most {most:.2g} times one rounding, as it amplifies it (sums of many "
            f"roundings were measured to reach 17 times; above {CLEAR_FACTOR:.0f} a module is named). What grows with depth is "
            "handed on, layer after layer."
        )
    return "  \n".join(
        f"**{safe_text(one['policy'])}**: {safe_text(one['explanation'], 600)}" for one in parted
    )


HOW_TO_READ: dict[Measure, str] = {
    "relative_error": (
        "Root mean square difference from the reference after each module, relative to the reference's size. That it grows with "
        "depth is inheritance: each module hands on what came in. A module that parts by itself is ringed."
    ),
    "excess": (
        "What a module adds to the error of its inputs (its reference twin is run on the same inputs), in units of the rounding "
        "that its format explains there. Around 1 and below it is rounding; above "
        f"{CLEAR_FACTOR:.0f} something else happens in this module: there it parts."
    ),
}


def layer_table(profiles: Sequence[Mapping[str, Any]], name: str) -> pd.DataFrame:
    """One row a profile: the columns of `COLUMNS` for that module."""
    rows = [
        {**layer, "policy": plain_text(profile["policy"], 40)}
        for profile in profiles
        for layer in profile["layers"]
        if layer["name"] == name
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def neighbours_table(
    profiles: Sequence[Mapping[str, Any]], names: Sequence[str], chosen: str
) -> pd.DataFrame:
    """The modules around the chosen one: `Module`, then the relative error of each profile, as text."""
    at = names.index(chosen)
    near = names[max(at - NEIGHBOURS, 0) : at + NEIGHBOURS + 1]
    columns: dict[str, list[str | None]] = {
        "Module": [f"{'→ ' if name == chosen else ''}{plain_text(name, 80)}" for name in near]
    }
    for profile in profiles:
        errors = {layer["name"]: layer["relative_error"] for layer in profile["layers"]}
        columns[plain_text(profile["policy"], 40)] = [_error_text(errors.get(name)) for name in near]
    return pd.DataFrame(columns)


def _error_text(value: float | None) -> str | None:
    return None if value is None else f"{value:.2e}"


def _layer_sentence(profiles: Sequence[Mapping[str, Any]], name: str) -> str:
    """What each policy does in this module, in words."""
    said = []
    for profile in profiles:
        layer = next((one for one in profile["layers"] if one["name"] == name), None)
        if layer is None or layer["excess"] is None:
            continue
        share = (
            "inherits all of its error"
            if not layer["own_error"]
            else f"adds {layer['own_error']:.1e} of its own"
        )
        said.append(
            f"{safe_text(profile['policy'])} {share} ({layer['excess']:.2g} times what rounding explains here), its inputs "
            f"brought {layer['inherited_error'] or 0:.1e}"
        )
    return "; ".join(said) + "." if said else "Nothing finite was measured in this module."


def _first_of_interest(profiles: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """The first divergence where there is one, else the module that adds most for its format."""
    parted = [profile["first_divergence"] for profile in profiles if profile["first_divergence"]]
    layers = [layer for profile in profiles for layer in profile["layers"] if layer["name"] in names]
    return parted[0] if parted else max(layers, key=lambda layer: layer["excess"] or 0.0)["name"]


def _take_click() -> None:
    """Runs before the page does: the clicked point's module becomes the chosen one."""
    points = st.session_state["chart.layers"].selection.points
    names = [name for point in points for name in _names_of(point.get("customdata"))]
    if names:
        st.session_state[MODULE] = names[0]


def _names_of(value: Any) -> list[str]:
    # a list, or a mapping from positions, by version
    inner = (
        list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
    )
    return [one for one in inner if isinstance(one, str)]


def _select(label: str, policies: Sequence[str], usual: str, key: str) -> str:
    index = list(policies).index(usual) if usual in policies else 0
    return st.selectbox(label, policies, index=index, key=key, width=145, **KEEP)


def _title(job: JobState) -> str:
    profiles = (job.result or {}).get("profiles") or [{}]
    compared = ", ".join(str(profile.get("policy")) for profile in profiles)
    finished = (job.finished_at_utc or job.created_at_utc)[:16].replace("T", " ")
    return plain_text(
        f"{compared} against {profiles[0].get('against')} · {profiles[0].get('notes')} notes · {finished} UTC",
        140,
    )
