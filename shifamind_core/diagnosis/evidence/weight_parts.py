"""Which parts of two models' weights are equal, by their digests, and what that is called."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from shifamind_core.artifacts.weight_parts import EMBEDDINGS, ENCODER, HEAD, LAYER, NORMS
from shifamind_core.runs.manifest import CheckpointRecord

POOLER = f"{ENCODER}pooler"
Where = Literal["same", "head", "encoder", "part of the encoder", "both"]


@dataclass(frozen=True)
class WeightParts:
    """Parts of the weights (`artifacts.weight_parts`) by whether both models hold them equal, digest by digest."""

    same: frozenset[str]
    other: frozenset[str]

    def all_same(self, side: str) -> bool:
        """Whether both have this side of the model (`ENCODER`, `HEAD`), and hold all of it equal."""
        return bool(_of(side, self.same)) and not _of(side, self.other)

    @property
    def where(self) -> Where:
        """On which side of the model they differ; of the encoder also whether every layer does."""
        if _of(ENCODER, self.other) and _of(HEAD, self.other):
            return "both"
        if _of(ENCODER, self.other):
            return "part of the encoder" if _layers(self.same) else "encoder"
        return "head" if self.other else "same"

    @property
    def said(self) -> str:
        """Which parts differ, in words; empty where none does."""
        if not self.other:
            return ""
        if _beside(self.same) is not None:
            return f"every part differs{_beside(self.same)}"
        named = [*_encoder_said(self)]
        if _of(HEAD, self.other):
            named.append("a part of the head" if _of(HEAD, self.same) else "the head")
        return f"only {_and(named)} differ{'' if _several(named) else 's'}"

    @property
    def sentence(self) -> str:
        """The same as a sentence."""
        return f"Of the weights, {self.said}." if self.other else ""


def compare_parts(
    candidate: CheckpointRecord | None, reference: CheckpointRecord | None
) -> WeightParts | None:
    """Part by part; what only one of them has differs. `None` where one does not record them."""
    ours, theirs = (None if record is None else record.part_digests for record in (candidate, reference))
    if not ours or not theirs:
        return None
    same = frozenset(part for part in ours if ours[part] == theirs.get(part))
    return WeightParts(same, frozenset(ours.keys() | theirs.keys()) - same)


def holds_encoder(record: CheckpointRecord, encoder: Mapping[str, str]) -> bool:
    """Whether these are the parts of its encoder, as far as `encoder` has them, every layer among them."""
    ours = record.part_digests or {}
    return _layers(ours) == _layers(encoder) != [] and all(
        ours.get(part) == encoder[part] for part in encoder
    )


def _of(side: str, parts: Iterable[str]) -> list[str]:
    return [part for part in parts if part.startswith(side)]


def _layers(parts: Iterable[str]) -> list[str]:
    """The numbers of the encoder's layers, without those whose normalizations alone are among the parts."""
    found = [part.removeprefix(LAYER) for part in _of(LAYER, parts) if not part.endswith(NORMS)]
    return sorted(found, key=lambda number: (len(number), number))


def _beside(same: Iterable[str]) -> str | None:
    """What of the whole is equal, where it is no more than layer norms and a pooler, which many models leave alone; else `None`."""
    kinds = {NORMS if part.endswith(NORMS) else part for part in same}
    named = [name for kind, name in ((NORMS, "layer norms"), (POOLER, "the pooler")) if kind in kinds]
    return None if kinds - {NORMS, POOLER} else f" (but for {_and(named)})" if named else ""


def _encoder_said(parts: WeightParts) -> Iterator[str]:
    if not _of(ENCODER, parts.other):
        return
    beside = _beside(_of(ENCODER, parts.same))
    if beside is not None:
        yield f"the whole encoder{beside}"
        return
    other, layers = _of(ENCODER, parts.other), _layers(parts.other)
    with_norms = {f"{LAYER}{number}{NORMS}" for number in layers}
    norms = [part for part in other if part.endswith(NORMS) and part not in with_norms]
    if f"{ENCODER}{EMBEDDINGS}" in other:
        yield "the embeddings"
        norms = [part for part in norms if part != f"{ENCODER}{EMBEDDINGS}{NORMS}"]
    if layers and not _layers(parts.same):
        yield "all layers of the encoder"
    elif layers:
        yield f"layer{'s' * (len(layers) > 1)} {_and(layers)} of the encoder"
    if norms:
        yield "layer norms of the encoder"
    rest = {
        part for part in other if not part.startswith((LAYER, f"{ENCODER}{EMBEDDINGS}")) and part not in norms
    }
    if rest:
        yield "the pooler" if rest == {POOLER} else "other parts of the encoder"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _several(named: list[str]) -> bool:
    """Whether a verb about them is in the plural."""
    return len(named) > 1 or named[0].startswith(("the embeddings", "all", "layers", "layer norms", "other"))
