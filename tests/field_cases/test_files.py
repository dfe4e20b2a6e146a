"""Files that people have: one JSON document or one line, and the right numbers in it."""

import numpy as np
import pytest
import torch

from shifamind_core.analysis.metric_definitions import definitions
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.runs.run_file import write_run_file
from simulation.planted import synthetic_run
from tests.support import foreign
from tests.support.foreign import (
    CODES,
    LABELS,
    LOGITS,
    NOTES,
    PROBABILITIES,
    batches,
    csv,
    jsonl,
    npz,
    pairs,
    pt,
    table,
    tensor,
)

BY_TEXT = sorted(range(26), key=str)
TEXT = csv(table())
LINES = TEXT.split(b"\n")
FOUR = PROBABILITIES.copy()
FOUR[:, :4] = LABELS[:, :4]


def replaced(row: int, cell: bytes) -> bytes:
    """The CSV file with another last cell in a row."""
    lines = [*LINES]
    lines[row] = lines[row].rpartition(b",")[0] + b"," + cell
    return b"\n".join(lines)


def quoted(content: bytes) -> bytes:
    return b"\n".join(
        b",".join(b'"%s"' % cell for cell in line.split(b",")) for line in content.split(b"\n")[:-1]
    )


SAME = {
    "case 04, sorted as text.csv": csv(table(LOGITS[:, BY_TEXT], map(str, BY_TEXT))),
    "case 04, sorted with a prefix.csv": csv(table(LOGITS[:, BY_TEXT], [f"prediction_{i}" for i in BY_TEXT])),
    "case 05, leading zeros.csv": csv(table(codes=[code.lstrip("0") for code in CODES])),
    "case 06, dots.csv": csv(
        table(codes=[f"{code[:3]}.{code[3:]}" if len(code) > 3 else code for code in CODES])
    ),
    "case 06, small letters.csv": csv(table(codes=[code.lower() for code in CODES])),
    "case 30, byte order mark.csv": b"\xef\xbb\xbf" + TEXT,
    "case 30, CRLF.csv": TEXT.replace(b"\n", b"\r\n"),
    "case 30, carriage returns.csv": TEXT.replace(b"\n", b"\r"),
    "case 30, blank rows.csv": b"\n".join([LINES[0], b"", *LINES[1:50], b"", *LINES[50:], b"", b""]),
    "case 30, quotes.csv": quoted(TEXT),
    "case 30, blanks.csv": TEXT.replace(b",", b" , "),
    "case 30, index.csv": table(ids=False).to_csv().encode(),
    "case 30, named index.csv": table(ids=False).to_csv(index_label="row").encode(),
    "case 45, percent.csv": csv(table(PROBABILITIES * 100)),
    "words.csv": csv(table(PROBABILITIES, [f"{code}_prob" for code in CODES]), table(LABELS, ids=False)),
    # from peers
    "trainer.npz": npz(predictions=LOGITS, label_ids=LABELS.astype(np.float32)),
    "lightning.pt": pt(list(zip(batches(LOGITS), batches(LABELS), strict=True))),
    "lightning dicts.pt": pt(
        [
            {"logits": logits, "labels": labels}
            for logits, labels in zip(batches(LOGITS), batches(LABELS), strict=True)
        ]
    ),
    "accelerate.pt": pt({"logits": tensor(LOGITS), "labels": tensor(LABELS)}),
    "accelerate lists.pt": pt({"logits": batches(LOGITS), "labels": batches(LABELS)}),
    "sklearn.npz": npz(*pairs()),
    "sklearn named.npz": npz(**dict(zip(CODES, pairs(), strict=True))),
    "lines.jsonl": jsonl({"logits": dict(zip(CODES, row, strict=True))} for row in LOGITS.tolist()),
    "lines of lists.jsonl": jsonl(LOGITS.tolist()),
}  # fmt: skip
SAID = {
    "case 04, sorted as text.csv": "brought into the order of the numbers",
    "case 05, leading zeros.csv": "spelled otherwise in the reference (leading zeros",
    "case 06, dots.csv": "(dots: 'E78.5' is 'E785'",
    "case 30, carriage returns.csv": "Carriage returns alone were read as ends of lines",
    "case 30, named index.csv": "Ignored, since it numbers the rows: 'row'",
    "case 45, percent.csv": "taken as percentages and divided by 100",
    "words.csv": "Columns were read as the codes in their names",
}
REFUSED = {
    "case 17, labels joined.csv": (
        csv(table(), table(LABELS, [f"label_{code}" for code in CODES], ids=False)).replace(b",0,1,", b",0;1,"),
        "cells, the header",
    ),
    "case 29, scores.npz": (npz(logits=np.array(LOGITS.tolist(), object)), "save numbers: array.astype('float32')"),
    "case 29, codes.npz": (npz(logits=LOGITS, codes=np.array(CODES, object)), "save texts: array.astype(str)"),
    "case 30, decimal commas.csv": (
        table().to_csv(index=False, sep=";", decimal=",").encode(),
        "Export it with commas and decimal points",
    ),
    "case 30, quoted decimal commas.csv": (table().to_csv(index=False, decimal=",").encode(), "with a decimal point"),
    "case 30, UTF-16.csv": (TEXT.decode().encode("utf-16"), "looks like UTF-16"),
    "case 30, NUM.csv": (replaced(5, b"#NUM!"), "row 5, column 'K120' is an error of a spreadsheet"),
    "case 30, percent signs.csv": (replaced(5, b"12%"), "row 5, column 'K120' is a percentage"),
    "case 30, a gap.csv": (replaced(5, b""), "row 5, column 'K120' is empty"),
    "case 30, a title.csv": (b"Export of May\n" + TEXT, "A line above the header"),
    "case 45, beyond.npz": (npz(probabilities=LOGITS), "lie outside [0, 1]"),
    "case 47, no scores.pt": (pt({"hidden": tensor(LOGITS), "labels": tensor(LABELS)}), "found: 'hidden', 'labels'"),
    "notes.csv": (b"document_id,text\n1,chest pain\n", "A file of notes is no run"),
    "notes.jsonl": (b'{"text": "chest pain", "labels": [0, 1]}\n', "A file of notes is no run"),
    "labels.csv": (csv(table(LABELS)), "nothing but 0 and 1"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The reference, and beside it the same run as others wrote it."""
    folder = tmp_path_factory.mktemp("files")
    write_run_file(foreign.whole(), folder / "whole.safetensors")
    for name, content in SAME.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", SAME)
def test_the_same_run_compares_as_the_same_run(command, folder, name):
    found = command("compare", folder / name, folder / "whole.safetensors")
    assert (found["aligned_documents"], found["aligned_codes"], found["decisions_flipped"]) == (NOTES, 26, 0)
    assert found["max_abs_difference"] < 1e-3 and found["macro_f1_over"] == "all 26 codes"
    expected = evaluate(foreign.whole()).fixed.macro_f1
    assert (
        found["macro_f1"]["candidate"] == found["macro_f1"]["reference"] == pytest.approx(expected, abs=1e-12)
    )


@pytest.mark.parametrize("name", SAID)
def test_what_was_assumed_is_in_the_result(command, folder, name):
    found = command("compare", folder / name, folder / "whole.safetensors")
    assert any(SAID[name] in remark for remark in found["remarks"])


@pytest.mark.parametrize("name", [name for name in SAME if name.startswith("case")])
def test_the_same_run_is_diagnosed_as_the_same_scores(command, folder, name):
    assert command("diagnose", folder / name, folder / "whole.safetensors")["cause"] == "identical"


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_file_is_one_line_and_status_2(command, tmp_path, name):
    content, says = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    for line in (command("evaluate", path), command("compare", path, path)):
        assert says in line and name in line and "chest" not in line


def test_case_05_a_collision_of_spellings_is_refused(command, tmp_path):
    two = LOGITS[:, :2]
    (tmp_path / "dots.csv").write_bytes(csv(table(two, ["038.9", "03.89"])))
    (tmp_path / "plain.csv").write_bytes(csv(table(two, ["0389", "I10"])))
    assert "cannot be told" in command("compare", tmp_path / "dots.csv", tmp_path / "plain.csv")


def test_cases_05_and_06_a_macro_f1_over_some_codes_says_over_which(command, folder, tmp_path):
    (tmp_path / "four.csv").write_bytes(csv(table(FOUR)))
    found = command("compare", tmp_path / "four.csv", folder / "whole.safetensors")
    assert (found["aligned_codes"], found["codes_of"], found["macro_f1_over"]) == (22, 26, "22 of 26 codes")
    labels = table(LABELS, [f"label_{code}" for code in CODES], ids=False)
    (tmp_path / "labelled.csv").write_bytes(csv(table(FOUR), labels))
    alone = command("evaluate", tmp_path / "labelled.csv")
    assert (alone["codes"], alone["codes_of"], alone["macro_f1_over"]) == (22, 26, "22 of 26 codes")
    assert alone["fixed"]["macro_f1"] == pytest.approx(found["macro_f1"]["reference"], abs=1e-12)
    for question in (("--epsilon", 0.01), ("--target-macro-f1", 0.9)):
        assert command("bound", tmp_path / "labelled.csv", *question)["macro_f1_over"] == "22 of 26 codes"
    (tmp_path / "reversed.csv").write_bytes(csv(table(FOUR[::-1], ids=False)))
    (order, *_) = command("diagnose", tmp_path / "reversed.csv", folder / "whole.safetensors")["findings"]
    assert (
        order["cause"] == "document_order"
        and "macro F1 over 22 of 26 codes at 0.5 goes from" in order["explanation"]
    )


@pytest.mark.parametrize("name", ["f1_of_means", "on_logits"])
def test_case_19_reported_under_another_definition(command, write, name):
    run = synthetic_run(1000, 26, seed=3)
    (defined,) = (
        one
        for one in definitions(run.logits, run.labels, ("macro_f1@0.5", "micro_f1@0.5"))
        if one.name == name
    )
    path = write("run", run)
    reported = ",".join(f"{score}={value:.4f}" for score, value in defined.values.items())
    found = command("diagnose", path, path, "--reported", reported)
    (finding,) = (one for one in found["findings"] if one["cause"] == "metric_definition")
    assert finding["status"] in ("confirmed", "likely")
    assert finding["evidence"]["definition"] == name and finding["evidence"]["distance"] < 5.1e-5
    assert "gives the reported values to the last digit" in finding["explanation"]


def test_case_29_bf16_is_read(command, folder, tmp_path):
    (tmp_path / "bf16.pt").write_bytes(pt({"logits": tensor(LOGITS).bfloat16()}))
    found = command("compare", tmp_path / "bf16.pt", folder / "whole.safetensors")
    assert 0 < found["max_abs_difference"] < 0.05 and found["aligned_codes"] == 26


def test_case_44_tuning_on_the_scored_run_is_refused_and_shared_notes_are_counted(command, folder, tmp_path):
    whole = folder / "whole.safetensors"
    assert "cannot tune" in command("evaluate", whole, "--validation", whole)
    (tmp_path / "copy.csv").write_bytes(
        csv(table(), table(LABELS, [f"label_{code}" for code in CODES], ids=False))
    )
    assert "cannot tune" in command("evaluate", whole, "--validation", tmp_path / "copy.csv")
    half = foreign.whole().select(rows=np.arange(NOTES // 2))
    write_run_file(half, tmp_path / "half.safetensors")
    found = command("evaluate", whole, "--validation", tmp_path / "half.safetensors")
    assert found["shared_with_validation"] == NOTES // 2
    assert any("150 of the 300 scored notes" in remark for remark in found["remarks"])


def test_an_upload_of_a_peer_is_tuned_on_the_validation_run_of_another(command, tmp_path):
    half = NOTES // 2
    (tmp_path / "test.npz").write_bytes(
        npz(predictions=LOGITS[:half], label_ids=LABELS[:half].astype(np.float32))
    )
    (tmp_path / "val.pt").write_bytes(
        pt(list(zip(batches(LOGITS[half:]), batches(LABELS[half:]), strict=True)))
    )
    found = command("evaluate", tmp_path / "test.npz", "--validation", tmp_path / "val.pt")
    whole = foreign.whole(document_ids=None)
    parts = [whole.select(rows=rows) for rows in (np.arange(half), np.arange(half, NOTES))]
    expected = evaluate(*parts)
    assert found["tuned"]["threshold"] == expected.tuned_threshold.threshold
    assert found["tuned"]["micro_f1"] == pytest.approx(expected.tuned.micro_f1, abs=1e-12)
    assert found["shared_with_validation"] == 0


def test_case_45_percentages_under_the_name_of_logits_are_said_and_diagnosed(command, folder, tmp_path):
    (tmp_path / "percent.npz").write_bytes(npz(logits=PROBABILITIES * 100, labels=LABELS))
    pair = (tmp_path / "percent.npz", folder / "whole.safetensors")
    assert any("look like percentages" in remark for remark in command("compare", *pair)["remarks"])
    assert any("look like percentages" in remark for remark in command("evaluate", pair[0])["remarks"])
    found = command("diagnose", *pair)
    assert found["cause"] == "score_map" and found["findings"][0]["status"] == "confirmed"
    assert "probabilities in percent" in found["findings"][0]["explanation"]


def test_case_47_tensors_from_the_gpu(command, folder, tmp_path, monkeypatch):
    """The file names a device that is not here; its tensors come to the CPU."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    content = pt({"logits": tensor(LOGITS)})
    monkeypatch.undo()
    assert b"cuda:0" in content
    (tmp_path / "gpu.pt").write_bytes(content)
    found = command("compare", tmp_path / "gpu.pt", folder / "whole.safetensors")
    assert found["max_abs_difference"] == 0
