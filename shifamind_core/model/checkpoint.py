"""Read a checkpoint without running anything in it, and say what it holds."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shifamind_core.artifacts.digests import file_sha256
from shifamind_core.artifacts.weight_parts import weight_parts
from shifamind_core.errors import ShifamindError
from shifamind_core.model.architectures import Architecture
from shifamind_core.model.checkpoint_file import one_line, read_file
from shifamind_core.model.shifamind import fusion_layers_of
from shifamind_core.model.state_dict import StateDict, find_state_dicts, listed, own
from shifamind_core.runs.manifest import CheckpointRecord

LARGEST_EPOCH = 1_000_000_000
SCORES = ("macro_f1", "micro_f1", "concept_f1")


@dataclass(frozen=True)
class OtherWeights:
    """A state dict beside the one that is used.

    Attributes
    ----------
    name : str
        By which it can be asked for.
    architecture : str
    max_difference : float, optional
        The largest difference of a weight; `None` where names or shapes differ.
    """

    name: str
    architecture: str
    max_difference: float | None


@dataclass(frozen=True)
class Survey:
    """What looking through every weight says: digests by the name of the record's field, and oddities for people."""

    digests: dict[str, Any]
    non_finite: int
    remarks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint's content, checked. Its weights are looked through beside whatever is done with them meanwhile.

    Attributes
    ----------
    state_dict : dict of str to Tensor
        On the CPU, in the dtype stored, names as in the model classes.
    architecture : str
        The name of its record (`architectures.ARCHITECTURES`), told by the state dict's keys.
    code_count, concept_count, hidden_size : int
        From the shapes of the heads; no concepts where the architecture has none.
    fusion_layers : tuple of int
        Layers with a fusion module; empty where the architecture has none.
    codes : tuple of str, optional
        `config.top_50_codes`.
    epoch : int, optional
    scores : dict of str to float
        `macro_f1`, `micro_f1`, `concept_f1`, as far as stored: the author's, not computed here.
    config : dict
        The stored config, plain values.
    concept_embeddings : Tensor [concepts, hidden], optional
        A copy stored beside the state dict.
    weights : str
        Under which name the state dict stands in the file; empty where the file is the state dict.
    others : tuple of OtherWeights
        Other state dicts in the file, e.g. an average of the weights.
    on_reading : tuple of str
        What was assumed or mended, for people.
    survey : Future of Survey
        What only looking through all weights tells.
    """

    path: Path
    state_dict: dict[str, Tensor]
    architecture: str
    code_count: int
    concept_count: int
    hidden_size: int
    fusion_layers: tuple[int, ...]
    codes: tuple[str, ...] | None
    epoch: int | None
    scores: dict[str, float]
    config: dict[str, Any]
    concept_embeddings: Tensor | None
    weights: str
    others: tuple[OtherWeights, ...]
    on_reading: tuple[str, ...]
    survey: Future[Survey]

    @property
    def non_finite(self) -> int:
        """How many weights are NaN or infinite."""
        return self.survey.result().non_finite

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was assumed or mended on reading, and what is odd about the weights, for people."""
        return self.on_reading + self.survey.result().remarks

    @property
    def record(self) -> CheckpointRecord:
        """What a manifest says of it."""
        return CheckpointRecord(
            **self.survey.result().digests,
            architecture=self.architecture,
            state_dict=self.weights if self.others else None,
            parameters=sum(tensor.numel() for tensor in self.state_dict.values()),
            epoch=self.epoch,
            stored_macro_f1=self.scores.get("macro_f1"),
            stored_micro_f1=self.scores.get("micro_f1"),
        )


def read_checkpoint(path: Path | str, weights: str | None = None) -> Checkpoint:
    """Read a checkpoint weights-only: tensors, plain values and NumPy numbers, never code.

    The state dict may be the file itself or stand under a key of it; wrappers' prefixes and old names are mended, and
    the checkpoint says so.

    Parameters
    ----------
    weights : str, optional
        Which of several state dicts in the file (`Checkpoint.others` names them); by default the usual one.

    Raises
    ------
    ShifamindError
        No such file; a file that is cut off or asks for anything but weights; no state dict of a known architecture, or none
        of that name; heads whose shapes do not fit. One line each.
    """
    path = Path(path)
    content, remarks = read_file(path)
    found = find_state_dicts(content, path.name)
    chosen = _chosen(found, weights, path.name)
    kind, others = chosen.architecture, [one for one in found if one is not chosen]
    state_dict = {key: own(key, tensor, path.name) for key, tensor in chosen.tensors.items()}
    remarks += chosen.remarks
    if not chosen.name and path.suffix != ".safetensors":
        remarks.append(f"{path.name} is a bare state dict: no codes, epoch or scores are stored with it.")
    code_count, concept_count, hidden_size = _sizes(state_dict, kind, path.name)
    config = content.get("config")
    config = {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}
    codes = _codes(config, code_count, path.name)
    scores = {key: number for key in SCORES if (number := _number(content.get(key))) is not None}
    epoch = _epoch(content.get("epoch"), remarks)
    embeddings = content.get("concept_embeddings") if chosen.name else None
    beside = ThreadPoolExecutor(1)
    survey = beside.submit(_look_through, path, state_dict)
    beside.shutdown(wait=False)
    return Checkpoint(
        path=path,
        state_dict=state_dict,
        architecture=kind.name,
        code_count=code_count,
        concept_count=concept_count,
        hidden_size=hidden_size,
        fusion_layers=fusion_layers_of(state_dict, path.name),
        codes=codes,
        epoch=epoch,
        scores=scores,
        config=config,
        concept_embeddings=embeddings.clone() if isinstance(embeddings, Tensor) else None,
        weights=chosen.name,
        others=tuple(_other(one, chosen) for one in others),
        on_reading=tuple(remarks),
        survey=survey,
    )


def _look_through(path: Path, state_dict: Mapping[str, Tensor]) -> Survey:
    """Digests of file and weights, side by side: hashing releases Python's lock."""
    with ThreadPoolExecutor(3) as beside:
        of_file = beside.submit(file_sha256, path)
        of_weights = beside.submit(weights_digest, state_dict)
        of_parts = beside.submit(part_digests, state_dict)
        remarks: list[str] = []
        non_finite = _non_finite(state_dict, remarks)
        remarks += _precision_remarks(state_dict)
        digests: dict[str, Any] = dict(rounded_digests(state_dict))
        digests |= {"file_sha256": of_file.result(), "weights_digest": of_weights.result()}
        digests["part_digests"] = of_parts.result() or None
        digests["untrained_parts"] = untrained_parts(state_dict) if digests["part_digests"] else None
    return Survey(digests, non_finite, tuple(remarks))


def _chosen(found: list[StateDict], name: str | None, file: str) -> StateDict:
    if name is None:
        return found[0]
    chosen = next((one for one in found if one.name == name), None)
    if chosen is None:
        raise ShifamindError(
            f"{file} has no weights named {one_line(name, 60)!r}; it has {listed(one.name or 'one state dict' for one in found)}."
        )
    return chosen


def _other(one: StateDict, chosen: StateDict) -> OtherWeights:
    """What is there beside the weights that are used, held against them."""
    ours, theirs = chosen.tensors, one.tensors
    if {name: tensor.shape for name, tensor in ours.items()} != {
        name: tensor.shape for name, tensor in theirs.items()
    }:
        return OtherWeights(one.name, one.architecture.name, None)
    far = (float((ours[n].double() - theirs[n].double()).abs().max()) for n in ours if ours[n].numel())
    return OtherWeights(one.name, one.architecture.name, max(far, default=0.0))


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

    with ThreadPoolExecutor(len(ROUNDED)) as both:
        return dict(zip(ROUNDED, both.map(digest, ROUNDED.values()), strict=True))


def part_digests(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 of every part of the weights, over names, shapes and FP32 values; none where no encoder is found.

    Weights are computed in FP32 whatever dtype stores them, so that a widened copy has the same.
    """

    def digest(names: Mapping[str, str]) -> str:
        content = hashlib.sha256()
        for name, inside in names.items():
            tensor = state_dict[name].detach().to("cpu", torch.float32).contiguous()
            content.update(f"{inside} {tuple(tensor.shape)}\n".encode())
            content.update(tensor.flatten().view(torch.uint8).numpy().data)
        return content.hexdigest()

    return {part: digest(names) for part, names in weight_parts(list(state_dict)).items()}


def untrained_parts(state_dict: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Parts as the library makes them: every bias exactly 0, every normalization's weight exactly 1. Training moves each of them."""

    def as_made(name: str) -> bool:
        return bool((state_dict[name] == name.endswith("weight")).all())

    vectors = {
        part: [name for name in names if state_dict[name].ndim == 1]
        for part, names in weight_parts(list(state_dict)).items()
    }
    return tuple(part for part, names in vectors.items() if names and all(map(as_made, names)))


def _sizes(state_dict: dict[str, Tensor], kind: Architecture, name: str) -> tuple[int, int, int]:
    """Codes, concepts (0 where the architecture has none) and the head's inputs, from the heads."""
    diagnosis = _matrix(state_dict, f"{kind.head(state_dict)}.weight", name)
    if kind.concept_head is None:
        return diagnosis.shape[0], 0, diagnosis.shape[1]
    concepts = _matrix(state_dict, f"{kind.concept_head}.weight", name)
    return diagnosis.shape[0], concepts.shape[0], concepts.shape[1]


def _matrix(state_dict: dict[str, Tensor], key: str, name: str) -> Tensor:
    tensor = state_dict.get(key)
    if tensor is None or tensor.ndim != 2 or not tensor.numel():
        raise ShifamindError(
            f"{name}: {key} is {'missing' if tensor is None else list(tensor.shape)}; expected a matrix."
        )
    return tensor


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
        raise ShifamindError(f"{name}: config.top_50_codes names {one_line(twice, 40)!r} more than once.")
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


def _non_finite(state_dict: Mapping[str, Tensor], remarks: list[str]) -> int:
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


def _precision_remarks(state_dict: Mapping[str, Tensor]) -> list[str]:
    """Tensors stored in another dtype than FP32, and weights that were widened from one."""
    others = Counter(
        str(t.dtype).removeprefix("torch.") for t in state_dict.values() if t.dtype != torch.float32
    )
    remarks = [
        f"{count} of {len(state_dict)} tensors are stored as {dtype}; they are computed in float32."
        for dtype, count in others.items()
    ]
    matrices = [tensor for tensor in state_dict.values() if tensor.ndim > 1 and tensor.dtype == torch.float32]
    if matrices and not others:
        for dtype in (torch.bfloat16, torch.float16):  # the coarser first: small FP16 numbers hold it
            if all(torch.equal(matrix.to(dtype).to(torch.float32), matrix) for matrix in matrices):
                name = str(dtype).removeprefix("torch.")
                remarks.append(
                    f"All {len(matrices)} matrices hold {name} numbers, stored as float32: they were saved in {name} and widened."
                )
                break
    return remarks
