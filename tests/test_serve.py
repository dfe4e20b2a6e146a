"""`serve` as a person or a notebook starts it: one link that opens, through a tunnel too, and nothing left behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from shifamind_core.cli import main
from tests.support.server import Dashboard
from tests.support.serving import serving

TUNNEL_HOST = "quiet-words-of-tests.trycloudflare.com"
# Prints what the real one prints: first what it may fail with, then its box. Then it stays.
CLOUDFLARED = f"""#!{sys.executable}
import sys, time
print(*sys.argv[1:], file=open(__file__ + ".asked", "w"))
print('2026-02-12T10:00:00Z ERR retrying error="Post https://api.trycloudflare.com/tunnel: EOF"', file=sys.stderr)
print("2026-02-12T10:00:01Z INF |  https://{TUNNEL_HOST}  |", file=sys.stderr, flush=True)
time.sleep(600)
"""


def dashboard_at(link: str, process: subprocess.Popen, port: int | None = None) -> Dashboard:
    return Dashboard(process, port or int(urlsplit(link).port or 0), Path())


def test_the_printed_link_opens_the_dashboard_and_all_ends_with_it(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, link):
        parts = urlsplit(link)
        dashboard = dashboard_at(link, process)
        opened = dashboard.request(f"{parts.path}?{parts.query}")
        assert opened.status == 303
        assert dashboard.websocket(Cookie=opened.getheader("set-cookie", "").split(";")[0]) == 101
        assert "Nothing leaves this machine" in (tmp_path / "errors.txt").read_text()
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert psutil.wait_procs(children, timeout=10)[1] == []
        assert process.stdout is not None and process.stdout.read() == "", "one document, no more"


def test_through_a_tunnel_its_name_alone_is_let_in_and_it_dies_with_a_killed_parent(tmp_path: Path) -> None:
    tunnel = tmp_path / "cloudflared"
    tunnel.write_text(CLOUDFLARED)
    tunnel.chmod(0o700)
    with serving(tmp_path, "--tunnel", "cloudflared") as (process, link):
        parts = urlsplit(link)
        assert (parts.scheme, parts.netloc) == ("https", TUNNEL_HOST) and parse_qs(parts.query)["token"]
        asked = (tmp_path / "cloudflared.asked").read_text().split()
        port = int(asked[-1].rpartition(":")[2])
        assert asked[:2] == ["tunnel", "--no-autoupdate"] and asked[-1] == f"http://127.0.0.1:{port}"

        dashboard = dashboard_at(link, process, port)
        through = {"Host": TUNNEL_HOST, "X_Forwarded_Proto": "https"}
        opened = dashboard.request(f"/?{parts.query}", **through)
        cookie = opened.getheader("set-cookie", "")
        assert opened.status == 303 and "Secure" in cookie
        let_in = {**through, "Cookie": cookie.split(";")[0]}
        assert dashboard.request("/", **let_in).status == 200
        handshake = {**let_in, "Origin": f"https://{TUNNEL_HOST}"}
        assert dashboard.websocket(**handshake) == 101
        assert dashboard.request("/", **{**let_in, "Host": "another.trycloudflare.com"}).status == 403

        said = (tmp_path / "errors.txt").read_text()
        assert "Cloudflare, can read" in said and "no note's text" in said
        assert "token=" not in said and "api.trycloudflare.com" not in said
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.kill()
        if sys.platform == "linux":
            assert psutil.wait_procs(children, timeout=10)[1] == []


def test_a_tunnel_that_ends_ends_the_rest_with_one_line(tmp_path: Path) -> None:
    tunnel = tmp_path / "cloudflared"
    tunnel.write_text(CLOUDFLARED)
    tunnel.chmod(0o700)
    with serving(tmp_path, "--tunnel", "cloudflared") as (process, _):
        (found,) = [one for one in psutil.Process(process.pid).children() if str(tunnel) in one.cmdline()]
        found.kill()
        assert process.wait(timeout=20) == 2
    assert "error: cloudflared ended" in (tmp_path / "errors.txt").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tunnel", "cloudflared"], "cloudflared is not on PATH. Get it from https://"),
        (["--run-dir", "nowhere"], "--run-dir nowhere: there is no such folder"),
        (["--address", "https://dashboard.example.org/path"], "is no address without a path"),
        (["--tunnel", "cloudflared", "--address", "https://dashboard.example.org"], "leave out --host"),
        (["--host", "0.0.0.0"], "like --address http://gpu-server:8501"),
        (["--port", "70000"], "Port 70000"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["serve", *options]) == 2
    assert said in (error := capfd.readouterr().err) and error.count("\n") == 1


def test_what_the_launcher_refuses_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.delenv("SHIFAMIND_TOKEN", raising=False)
    started = time.monotonic()
    assert main(["serve", "--host", "0.0.0.0", "--address", "http://gpu-server"]) == 2
    assert "error: Refusing to listen on 0.0.0.0" in capfd.readouterr().err
    assert time.monotonic() - started < 60, "and is not waited for"
