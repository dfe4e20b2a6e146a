"""Processes that score one split together, as `torchrun` starts them: each takes some of the batches, the first has the whole.

A batch is never split and never mixed anew, so its logits are those of one process. What the processes say to each other goes
through gloo in the host's memory, whatever they compute on: notes' token ids once, logits once.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np

from shifamind_core.errors import DoneElsewhere, ShifamindError
from shifamind_core.inference.predict import Prediction
from shifamind_core.inference.tokenization import ModelInput
from shifamind_core.settings import rank_and_size

PATIENCE = timedelta(hours=6)  # for the slowest process; one that has ended is noticed at once


@dataclass(frozen=True)
class Group:
    """One process alone, whose part is the whole."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def rows(self, count: int, batch_size: int) -> slice:
        """The notes of this process: whole batches, one more for the first ones where they cannot be dealt out evenly.

        Where there are fewer batches than processes, the last batch is scored more than once.

        >>> [Group(rank, 3).rows(50, 16) for rank in range(3)]
        [slice(0, 32, None), slice(32, 48, None), slice(48, 50, None)]
        """
        return self._rows_of(self.rank, count, batch_size)

    def _rows_of(self, rank: int, count: int, batch_size: int) -> slice:
        batches = -(-count // batch_size)
        rank, size = min(rank, batches - 1), min(self.size, batches)
        each, more = divmod(batches, size)
        start = batch_size * (rank * each + min(rank, more))
        return slice(start, min(count, start + batch_size * (each + (rank < more))))

    def device(self, asked: str) -> str:
        """The device of this process, where a kind of device was asked for."""
        return asked

    def require_same(self, configuration: Mapping[str, Any], bitwise: bool) -> tuple[str, ...]:
        """Refuse processes of other configurations, whose logits would not be those of one; gives what is to be remarked.

        Raises
        ------
        ShifamindError
            They differ; the line names the first difference. Under `bitwise` machines may differ, and nothing else.
        """
        return ()

    def whole(self, own: ModelInput, count: int, batch_size: int, pad: int) -> ModelInput:
        """All notes, of each process's `own`."""
        return own

    def first_says(self, answer: bool) -> bool:
        """What the first process answers."""
        return answer

    def collect(self, own: Prediction, count: int, batch_size: int) -> Prediction:
        """The whole, for the first process.

        Raises
        ------
        DoneElsewhere
            In the others.
        """
        return own


ALONE = Group()


class Ranks(Group):
    """One of several processes."""

    def device(self, asked: str) -> str:
        import torch

        if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
            return "cpu"
        return asked if ":" in asked else f"cuda:{os.environ['LOCAL_RANK']}"

    def require_same(self, configuration: Mapping[str, Any], bitwise: bool) -> tuple[str, ...]:
        everyone = self._all(dict(configuration))
        if all(one == everyone[0] for one in everyone):
            return ()
        rank, other = next((rank, one) for rank, one in enumerate(everyone) if one != everyone[0])
        field = next(name for name in other if other[name] != everyone[0][name])
        if bitwise and all(
            one | {"environment": None} == everyone[0] | {"environment": None} for one in everyone
        ):
            return (
                f"Scored by {self.size} processes on machines that differ, which decides no bit under bitwise.",
            )
        here, there = everyone[0][field], other[field]
        if isinstance(here, dict):
            part = next(name for name in here if here[name] != there[name])
            field, here, there = f"{field} ({part})", here[part], there[part]
        if not self.is_first:
            raise DoneElsewhere
        raise ShifamindError(
            f"Process {rank} of {self.size} differs from process 0 in {field}: {str(there)[:80]!r}, not {str(here)[:80]!r}. One run "
            "never mixes them: use equal machines and files, or the policy bitwise for machines that differ."
        )

    def whole(self, own: ModelInput, count: int, batch_size: int, pad: int) -> ModelInput:
        parts: list[ModelInput] = self._all(own)
        ids = np.full((count, max(part.ids.shape[1] for part in parts)), pad, np.int32)
        rest = {
            name: np.empty(count, getattr(own, name).dtype)
            for name in ("lengths", "token_counts", "token_digests", "document_ids")
        }
        for rank, part in enumerate(parts):
            rows = self._rows_of(rank, count, batch_size)
            ids[rows, : part.ids.shape[1]] = part.ids
            for name, array in rest.items():
                array[rows] = getattr(part, name)
        return replace(own, ids=ids, **rest)

    def first_says(self, answer: bool) -> bool:
        return self._all(answer)[0]

    def collect(self, own: Prediction, count: int, batch_size: int) -> Prediction:
        import torch.distributed as processes

        parts: list[Any] | None = [None] * self.size if self.is_first else None
        with _told_of_the_lost(self.size):
            processes.gather_object(own, parts)
        if parts is None:
            raise DoneElsewhere

        def joined(name: str) -> np.ndarray | None:
            if getattr(own, name) is None:
                return None
            array = np.empty((count, *getattr(own, name).shape[1:]), getattr(own, name).dtype)
            for rank, part in enumerate(parts):
                array[self._rows_of(rank, count, batch_size)] = getattr(part, name)
            return array

        logits = joined("logits")
        assert logits is not None
        return Prediction(
            logits,
            joined("concept_scores"),
            own.batch_size,
            max(part.duration_seconds for part in parts),
            tuple(dict.fromkeys(remark for part in parts for remark in part.remarks)),
        )

    def _all(self, own: Any) -> list[Any]:
        import torch.distributed as processes

        found: list[Any] = [None] * self.size
        with _told_of_the_lost(self.size):
            processes.all_gather_object(found, own)
        return found


@contextmanager
def _told_of_the_lost(size: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's own names the addresses of both ends
        raise ShifamindError(
            f"Another of the {size} processes has ended, and why is in its own output. Nothing was written; start all of them again."
        ) from error


@contextmanager
def joined() -> Iterator[Group]:
    """The group that `torchrun` says this process belongs to; alone without it.

    Raises
    ------
    ShifamindError
        The others cannot be reached.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield ALONE
        return
    import torch.distributed as processes

    with _told_of_the_lost(size):
        processes.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Ranks(rank, size)
    finally:
        processes.destroy_process_group()
