"""Who is inside: every login has a cookie value of its own, and can be ended by itself.

Values are 256 random bits, so they need no limit on guesses; only their digests are kept, and nothing outlives the
process. A login's websockets end with it: a page that is open elsewhere goes dark, too.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

Close = Callable[[], Awaitable[None]]

MOST_LOGINS = 1000  # of a small group's browsers; the oldest one goes first
CLOSE_SECONDS = 1.0


class Login:
    """One browser that showed the right token."""

    def __init__(self) -> None:
        self.open = True
        self.sockets: set[Close] = set()

    async def end(self) -> None:
        """Let nothing more through, and close what is open."""
        self.open = False
        closing = [asyncio.create_task(_closed(close)) for close in self.sockets]
        if closing:
            # A browser that reads nothing more would hold this up; nothing reaches it any more in any case.
            await asyncio.wait(closing, timeout=CLOSE_SECONDS)


class Logins:
    """The open logins, by the digest of their cookie's value."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, Login] = {}

    def begin(self) -> str:
        """The cookie value of a new login."""
        while len(self._by_digest) >= MOST_LOGINS:
            self._by_digest.pop(next(iter(self._by_digest))).open = False
        value = secrets.token_urlsafe(32)
        self._by_digest[_digest(value)] = Login()
        return value

    def of(self, value: str) -> Login | None:
        """The login that this cookie value stands for."""
        return self._by_digest.get(_digest(value))

    async def end(self, login: Login) -> None:
        """Sign one browser out."""
        self._by_digest = {digest: one for digest, one in self._by_digest.items() if one is not login}
        await login.end()

    async def end_all(self) -> None:
        """Sign every browser out."""
        ended, self._by_digest = list(self._by_digest.values()), {}
        for login in ended:
            await login.end()


async def _closed(close: Close) -> None:
    with suppress(OSError, RuntimeError):  # it is just closing by itself
        await close()


def _digest(value: str) -> bytes:
    # A look-up by digest takes as long for a near miss as for any other guess.
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
