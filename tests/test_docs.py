"""The documents say what the program does: every policy, cause, intervention, command and page; every command runs."""

import re
from pathlib import Path
from typing import get_args

import pytest

from shifamind_core.cli import parser
from shifamind_core.diagnosis.findings import Cause
from shifamind_core.precision.policy import POLICIES
from shifamind_core.ui.site.navigation import PAGES
from simulation.planted import TWINS

PROJECT = Path(__file__).resolve().parents[1]
DOCS = {path.name: path.read_text() for path in (PROJECT / "docs").glob("*.md")}
README = (PROJECT / "README.md").read_text()


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_documented(name):
    assert f"`{name}`" in DOCS["precision.md"]


@pytest.mark.parametrize("cause", get_args(Cause))
def test_every_cause_has_a_section_with_what_a_person_needs(cause):
    (section,) = re.findall(
        rf"^### `{cause}`\n(.*?)(?=^##|\Z)", DOCS["diagnosis.md"], re.MULTILINE | re.DOTALL
    )
    parts = re.findall(r"^- \*\*(.+?)\.\*\* \S", section, re.MULTILINE)
    assert parts == ["Signature", "Evidence", "Confirm", "Confused with"]


def test_the_planted_faults_are_in_the_document():
    text = DOCS["diagnosis.md"]
    assert re.search(
        r"<!-- planted faults: begin -->\n\| known .+<!-- planted faults: end -->", text, re.DOTALL
    )
    for pair in TWINS:
        assert re.search(
            rf"^- {' and '.join(f'`{cause}`' for cause in sorted(pair))}", text, re.MULTILINE
        ) or re.search(
            rf"^- {' and '.join(f'`{cause}`' for cause in sorted(pair, reverse=True))}", text, re.MULTILINE
        )


def test_every_link_in_the_documents_leads_to_a_file():
    for name, text in {"README.md": README, **{f"docs/{n}": t for n, t in DOCS.items()}}.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert ((PROJECT / name).parent / target).exists(), f"{name} links to {target}"


def test_every_command_of_the_readme_parses():
    commands = re.findall(r"^    python -m shifamind_core (.+)$", README, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        parser().parse_args(command.split())


def test_every_command_is_in_the_readme():
    (subcommands,) = [action.choices for action in parser()._actions if action.choices]
    for name in subcommands:
        assert f"shifamind_core {name}" in README


def test_every_page_is_in_the_readme_with_its_question():
    rows = re.findall(r"^\| ([A-Z][a-z]+) \| (.+) \|$", README, re.MULTILINE)
    assert rows == [(entry.title, entry.question) for entry in PAGES]
    assert len({entry.question for entry in PAGES}) == len(PAGES)
