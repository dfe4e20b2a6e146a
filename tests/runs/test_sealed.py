"""Sealed arrays: what comes back is what was stored, or nothing, whichever bit is flipped."""

import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.runs.sealed import Damaged, read_sealed, take_sealed, write_sealed

KEY = "ab" * 32
ARRAYS = {
    "flat": np.arange(7, dtype=np.int32),
    "logits": np.random.default_rng(0).normal(size=(3, 2)),
    "nothing": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tokens" / "x.safetensors"
    write_sealed(path, KEY, ARRAYS)
    return path


def same(found):
    return set(found) == set(ARRAYS) and all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array)
        for name, array in ARRAYS.items()
    )


def test_what_was_stored_comes_back_read_only_from_a_private_file(path):
    found = read_sealed(path, KEY)
    assert same(found) and not any(array.flags.writeable for array in found.values())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_sealed(path.with_name("other"), KEY) is None


@given(data=st.data())
def test_no_flipped_bit_is_ever_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("sealed") / "x"
    write_sealed(path, KEY, ARRAYS)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with pytest.raises(Damaged, match="is damaged"):
        read_sealed(path, KEY)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 200, bytes(200)])
def test_what_never_was_a_sealed_file_is_damaged(path, content):
    path.write_bytes(content)
    with pytest.raises(Damaged):
        read_sealed(path, KEY)


def test_a_file_under_another_key_is_no_answer(path):
    with pytest.raises(Damaged, match="another key"):
        read_sealed(path, "cd" * 32)


def test_what_is_damaged_is_thrown_away_and_named(path):
    path.write_bytes(path.read_bytes()[:-1])
    found, (remark,) = take_sealed(path, KEY)
    assert found is None and str(path) in remark and "thrown away" in remark and not path.exists()
    assert take_sealed(path, KEY) == (None, ())
    write_sealed(path, KEY, ARRAYS)
    found, remarks = take_sealed(path, KEY)
    assert same(found) and remarks == ()
