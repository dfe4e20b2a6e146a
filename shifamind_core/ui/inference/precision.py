"""Precision as people think of it: a preset, and under it the switches that it throws. A switch that is moved names the policy."""

from typing import Any

import streamlit as st

from shifamind_core.precision.policy import POLICIES, PrecisionPolicy
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.choices import KEEP_IN_ADDRESS as KEEP

PRESET = "inference.policy"
AUTOCAST = {None: "Off", "bfloat16": "BF16", "float16": "FP16"}
WEIGHTS = {"float64": "FP64", "float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}
ATTENTIONS = {"sdpa": "SDPA", "eager": "Eager"}
# The policy that a switch makes. Each decides the format of matrix products, so no two are on at once.
OF_TF32 = {False: "fp32", True: "tf32"}
OF_AUTOCAST = {None: "fp32", "bfloat16": "bf16-autocast", "float16": "fp16-autocast"}
OF_WEIGHTS = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def ask_precision(found: dict[str, Any] | None) -> dict[str, Any]:
    """Policy, attention and the two switches beside it, named as `predict` takes them; `found` is the inspection."""
    offered = (found or {}).get("policies") or [
        {"name": policy.name, "description": policy.description} for policy in POLICIES.values()
    ]
    allowed = {one["name"]: one["description"] for one in offered if not one.get("refused")}
    refused = {one["name"]: one["refused"] for one in offered if one.get("refused")}
    names = list(allowed)
    chosen = st.selectbox(
        "Precision",
        names,
        index=names.index("fp32") if "fp32" in names else 0,
        key=PRESET,
        help="A preset throws the switches below; a switch that you move chooses the preset that it makes.",
        **KEEP,
    )
    st.caption(safe_text(allowed[chosen]))
    policy = POLICIES.get(chosen, POLICIES["fp32"])
    _show_formats(policy, names, refused)
    answer = {
        "policy": chosen,
        "deterministic": _ask_switch("Deterministic algorithms", "deterministic", policy.deterministic),
        "cudnn_benchmark": _ask_switch("cuDNN benchmark", "benchmark", policy.cudnn_benchmark),
        "attention": st.radio(
            "Attention",
            list(ATTENTIONS),
            format_func=ATTENTIONS.__getitem__,
            horizontal=True,
            key="inference.attention",
            **KEEP,
        ),
    }
    if policy.math_attention:
        st.caption(
            f"{safe_text(chosen)} has SDPA compute attention in its plain way, pads in full and keeps the batch."
        )
    for name, reason in refused.items():
        st.caption(f":material/block: **{safe_text(name)}** is refused here: {safe_text(reason)}")
    return answer


def _show_formats(policy: PrecisionPolicy, names: list[str], refused: dict[str, str]) -> None:
    """The switches as the policy has them, whatever they were before."""
    special = policy.bitwise or policy.emulate is not None or policy.tf32 is None
    st.session_state["inference.tf32"] = bool(policy.tf32)
    st.session_state["inference.autocast"] = policy.autocast
    st.session_state["inference.weights_dtype"] = policy.weights
    st.toggle(
        "TF32",
        key="inference.tf32",
        on_change=_take,
        args=(OF_TF32, "tf32"),
        disabled="tf32" not in names,
        help=safe_text(
            refused.get("tf32")
            or "Matrix products of FP32 numbers through tensor cores, which round their inputs."
        ),
    )
    formats: tuple[tuple[str, str, dict[Any, str], dict[Any, str], str], ...] = (
        ("Autocast", "autocast", OF_AUTOCAST, AUTOCAST, "Matrix products in half precision; weights stay in FP32."),
        ("Weights", "weights_dtype", OF_WEIGHTS, WEIGHTS, "Weights and everything that is computed with them."),
    )  # fmt: skip
    for label, switch, policies, words, help in formats:
        st.segmented_control(
            label,
            [dtype for dtype, name in policies.items() if name in names],
            format_func=words.__getitem__,
            key=f"inference.{switch}",
            on_change=_take,
            args=(policies, switch),
            required=True,
            help=help,
        )
    if special:
        st.caption(
            "TF32 is left as this machine has it."
            if policy.tf32 is None
            else "This preset computes in a way of its own; a switch that you move leaves it."
        )


def _take(policies: dict[Any, str], switch: str) -> None:
    """Runs before the page does: the moved switch's policy becomes the preset."""
    st.session_state[PRESET] = policies[st.session_state[f"inference.{switch}"]]


def _ask_switch(label: str, name: str, decided: bool | None) -> bool | None:
    """`True` where it is switched on; `None` leaves what the policy says, which is shown where it says anything."""
    if decided is not None:
        st.session_state[f"inference.{name}.decided"] = decided
        st.toggle(label, key=f"inference.{name}.decided", disabled=True, help="This preset decides it.")
        return None
    on = st.toggle(label, key=f"inference.{name}", **KEEP)
    return True if on else None
