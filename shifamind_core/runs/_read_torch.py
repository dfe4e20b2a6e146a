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
DEEPEST, MOST_TENSORS = 4, 100_000


def main() -> None:
    """Read the request, open the file, write the arrays."""
    request = json.loads(sys.stdin.readline())
    limit_memory(request["memory_bytes"], request["largest_bytes"])
    source = Path(request["source"])
    arrays, outline, codes = parts(load(source), request["largest_bytes"])
    metadata = {"codes": json.dumps(codes), "outline": json.dumps(outline)}
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


def parts(content: Any, largest: int) -> tuple[dict[str, Any], Any, Any]:
    """The file's tensors as numbered arrays, the outline that says how they are nested, and its `codes`."""
    if not isinstance(content, torch.Tensor | Mapping | list | tuple):
        refuse(
            f"holds a {type(content).__name__}; expected a tensor, or a dict of tensors with 'logits' in it."
        )
    if isinstance(content, Mapping) and any(key in content for key in WEIGHTS):
        refuse("is a checkpoint, not a run. Put it into a run directory and score a split with it.")
    codes = content.get("codes") if isinstance(content, Mapping) else None
    if codes is not None and not (isinstance(codes, list) and all(isinstance(code, str) for code in codes)):
        refuse(f"has a {type(codes).__name__} for codes; expected a list of names.")
    tensors: list[torch.Tensor] = []
    outline = outlined(content, tensors)
    # A tensor may repeat one number by strides of 0: what counts is its size when laid out.
    if sum(tensor.numel() * max(tensor.element_size(), 4) for tensor in tensors) > largest:
        refuse("holds tensors that are too large. Save the logits and labels of one run alone.")
    return {str(i): array(tensor) for i, tensor in enumerate(tensors)}, outline, codes


def outlined(content: Any, tensors: list[torch.Tensor], depth: int = 0) -> Any:
    """The nesting in JSON: a tensor as its number, what is no tensor as the name of its type."""
    if isinstance(content, torch.Tensor):
        tensors.append(content)
        return len(tensors) - 1
    if depth > DEEPEST or len(tensors) > MOST_TENSORS:
        refuse(f"nests its tensors deeper than {DEEPEST} levels, or holds more than {MOST_TENSORS:,}.")
    if isinstance(content, Mapping):
        if not all(isinstance(key, str) for key in content):
            refuse("holds a dict whose keys are no names; expected a dict of tensors with 'logits' in it.")
        return {key: outlined(value, tensors, depth + 1) for key, value in content.items() if key != "codes"}
    if isinstance(content, list | tuple) and (
        not content or isinstance(content[0], torch.Tensor | Mapping | list | tuple)
    ):
        return [outlined(value, tensors, depth + 1) for value in content]
    return type(content).__name__


def array(value: torch.Tensor) -> Any:
    """A tensor as a NumPy array of its own; BF16 as float32, which holds it exactly."""
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
        refuse("holds a sparse, quantized, complex or empty tensor; expected dense ones of numbers.")
    value = value.float() if value.dtype == torch.bfloat16 else value
    return value.detach().clone(memory_format=torch.contiguous_format).numpy()


def refuse(reason: str) -> NoReturn:
    """One line for the person."""
    print(re.sub(r"\s+", " ", reason))
    sys.exit(2)


if __name__ == "__main__":
    main()
