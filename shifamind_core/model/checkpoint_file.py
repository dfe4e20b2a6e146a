"""The content of a checkpoint's file, in whatever format it was saved."""

import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from shifamind_core.artifacts.regular_file import open_regular
from shifamind_core.artifacts.torch_file import LARGEST_BYTES
from shifamind_core.artifacts.torch_pickle import LEGACY, Other
from shifamind_core.errors import ShifamindError
from shifamind_core.model.torch_content import read_torch_file


def read_file(path: Path) -> tuple[dict[Any, Any], list[str]]:
    """What a checkpoint's file holds, tensors mapped from the disk, and remarks for people.

    Raises
    ------
    ShifamindError
        No such file; a file that is cut off, asks for anything but weights, or holds no dict. One line each.
    """
    if not path.exists():
        raise ShifamindError(f"The checkpoint {path} does not exist; copy it there or give its path.")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path), []
    content = read_torch_file(path)
    if not isinstance(content, dict):
        kind = content.kind if isinstance(content, Other) else type(content).__name__
        raise ShifamindError(
            f"{path.name} holds a {kind}; expected a dict with 'model_state_dict'. "
            "Save model.state_dict(), not the model."
        )
    with path.open("rb") as file:
        legacy = file.read(2 + len(LEGACY))[2:] == LEGACY
    return content, [f"{path.name} was written in the format of torch before 1.6."] if legacy else []


def one_line(value: object, length: int = 200) -> str:
    """A value of the file in a message: no line breaks, and not too much of it."""
    text = " ".join(str(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    os.close(open_regular(path, LARGEST_BYTES))
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if str(metadata.get("format", "")).startswith("shifamind-run"):
                raise ShifamindError(
                    f"{path.name} is a run file (logits), not a checkpoint; give the checkpoint."
                )
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ShifamindError(
            f"{path.name} cannot be read as safetensors, or was cut off; copy it again."
        ) from error
