"""Uploads of every format: the same run comes out of all of them, and of bad files one clear line."""

import hashlib
import io
import json
import re
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import expit

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.foreign import read_foreign
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import write_run_file
from shifamind_core.runs.tables import narrowed
from shifamind_core.runs.uploads import EXTENSIONS, read_upload

CODES = ["E785", "I10", "Z87891"]
LOGITS = np.random.default_rng(0).normal(-1, 3, (8, 3)).astype(np.float32)
LABELS = (LOGITS > 0).astype(np.uint8)
IDS = np.arange(8) * 10**15 - 7
IDS_HEX = [f"{np.uint64(i):016x}" for i in IDS.astype(np.uint64)]


def written(write):
    """The bytes that `write` puts into a binary file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def npz(**arrays):
    return written(lambda file: np.savez(file, **arrays))


def npy(array, **options):
    return written(lambda file: np.save(file, array, **options))


def table(values=LOGITS, codes=CODES, **first):
    """Scores as a DataFrame, with further columns in front."""
    return pd.DataFrame({**first, **{code: values[:, i] for i, code in enumerate(codes)}})


def csv(**changes):
    return table(**changes).to_csv(index=False).encode()


def parquet(**changes):
    return written(lambda file: table(**changes).to_parquet(file))


def jsonl(lines):
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def by_code(values=LOGITS, codes=CODES):
    """One object a note."""
    return [dict(zip(codes, row, strict=True)) for row in values.tolist()]


def pt(content, **options):
    return written(lambda file: torch.save(content, file, **options))


def tensors(**arrays):
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def run_file(tmp_path):
    path = tmp_path / "run.safetensors"
    write_run_file(Run(LOGITS.copy(), codes=tuple(CODES), document_ids=IDS.copy()), path)
    return path.read_bytes()


def refusal(name, content, read=read_upload):
    """The one line with which a file is refused."""
    with pytest.raises(ShifamindError) as refused:
        read(name, content)
    message = str(refused.value)
    assert message.startswith(name) and "\n" not in message and len(message) < 700, message
    return message


def noted(run, pattern):
    return any(re.search(pattern, note) for note in run.manifest.notes)


# --- the same run in every format ------------------------------------------------------------------------------


def full_files(tmp_path):
    return {
        "a.safetensors": run_file(tmp_path),
        "a.npz": npz(logits=LOGITS, codes=np.array(CODES), document_ids=IDS),
        "bytes.NPZ": npz(logits=LOGITS, codes=np.array(CODES, "S"), document_ids=np.array(IDS_HEX)),
        "packed.npz": written(
            lambda file: np.savez_compressed(
                file, logits=LOGITS, codes=np.array(CODES), document_ids=IDS.astype(str)
            )
        ),
        "a.csv": csv(document_id=IDS),
        "hex.Csv": csv(document_id=IDS_HEX),
        "bom.csv": b"\xef\xbb\xbf" + csv(document_id=IDS),
        "windows.csv": csv(document_id=IDS).replace(b"\n", b"\r\n"),
        "a.parquet": parquet(document_id=IDS),
        "text.parquet": parquet(document_id=IDS.astype(str)),
        "a.pt": pt(tensors(logits=LOGITS, document_ids=IDS) | {"codes": CODES}),
        "a.jsonl": jsonl(
            {"document_id": int(i), "logits": row} for i, row in zip(IDS, by_code(), strict=True)
        ),
        "flat.jsonl": jsonl({"document_id": i, **row} for i, row in zip(IDS_HEX, by_code(), strict=True)),
    }


def test_the_same_run_comes_out_of_every_format(tmp_path):
    expected = Run(LOGITS.copy(), codes=tuple(CODES), document_ids=IDS.copy()).digest
    files = full_files(tmp_path)
    assert {Path(name).suffix.lower() for name in files} == {*EXTENSIONS} - {".npy"}
    for name, content in files.items():
        run = read_upload(name, content)
        assert run.digest == expected, name
        assert run.name == name and run.manifest.logits_from_probabilities is None


def test_a_path_is_read_as_its_bytes_are(tmp_path):
    for name, content in full_files(tmp_path).items():
        if name.endswith((".csv", ".npz", ".safetensors")):
            (tmp_path / name).write_bytes(content)
            assert read_upload(name, tmp_path / name).digest == read_upload(name, content).digest


def test_labels_come_with_the_arrays_of_npz_and_pt():
    for name, content in {
        "a.npz": npz(logits=LOGITS, labels=LABELS.astype(bool)),
        "a.pt": pt(tensors(logits=LOGITS, labels=LABELS.astype(np.float64))),
    }.items():
        run = read_upload(name, content)
        assert run.labels.dtype == np.uint8 and np.array_equal(run.labels, LABELS)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8"])
def test_an_npy_file_is_read_in_any_order_of_bytes_and_axes(order, dtype):
    run = read_upload("a.npy", npy(np.asarray(LOGITS.astype(dtype), order=order)))
    assert np.array_equal(run.logits, LOGITS.astype(dtype)) and run.logits.dtype == np.dtype(dtype[1:])
    assert run.codes is None and run.document_ids is None


def test_a_bare_bf16_tensor_is_widened_exactly():
    values = torch.from_numpy(LOGITS.copy()).bfloat16()
    run = read_upload("a.pt", pt(values))
    assert run.logits.dtype == np.float32 and np.array_equal(run.logits, values.float().numpy())


def test_torchs_format_before_1_6_is_read_too():
    content = pt(tensors(logits=LOGITS), _use_new_zipfile_serialization=False)
    assert np.array_equal(read_upload("old.pt", content).logits, LOGITS)


def test_what_is_not_used_is_said():
    run = read_upload("a.npz", npz(logits=LOGITS, probabilities=expit(LOGITS), seed=np.array(3)))
    assert noted(run, "Ignored: 'seed'") and noted(run, "probabilities were ignored")
    assert run.manifest.logits_from_probabilities is None


def test_names_in_an_archive_are_names_and_no_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = written(lambda file: _zip(file, {"../../logits.npy": npy(LOGITS), "logits.npy": npy(LOGITS)}))
    assert noted(read_upload("a.npz", content), "Ignored: '../../logits'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480, 0x580])
def test_a_run_file_whose_header_is_as_long_as_a_pickle_begins_is_read(tmp_path, length):
    """1,152 bytes are 80 04 at the start of the file."""
    path = tmp_path / "run.safetensors"
    for filler in range(length):
        write_run_file(Run(LOGITS, manifest=Manifest(notes=("." * filler,))), path)
        if int.from_bytes(path.read_bytes()[:8], "little") == length:
            break
    assert path.read_bytes()[0] == 0x80
    assert np.array_equal(read_upload(path.name, path).logits, LOGITS)


# --- document ids ------------------------------------------------------------------------------------------------


def test_other_ids_are_digested_and_said_to_be():
    run = read_upload("a.csv", csv(document_id=[f"note-{i}" for i in range(8)]))
    assert run.document_ids.tolist() == [text_digest(f"note-{i}".encode()) for i in range(8)]
    assert noted(run, "SHA-256 of each stands in")


def test_a_full_sha256_is_the_same_id_as_its_first_eight_bytes():
    texts = [f"Admission Date: {i}" for i in range(8)]
    full = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    run = read_upload("a.csv", csv(document_id=full))
    assert run.document_ids.tolist() == [text_digest(text.encode()) for text in texts]
    assert run.manifest.notes == ()


def test_large_integer_ids_survive_a_csv_file():
    ids = np.array([2**63 - 1, -(2**63), 2**53 + 1, 0, 1, 2, 3, 4])
    assert np.array_equal(read_upload("a.csv", csv(document_id=ids)).document_ids, ids)


# --- probabilities -------------------------------------------------------------------------------------------------


def test_named_probabilities_become_logits_and_are_marked():
    run = read_upload("a.npz", npz(probabilities=expit(LOGITS)))
    assert run.manifest.logits_from_probabilities and noted(run, "turned back into logits")
    assert np.array_equal(expit(run.logits), expit(LOGITS))
    assert np.allclose(run.logits, LOGITS, atol=1e-4)


def test_what_is_named_logits_stays_as_it_is():
    """A diagnosis says `probabilities_as_logits`; reading the file does not guess."""
    run = read_upload("a.npz", npz(logits=expit(LOGITS)))
    assert np.array_equal(run.logits, expit(LOGITS)) and run.manifest.logits_from_probabilities is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", npy(expit(LOGITS))),
        ("a.csv", csv(values=expit(LOGITS))),
        ("a.parquet", parquet(values=expit(LOGITS))),
        ("a.pt", pt(torch.from_numpy(expit(LOGITS)))),
    ],
)
def test_scores_without_a_name_are_probabilities_where_all_lie_between_0_and_1(name, content):
    run = read_upload(name, content)
    assert run.manifest.logits_from_probabilities and noted(run, "taken as probabilities")
    assert np.array_equal(expit(run.logits), expit(LOGITS))


def test_one_score_outside_makes_them_logits():
    values = expit(LOGITS)
    values[3, 1] = 1.25
    run = read_upload("a.npy", npy(values))
    assert np.array_equal(run.logits, values) and run.manifest.notes == ()


def test_nan_and_infinity_are_kept_to_be_counted():
    values = LOGITS.copy()
    values[0, :] = np.nan, np.inf, -np.inf
    for name, content in {
        "a.npy": npy(values),
        "a.csv": table(values).to_csv(index=False, na_rep="nan").encode(),
    }.items():
        assert read_upload(name, content).non_finite == 3
    chances = expit(LOGITS)
    chances[0, 0] = np.nan
    assert read_upload("a.npz", npz(probabilities=chances)).non_finite == 1


# --- tables ------------------------------------------------------------------------------------------------------


def test_the_row_numbers_that_pandas_adds_are_ignored_and_said_to_be():
    run = read_upload("a.csv", table().to_csv().encode())
    assert run.codes == tuple(CODES) and noted(run, "numbers the rows")
    shuffled = table().iloc[::-1]
    assert "without a name" in refusal("a.csv", shuffled.to_csv().encode())
    numbered = table().set_index(pd.Index([3, 1, 4, 0, 5, 9, 2, 6]))
    assert "without a name" in refusal("a.parquet", written(numbered.to_parquet))


def test_ids_that_pandas_keeps_as_the_beginning_and_step_of_an_index_are_read():
    counted = pd.RangeIndex(100, 180, 10, name="document_id")
    run = read_upload("a.parquet", written(table().set_index(counted).to_parquet))
    assert run.document_ids is not None and run.document_ids.tolist() == list(counted)
    for plain in (pd.RangeIndex(8), pd.RangeIndex(8, name="row")):
        assert read_upload("a.parquet", written(table().set_index(plain).to_parquet)).document_ids is None
    for other in (pd.RangeIndex(100, 108), pd.RangeIndex(7, -1, -1), pd.RangeIndex(3, 11, name="hadm_id")):
        assert "does not number the rows" in refusal(
            "a.parquet", written(table().set_index(other).to_parquet)
        )


@pytest.mark.parametrize(
    "said",
    [
        "[",
        "7",
        '{"index_columns": 7}',
        '{"index_columns": [{"kind": "range", "start": "x"}]}',
        '{"index_columns": [{"kind": "range", "name": "document_id", "start": 1e30, "stop": 2e30, "step": 1e29}]}',
    ],
)
def test_what_a_parquet_file_says_of_an_index_may_be_anything(said):
    frame = pa.Table.from_pandas(table(), preserve_index=False).replace_schema_metadata({"pandas": said})
    run = read_upload("a.parquet", written(lambda file: pyarrow.parquet.write_table(frame, file)))
    assert run.document_ids is None and run.documents == 8


def test_numbered_columns_are_no_code_names():
    run = read_upload("a.csv", table(codes=["0", "1", "2"]).to_csv(index=False).encode())
    assert run.codes is None and noted(run, "code names are not known")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_float32_scores_come_back_from_csv_bit_for_bit(values):
    column = np.array([7.5, -7.5, *values], np.float32)[:, None]  # beyond [0, 1] and below 0: logits
    run = read_upload("a.csv", table(column, ["A"]).to_csv(index=False).encode())
    assert run.logits.dtype == np.float32 and np.array_equal(run.logits, column)


def test_float64_scores_stay_float64_in_a_csv_file():
    values = np.random.default_rng(0).normal(size=(8, 3))
    run = read_upload("a.csv", csv(values=values))
    assert run.logits.dtype == np.float64 and np.array_equal(run.logits, values)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=9))
def test_narrowing_never_changes_a_score_by_more_than_a_float32_can_hold(values):
    values = np.array(values)[None]
    narrow = narrowed(values)
    if narrow.dtype == np.float32:
        with np.errstate(over="ignore"):
            assert np.array_equal(narrow, values.astype(np.float32), equal_nan=True)
        assert np.array_equal(np.isfinite(narrow), np.isfinite(values))


# --- refusals ------------------------------------------------------------------------------------------------------


def _zip(file, members, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicated names are planted on purpose
        with zipfile.ZipFile(file, "w", **options) as archive:
            for name, content in members.items() if isinstance(members, dict) else members:
                archive.writestr(name, content)


def zipped(members, **options):
    return written(lambda file: _zip(file, members, **options))


def npy_header(text, version=1):
    """A `.npy` file with this header and no data."""
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin1")


def described(descr="'<f4'", shape="(8, 3)", order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def lying_zip(claimed):
    """An archive whose only member claims another size than it expands to."""
    content = bytearray(zipped({"logits.npy": bytes(40 << 20)}, compression=zipfile.ZIP_DEFLATED))
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", claimed)
    return bytes(content)


def encrypted_zip():
    content = bytearray(npz(logits=LOGITS))
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + flags] |= 1
    return bytes(content)


PICKLED = npy(np.array([[{"a": 1}]], object), allow_pickle=True)
HTML = b"\n <!DOCTYPE html><html><body>Sign in</body></html>"

REFUSED = {
    "nothing": ("a.npz", b"", r"is empty \(0 bytes\)"),
    "unknown extension": ("a.xlsx", b"PK", "'?.xlsx'? is no format of runs; take .safetensors, .npz"),
    "no extension": ("logits", b"1", "a name without extension"),
    "pickle": ("a.pkl", b"\x80\x04.", "pickles can run code and are never uploaded"),
    "pickle renamed": ("a.npy", b"\x80\x04.", "is a pickle, whatever its extension says"),
    "web page": ("a.csv", HTML, "is a web page, whatever its extension says. Download the file itself"),
    "web page as pt": ("a.pt", HTML, "is a web page"),
    "npz as npy": ("a.npy", npz(logits=LOGITS), "is a zip archive"),
    "npy as npz": ("a.npz", npy(LOGITS), "is a NumPy array, whatever"),
    "zip as csv": ("a.csv", npz(logits=LOGITS), "is a zip archive"),
    "gzip": ("a.csv", b"\x1f\x8b\x08", "is packed with gzip.* Unpack it first"),
    "parquet as safetensors": ("a.safetensors", b"PAR1" + bytes(20), "is a Parquet file"),
    # .npy
    "npy garbage": ("a.npy", b"garbage", "is no NumPy array"),
    "npy cut": ("a.npy", npy(LOGITS)[:-1], "claims an array of shape .8, 3. and 96 bytes but holds 95"),
    "npy longer": ("a.npy", npy(LOGITS) + b"1", "holds 97"),
    "npy header cut": ("a.npy", npy(LOGITS)[:20], "cut off within its header"),
    "npy version": ("a.npy", b"\x93NUMPY\x09\x00", "unknown version"),
    "npy version only": ("a.npy", b"\x93NUMPY", "unknown version"),
    "npy objects": ("a.npy", PICKLED, "Python objects or records"),
    "npy records": ("a.npy", npy(np.zeros(3, [("a", "f4"), ("b", "i4")])), "Python objects or records"),
    "npy code": ("a.npy", npy_header(described(descr="__import__('os').system('id')")), "Python objects"),
    "npy unknown dtype": ("a.npy", npy_header(described(descr="'<f3'")), "unknown dtype '<f3'"),
    "npy times": ("a.npy", npy(np.zeros((2, 2), "M8[s]")), "Python objects or records"),
    "npy no shape": ("a.npy", npy_header(described(shape="8")), "without a plain shape"),
    "npy negative shape": ("a.npy", npy_header(described(shape="(-8, 3)")), "without a plain shape"),
    "npy absurd shape": ("a.npy", npy_header(described(shape=f"({10**19}, {10**19})")), "but holds 0"),
    "npy empty": ("a.npy", npy(np.zeros((0, 3), np.float32)), "holds an empty array"),
    "npy 4 GB header": ("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "cut off within its header"),
    "npy one axis": ("a.npy", npy(LOGITS[:, 0]), r"has shape \(8,\); expected notes × codes"),
    "npy three axes": ("a.npy", npy(LOGITS[None]), "expected notes × codes"),
    "npy scalar": ("a.npy", npy(np.float32(3)), "expected notes × codes"),
    "npy integers": ("a.npy", npy(LABELS), "scores are uint8; expected float16, float32 or float64"),
    "npy longdouble": ("a.npy", npy(np.zeros((2, 2), np.longdouble)), "scores are float128"),
    "npy text": ("a.npy", npy(np.array([["a", "b"]])), "expected float16"),
    "npy decisions": ("a.npy", npy(LABELS.astype(np.float32)), "nothing but 0 and 1"),
    # .npz
    "npz cut": ("a.npz", npz(logits=LOGITS)[:-30], "is no sound .npz file"),
    "npz unnamed": ("a.npz", written(lambda file: np.savez(file, LOGITS)), r"found: 'arr_0'"),
    "npz labels only": ("a.npz", npz(labels=LABELS), "no array 'logits' or 'probabilities' .found: 'labels'"),
    "npz other length": ("a.npz", npz(logits=LOGITS, labels=LABELS[:-1]), "labels has 7 rows, logits have 8"),
    "npz labels 2": ("a.npz", npz(logits=LOGITS, labels=LABELS * 2), "neither 0 nor 1"),
    "npz label text": (
        "a.npz",
        npz(logits=LOGITS, labels=LABELS.astype(str)),
        "labels are <U3; expected numbers",
    ),
    "npz objects": ("a.npz", zipped({"logits.npy": PICKLED}), "array 'logits' holds no plain numbers"),
    "npz code objects": (
        "a.npz",
        npz(logits=LOGITS, codes=np.array(["a", None, "b"], object)),
        r"array 'codes' holds no plain texts .* save texts: array\.astype\(str\)",
    ),
    "npz code numbers": ("a.npz", npz(logits=LOGITS, codes=np.arange(3)), "expected a list of texts"),
    "npz code bytes": ("a.npz", npz(logits=LOGITS, codes=np.array([b"\xff"] * 3)), "no valid text"),
    "npz code points": (
        "a.npz",
        npz(logits=LOGITS, codes=np.frombuffer(b"\xff\xff\xff\xff" * 3, "<U1")),
        "no valid text",
    ),
    "npz code twice": (
        "a.npz",
        npz(logits=LOGITS, codes=np.array(["A", "B", "A"])),
        "'A' names more than one",
    ),
    "npz code count": ("a.npz", npz(logits=LOGITS, codes=np.array(["A"])), "1 code names for 3 columns"),
    "npz float ids": ("a.npz", npz(logits=LOGITS, document_ids=IDS * 1.0), "document_ids are float64"),
    "npz no ids": (
        "a.npz",
        npz(logits=LOGITS, document_ids=np.array([""] * 8)),
        "8 of 8 document ids are missing",
    ),
    "npz out of [0, 1]": (
        "a.npz",
        npz(probabilities=LOGITS),
        "probabilities lie outside .0, 1., the first at note",
    ),
    "npz on its side, by ids": ("a.npz", npz(logits=LOGITS.T, document_ids=IDS), "logits lie on their side"),
    "npz on its side, by codes": (
        "a.npz",
        npz(logits=LOGITS.T, codes=np.array(CODES)),
        "3 × 8 logits, 3 code names",
    ),
    "npz on its side, labels too": (
        "a.npz",
        npz(logits=LOGITS.T, labels=LABELS.T, codes=np.array(CODES)),
        "logits and labels lie on their side",
    ),
    "npz labels on their side": (
        "a.npz",
        npz(logits=LOGITS, labels=LABELS.T, codes=np.array(CODES)),
        "a.npz: labels lie on their side",
    ),
    "npz one of two on its side": ("a.npz", npz(logits=LOGITS.T, labels=LABELS), "logits or labels lie on"),
    "npz same name": (
        "a.npz",
        zipped([("logits.npy", npy(LOGITS)), ("logits.npy", npy(LOGITS))]),
        "two arrays named 'logits'",
    ),
    "npz members": ("a.npz", zipped({f"{i}": b"" for i in range(1001)}), "more than 1,000 arrays"),
    "npz encrypted": ("a.npz", encrypted_zip(), "encrypted or packed by a method"),
    "npz lzma": (
        "a.npz",
        zipped({"logits.npy": npy(LOGITS)}, compression=zipfile.ZIP_LZMA),
        "packed by a method that NumPy does not use",
    ),
    "npz no array inside": ("a.npz", zipped({"logits.npy": b"hello"}), "is no NumPy array"),
    "npz lies": ("a.npz", lying_zip(1000), "no NumPy array|no sound .npz"),
    # .csv
    "csv header only": ("a.csv", b"A,B\n", "header but no rows"),
    "csv header only, no line": ("a.csv", b"A,B", "no sound CSV file"),
    "csv blank": ("a.csv", b"\n\n", "no header row"),
    "csv semicolons": ("a.csv", b"A;B\n0,5;1,5\n", "not separate its columns by commas"),
    "csv tabs": ("a.csv", b"A\tB\n1\t2\n", "not separate its columns by commas"),
    "csv thousands": ("a.csv", b'A,B\n1,"1,234.5"\n', "row 1, column 'B' is a number with commas"),
    "csv missing": ("a.csv", b"A,B\n1,2\n3,\n", "row 2, column 'B' is empty"),
    "csv ragged": ("a.csv", b"A,B\n1,2\n3,4,5\n", "row 2 has 3 cells, the header 2"),
    "csv latin1": ("a.csv", "A,Durchmesser groß\n1,2\n".encode("latin1"), r"not UTF-8 text \(byte 17\)"),
    "csv utf-16": ("a.csv", "A,B\n1,2\n".encode("utf-16"), r"not UTF-8 text \(byte 0\)"),
    "csv twice": ("a.csv", b"A,B,A\n1,2,3\n", "two columns named 'A'"),
    "csv no names": ("a.csv", b"0.1234,-2.5\n1,2\n", "numbers for a header"),
    "csv text": ("a.csv", b"text,A\nchest pain,2\n", "column 'text' is no code"),
    "csv admission": ("a.csv", b"hadm_id,A\n200,2\n", "column 'hadm_id' is no code"),
    "csv codes as rows": ("a.csv", b",n1,n2\nI10,0.5,2\n", "column without a name.*on its side.*df.T"),
    "csv only ids": ("a.csv", b"document_id\n1\n", "no header row with one column a code"),
    "csv no id": ("a.csv", b"document_id,A\n,2\n", "1 of 1 document ids are missing"),
    "csv quote": ("a.csv", b'A,B\n1,"2\n', "no number|no sound CSV"),
    "csv zeros": ("a.csv", b"A,B\n\x00,2\n", "no number|no sound CSV"),
    "csv control name": ("a.csv", b'"A\x1b[31m",B\n1,2\n', "name of code 0 is 'A"),
    # .parquet
    "parquet cut": ("a.parquet", parquet()[:-9], "no sound Parquet file"),
    "parquet start only": ("a.parquet", b"PAR1", "no sound Parquet file"),
    "parquet integers": ("a.parquet", parquet(values=LABELS), "column 'E785' holds uint8; expected floating"),
    "parquet missing": (
        "a.parquet",
        written(lambda file: pa.parquet.write_table(pa.table({"A": pa.array([1.5, None])}), file)),
        "1 cells of column 'A' are missing",
    ),
    "parquet nested": (
        "a.parquet",
        written(lambda file: pa.parquet.write_table(pa.table({"logits": [[1.0, 2.0]]}), file)),
        "column 'logits' holds list",
    ),
    "parquet twice": (
        "a.parquet",
        written(lambda file: pa.parquet.write_table(pa.table([[1.5], [2.5]], names=["A", "A"]), file)),
        "two columns named 'A'",
    ),
    "parquet float ids": ("a.parquet", parquet(document_id=IDS * 0.5), "document_ids are float64, and some"),
    "parquet text index": (
        "a.parquet",
        written(
            lambda file: pa.parquet.write_table(pa.table({"A": [1.5], "__index_level_0__": ["x"]}), file)
        ),
        r"column without a name.*name it 'document_id'.*on its side",
    ),
    "parquet id bytes": (
        "a.parquet",
        parquet(document_id=["Größe"] * 8).replace("ö".encode(), b"\xff\xff"),
        "no sound Parquet file",
    ),
    "parquet no rows": ("a.parquet", parquet(values=LOGITS[:0]), "header but no rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_gets_one_clear_line(case):
    name, content, says = REFUSED[case]
    message = refusal(name, content)
    assert re.search(says, message), message


def test_a_missing_file_and_a_folder_are_one_line(tmp_path):
    assert "cannot be read" in refusal("a.npz", tmp_path / "a.npz")
    (tmp_path / "b.npz").mkdir()
    assert "cannot be read" in refusal("b.npz", tmp_path / "b.npz")


def test_a_hostile_name_stays_on_one_line():
    with pytest.raises(ShifamindError) as refused:
        read_upload("../../x\n\x1b[31m" + "y" * 500 + ".npz", b"")
    assert (
        "\n" not in str(refused.value) and "\x1b" not in str(refused.value) and len(str(refused.value)) < 300
    )


def peak_bytes(action):
    """The most memory that Python and NumPy had allocated at once during `action`."""
    import tracemalloc

    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_archive_that_expands_to_gigabytes_is_refused_unopened():
    def bomb(file):
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("logits.npy", "w") as member,
        ):
            member.write(npy_header(described(shape=f"({60 << 20}, 3)")))
            for _ in range(45):
                member.write(bytes(16 << 20))

    content = written(bomb)
    assert len(content) < 2 << 20
    assert peak_bytes(lambda: refusal("bomb.npz", content, read_foreign)) < 20 << 20


def test_a_member_that_lies_about_its_size_is_not_expanded():
    content = lying_zip(1000)
    assert peak_bytes(lambda: refusal("lies.npz", content, read_foreign)) < 4 << 20


def test_a_parquet_file_of_one_repeated_number_is_refused_unread():
    column = pa.array(np.full(10_000_000, 0.25))
    content = written(
        lambda file: pa.parquet.write_table(pa.table({"A": column, "B": column}), file, compression="zstd")
    )
    assert len(content) < 1 << 20
    assert "claims 160,000,000 bytes" in refusal("bomb.parquet", content)


def test_a_parquet_file_of_one_long_repeated_id_is_refused_unexpanded():
    ids = pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), ["x" * 10_000])
    content = written(
        lambda file: pa.parquet.write_table(
            pa.table({"document_id": ids, "A": LOGITS[0, 0] + np.zeros(100_000)}), file
        )
    )
    assert "longer than 1,000 characters" in refusal("bomb.parquet", content, read_foreign)
    assert pa.total_allocated_bytes() < 50 << 20


# --- .pt, read without torch -------------------------------------------------------------------------------------------


LARGE = torch.zeros(1 << 20)


class Exploit:
    def __reduce__(self):
        return (print, ("pwned",))


PT_REFUSED = {
    "numbers": (pt({"logits": LOGITS.tolist()}), "holds a list under 'logits'; expected a tensor"),
    "code": (
        pt({"logits": Exploit()}),
        "beside tensors it asks for .*print, and what a pickle asks for can run code",
    ),
    "arrays": (pt({"logits": LOGITS}), "beside tensors it asks for numpy"),
    "no logits": (pt(tensors(labels=LABELS)), "no array 'logits' or 'probabilities' .found: 'labels'"),
    "codes": (pt({**tensors(logits=LOGITS), "codes": {"a": 1}}), "has a dict for codes; expected a list"),
    "cut": (pt(tensors(logits=LOGITS))[:-200], "is no file as torch.save writes it"),
    "garbage": (b"garbage", "is no file as torch.save writes it"),
}


@pytest.mark.parametrize("case", PT_REFUSED)
def test_a_bad_pt_file_gets_one_clear_line(case):
    content, says = PT_REFUSED[case]
    message = refusal("a.pt", content)
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model_state_dict": tensors(w=LOGITS), "epoch": 3}, "is a checkpoint, not a run"),
        (3, "holds a int; expected a tensor"),
        ({3: torch.zeros(2, 2)}, "a dict whose keys are no names; expected a dict of tensors"),
        ([[[[[[torch.zeros(2, 2)]]]]]], "deeper than 4 levels"),
        ({"logits": torch.eye(3).to_sparse()}, "holds a sparse tensor"),
        ({"logits": torch.zeros(2, 2, device="meta")}, "holds a meta tensor"),
        ({"logits": torch.zeros(2, 2).to(torch.float8_e4m3fn)}, "holds a float8_e4m3fn tensor"),
        ({"logits": torch.zeros(2, 2, dtype=torch.complex64)}, "holds a complex64 tensor"),
        (
            {"logits": torch.zeros(1).expand(1 << 20, 1 << 12)},
            "tensor that claims more numbers .* than the file holds",
        ),
        ({f"{i}": LARGE[:] for i in range(120)}, "its 120 tensors share .* would take .* apart"),
    ],
)
def test_a_pt_file_holds_tensors_of_numbers_and_nothing_else(content, says):
    assert re.search(says, refusal("a.pt", pt(content)))


@pytest.mark.parametrize(
    "content", [tensors(logits=LOGITS, labels=LABELS), torch.from_numpy(LOGITS.T.copy()).T]
)
def test_torchs_format_before_1_6_is_read_as_todays(content):
    before, today = (
        read_upload("a.pt", pt(content, _use_new_zipfile_serialization=new)) for new in (False, True)
    )
    assert before.digest == today.digest and np.array_equal(before.logits, LOGITS)


def test_only_numbers_that_the_file_holds_are_read():
    """Every way in which a tensor may lie in its storage; the numbers are those that torch reads."""
    storage = torch.from_numpy(np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32))
    for view in (storage[1:, 2:], storage.T[1:], storage[::2, ::3], storage[:, 3:4], storage[:1]):
        assert np.array_equal(read_upload("a.pt", pt(view)).logits, view.numpy())


# --- attacks at random --------------------------------------------------------------------------------------------

VALID = {
    "a.npz": npz(logits=LOGITS, labels=LABELS, codes=np.array(CODES), document_ids=IDS),
    "b.npz": written(
        lambda file: np.savez_compressed(file, probabilities=expit(LOGITS), codes=np.array(CODES))
    ),
    "a.npy": npy(LOGITS),
    "a.csv": csv(document_id=IDS),
    "a.parquet": parquet(document_id=IDS),
    "b.parquet": parquet(document_id=[f"Größe {i}" for i in range(8)]),
}


def survives(name, content):
    """Read or refuse it, in one line; anything else is raised, warnings too."""
    try:
        read_upload(name, content)
    except ShifamindError as error:
        assert "\n" not in str(error) and len(str(error)) < 700


@pytest.mark.parametrize("name", VALID)
@given(data=st.data())
def test_no_damage_to_a_valid_file_crashes_the_reader(name, data):
    content = bytearray(VALID[name])
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        content[place] = value
    start, stop = sorted((data.draw(places), data.draw(places)))
    damage = data.draw(st.sampled_from(["keep", "cut", "drop", "repeat"]))
    if damage == "cut":
        del content[stop:]
    elif damage == "drop":
        del content[start : start + 20]
    elif damage == "repeat":
        content[stop:stop] = content[start : start + 40]
    survives(name, bytes(content))


@pytest.mark.parametrize("extension", [".npz", ".npy", ".csv", ".parquet", ".safetensors"])
@given(st.binary(max_size=300))
def test_random_bytes_crash_no_reader(extension, content):
    survives("a" + extension, content)


@given(st.text(max_size=200))
@example("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), 'shape': (9, 9)}")
def test_no_text_in_an_npy_header_crashes_the_reader(text):
    survives(
        "a.npy", npy_header(text.encode("latin1", errors="replace").decode("latin1"), version=2) + bytes(8)
    )


@given(st.text(alphabet='A1.5e-,;"\n\r\t \x00Ωnaif', max_size=80))
def test_no_text_crashes_the_csv_reader(text):
    survives("a.csv", text.encode())
