"""A short attack on every reader: `python -m benchmarks.attack` is the long one."""

import itertools
from pathlib import Path

import pytest

from shifamind_core.errors import ShifamindError
from simulation.attack import inputs, targets

UNFORESEEN = ("an answer of another form", "died halfway", "did not expect")


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
            if "its reader died" not in said:  # a library that fell takes its child with it, and nothing else
                assert not any(word in said for word in UNFORESEEN), (name, said, content)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "classifier's config", "json", "ladder"]
)
def test_json_that_is_nested_without_end_is_one_line(name: str, tmp_path: Path) -> None:
    target = targets()[name]
    for content in (b"[" * 100_000, target.content.replace(b":", b": " + b"[" * 5_000, 1)):
        with pytest.raises(ShifamindError):
            target.read(target.place(tmp_path, content))
