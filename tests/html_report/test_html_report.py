"""The report as one page: what it says, that nothing in it acts, and that it asks nobody for anything."""

import cProfile
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from pstats import Stats

import plotly.graph_objects as go
import pytest

from shifamind_core.cli import main
from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.errors import ShifamindError
from shifamind_core.html_report.page import Figure, figure_page
from shifamind_core.html_report.report import html_report
from shifamind_core.report.files import Selection, report
from shifamind_core.runs.run_file import write_run_file
from tests.support.dashboard import small_run
from tests.ui.test_page_diagnosis import replay_result
from tests.ui.test_story import recorded_ladder

HOSTILE = '"><script>alert(1)</script><img src="http://host.example/a.png" onerror=alert(2)>'
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """What a browser would see of it: elements with their attributes, texts by the element they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style"))

    def figures(self) -> dict[str, dict]:
        names = [attributes["id"] for tag, attributes in self.elements if tag == "figure"]
        contents = [text for tag, text in self.texts if tag == "script" and text.startswith("{")]
        return dict(zip(names, map(json.loads, contents), strict=True))


@pytest.fixture(scope="module")
def selection() -> Selection:
    candidate, reference = small_run(), small_run(lowercase=False, noise=1.5, seed=7)
    return Selection(candidate, reference, replay=replay_result(device="CPU"))


def test_it_tells_the_story_and_says_what_was_not_tested(selection: Selection) -> None:
    page = Page(html_report(selection))
    text = page.text()
    assert "It was the tokenizer's casing, not the GPU." in text or "It was the tokenizer's casing" in text
    assert all(f"{number}. " in text for number in (1, 2, 3, 4)) and "Reproduced" in text
    assert "lower-cased" in text and "precision ladder" in text and "Layer profiles" in text
    assert list(page.figures()) == ["thresholds", "rounding", "codes", "differences", "replay"]
    assert selection.candidate.digest in text and selection.reference and selection.reference.digest in text
    captions = [tag for tag, _ in page.elements if tag == "caption"]
    assert len(captions) == sum(tag == "table" for tag, _ in page.elements)


def test_it_asks_nobody_for_anything_and_is_small(selection: Selection) -> None:
    made = html_report(selection)
    page = Page(made)
    assert len(made.encode()) < 8_000_000
    assert not [one for one in page.elements if {"src", "href", "srcset", "action"} & set(one[1])]
    assert "default-src 'none'" in made
    assert made == html_report(selection), "no clock is in it"


def test_tables_and_figures_come_of_one_comparison_and_one_evaluation_a_run(selection: Selection) -> None:
    profile = cProfile.Profile()
    profile.runcall(html_report, selection)
    calls = {Path(file).stem + "." + name: row[0] for (file, _, name), row in Stats(profile).stats.items()}  # type: ignore[attr-defined]
    asked = ("comparison.compare", "thresholds.evaluate", "thresholds.threshold_curve", "tables.codes_table")
    assert [calls[name] for name in asked] == [1, 2, 2, 1]
    assert html_report(selection, report(selection)) == html_report(selection)


def test_foreign_names_stay_text(selection: Selection) -> None:
    named = replace(selection.candidate, name=HOSTILE, codes=(HOSTILE, *selection.candidate.codes[1:]))  # type: ignore[index]
    other = replace(selection.reference, codes=named.codes, name=HOSTILE)  # type: ignore[type-var]
    page = Page(
        html_report(replace(selection, candidate=named, reference=other, diagnosis=diagnose(named, other)))
    )
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert not [
        attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)
    ]
    assert sum(tag == "script" for tag, _ in page.elements) == 2 + len(page.figures())


def test_runs_without_labels_have_a_page_too(selection: Selection) -> None:
    candidate, reference = (replace(one, labels=None) for one in (selection.candidate, selection.reference))  # type: ignore[type-var]
    text = Page(html_report(Selection(candidate, reference))).text()
    assert (
        "Neither run is labelled." in text
        and "Labels are missing" in text
        and "nothing here was reproduced" in text
    )
    with pytest.raises(ShifamindError, match="two runs"):
        html_report(Selection(candidate))


def test_a_figure_alone_is_a_page_that_saves_itself() -> None:
    figure = go.Figure()
    figure.add_bar(x=["</script><script>alert(1)</script>"], y=[1])
    page = Page(figure_page(Figure(figure, "one", "A bar.")))
    ((name, drawn),) = page.figures().items()
    assert name == "one" and drawn["data"][0]["x"] == ["</script><script>alert(1)</script>"]
    formats = [attributes["data-format"] for tag, attributes in page.elements if tag == "button"]
    assert formats == ["svg", "png"]


def test_the_command_writes_a_page_or_an_archive(selection: Selection, tmp_path, capsys) -> None:
    runs = []
    for name, run in (("a", selection.candidate), ("b", selection.reference)):
        runs.append(str(tmp_path / f"{name}.safetensors"))
        write_run_file(run, Path(runs[-1]))  # type: ignore[arg-type]
    (tmp_path / "ladder.json").write_text(json.dumps(recorded_ladder()))
    (tmp_path / "replay.json").write_text(json.dumps(replay_result(device="CPU")))
    known = ["--ladder", str(tmp_path / "ladder.json"), "--replay", str(tmp_path / "replay.json")]
    page = tmp_path / "report.html"
    assert main(["report", *runs, *known, "--output", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == page.stat().st_size
    text = Page(page.read_text()).text()
    assert "Against FP64, on 64 notes" in text and re.search("fp32.*moves", text)
    assert main(["report", *runs, "--output", str(tmp_path / "report.zip")]) == 0
    assert (tmp_path / "report.zip").read_bytes()[:2] == b"PK"
    for wrong in (["--output", str(tmp_path / "report.pdf")], ["--replay", str(tmp_path / "ladder.json")]):
        capsys.readouterr()
        assert main(["report", *runs, *wrong]) == 2
        assert capsys.readouterr().err.startswith("error: ")
