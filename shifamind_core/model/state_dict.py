"""Find the state dicts in a checkpoint's content, and bring their keys to the names of the model classes."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shifamind_core.artifacts.torch_pickle import Other
from shifamind_core.errors import ShifamindError
from shifamind_core.model.architectures import ARCHITECTURES, Architecture, recognised
from shifamind_core.model.checkpoint_file import one_line

# Where training scripts put the weights that they mean; whatever else holds a model's weights stands beside these.
USUAL = ("model_state_dict", "state_dict", "model", "module", "net", "network")
# What stands in the keys of a model that was wrapped, at the outside or around a part of it.
WRAPPERS = {
    "module": "DataParallel",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OLD_BUFFER = re.compile(r"(^|\.)embeddings\.position_ids$")
ADAPTER = re.compile(
    r"(^|\.)(lora_\w+|ia3_\w+|base_layer|modules_to_save|adaption_prompt|prompt_encoder|hada_\w+)(\.|$)"
)
NORMS = {"gamma": "weight", "beta": "bias"}  # as TensorFlow, and checkpoints turned over from it, name them


@dataclass(frozen=True, eq=False)
class StateDict:
    """One model's weights as they stand in a file.

    Attributes
    ----------
    name : str
        Where in the file: a key of the content, ``ema.shadow`` for one inside another, ``state_dict/ema_model`` where one state
        dict holds two models. Empty where the file is the state dict.
    tensors : dict of str to Tensor
        Under the names of the model classes.
    architecture : Architecture
    remarks : tuple of str
        What of the names was mended, for people.
    """

    name: str
    tensors: dict[str, Tensor]
    architecture: Architecture
    remarks: tuple[str, ...]


def find_state_dicts(content: Mapping[Any, Any], file: str) -> list[StateDict]:
    """Every state dict of a known architecture in the file, the one that is meant first.

    Raises
    ------
    ShifamindError
        There is none; the message says what was found instead. Adapters that are not merged, names that fall together.
    """
    found = [one for name, held in _places(content) for one in _models_in(name, held, file)]
    if not found:
        raise _none_found(content, file)
    order = {name: place for place, name in enumerate(("", *USUAL))}
    found.sort(key=lambda one: order.get(one.name, len(order)))
    return found + [_in_the_order_of(found[0], name, held) for name, held in _lists(content, found[0])]


def with_today_names(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a file that is no classifier, under the names that the library gives them today."""
    held = {
        key: tensor for key, tensor in content.items() if isinstance(key, str) and isinstance(tensor, Tensor)
    }
    return _without_old_buffers(_old_norms(held, []), [])


def own(key: str, tensor: Tensor, file: str) -> Tensor:
    """The tensor in memory of its own, so that the file may change or go."""
    if tensor.dtype not in DTYPES:
        raise ShifamindError(
            f"{file}: {one_line(key, 80)} is {tensor.dtype}; expected float32, float64, float16 or bfloat16."
        )
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def listed(names: Any) -> str:
    """Names of the file in a message, the first few of them."""
    names = [one_line(name, 60) for name in names]
    return (
        ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        if names
        else "nothing"
    )


def _places(content: Mapping[Any, Any]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Where a dict of tensors by name stands: the content itself, its values, and theirs."""
    if _holds_tensors(content):
        yield "", dict(content)
        return
    for key, value in content.items():
        if not isinstance(value, Mapping):
            continue
        if _holds_tensors(value):
            yield str(key), dict(value)
            continue
        for inner, held in value.items():
            if isinstance(held, Mapping) and _holds_tensors(held):
                yield f"{key}.{inner}", dict(held)


def _lists(content: Mapping[Any, Any], first: StateDict) -> Iterator[tuple[str, list[Tensor]]]:
    """Where as many tensors of the same shapes stand in the same order without names, as some averages of weights are kept."""
    shapes = [tensor.shape for tensor in first.tensors.values()]
    for key, value in content.items():
        for name, held in value.items() if isinstance(value, Mapping) else [(None, value)]:
            tensors = isinstance(held, list | tuple) and all(isinstance(one, Tensor) for one in held)
            if tensors and [one.shape for one in held] == shapes:
                yield str(key) if name is None else f"{key}.{name}", list(held)


def _in_the_order_of(first: StateDict, name: str, held: list[Tensor]) -> StateDict:
    remark = f"The tensors under {name} have no names and were taken in the order of those under {first.name or 'the top'}."
    return StateDict(name, dict(zip(first.tensors, held, strict=True)), first.architecture, (remark,))


def _holds_tensors(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(
        isinstance(key, str) and isinstance(held, Tensor) for key, held in value.items()
    )


def _models_in(place: str, held: dict[str, Tensor], file: str) -> Iterator[StateDict]:
    """The model whose names these are; below an outer name, as Lightning has it, there may be several."""
    _refuse_adapter(held, file)
    remarks: list[str] = []
    tensors = _old_norms(_without_wrappers(held, file, remarks), remarks)
    for outer, inner in [("", tensors), *_below(tensors)]:
        kind = recognised(inner)
        if kind is None:
            continue
        said = list(remarks)
        if outer:
            said.append(f"The prefix '{outer}.' before every name of the model was taken off.")
            rest = [name for name in tensors if not name.startswith(f"{outer}.")]
            apart = [name for name in rest if recognised(_below_name(tensors, name.split(".")[0])) is None]
            if apart:
                said.append(f"{len(apart)} tensors outside the model were left out: {listed(apart)}.")
        yield StateDict(
            "/".join(filter(None, (place, outer if outer not in ("", "model") else ""))),
            _without_old_buffers(inner, said),
            kind,
            tuple(said),
        )
        if not outer:
            return


def _below(tensors: Mapping[str, Tensor]) -> list[tuple[str, dict[str, Tensor]]]:
    """What stands below each first name (and below the one after it), ``model`` first."""
    first = sorted({name.split(".")[0] for name in tensors if "." in name}, key=lambda one: one != "model")
    second = sorted({".".join(name.split(".")[:2]) for name in tensors if name.count(".") > 1})
    found: list[tuple[str, dict[str, Tensor]]] = [(outer, _below_name(tensors, outer)) for outer in first]
    if any(recognised(inner) for _, inner in found):
        return found
    return [(outer, _below_name(tensors, outer)) for outer in second]


def _below_name(tensors: Mapping[str, Tensor], outer: str) -> dict[str, Tensor]:
    start = f"{outer}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _refuse_adapter(held: Mapping[str, Tensor], file: str) -> None:
    parts = [name for name in held if ADAPTER.search(name)]
    if parts:
        raise ShifamindError(
            f"{file} holds a PEFT adapter that is not merged into its model ({len(parts)} of {len(held)} tensors, first "
            f"{one_line(parts[0], 80)}). Call merge_and_unload() on the PEFT model and save its state_dict()."
        )


def _without_wrappers(held: Mapping[str, Tensor], file: str, remarks: list[str]) -> dict[str, Tensor]:
    seen: Counter[str] = Counter()
    tensors: dict[str, Tensor] = {}
    for name, tensor in held.items():
        parts = name.split(".")
        seen.update({part for part in parts[:-1] if part in WRAPPERS})
        plain = ".".join(part for part in parts[:-1] if part not in WRAPPERS) + "." if len(parts) > 1 else ""
        plain = plain.lstrip(".") + parts[-1]
        if plain in tensors:
            raise ShifamindError(
                f"{file} holds {one_line(plain, 80)} twice, with and without a wrapper's prefix; it is refused."
            )
        tensors[plain] = tensor
    for part, count in seen.items():
        whom = "every key" if count == len(held) else f"{count} of {len(held)} keys"
        remarks.append(f"The prefix '{part}.' that {WRAPPERS[part]} puts into {whom} was taken off.")
    counts = [name for name, tensor in tensors.items() if "." not in name and tensor.ndim == 0]
    if counts:  # what averages of weights keep of themselves: n_averaged, num_updates, decay
        remarks.append(f"{listed(counts)}, numbers beside the weights, were left out.")
    return {name: tensor for name, tensor in tensors.items() if name not in counts}


def _old_norms(tensors: dict[str, Tensor], remarks: list[str]) -> dict[str, Tensor]:
    """`gamma` and `beta` of a normalization, where it has no `weight` and `bias`."""
    renamed: dict[str, Tensor] = {}
    count = 0
    for name, tensor in tensors.items():
        owner, _, last = name.rpartition(".")
        new = f"{owner}.{NORMS[last]}" if owner and last in NORMS else name
        if new != name and new not in tensors:
            name, count = new, count + 1
        renamed[name] = tensor
    if count:
        remarks.append(
            f"{count} tensors named gamma and beta, as in TensorFlow, were read as weight and bias of their normalization."
        )
    return renamed


def _without_old_buffers(tensors: Mapping[str, Tensor], remarks: list[str]) -> dict[str, Tensor]:
    old = [name for name in tensors if OLD_BUFFER.search(name)]
    if old:
        remarks.append(
            f"{', '.join(old)}, a buffer that today's library does not keep, was left out; it decides nothing."
        )
    return {name: tensor for name, tensor in tensors.items() if name not in old}


def _none_found(content: Mapping[Any, Any], file: str) -> ShifamindError:
    held = next((content[key] for key in USUAL if key in content), None)
    if held is None and _holds_tensors(content):
        held = content
    if not isinstance(held, Mapping) or not held:
        return ShifamindError(f"{file} has no 'model_state_dict'; it has {listed(map(str, content))}.")
    wrong = next(
        (key for key, value in held.items() if not isinstance(key, str) or not isinstance(value, Tensor)),
        None,
    )
    if wrong is not None:
        value = held[wrong]
        kind = value.kind if isinstance(value, Other) else type(value).__name__
        return ShifamindError(
            f"{file}: {one_line(wrong, 60)!r} in the state dict is a {kind}; expected dense tensors by name."
        )
    parts = Counter(key.split(".")[0] for key in held)
    expected = "; or ".join(f"{', '.join(sorted(one.marks[0]))} ({one.name})" for one in ARCHITECTURES)
    found = listed(f"{part} ({count})" for part, count in sorted(parts.items()))
    return ShifamindError(f"{file} is of no known architecture: expected {expected}; found {found}.")
