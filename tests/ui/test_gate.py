"""The access gate: first by itself, then on a real server that nobody has visited yet."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import psutil
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from shifamind_core.errors import ShifamindError
from shifamind_core.ui.site.gate import (
    WRONG_TOKENS,
    Access,
    Gate,
    WrongTokens,
    choose_access,
)
from shifamind_core.ui.site.half_open import MOST_HALF_OPEN, HalfOpen, limit
from shifamind_core.ui.site.logins import MOST_LOGINS, Logins
from shifamind_core.ui.site.origin import Names
from tests.support.server import ROOT, Dashboard, start_dashboard

TOKEN = "a-token-of-the-tests"
HOST = "127.0.0.1:8501"
NAMES = Names(("127.0.0.1", "localhost", "*.example.org"), ("https://proxy.example.com",))
STREAMLIT_PATHS = (
    "/",
    "/inference",
    "/Inference",
    "/overview",
    "/thresholds",
    "/?anything=1",
    "/media/0123456789abcdef.png",
    "/static/js/index.js",
    "/app/static/x",
    "/component/x/index.html",
    "/_stcore/host-config",
    "/_stcore/metrics",
    "/_stcore/script-health-check",
    "/_stcore/health/",
    "/_stcore/health/../host-config",
    "/_stcore/health%2f..%2fhost-config",
    "//_stcore/health",
)


class Site:
    """An ASGI app that remembers who came through."""

    def __init__(self) -> None:
        self.visits: list[dict] = []

    async def __call__(self, scope, receive, send) -> None:
        self.visits.append(scope)
        if scope["type"] == "http":
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"x-frame-options", b"DENY")]}
            )
            await send({"type": "http.response.body", "body": b"a page"})


class Visitor:
    """Calls a gate as a server would, and keeps what it answers."""

    def __init__(self, gate: Gate, server: tuple | None = ("127.0.0.1", 8501)) -> None:
        self.gate, self.server = gate, server

    def ask(
        self, path="/", query="", method="GET", headers=(), kind="http", scheme="http", host=HOST, origin=None
    ) -> "Answer":
        """One request; a websocket comes from a page of the dashboard, unless `origin` says otherwise."""
        sent: list[dict] = []
        origin = f"http://{host}" if origin is None and kind == "websocket" else origin
        headers = [("host", host), *([("origin", origin)] if origin else []), *headers]
        scope = {
            "type": kind,
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "scheme": scheme,
            "client": ("127.0.0.1", 50000),
            "server": self.server,
        }

        async def receive() -> dict:
            return {"type": f"{kind}.connect"}

        async def send(message) -> None:
            sent.append(message)

        asyncio.run(self.gate(scope, receive, send))
        return Answer(sent, scope)


class Answer:
    def __init__(self, sent: list[dict], scope: dict) -> None:
        self.sent, self.scope = sent, scope

    @property
    def status(self) -> int:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def cookie(self) -> str:
        return self.headers["set-cookie"].split(";")[0]


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def visitor(site: Site) -> Visitor:
    return Visitor(Gate(site, Access(TOKEN, explicit=False), NAMES))


def with_cookie(answer: Answer) -> list[tuple[str, str]]:
    return [("cookie", f"other=1; {answer.cookie}")]


def test_nothing_but_the_health_check_is_served_without_the_cookie(visitor: Visitor, site: Site) -> None:
    for path in STREAMLIT_PATHS:
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            assert visitor.ask(path, method=method).status == 401, (method, path)
    assert site.visits == []
    assert visitor.ask("/_stcore/health").status == 200


def test_the_token_is_exchanged_for_a_cookie_that_is_not_the_token(visitor: Visitor, site: Site) -> None:
    answer = visitor.ask("/compare", f"a=1&token={TOKEN}&b=%26&a=2")
    assert answer.status == 303
    assert answer.headers["location"] == "/compare?a=1&b=%26&a=2"
    assert answer.headers["set-cookie"].split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Lax"]
    assert TOKEN not in answer.headers["set-cookie"]
    assert site.visits == []
    assert visitor.ask("/compare", headers=with_cookie(answer)).status == 200


def test_behind_https_the_cookie_is_secure(visitor: Visitor) -> None:
    for more in ({"scheme": "https"}, {"headers": [("x-forwarded-proto", "https, http")]}):
        assert visitor.ask(query=f"token={TOKEN}", **more).headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1], "é", "%00", TOKEN.upper()])
def test_a_wrong_token_gets_no_cookie(visitor: Visitor, site: Site, token: str) -> None:
    answer = visitor.ask(query=f"token={token}")
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert site.visits == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_token_opens_nothing_but_a_page_load(visitor: Visitor, site: Site, method: str) -> None:
    assert visitor.ask(query=f"token={TOKEN}", method=method).status == 401
    assert site.visits == []


def test_a_websocket_needs_the_cookie(visitor: Visitor, site: Site) -> None:
    cookie = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    for headers, query in ((), ""), ((), f"token={TOKEN}"), ([("cookie", "shifamind-access-8501=x")], ""):
        answer = visitor.ask("/_stcore/stream", query, headers=headers, kind="websocket")
        assert [message["type"] for message in answer.sent] == ["websocket.close"]
    assert site.visits == []
    visitor.ask("/_stcore/stream", headers=cookie, kind="websocket")
    assert len(site.visits) == 1


def test_the_cookie_of_another_start_is_worth_nothing(visitor: Visitor) -> None:
    other = Visitor(Gate(Site(), Access(TOKEN, explicit=False)))
    assert other.ask(headers=with_cookie(visitor.ask(query=f"token={TOKEN}"))).status == 401


def test_two_dashboards_on_one_host_do_not_log_each_other_out(visitor: Visitor) -> None:
    other = Visitor(Gate(Site(), Access(TOKEN, explicit=False)), server=("127.0.0.1", 8502))
    ours, theirs = (one.ask(query=f"token={TOKEN}").cookie for one in (visitor, other))
    both = [("cookie", f"{ours}; {theirs}")]
    assert visitor.ask(headers=both).status == other.ask(headers=both).status == 200


def test_with_the_cookie_a_token_of_whatever_kind_is_dropped_from_the_address(visitor: Visitor) -> None:
    cookie = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    answer = visitor.ask("/codes", "token=wrong&run=1", headers=cookie)
    assert (answer.status, answer.headers["location"]) == (303, "/codes?run=1")
    assert "set-cookie" not in answer.headers


def test_the_token_is_gone_from_what_a_server_logs(visitor: Visitor) -> None:
    for kind in ("http", "websocket"):
        assert visitor.ask("/x", f"a=1&token={TOKEN}", kind=kind).scope["query_string"] == b"a=1"


@given(path=st.text(max_size=40), rest=st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=3))
def test_the_redirect_stays_on_this_host_and_keeps_the_other_parameters(path: str, rest: list) -> None:
    kept = [(name, value) for name, value in rest if name != "token"]
    visitor = Visitor(Gate(Site(), Access(TOKEN, explicit=False)))
    answer = visitor.ask("/" + path, urlencode([*kept, ("token", TOKEN)]))
    target = urlsplit(answer.headers["location"])
    assert answer.status == 303
    assert (target.scheme, target.netloc) == ("", "")
    assert target.path[:1] == "/" and target.path[1:2] not in ("/", "\\")
    assert parse_qsl(target.query, keep_blank_values=True) == kept


def test_wrong_tokens_are_counted_but_the_right_one_always_enters(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    gate = Gate(Site(), Access(TOKEN, explicit=False), wrong=WrongTokens(clock=lambda: now[0]))
    visitor = Visitor(gate)
    signed_in = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    for _ in range(WRONG_TOKENS - 1):
        assert visitor.ask(query="token=guess").status == 401
    for _ in range(3):
        refused = visitor.ask(query="token=guess")
        assert (refused.status, refused.headers["retry-after"]) == (429, "60")
    assert visitor.ask(query=f"token={TOKEN}").status == 303, "nobody can shut the door from outside"
    assert visitor.ask(headers=signed_in).status == 200
    assert capsys.readouterr().err.count("somebody is guessing") == 1
    now[0] = 60.0
    assert visitor.ask(query="token=guess").status == 401


@pytest.mark.parametrize("forwarded", ["10.0.0.9", "127.0.0.1", "::1, 10.0.0.9"])
def test_nothing_depends_on_the_address_that_a_request_claims(visitor: Visitor, forwarded: str) -> None:
    claim = [("x-forwarded-for", forwarded), ("x-real-ip", forwarded), ("forwarded", f"for={forwarded}")]
    answers = [
        (
            visitor.ask(query="token=guess", headers=more).status,
            visitor.ask(query=f"token={TOKEN}", headers=more).status,
        )
        for _ in range(2 * WRONG_TOKENS)
        for more in (claim,)
    ]
    assert {entered for _, entered in answers} == {303}
    assert [refused for refused, _ in answers].index(429) == WRONG_TOKENS - 1


def test_a_stale_cookie_in_an_open_tab_does_not_count_as_a_guess(visitor: Visitor) -> None:
    for _ in range(2 * WRONG_TOKENS):
        assert visitor.ask(headers=[("cookie", "shifamind-access-8501=old")]).status == 401
    assert visitor.ask(query="token=guess").status == 401


def test_pages_may_not_call_other_hosts_and_the_sites_own_headers_stay(visitor: Visitor) -> None:
    answer = visitor.ask(headers=with_cookie(visitor.ask(query=f"token={TOKEN}")))
    assert answer.headers["content-security-policy"].startswith("default-src 'self' data: blob:")
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("cookie", ["=", ";;;", "a=\x01; b", 'shifamind-access-8501="', "\xff" * 10])
def test_a_broken_cookie_header_is_no_cookie(visitor: Visitor, cookie: str) -> None:
    assert visitor.ask(headers=[("cookie", cookie)]).status == 401


@pytest.mark.parametrize("address", [None, "0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_a_public_address_is_refused_without_a_token(address: str | None) -> None:
    with pytest.raises(ShifamindError, match=r"Refusing to listen.*SHIFAMIND_TOKEN"):
        choose_access(address, {})


@pytest.mark.parametrize("address", [None, "0.0.0.0", "127.0.0.1", "::1"])
@pytest.mark.parametrize(
    "token", ["short", "fifteen-letters", "aaaaaaaaaaaaaaaaaaaaaaaa", "abcabcabcabcabcabc"]
)
def test_a_token_that_could_be_guessed_is_refused_wherever_it_comes_from(
    address: str | None, token: str
) -> None:
    with pytest.raises(ShifamindError, match="at least 16") as refused:
        choose_access(address, {"SHIFAMIND_TOKEN": token})
    assert token not in str(refused.value)
    with pytest.raises(ShifamindError, match="at least 16"):
        Access(token, explicit=True)


def test_a_token_may_be_chosen_and_is_else_drawn_anew() -> None:
    for address in ("127.0.0.1", "0.0.0.0"):
        assert choose_access(address, {"SHIFAMIND_TOKEN": f" {TOKEN} "}) == Access(TOKEN, explicit=True)
    drawn = [choose_access("::1", {}) for _ in range(2)]
    assert drawn[0].token != drawn[1].token
    assert not drawn[0].explicit and len(drawn[0].token) >= 43


@pytest.mark.parametrize("address", ["192.168.1.7", "::ffff:10.0.0.1"])
def test_a_drawn_token_is_not_served_on_a_public_socket_however_it_was_bound(
    site: Site, address: str
) -> None:
    gates = [Gate(site, Access(TOKEN, explicit)) for explicit in (False, True)]
    drawn, chosen = (
        Visitor(gate, server=(address, 8501)).ask(query=f"token={TOKEN}").status for gate in gates
    )
    assert (drawn, chosen) == (403, 303)
    assert Visitor(gates[0], server=("::ffff:127.0.0.1", 8501)).ask(query=f"token={TOKEN}").status == 303


# Names and pages -----------------------------------------------------------------------------------------


FOREIGN_HOSTS = (
    "evil.example",
    "127.0.0.1.evil.example:8501",
    "localhost@evil.example",
    "example.org",
    "",
    "[::1",
    "a/b",
)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_foreign_name_is_refused_before_the_cookie_is_looked_at(
    visitor: Visitor, site: Site, host: str, kind: str
) -> None:
    cookie = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    for headers, query in ((cookie, ""), ((), f"token={TOKEN}"), ((), "")):
        answer = visitor.ask(headers=headers, query=query, kind=kind, host=host, origin=f"http://{host}")
        assert (answer.sent[0].get("status"), answer.sent[0].get("code")) in ((403, None), (None, 1008))
        assert "set-cookie" not in dict(answer.sent[0].get("headers", ()))
    assert visitor.ask("/_stcore/health", host=host).status == 403
    assert site.visits == []


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST:1", "a.example.org", "b.a.example.org.:443"])
def test_allowed_names_are_answered_whatever_the_port(visitor: Visitor, host: str) -> None:
    assert visitor.ask(host=host).status == 401


ELSEWHERE = (
    "http://127.0.0.1:9000",  # another program on this machine: cookies know no ports
    "http://127.0.0.1",
    "http://localhost:8501",
    "https://127.0.0.1:8501.evil.example",
    "http://evil.example",
    "null",
    "file://",
    "http://127.0.0.1:8501@evil.example",
    "http://127.0.0.1:99999",
)


@pytest.mark.parametrize("origin", ELSEWHERE)
def test_a_page_of_another_port_or_host_sends_nothing_even_with_the_cookie(
    visitor: Visitor, site: Site, origin: str
) -> None:
    cookie = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        assert visitor.ask(method=method, headers=cookie, origin=origin).status == 403
    assert visitor.ask(headers=cookie, origin=origin, kind="websocket").sent[0]["type"] == "websocket.close"
    assert visitor.ask(query=f"token={TOKEN}", origin=origin).status == 403
    assert site.visits == []


def test_the_dashboards_own_page_and_one_that_was_allowed_may_send(visitor: Visitor, site: Site) -> None:
    cookie = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    for origin, host, scheme in (
        (f"http://{HOST}", HOST, "http"),
        ("https://a.example.org", "a.example.org", "http"),  # a tunnel ends TLS before us
        ("https://a.example.org", "a.example.org:443", "https"),
        ("https://proxy.example.com", HOST, "http"),
    ):
        assert (
            visitor.ask(method="PUT", headers=cookie, origin=origin, host=host, scheme=scheme).status == 200
        )
        visitor.ask(headers=cookie, origin=origin, host=host, scheme=scheme, kind="websocket")
    assert len(site.visits) == 8


def test_behind_tls_a_page_without_it_is_another_page(visitor: Visitor) -> None:
    cookie = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    plain = {"headers": cookie, "origin": "http://a.example.org", "host": "a.example.org"}
    assert visitor.ask(**plain, scheme="https").status == 403
    assert visitor.ask(**plain | {"headers": [*cookie, ("x-forwarded-proto", "https")]}).status == 403


def test_a_websocket_without_an_origin_comes_from_no_page(visitor: Visitor, site: Site) -> None:
    cookie = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    assert visitor.ask(headers=cookie, kind="websocket", origin="").sent[0]["type"] == "websocket.close"
    assert site.visits == []


@pytest.mark.parametrize("where", ["same-site", "cross-site"])
@pytest.mark.parametrize(("mode", "dest"), [("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")])
def test_another_page_cannot_load_a_part_of_this_one(
    visitor: Visitor, where: str, mode: str, dest: str
) -> None:
    cookie = with_cookie(visitor.ask(query=f"token={TOKEN}"))

    def says(site: str, mode: str, dest: str) -> list[tuple[str, str]]:
        return [*cookie, ("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)]

    assert visitor.ask(headers=says(where, mode, dest)).status == 403
    assert visitor.ask(headers=says("same-origin", mode, dest)).status == 200
    assert visitor.ask(headers=says(where, "navigate", "document")).status == 200, "following a link is fine"


# Logins --------------------------------------------------------------------------------------------------


def test_each_login_has_a_cookie_of_its_own_and_signs_out_alone(visitor: Visitor) -> None:
    one, other = (with_cookie(visitor.ask(query=f"token={TOKEN}")) for _ in range(2))
    assert one != other
    assert b"Sign out" in visitor.ask("/_access", headers=one).sent[1]["body"]
    for method, path, origin in (
        ("GET", "/_access/sign-out", None),
        ("POST", "/_access/sign-out", None),  # no page of ours sent it
        ("POST", "/_access/elsewhere", f"http://{HOST}"),
    ):
        visitor.ask(path, method=method, headers=one, origin=origin)
        assert visitor.ask(headers=one).status == 200
    left = visitor.ask("/_access/sign-out", method="POST", headers=one, origin=f"http://{HOST}")
    assert (left.status, "Max-Age=0" in left.headers["set-cookie"]) == (200, True)
    assert (visitor.ask(headers=one).status, visitor.ask(headers=other).status) == (401, 200)


def test_a_new_token_makes_the_old_one_and_every_other_login_worthless() -> None:
    announced: list[str] = []
    visitor = Visitor(Gate(Site(), Access(TOKEN, explicit=True), announce=announced.append))
    one, other = (with_cookie(visitor.ask(query=f"token={TOKEN}")) for _ in range(2))
    assert visitor.ask("/_access/new-token", method="POST", origin=f"http://{HOST}").status == 401
    drawn = visitor.ask("/_access/new-token", method="POST", headers=one, origin=f"http://{HOST}")
    (token,) = announced
    assert token.encode() not in drawn.sent[1]["body"], "a stolen cookie must not earn a token"
    assert visitor.ask(query=f"token={TOKEN}").status == 401
    assert [visitor.ask(headers=cookie).status for cookie in (one, other, with_cookie(drawn))] == [
        401,
        401,
        200,
    ]
    assert visitor.ask(query=f"token={token}").status == 303


def test_signing_out_closes_the_pages_that_are_open_elsewhere() -> None:
    """A websocket is served, then its login ends: what the app still says goes nowhere, what is sent is a goodbye."""
    heard: list[dict] = []
    sent: list[dict] = []

    async def site(scope, receive, send) -> None:
        await send({"type": "websocket.accept"})
        opened.set()
        while (message := await receive())["type"] != "websocket.disconnect":
            heard.append(message)
            await send({"type": "websocket.send", "bytes": b"answer"})

    async def story() -> None:
        nonlocal opened
        opened = asyncio.Event()
        inbox: asyncio.Queue[dict] = asyncio.Queue()
        login = gate._logins.of(value := gate._logins.begin())
        headers = {"host": HOST, "origin": f"http://{HOST}", "cookie": f"shifamind-access-8501={value}"}
        scope = {
            "type": "websocket",
            "path": "/_stcore/stream",
            "query_string": b"",
            "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
            "server": ("127.0.0.1", 8501),
        }

        async def send(message) -> None:
            sent.append(message)

        serving = asyncio.create_task(gate(scope, inbox.get, send))
        await opened.wait()
        await gate._logins.end(login)
        inbox.put_nowait({"type": "websocket.receive", "bytes": b"a click"})
        await serving

    opened: asyncio.Event
    gate = Gate(site, Access(TOKEN, explicit=False))
    asyncio.run(story())
    assert heard == []
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]


def test_a_browser_that_reads_nothing_does_not_hold_up_a_sign_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shifamind_core.ui.site.logins.CLOSE_SECONDS", 0.01)

    async def story() -> None:
        logins = Logins()
        login = logins.of(logins.begin())
        assert login is not None
        login.sockets.add(asyncio.Event().wait)  # type: ignore[arg-type]
        await asyncio.wait_for(logins.end(login), timeout=10)
        assert not login.open

    asyncio.run(story())


def test_logins_are_bounded_and_the_oldest_goes_first() -> None:
    logins = Logins()
    first, *_, last = (logins.begin() for _ in range(MOST_LOGINS + 1))
    assert logins.of(first) is None and logins.of(last) is not None


def test_whoever_is_not_inside_gets_one_answer_a_connection(visitor: Visitor) -> None:
    answers = [
        visitor.ask(),
        visitor.ask("/_stcore/health"),
        visitor.ask(query=f"token={TOKEN}"),
        visitor.ask(host="x"),
    ]
    assert [answer.headers["connection"] for answer in answers] == ["close"] * 4
    assert "connection" not in visitor.ask(headers=with_cookie(answers[2])).headers


# On a real server ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cold")
    dashboard = start_dashboard(folder, SHIFAMIND_RUN_DIR=str(folder / "no-such-run"))
    yield dashboard
    dashboard.stop()


def test_a_cold_server_serves_nothing_without_the_cookie(cold: Dashboard) -> None:
    for path in STREAMLIT_PATHS:
        response = cold.request(path)
        assert response.status == 401, path
        assert b"This dashboard is locked" in response.body
        assert b"<script" not in response.body
    session = "/_stcore/upload_file/00000000-0000-0000-0000-000000000000/1"
    for method in ("PUT", "POST", "DELETE", "OPTIONS"):
        assert cold.request(session, method).status == 401
    assert cold.request("/", Host="evil.example").status == 403
    assert cold.request("/", Origin="http://127.0.0.1:9").status == 403
    assert cold.websocket() == 403
    assert cold.websocket(Cookie="shifamind-access-0=guess") == 403
    health = cold.request("/_stcore/health")
    assert (health.status, health.body) == (200, b"ok")


def test_with_the_printed_address_everything_is_served(cold: Dashboard) -> None:
    wrong = cold.request("/inference?token=wrong")
    assert (wrong.status, wrong.getheader("set-cookie")) == (401, None)
    answer = cold.request(f"/inference?token={cold.token}&run=1")
    assert (answer.status, answer.getheader("location")) == (303, "/inference?run=1")
    cookie = answer.getheader("set-cookie").split(";")[0]
    assert cold.token not in cookie
    for path in ("/", "/inference", "/_stcore/host-config"):
        assert cold.request(path, Cookie=cookie).status == 200, path
    assert cold.request("/media/none.png", Cookie=cookie).status == 404
    assert cold.websocket(Cookie=cookie) == 101


def test_the_server_prints_one_address_and_never_logs_the_token_again(cold: Dashboard) -> None:
    cold.request(f"/?token={cold.token}")
    log = cold.log.read_text()
    assert log.count(cold.token) == 1
    assert log.count("http") == 1
    assert cold.address == f"http://127.0.0.1:{cold.port}/?token={cold.token}"


def test_a_public_address_without_a_token_ends_with_one_line() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SHIFAMIND_TOKEN"}
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app.py",
        "--server.address",
        "0.0.0.0",
        "--server.port",
        "0",
    ]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.strip().startswith("error: Refusing to listen on 0.0.0.0")
    assert len((ended.stdout + ended.stderr).strip().splitlines()) == 1


def test_connections_that_never_ask_are_few_and_do_not_keep_a_person_out(cold: Dashboard) -> None:
    silent = [socket.create_connection(("127.0.0.1", cold.port)) for _ in range(1_100)]
    try:
        for number, connection in enumerate(silent):
            if number % 2:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        assert cold.request("/_stcore/health").status == 200
        assert cold.request("/", Cookie=cold.cookie()).status == 200
        held = sum(
            one.status == psutil.CONN_ESTABLISHED
            for one in psutil.Process(cold.process.pid).net_connections()
        )
        assert held <= MOST_HALF_OPEN
    finally:
        for connection in silent:
            connection.close()
    assert cold.process.poll() is None


def test_a_head_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """On a Uvicorn of this process, whose patience is made short; a request that is being answered is waited for."""

    class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        """A class of the test's own, so that no other server is changed."""

    async def site(scope, receive, send) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(0.5)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

    async def story() -> tuple[bytes, bytes, bytes]:
        limit(Protocol, HalfOpen(most=10, seconds=0.2))
        config = uvicorn.Config(site, port=0, http=Protocol, lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]

        async def say(*parts: bytes) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.7)
            with contextlib.suppress(ConnectionResetError):
                heard = await asyncio.wait_for(reader.read(), timeout=10)
                writer.close()
                return heard
            return b"reset"

        whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        answers = await asyncio.gather(say(b"GET"), say(whole), say(whole, b"GET /again"))
        server.should_exit = True
        await serving
        return answers  # type: ignore[return-value]

    never, once, twice = asyncio.run(story())
    assert never in (b"", b"reset"), "no head within its time"
    assert once.startswith(b"HTTP/1.1 200")
    assert twice.startswith(b"HTTP/1.1 200") or twice == b"reset"
