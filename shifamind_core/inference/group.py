"""Processes that score one split together, as `torchrun` starts them: each takes some of the batches, the first has the whole.

Batches are put together as for one process and then dealt out in turn, so every note has the company and the padding that it
has there, and with them its bits. What the processes found is joined byte for byte, by gloo, in the host's memory.
"""

import hashlib
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np

from shifamind_core.errors import DoneElsewhere, ShifamindError
from shifamind_core.settings import rank_and_size

PATIENCE = timedelta(hours=6)  # for the slowest process; one that has ended is noticed at once
OVER, SAID = "shifamind/over", "shifamind/said"
Array = TypeVar("Array", bound=np.ndarray)


@dataclass(frozen=True)
class Group:
    """This process among those that share the work; one alone has nothing to do here.

    All of them have to call these methods in the same order.
    """

    rank: int = 0
    size: int = 1
    store: Any = None  # torch's, which outlives each of them

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def device(self, asked: str) -> str:
        """The device of this process, where a kind of device was asked for."""
        if self.size == 1 or asked == "cpu" or ":" in asked:
            return asked
        import torch

        if not torch.cuda.is_available():
            return asked
        local, seen = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= seen:
            raise ShifamindError(
                f"More processes were started on this machine than torch sees GPUs ({seen}). "
                f"Choose --nproc-per-node={seen}, or --device cpu."
            )
        torch.cuda.set_device(local)
        return f"cuda:{local}"

    def joined(self, array: Array) -> Array:
        """`array` with what every process put into it; each leaves zeros where others write.

        Bytes are added up as whole numbers: no bit changes, that of a negative zero or of a NaN included.
        """
        if self.size > 1:
            import torch
            from torch import distributed

            content = torch.from_numpy(array.reshape(-1).view(np.uint8))
            with _told_of_the_lost(self.size):
                distributed.all_reduce(content)
        return array

    def most(self, number: int) -> int:
        """The largest of the small numbers that the processes give, none below zero."""
        numbers = np.zeros(self.size, np.int64)
        numbers[self.rank] = number
        return int(self.joined(numbers).max())

    def difference(self, facts: Mapping[str, Any]) -> tuple[int, str] | None:
        """The first process that differs from process 0, and in which fact; each has the same names of facts."""
        digests = np.zeros((self.size, len(facts), 32), np.uint8)
        for column, fact in enumerate(facts.values()):
            digests[self.rank, column] = np.frombuffer(hashlib.sha256(repr(fact).encode()).digest(), np.uint8)
        differs = (self.joined(digests) != digests[0]).any(axis=2)
        if not differs.any():
            return None
        rank, column = np.argwhere(differs)[0]
        return int(rank), list(facts)[column]

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Refuse processes whose logits would not be those of one."""
        if self.size > 1 and (found := self.difference(facts)):
            raise ShifamindError(
                f"Process {found[0]} of {self.size} differs from process 0 in {found[1]}. One run never mixes them: use equal "
                "machines and files, or the policy bitwise for machines that differ."
            )

    def leave_to_first(self) -> None:
        """The first goes on alone, once it has what all gave.

        Raises
        ------
        DoneElsewhere
            In the others.
        """
        if self.size == 1:
            return
        with _told_of_the_lost(self.size):
            if self.is_first:
                self.store.set(OVER, "")
                return
            while not self.store.check([OVER]):
                time.sleep(0.05)  # and not `wait`, in which no signal is heard
        raise DoneElsewhere

    def speaks(self) -> bool:
        """Whether this process, which has to end, is the first one to say why; the others end because of it."""
        try:
            return self.store.add(SAID, 1) == 1
        except RuntimeError:
            return True


ALONE = Group()


def _lost(size: int) -> ShifamindError:
    return ShifamindError(
        f"Another of the {size} processes has ended, or all were told to. No run file was written; start all of them again."
    )


@contextmanager
def _told_of_the_lost(size: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's own names the addresses of both ends
        raise _lost(size) from error


@contextmanager
def joined() -> Iterator[Group]:
    """The group that `torchrun` says this process belongs to; alone without it. Of all errors in it, one is told.

    Raises
    ------
    ShifamindError
        The others cannot be reached, or one of them was lost.
    DoneElsewhere
        This process has to end because of another one, or it is not the first: with the line that it has to say, if any.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield ALONE
        return
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    def ended(*_: object) -> None:  # torchrun's word to the rest when one is lost
        raise _lost(size)

    before = signal.signal(signal.SIGTERM, ended)
    with _told_of_the_lost(size):
        group = Group(rank, size, next(iter(rendezvous("env://")))[0])
        distributed.init_process_group(
            "gloo", store=group.store, rank=rank, world_size=size, timeout=PATIENCE
        )
    try:
        yield group
    except ShifamindError as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends anyway, and says why
        if not group.speaks():
            raise DoneElsewhere(status=2) from error
        if rank > 0:
            raise DoneElsewhere(f"process {rank} on {socket.gethostname()}: {error}", status=2) from error
        raise
    else:
        signal.signal(signal.SIGTERM, before)
    finally:
        distributed.destroy_process_group()
