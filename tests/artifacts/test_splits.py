"""Splits: what a table says is what is read, and whatever else a file holds stays outside."""

import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.artifacts.limited import Limits
from shifamind_core.artifacts.split_files import SplitUnpickler
from shifamind_core.artifacts.split_table import plain_columns
from shifamind_core.artifacts.splits import Split, read_split
from shifamind_core.errors import ShifamindError
from simulation.builders import split_table
from tests.support.refused import refused

CODES = ["I10", "E785", "K219"]
LABELS = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.uint8)
NOTES = ["Chest pain, 54yo.", "Ünïcode – nöte", "a\nb"]
FIXTURES = sorted((Path(__file__).parents[1] / "data" / "splits").glob("*.pkl"))


def table(**columns: Any) -> pd.DataFrame:
    return split_table(NOTES, LABELS, CODES).assign(**columns)


def write(folder: Path, content: Any) -> Path:
    path = folder / "test_split.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=4))
    return path


class Call:
    """Pickles as a call of a global by name; nothing is looked up on writing."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


# What is read


def test_a_pickled_split_comes_back_as_it_was_written(tmp_path: Path) -> None:
    split = read_split(write(tmp_path, table()))
    assert split.name == "test"
    assert split.texts == tuple(NOTES)
    assert split.codes == tuple(CODES)
    assert np.array_equal(split.labels, LABELS)
    assert [check.status for check in split.checks] == ["ok"]


def test_a_parquet_split_reads_like_the_pickle(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "test_split.parquet")
    from_parquet, from_pickle = (
        read_split(tmp_path / "test_split.parquet"),
        read_split(write(tmp_path, table())),
    )
    assert from_parquet.texts == from_pickle.texts
    assert from_parquet.codes == from_pickle.codes
    assert np.array_equal(from_parquet.labels, from_pickle.labels)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_pickles_of_pandas_1_5_to_3_1_are_read(path: Path) -> None:
    """Written by real releases, with NumPy 1 and 2; in this process, since we wrote them ourselves."""
    with path.open("rb") as file:
        columns = plain_columns(SplitUnpickler(file).load(), CODES, path.name)
    expected = dict(zip(NOTES, LABELS.tolist(), strict=True))
    assert columns.labels is not None
    assert dict(zip(columns.texts, columns.labels.tolist(), strict=True)) == expected
    assert np.array_equal(columns.labels, columns.code_values)
    assert columns.code_names == tuple(CODES)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_plain_columns_are_the_tables_values(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    labels = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(0, 1), min_size=width, max_size=width), min_size=rows, max_size=rows
            )
        )
    )
    texts = data.draw(
        st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=rows, max_size=rows)
    )
    codes = [f"C{i}" for i in range(width)]
    columns = plain_columns(split_table(texts, labels, codes), data.draw(st.sampled_from([[], codes])), "t")
    assert columns.texts == texts
    assert np.array_equal(columns.labels, labels)
    assert np.array_equal(columns.code_values, labels)
    assert columns.code_names == tuple(codes)


def test_document_ids_are_digests_of_the_texts() -> None:
    split = Split("test", tuple(NOTES), LABELS)
    assert split.document_ids.tolist() == [text_digest(note.encode()) for note in NOTES]


def test_other_columns_are_left_alone(tmp_path: Path) -> None:
    extra = table(subject_id=[1, 2, 3], hadm_id=[1.0, 2.0, 3.0], has_top50=[True, True, True], died=[0, 1, 0])
    columns = plain_columns(extra, CODES, "t")
    assert columns.code_names == tuple(CODES)
    assert plain_columns(extra.drop(columns="died"), [], "t").code_names == tuple(CODES)


def test_either_lists_or_columns_will_do() -> None:
    lists = plain_columns(table().drop(columns=CODES), CODES, "t")
    columns = plain_columns(table().drop(columns="labels"), CODES, "t")
    assert lists.labels is not None and lists.code_names == ()
    assert columns.labels is None
    assert np.array_equal(lists.labels, columns.code_values)


def test_label_lists_in_the_order_of_top_50_codes_are_named_so(tmp_path: Path) -> None:
    """Columns alphabetical, lists in the JSON file's order: the only naming under which both agree."""
    path = write(tmp_path, table()[["text", "labels", *sorted(CODES)]])
    split = read_split(path, known_codes=CODES)
    assert split.codes == tuple(CODES)
    assert split.checks[0].status == "warning"
    unknown = read_split(path)
    assert unknown.checks[0].status == "error"
    assert "differ in" in unknown.checks[0].message


def test_label_lists_that_contradict_the_columns_are_reported(tmp_path: Path) -> None:
    split = read_split(write(tmp_path, table(I10=[1, 1, 0])), known_codes=CODES)
    assert np.array_equal(split.labels, LABELS)
    assert split.checks[0].status == "error"
    assert "1 of 9 cells, first in row 1 at code 'I10'" in split.checks[0].message


def test_labels_follow_the_checkpoints_codes_by_name() -> None:
    split = Split("test", tuple(NOTES), LABELS, tuple(CODES))
    turned = split.with_codes(["K219", "I10", "E785"])
    assert np.array_equal(turned.labels, LABELS[:, [2, 0, 1]])
    assert np.array_equal(turned.with_codes(CODES).labels, LABELS)
    with refused("'I110'", "position"):
        split.with_codes(["I10", "E785", "I110"])
    unnamed = Split("test", tuple(NOTES), LABELS).with_codes(CODES)
    assert unnamed.codes == tuple(CODES) and np.array_equal(unnamed.labels, LABELS)
    with refused("2 codes"):
        Split("test", tuple(NOTES), LABELS).with_codes(CODES[:2])


# What is wrong with a table


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"text": NOTES}, ["dict", "DataFrame"]),
        (table().drop(columns="text"), ["no column 'text'", "'labels'"]),
        (table().iloc[:0], ["empty"]),
        (table().drop(columns=["labels", *CODES]), ["neither a column 'labels'"]),
        (table(labels=[[0, 1, 0], [1, 2, 0], [0, 0, 1]]), ["row 2", "holds 2 at position 2", "0 or 1"]),
        (table(labels=[[0, 1, 0], [1, float("nan"), 0], [0, 0, 1]]), ["row 2", "nan"]),
        (table(labels=[[0, 1, 0], [1, -1, 0], [0, 0, 1]]), ["row 2", "-1"]),
        (table(labels=[[0, 1, 0], [1, 0.5, 0], [0, 0, 1]]), ["row 2", "0.5"]),
        (table(labels=[[0, 1, 0], [1, 0], [0, 0, 1]]), ["2 values in row 2 and 3 in row 1"]),
        (table(labels=[[], [], []]), ["0 values in row 1"]),
        (table(labels=["[0, 1, 0]"] * 3), ["'labels' in row 1 is a str"]),
        (table(labels=[[0, "secret note", 0]] * 3), ["a str at position 2"]),
        (table(I10=[0, 1, 3]), ["'I10' holds 3 in row 3"]),
        (table(I10=["a", "b", "c"]), ["'I10'", "numbers"]),
        (table(I10=[0, None, 1]), ["'I10'", "gaps"]),
        (table(text=["a", None, "b"]), ["'text' in row 2 is missing"]),
        (table(text=["a", float("nan"), "b"]), ["'text' in row 2 is missing"]),
        (table(text=pd.Series(["a", 7, "b"], dtype=object)), ["'text' in row 2 is a int"]),
        (table(text=pd.Series(["a", "\ud800", "b"], dtype=object)), ["row 2", "surrogate"]),
        (pd.concat([table(), table()], axis=1), ["more than one column named 'text'"]),
    ],
)
def test_a_table_that_does_not_fit_gets_one_clear_line(content: Any, words: list[str]) -> None:
    with refused("test_split.pkl", *words):
        plain_columns(content, CODES, "test_split.pkl")


def test_the_line_passes_the_subprocess_unchanged(tmp_path: Path) -> None:
    with refused("test_split.pkl: 'labels' in row 2 holds 2 at position 2; labels are 0 or 1."):
        read_split(write(tmp_path, table(labels=[[0, 1, 0], [1, 2, 0], [0, 0, 1]])))


def test_a_file_that_is_missing_empty_or_cut_off_gets_one_clear_line(tmp_path: Path) -> None:
    with refused("No such file"):
        read_split(tmp_path / "test_split.pkl")
    with refused("empty"):
        read_split(write(tmp_path, b""))
    with refused("folder"):
        read_split(tmp_path)
    whole = write(tmp_path, table()).read_bytes()
    for content in (whole[:-40], b"not a pickle at all"):
        with refused("cut off"):
            read_split(write(tmp_path, content))
    (tmp_path / "test_split.parquet").write_bytes(b"PAR1 and nothing more")
    with refused("Parquet", "cut off"):
        read_split(tmp_path / "test_split.parquet")


def test_label_lists_of_another_length_than_the_code_columns_are_refused(tmp_path: Path) -> None:
    table(labels=[[0, 1]] * 3).to_parquet(tmp_path / "test_split.parquet")
    with refused("2 positions", "3 code columns"):
        read_split(tmp_path / "test_split.parquet")


# What a pickle may not do


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Call(os.system, "touch TARGET"), "posix.system"),
        (Call(eval, "__import__('os').system('touch TARGET')"), "builtins.eval"),
        (Call(getattr, "x", "upper"), "builtins.getattr"),
        (
            b"\x80\x04\x8c\tpandas.io\x8c\x10common.os.system\x93\x8c\x0ctouch TARGET\x85R.",
            "pandas.io.common.os.system",
        ),
        (b"cnumpy\nload\n(S'TARGET'\ntR.", "numpy.load"),
        (b"cpandas\nread_pickle\n(S'TARGET'\ntR.", "pandas.read_pickle"),
        ([table(), Call(os.system, "touch TARGET")], "posix.system"),
    ],
)
def test_a_pickle_that_asks_for_anything_else_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused("test_split.pkl was refused", name):
        read_split(write(tmp_path, content))
    assert not Path("TARGET").exists()


def test_a_pickle_cannot_change_a_class_of_this_process(tmp_path: Path) -> None:
    """A BUILD opcode sets attributes of an allowed class: in a process that ends."""
    before = pd.RangeIndex._typ
    with refused("test_split.pkl"):
        read_split(write(tmp_path, b"cpandas\nRangeIndex\n(N(dS'_typ'\nS'changed'\nstb."))
    assert pd.RangeIndex._typ == before


def test_a_pickle_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    huge = Call(pd.DataFrame, None, Call(pd.RangeIndex, 4 << 30), ["text"])
    with refused("was refused", "MiB allowed"):
        read_split(write(tmp_path, huge))
    with refused("was refused", "bytearray of a size"):
        read_split(write(tmp_path, Call(bytearray, 4 << 30)))


def test_a_small_pickle_of_a_huge_text_is_refused(tmp_path: Path) -> None:
    """One string, named many times: small in the file and in its process, but not when written out."""
    notes = pd.Series(["x" * 1_000_000] * 300, dtype=object)
    many = split_table([""] * 300, np.zeros((300, 1), dtype=np.uint8), ["I10"]).assign(text=notes)
    path = write(tmp_path, many)
    assert path.stat().st_size < 2_000_000
    with refused("test_split.pkl", "another form"):
        read_split(path, limits=Limits(memory_bytes=250_000_000))


def test_a_pickle_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """Hashing 40 nested pairs takes 2^40 steps."""
    nested: Any = ()
    for _ in range(40):
        nested = (nested, nested)
    content = pickle.dumps(nested, protocol=4)[:-1]
    start = time.monotonic()
    with refused("longer than the 3 s allowed"):
        read_split(
            write(tmp_path, content.replace(b"\x80\x04", b"\x80\x04}", 1) + b"Ns."),
            limits=Limits(cpu_seconds=3),
        )
    assert time.monotonic() - start < 60


# What a Parquet file may not do


def test_a_note_that_is_not_utf_8_is_named_and_never_quoted(tmp_path: Path) -> None:
    """Arrow's message for it is the note."""
    notes = pa.array([b"fine", b"a patient's name \xff\xfe"], pa.binary())
    path = tmp_path / "test_split.parquet"
    for texts in (notes, notes.dictionary_encode()):
        pq.write_table(pa.table({"text": texts, "I10": [0, 1]}), path)
        with pytest.raises(ShifamindError, match="'text' in row 2 is not UTF-8") as caught:
            read_split(path)
        assert "patient" not in str(caught.value)


def test_a_kilobyte_that_stands_for_gigabytes_is_refused_unexpanded(tmp_path: Path) -> None:
    path = tmp_path / "test_split.parquet"
    rows = 3000
    texts = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["x" * 1_000_000])
    pq.write_table(pa.table({"text": texts, "I10": [0] * rows}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    with refused("test_split.parquet", "repeats its notes"):
        read_split(path)
    wide = 22 << 20  # three lists of it: just more than may be read
    labels = pa.ListArray.from_arrays(np.arange(4, dtype=np.int32) * wide, np.zeros(3 * wide, np.int8))
    pq.write_table(pa.table({"text": ["x"] * 3, "labels": labels}), path, compression="zstd")
    with refused("test_split.parquet", "claims", "values"):
        read_split(path)


def test_columns_that_no_split_needs_are_not_read(tmp_path: Path) -> None:
    others = {
        "other": ["x"] * 3,
        "dates": pd.to_datetime(["2026-01-01"] * 3),
        "nested": [{"a": 1}] * 3,
        "gone": [None] * 3,
    }
    table(**others).to_parquet(tmp_path / "test_split.parquet")
    split = read_split(tmp_path / "test_split.parquet")
    assert split.codes == tuple(CODES) and split.texts == tuple(NOTES)
