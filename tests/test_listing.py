"""What commands print for people: every number under its name."""

import re

import numpy as np
import pytest

from shifamind_core.analysis.comparison import compare, comparison_json
from shifamind_core.analysis.thresholds import evaluate, evaluation_json
from shifamind_core.cli import main
from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.diagnosis.printed import diagnosis_text
from shifamind_core.listing import listing, table
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import write_run_file


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    logits = random.normal(-1, 2, (120, 6)).astype(np.float32)
    labels = (logits + random.normal(0, 1, logits.shape) > 0).astype(np.uint8)
    codes = tuple(f"C{number}" for number in range(6))
    moved = logits + random.normal(0, 0.5, logits.shape).astype(np.float32)
    return Run(logits, "here", codes, labels), Run(moved, "there", codes, labels)


def test_every_column_of_a_table_has_its_name_above_it():
    rows = [{"code": "I10", "f1": 0.25, "support": 3}, {"code": "E785", "f1": None, "support": 12}]
    head, *below = table(rows)[-3:]
    assert head.split() == ["code", "F1", "(notes)"]
    assert [line.split() for line in below] == [["I10", "0.25", "3"], ["E785", "–", "12"]]
    assert len({line.rindex(last) + len(last) for line, last in zip(below, ("3", "12"), strict=True)}) == 1


def test_records_that_lack_a_key_keep_their_numbers_under_the_right_name():
    lines = table([{"policy": "fp32", "rms": 0.5, "flips": 2}, {"policy": "tf32", "flips": 7}])
    assert lines[-1].split() == ["tf32", "–", "7"]


@pytest.mark.parametrize(
    "make", [lambda a, b: evaluation_json(evaluate(a, None)), lambda a, b: comparison_json(compare(a, b))]
)
def test_the_listing_of_a_result_holds_every_number_of_it_and_no_python(pair, make):
    text = listing(make(*pair))
    assert not re.search(r"[{}\[\]]|\bNone\b|\bTrue\b|\bFalse\b|_", text)
    for line in text.splitlines():
        assert not re.fullmatch(r"\s*[-+.\d]+", line), "a number alone"


def test_a_diagnosis_is_told_without_numbers_that_have_no_name(pair):
    document = diagnose(*pair).to_json()
    text = diagnosis_text(document)
    assert text.startswith(document["answer"])
    assert not re.search(r"[{}]|\bNone\b|\bTrue\b", text)
    assert "What is left" not in text, "nothing was taken away"
    told = [
        one for one in document["findings"] if one["status"] != "ruled_out" and one["probability"] >= 0.01
    ]
    assert text.count("What to do: ") == len(told) >= 1
    faint = [one for one in document["findings"] if one["status"] == "possible" and one["probability"] < 0.01]
    assert ("not listed" in text) == bool(faint)
    assert all(remark in " ".join(text.split()) for remark in document["remarks"])


def test_a_score_that_no_change_reaches_is_said_in_words(pair, tmp_path, capsys):
    run = pair[0]
    flat = Run(np.zeros_like(run.logits), "flat", run.codes, np.zeros_like(run.labels))
    write_run_file(flat, tmp_path / "flat.safetensors")
    assert main(["bound", str(tmp_path / "flat.safetensors"), "--target-macro-f1", "1"]) == 0
    assert capsys.readouterr().out.startswith("No change of these logits reaches that score.")
