"""A marked phrase goes through every reader, every failure and every format; then it is looked for wherever something is written."""

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.numpy import save

from shifamind_core import jobs
from shifamind_core.cli import main
from shifamind_core.errors import ShifamindError
from shifamind_core.jobs import store
from shifamind_core.report.files import Selection, report
from shifamind_core.runs.cache import RunCache
from shifamind_core.runs.uploads import read_upload
from simulation.builders import split_table, tiny_run_directory
from tests.support.dashboard import Dashboard
from tests.support.waiting import until

PHRASE = "Ypsilonia Zweifelhaft hat Brustschmerz"
LOGITS = np.random.default_rng(0).normal(-1, 3, (4, 2)).astype(np.float32)
LABELS = np.array([[0, 1], [1, 0], [1, 1], [0, 0]], np.uint8)
CODES = ["E785", "I10"]
NOTES = [PHRASE, "b", f"c {PHRASE}", "d"]


def holds(content: bytes) -> bool:
    """Whether a word of the phrase is in it, in either case, as UTF-8 or UTF-16; ten letters of one will do."""
    lower = content.lower()
    words = [word[:10].lower() for word in PHRASE.split() if len(word) > 5]
    return any(word.encode(encoding) in lower for word in words for encoding in ("utf-8", "utf-16-le"))


def written(write: Any) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def table(**changes: Any) -> pd.DataFrame:
    return split_table(NOTES, LABELS, CODES).assign(**changes)


def in_parquet(columns: dict[str, Any]) -> bytes:
    return written(lambda file: parquet.write_table(pa.table(columns), file))


BROKEN = pa.array([b"a", PHRASE.encode() + b" \xff\xfe", b"c", b"d"], pa.binary())
MANIFEST = {"format": "shifamind-run/1", "codes": json.dumps(CODES)}

# Files that are refused, the phrase where it hurts.
UPLOADS: dict[str, bytes] = {
    "cell.csv": f"E785,I10\n1,{PHRASE}\n".encode(),
    "quoted.csv": f'E785,I10\n1,"{PHRASE}, 62"\n'.encode(),
    "unclosed.csv": f'E785,I10\n1,"{PHRASE}\n'.encode(),
    "ragged.csv": f"E785,I10\n1,2,{PHRASE}\n".encode(),
    "no header.csv": f"{PHRASE},1\n{PHRASE},2\n".encode(),
    "notes.csv": f"text,E785\n{PHRASE},1\n".encode(),
    "latin.csv": f"E785,I10\n1,{PHRASE} gro\xdf\n".encode("latin-1"),
    "half an id.csv": f"document_id,E785\n{PHRASE},x\n".encode(),
    "semicolons.csv": f"{PHRASE};1\n".encode(),
    "line.jsonl": json.dumps(PHRASE).encode(),
    "no json.jsonl": f"{{{PHRASE}".encode(),
    "scores.jsonl": json.dumps({"logits": PHRASE, "text": PHRASE}).encode(),
    "list.jsonl": json.dumps({"logits": [1.5, PHRASE]}).encode(),
    "notes.jsonl": json.dumps({"text": PHRASE}).encode(),
    "other codes.jsonl": f'{{"logits": {{"a": 1}}}}\n{{"logits": {{"{PHRASE}": 1}}}}\n'.encode(),
    "texts.npy": written(lambda file: np.save(file, np.array([[PHRASE, "b"]]))),
    "objects.npy": written(lambda file: np.save(file, np.array([PHRASE], object), allow_pickle=True)),
    "texts.npz": written(lambda file: np.savez(file, logits=np.array([[PHRASE]]))),
    "codes.npz": written(lambda file: np.savez(file, logits=LOGITS, codes=np.array([PHRASE] * 2))),
    "ids.npz": written(lambda file: np.savez(file, logits=LOGITS, document_ids=np.array([PHRASE, "", "", ""]))),
    "names.npz": written(lambda file: np.savez(file, **{PHRASE: np.zeros(3)})),
    "texts.parquet": in_parquet({"E785": [1.5] * 4, "I10": NOTES}),
    "notes.parquet": in_parquet({"text": NOTES, "I10": [1.5] * 4}),
    "broken ids.parquet": in_parquet({"document_id": BROKEN, "I10": [1.5] * 4}),
    "list.pt": written(lambda file: torch.save({"logits": [PHRASE]}, file)),
    "text.pt": written(lambda file: torch.save({"logits": PHRASE}, file)),
    "bare.pt": written(lambda file: torch.save(PHRASE, file)),
    "codes.pt": written(lambda file: torch.save({"logits": torch.zeros(2, 2), "codes": {PHRASE: 1}}, file)),
    "names.pt": written(lambda file: torch.save({PHRASE: torch.zeros(2)}, file)),
    "format.safetensors": save({"logits": LOGITS}, MANIFEST | {"format": PHRASE}),
    "manifest.safetensors": save({"logits": LOGITS}, MANIFEST | {"manifest": json.dumps({"batch_size": PHRASE})}),
    "split.safetensors": save({"logits": LOGITS}, MANIFEST | {"manifest": json.dumps({"split": [PHRASE]})}),
    "no json.safetensors": save({"logits": LOGITS}, MANIFEST | {"manifest": PHRASE}),
    "codes.safetensors": save({"logits": LOGITS}, {"codes": json.dumps(PHRASE)}),
    "cut.safetensors": save({"logits": LOGITS}, {"a": PHRASE})[:-9],
}  # fmt: skip

SPLITS: dict[str, bytes] = {
    "labels.pkl": pickle.dumps(table(labels=[PHRASE] * 4), 4),
    "label.pkl": pickle.dumps(table(labels=[[0, PHRASE]] * 4), 4),
    "code.pkl": pickle.dumps(table(I10=[PHRASE] * 4), 4),
    "surrogate.pkl": pickle.dumps(table(text=pd.Series([f"{PHRASE} \ud800"] * 4, dtype=object)), 4),
    "cut.pkl": pickle.dumps(table(), 4)[:-30],
    "list.pkl": pickle.dumps(NOTES, 4),
    "no text.pkl": pickle.dumps(table().rename(columns={"text": PHRASE}), 4),
    "not utf-8.parquet": in_parquet({"text": BROKEN, "E785": [0] * 4, "I10": [1] * 4}),
    "not utf-8, repeated.parquet": in_parquet({"text": BROKEN.dictionary_encode(), "E785": [0] * 4, "I10": [1] * 4}),
    "labels.parquet": in_parquet({"text": NOTES, "labels": NOTES}),
    "cut.parquet": in_parquet({"text": NOTES, "I10": [1] * 4})[:-9],
    "no header.csv": "".join(f"{note},1\n" for note in NOTES).encode(),
    "ragged.csv": f"text,E785,I10\n{PHRASE},0\n".encode(),
    "latin.csv": f"text,E785,I10\n{PHRASE} \xdf,0,1\n".encode("latin-1"),
    "quote.csv": f'text,E785,I10\n"{PHRASE},0,1\n'.encode(),
    "label.csv": f"text,E785,I10\na,{PHRASE},1\n".encode(),
    "no json.jsonl": f'{{"text": "{PHRASE}", '.encode(),
    "line.jsonl": json.dumps([PHRASE]).encode(),
    "label.jsonl": json.dumps({"text": "a", "labels": [PHRASE]}).encode(),
    "surrogate.jsonl": json.dumps({"text": f"{PHRASE} \ud800", "E785": 0, "I10": 1}).encode(),
}  # fmt: skip


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of its own, looked through at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    found = [path for path in folder.rglob("*") if path.is_file() and holds(path.read_bytes())]
    assert not found


def test_the_search_finds_the_phrase() -> None:
    assert holds(f"..{PHRASE}..".encode()) and holds(PHRASE.upper().encode("utf-16-le"))
    assert holds(b"'Ypsilonia") and not holds(b"Brust")


@pytest.mark.parametrize("name", UPLOADS)
def test_no_refusal_of_an_upload_quotes_it(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ShifamindError) as caught:
        read_upload(name, UPLOADS[name])
    said = capfd.readouterr()
    assert not holds("".join([str(caught.value), said.out, said.err]).encode())


@pytest.mark.parametrize("name", SPLITS)
def test_no_refusal_of_a_split_quotes_it(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On the command line, which reads it as pages and jobs do."""
    run = tiny_run_directory(tmp_path / "run_1", notes=4)
    for old in run.rglob("test_split.*"):
        old.unlink()
    (run / "shared_data" / f"test_split{Path(name).suffix}").write_bytes(SPLITS[name])
    status = main(["predict", str(run), "--split", "test", "--max-length", "16", "--json"])
    said = capfd.readouterr()
    assert status == 2 and "error:" in said.err
    assert not holds((said.out + said.err).encode())


def test_what_a_checkpoint_holds_beside_weights_is_not_quoted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tiny_run_directory(tmp_path / "run_1", notes=4)
    path = next(run.rglob("phase1_best.pt"))
    sound = torch.load(path, weights_only=False)
    for changes in (
        {"epoch": PHRASE},
        {"config": PHRASE},
        {"macro_f1": PHRASE},
        {"notes": [PHRASE]},
        {"model_state_dict": [PHRASE]},
    ):
        torch.save(sound | changes, path)
        main(["inspect", str(run), "--json"])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(PHRASE)[:-3])
    main(["inspect", str(run), "--json"])
    said = capfd.readouterr()
    assert not holds((said.out + said.err).encode())


def files_of(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def test_notes_that_are_scored_are_in_nothing_that_is_written(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs in processes of their own: one that ends well, one that fails on a note; then cache, states, logs and exports."""
    cache = tmp_path / "cache"
    run = tiny_run_directory(tmp_path / "run_1", notes=4)
    shared = run / "shared_data"
    codes = json.loads((shared / "top50_icd10_info.json").read_text())["top_50_codes"]
    labels = np.random.default_rng(0).integers(0, 2, (4, len(codes))).astype(np.uint8)
    split_table(NOTES, labels, codes).to_pickle(shared / "test_split.pkl")
    (shared / "val_split.pkl").unlink()
    in_parquet_broken = {
        "text": BROKEN,
        **{code: labels[:, i].astype(int).tolist() for i, code in enumerate(codes)},
    }
    (shared / "val_split.parquet").write_bytes(in_parquet(in_parquet_broken))
    spec = {"run_directory": str(run), "max_length": 32, "device": "cpu", "lowercase": "true"}
    ends = []
    for split in ("test", "val"):
        identifier = jobs.submit(cache, "predict", spec | {"split": split})
        ends.append(
            until(lambda id=identifier: (state := jobs.read_job(cache, id)).active is False and state)
        )
    for process in store._started:
        process.wait()
    assert [job.status for job in ends] == ["done", "failed"], ends
    assert "row 2 is not UTF-8" in (ends[1].error or "")
    (entry,) = RunCache(cache).entries()
    scored = RunCache(cache).load(entry.id)
    exports = report(Selection(scored, scored))
    for name, exported in exports.tables.items():
        assert not holds(exported.to_csv().encode()), name
    assert not holds(" ".join(exports.remarks).encode())
    written_files = [(path, content) for path, content in files_of(cache)]
    assert {"state.json", "log.txt", "run.safetensors", "key.json"} <= {
        path.name for path, _ in written_files
    }
    assert not [path for path, content in written_files if holds(content)]


@pytest.mark.parametrize(
    "name", ["cell.csv", "scores.jsonl", "no header.csv", "text.pt", "manifest.safetensors"]
)
def test_no_page_shows_what_was_refused(
    filled: Dashboard, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    app = filled.open()
    app.file_uploader[0].upload(name, UPLOADS[name]).run()
    assert not app.exception and app.error
    said = capfd.readouterr()
    assert not holds("".join([repr(app.main), repr(app.sidebar), said.out, said.err]).encode())
    assert not [path for path, content in files_of(filled.cache) if holds(content)]
