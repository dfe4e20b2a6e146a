"""Run files that are too large to be read: mapped, and scored in blocks of notes."""

import mmap
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from shifamind_core.analysis.thresholds import evaluate, evaluation_json
from shifamind_core.runs import uploads
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import map_run_file, read_run_file, write_run_file
from tests.support.dashboard import small_run as small
from tests.support.refused import refused


def test_a_mapped_run_is_the_run_that_was_read(tmp_path: Path) -> None:
    write_run_file(small(), path := tmp_path / "a.safetensors")
    mapped, read = map_run_file(path), read_run_file(path)
    assert mapped.digest == read.digest and mapped.manifest == read.manifest and mapped.name == read.name
    assert is_mapped(mapped.logits) and is_mapped(mapped.labels) and not is_mapped(read.logits)
    assert evaluation_json(evaluate(mapped)) == evaluation_json(evaluate(read))


def test_blocks_of_notes_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    run = small()
    whole = evaluation_json(evaluate(run))
    monkeypatch.setattr("shifamind_core.runs.blocks.BLOCK_CELLS", 1)
    assert (
        evaluation_json(evaluate(Run(**{part: getattr(run, part) for part in run.__dataclass_fields__})))
        == whole
    )


def test_a_large_run_file_is_mapped_on_the_command_line_and_others_are_read(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(uploads, "AT_HAND", 10)
    write_run_file(small(), path := tmp_path / "a.safetensors")
    assert is_mapped(uploads.read_run(path).logits)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"logits": small().logits}, foreign)
    assert uploads.read_run(foreign).digest and not uploads.is_run_file(foreign)


@pytest.mark.parametrize("cut", [4, 60, -1])
def test_a_file_that_was_cut_off_is_not_mapped(tmp_path: Path, cut: int) -> None:
    write_run_file(small(), path := tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:cut])
    with refused("a.safetensors"):
        map_run_file(path)


def is_mapped(array: np.ndarray | None) -> bool:
    """Whether its memory is a file's."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, memoryview) and isinstance(array.obj, mmap.mmap)
