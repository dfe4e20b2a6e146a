"""Every page of the dashboard at the size of the case, 17,266 notes × 50 codes with eight runs: from a click to what is painted.

python -m benchmarks.pages
python -m benchmarks.pages --large 50000 7942     two runs of so many notes and codes, found by path in the run directory
python -m benchmarks.pages --large 50000 7942 --keep FOLDER    files that are there already are used, and kept

Headless Chromium on the same machine, whose drawing is counted too; each page is opened once new, and once again.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.large import anonymous_kb, make_pair
from benchmarks.load import Server
from benchmarks.synthetic import synthetic_run
from shifamind_core.precision.environment import Environment
from shifamind_core.precision.policy import POLICIES
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.manifest import Manifest, PolicyRecord, TokenizationRecord, digest_of
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import write_run_file
from shifamind_core.ui.site.navigation import PAGES
from simulation.builders import tiny_run_directory

TARGET_SECONDS = 2.5  # on two cores
TARGET_FIGURE = 300_000  # bytes of a figure as it is sent
TARGET_MEGABYTES = 1_500
LONGEST = 600_000  # milliseconds
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
# What another machine may have done: the standard deviation of the logits' noise.
RUNS = (
    ("test", "fp32", 0.0),
    ("val", "fp32", 0.0),
    ("test", "tf32", 1e-3),
    ("val", "tf32", 1e-3),
    ("test", "bf16-autocast", 3e-2),
    ("val", "bf16-autocast", 3e-2),
    ("test", "default", 0.6),
    ("val", "default", 0.6),
)
PAINTED = """() => document.querySelector("[data-testid=stApp]").dataset.testScriptState == "notRunning"
    && !document.querySelector("[data-testid=stSkeleton]") && !document.querySelector("[data-stale=true]")
    && [...document.querySelectorAll("[data-testid=stPlotlyChart]")].every(one => one.querySelector(".main-svg"))"""


def runs() -> list[Run]:
    """Eight runs over two splits; the last of each split is a reference."""
    made = []
    for split, policy, noise in RUNS:
        run = synthetic_run(seed=0 if split == "test" else 1)
        moved = np.random.default_rng(len(made)).normal(0, 1, run.logits.shape) * noise
        manifest = Manifest(
            run_directory="run_1",
            split=split,
            policy=PolicyRecord.of(POLICIES[policy]),
            tokenization=TokenizationRecord(lowercase=noise < 0.5, max_length=512),
            environment=Environment(device="cpu"),
            created_at_utc="2026-02-12T10:00:00+00:00",
            configuration_digest=digest_of([policy, noise]),
        )
        logits = (run.logits + moved).astype(np.float32)
        made.append(replace(run, name=f"{split} {policy}", logits=logits, manifest=manifest))
    return made


def prepare(folder: Path) -> Path:
    """The run directory: six runs in the cache as if computed, two beside it as references."""
    directory = tiny_run_directory(folder / "run_1", notes=20).resolve()
    (directory / "references").mkdir(exist_ok=True)
    cache = RunCache(folder / "cache")
    for run in runs():
        if run.name.endswith("default"):
            write_run_file(run, directory / "references" / f"{run.name.replace(' ', '-')}.safetensors")
        else:
            key = {"digest": run.digest}
            cache.store(run, digest_of(key), key, directory)
    return directory


def prepare_large(folder: Path, files: Path, notes: int, codes: int) -> Path:
    """The run directory with two large runs in `references/`, and none computed."""
    directory = tiny_run_directory(folder / "run_1", notes=20).resolve()
    (directory / "references").mkdir(exist_ok=True)
    for file in make_pair(files, notes, codes):
        (directory / "references" / file.name).hardlink_to(file)
    return directory


def click(page: Page, title: str) -> None:
    """Open the page of that title from the menu, and wait until all of it is there."""
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
    wanted = "ShifaMind diagnostics" if title == "Overview" else title
    page.wait_for_function("wanted => document.querySelector('h1')?.innerText == wanted", arg=wanted)
    painted(page)


def painted(page: Page) -> None:
    """Wait until the script has ended, nothing is stale, and every chart is drawn."""
    page.wait_for_function(PAINTED)


def _bytes(sent: str | bytes) -> bytes:
    return sent if isinstance(sent, bytes) else sent.encode()


def main(large: tuple[int, int] | None, keep: Path | None) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="shifamind-pages-", dir=keep) as name,
        sync_playwright() as playwright,
    ):
        folder = Path(name)
        directory = prepare_large(folder, keep or folder, *large) if large else prepare(folder)
        server = Server(folder, SHIFAMIND_RUN_DIR=str(directory))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(LONGEST)
            with largest_memory(server) as megabytes:
                met = measure(server, page)
            print(f"server {max(megabytes):,.0f} MB at most (1,500)")
        finally:
            browser.close()
            server.process.terminate()
            server.process.wait(timeout=30)
    sys.exit(0 if met and max(megabytes) <= TARGET_MEGABYTES else 1)


@contextmanager
def largest_memory(server: Server) -> Iterator[list[float]]:
    """MB that the server takes beyond mapped files, sampled as long as this lasts."""
    megabytes, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            megabytes.append(anonymous_kb(server.process.pid) / 1e3)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield megabytes
    finally:
        over.set()
        watch.join()


def measure(server: Server, page: Page) -> bool:
    """Open every page twice, print a line for each; whether all targets are met."""
    frames: list[bytes] = []
    page.on("websocket", lambda one: one.on("framereceived", lambda sent: frames.append(_bytes(sent))))
    address, began = f"http://127.0.0.1:{server.port}/?token={server.token()}", time.perf_counter()
    page.goto(address)
    page.wait_for_selector("[data-testid=stApp] h1")
    painted(page)
    print(f"from the address to the overview: {time.perf_counter() - began:.2f} s\n")
    slowest, largest = 0.0, 0
    print(
        "| page | first, s | again, s | server, s of processor | figures, kB | all, kB |\n|---|---|---|---|---|---|"
    )
    for entry in [*PAGES[1:], PAGES[0]]:
        took, used, sent, sizes = [], [], [], defaultdict(int)
        for again in (False, True):
            if again:
                click(page, (PAGES[0] if entry is not PAGES[0] else PAGES[1]).title)
            page.wait_for_timeout(500)
            frames.clear()
            before, began = sum(server.cpu_times()[:2]), time.perf_counter()
            click(page, entry.title)
            took.append(time.perf_counter() - began)
            used.append(sum(server.cpu_times()[:2]) - before)
            sent.append(sum(map(len, frames)) / 1e3)
            for message in map(ForwardMsg.FromString, frames):
                element = message.delta.new_element
                if element.WhichOneof("type") == "exception":
                    raise SystemExit(f"{entry.title}: {element.exception.type}")
                if element.WhichOneof("type") == "plotly_chart":
                    sizes[str(message.metadata.delta_path)] = element.ByteSize()
            page.wait_for_timeout(500)
        slowest, largest = max(slowest, *took), max(largest, *sizes.values(), 0)
        kilobytes = ", ".join(f"{size / 1e3:.0f}" for size in sizes.values()) or "–"
        print(
            f"| {entry.title} | {took[0]:.2f} | {took[1]:.2f} | {used[0]:.2f}, {used[1]:.2f} | {kilobytes} | {max(sent):.0f} |",
            flush=True,
        )
    print(
        f"\nslowest {slowest:.2f} s (target {TARGET_SECONDS:g}); largest figure {largest / 1e3:.0f} kB (300)"
    )
    return slowest <= TARGET_SECONDS and largest <= TARGET_FIGURE


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", type=int, nargs=2, metavar=("NOTES", "CODES"))
    parser.add_argument("--keep", type=Path, help="folder of the large files")
    given = parser.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    main(given.large, given.keep)
