"""What the worker saw in the run directory and on this machine, as the `inspect` command reports it."""

from typing import Any

import pandas as pd
import streamlit as st

from shifamind_core.errors import ShifamindError
from shifamind_core.model.architectures import title_of
from shifamind_core.precision.policy import POLICIES
from shifamind_core.ui.session.measured import latest_job
from shifamind_core.ui.session.state import Workspace
from shifamind_core.ui.site.first_run import ensure_job
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.pick_runs import show_error

ON_A_GPU = ("gpu", "cuda", "cudnn")  # said to be none where there is none: it is what people look for
SPELLING = {
    "bf16": "BF16", "cpu": "CPU", "cublas": "cuBLAS", "cuda": "CUDA", "cudnn": "cuDNN", "float32": "float32",
    "fp16": "FP16", "gpu": "GPU", "numpy": "NumPy", "nvidia": "NVIDIA", "pandas": "pandas", "sdpa": "SDPA",
    "tf32": "TF32", "torch": "PyTorch",
}  # fmt: skip


def inspection_of(workspace: Workspace) -> dict[str, Any] | None:
    """The latest inspection, starting one where this start of the server has none yet; `None` until it is done."""
    try:
        ensure_job(workspace, "inspect", workspace.source)
    except ShifamindError as error:
        show_error(error)
    done = latest_job(workspace, "inspect", status="done")
    return None if done is None else done.result


def policies_of(found: dict[str, Any] | None) -> dict[str, str | None]:
    """Every policy, with the reason why this machine refuses it, if it does; without an inspection none is refused yet."""
    offered = (found or {}).get("policies") or [{"name": name} for name in POLICIES]
    return {str(one["name"]): one.get("refused") for one in offered}


def show_inspection(found: dict[str, Any]) -> None:
    """Checks first, then checkpoint and machine side by side. Foreign text stays in tables or is escaped."""
    show_checks(found.get("checks", []))
    left, right = st.columns(2)
    with left:
        st.subheader("Checkpoint")
        show_facts(checkpoint_facts(found))
        st.subheader("Machine")
        absent = dict.fromkeys(ON_A_GPU, "none")
        known = {name: value for name, value in found.get("environment", {}).items() if value is not None}
        show_facts(_named(absent | known))
    with right:
        st.subheader("Numeric flags, as observed")
        show_facts(_named(found.get("flags", {})))


def show_checks(checks: list[dict[str, Any]]) -> None:
    """What needs attention in full, what is fine folded away."""
    fine = [check for check in checks if check.get("status") == "ok"]
    failed: dict[tuple[str, str], list[str]] = {}  # what fails several checks is said once
    for check in checks:
        if check not in fine:
            said = str(check.get("status")), str(check.get("message", ""))
            failed.setdefault(said, []).append(str(check.get("name", "")))
    for (status, message), names in failed.items():
        show = st.warning if status == "warning" else st.error
        show(f"**{safe_text(', '.join(names))}**: {safe_text(message, 1000)}")
    if fine:
        with st.expander(f"{len(fine)} of {len(checks)} checks passed", icon=":material/check_circle:"):
            show_facts({str(check.get("name")): str(check.get("message")) for check in fine})


def checkpoint_facts(found: dict[str, Any]) -> dict[str, str]:
    """What tells one checkpoint from another, as far as it is known."""
    tokenizer = found.get("tokenizer") or {}
    codes = found.get("codes")
    facts = {
        "Architecture": title_of(found.get("architecture")),
        "Model class": found.get("model_class"),
        "Parameters": _count(found.get("parameters")),
        "Codes": _count(len(codes) if isinstance(codes, list) else codes),
        "Epoch": found.get("epoch"),
        "Stored macro F1": _score(found.get("stored_macro_f1")),
        "Stored micro F1": _score(found.get("stored_micro_f1")),
        **{f"Notes in {name}": _count(size) for name, size in _splits(found).items()},
        "Library's casing here": casing_text(tokenizer),
        "Casing decided by": tokenizer.get("source"),
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def casing_text(tokenizer: dict[str, Any]) -> str | None:
    """The effective casing in words; `None` where it is not known."""
    lowercase = tokenizer.get("lowercase")
    return None if lowercase is None else "lower-cased" if lowercase else "cased"


def show_facts(facts: dict[str, str]) -> None:
    """Names and values as a small table, which reads no Markdown; nothing where there are none."""
    if not facts:
        return
    st.dataframe(
        pd.DataFrame({"Name": list(facts), "Value": list(facts.values())}),
        hide_index=True,
        width="stretch",
        height="content",
        column_config={"Name": st.column_config.TextColumn(width="small")},
    )


def _splits(found: dict[str, Any]) -> dict[str, Any]:
    splits = found.get("splits") or {}
    return splits if isinstance(splits, dict) else {}


def _named(values: dict[str, Any]) -> dict[str, str]:
    return {field_title(name): _plain(name, value) for name, value in values.items() if value is not None}


def field_title(name: str) -> str:
    """A record's field as a title.

    >>> field_title("cudnn_allow_tf32"), field_title("compute_capability")
    ('cuDNN allow TF32', 'Compute capability')
    """
    if name == "scikit_learn":
        return "scikit-learn"
    first, *rest = name.removesuffix("_bytes").split("_")
    return " ".join([SPELLING.get(first, first.capitalize()), *(SPELLING.get(word, word) for word in rest)])


def _plain(name: str, value: Any) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _count(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None


def _score(value: Any) -> str | None:
    return f"{value:.4f}" if isinstance(value, int | float) else None
