"""The documents say what the program does: every policy, cause, intervention, command and page; every command runs."""

import re
from pathlib import Path

import pytest

from shifamind_core.cli import parser
from shifamind_core.diagnosis.causes import CAUSES, into
from shifamind_core.precision.policy import POLICIES
from shifamind_core.ui.site.navigation import PAGES

PROJECT = Path(__file__).resolve().parents[1]
DOCS = {path.name: path.read_text() for path in (PROJECT / "docs").glob("*.md")}
README = (PROJECT / "README.md").read_text()


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_documented(name):
    assert f"`{name}`" in DOCS["precision.md"]


def test_the_causes_in_the_document_are_those_of_the_records():
    assert into(DOCS["diagnosis.md"]) == DOCS["diagnosis.md"]
    for cause in CAUSES:
        assert f"### `{cause}`" in DOCS["diagnosis.md"]


def test_every_link_in_the_documents_leads_to_a_file():
    for name, text in {"README.md": README, **{f"docs/{n}": t for n, t in DOCS.items()}}.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert ((PROJECT / name).parent / target).exists(), f"{name} links to {target}"


def test_every_command_is_in_the_readme():
    (subcommands,) = [action.choices for action in parser()._actions if action.choices]
    for name in subcommands:
        assert f"shifamind_core {name}" in README


def test_every_page_is_in_the_readme_with_its_question():
    rows = re.findall(r"^\| ([A-Z][a-z ]+) \| (.+) \|$", README, re.MULTILINE)
    assert rows == [(entry.title, entry.question) for entry in PAGES]
    assert len({entry.question for entry in PAGES}) == len(PAGES)
