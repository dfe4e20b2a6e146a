"""The way of a newcomer who has nothing but the printed address: what caused the gap, what to change, what shows it."""

from collections.abc import Iterator

import pytest

from shifamind_core.demo import write_demo
from tests.support.server import Dashboard, start_dashboard
from tests.ui.test_contrast import TEXT, contrast

pytestmark = pytest.mark.browser
COLOURS = """() => {
    const parts = ["[class$=tick] text", "text[class$=title]", "button[aria-checked=true] p"];
    const channels = colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number);
    const ground = channels(getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor);
    return parts.flatMap(part => [...document.querySelectorAll(part)].map(found => {
        const style = getComputedStyle(found), svg = found instanceof SVGElement;
        return [part, channels(svg ? style.fill : style.color), svg ? Number(style.opacity) : 1, ground];
    }));
}"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard on a fresh copy of the demo; nothing has been computed yet."""
    folder = tmp_path_factory.mktemp("newcomer")
    write_demo(folder / "demo")
    dashboard = start_dashboard(folder, SHIFAMIND_RUN_DIR=str(folder / "demo"), OMP_NUM_THREADS="1")
    yield dashboard
    dashboard.stop()


def test_a_newcomer_reads_the_cause_and_what_to_change_and_one_click_shows_what_reproduces_it(
    demo: Dashboard, new_tab
) -> None:
    tab = new_tab(demo).open()
    page = tab.page
    verdict = page.get_by_role("heading", name="It was the tokenizer's casing, not the GPU")
    change = page.get_by_text("Set do_lower_case=True explicitly in the tokenizer of the other pipeline.")
    for told in (verdict, change):
        told.wait_for()
        box = told.bounding_box()
        assert box is not None and box["y"] + box["height"] <= 900, "it is seen without scrolling"
    assert page.title() == "Overview · ShifaMind diagnostics"

    page.get_by_role("link", name="All that was tried").click()
    tab.settle()
    page.get_by_role("heading", level=1, name="Diagnosis").wait_for()
    # The tab that the link promises is open, and its first row is the change that does it.
    assert page.get_by_role("tab", selected=True).inner_text() == "Which change reproduces it?"
    page.get_by_role("tabpanel").get_by_text("lowercase=false").first.wait_for()
    assert page.title() == "Diagnosis · ShifaMind diagnostics"


def test_a_part_of_the_histogram_lists_its_decisions_and_no_note_is_shown_unless_that_is_allowed(
    demo: Dashboard, new_tab
) -> None:
    tab = new_tab(demo, height=2200).open("differences")
    page = tab.page
    page.get_by_text("Drag across the histogram").wait_for()
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    box = plot.bounding_box()
    assert box is not None
    right, middle = box["x"] + box["width"], box["y"] + box["height"] / 2
    page.mouse.move(right - 110, middle)
    page.mouse.down()
    page.mouse.move(right - 15, middle, steps=8)
    page.mouse.up()
    page.get_by_role("heading", name="Decisions that moved by").wait_for()
    tab.settle()
    table = page.locator("[data-testid=stDataFrame]:visible").first.bounding_box()
    assert table is not None
    page.mouse.click(table["x"] + 15, table["y"] + 52)  # the box before the first row
    page.get_by_text("Notes are not shown here.").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axes_and_the_choice_that_is_taken_are_readable_as_the_browser_draws_them(
    demo: Dashboard, new_tab, theme: str
) -> None:
    tab = new_tab(demo, theme=theme).open("thresholds")
    tab.page.locator(".ytick text").first.wait_for()
    found = tab.page.evaluate(COLOURS)
    assert len({part for part, *_ in found}) == 3
    for part, colour, opacity, ground in found:
        drawn = [opacity * c + (1 - opacity) * g for c, g in zip(colour, ground, strict=True)]
        seen = contrast(*(tuple(channel / 255 for channel in one) for one in (drawn, ground)))  # type: ignore[arg-type]
        assert seen >= TEXT, part
