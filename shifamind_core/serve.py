"""The dashboard for a terminal or a notebook: starts the server, a tunnel where one is asked for, and gives the one link.

Both are processes of their own that end with this one. Nothing of the server is imported here, so that the gate stays
the launcher's alone: its token is read from what it prints.
"""

import atexit
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from typing import NoReturn
from urllib.parse import urlsplit

from shifamind_core.errors import ShifamindError
from shifamind_core.settings import PROJECT
from shifamind_core.specs import ServeSpec

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")
FIRST_PORT, PORTS = 8501, 100
START_SECONDS = 120.0  # a cold disk takes a minute to import what the pages need
TUNNEL_SECONDS = 60.0
LINK = re.compile(r"https?://\S+[?]token=\S+")
PLACE = re.compile(r"https?://[^/\s]+(?=/\S*[?]token=)")
# What `cloudflared tunnel --url` prints in a box; its errors name api.trycloudflare.com, which is nobody's dashboard.
TUNNEL_LINK = re.compile(r"https://(?!api\.)[a-z0-9-]+\.trycloudflare\.com")
HOW_TO_GET = "https://developers.cloudflare.com/cloudflare-one/connections/connect-networks/downloads/"
SEEN = "all that browsers see and send: scores, labels, codes, file names, uploads, the login; no note's text (docs/privacy.md)"


def serve(spec: ServeSpec, cache: Path, say: Callable[[str], None]) -> tuple[str, Callable[[], None]]:
    """Start the dashboard; gives the link to open, and a function that stays until it is interrupted.

    Raises
    ------
    ShifamindError
        Something that was asked for is not there, or a process ended before it could be used.
    """
    environment = {"SHIFAMIND_CACHE": str(cache)}
    if spec.run_directory:
        environment["SHIFAMIND_RUN_DIR"] = _directory("--run-dir", spec.run_directory)
    if spec.base_model:
        environment["SHIFAMIND_BASE_MODEL"] = _directory("--base-model", spec.base_model)
    port, outside, children = _port(spec), _address(spec), []
    if spec.tunnel:
        through = [_tunnel_program(), "tunnel", "--no-autoupdate", "--url", f"http://{LOOPBACK}:{port}"]
        children.append(tunnel := _Child(spec.tunnel, through))
        # Its later lines are left out: where it fails it quotes addresses, and the token may be in them.
        outside = tunnel.first(TUNNEL_LINK, TUNNEL_SECONDS, lambda line: None)
    names = [LOOPBACK, "localhost", "::1", spec.host] + ([str(urlsplit(outside).hostname)] if outside else [])
    command = [sys.executable, "-m", "streamlit", "run", "app.py"]
    command += [f"--server.port={port}", f"--server.address={spec.host}"]
    command += [f"--server.allowedHosts={name}" for name in names if name not in EVERYWHERE]
    children.append(server := _Child("The dashboard", command, environment))

    def from_outside(line: str) -> str:
        return PLACE.sub(outside, line) if outside else line

    link = server.first(LINK, START_SECONDS, lambda line: say(from_outside(line)))
    say(_what_leaves(spec, port))
    return from_outside(link), lambda: _stay(children)


def _what_leaves(spec: ServeSpec, port: int) -> str:
    if spec.tunnel:
        return f"Through the tunnel its operator, Cloudflare, can read {SEEN}."
    if spec.address and spec.address.startswith("https:"):
        return f"Whoever runs {urlsplit(spec.address).hostname} can read {SEEN}."
    if spec.address or spec.host not in (LOOPBACK, "localhost", "::1"):
        return f"There is no TLS before port {port}: whoever is on the way can read {SEEN}."
    return f"Nothing leaves this machine. From another computer: ssh -L {port}:127.0.0.1:{port} you@this-machine, then the same link."


class _Child:
    """A process whose output is read line by line, and which ends with this one."""

    def __init__(self, name: str, command: list[str], more: dict[str, str] | None = None) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            cwd=PROJECT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(more or {})},
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        atexit.register(self._end)

    def first(self, pattern: re.Pattern[str], seconds: float, pass_on: Callable[[str], None]) -> str:
        """Wait for the first match in what it writes; lines after it are passed on, as they come."""
        found: Queue[tuple[str | None, str]] = Queue()

        def read() -> None:
            waiting, last = True, ""
            for line in self.process.stdout or ():
                line = line.strip()
                if waiting and (match := pattern.search(line)):
                    found.put((match.group(), ""))
                    waiting = False
                elif line and not waiting:
                    pass_on(line)
                last = line or last
            found.put((None, last))

        threading.Thread(target=read, name=self.name, daemon=True).start()
        try:
            match, last = found.get(timeout=seconds)
        except Empty:
            raise ShifamindError(f"{self.name} gave no link within {seconds:g} s.") from None
        if match is None:
            if last.startswith("error: "):
                raise ShifamindError(last.removeprefix("error: "))
            raise ShifamindError(
                f"{self.name} ended with status {self.process.wait()} before it gave a link: {last}"
            )
        return match

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _end_with_parent() -> None:
    """Linux: even if this process is killed without a word, the kernel asks its child to end (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _stay(children: list[_Child]) -> None:
    """Until Ctrl-C or SIGTERM, both of which are the usual end, or until a child has ended, which is not."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit(0)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)
    while True:
        for child in children:
            if (status := child.process.poll()) is not None:
                raise ShifamindError(f"{child.name} ended with status {status}; start it again.")
        time.sleep(0.2)


def _directory(flag: str, given: str) -> str:
    if not Path(given).is_dir():
        raise ShifamindError(f"{flag} {given}: there is no such folder.")
    return str(Path(given).resolve())


def _address(spec: ServeSpec) -> str | None:
    """The address by which browsers come, where it is another than the one listened on."""
    if spec.tunnel and (spec.address or spec.host != LOOPBACK):
        raise ShifamindError(
            "--tunnel leads to 127.0.0.1 under a name of its own: leave out --host and --address."
        )
    if spec.address is None:
        if spec.host in EVERYWHERE:
            raise ShifamindError(
                f"--host {spec.host} is every address of this machine, and only a name that is known is let in: "
                "add the one in browsers, like --address http://gpu-server:8501."
            )
        return None
    parts = urlsplit(spec.address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ShifamindError(
            f"--address {spec.address} is no address without a path, like https://dashboard.example.org."
        )
    return f"{parts.scheme}://{parts.netloc}"


def _tunnel_program() -> str:
    program = shutil.which("cloudflared")
    if program is None:
        raise ShifamindError(
            f"cloudflared is not on PATH. Get it from {HOW_TO_GET}, or use `ssh -L`, which needs nothing."
        )
    return program


def _port(spec: ServeSpec) -> int:
    """The one asked for, or the first from `FIRST_PORT` on that nobody listens on."""
    asked = range(FIRST_PORT, FIRST_PORT + PORTS) if spec.port is None else [spec.port]
    for port in asked:
        if 0 < port < 2**16 and _is_free(spec.host, port):
            return port
    raise ShifamindError(
        f"Port {asked[0]} on {spec.host} is taken or not allowed; choose another with --port."
    )


def _is_free(host: str, port: int) -> bool:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError:
        return False
    return True
