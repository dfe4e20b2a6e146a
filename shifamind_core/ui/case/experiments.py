"""The five experiments of the case and its environment check: what is done here, with its result, and what is not."""

from dataclasses import dataclass

import streamlit as st

from shifamind_core.analysis.rungs import Ladder
from shifamind_core.analysis.thresholds import FIXED_THRESHOLD
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.run import Run
from shifamind_core.ui.session import cached
from shifamind_core.ui.session.measured import ladder_is_recorded, last_ladder, latest_job
from shifamind_core.ui.session.offers import Offer
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.site.navigation import page_path
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.pick_runs import load_run, runs_on_offer
from shifamind_core.ui.widgets.views import PARAMETER

FORCED = ("fp32", "portable")


@dataclass(frozen=True)
class Experiment:
    """One experiment: its result, or `None` while it was not run, and the page that runs or shows it."""

    title: str
    result: str | None
    page: str
    link: str
    view: str | None = None


def show_experiments(workspace: Workspace) -> None:
    """A line each: done or not, what came out, where to go."""
    for number, one in enumerate(experiments(workspace), 1):
        with st.container(horizontal=True, vertical_alignment="center"):
            done = one.result is not None
            badge = (
                ":green-badge[:material/check: Done]"
                if done
                else ":gray-badge[:material/radio_button_unchecked: Not run]"
            )
            told = f" {safe_text(one.result, 400)}" if one.result else ""
            st.markdown(f"{badge} **{number}. {one.title}.**{told}", width="stretch")
            st.page_link(
                page_path(one.page),
                label=one.link,
                icon=":material/arrow_forward:",
                query_params={PARAMETER: one.view} if one.view else None,
            )


def experiments(workspace: Workspace) -> tuple[Experiment, ...]:
    """The five, then the environment."""
    computed = [offer for offer in runs_on_offer("test") if offer.kind == "computed"]
    return (
        Experiment("FP32 forced", _forced(computed), "inference", "Run it"),
        Experiment("Deterministic mode", _deterministic(computed), "inference", "Run it"),
        Experiment("FP64", _fp64(workspace, last_ladder(workspace)), "diagnosis", "The ladder", "rounding"),
        Experiment("Layers profiled", _layers(workspace), "layers", "The layers"),
        Experiment("Logits of two GPUs compared", _logits(), "differences", "The differences"),
        Experiment("Environment checked", _environment(workspace), "overview", "What is loaded"),
    )


def _forced(computed: list[Offer]) -> str | None:
    """FP32 with TF32 off, as asked for and observed."""
    return _scored(next((offer for offer in computed if _policy(offer) in FORCED), None))


def _deterministic(computed: list[Offer]) -> str | None:
    flagged = [
        offer for offer in computed if offer.manifest.flags and offer.manifest.flags.deterministic_algorithms
    ]
    return _scored(next(iter(flagged), None))


def _policy(offer: Offer) -> str | None:
    return offer.manifest.policy and offer.manifest.policy.name


def _scored(offer: Offer | None) -> str | None:
    """What that run scores at 0.5."""
    run = None if offer is None else _loaded(offer)
    if offer is None or run is None or run.labels is None or run.non_finite:
        return None
    score = cached.evaluation(run, None, "seed").fixed
    return f"Macro F1 {score.macro_f1:.4f}, micro F1 {score.micro_f1:.4f} at 0.5 on {run.documents:,} notes ({offer.label})."


def _loaded(offer: Offer) -> Run | None:
    try:
        return load_run(offer)
    except ShifamindError:
        return None  # removed meanwhile


def _fp64(workspace: Workspace, ladder: Ladder | None) -> str | None:
    rung = ladder and next(
        (one for one in ladder.rungs if one.policy == "fp32" and one.max_abs is not None), None
    )
    if ladder is None or not rung:
        return None
    where = "recorded" if ladder_is_recorded(workspace) else "measured"
    return (
        f"FP32 is at most {rung.max_abs:.2g} a logit from FP64, and {rung.flips:,} of {rung.decisions:,} decisions differ "
        f"({where} on {ladder.device}, {ladder.documents:,} notes)."
    )


def _layers(workspace: Workspace) -> str | None:
    job = latest_job(workspace, "layers", "done")
    profiles = (job.result or {}).get("profiles") if job else None
    return str(profiles[0]["explanation"]) if profiles else None


def _logits() -> str | None:
    """A run computed here against one from another machine that says the same casing, where there are two."""
    offers = runs_on_offer("test")
    computed = [offer for offer in offers if offer.kind == "computed"]
    for theirs in (offer for offer in offers if offer.kind != "computed"):
        for ours in computed:
            alike = ours.manifest.tokenization and theirs.manifest.tokenization
            if alike and ours.manifest.tokenization.lowercase == theirs.manifest.tokenization.lowercase:  # type: ignore[union-attr]
                return _apart(ours, theirs)
    return None


def _apart(ours: Offer, theirs: Offer) -> str | None:
    runs = _loaded(ours), _loaded(theirs)
    if runs[0] is None or runs[1] is None:
        return None
    try:
        found = cached.comparison(runs[0], runs[1], FIXED_THRESHOLD)
    except ShifamindError:
        return None  # nothing in common
    difference = found.difference
    if difference.max_abs is None:
        return None
    return (
        f"{ours.label} against {theirs.label}: logits differ by at most {difference.max_abs:.2g}, "
        f"{found.decisions_flipped:,} decisions."
    )


def _environment(workspace: Workspace) -> str | None:
    job = latest_job(workspace, "inspect", "done")
    found = (job.result or {}) if job else {}
    environment, flags = found.get("environment") or {}, found.get("flags") or {}
    if not environment:
        return None
    known = [f"PyTorch {environment.get('torch')}"]
    known += [
        f"{title} {environment.get(name) or 'none'}"
        for name, title in (("cuda", "CUDA"), ("cudnn", "cuDNN"), ("gpu", "GPU"))
    ]
    tf32 = flags.get("cuda_matmul_allow_tf32")
    return (
        ", ".join(known)
        + ("" if tf32 is None else f", TF32 for products {'allowed' if tf32 else 'off'}")
        + "."
    )
