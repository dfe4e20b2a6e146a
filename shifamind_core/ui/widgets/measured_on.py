"""Which model, on which machine: what every measured number on a page belongs to."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from shifamind_core.analysis.rungs import Ladder
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import ShifamindError
from shifamind_core.model.architectures import title_of
from shifamind_core.precision.environment import Environment
from shifamind_core.runs.manifest import CheckpointRecord, Manifest
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.text import plain_text, safe_text

DIGITS = 8  # of a digest, for people


def model_text(result: Mapping[str, Any]) -> str:
    """Model and device of a measurement's JSON in one line, as far as they are known; not escaped.

    >>> model_text({"model": {"run_directory": "run_1", "architecture": "cls_fusion", "parameters": 1000}, "device": "cpu"})
    'run_1 · CLS fusion · 1,000 parameters · CPU'
    """
    model = result.get("model") or {}
    parameters, weights = model.get("parameters"), model.get("weights_digest")
    device = result.get("gpu") or str(result.get("device") or "").upper()
    parts = [
        model.get("run_directory"),
        title_of(model.get("architecture")),
        f"{parameters:,} parameters" if isinstance(parameters, int) else None,
        f"weights {weights[:DIGITS]}" if isinstance(weights, str) else None,
        device,
    ]
    return " · ".join(plain_text(part, 80) for part in parts if part)


def show_measured_on(result: Mapping[str, Any], *more: str) -> None:
    """The line under a measurement; `more` is the page's own text."""
    st.caption(" · ".join([f"Measured on {safe_text(model_text(result))}", *more]))


def candidate_text(manifest: Manifest) -> str:
    """The model that a run came of, as far as its manifest knows, in one line; not escaped.

    >>> candidate_text(Manifest(run_directory="run_1", split="test"))
    'run_1'
    """
    checkpoint, environment = manifest.checkpoint or CheckpointRecord(), manifest.environment or Environment()
    model = {**vars(checkpoint), "run_directory": manifest.run_directory}
    return model_text({"model": model, "device": environment.device, "gpu": environment.gpu})


def show_model(candidate: Manifest, reference: Manifest | None, ladder: Ladder | None) -> None:
    """Which model this page speaks of, and whether the others that it draws on are the same one."""
    ours = _weights(candidate)
    said = [f"Model of the candidate: **{safe_text(candidate_text(candidate) or 'not known')}**."]
    if reference is not None:
        said.append(f"The reference {_same(ours, _weights(reference))}.")
    if ladder is not None:
        said.append(
            f"The precision ladder {_same(ours, ladder.checkpoint)}, on {safe_text(ladder.device, 60)}, {ladder.documents:,} notes."
        )
    st.caption(" ".join(said))
    if ladder is not None and ours and ladder.checkpoint and ours != ladder.checkpoint:
        st.warning(
            "The precision ladder measured another checkpoint than the candidate's: its errors are not this model's. Run it again.",
            icon=":material/warning:",
        )


def _weights(manifest: Manifest) -> str | None:
    return manifest.checkpoint.weights_digest if manifest.checkpoint else None


def _same(ours: str | None, theirs: str | None) -> str:
    if not ours or not theirs:
        return (
            "names no weights to hold against these"
            if ours
            else "cannot be held against weights that are not known"
        )
    return (
        "has the same weights" if ours == theirs else f"has **other weights** ({safe_text(theirs[:DIGITS])})"
    )


def can_run(workspace: Workspace) -> bool:
    """Whether there is a checkpoint here to run; if not, one line why."""
    try:
        RunDirectory(workspace.run_directory)
    except ShifamindError as error:
        st.caption(f"Nothing can be run here: {safe_text(error)}")
        return False
    return True
