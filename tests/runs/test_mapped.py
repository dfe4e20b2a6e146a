"""Run files that are too large to be read: mapped, and scored in blocks of notes."""

import mmap
import subprocess
import sys
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


CUT_SHORT = """
import sys
from pathlib import Path

import numpy as np

from shifamind_core.analysis.comparison import compare
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.blocks import code_by_code
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import map_run_file, write_run_file

path, whole = Path(sys.argv[1]), np.zeros((40_000, 5), np.float32)
write_run_file(Run(whole, labels=whole.astype(np.uint8)), path)
run = map_run_file(path)
with path.open("r+b") as file:
    file.truncate(4096)
for read in (
    lambda: evaluate(run),
    lambda: compare(Run(whole), run),
    lambda: run.digest,
    lambda: list(code_by_code(run.logits)),
):
    try:
        read()
    except ShifamindError as error:
        print(error)
"""


def test_a_mapped_file_that_is_cut_short_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """In a process of its own, which reading would end."""
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path / "a.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 4 and all("a.safetensors was cut short" in line for line in said), done.stdout


def test_a_mapped_file_may_grow_or_be_replaced(tmp_path: Path) -> None:
    write_run_file(small(), path := tmp_path / "a.safetensors")
    mapped = map_run_file(path)
    score = evaluation_json(evaluate(mapped))
    with path.open("ab") as file:
        file.write(b"more")
    assert evaluation_json(evaluate(mapped)) == score
    write_run_file(Run(np.zeros((1, 1), np.float32)), path)  # a smaller one, renamed to its place
    assert path.stat().st_size < len(mapped.logits.tobytes()) and evaluation_json(evaluate(mapped)) == score


def is_mapped(array: np.ndarray | None) -> bool:
    """Whether its memory is a file's."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, memoryview) and isinstance(array.obj, mmap.mmap)
