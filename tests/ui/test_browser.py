"""The dashboard in a real browser, on a small run directory whose checkpoint the worker really runs."""

import csv
import functools
import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.runs.run_file import read_run_file, write_run_file
from shifamind_core.ui.site.navigation import present_pages
from simulation.builders import tiny_run_directory
from tests.support.server import ROOT, Dashboard, start_dashboard

pytestmark = pytest.mark.browser
HOSTILE = "![x](http:--host.example-b.png) <img src=x>.safetensors"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("browser")
    tiny_run_directory(folder / "run_1")
    dashboard = start_dashboard(folder, SHIFAMIND_RUN_DIR=str(folder / "run_1"), OMP_NUM_THREADS="1")
    yield dashboard
    dashboard.stop()


def test_without_the_token_the_browser_sees_a_locked_door(server: Dashboard, new_tab) -> None:
    tab = new_tab(server).open("thresholds", with_token=False)
    assert "This dashboard is locked" in tab.page.content()
    assert tab.page.query_selector("[data-testid=stApp]") is None


def test_the_token_leaves_the_address_bar_and_a_new_tab_is_let_in(server: Dashboard, new_tab) -> None:
    tab = new_tab(server).open("inference")
    assert "token" not in tab.page.url
    assert tab.page.get_by_role("heading", name="Inference").is_visible()
    second = tab.page.context.new_page()
    second.goto(f"http://127.0.0.1:{server.port}/codes")
    second.get_by_role("heading", name="Codes").wait_for()
    assert server.token not in second.evaluate("document.cookie"), "and no script can read the cookie"
    assert "shifamind" not in second.evaluate("document.cookie")


def test_the_first_load_is_small_enough_for_a_tunnel(server: Dashboard, new_tab) -> None:
    """Measured 1.55 MB, a third of it fonts; it was 4.7 MB when scripts left as they are."""
    tab = new_tab(server)
    wire, sizes = tab.page.context.new_cdp_session(tab.page), []
    wire.send("Network.enable")
    wire.on("Network.loadingFinished", lambda file: sizes.append(file["encodedDataLength"]))
    tab.open()
    assert len(sizes) > 50 and sum(sizes) < 1_700_000
    before = len(sizes)
    tab.open("codes")
    assert sum(sizes[before:]) < 1_700_000, "a figure brings Plotly, and what was there is not fetched again"


def test_a_run_is_computed_compared_with_an_upload_and_exported(
    server: Dashboard, new_tab, tmp_path: Path
) -> None:
    tab = new_tab(server).open("inference")
    page = tab.page
    page.get_by_text("Lower-cased", exact=True).click()
    tab.settle()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("computed in").wait_for()

    tab.settle()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download run file").click()
    run = read_run_file(Path(download.value.path()))
    assert run.manifest.tokenization.lowercase is True
    reference = read_run_file(Path(download.value.path()))
    object.__setattr__(reference, "logits", reference.logits + reference.logits.std() * 0.7)
    write_run_file(reference, tmp_path / "reference.safetensors")

    tab.open("differences")
    upload = {
        "name": HOSTILE,
        "mimeType": "application/octet-stream",
        "buffer": (tmp_path / "reference.safetensors").read_bytes(),
    }
    page.get_by_text("Bring a run from another machine").click()
    page.locator("input[type=file]").set_input_files([upload])
    page.get_by_text("is kept in the cache").wait_for()
    tab.settle()
    assert page.locator("[data-testid=stPlotlyChart] .main-svg").first.is_visible()
    assert page.locator("[data-testid=stPlotlyChart]").count() == 2
    tab.open("thresholds")
    page.locator("[data-testid=stPlotlyChart] .main-svg").first.wait_for()

    tab.open("report")
    with page.expect_download() as download:
        page.get_by_role("button", name="metrics.csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert {row["protocol"] for row in rows} >= {"fixed", "top_k"}
    assert tab.other_hosts == set()


def test_the_same_request_is_answered_from_the_cache(server: Dashboard, new_tab) -> None:
    tab = new_tab(server).open("inference")
    for expected in ("notes ×", "answered from the cache"):
        tab.page.get_by_text("First notes only").wait_for()
        tab.page.get_by_role("button", name="Start").click()
        tab.page.get_by_text(expected).wait_for()
        tab.settle()


def test_a_click_on_a_point_shows_that_layer(server: Dashboard, new_tab) -> None:
    tab = new_tab(server, height=1600).open("layers")
    page = tab.page
    page.get_by_role("button", name="Compare layers").click()
    page.get_by_role("heading", name="One layer").wait_for()
    tab.settle()
    module = page.get_by_role("combobox", name="Module")
    points = page.locator("[data-testid=stPlotlyChart] .points path.point")
    points.first.wait_for()
    before = module.input_value()
    # Of the first line the last point: the logits' own layer, unlike any that could be shown unasked.
    box = points.nth(points.count() // 3 - 1).bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function(
        "before => document.querySelector('input[aria-label*=Module]').value != before", arg=before
    )
    tab.settle()
    assert module.input_value() == "diagnosis_classifier"


@pytest.mark.parametrize(("width", "theme"), [(1280, "dark"), (390, "light")])
def test_no_page_calls_another_host_or_is_wider_than_the_screen(
    server: Dashboard, new_tab, width: int, theme: str
) -> None:
    tab = new_tab(server, width=width, height=844, theme=theme)
    for entry in present_pages():
        tab.open(entry.name if entry.name != "overview" else "")
        assert tab.page.get_by_role("heading", level=1).first.is_visible()
        assert tab.page.locator("[data-testid=stException]").count() == 0
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width, entry.name
    assert tab.other_hosts == set() and tab.refused == [], "and no page even tried to"
    kinds = {Path(address.split("?")[0]).suffix for address in tab.requests}
    assert {".js", ".css", ".woff2"} <= kinds and any(address.startswith("ws:") for address in tab.requests)
    # Runs of these notes were computed and uploaded before; nothing of any note comes to the browser.
    sent = b"".join(tab.frames)
    assert b"The same checkpoint, the same notes, three GPUs." in sent, "frames are read as they are"
    texts = RunDirectory(server.log.parent / "run_1").read_split("test").texts
    assert len(texts) > 10 and not [text for text in texts if text[:24].encode() in sent]


def test_markdown_that_slipped_through_could_not_call_another_host(server: Dashboard, new_tab) -> None:
    tab = new_tab(server).open()
    refused = tab.page.evaluate(
        """() => new Promise(done => {
            document.addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
            document.body.append(Object.assign(new Image(), {src: "http://host.example/b.png"}));
        })"""
    )
    assert refused == "img-src"
    tab.page.wait_for_timeout(100)
    assert tab.refused == ["http://host.example/b.png"]
    assert tab.other_hosts == {"host.example"}, "what pages are tested with sees a call even if it is refused"


def test_a_web_socket_to_another_host_is_refused(server: Dashboard, new_tab) -> None:
    tab = new_tab(server).open()
    refused = tab.page.evaluate(
        """() => new Promise(done => {
            document.addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
            try { new WebSocket("ws://host.example/") } catch {}
        })"""
    )
    assert refused == "connect-src"


def test_signing_out_darkens_every_tab_of_this_browser_and_no_other(server: Dashboard, new_tab) -> None:
    tab, other = new_tab(server).open(), new_tab(server).open()
    second = tab.page.context.new_page()
    second.goto(f"http://127.0.0.1:{server.port}/codes")
    second.get_by_role("heading", name="Codes").wait_for()
    with tab.page.context.expect_page() as opened, second.expect_event("console", is_a_refused_websocket):
        tab.page.get_by_role("link", name="Sign out").click()
        opened.value.get_by_role("button", name="Sign out").click()
        opened.value.get_by_role("heading", name="Signed out").wait_for()
    second.reload()
    assert "This dashboard is locked" in second.content()
    other.page.get_by_role("link", name="Codes", exact=True).click()
    other.page.get_by_role("heading", name="Codes").wait_for()


def is_a_refused_websocket(message) -> bool:
    return "WebSocket connection to" in message.text or "401" in message.text


def test_a_page_of_another_port_cannot_use_the_persons_cookie(
    server: Dashboard, new_tab, tmp_path: Path
) -> None:
    """Cookies know no ports, so the browser sends ours along with whatever another program's page asks for."""
    tab = new_tab(server).open()
    (tmp_path / "index.html").write_text("<!doctype html><title>another program</title>")
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = tab.page.context.new_page()
        page.goto(f"http://127.0.0.1:{other.server_port}/")
        outcome = page.evaluate(
            """async port => {
                const socket = new WebSocket(`ws://127.0.0.1:${port}/_stcore/stream`);
                const socketOpened = await new Promise(done => {
                    socket.onopen = () => done(true);
                    socket.onerror = () => done(false);
                });
                const picture = await new Promise(done => {
                    const image = new Image();
                    image.onload = () => done(true);
                    image.onerror = () => done(false);
                    image.src = `http://127.0.0.1:${port}/favicon.png?not-from-the-cache`;
                });
                return [socketOpened, picture];
            }""",
            server.port,
        )
        other.shutdown()
    assert outcome == [False, False]


def test_the_servers_log_says_where_something_went_wrong_and_never_what_it_was_about(
    new_tab, tmp_path: Path
) -> None:
    """The real launcher, with a page behind it on which everything goes wrong."""
    page = (ROOT / "tests" / "data" / "raising_page.txt").read_text()
    words = ("Anneliese", "Mustermann", "admitted")
    assert all(word in page for word in words)
    (tmp_path / "raising_page.py").write_text(page)
    launcher = (ROOT / "app.py").read_text().replace("launch.ROUTER", '"raising_page.py"')
    (tmp_path / "app.py").write_text(launcher)
    dashboard = start_dashboard(tmp_path, app=tmp_path / "app.py", PYTHONPATH=str(ROOT))
    try:
        tab = new_tab(dashboard).open()
        tab.page.get_by_text("RuntimeError").first.wait_for()
        shown = tab.page.content()
    finally:
        dashboard.stop()
    log = dashboard.log.read_text()
    for text in (log, shown):
        assert not [word for word in words if word in text]
    assert "RuntimeError" in log and "because of ValueError" in log
    assert log.count("raising_page.py:") >= 5, "places are said"
    assert "Could not read <str> of 7 rows" in log and "UserWarning at" in log
    assert "Task exception was never retrieved" in log


def test_a_refused_upload_leaves_its_name_and_content_nowhere(
    server: Dashboard, new_tab, tmp_path: Path
) -> None:
    name, content = (
        "Anneliese-Mustermann.csv",
        "Anneliese Mustermann,was,admitted\nMustermann,with,dyspnoea\n",
    )
    (tmp_path / name).write_text(content)
    tab = new_tab(server).open()
    tab.page.get_by_text("Bring a run from another machine").click()
    tab.page.locator("input[type=file]").first.set_input_files(tmp_path / name)
    tab.page.locator("[data-testid=stAlert]").first.wait_for()
    tab.settle()
    assert "Mustermann" not in server.log.read_text()
    kept = [path for path in server.log.parent.rglob("*") if path.is_file()]
    assert kept and not [
        path for path in kept if b"Mustermann" in path.read_bytes() or "Mustermann" in path.name
    ]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""
