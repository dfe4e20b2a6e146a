"""Reports: every number reads back to the last bit, says where it comes from, and nothing runs in a spreadsheet."""

import csv
import io
import math
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging import version

import shifamind_core
from shifamind_core.analysis.comparison import compare
from shifamind_core.analysis.thresholds import SEED_GRID, evaluate, threshold_curve
from shifamind_core.artifacts.code_titles import CODE_TITLES, code_title
from shifamind_core.demo.labels import COUNTS
from shifamind_core.errors import ShifamindError
from shifamind_core.precision.policy import POLICIES
from shifamind_core.report.csv_text import csv_text
from shifamind_core.report.files import CONTENTS, Report, Selection, csv_files, readme, report, zipped
from shifamind_core.report.provenance import provenance, runs_table, with_digests
from shifamind_core.report.tables import (
    codes_table,
    comparison_table,
    curve_table,
    decisions_within,
    flipped_decisions,
    metrics_table,
)
from shifamind_core.runs.manifest import (
    CheckpointRecord,
    Environment,
    Manifest,
    PolicyRecord,
    TokenizationRecord,
)
from shifamind_core.runs.run import Run

CODES = ("I10", "E785", "Z66")
EVIL = '=HYPERLINK("http://host.example","x")'


def run(name: str, seed: int = 0, split: str = "test", labels: bool = True, notes: int = 40) -> Run:
    """A small run with a full manifest; the same notes and labels for every seed."""
    random = np.random.default_rng(5)
    truth = (random.random((notes, len(CODES))) < 0.3).astype(np.uint8)
    logits = truth * 2 - 1.2 + np.random.default_rng(seed).normal(0, 1, truth.shape)
    return Run(
        logits.astype(np.float32),
        name,
        CODES,
        truth if labels else None,
        np.arange(notes),
        manifest=Manifest(
            split=split,
            policy=PolicyRecord.of(POLICIES["fp32"]),
            tokenization=TokenizationRecord(lowercase=True, max_length=512),
            environment=Environment(device="cuda", gpu="L4", torch="2.13.0", transformers="5.23.0"),
            checkpoint=CheckpointRecord(weights_digest="abc"),
        ),
    )


def read(text: str) -> pd.DataFrame:
    """As a person's script would; pandas reads floats exactly from 3.1 on, and when asked before."""
    exact = {} if version.parse(pd.__version__) >= version.parse("3.1") else {"float_precision": "round_trip"}
    return pd.read_csv(io.StringIO(text, newline=""), **exact)


@pytest.fixture(scope="module")
def whole() -> Report:
    return report(
        Selection(run("mine", 1), run("theirs", 2), run("mine val", 3, "val"), run("their val", 4, "val"))
    )


# CSV


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_read_back_to_the_last_bit(values: list[float]) -> None:
    back = read(csv_text(pd.DataFrame({"value": values})))["value"].to_numpy(np.float64)
    np.testing.assert_array_equal(back, values)


def test_infinity_reads_back_and_what_is_not_known_is_empty() -> None:
    table = pd.DataFrame({"a": [math.inf, -math.inf, math.nan], "b": [None, "x", None]})
    table["c"] = pd.array([1, None, 3], dtype="Int64")
    assert csv_text(table) == "a,b,c\r\ninf,,1\r\n-inf,x,\r\n,,3\r\n"


@given(st.text())
def test_any_text_is_one_cell_and_never_a_formula(text: str) -> None:
    written = csv_text(pd.DataFrame({"name": [text], "n": [1]}))
    rows = list(csv.reader(io.StringIO(written, newline="")))
    assert rows[0] == ["name", "n"]
    cell = rows[1][0]
    assert cell in (text, "'" + text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("start", [*"=+-@\t\r", " =", "\n=", "＝"])
def test_what_a_spreadsheet_would_compute_gets_an_apostrophe(start: str) -> None:
    table = pd.DataFrame({start + "header": [start + "1+1"]})
    header, cell = csv.reader(io.StringIO(csv_text(table), newline=""))
    assert header == ["'" + start + "header"]
    assert cell == ["'" + start + "1+1"]


def test_numbers_never_get_an_apostrophe() -> None:
    assert csv_text(pd.DataFrame({"gap": [-0.1], "flips": [-3]})) == "gap,flips\r\n-0.1,-3\r\n"


def test_quotes_commas_and_line_breaks_survive() -> None:
    text = 'a,"b"\nc'
    assert read(csv_text(pd.DataFrame({"x": [text]})))["x"][0] == text


# Provenance


def test_provenance_names_run_digest_and_what_most_often_explains_a_gap() -> None:
    mine = run("mine")
    assert provenance(mine) == {
        "run": "mine",
        "run_digest": mine.digest,
        "fingerprint": None,
        "split": "test",
        "policy": "fp32",
        "device": "cuda",
        "gpu": "L4",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "lowercase": True,
        "max_length": 512,
        "weights_digest": "abc",
    }


def test_what_a_manifest_does_not_know_is_empty_not_guessed() -> None:
    bare = Run(np.zeros((1, 1), np.float32))
    assert {name for name, value in provenance(bare).items() if value is not None} == {"run", "run_digest"}


def test_rows_carry_digests_and_one_table_says_whose_they_are() -> None:
    mine, theirs = run("mine", 1), run("theirs", 2)
    table = with_digests(pd.DataFrame({"x": [1, 2]}), candidate=mine, reference=theirs)
    assert list(table["candidate_run_digest"]) == [mine.digest] * 2
    told = runs_table({"candidate": mine, "reference": theirs, "nobody": None}).set_index("run_digest")
    assert told.loc[table["reference_run_digest"][0], ["role", "gpu"]].tolist() == ["reference", "L4"]
    assert list(told["shifamind_core"]) == [shifamind_core.__version__] * 2


# Tables


def test_metrics_are_those_of_the_evaluation() -> None:
    result = evaluate(run("mine"), run("val", 3, "val"))
    table = metrics_table(result).set_index("protocol")
    assert list(table.index) == ["fixed", "tuned", "top_k"]
    assert table.loc["fixed", "macro_f1"] == result.fixed.macro_f1
    assert result.tuned is not None and result.tuned_threshold is not None
    assert table.loc["tuned", "micro_f1"] == result.tuned.micro_f1
    assert table.loc["tuned", "threshold"] == result.tuned_threshold.threshold
    assert table.loc["tuned", "plateau_highest"] == result.tuned_threshold.plateau.highest
    assert table.loc["top_k", "k"] == result.k
    assert np.isnan(table.loc["top_k", "threshold"])


def test_without_a_validation_run_nothing_is_tuned() -> None:
    assert list(metrics_table(evaluate(run("mine")))["protocol"]) == ["fixed", "top_k"]


def test_flipped_decisions_are_named_by_note_and_direction() -> None:
    mine, theirs = run("mine", 1), run("theirs", 2)
    for code in range(mine.logits.shape[1]):
        table = flipped_decisions(mine, theirs, code, 0.5)
        ours, others = (one.logits[:, code] > 0 for one in (mine, theirs))
        assert len(table) == (ours != others).sum()
        assert (table["decision"] == "gained").sum() == (ours & ~others).sum()
        assert (np.diff(np.abs(table["difference"])) <= 0).all()
        assert ((table["candidate_probability"] > 0.5) == (table["decision"] == "gained")).all()
    assert table["note"].str.fullmatch("[0-9a-f]{16}").all() or mine.document_ids is None


@pytest.mark.parametrize("most", [3, 1000])
def test_decisions_within_a_part_of_the_differences_are_those_that_moved_furthest(most: int) -> None:
    mine, theirs = run("mine", 1), run("theirs", 2)
    change = mine.logits.astype(np.float64) - theirs.logits
    change[0, 0] = np.nan
    mine = replace(mine, logits=np.where(np.isnan(change), np.nan, mine.logits).astype(np.float32))
    inside = (change >= 0.25) & (change <= 1.5)
    table, total = decisions_within(mine, theirs, 0.25, 1.5, 0.5, most)
    assert total == inside.sum() and len(table) == min(most, total)
    np.testing.assert_array_equal(table["difference"], np.sort(change[inside])[::-1][:most])
    if most > total:
        flipped = ((mine.logits > 0) != (theirs.logits > 0)) & inside
        assert (table["decision"] != "same").sum() == flipped.sum()
        assert table.groupby("code").size().to_dict() == dict(zip(CODES, inside.sum(axis=0), strict=True))
    assert decisions_within(mine, theirs, 98, 99, 0.5, most)[0].empty


def test_a_decision_on_a_score_that_is_no_number_is_not_flipped() -> None:
    mine = run("mine", 1)
    broken = mine.logits.copy()
    broken[:, 0] = np.nan
    assert flipped_decisions(replace(mine, logits=broken), mine, 0, 0.5).empty


def test_codes_are_sorted_by_the_size_of_the_gap() -> None:
    mine, theirs = run("mine", 1), run("theirs", 2)
    table = codes_table(mine, theirs)
    assert (np.diff(np.abs(table["f1_gap"])) <= 0).all()
    back = codes_table(theirs, mine)
    assert list(back["code"]) == list(table["code"]), "whichever way the gap goes"
    assert set(table["code"]) == set(CODES)
    expected = compare(mine, theirs).per_code.set_index("code").loc[table["code"]]
    np.testing.assert_array_equal(table["f1_gap"], expected["f1_gap"])
    np.testing.assert_array_equal(table["support"], expected["support"].astype(int))
    assert table.set_index("code").loc["Z66", "title"] == "Do not resuscitate"


def test_one_run_alone_is_sorted_by_its_f1() -> None:
    table = codes_table(run("mine"))
    assert (np.diff(table["f1"]) >= 0).all()
    assert "f1_gap" not in table


def test_a_code_outside_the_50_has_no_title() -> None:
    mine = Run(np.zeros((2, 1), np.float32), codes=("J0000",), labels=np.zeros((2, 1), np.uint8))
    assert codes_table(mine)["title"][0] is None


def test_runs_that_are_not_aligned_are_refused() -> None:
    mine = run("mine")
    with pytest.raises(ShifamindError, match="not aligned"):
        codes_table(mine, mine.select(columns=np.array([2, 1, 0])))


def test_the_comparison_begins_with_all_codes_together() -> None:
    comparison = compare(run("mine", 1), run("theirs", 2))
    table = comparison_table(comparison)
    first, rest = table.iloc[0], table.iloc[1:]
    assert first["code"] == "all codes"
    assert first["decisions_gained"] == rest["decisions_gained"].sum() == comparison.decisions_gained
    assert first["support"] == rest["support"].sum()
    assert first["f1_gap"] == comparison.macro_f1.gap
    assert first["micro_f1_gap"] == comparison.micro_f1.gap
    assert first["abs_p99"] == comparison.difference.abs_percentiles[99]
    assert rest["micro_f1_gap"].isna().all()
    assert list(rest["code"]) == list(CODES)


def test_a_comparison_without_labels_leaves_scores_empty() -> None:
    comparison = compare(run("mine", 1, labels=False), run("theirs", 2, labels=False))
    back = read(csv_text(comparison_table(comparison)))
    assert back[["support", "candidate_f1", "f1_gap", "micro_f1_gap"]].isna().all(axis=None)
    assert back["mean_difference"].notna().all()


def test_the_curve_has_the_whole_grid() -> None:
    curve = threshold_curve(run("mine"))
    table = curve_table(curve)
    np.testing.assert_array_equal(table["threshold"], SEED_GRID)
    np.testing.assert_array_equal(table["micro_f1"], curve.micro_f1)


# The report


def test_the_report_reads_back_with_full_precision(whole: Report) -> None:
    for name, text in csv_files(whole).items():
        table, back = whole.tables[name.removesuffix(".csv")], read(text)
        assert list(back.columns) == list(table.columns)
        assert len(back) == len(table)
        for column in table:
            numbers = pd.to_numeric(table[column], errors="coerce")
            if numbers.notna().any():
                np.testing.assert_array_equal(
                    back[column].to_numpy(np.float64), numbers.to_numpy(np.float64, na_value=np.nan)
                )


def test_every_row_of_every_file_names_its_runs(whole: Report) -> None:
    assert list(whole.tables) == ["metrics", "codes", "comparison", "thresholds", "runs"]
    known = set(whole.tables["runs"]["run_digest"])
    assert len(known) == 4  # with those that they were tuned on
    for table in whole.tables.values():
        digests = [column for column in table if str(column).endswith("run_digest")]
        assert digests
        assert set(table[digests].to_numpy().ravel()) <= known


def test_the_readme_describes_every_file_and_column(whole: Report) -> None:
    told = readme(whole)
    for name, table in whole.tables.items():
        assert f"{name}.csv" in told and CONTENTS[name] in told
        assert all(str(column) in told for column in table)
    assert all(remark in told for remark in whole.remarks)


def test_metrics_and_curves_speak_of_both_runs_and_of_their_tuning(whole: Report) -> None:
    assert list(whole.tables["metrics"]["role"]) == ["candidate"] * 3 + ["reference"] * 3
    curves = whole.tables["thresholds"]
    names = whole.tables["runs"].set_index("run_digest")["run"]
    curves = curves.assign(run=curves["run_digest"].map(names))
    assert curves.groupby(["role", "used_for", "run"], sort=False).size().to_dict() == {
        ("candidate", "scoring", "mine"): 80,
        ("candidate", "tuning", "mine val"): 80,
        ("reference", "scoring", "theirs"): 80,
        ("reference", "tuning", "their val"): 80,
    }


def test_a_reference_without_labels_is_scored_with_those_of_the_candidate() -> None:
    made = report(Selection(run("mine", 1), run("theirs", 2, labels=False)))
    lent = report(Selection(run("mine", 1), run("theirs", 2)))
    np.testing.assert_array_equal(made.tables["metrics"]["macro_f1"], lent.tables["metrics"]["macro_f1"])
    unlabelled = run("theirs", 2, labels=False)
    assert made.tables["metrics"]["run_digest"].iloc[-1] == unlabelled.digest
    assert any("those of the candidate are used" in remark for remark in made.remarks)


def test_runs_with_nothing_in_common_are_reported_one_by_one() -> None:
    other = Run(
        np.zeros((5, 2), np.float32), "other", ("A", "B"), np.ones((5, 2), np.uint8), np.arange(5) + 900
    )
    made = report(Selection(run("mine", 1), other))
    assert "comparison" not in made.tables
    assert list(made.tables["metrics"]["role"].unique()) == ["candidate", "reference"]
    assert list(made.tables["codes"].columns[:4]) == ["code", "title", "support", "f1"]
    assert len(made.remarks) == 1


def test_a_run_with_nan_keeps_the_comparison_and_says_why_it_is_not_scored() -> None:
    broken = run("broken", 2)
    logits = broken.logits.copy()
    logits[0, 0] = np.nan
    made = report(Selection(run("mine", 1), Run(logits, "broken", CODES, broken.labels, broken.document_ids)))
    assert set(made.tables) == {"runs", "metrics", "comparison", "thresholds"}
    assert set(made.tables["metrics"]["role"]) == {"candidate"}
    assert any("not finite" in remark for remark in made.remarks)


def test_no_document_id_is_in_any_file(whole: Report) -> None:
    marked = Run(
        run("a").logits,
        "a",
        CODES,
        run("a").labels,
        np.arange(40) + 7_313_131_313,
        manifest=run("a").manifest,
    )
    made = csv_files(report(Selection(marked, marked)))
    assert not any("73131313" in text for text in made.values())


def test_foreign_names_cannot_run_in_a_spreadsheet() -> None:
    evil = Run(run("x").logits, EVIL, (EVIL, "+1", "@A1"), run("x").labels, np.arange(40))
    for text in csv_files(report(Selection(evil, evil))).values():
        for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")):
            for cell in row:
                assert not cell.startswith(("=", "+", "@"))
                assert not cell.startswith("-") or float(cell) <= 0


def test_the_archive_holds_the_files_and_no_clock(whole: Report) -> None:
    files = csv_files(whole)
    assert zipped(files) == zipped(files)
    with zipfile.ZipFile(io.BytesIO(zipped(files))) as archive:
        assert archive.namelist() == list(files)
        assert archive.read("metrics.csv").decode() == files["metrics.csv"]


# Titles


def test_the_50_codes_of_the_case_have_titles() -> None:
    assert set(CODE_TITLES) == set(COUNTS)
    assert code_title("i11.0") == "Hypertensive heart disease with heart failure"
