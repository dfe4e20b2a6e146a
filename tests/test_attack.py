"""A short attack on every reader: `python -m benchmarks.attack` is the long one."""

import itertools
from pathlib import Path

import pytest

from shifamind_core.errors import ShifamindError
from simulation.attack import inputs, targets

UNFORESEEN = ("did not expect", "another form", "died")


@pytest.mark.parametrize("name", targets())
def test_what_is_mutated_is_valid_before(name: str, tmp_path: Path) -> None:
    target = targets()[name]
    assert target.read(target.place(tmp_path, target.content)) is not None


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(seed: int, tmp_path: Path) -> None:
    for name, target, content in itertools.islice(inputs(1000 + seed), 5 * len(targets())):
        path = target.place(tmp_path / name, content)
        try:
            target.read(path)
        except ShifamindError as error:
            said = str(error)
            assert "\n" not in said and len(said) < 800, said
            assert not any(word in said for word in UNFORESEEN), (name, said, content)
