"""The access gate: ASGI middleware around the whole site.

A password box in a page protects that page only. Until some session has run `st.navigation`, Streamlit
serves a sibling `pages/` folder by itself; and uploads, media and the websocket are routes of their own.
So the gate stands before all of them: without its cookie there is a 401, for a websocket a 403.

`?token=…` is exchanged once for the cookie and leaves the address bar with a redirect. The cookie holds a
value derived from the token and from a secret of this process, never the token; being 256 random bits, it
needs no limit on guesses. The token may be chosen by a person, so guesses at it are limited.
"""

import hmac
import html
import ipaddress
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from shifamind_core.errors import ShifamindError

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

TOKEN_VARIABLE = "SHIFAMIND_TOKEN"
TOKEN_PARAMETER = "token"
HEALTH_PATH = "/_stcore/health"
SHORTEST_PUBLIC_TOKEN = 16
WINDOW_SECONDS = 60.0
FAILURES_PER_CLIENT = 10
FAILURES_IN_ALL = 100

# A second wall: even text that slips through as Markdown or as a chart's title cannot make the browser
# call another host. Plotly and the data grid need inline styles, `eval` and blobs.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'",
        "connect-src 'self' ws: wss: data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
SECURITY_HEADERS: Headers = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
]


@dataclass(frozen=True)
class Access:
    """The token, and whether a person chose it (`explicit`) or it was drawn at this start."""

    token: str
    explicit: bool


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback


def choose_access(address: str | None, environment: MutableMapping[str, str] = os.environ) -> Access:
    """The token to guard this start with: from `SHIFAMIND_TOKEN`, else drawn at random.

    Parameters
    ----------
    address : str, optional
        What the server will listen on; `None` means every interface.

    Raises
    ------
    ShifamindError
        Other machines can reach the address, and no token, or too short a one, was given.
    """
    token = environment.get(TOKEN_VARIABLE, "").strip()
    public = address is None or not is_loopback(address)
    if public and len(token) < SHORTEST_PUBLIC_TOKEN:
        raise ShifamindError(
            f"Refusing to listen on {address or 'every interface'}, where other machines can reach the dashboard, "
            f"without a token of at least {SHORTEST_PUBLIC_TOKEN} characters. "
            f"Set {TOKEN_VARIABLE}, or keep server.address = 127.0.0.1 and use `ssh -L`."
        )
    return Access(token or secrets.token_urlsafe(32), explicit=bool(token))


class FailedAttempts:
    """Wrong tokens of the last minute. Memory is bounded: no more are kept than are allowed in all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[tuple[float, str]] = deque(maxlen=FAILURES_IN_ALL)

    def add(self, client: str) -> None:
        self._recent.append((self._clock(), client))

    def too_many(self, client: str) -> bool:
        while self._recent and self._recent[0][0] <= self._clock() - WINDOW_SECONDS:
            self._recent.popleft()
        of_client = sum(who == client for _, who in self._recent)
        return of_client >= FAILURES_PER_CLIENT or len(self._recent) >= FAILURES_IN_ALL


class Gate:
    """Middleware that serves nothing but the health check without the cookie."""

    def __init__(self, app: ASGIApp, access: Access, attempts: FailedAttempts | None = None) -> None:
        self._app = app
        self._access = access
        self._session = hmac.new(access.token.encode(), secrets.token_bytes(32), "sha256").hexdigest()
        self._attempts = attempts or FailedAttempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or (
            scope["type"] == "http" and scope["path"] == HEALTH_PATH
        ):
            await self._app(scope, receive, send)
        elif not self._access.explicit and _listens_publicly(scope):
            # `uvicorn app:app --host 0.0.0.0` never asked `choose_access` about that address.
            await _refuse(
                scope, receive, send, 403, f"Set {TOKEN_VARIABLE} before listening on this address."
            )
        else:
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_cookie = self._has_cookie(scope)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        tokens = [value for name, value in query if name == TOKEN_PARAMETER]
        if tokens:
            # Servers write the access log from this same scope: the token must be gone before they do.
            rest = urlencode([(name, value) for name, value in query if name != TOKEN_PARAMETER])
            scope["query_string"] = rest.encode()
        if tokens and scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            await self._exchange(tokens[0], has_cookie, scope, receive, send)
        elif has_cookie:
            await self._app(scope, receive, _with_security_headers(send))
        else:
            await _refuse(scope, receive, send, 401, "")

    async def _exchange(
        self, token: str, has_cookie: bool, scope: Scope, receive: Receive, send: Send
    ) -> None:
        client = (scope.get("client") or ("",))[0]
        if not has_cookie and self._attempts.too_many(client):
            await _refuse(scope, receive, send, 429, "Too many wrong tokens. Try again in a minute.")
            return
        right = hmac.compare_digest(token.encode(), self._access.token.encode())
        if right or has_cookie:
            await _redirect(scope, send, [(b"set-cookie", self._cookie(scope))] if right else [])
        else:
            self._attempts.add(client)
            await _refuse(scope, receive, send, 401, "That token is not the one of this start.")

    def _cookie(self, scope: Scope) -> bytes:
        secure = "; Secure" if _is_https(scope) else ""
        return f"{_cookie_name(scope)}={self._session}; Path=/; HttpOnly; SameSite=Lax{secure}".encode()

    def _has_cookie(self, scope: Scope) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(_header(scope, b"cookie"))
        except CookieError:
            return False
        sent = cookies.get(_cookie_name(scope))
        return sent is not None and hmac.compare_digest(sent.value.encode(), self._session.encode())


def _cookie_name(scope: Scope) -> str:
    # Browsers share cookies among the ports of a host; two dashboards must not log each other out.
    server = scope.get("server") or ("", 0)
    return f"shifamind-access-{server[1] or 0}"


def _listens_publicly(scope: Scope) -> bool:
    server = scope.get("server")
    return server is not None and server[1] is not None and not is_loopback(server[0])


def _is_https(scope: Scope) -> bool:
    forwarded = _header(scope, b"x-forwarded-proto").split(",")[0].strip().lower()
    return scope.get("scheme") in ("https", "wss") or forwarded == "https"


def _header(scope: Scope, wanted: bytes) -> str:
    return "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted)


def _with_security_headers(send: Send) -> Send:
    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            added = [header for header in SECURITY_HEADERS if header[0] not in present]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return send_with_headers


async def _redirect(scope: Scope, send: Send, headers: Headers) -> None:
    # One leading slash and no backslash: `//host` and `/\host` would lead to another site.
    path = "/" + quote(scope["path"].lstrip("/\\"), safe="/")
    query = scope["query_string"].decode()
    location = f"{path}?{query}" if query else path
    await _respond(send, 303, b"", [*headers, (b"location", location.encode())])


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await send({"type": "websocket.close", "code": 1008})  # before accept: the server answers 403
        return
    headers: Headers = [(b"content-type", b"text/html; charset=utf-8")]
    if status == 429:
        headers.append((b"retry-after", str(int(WINDOW_SECONDS)).encode()))
    await _respond(send, status, _LOCKED_PAGE.replace("REASON", html.escape(reason)).encode(), headers)


async def _respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    always = [
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *always]})
    await send({"type": "http.response.body", "body": body})


_LOCKED_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ShifaMind diagnostics: locked</title><link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.6 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 0; padding: 0 1.5rem; }
  code { font-size: .9em; padding: .1em .35em; border-radius: .3em; background: rgb(128 128 128 / .18); }
  h1 { font-size: 1.4rem; } .reason { font-weight: 600; }
</style></head><body>
<h1>This dashboard is locked</h1>
<p class="reason">REASON</p>
<p>Open it with the whole address that was printed where it was started, the one that ends in
<code>?token=…</code>. If that line is gone, stop the dashboard and start it again with
<code>make run</code>: it prints a new one.</p>
</body></html>
"""
