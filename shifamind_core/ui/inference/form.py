"""The settings of a prediction: what is chosen becomes the specification of a `predict` job."""

from typing import Any

import streamlit as st

from shifamind_core.ui.inference.precision import ask_precision
from shifamind_core.ui.text import safe_text
from shifamind_core.ui.widgets.choices import CASINGS
from shifamind_core.ui.widgets.choices import KEEP_IN_ADDRESS as KEEP
from shifamind_core.ui.widgets.inspection import casing_text

EFFECTIVE = {"true": "lower-cased", "false": "cased"}
PADDINGS = {"max_length": "To the full length", "longest": "To the longest note"}
LENGTHS = (512, 384, 256, 128)
LONGER = (1024, 2048, 4096)  # where a model has the positions
DEVICES = {"auto": "Best there is", "cpu": "CPU", "cuda": "GPU"}


def ask_settings(found: dict[str, Any] | None, splits: tuple[str, ...]) -> dict[str, Any]:
    """The choices, named as `predict` takes them. `found` is the inspection; without it nothing is refused yet."""
    left, middle, right = st.columns(3, gap="medium")
    with left:
        precision = ask_precision(found)
    with middle:
        tokenization = _ask_tokenization(found)
    with right:
        rest = _ask_batching(splits, has_gpu=(found or {}).get("environment", {}).get("device") != "cpu")
    return {**precision, **tokenization, **rest, **_ask_weights((found or {}).get("weights") or [])}


def lengths_of(found: dict[str, Any] | None) -> list[int]:
    """The lengths offered, the usual one first: those that the model has positions for, as far as that is known.

    >>> lengths_of({"positions": 512}), lengths_of({"positions": 130}), lengths_of({"positions": 2048})
    ([512, 384, 256, 128], [128, 130], [512, 384, 256, 128, 1024, 2048])
    """
    positions = (found or {}).get("positions")
    if not isinstance(positions, int):
        return list(LENGTHS)
    fitting = [length for length in (*LENGTHS, *LONGER) if length <= positions]
    return fitting if positions >= LENGTHS[0] else [*fitting, *({positions} - set(fitting))]


def _ask_weights(names: list[str]) -> dict[str, Any]:
    """Which weights, of a checkpoint that holds several; nothing to ask where it holds one."""
    if len(names) < 2:
        return {}
    chosen = st.selectbox(
        "Weights",
        names,
        format_func=lambda name: safe_text(name or "those at the top"),
        key="inference.weights",
        help="The checkpoint holds more than one set of weights, e.g. an average of them. The first is what is usually meant.",
        **KEEP,
    )
    return {"weights": None if chosen == names[0] else chosen}


def _ask_tokenization(found: dict[str, Any] | None) -> dict[str, Any]:
    casing = st.radio(
        "Casing",
        list(CASINGS),
        format_func=CASINGS.__getitem__,
        key="inference.casing",
        help="Of a model that ships only its vocabulary, transformers 5.0 to 5.2 keep the case; others lower it.",
        **KEEP,
    )
    default = casing_text((found or {}).get("tokenizer") or {})
    effective = EFFECTIVE.get(casing or "auto", default)
    st.caption(
        f"Effective: **{effective}**"
        if effective
        else "The effective casing is known once the checkpoint was looked at."
    )
    length = st.radio("Length in tokens", lengths_of(found), horizontal=True, key="inference.length", **KEEP)
    padding = st.radio(
        "Padding", list(PADDINGS), format_func=PADDINGS.__getitem__, key="inference.padding", **KEEP
    )
    return {"lowercase": casing, "max_length": length, "padding": padding}


def _ask_batching(splits: tuple[str, ...], has_gpu: bool) -> dict[str, Any]:
    order = [name for name in ("test", "val", "train") if name in splits] or ["test"]
    split = st.radio("Split", order, horizontal=True, key="inference.split", **KEEP)
    limit = st.number_input(
        "First notes only",
        min_value=0,
        value=0,
        step=100,
        key="inference.limit",
        help="0: all notes.",
        **KEEP,
    )
    batch_size = st.number_input(
        "Batch size",
        min_value=1,
        max_value=1024,
        value=16,
        key="inference.batch_size",
        help="Out of memory halves it, and says so.",
        **KEEP,
    )
    device = st.radio(
        "Device",
        [name for name in DEVICES if has_gpu or name != "cuda"],
        format_func=DEVICES.__getitem__,
        horizontal=True,
        key="inference.device",
        **KEEP,
    )
    return {"split": split, "limit": int(limit) or None, "batch_size": int(batch_size), "device": device}
