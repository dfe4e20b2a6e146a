"""Twenty sessions on the demo: errors, how long reruns take, and whether the server's memory stays level.

python -m benchmarks.load                           twenty sessions for two minutes
python -m benchmarks.load --sessions 5 --seconds 30

Every session is a websocket of its own that speaks Streamlit's protocol as a browser does: it logs in, opens pages in a
random order, changes a selection there, and looks at what came for some seconds. Twenty real browsers would take both cores of
a small machine for themselves, which twenty people with twenty computers do not; so nothing is drawn here, and what is timed
is the server's part: from the click to the last message of the rerun.
"""

import argparse
import asyncio
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import websockets
from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

from shifamind_core import jobs
from shifamind_core.settings import processors
from shifamind_core.ui.site.navigation import PAGES

ROOT = Path(__file__).resolve().parents[1]
TARGET_SECONDS = 3.0  # of the 95th percentile, on two cores
TARGET_GROWTH = 1.15  # of the server's memory between the first third and the end
LOOKING_SECONDS = (1.0, 4.0)  # between two clicks of a person
CLICKS_PER_PAGE = 2
PATIENCE_SECONDS = 60.0


@dataclass
class Seen:
    """What all sessions saw: `reruns` are (page, click or opening, seconds)."""

    reruns: list[tuple[str, str, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    bytes: int = 0
    cpu_seconds: float = 0.0  # of the server, while they clicked


class Server:
    """The dashboard on its demo, in a process of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.cache, self.log = folder / "cache", folder / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SHIFAMIND_", "STREAMLIT_"))
        }
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(self.port)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=kept | {"SHIFAMIND_CACHE": str(self.cache)} | environment,
            )
        self.memory = psutil.Process(self.process.pid).memory_info
        self.cpu_times = psutil.Process(self.process.pid).cpu_times

    def token(self) -> str:
        """The printed one, once the server answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := re.search(r"token=(\S+)", self.log.read_text()):
                return found[1]
            time.sleep(0.2)
        raise SystemExit(f"The dashboard did not start:\n{self.log.read_text()}")

    def wait_until_ready(self) -> str:
        """The token, once the demo's own jobs are done."""
        token = self.token()
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and self.process.poll() is None:
            if len([job for job in jobs.list_jobs(self.cache) if job.status == "done"]) >= 3:
                return token
            time.sleep(0.5)
        raise SystemExit(f"The dashboard did not get ready:\n{self.log.read_text()}")

    def cookie(self, token: str) -> str:
        """What a browser would send after opening the printed address."""
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", f"/?token={token}")
        header = connection.getresponse().getheader("set-cookie", "")
        connection.close()
        return header.split(";")[0]


class Session:
    """One person with one tab."""

    def __init__(self, server: Server, cookie: str, seen: Seen, seed: int) -> None:
        self.server, self.cookie, self.seen = server, cookie, seen
        self.random = random.Random(seed)
        self.pages: dict[str, str] = {}
        self.query = self.page = ""
        self.known: set[str] = set()
        self.widgets: dict[str, WidgetState] = {}
        self.choices: list[tuple[str, str, list]] = []

    async def run(self, seconds: float) -> None:
        """Click for so long."""
        async with self._connect() as self.socket:
            await self._rerun("", "open")
            until = time.monotonic() + seconds
            await asyncio.sleep(self.random.uniform(0, LOOKING_SECONDS[1]))  # people do not begin as one
            while time.monotonic() < until:
                await self._open(self.random.choice(list(self.pages)))
                for _ in range(CLICKS_PER_PAGE):
                    await asyncio.sleep(self.random.uniform(*LOOKING_SECONDS))
                    if not self.choices or time.monotonic() > until:
                        break
                    await self._choose()
                await asyncio.sleep(self.random.uniform(*LOOKING_SECONDS))

    async def tour(self) -> None:
        """Every page once."""
        async with self._connect() as self.socket:
            await self._rerun("", "open")
            for name in list(self.pages):
                await self._open(name)

    def _connect(self) -> websockets.connect:
        place = f"127.0.0.1:{self.server.port}"
        return websockets.connect(
            f"ws://{place}/_stcore/stream",
            additional_headers={"Cookie": self.cookie},
            origin=f"http://{place}",
            subprotocols=["streamlit"],
            max_size=None,
        )

    async def _open(self, name: str) -> None:
        self.widgets.clear()
        await self._rerun(name, "open")

    async def _choose(self) -> None:
        kind, id, options = self.random.choice(self.choices)
        state = WidgetState(id=id)
        if kind == "selectbox":
            state.string_value = self.random.choice(options)
        elif kind == "slider":
            state.double_array_value.data.append(self.random.choice(options))
        else:
            state.string_array_value.data.append(self.random.choice(options))
        self.widgets[id] = state
        await self._rerun(self.page, "click")

    async def _rerun(self, page: str, kind: str) -> None:
        """Ask for a rerun, and read until it has ended."""
        asked = BackMsg()
        asked.rerun_script.query_string = self.query
        asked.rerun_script.page_script_hash = self.pages.get(page, "")
        asked.rerun_script.widget_states.widgets.extend(self.widgets.values())
        asked.rerun_script.cached_message_hashes.extend(self.known)
        self.page, self.choices = page, []
        started = time.perf_counter()
        await self.socket.send(asked.SerializeToString())
        while True:
            content = await asyncio.wait_for(self.socket.recv(), PATIENCE_SECONDS)
            message = ForwardMsg.FromString(content)
            self.seen.bytes += len(content)
            if self._take(message, page):
                break
        self.seen.reruns.append((page, kind, time.perf_counter() - started))

    def _take(self, message: ForwardMsg, page: str) -> bool:
        """Note what a browser would; whether the rerun has ended."""
        if message.metadata.cacheable and message.hash:
            self.known.add(message.hash)
        kind = message.WhichOneof("type")
        if kind == "navigation":
            self.pages = {
                one.url_pathname or "overview": one.page_script_hash for one in message.navigation.app_pages
            }
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self._look_at(message.delta.new_element, page)
        elif kind == "script_finished":
            if message.script_finished == ForwardMsg.FINISHED_WITH_COMPILE_ERROR:
                self.seen.errors.append(f"{page}: a compile error")
            return message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
        return False

    def _look_at(self, element, page: str) -> None:
        shown = element.WhichOneof("type")
        if shown == "exception":
            self.seen.errors.append(f"{page}: {element.exception.type}")
        elif shown == "alert" and element.alert.format == Alert.ERROR:
            self.seen.errors.append(f"{page}: {element.alert.body[:120]}")
        elif shown == "selectbox" and len(element.selectbox.options) > 1 and not element.selectbox.form_id:
            self.choices.append((shown, element.selectbox.id, list(element.selectbox.options)))
        elif shown == "slider" and len(element.slider.default) == 1 and not element.slider.form_id:
            low, step = element.slider.min, element.slider.step
            steps = round((element.slider.max - low) / step)
            self.choices.append((shown, element.slider.id, [low + step * n for n in range(steps + 1)]))
        elif shown == "button_group" and not element.button_group.form_id:
            options = [option.content for option in element.button_group.options]
            self.choices.append((shown, element.button_group.id, options))


async def load(server: Server, cookies: list[str], seconds: float, seen: Seen) -> list[float]:
    """The server's memory, in megabytes, every two seconds of the load."""
    memory: list[float] = []

    async def watch() -> None:
        while True:
            memory.append(server.memory().rss / 1e6)
            await asyncio.sleep(2)

    watching = asyncio.create_task(watch())
    sessions = [Session(server, cookie, seen, seed) for seed, cookie in enumerate(cookies)]
    before = sum(server.cpu_times()[:2])
    ended = await asyncio.gather(*(one.run(seconds) for one in sessions), return_exceptions=True)
    seen.errors += [f"a session ended: {type(one).__name__}" for one in ended if one is not None]
    seen.cpu_seconds = sum(server.cpu_times()[:2]) - before
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    return memory


def show(seen: Seen, memory: list[float], seconds: float, sessions: int) -> bool:
    """Print what was seen; whether all targets are met."""
    taken = np.array([time_ for *_, time_ in seen.reruns])
    p50, p95, p99 = np.percentile(taken, [50, 95, 99])
    by_page: dict[str, list[float]] = defaultdict(list)
    for page, _, time_ in seen.reruns:
        by_page[page].append(time_)
    for page, times in sorted(by_page.items(), key=lambda item: -np.percentile(item[1], 95)):
        print(
            f"  {page or '(first)':<14} {len(times):>5} reruns   median {np.median(times):6.2f} s   p95 {np.percentile(times, 95):6.2f} s"
        )
    early = memory[: max(1, len(memory) // 3)]
    growth = memory[-1] / max(early)
    print(
        f"{sessions} sessions, {seconds:.0f} s, {len(taken):,} reruns ({len(taken) / seconds:.1f}/s), {seen.bytes / 1e6:,.0f} MB sent; "
        f"{processors()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"server: {seen.cpu_seconds:.0f} s of processor, {1e3 * seen.cpu_seconds / len(taken):.0f} ms a rerun, "
        f"{seen.cpu_seconds / seconds:.2f} cores"
    )
    print(
        f"rerun: median {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s, longest {taken.max():.2f} s (target: p95 ≤ {TARGET_SECONDS:g} s)"
    )
    print(
        f"server: {memory[0]:,.0f} MB at the start, {max(memory):,.0f} MB at most, {memory[-1]:,.0f} MB at the end"
    )
    print(f"errors: {len(seen.errors)}" + "".join(f"\n  {line}" for line in sorted(set(seen.errors))[:10]))
    return not seen.errors and bool(p95 <= TARGET_SECONDS) and growth <= TARGET_GROWTH


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shifamind-load-") as folder:
        server = Server(Path(folder))
        try:
            token = server.wait_until_ready()
            cookies = [server.cookie(token) for _ in range(asked.sessions)]
            first = Seen()
            asyncio.run(Session(server, cookies[0], first, 0).tour())
            slowest = max(first.reruns, key=lambda one: one[2])
            print(
                f"every page once, alone: {len(first.reruns)} reruns, the longest {slowest[2]:.2f} s ({slowest[0]})",
                flush=True,
            )
            assert {page for page, *_ in first.reruns} >= {entry.name for entry in PAGES}
            seen = Seen(errors=first.errors)
            memory = asyncio.run(load(server, cookies, asked.seconds, seen))
            met = show(seen, memory, asked.seconds, asked.sessions)
        finally:
            server.process.terminate()
            server.process.wait(timeout=30)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
