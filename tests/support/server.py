"""A dashboard in a process of its own, on loopback and a free port, for tests that need the real thing."""

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


@dataclass
class Dashboard:
    """A running server. `address` is what it printed: the one URL, with the token."""

    process: subprocess.Popen
    port: int
    log: Path

    @property
    def address(self) -> str:
        (found,) = re.findall(r"http://\S+", self.log.read_text())
        return found

    @property
    def token(self) -> str:
        return self.address.split("token=")[1]

    def request(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """One request on a connection of its own; underscores in header names stand for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = connection.getresponse()
        response.body = b"" if response.status == 101 else response.read()  # type: ignore[attr-defined]
        connection.close()
        return response

    def websocket(self, **headers: str) -> int:
        """The status of a websocket handshake: 101 is let in."""
        handshake = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Origin": f"http://127.0.0.1:{self.port}",
        }
        return self.request("/_stcore/stream", **{**handshake, **headers}).status

    def cookie(self) -> str:
        """What a browser would send after opening the printed address."""
        response = self.request(f"/?token={self.token}")
        assert response.status == 303
        return response.getheader("set-cookie", "").split(";")[0]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_dashboard(
    folder: Path, *arguments: str, app: Path = ROOT / "app.py", **environment: str
) -> Dashboard:
    """Start `app.py` (or another launcher) with its cache in `folder`, and wait until it answers."""
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "streamlit",
                "run",
                str(app),
                "--server.port",
                str(port),
                *arguments,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=_environment(SHIFAMIND_CACHE=str(folder / "cache"), **environment),
        )
    dashboard = Dashboard(process, port, log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if dashboard.request("/_stcore/health").status == 200:
                return dashboard
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError(f"The dashboard did not start:\n{log.read_text()}")


def _environment(**more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SHIFAMIND_", "STREAMLIT_"))
    }
    return {**kept, **more}
