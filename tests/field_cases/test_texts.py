"""What happened to the notes, or in the loop that read them: a run directory, and another team's pipeline beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file
from simulation.builders import CODES, tiny_run_directory
from simulation.replay_cases import as_written
from simulation.replay_oracle import Faults, evaluate, read_files

NOTES = 16
# Rivals of what is to be found; among all interventions `tests/replay` finds it.
ONLY = [
    part
    for name in ("lowercase=true", "lowercase=false", "max_length=256", "truncation_side=left", "truncation=head_tail",
                 "segments=ones", "dropout=on", "text=crlf", "text=line_ends_deleted", "text=marks_removed")
    for part in ("--only", name)
]  # fmt: skip


def run_directory(folder: Path, rewrite=lambda text: text) -> Path:
    """The same weights and labels every time, the texts written as asked."""
    run = tiny_run_directory(folder, notes=NOTES, heads=1)
    as_written(run)
    for path in (run / "shared_data").glob("*_split.pkl"):
        table = pd.read_pickle(path)
        table.assign(text=[rewrite(text) for text in table["text"]]).to_pickle(path)
    return run


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return run_directory(tmp_path_factory.mktemp("here") / "run")


@pytest.fixture
def other(write):
    """What another pipeline with faults saves over a run directory's notes: a run file without a manifest."""

    def saved(directory, config=None, **faults) -> Path:
        files = read_files(directory)
        files = replace(files, config=files.config | (config or {}))
        rewrite = faults.get("rewrite") or (lambda text: text)
        texts = [rewrite(text) for text in files.texts]
        logits = evaluate(files, Faults(**faults), seed=3)
        ids = np.array([text_digest(text.encode()) for text in texts], np.int64)
        return write("other", Run(logits, codes=tuple(files.codes), document_ids=ids))

    return saved


@pytest.fixture
def predicted(command, directory, tmp_path):
    path = tmp_path / "here.safetensors"
    command("predict", directory, "--lowercase", "true", "--output", path)
    return path


def status(diagnosis: dict, cause: str) -> str | None:
    return next((f["status"] for f in diagnosis["findings"] if f["cause"] == cause), None)


def test_case_08_line_ends_change_the_ids(command, directory, predicted, tmp_path):
    """Other bytes, equal tokens: one cache for both, and predict writes the ids of the texts in front of it."""
    crlf = run_directory(tmp_path / "crlf", lambda text: text.replace("\n", "\r\n"))
    theirs = tmp_path / "theirs.safetensors"
    said = command("predict", crlf, "--lowercase", "true", "--output", theirs)
    assert said["cached"]
    texts = pd.read_pickle(crlf / "shared_data" / "test_split.pkl")["text"]
    written = read_run_file(theirs)
    assert written.document_ids.tolist() == [text_digest(text.encode()) for text in texts]
    assert written.manifest.run_directory == "crlf"

    compared = command("compare", theirs, predicted)
    assert (compared["aligned_documents"], compared["max_abs_difference"]) == (NOTES, 0)
    found = command("diagnose", theirs, predicted)
    assert status(found, "different_documents") in (None, "ruled_out")
    assert status(found, "document_ids") == status(found, "identical") == "confirmed"
    replayed = command("replay", directory, "--reference", theirs, *ONLY)
    assert replayed["verdict"] in ("identical", "numerics") and replayed["best"]["interventions"] == []
    assert any("with CRLF line ends" in remark for remark in replayed["remarks"])


def test_case_10_attention_dropout_in_eval(command, directory, other, tmp_path):
    """In a model this small a tenth of the attention is next to nothing: three tenths are dropped.

    In an untrained model what that leaves of a note looks much like other input: the two come first, neither confirmed.
    """
    config = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.3}
    large = tiny_run_directory(tmp_path / "large", notes=240, codes=12, heads=1)
    predicted = tmp_path / "here.safetensors"
    command("predict", large, "--lowercase", "true", "--max-length", 64, "--output", predicted)
    found = command("diagnose", other(large, config, training=True, max_length=64), predicted)
    first, second = found["findings"][:2]
    assert "dropout_active" in (first["cause"], second["cause"])
    assert {first["status"], second["status"]} <= {"likely", "possible"}
    path = other(directory, config, training=True)
    replayed = command("replay", directory, "--reference", path, "--depth", 1, *ONLY)
    assert set(replayed["best"]["interventions"]) <= {"dropout=on"}


@pytest.mark.parametrize(
    ("faults", "name"),
    [
        ({"beginning": 128}, "truncation=head_tail"),  # case 24
        ({"segments": "ones"}, "segments=ones"),  # case 25
        ({"rewrite": lambda text: text.replace("\n", "")}, "text=line_ends_deleted"),  # case 40
    ],
    ids=["case 24, head and tail", "case 25, segments of ones", "case 40, line breaks deleted"],
)
def test_cases_24_25_and_40_replay_finds_what_was_done_to_the_input(
    command, directory, predicted, other, faults, name
):
    path = other(directory, **faults)
    replayed = command("replay", directory, "--reference", path, *ONLY)
    assert replayed["verdict"] == "confirmed"
    # What the library lower-cases by default differs from release to release.
    assert set(replayed["best"]["interventions"]) - {"lowercase=true"} == {name}
    found = command("diagnose", path, predicted)
    narrow = {"max_length", "truncation_side", "tokenizer_casing", "padding", "attention_mask_ignored"}
    assert not [
        f for f in found["findings"] if f["cause"] in narrow and f["status"] in ("confirmed", "likely")
    ]


def test_replay_finds_typographic_punctuation_that_was_replaced(command, other, tmp_path):
    here = run_directory(tmp_path / "typeset", lambda text: text.replace("___", "“stable” – he’s well …"))

    def replaced(text: str) -> str:
        return (
            text.replace("“", '"').replace("”", '"').replace("’", "'").replace("–", "-").replace("…", "...")
        )

    path = other(here, rewrite=replaced)
    rivals = [part for form in ("ascii", "nfkc", "plain_punctuation") for part in ("--only", f"text={form}")]
    replayed = command("replay", here, "--reference", path, *ONLY, *rivals)
    assert replayed["verdict"] == "confirmed"
    assert set(replayed["best"]["interventions"]) - {"lowercase=true"} == {"text=plain_punctuation"}
    assert any("straight quotes" in remark for remark in replayed["remarks"])


def test_case_17_labels_that_went_through_text_are_refused_and_other_tables_read(command, tmp_path):
    run = run_directory(tmp_path / "run")
    path = run / "shared_data" / "test_split.pkl"
    table = pd.read_pickle(path)
    codes = CODES[:6]
    bare = table.drop(columns=codes)
    refused = {
        "joined": bare.assign(labels=[";".join(map(str, row)) for row in table["labels"]]),
        "written as a list": bare.assign(labels=table["labels"].map(str)),
        "lists of texts": bare.assign(labels=table["labels"].map(lambda row: [*map(str, row)])),
    }
    for content in refused.values():
        content.to_pickle(path)
        line = command("predict", run, "--lowercase", "true")
        assert "'labels' in row 1" in line and "Admission" not in line
    wanted = table[codes].to_numpy()
    sound = {
        "floats": bare.assign(**{code: table[code].astype(float) for code in codes}),
        "other flags": table.assign(has_top50=True, died=0),
        "an old index": table.set_index(np.arange(NOTES)[::-1]),
        "an index that became a column": table.reset_index(),
    }
    for content in sound.values():
        content.to_pickle(path)
        output = tmp_path / "run.safetensors"
        command("predict", run, "--lowercase", "true", "--output", output)
        assert np.array_equal(read_run_file(output).labels, wanted)


def test_case_17_nan_and_empty_notes_are_counted_and_said(command, tmp_path):
    run = run_directory(tmp_path / "run")
    path = run / "shared_data" / "test_split.pkl"
    table = pd.read_pickle(path)
    table.loc[[3, 9], "text"] = ["nan", "NaN"]
    table.loc[5, "text"] = " \n"
    table.to_pickle(path)
    empty = "Notes without a text: 1 of 16, the first is number 6"
    word = "Notes that say 'nan', 'NaN' and nothing else: 2 of 16, the first is number 4"
    checks = {check["message"] for check in command("inspect", run)["checks"] if check["status"] == "warning"}
    assert all(any(said in message for message in checks) for said in (empty, word))
    output = tmp_path / "run.safetensors"
    for _ in ("computed", "from the cache"):
        said = command("predict", run, "--lowercase", "true", "--output", output)
        for remarks in (
            said["remarks"],
            read_run_file(output).manifest.notes,
            command("evaluate", output)["remarks"],
        ):
            assert any(empty in remark for remark in remarks) and any(word in remark for remark in remarks)
    table.drop(index=[3, 5, 9]).to_pickle(path)
    assert command("predict", run, "--lowercase", "true")["remarks"] == []
