"""The subprocess that opens one uploaded `.pt` file: `python -P _read_torch.py`, a JSON request on standard input.

The only module of `runs` that imports torch, and no other module imports it. `torch.load` reads weights-only
here, and even so in a process of its own, under memory limits, which ends with the file: what leaves it is a
safetensors file of plain arrays, which the parent checks as it checks any upload. Exit status 2 is a refusal,
whose one line is on standard output.
"""

import json
import pickle
import re
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.numpy import save_file
from torch.serialization import get_unsafe_globals_in_checkpoint

WEIGHTS = ("model_state_dict", "state_dict")


def main() -> None:
    """Read the request, open the file, write the arrays."""
    request = json.loads(sys.stdin.readline())
    limit_memory(request["memory_bytes"], request["largest_bytes"])
    source = Path(request["source"])
    content = load(source)
    arrays, codes, others = parts(content, request["arrays"], request["largest_bytes"])
    metadata = {"codes": json.dumps(codes), "others": json.dumps(others)}
    save_file(arrays, request["target"], metadata)


def limit_memory(memory_bytes: int, file_bytes: int) -> None:
    """Limit the address space to what is in use now (torch is imported) plus `memory_bytes`; no core dumps."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes + (1 << 20), file_bytes + (1 << 20)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def load(source: Path) -> Any:
    """The file's content, weights-only. There is no fall-back to full pickles."""
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        refuse(
            f"holds more than tensors{unsafe(source)}, which is refused because pickled objects can run code. "
            "Save tensors only: torch.save({'logits': logits, 'labels': labels}, path), or numpy.savez."
        )


def unsafe(source: Path) -> str:
    """Which globals the pickle asks for, where that can be told (not for torch's format before 1.6)."""
    try:
        names = get_unsafe_globals_in_checkpoint(source)
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        return ""
    return f" ({', '.join(names[:3])})" if names else ""


def parts(content: Any, wanted: list[str], largest: int) -> tuple[dict[str, Any], Any, list[str]]:
    """The wanted tensors as arrays, `codes`, and the names of everything else. A bare tensor is `scores`."""
    if isinstance(content, torch.Tensor):
        content = {"scores": content}
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        refuse(
            f"holds a {type(content).__name__}; expected a tensor, or a dict of tensors with 'logits' in it."
        )
    if any(key in content for key in WEIGHTS):
        refuse("is a checkpoint, not a run. Put it into a run directory and score a split with it.")
    arrays = {key: array(key, content[key], largest) for key in (*wanted, "scores") if key in content}
    return arrays, content.get("codes"), [key for key in content if key not in (*arrays, "codes")]


def array(key: str, value: Any, largest: int) -> Any:
    """A tensor as a NumPy array of its own; BF16 as float32, which holds it exactly."""
    if not isinstance(value, torch.Tensor):
        refuse(f"holds a {type(value).__name__} under {key!r}; expected a tensor.")
    # A tensor may repeat one number by strides of 0: what counts is its size when laid out.
    if value.numel() * max(value.element_size(), 4) > largest:
        refuse(f"holds a tensor {key!r} of shape {tuple(value.shape)}, which is too large.")
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
        refuse(
            f"holds a sparse, quantized, complex or empty tensor under {key!r}; expected a dense one of numbers."
        )
    value = value.float() if value.dtype == torch.bfloat16 else value
    return value.detach().clone(memory_format=torch.contiguous_format).numpy()


def refuse(reason: str) -> NoReturn:
    """One line for the person."""
    print(re.sub(r"\s+", " ", reason))
    sys.exit(2)


if __name__ == "__main__":
    main()
