"""Connections that never finish asking: how many there may be, and for how long.

Uvicorn waits for a request's head without limit, so some thousand connections that send nothing would use up all
of the process's files. Here the oldest of too many gives way, so that a person who does ask always gets through.
Uvicorn offers no setting for this and Streamlit starts it, hence the additions to its protocol class.
"""

import asyncio
from collections.abc import Callable
from typing import Any

HEAD_SECONDS = 10.0
MOST_HALF_OPEN = 128  # a process has 1,024 files as a rule; a browser opens six connections


class HalfOpen:
    """The connections whose next request's head is not there yet, oldest first."""

    def __init__(self, most: int = MOST_HALF_OPEN, seconds: float = HEAD_SECONDS) -> None:
        self.most, self.seconds = most, seconds
        self.fresh: dict[Any, None] = {}  # that have asked for nothing so far: only they are many or few
        self.timers: dict[Any, asyncio.TimerHandle] = {}

    def begin(self, protocol: Any, fresh: bool) -> None:
        """From now on the head is waited for."""
        self.end(protocol)
        if fresh:
            if len(self.fresh) >= self.most:
                self._give_up(next(iter(self.fresh)))
            self.fresh[protocol] = None
        self.timers[protocol] = asyncio.get_running_loop().call_later(self.seconds, self._give_up, protocol)

    def end(self, protocol: Any) -> None:
        """The head is there, or the connection is gone."""
        self.fresh.pop(protocol, None)
        timer = self.timers.pop(protocol, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self, protocol: Any) -> None:
        self.end(protocol)
        protocol.transport.abort()


def limit(protocol: type[Any], half_open: HalfOpen) -> None:
    """Make every connection of this Uvicorn HTTP protocol class keep to the limits."""

    def asked(self: Any, work: Callable[[], None]) -> None:
        """Do it, and see whether a whole head came of it: a request being answered, or another protocol."""
        before = self.cycle
        work()
        if self.cycle is not before or self not in self.connections:
            half_open.end(self)

    made, lost = protocol.connection_made, protocol.connection_lost
    received, complete = protocol.data_received, protocol.on_response_complete

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        made(self, transport)
        half_open.begin(self, fresh=True)

    def connection_lost(self: Any, error: Exception | None) -> None:
        half_open.end(self)
        lost(self, error)

    def data_received(self: Any, data: bytes) -> None:
        asked(self, lambda: received(self, data))

    def on_response_complete(self: Any) -> None:
        half_open.begin(self, fresh=False)
        asked(self, lambda: complete(self))

    protocol.connection_made, protocol.connection_lost = connection_made, connection_lost
    protocol.data_received, protocol.on_response_complete = data_received, on_response_complete
