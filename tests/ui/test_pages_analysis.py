"""The pages on thresholds, codes, differences and the report, driven without a browser."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from shifamind_core.analysis.comparison import compare
from shifamind_core.analysis.thresholds import CLEAN_GRID, SEED_GRID, evaluate, threshold_curve
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.diagnosis import sample
from shifamind_core.figures import differences
from shifamind_core.runs import uploads
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import write_run_file
from shifamind_core.ui.session import cached
from shifamind_core.ui.site.launch import ROUTER
from shifamind_core.ui.site.navigation import page_path
from shifamind_core.ui.text import safe_text
from simulation.builders import tiny_run_directory
from tests.support.dashboard import CODES, NOTES, Dashboard, small_run

PAGES = ("thresholds", "codes", "differences", "report")
HOSTILE = '![x](http://host.example/b.png) <a href="http://host.example">x</a>'
BUDGET = 300_000


def reference() -> Run:
    """The run beside the run directory of `filled`."""
    return small_run(lowercase=False, noise=1.5, seed=7)


def charts(app: AppTest) -> list[dict[str, Any]]:
    """What travels to the browser, as the page's figures."""
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def values(array: Any) -> np.ndarray:
    """A trace's numbers, which travel as base64."""
    if isinstance(array, list):
        return np.array(array)
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])


def trace(chart: dict[str, Any], name: str) -> dict[str, Any]:
    (found, *_) = (one for one in chart["data"] if one.get("name") == name)
    return found


def captions(app: AppTest) -> str:
    return " ".join(one.value for one in app.caption).replace("\\", "")


# The pickers


@pytest.mark.parametrize("name", PAGES[1:])
def test_a_pair_that_was_chosen_elsewhere_is_what_the_page_shows(filled: Dashboard, name: str) -> None:
    other = small_run(policy="bf16", noise=0.01, seed=3)
    filled.compute(other)
    app = filled.open(name, candidate=small_run().digest[:12], reference=reference().digest[:12])
    assert small_run().digest[:12] in app.query_params["candidate"]
    assert reference().digest[:12] in app.query_params["reference"]


def test_two_uploads_alone_are_not_compared_with_themselves(dashboard: Dashboard) -> None:
    for run in (small_run(), reference()):
        dashboard.upload(run)
    app = dashboard.open("codes")
    assert app.selectbox(key="candidate").value != app.selectbox(key="reference").value


def tables(app: AppTest) -> list[pd.DataFrame]:
    """The page's tables but the one of settings that differ."""
    return [one.value for one in app.dataframe if "Setting" not in one.value]


def test_what_differs_between_the_runs_stands_above_their_scores(filled: Dashboard) -> None:
    for page in ("overview", "codes", "differences", "thresholds", "diagnosis"):
        app = filled.open(page)
        (table,) = (one.value for one in app.dataframe if "Setting" in one.value)
        names = (
            app.multiselect(key="runs").options
            if page == "thresholds"
            else app.selectbox(key="reference").options
        )
        assert set(table.columns) == {"Setting", *names}
        assert "Casing" in set(table["Setting"]) and "Notes" not in set(table["Setting"])


# The empty case


@pytest.mark.parametrize("name", PAGES)
def test_the_empty_page_says_what_to_do_next(dashboard: Dashboard, name: str) -> None:
    app = dashboard.open(name)
    assert not app.exception
    assert "Compute one, or upload one" in app.info[0].value
    assert not charts(app)


def test_runs_without_labels_are_not_offered_for_thresholds(dashboard: Dashboard) -> None:
    dashboard.make_run_directory()
    dashboard.compute(small_run(labels=None))
    app = dashboard.open("thresholds")
    assert not app.exception
    assert app.info


# Thresholds


def test_thresholds_show_the_curves_of_both_splits_and_the_tuned_point(filled: Dashboard) -> None:
    app = filled.open("thresholds")
    (chart,) = charts(app)
    names = [one["name"] for one in chart["data"]]
    (label,) = {name.removesuffix(" · validation") for name in names if name.endswith("validation")}
    curve = trace(chart, f"{label} · test")
    expected = threshold_curve(small_run(), SEED_GRID)
    np.testing.assert_array_equal(values(curve["y"]), expected.micro_f1.astype(np.float32))
    tuned = evaluate(small_run(), small_run("val")).tuned_threshold
    assert tuned is not None
    np.testing.assert_allclose(
        values(trace(chart, f"{label} · test · tuned")["x"]), tuned.threshold, rtol=1e-6
    )
    assert chart["layout"]["yaxis"]["title"]["text"] == "Micro F1"
    assert chart["layout"]["xaxis2"]["title"]["text"] == "Threshold on the probability"


def test_the_table_holds_all_three_protocols_of_every_run(filled: Dashboard) -> None:
    app = filled.open("thresholds")
    table = tables(app)[0]
    fixed, tuned, top_k = "at 0.5", "tuned on validation", "k most probable codes"
    assert list(table["protocol"]) == [fixed, tuned, top_k, fixed, top_k]
    assert f"{table['micro_f1'][0] - table['micro_f1'][3]:+.4f} in micro F1" in app.markdown[0].value
    ours = evaluate(small_run(), small_run("val"))
    assert table["macro_f1"][0] == ours.fixed.macro_f1
    assert ours.tuned is not None
    assert table["micro_f1"][1] == ours.tuned.micro_f1


def test_a_run_without_a_validation_run_is_not_tuned_and_says_so(filled: Dashboard) -> None:
    (own_name,) = (one for one in filled.open().selectbox(key="reference").options if "cased" in one)
    assert safe_text(own_name) + " has no validation run" in captions(filled.open("thresholds"))


def test_the_clean_grid_can_be_chosen(filled: Dashboard) -> None:
    app = filled.open("thresholds")
    app.get("button_group")[0].set_value("clean").run()
    assert not app.exception
    first = charts(app)[0]["data"][0]
    np.testing.assert_array_equal(values(first["x"]), CLEAN_GRID.astype(np.float32))


def test_no_run_chosen_is_no_error(filled: Dashboard) -> None:
    app = filled.open("thresholds")
    app.multiselect[0].set_value([]).run()
    assert not app.exception
    assert "Choose at least one run" in app.info[0].value


def test_a_run_with_nan_is_refused_and_the_others_stay(filled: Dashboard) -> None:
    logits = small_run().logits.copy()
    logits[0, 0] = np.nan
    filled.compute(small_run(logits=logits))
    app = filled.open("thresholds")
    assert not app.exception
    (line,) = (one.value for one in app.error)
    assert "not finite" in line
    assert len(charts(app)) == 1


# Codes


def test_one_code_is_opened_with_its_curve_its_differences_and_its_flipped_decisions(
    filled: Dashboard,
) -> None:
    app = filled.open("codes")
    per_code = compare(small_run(), reference()).per_code.set_index("code")
    assert app.selectbox(key="codes.one").value == per_code["f1_gap"].abs().idxmax()
    app = app.selectbox(key="codes.one").set_value("I10").run()
    assert not app.exception
    flipped = int(per_code.loc["I10", ["decisions_gained", "decisions_lost"]].sum())
    assert f"**{flipped:,} decisions on this code differ**" in " ".join(one.value for one in app.markdown)
    assert len(app.dataframe[-1].value) == flipped
    titles = [one["layout"]["xaxis"]["title"]["text"] for one in charts(app)]
    assert titles[1:] == ["Decision threshold", "Logit difference, candidate − reference"]


def test_codes_are_sorted_by_gap_and_named(filled: Dashboard) -> None:
    app = filled.open("codes")
    chart = charts(app)[0]
    expected = compare(small_run(), reference()).per_code
    expected = expected.sort_values("f1_gap", key=lambda gap: -gap.abs(), kind="stable")
    rows = chart["data"][2]["y"]
    assert [row.split()[0] for row in rows] == list(expected["code"])
    assert any("Essential (primary) hypertension" in row for row in rows)
    np.testing.assert_array_equal(
        values(chart["data"][2]["x"]), expected["candidate_f1"].to_numpy(np.float32)
    )
    table = tables(app)[0]
    np.testing.assert_array_equal(table["f1_gap"], expected["f1_gap"])
    assert {"support", "title", "candidate_precision", "reference_recall"} <= set(table.columns)


def long_run(noise: float = 0.0) -> Run:
    """More codes than a browser is sent at once."""
    draw = np.random.default_rng(5)
    labels = (draw.random((NOTES, 620)) < 0.2).astype(np.uint8)
    logits = (labels * 2.0 - 1.5 + draw.normal(0, 1, labels.shape)).astype(np.float32)
    logits += np.random.default_rng(6).normal(0, 1, labels.shape).astype(np.float32) * np.float32(noise)
    codes = tuple(f"C{code:03d}" for code in range(620))
    return small_run(logits=logits, labels=labels, codes=codes, name=f"long {noise}")


@pytest.fixture
def long(dashboard: Dashboard) -> Dashboard:
    dashboard.make_run_directory()
    dashboard.inspect()
    dashboard.add_reference(long_run(), "a.safetensors")
    dashboard.add_reference(long_run(1.0), "b.safetensors")
    return dashboard


def test_of_many_codes_the_largest_gaps_are_shown_and_any_code_is_found(long: Dashboard) -> None:
    app = long.open("codes")
    support, gaps, *_ = charts(app)
    assert support["layout"]["yaxis"]["title"]["text"] == "Mean F1 of the codes"
    assert len(gaps["data"][2]["y"]) == 100 and len(tables(app)[0]) == 500
    assert len(app.selectbox(key="codes.one").options) == 500
    last = compare(long_run(1.0), long_run()).per_code.sort_values("f1_gap", key=abs)["code"].iloc[0]
    app = app.text_input(key="codes.find").set_value(last.lower()).run()
    assert not app.exception
    assert list(tables(app)[0]["code"]) == [last] == app.selectbox(key="codes.one").options
    app = app.text_input(key="codes.find").set_value("no such code").run()
    assert not app.exception and "620 codes" in app.info[-1].value


@pytest.mark.parametrize("page", ["differences", "report"])
def test_of_long_tables_the_browser_gets_the_beginning(long: Dashboard, page: str) -> None:
    app = long.open(page)
    if page == "report":
        app = app.segmented_control[0].set_value("codes").run()
    assert not app.exception
    assert len(tables(app)[-1]) == 500
    assert "500 of 62" in captions(app)


def test_a_large_file_in_references_is_mapped_not_read(
    long: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "AT_HAND", 10)
    monkeypatch.setattr(uploads, "read_upload", lambda *_: pytest.fail("read whole"))
    app = long.open("codes")
    assert not app.exception and len(charts(app)) == 4


@pytest.mark.parametrize("page", ["overview", "diagnosis"])
def test_a_diagnosis_of_a_part_says_so_beside_its_verdict(
    filled: Dashboard, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setattr(sample, "MOST_CELLS", 100)
    monkeypatch.setattr(sample, "PART_CELLS", 100)
    app = filled.open(page)
    assert "Looked at a part of these runs: 20 of 60 notes" in captions(app)


def test_a_large_pair_is_drawn_from_a_part_of_its_notes_and_says_so(
    filled: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "MOST_CELLS", NOTES * len(CODES) // 3)
    app = filled.open("differences")
    assert f"Drawn from {NOTES // 3} of {NOTES} notes" in captions(app)
    assert values(charts(app)[0]["data"][0]["y"]).sum() <= NOTES * len(CODES) // 3


def test_the_threshold_moves_the_scores_and_follows_to_the_next_page(filled: Dashboard) -> None:
    app = filled.open("codes")
    before = values(charts(app)[0]["data"][2]["x"])
    app.slider[0].set_value(0.2).run()
    assert not np.array_equal(values(charts(app)[0]["data"][2]["x"]), before)
    gap = compare(small_run(), reference(), 0.2).macro_f1.gap
    assert f"{gap:+.4f}" in [one.value for one in app.metric]
    app = app.switch_page(str(Path("pages/differences.py").resolve())).run()
    assert app.slider[0].value == 0.2
    flipped = compare(small_run(), reference(), 0.2).decisions_flipped
    assert f"{flipped:,} of {NOTES * len(CODES):,}" in [one.value for one in app.metric]


@pytest.mark.parametrize(
    ("link", "expected"),
    [("0.3", 0.3), ("0.5", 0.5), ("2", 0.5), ("nan", 0.5), ("1e999", 0.5), (HOSTILE, 0.5), ("", 0.5)],
)
def test_a_link_may_name_the_threshold_and_nonsense_is_half(
    filled: Dashboard, link: str, expected: float
) -> None:
    app = AppTest.from_file(str(ROUTER), default_timeout=60)
    app.run().switch_page(page_path("codes"))
    app.query_params["threshold"] = link
    app.run()
    assert not app.exception
    assert app.slider[0].value == expected
    kept = app.query_params.get("threshold")
    assert kept in ((None, []) if expected == 0.5 else ("0.30", ["0.30"]))


def test_one_run_against_itself_says_so(filled: Dashboard) -> None:
    own = small_run().digest[:12]
    for name in ("codes", "differences"):
        app = filled.open(name, candidate=own, reference=own)
        assert not app.exception
        assert "Both are the same run" in app.info[0].value


def test_runs_over_other_codes_are_one_line(filled: Dashboard) -> None:
    other = small_run(codes=("A", "B", "C", "D"))
    filled.compute(other)
    for name in ("codes", "differences"):
        app = filled.open(name, candidate=small_run().digest[:12], reference=other.digest[:12])
        assert not app.exception
        assert "share no code" in app.error[0].value


# Differences


def test_differences_show_histogram_density_and_a_row_for_every_code(filled: Dashboard) -> None:
    app = filled.open("differences")
    histogram, density = charts(app)
    comparison = compare(small_run(), reference())
    counted = sum(values(bars["y"]).sum() for bars in histogram["data"])
    assert counted == NOTES * len(CODES)
    assert values(density["data"][0]["customdata"]).sum() == NOTES * len(CODES)
    assert density["layout"]["xaxis"]["title"]["text"] == "Reference logit"
    shown = {one.label: one.value for one in app.metric}
    assert shown["Decisions that differ"] == f"{comparison.decisions_flipped:,} of {NOTES * len(CODES):,}"
    assert shown["Largest |difference|"] == f"{comparison.difference.max_abs:.3g}"
    table = tables(app)[0]
    assert set(table["code"]) == set(CODES)
    assert (np.diff(table["max_abs_difference"]) <= 0).all()
    assert table["decisions_flipped"].sum() == comparison.decisions_flipped


@pytest.mark.parametrize("allowed", [False, True])
def test_a_note_is_read_for_a_page_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    def page(folder, note):  # a script of its own, with none of the names above
        from shifamind_core.ui.differences.brush import show_note
        from shifamind_core.ui.session.state import Workspace

        show_note(Workspace(folder, None, folder), "test", note)

    split = RunDirectory(tiny_run_directory(tmp_path)).read_split("test")
    monkeypatch.setenv("SHIFAMIND_SHOW_NOTES", "1" if allowed else "")
    if not allowed:
        monkeypatch.setattr(RunDirectory, "read_split", lambda *_: pytest.fail("it was read"))
    note = f"{int(split.document_ids[3]) & (2**64 - 1):016x}"
    app = AppTest.from_function(page, args=(tmp_path, note), default_timeout=30).run()
    assert not app.exception
    assert [one.value for one in app.text] == ([split.texts[3]] if allowed else [])
    assert [one.value.startswith("Notes are not shown") for one in app.info] == [True] * (not allowed)


def test_an_upload_becomes_the_reference(filled: Dashboard, tmp_path: Path) -> None:
    theirs = small_run(policy="bf16", noise=0.01, seed=3)
    write_run_file(theirs, tmp_path / "theirs.safetensors")
    app = filled.open("differences")
    app.file_uploader[0].upload("theirs.safetensors", (tmp_path / "theirs.safetensors").read_bytes()).run()
    assert not app.exception and not app.error
    assert app.selectbox(key="reference").value == theirs.digest[:12]
    largest = compare(small_run(), theirs).difference.max_abs
    assert f"{largest:.3g}" in [one.value for one in app.metric]


@pytest.mark.parametrize("name", ["x.safetensors", "x.npz", "x.npy", "x.pt", "x.parquet", "x.csv"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04nothing of the kind"])
def test_a_refused_upload_is_one_line_and_the_page_stays(
    filled: Dashboard, name: str, content: bytes
) -> None:
    app = filled.open("differences")
    before = app.selectbox(key="reference").value
    app.file_uploader[0].upload(name, content).run()
    assert not app.exception
    (line,) = (one.value for one in app.error)
    assert "\n" not in line
    assert app.selectbox(key="reference").value == before
    assert len(charts(app)) == 2


def test_logits_that_are_not_finite_are_told(filled: Dashboard) -> None:
    logits = small_run().logits.copy()
    logits[0, :2] = np.nan, np.inf
    broken = small_run(logits=logits)
    filled.compute(broken)
    app = filled.open("differences", candidate=broken.digest[:12])
    assert not app.exception
    assert "2 are NaN or infinite" in captions(app)


# Report


def test_every_file_of_the_report_can_be_downloaded(filled: Dashboard) -> None:
    app = filled.open("report")
    assert not app.exception
    labels = [one.label for one in app.get("download_button")]
    assert labels == [
        "The report as one page",
        "metrics.csv",
        "codes.csv",
        "comparison.csv",
        "thresholds.csv",
        "findings.csv",
        "runs.csv",
        "All of them in one archive, with a README",
    ]
    preview = tables(app)[0]
    assert list(preview["role"]) == ["candidate"] * 3 + ["reference"] * 2
    assert preview["macro_f1"][0] == evaluate(small_run()).fixed.macro_f1


def test_runs_without_labels_still_give_the_comparison(dashboard: Dashboard) -> None:
    dashboard.make_run_directory()
    dashboard.compute(small_run(labels=None))
    dashboard.add_reference(small_run(lowercase=False, noise=1.5, seed=7, labels=None), "cased.safetensors")
    app = dashboard.open("report")
    assert not app.exception
    assert [one.label for one in app.get("download_button")] == [
        "The report as one page",
        "comparison.csv",
        "findings.csv",
        "runs.csv",
        "All of them in one archive, with a README",
    ]
    assert "Neither run has labels" in captions(app)


# All of them


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_reach_neither_markdown_nor_a_figure(dashboard: Dashboard, name: str) -> None:
    dashboard.make_run_directory()
    codes = (HOSTILE, "I10", "Z66", "=1+1")
    dashboard.compute(small_run("val", codes=codes), small_run(codes=codes))
    dashboard.add_reference(
        small_run(lowercase=False, noise=1.5, seed=7, codes=codes), "![x](http:host.example).safetensors"
    )
    app = dashboard.open(name)
    assert not app.exception
    for kind in ("markdown", "caption", "info", "error", "warning", "subheader", "title", "metric"):
        for element in getattr(app, kind):
            assert "![x](" not in f"{element.value}"
    for chart in charts(app):
        assert "<a " not in json.dumps(chart)


@pytest.mark.parametrize("name", PAGES[:3])
def test_full_size_runs_travel_as_little(dashboard: Dashboard, name: str) -> None:
    random = np.random.default_rng(0)
    shape = (17_266, 50)
    truth = (random.random(shape) < 0.1).astype(np.uint8)
    logits = (truth * 2 + random.normal(-3, 2, shape)).astype(np.float32)
    more: dict[str, Any] = {
        "codes": tuple(f"C{i:02d}" for i in range(50)),
        "labels": truth,
        "document_ids": np.arange(len(truth)),
    }
    dashboard.make_run_directory()
    dashboard.compute(small_run("val", logits=logits[::-1].copy(), **more), small_run(logits=logits, **more))
    moved = logits + random.normal(0, 0.02, shape).astype(np.float32)
    dashboard.add_reference(small_run(lowercase=False, logits=moved, **more), "moved.safetensors")
    app = dashboard.open(name)
    assert not app.exception
    assert charts(app)
    for chart in app.get("plotly_chart"):
        assert len(chart.proto.spec) < BUDGET


def test_one_changed_logit_is_never_answered_from_the_cache() -> None:
    shape = (12_000, 50)  # above the size from which Streamlit would hash a sample only
    one = Run(np.zeros(shape, np.float32), "one")
    for cell in range(10):
        logits = one.logits.copy()
        logits[cell * 500, cell] = 1
        assert cached.comparison(one, Run(logits, "other"), 0.5).difference.max_abs == 1


def test_two_machines_with_the_same_arrays_keep_their_own_manifests() -> None:
    mine, theirs = small_run(), small_run(policy="bf16", noise=0.0)
    assert mine.digest == theirs.digest
    first = cached.comparison(mine, mine, 0.5).aligned.candidate.manifest.policy
    second = cached.comparison(theirs, theirs, 0.5).aligned.candidate.manifest.policy
    assert first != second


# Concepts


def test_concepts_are_shown_where_both_runs_have_them(dashboard: Dashboard) -> None:
    dashboard.make_run_directory()
    scores = np.random.default_rng(0).random((NOTES, 6)).astype(np.float32)
    dashboard.compute(small_run(concept_scores=scores))
    theirs = small_run(lowercase=False, noise=1.5, seed=7, concept_scores=1 - scores)
    dashboard.add_reference(theirs, "cased.safetensors")
    app = dashboard.open("concepts")
    assert not app.exception
    table = tables(app)[-1]
    assert len(table) == 6 and table["max_abs_difference"].max() == pytest.approx(
        np.abs(1 - 2 * scores).max()
    )
    assert any("Concept scores differ already" in one.value for one in app.markdown)
    assert len(charts(app)) == 1


def test_runs_without_concepts_are_told_what_has_them(filled: Dashboard) -> None:
    app = filled.open("concepts")
    assert not app.exception and "no concept scores" in app.info[0].value
