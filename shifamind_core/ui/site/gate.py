"""The access gate: ASGI middleware around the whole site.

A password box in a page protects that page only. Until some session has run `st.navigation`, Streamlit
serves a sibling `pages/` folder by itself; and uploads, media and the websocket are routes of their own.
So the gate stands before all of them: without its cookie there is a 401, for a websocket a 403.

`?token=…` is exchanged once for a cookie of its own (see `logins`) and leaves the address bar with a redirect. What
keeps guesses out is the token's length, so a short one is refused wherever it comes from; the limit on wrong tokens
only says so in the log and never stands in the way of the right one. Nothing here depends on the address that a
request claims to come from.
"""

import hmac
import ipaddress
import os
import secrets
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from shifamind_core.errors import ShifamindError
from shifamind_core.ui.site import gate_pages
from shifamind_core.ui.site.logins import Login, Logins
from shifamind_core.ui.site.origin import SAFE_METHODS, Names, comes_from_elsewhere

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

TOKEN_VARIABLE = "SHIFAMIND_TOKEN"
TOKEN_PARAMETER = "token"
HEALTH_PATH = "/_stcore/health"
ACCESS_PATH = "/_access"
SHORTEST_TOKEN = 16
FEWEST_DIFFERENT = 6  # characters; "aaaaaaaaaaaaaaaa" is long and no secret
WINDOW_SECONDS = 60.0
WRONG_TOKENS = 100  # in `WINDOW_SECONDS`; more are answered 429, and the log says so once

# A second wall: even text that slips through as Markdown or as a chart's title cannot make the browser
# call another host. Plotly and the data grid need inline styles, `eval` and blobs.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'",
        "connect-src 'self' data: blob:",  # web sockets of this very origin are 'self' since CSP 3 (Safari since 15.4)
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
    """The token, and whether a person chose it (`explicit`) or it was drawn at this start.

    Raises
    ------
    ShifamindError
        A token that could be guessed.
    """

    token: str
    explicit: bool

    def __post_init__(self) -> None:
        if len(self.token) < SHORTEST_TOKEN or len(set(self.token)) < FEWEST_DIFFERENT:
            raise ShifamindError(
                f"The token has {len(self.token)} characters, {len(set(self.token))} of them different; it needs at "
                f"least {SHORTEST_TOKEN}, {FEWEST_DIFFERENT} different. Set a longer {TOKEN_VARIABLE}, or leave it "
                "out on this machine's own address: then one is drawn."
            )


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
        A token was given that could be guessed; or other machines can reach the address, and none was given.
    """
    token = environment.get(TOKEN_VARIABLE, "").strip()
    if not token and (address is None or not is_loopback(address)):
        raise ShifamindError(
            f"Refusing to listen on {address or 'every interface'}, where other machines can reach the dashboard, "
            f"without a token of at least {SHORTEST_TOKEN} characters. "
            f"Set {TOKEN_VARIABLE}, or keep server.address = 127.0.0.1 and use `ssh -L`."
        )
    return Access(token or secrets.token_urlsafe(32), explicit=bool(token))


class WrongTokens:
    """Wrong tokens of the last minute, from whomever. Memory is bounded: no more are kept than are counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=WRONG_TOKENS)
        self._said = -WINDOW_SECONDS

    def add(self) -> bool:
        """Note one; whether they have become too many."""
        now = self._clock()
        self._recent.append(now)
        too_many = len(self._recent) == WRONG_TOKENS and self._recent[0] > now - WINDOW_SECONDS
        if too_many and now >= self._said + WINDOW_SECONDS:
            self._said = now
            line = f"warning: {WRONG_TOKENS} wrong tokens within {WINDOW_SECONDS:g} s: somebody is guessing."
            print(line, file=sys.stderr, flush=True)
        return too_many


class Gate:
    """Middleware that serves nothing but the health check without the cookie.

    Parameters
    ----------
    names : Names
        Which hosts it answers to, and which other pages may send to it.
    base : str
        `server.baseUrlPath`, with a leading slash and none behind, or empty.
    announce : callable, optional
        Told of a new token that was drawn while running.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        names: Names = Names(),  # noqa: B008 - frozen
        base: str = "",
        announce: Callable[[str], None] = lambda token: None,
        wrong: WrongTokens | None = None,
    ) -> None:
        self._app = app
        self._access = access
        self._names = names
        self._base = base
        self._announce = announce
        self._wrong = wrong or WrongTokens()
        self._logins = Logins()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refused = self._foreign(scope)
        if refused:
            await _refuse(scope, receive, send, 403, refused)
        elif scope["type"] == "http" and scope["path"] == self._base + HEALTH_PATH:
            await self._app(scope, receive, _closing(send))
        elif not self._access.explicit and _listens_publicly(scope):
            # `uvicorn app:app --host 0.0.0.0` never asked `choose_access` about that address.
            reason = f"Set {TOKEN_VARIABLE} before listening on this address."
            await _refuse(scope, receive, send, 403, reason)
        else:
            await self._admit(scope, receive, send)

    def _foreign(self, scope: Scope) -> str | None:
        """Why a request is not for this dashboard or not from its pages; looked at before any cookie."""
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if not self._names.answers_to(host):
            return "It does not go by this name. A name has to be among server.allowedHosts."
        if origin and not self._names.lets_send(origin, host, _is_https(scope)):
            return "Another page sent this."
        if not origin and scope["type"] == "websocket":
            return "A websocket without an Origin comes from no page."
        if not origin and comes_from_elsewhere(
            {
                part: _header(scope, f"sec-fetch-{part}".encode()) or "none"
                for part in ("site", "mode", "dest")
            }
        ):
            return "Another page asked for this."
        return None

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        login = self._login(scope)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        tokens = [value for name, value in query if name == TOKEN_PARAMETER]
        if tokens:
            # Servers write the access log from this same scope: the token must be gone before they do.
            rest = urlencode([(name, value) for name, value in query if name != TOKEN_PARAMETER])
            scope["query_string"] = rest.encode()
        if tokens and scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            await self._exchange(tokens[0], login, scope, receive, send)
        elif login is None:
            await _refuse(scope, receive, send, 401, "")
        elif scope["type"] == "websocket":
            await self._hold(login, scope, receive, send)
        elif scope["path"].startswith(self._base + ACCESS_PATH):
            await self._change_access(login, scope, receive, send)
        else:
            await self._app(scope, receive, _with_security_headers(send))

    async def _exchange(
        self, token: str, login: Login | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if login is not None:
            await _redirect(scope, send, [])
        elif hmac.compare_digest(token.encode(), self._access.token.encode()):
            await _redirect(scope, send, [self._set_cookie(scope, self._logins.begin())])
        elif self._wrong.add():
            await _refuse(scope, receive, send, 429, "Too many wrong tokens. The right one still opens it.")
        else:
            await _refuse(scope, receive, send, 401, "That token is not the one of this start.")

    async def _hold(self, login: Login, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a websocket for as long as its login lasts."""

        async def receive_while_open() -> Message:
            message = await receive()
            return message if login.open else {"type": "websocket.disconnect", "code": 1008}

        async def send_while_open(message: Message) -> None:
            if login.open:
                await send(message)

        async def close() -> None:
            await send({"type": "websocket.close", "code": 1008})

        login.sockets.add(close)
        try:
            await self._app(scope, receive_while_open, send_while_open)
        finally:
            login.sockets.discard(close)

    async def _change_access(self, login: Login, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["method"], scope["path"].removeprefix(self._base + ACCESS_PATH)
        if asked[0] != "POST":
            lasts = f"It lasts until the dashboard stops; after that {TOKEN_VARIABLE} counts again."
            await _say(send, 200, gate_pages.access(lasts if self._access.explicit else ""))
        elif not _header(scope, b"origin"):
            await _refuse(scope, receive, send, 403, "Another page sent this.")
        elif asked[1] == "/sign-out":
            await self._logins.end(login)
            await _say(send, 200, gate_pages.signed_out(), [self._set_cookie(scope, "")])
        elif asked[1] == "/new-token":
            self._access = replace(self._access, token=secrets.token_urlsafe(32))
            await self._logins.end_all()
            self._announce(self._access.token)
            cookie = self._set_cookie(scope, self._logins.begin())
            await _say(send, 200, gate_pages.token_drawn(self._base + "/"), [cookie])
        else:
            await _refuse(scope, receive, send, 404, "There is nothing here.")

    def _set_cookie(self, scope: Scope, value: str) -> tuple[bytes, bytes]:
        """The cookie with this value; an empty one takes it away."""
        secure = "; Secure" if _is_https(scope) else ""
        ends = "" if value else "; Max-Age=0"
        cookie = f"{_cookie_name(scope)}={value}; Path=/; HttpOnly; SameSite=Lax{ends}{secure}"
        return b"set-cookie", cookie.encode()

    def _login(self, scope: Scope) -> Login | None:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(_header(scope, b"cookie"))
        except CookieError:
            return None
        sent = cookies.get(_cookie_name(scope))
        return None if sent is None else self._logins.of(sent.value)


def _cookie_name(scope: Scope) -> str:
    # Browsers share cookies among the ports of a host; two dashboards must not log each other out.
    server = scope.get("server") or ("", 0)
    return f"shifamind-access-{server[1] or 0}"


def _listens_publicly(scope: Scope) -> bool:
    server = scope.get("server")
    return server is not None and server[1] is not None and not is_loopback(server[0])


def _is_https(scope: Scope) -> bool:
    """Whether the browser came over TLS. A false `X-Forwarded-Proto` harms its sender alone: its cookie is Secure."""
    forwarded = _header(scope, b"x-forwarded-proto").split(",")[0].strip().lower()
    return scope.get("scheme") in ("https", "wss") or forwarded == "https"


def _header(scope: Scope, wanted: bytes) -> str:
    return "; ".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted)


def _with_security_headers(send: Send) -> Send:
    return _with_headers(send, SECURITY_HEADERS)


def _closing(send: Send) -> Send:
    """Who has not signed in gets one answer a connection, so that nobody holds many of them."""
    return _with_headers(send, [(b"connection", b"close")])


def _with_headers(send: Send, headers: Headers) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            added = [header for header in headers if header[0] not in present]
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
    retry: Headers = [(b"retry-after", str(int(WINDOW_SECONDS)).encode())] if status == 429 else []
    await _say(send, status, gate_pages.locked(reason), retry)


async def _say(send: Send, status: int, page: bytes, headers: Headers | None = None) -> None:
    await _respond(send, status, page, [(b"content-type", b"text/html; charset=utf-8"), *(headers or [])])


async def _respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    always = [
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *always]})
    await send({"type": "http.response.body", "body": body})
