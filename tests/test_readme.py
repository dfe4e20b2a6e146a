"""The commands of the README, run as they stand there and in their order."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from shifamind_core.cli import main
from tests.support.server import ROOT

COMMANDS = re.findall(
    r"^    python -m shifamind_core (.+)$", (ROOT / "README.md").read_text(), flags=re.MULTILINE
)
NOTES = 12  # of each split, where the demo is cut short
STAYS = "serve"  # and never ends by itself: tests/test_serve.py
# Of 40 changes tried singly and together, in the shortened run: the two that the demo's gap is about.
SHORTER = {"replay": ["--only", "lowercase=true", "--only", "lowercase=false"]}


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_command_of_the_readme_runs_in_its_order(
    whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIFAMIND_CACHE", str(tmp_path / "cache"))
    assert len(COMMANDS) >= 15
    for line in COMMANDS:
        name, *words = shlex.split(line)
        if name == STAYS:
            continue
        status = main([name, *words, *([] if whole else SHORTER.get(name, []))])
        said = capsys.readouterr()
        assert status == 0, f"{line}: {said.err}"
        assert said.out.strip(), line
        if name == "demo" and not whole:
            shorten(tmp_path / words[0])
        if name == "replay":
            assert "lowercase=false" in said.out, "what the demo's gap comes from"


def shorten(run_directory: Path) -> None:
    """Keep the first notes of every split."""
    for path in (run_directory / "shared_data").glob("*_split.pkl"):
        pd.read_pickle(path).head(NOTES).to_pickle(path)
