"""The access gate: first by itself, then on a real server that nobody has visited yet."""

import asyncio
import os
import subprocess
import sys
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.errors import ShifamindError
from shifamind_core.ui.site.gate import (
    FAILURES_IN_ALL,
    FAILURES_PER_CLIENT,
    Access,
    FailedAttempts,
    Gate,
    choose_access,
)
from tests.support.server import ROOT, Dashboard, start_dashboard

TOKEN = "a-token-of-the-tests"
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

    def __init__(
        self, gate: Gate, client: str = "127.0.0.1", server: tuple | None = ("127.0.0.1", 8501)
    ) -> None:
        self.gate, self.client, self.server = gate, client, server

    def ask(
        self, path="/", query="", method="GET", headers=(), kind="http", scheme="http", client=None
    ) -> "Answer":
        sent: list[dict] = []
        scope = {
            "type": kind,
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "scheme": scheme,
            "client": (client or self.client, 50000),
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
    return Visitor(Gate(site, Access(TOKEN, explicit=False)))


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


def test_guesses_are_limited_for_one_client_and_in_all_then_forgiven() -> None:
    now = [0.0]
    gate = Gate(Site(), Access(TOKEN, explicit=False), FailedAttempts(clock=lambda: now[0]))
    visitor = Visitor(gate)
    signed_in = with_cookie(visitor.ask(query=f"token={TOKEN}"))
    for _ in range(FAILURES_PER_CLIENT):
        assert visitor.ask(query="token=guess").status == 401
    locked = visitor.ask(query=f"token={TOKEN}")
    assert (locked.status, locked.headers["retry-after"]) == (429, "60")
    assert visitor.ask(query=f"token={TOKEN}", client="10.0.0.9").status == 303
    assert visitor.ask(headers=signed_in).status == 200, "who is inside stays inside"
    for number in range(FAILURES_IN_ALL):
        visitor.ask(query="token=guess", client=f"10.1.0.{number}")
    assert visitor.ask(query=f"token={TOKEN}", client="10.0.0.9").status == 429
    now[0] = 60.0
    assert visitor.ask(query=f"token={TOKEN}").status == 303


def test_a_stale_cookie_in_an_open_tab_does_not_count_as_a_guess(visitor: Visitor) -> None:
    for _ in range(5 * FAILURES_PER_CLIENT):
        assert visitor.ask(headers=[("cookie", "shifamind-access-8501=old")]).status == 401
    assert visitor.ask(query=f"token={TOKEN}").status == 303


def test_pages_may_not_call_other_hosts_and_the_sites_own_headers_stay(visitor: Visitor) -> None:
    answer = visitor.ask(headers=with_cookie(visitor.ask(query=f"token={TOKEN}")))
    assert answer.headers["content-security-policy"].startswith("default-src 'self' data: blob:")
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("cookie", ["=", ";;;", "a=\x01; b", 'shifamind-access-8501="', "\xff" * 10])
def test_a_broken_cookie_header_is_no_cookie(visitor: Visitor, cookie: str) -> None:
    assert visitor.ask(headers=[("cookie", cookie)]).status == 401


@pytest.mark.parametrize("address", [None, "0.0.0.0", "::", "192.168.1.7", "example.org", ""])
@pytest.mark.parametrize("token", ["", "short"])
def test_a_public_address_is_refused_without_a_long_token(address: str | None, token: str) -> None:
    with pytest.raises(ShifamindError, match="SHIFAMIND_TOKEN"):
        choose_access(address, {"SHIFAMIND_TOKEN": token})


def test_a_token_may_be_chosen_and_is_else_drawn_anew() -> None:
    assert choose_access("127.0.0.1", {"SHIFAMIND_TOKEN": "mine"}) == Access("mine", explicit=True)
    assert choose_access("0.0.0.0", {"SHIFAMIND_TOKEN": "x" * 16}) == Access("x" * 16, explicit=True)
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
