"""Foreign text on a page stays text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.ui.text import plain_text, safe_text

HOSTILE = [
    "![x](http://example.org/b.png)",
    "[x](https://example.org)",
    "<img src=http://example.org/b.png>",
    "<https://example.org>",
    "https://example.org and www.example.org and me@example.org",
    ":red[alarm] :material/home: :streamlit:",
    "$\\href{http://example.org}{x}$",
    "# heading\n* list\n| a | b |\n`code`",
]


def rendered(text: str) -> str:
    """What CommonMark shows of escaped text: each backslash before punctuation is gone."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text).replace("\u2060", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_markdown_acts_on_is_left(text: str) -> None:
    safe = safe_text(text)
    assert not re.search(r"(?<!\\)(?:\\\\)*[!\[\]()<>`*_#|$:@~]", safe)
    assert not re.search(r"(?i)(https?\\?:|www\\?\.|@\w)", safe), "addresses become links even when escaped"


@given(st.text(max_size=200))
def test_a_person_reads_the_text_itself(text: str) -> None:
    assert rendered(safe_text(text)).replace("\u2060", "") == plain_text(text).replace("\u2060", "")
    assert "\n" not in safe_text(text)


def test_long_text_is_cut_before_it_is_escaped() -> None:
    assert safe_text("*" * 600, longest=10) == r"\*" * 9 + "…"
