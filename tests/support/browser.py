"""A real Chromium on a real server, for what only a browser can show."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, WebSocket, sync_playwright

from tests.support.server import Dashboard

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning]"
PATIENCE_MS = 60_000


@dataclass
class Tab:
    """A tab of its own browser profile.

    `requests` are the addresses it asked for, web sockets included; `refused` those that the content security policy
    did not let it ask for; `frames` what the server sent it through web sockets.
    """

    page: Page
    dashboard: Dashboard
    requests: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)

    def listen(self, socket: WebSocket) -> None:
        """Keep where a web socket leads, and all that comes through it."""
        self.requests.append(socket.url)
        socket.on(
            "framereceived",
            lambda sent: self.frames.append(sent if isinstance(sent, bytes) else sent.encode()),
        )

    def open(self, path: str = "", with_token: bool = True) -> "Tab":
        token = f"?token={self.dashboard.token}" if with_token else ""
        self.page.goto(f"http://127.0.0.1:{self.dashboard.port}/{path}{token}")
        return self.settle() if with_token else self

    def settle(self) -> "Tab":
        """Wait until the script has run and what it drew is there."""
        self.page.wait_for_selector(SETTLED, timeout=PATIENCE_MS)
        self.page.wait_for_timeout(300)
        self.page.wait_for_selector(SETTLED, timeout=PATIENCE_MS)
        return self

    @property
    def other_hosts(self) -> set[str]:
        """Hosts other than the dashboard's that the page asked for anything."""
        called = {
            urlsplit(address) for address in self.requests if not address.startswith(("data:", "blob:"))
        }
        return {address.netloc for address in called} - {f"127.0.0.1:{self.dashboard.port}"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; without one the browser tests are skipped, with this reason.

    For one module only: while Playwright runs, no other test of this process can run an event loop.
    """
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_tab(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, each with cookies of its own; a failed test leaves pictures of them."""
    contexts = []

    def open_tab(dashboard: Dashboard, width: int = 1280, height: int = 900, theme: str = "light") -> Tab:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, accept_downloads=True
        )
        contexts.append(context)
        tab = Tab(context.new_page(), dashboard)
        tab.page.set_default_timeout(PATIENCE_MS)
        # Of the whole profile: fonts, pictures, scripts, workers and other tabs are among it.
        context.on("request", lambda sent: tab.requests.append(sent.url))
        tab.page.on("websocket", tab.listen)
        tab.page.on("worker", lambda worker: tab.requests.append(worker.url))
        context.expose_function("refusedByPolicy", lambda address: tab.refused.append(address))
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', event => refusedByPolicy(event.blockedURI))"
        )
        return tab

    failures = request.session.testsfailed
    yield open_tab
    if request.session.testsfailed > failures:
        folder = Path(tempfile.mkdtemp(prefix=f"{request.node.name[:40]}-"))
        for number, context in enumerate(contexts):
            for page in context.pages:
                page.screenshot(path=folder / f"{number}.png", full_page=True)
        print(f"pictures: {folder}")
    for context in contexts:
        context.close()
