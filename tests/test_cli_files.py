"""Files that people have, through the command line: one JSON document or one line, and the right numbers in it."""

import json

import numpy as np
import pytest

from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.cli import main
from shifamind_core.runs.run_file import write_run_file
from tests.support import foreign
from tests.support.foreign import CODES, LABELS, LOGITS, NOTES, PROBABILITIES, csv, jsonl, npz, pairs, table

BY_TEXT = sorted(range(26), key=str)
FOUR = PROBABILITIES.copy()
FOUR[:, :4] = LABELS[:, :4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reference, and beside it the same run as others wrote it."""
    folder = tmp_path_factory.mktemp("files")
    write_run_file(foreign.whole(), folder / "whole.safetensors")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


FILES = {
    # case 04
    "sorted as text.csv": csv(table(LOGITS[:, BY_TEXT], map(str, BY_TEXT))),
    # cases 05, 06
    "leading zeros.csv": csv(table(codes=[code.lstrip("0") for code in CODES])),
    "dots.csv": csv(table(codes=[f"{code[:3]}.{code[3:]}" if len(code) > 3 else code for code in CODES])),
    "small letters.csv": csv(table(codes=[code.lower() for code in CODES])),
    # cases 30, 45
    "carriage returns.csv": csv(table()).replace(b"\n", b"\r"),
    "percent.csv": csv(table(PROBABILITIES * 100)),
    "words.csv": csv(table(PROBABILITIES, [f"{code}_prob" for code in CODES]), table(LABELS, ids=False)),
    "trainer.npz": npz(predictions=LOGITS, label_ids=LABELS.astype(np.float32)),
    "sklearn.npz": npz(**dict(zip(CODES, pairs(), strict=True))),
    "lines.jsonl": jsonl({"logits": dict(zip(CODES, row, strict=True))} for row in LOGITS.tolist()),
}


@pytest.fixture
def command(capsys):
    """A command's JSON document, or its one line."""

    def run(*arguments):
        status = main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        if status:
            assert status == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1, err
            return err
        assert out.count("\n") == 1
        return json.loads(out)

    return run


@pytest.mark.parametrize("name", FILES)
def test_the_same_run_compares_as_the_same_run(command, folder, name):
    found = command("compare", folder / name, folder / "whole.safetensors")
    assert (found["aligned_documents"], found["aligned_codes"], found["decisions_flipped"]) == (NOTES, 26, 0)
    assert found["max_abs_difference"] < 1e-3 and found["macro_f1_over"] == "all 26 codes"
    expected = evaluate(foreign.whole()).fixed.macro_f1
    assert (
        found["macro_f1"]["candidate"] == found["macro_f1"]["reference"] == pytest.approx(expected, abs=1e-12)
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("leading zeros.csv", "spelled otherwise in the reference (leading zeros"),
        ("dots.csv", "(dots: 'E78.5' is 'E785'"),
        ("percent.csv", "taken as percentages and divided by 100"),
        ("words.csv", "Columns were read as the codes in their names"),
        ("sorted as text.csv", "brought into the order of the numbers"),
    ],
)
def test_what_was_assumed_is_in_the_result(command, folder, name, says):
    found = command("compare", folder / name, folder / "whole.safetensors")
    assert any(says in remark for remark in found["remarks"])


def test_a_macro_f1_over_some_codes_says_over_which(command, folder, tmp_path):
    (tmp_path / "four.csv").write_bytes(csv(table(FOUR)))
    found = command("compare", tmp_path / "four.csv", folder / "whole.safetensors")
    assert (found["aligned_codes"], found["codes_of"], found["macro_f1_over"]) == (22, 26, "22 of 26 codes")
    labels = table(LABELS, [f"label_{code}" for code in CODES], ids=False)
    (tmp_path / "labelled.csv").write_bytes(csv(table(FOUR), labels))
    alone = command("evaluate", tmp_path / "labelled.csv")
    assert (alone["codes"], alone["codes_of"], alone["macro_f1_over"]) == (22, 26, "22 of 26 codes")
    assert alone["fixed"]["macro_f1"] == pytest.approx(found["macro_f1"]["reference"], abs=1e-12)


def test_case_44_tuning_on_the_scored_run_is_refused_and_shared_notes_are_counted(command, folder, tmp_path):
    line = command("evaluate", folder / "whole.safetensors", "--validation", folder / "whole.safetensors")
    assert "cannot tune" in line
    half = foreign.whole().select(rows=np.arange(NOTES // 2))
    write_run_file(half, tmp_path / "half.safetensors")
    found = command("evaluate", folder / "whole.safetensors", "--validation", tmp_path / "half.safetensors")
    assert found["shared_with_validation"] == NOTES // 2
    assert any("150 of the 300 scored notes" in remark for remark in found["remarks"])


def test_cases_01_18_and_22_are_said_by_evaluate(command, tmp_path):
    rows = np.r_[0:NOTES, 0:24]
    write_run_file(foreign.whole().select(rows=rows), tmp_path / "padded.safetensors")
    padded = command("evaluate", tmp_path / "padded.safetensors")
    assert padded["documents"] == 324 and padded["repeated_ids"]["repeated"] == 24
    fill = np.full((24, 26), -100, np.float32)
    (tmp_path / "fill.npz").write_bytes(
        npz(predictions=np.vstack([LOGITS, fill]), label_ids=np.vstack([LABELS, fill * 0]))
    )
    assert any(
        "24 of 324 rows are -100 throughout" in one
        for one in command("evaluate", tmp_path / "fill.npz")["remarks"]
    )
    (tmp_path / "labels.npz").write_bytes(
        npz(predictions=np.vstack([LOGITS, fill]), label_ids=np.vstack([LABELS, fill]))
    )
    line = command("evaluate", tmp_path / "labels.npz")
    assert "24 of 324 rows of labels are -100 throughout, the first at note 300" in line


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.csv", b"document_id,text\n1,chest pain\n", "A file of notes is no run"),
        ("notes.jsonl", b'{"text": "chest pain", "labels": [0, 1]}\n', "A file of notes is no run"),
        ("labels.csv", csv(table(LABELS)), "nothing but 0 and 1"),
        ("codes.npz", npz(logits=LOGITS, codes=np.array(CODES, object)), "save texts"),  # case 29
        ("beyond.npz", npz(probabilities=LOGITS), "lie outside [0, 1]"),
    ],
)
def test_a_refused_file_is_one_line_and_status_2(command, tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    for line in (command("evaluate", tmp_path / name), command("compare", tmp_path / name, tmp_path / name)):
        assert says in line and name in line and "chest" not in line


def test_a_collision_of_spellings_is_refused(command, tmp_path):
    two = LOGITS[:, :2]
    (tmp_path / "dots.csv").write_bytes(csv(table(two, ["038.9", "03.89"])))
    (tmp_path / "plain.csv").write_bytes(csv(table(two, ["0389", "I10"])))
    assert "cannot be told" in command("compare", tmp_path / "dots.csv", tmp_path / "plain.csv")
