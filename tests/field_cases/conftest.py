"""The commands as a person calls them, in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shifamind_core.cli import main
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import write_run_file

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def one_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIFAMIND_CACHE", str(tmp_path_factory.getbasetemp() / "field-cases"))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """A command's JSON document, or its one line."""

    def run(*arguments: object) -> Any:
        status = main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        if status:
            *before, line = err.splitlines()
            assert status == 2 and out == "" and line.startswith("error: "), err
            assert not any("error" in said or "Traceback" in said for said in before), err
            return line
        assert out.count("\n") == 1
        return json.loads(out)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Run], Path]:
    """Writes a run file and gives its path."""

    def written(name: str, run: Run) -> Path:
        path = tmp_path / f"{name}.safetensors"
        write_run_file(run, path)
        return path

    return written
