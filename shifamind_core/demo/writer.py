"""Write the demo: the shipped files, and the notes, which a program writes the same way every time."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from shifamind_core.demo.concepts import CONCEPTS, concepts_in
from shifamind_core.demo.labels import ADMISSIONS, CODES, COUNTS
from shifamind_core.demo.notes import SyntheticNote, write_note
from shifamind_core.errors import ShifamindError

DATA = Path(__file__).parent / "data"
TIMESTAMP = "20260102_203225"  # the seed's run, whose layout this is
DOCUMENTS = {"train": 200, "val": 500, "test": 1000}
TRAINING_NOTES = 98_304


def write_demo(folder: Path) -> None:
    """Write the built-in run directory to `folder`, whole or not at all.

    Raises
    ------
    ShifamindError
        `folder` is there already and holds something, or it cannot be written.
    """
    folder = Path(folder)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ShifamindError(
                f"{folder} is there already and is not empty; give a folder that is not there yet."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".demo-") as temporary:
            written = Path(temporary) / "run"
            shutil.copytree(DATA, written)
            write_shared_data(written / "shared_data")
            written.replace(folder)
    except OSError as error:
        raise ShifamindError(
            f"{folder} cannot be written: {error.strerror or error}. Give a folder that can be made and has room."
        ) from error


def write_shared_data(folder: Path, trained_on: int = TRAINING_NOTES) -> None:
    """The notes with their labels, and the tables about codes and concepts, as the public scripts write them.

    `trained_on` is the number of training notes; only the first of them are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in DOCUMENTS.items():
        notes = [write_note(split, index) for index in range(count)]
        split_table(notes).to_pickle(folder / f"{split}_split.pkl", protocol=4)
        concepts = np.array([concepts_in(note.text) for note in notes], np.int64)
        np.save(folder / f"{split}_concept_labels.npy", concepts)
    _write_json(folder / "top50_icd10_info.json", _code_info())
    _write_json(folder / "concept_list.json", list(CONCEPTS))
    _write_json(folder / "split_info.json", _split_info(trained_on))


def split_table(notes: list[SyntheticNote]) -> pd.DataFrame:
    """Columns `text`, `labels` (a list of 50 ints), then one int column a code, in the order of `CODES`.

    Text and column names are plain objects, as every pandas before 3 wrote them: any pandas reads the pickle.
    """
    labels = [note.labels for note in notes]
    table = pd.DataFrame(dict(zip(CODES, np.array(labels, np.int64).T, strict=True)))
    table.insert(0, "text", pd.Series([note.text for note in notes], dtype=object))
    table.insert(1, "labels", pd.Series(labels, dtype=object))
    table.columns = pd.Index(table.columns, dtype=object)
    return table


def _code_info() -> dict[str, object]:
    return {
        "timestamp": TIMESTAMP,
        "top_50_codes": list(CODES),
        "top_50_counts": COUNTS,
        "valid_admissions": ADMISSIONS,
        "note": "Counts are those published for the case; the notes here are synthetic.",
    }


def _split_info(trained_on: int) -> dict[str, object]:
    return {
        "timestamp": TIMESTAMP,
        "synthetic": True,
        **{f"{split}_size": count for split, count in DOCUMENTS.items()},
        "trained_on": trained_on,
        "note": (
            f"train_split.pkl holds the first {DOCUMENTS['train']} of the {trained_on:,} synthetic notes trained on; "
            "shifamind_core.demo.notes.write_note('train', i) writes any of them."
        ),
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
