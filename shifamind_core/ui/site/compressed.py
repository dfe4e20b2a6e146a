"""Streamlit's scripts and styles, compressed: each of them once, and kept.

Streamlit sends them as they are, because its middleware would compress them anew at every request: Plotly alone is
4.7 MB, which is felt through a tunnel. There are few such files and they never change while the server runs.
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from starlette.datastructures import Headers, MutableHeaders

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

KINDS = ("text/javascript", "application/javascript", "text/css", "application/json", "image/svg+xml")
SMALLEST = 500  # bytes; less is not worth a header


class Compressed:
    """Middleware: files that are cached for good leave gzipped, if the browser takes that.

    Parameters
    ----------
    base : str
        `server.baseUrlPath`, with a leading slash and none behind, or empty.
    """

    def __init__(self, app: ASGIApp, base: str = "") -> None:
        self._app = app
        self._folder = f"{base}/static/"
        self._kept: dict[str, list[Message]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._may_be_compressed(scope):
            await self._app(scope, receive, send)
            return
        async with self._one_at_a_time:
            answer = self._kept.get(scope["path"]) or await self._answer(scope, receive)
        for message in answer:
            await send(message)

    async def _answer(self, scope: Scope, receive: Receive) -> list[Message]:
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, keep)
        if _is_for_good(answer[0]) and _is_whole(answer):
            answer = self._kept[scope["path"]] = await asyncio.to_thread(_compress, answer)
        return answer

    def _may_be_compressed(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(self._folder):
            return False
        asked = Headers(scope=scope)
        return "gzip" in asked.get("accept-encoding", "") and "range" not in asked


def _is_for_good(start: Message) -> bool:
    """A file whose name changes with its content. What is made up for an unknown name is none, or memory would fill."""
    headers = Headers(raw=start["headers"])
    return (
        start["status"] == 200
        and "immutable" in headers.get("cache-control", "")
        and headers.get("content-type", "").partition(";")[0] in KINDS
        and int(headers.get("content-length", 0)) >= SMALLEST
    )


def _is_whole(answer: list[Message]) -> bool:
    """Whether all of the file is there: to a browser that went away in the middle no more is sent."""
    length = sum(len(message.get("body", b"")) for message in answer[1:])
    return str(length) == Headers(raw=answer[0]["headers"]).get("content-length")


def _compress(answer: list[Message]) -> list[Message]:
    body = gzip.compress(b"".join(message.get("body", b"") for message in answer[1:]), mtime=0)
    start = {**answer[0], "headers": list(answer[0]["headers"])}
    headers = MutableHeaders(raw=start["headers"])
    headers["content-encoding"] = "gzip"
    headers["content-length"] = str(len(body))
    headers.add_vary_header("Accept-Encoding")
    if "etag" in headers:
        headers["etag"] = "W/" + headers["etag"].removeprefix("W/")  # the same file, not the same bytes
    return [start, {"type": "http.response.body", "body": body}]
