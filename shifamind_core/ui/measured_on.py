"""Which model, on which machine: what every measured number on a page belongs to."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.errors import ShifamindError
from shifamind_core.ui.inspection import ARCHITECTURES
from shifamind_core.ui.state import Workspace
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
        ARCHITECTURES.get(str(model.get("architecture")), model.get("architecture")),
        f"{parameters:,} parameters" if isinstance(parameters, int) else None,
        f"weights {weights[:DIGITS]}" if isinstance(weights, str) else None,
        device,
    ]
    return " · ".join(plain_text(part, 80) for part in parts if part)


def show_measured_on(result: Mapping[str, Any], *more: str) -> None:
    """The line under a measurement; `more` is the page's own text."""
    st.caption(" · ".join([f"Measured on {safe_text(model_text(result))}", *more]))


def can_run(workspace: Workspace) -> bool:
    """Whether there is a checkpoint here to run; if not, one line why."""
    try:
        RunDirectory(workspace.run_directory)
    except ShifamindError as error:
        st.caption(f"Nothing can be run here: {safe_text(error)}")
        return False
    return True
