"""Splits as text: what a line may not hold."""

from pathlib import Path

import pytest

from shifamind_core.artifacts.splits import read_split
from tests.support.refused import refused


@pytest.mark.parametrize("line", ['{"text": "a \\ud800", "I10": 1}', '{"text": "a", "I10": 1, "\\uDFFF": 0}'])
def test_half_of_a_pair_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"text": "fine \\ud83d\\ude00", "I10": 1}\n' + line + "\n")
    with refused("test.jsonl", "line 2", "surrogate"):
        read_split(path)


@pytest.mark.parametrize(
    ("name", "start"), [("test.csv", "text,I10\n"), ("test.jsonl", '{"text": "a", "I10": 1}\n')]
)
def test_the_byte_that_is_no_utf_8_is_counted_from_the_beginning(
    tmp_path: Path, name: str, start: str
) -> None:
    line = '{"text": "b", "I10": 0}\n' if name.endswith("jsonl") else "b,0\n"
    before = (start + 10_000 * line).encode()
    (tmp_path / name).write_bytes(before + b"\xff,1\n")
    with refused(name, f"no UTF-8 text (byte {len(before):,})"):
        read_split(tmp_path / name)
