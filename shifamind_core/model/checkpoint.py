"""Read a checkpoint without running anything in it, and say what it holds."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from shifamind_core.artifacts.digests import file_sha256
from shifamind_core.artifacts.torch_pickle import Other
from shifamind_core.errors import ShifamindError
from shifamind_core.model.torch_content import read_torch_file
from shifamind_core.runs.manifest import CheckpointRecord

Architecture = Literal["cls_fusion", "concept_attention"]

# Parts of the state dict beside base_model, by which the two architectures are told apart.
PARTS: dict[Architecture, frozenset[str]] = {
    "cls_fusion": frozenset({"concept_classifier", "fusion_layer", "diagnosis_classifier"}),
    "concept_attention": frozenset(
        {"concept_embeddings", "fusion_modules", "concept_head", "diagnosis_head"}
    ),
}
HEADS: dict[Architecture, tuple[str, str]] = {
    "cls_fusion": ("diagnosis_classifier", "concept_classifier"),
    "concept_attention": ("diagnosis_head", "concept_head"),
}
STATE_DICT_KEYS = ("model_state_dict", "state_dict")
PREFIXES = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
OLD_BUFFER = "base_model.embeddings.position_ids"
LARGEST_EPOCH = 1_000_000_000
SCORES = ("macro_f1", "micro_f1", "concept_f1")

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint's content, checked.

    Attributes
    ----------
    state_dict : dict of str to Tensor
        On the CPU, in the dtype stored, names as in the model classes.
    architecture : str
        `cls_fusion` or `concept_attention`, told by the state dict's keys.
    code_count, concept_count, hidden_size : int
        From the shapes of the heads.
    fusion_layers : tuple of int
        Layers with a fusion module; empty for `cls_fusion`.
    codes : tuple of str, optional
        `config.top_50_codes`.
    epoch : int, optional
    scores : dict of str to float
        `macro_f1`, `micro_f1`, `concept_f1`, as far as stored: the author's, not computed here.
    config : dict
        The stored config, plain values.
    concept_embeddings : Tensor [concepts, hidden], optional
        A copy stored beside the state dict.
    non_finite : int
        How many weights are NaN or infinite.
    record : CheckpointRecord
    remarks : tuple of str
        What was assumed or mended on reading, for people.
    """

    path: Path
    state_dict: dict[str, Tensor]
    architecture: Architecture
    code_count: int
    concept_count: int
    hidden_size: int
    fusion_layers: tuple[int, ...]
    codes: tuple[str, ...] | None
    epoch: int | None
    scores: dict[str, float]
    config: dict[str, Any]
    concept_embeddings: Tensor | None
    non_finite: int
    record: CheckpointRecord
    remarks: tuple[str, ...]


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a `.pt` file weights-only: tensors, plain values and NumPy numbers, never code.

    The state dict may be the file itself or stand under `model_state_dict` or `state_dict`.

    Raises
    ------
    ShifamindError
        No such file; a file that is cut off or asks for anything but weights; a state dict of neither
        architecture; heads whose shapes do not fit. One line each.
    """
    path = Path(path)
    content = _load(path)
    remarks: list[str] = []
    state_dict = _state_dict(content, path.name, remarks)
    architecture = _architecture(state_dict, path.name)
    code_count, concept_count, hidden_size = _sizes(state_dict, architecture, path.name)
    fusion_layers = _fusion_layers(state_dict, path.name)
    config = content.get("config")
    config = {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}
    codes = _codes(config, code_count, path.name)
    scores = {key: number for key in SCORES if (number := _number(content.get(key))) is not None}
    epoch = _epoch(content.get("epoch"), remarks)
    non_finite = _non_finite(state_dict, remarks)
    _remark_dtypes(state_dict, remarks)
    embeddings = content.get("concept_embeddings") if _find_state_dict(content) is not content else None
    record = CheckpointRecord(
        file_sha256=file_sha256(path),
        weights_digest=weights_digest(state_dict),
        **rounded_digests(state_dict),
        architecture=architecture,
        parameters=sum(tensor.numel() for tensor in state_dict.values()),
        epoch=epoch,
        stored_macro_f1=scores.get("macro_f1"),
        stored_micro_f1=scores.get("micro_f1"),
    )
    return Checkpoint(
        path=path,
        state_dict=state_dict,
        architecture=architecture,
        code_count=code_count,
        concept_count=concept_count,
        hidden_size=hidden_size,
        fusion_layers=fusion_layers,
        codes=codes,
        epoch=record.epoch,
        scores=scores,
        config=config,
        concept_embeddings=embeddings.clone() if isinstance(embeddings, Tensor) else None,
        non_finite=non_finite,
        record=record,
        remarks=tuple(remarks),
    )


def weights_digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor, by name: it survives a re-saved file."""
    content = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()


ROUNDED = {"weights_digest_fp16": torch.float16, "weights_digest_bf16": torch.bfloat16}


def rounded_digests(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Digests of the weights rounded to FP16 and to BF16: equal for a checkpoint and for a copy of it saved in half.

    The dtype in which they are stored is no part of it, so that a copy that was widened again is recognised as well.
    """

    def digest(dtype: torch.dtype) -> str:
        content = hashlib.sha256()
        for name in sorted(state_dict):
            tensor = state_dict[name].detach().to("cpu", dtype).contiguous()
            content.update(f"{name} {tuple(tensor.shape)}\n".encode())
            content.update(tensor.flatten().view(torch.uint8).numpy().data)
        return content.hexdigest()

    with ThreadPoolExecutor(len(ROUNDED)) as both:  # hashing releases the interpreter lock
        return dict(zip(ROUNDED, both.map(digest, ROUNDED.values()), strict=True))


def _load(path: Path) -> dict[Any, Any]:
    if not path.exists():
        raise ShifamindError(f"The checkpoint {path} does not exist; copy it there or give its path.")
    content = read_torch_file(path)
    if not isinstance(content, dict):
        kind = content.kind if isinstance(content, Other) else type(content).__name__
        raise ShifamindError(
            f"{path.name} holds a {kind}; expected a dict with 'model_state_dict'. "
            "Save model.state_dict(), not the model."
        )
    return content


def _one_line(value: object, length: int = 200) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _find_state_dict(content: dict[Any, Any]) -> Any:
    """Under its key, or the content itself where it holds tensors alone."""
    found = next((content[key] for key in STATE_DICT_KEYS if key in content), None)
    if found is None and content and all(isinstance(value, Tensor) for value in content.values()):
        return content
    return found


def _state_dict(content: dict[Any, Any], name: str, remarks: list[str]) -> dict[str, Tensor]:
    found = _find_state_dict(content)
    if found is content:
        remarks.append(f"{name} is a bare state dict: no codes, epoch or scores are stored with it.")
    if not isinstance(found, dict) or not found:
        raise ShifamindError(f"{name} has no 'model_state_dict'; it has {_list(map(str, content))}.")
    wrong = next(
        (key for key, value in found.items() if not isinstance(key, str) or not isinstance(value, Tensor)),
        None,
    )
    if wrong is not None:
        value = found[wrong]
        kind = value.kind if isinstance(value, Other) else type(value).__name__
        raise ShifamindError(
            f"{name}: {_one_line(wrong, 60)!r} in the state dict is a {kind}; expected dense tensors by name."
        )
    state_dict = _without_prefix(found, remarks)
    if OLD_BUFFER in state_dict:
        del state_dict[OLD_BUFFER]
        remarks.append(
            f"{OLD_BUFFER}, a buffer that today's library does not keep, was left out; it decides nothing."
        )
    return {key: _own(key, tensor, name) for key, tensor in state_dict.items()}


def _without_prefix(state_dict: dict[str, Tensor], remarks: list[str]) -> dict[str, Tensor]:
    for _ in PREFIXES:
        for prefix, wrapper in PREFIXES.items():
            if all(key.startswith(prefix) for key in state_dict):
                state_dict = {key.removeprefix(prefix): tensor for key, tensor in state_dict.items()}
                remarks.append(f"The prefix {prefix!r} that {wrapper} puts before every key was taken off.")
    return dict(state_dict)


def _own(key: str, tensor: Tensor, name: str) -> Tensor:
    """The tensor in memory of its own, so that the file may change or go."""
    if tensor.dtype not in DTYPES:
        raise ShifamindError(
            f"{name}: {_one_line(key, 80)} is {tensor.dtype}; expected float32, float64, float16 or bfloat16."
        )
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _architecture(state_dict: dict[str, Tensor], name: str) -> Architecture:
    parts = Counter(key.split(".")[0] for key in state_dict)
    matching: list[Architecture] = [
        architecture for architecture, wanted in PARTS.items() if wanted <= set(parts)
    ]
    if len(matching) == 1 and "base_model" in parts:
        return matching[0]
    expected = " or ".join(
        f"{', '.join(sorted(wanted))} ({architecture})" for architecture, wanted in PARTS.items()
    )
    found = _list(f"{part} ({count})" for part, count in sorted(parts.items()))
    raise ShifamindError(
        f"{name} holds neither architecture: expected base_model with {expected}; found {found}."
    )


def _sizes(state_dict: dict[str, Tensor], architecture: Architecture, name: str) -> tuple[int, int, int]:
    """Codes, concepts and hidden size, from the heads."""
    diagnosis, concept = (_matrix(state_dict, f"{head}.weight", name) for head in HEADS[architecture])
    return diagnosis.shape[0], concept.shape[0], concept.shape[1]


def _matrix(state_dict: dict[str, Tensor], key: str, name: str) -> Tensor:
    tensor = state_dict.get(key)
    if tensor is None or tensor.ndim != 2 or not tensor.numel():
        raise ShifamindError(
            f"{name}: {key} is {'missing' if tensor is None else list(tensor.shape)}; expected a matrix."
        )
    return tensor


def _fusion_layers(state_dict: dict[str, Tensor], name: str) -> tuple[int, ...]:
    layers = {key.split(".")[1] for key in state_dict if key.startswith("fusion_modules.")}
    if not all(layer.isascii() and layer.isdigit() and len(layer) < 4 for layer in layers):
        raise ShifamindError(
            f"{name}: fusion_modules are named {_list(sorted(layers))}; expected layer numbers."
        )
    return tuple(sorted(map(int, layers)))


def _codes(config: dict[str, Any], count: int, name: str) -> tuple[str, ...] | None:
    codes = config.get("top_50_codes")
    if codes is None:
        return None
    if not isinstance(codes, list | tuple) or not all(isinstance(code, str) for code in codes):
        raise ShifamindError(f"{name}: config.top_50_codes is no list of code names.")
    if len(codes) != count:
        raise ShifamindError(
            f"{name}: config.top_50_codes names {len(codes)} codes, but the diagnosis head has {count} outputs."
        )
    if len(set(codes)) != count:
        twice = next(code for code in codes if list(codes).count(code) > 1)
        raise ShifamindError(f"{name}: config.top_50_codes names {_one_line(twice, 40)!r} more than once.")
    return tuple(codes)


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) else None


def _epoch(value: Any, remarks: list[str]) -> int | None:
    """The epoch, if it is one: it is shown, and decides nothing."""
    number = _number(value)
    if number is not None and 0 <= number < LARGEST_EPOCH:
        return int(number)
    if value is not None:
        remarks.append("The epoch stored with it is no number of epochs and was left out.")
    return None


def _non_finite(state_dict: dict[str, Tensor], remarks: list[str]) -> int:
    counts = {key: count for key, tensor in state_dict.items() if (count := _count_non_finite(tensor))}
    total = sum(counts.values())
    if total:
        first = next(iter(counts))
        remarks.append(f"{total:,} weights are NaN or infinite, first in {first}; logits will be too.")
    return total


def _count_non_finite(tensor: Tensor) -> int:
    """One pass where all is well: minimum and maximum are finite only if every weight is."""
    if not tensor.numel() or all(torch.isfinite(extreme) for extreme in tensor.aminmax()):
        return 0
    return int((~torch.isfinite(tensor)).sum())


def _remark_dtypes(state_dict: dict[str, Tensor], remarks: list[str]) -> None:
    others = Counter(
        str(t.dtype).removeprefix("torch.") for t in state_dict.values() if t.dtype != torch.float32
    )
    for dtype, count in others.items():
        remarks.append(
            f"{count} of {len(state_dict)} tensors are stored as {dtype}; they are computed in float32."
        )


def _list(names: Any) -> str:
    names = [_one_line(name, 60) for name in names]
    return (
        ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        if names
        else "nothing"
    )
