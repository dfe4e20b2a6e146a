"""Foreign `.pt` files, opened by a short-lived subprocess (`_read_torch.py`)."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.assemble import shortened
from shifamind_core.runs.limits import LARGEST_ARRAYS
from shifamind_core.runs.nested import ARRAY_NAMES, Nested

SCRIPT = Path(__file__).with_name("_read_torch.py")
TIME_LIMIT_SECONDS = 120.0  # importing torch from a cold disk takes most of it
MEMORY_BYTES = 1 << 30  # beyond what an imported torch uses, and four times the file


def read_torch(
    name: str, source: Path, time_limit_seconds: float = TIME_LIMIT_SECONDS
) -> tuple[Nested, list[str] | None, list[str]]:
    """The tensors of a `.pt` file as arrays, nested as they were saved, its `codes`, and the names of what is no tensor.

    Raises
    ------
    ShifamindError
        Anything but tensors, a damaged file, or one that takes too much memory or time.
    """
    with tempfile.TemporaryDirectory(prefix="shifamind-") as folder:
        target = Path(folder, "arrays.safetensors")
        request = {
            "source": str(source),
            "target": str(target),
            "largest_bytes": LARGEST_ARRAYS,
            "memory_bytes": MEMORY_BYTES + 4 * source.stat().st_size,
        }
        _convert(name, request, time_limit_seconds)
        with safetensors.safe_open(target, framework="numpy") as file:
            arrays = {part: file.get_tensor(part) for part in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
    others: list[str] = []
    nested = _nested(name, json.loads(metadata["outline"]), arrays, others)
    return nested, json.loads(metadata["codes"]), others


def _nested(name: str, outline: Any, arrays: dict[str, np.ndarray], others: list[str]) -> Any:
    """The outline with the arrays in their places; what is no tensor is left out, unless its name says that it should be."""
    if isinstance(outline, int):
        return arrays[str(outline)]
    if isinstance(outline, list):
        return [_nested(name, item, arrays, others) for item in outline if not isinstance(item, str)]
    for key, value in outline.items():
        if isinstance(value, str):
            if key in ARRAY_NAMES:
                raise ShifamindError(f"{name} holds a {value} under {key!r}; expected a tensor.")
            others.append(key)
    tensors = {key: value for key, value in outline.items() if not isinstance(value, str)}
    return {key: _nested(name, value, arrays, others) for key, value in tensors.items()}


def _convert(name: str, request: dict[str, object], time_limit_seconds: float) -> None:
    # The packages of this process, wherever they lie; no GPU for a foreign file; one thread, since the work is copying.
    path = os.pathsep.join(part for part in sys.path if part)
    environment = os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    try:
        process = subprocess.run(
            [sys.executable, "-P", str(SCRIPT)],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=time_limit_seconds,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise ShifamindError(
            f"{name} could not be read within {time_limit_seconds:g} seconds. Save it as .safetensors or .npz."
        ) from error
    if process.returncode == 2 and process.stdout:
        raise ShifamindError(f"{name} {shortened(process.stdout, 400)}")
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        reason = shortened(lines[-1], 200) if lines else f"the reader ended with status {process.returncode}"
        raise ShifamindError(f"{name} is no sound PyTorch file ({reason}). Save or copy it again.")
