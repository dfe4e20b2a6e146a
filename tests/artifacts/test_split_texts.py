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
