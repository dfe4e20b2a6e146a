"""Text and marks stand out as WCAG 2.2 asks (AA: text 4.5:1, marks 3:1), in both themes."""

import tomllib
from typing import Any

import pytest

from shifamind_core.figures.style import CANDIDATE, REFERENCE
from tests.support.server import ROOT

THEME = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]
CAPTION = 0.6  # Streamlit draws captions, icons and axes' numbers with this much of the text's colour
TEXT, MARK = 4.5, 3.0
Colour = tuple[float, float, float]


def rgb(colour: str) -> Colour:
    """Red, green and blue from 0 to 1."""
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return red, green, blue


def mixed(above: Colour, share: float, below: Colour) -> Colour:
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(above, below, strict=True))
    return red, green, blue


def luminance(colour: Colour) -> float:
    """Relative luminance, WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Colour, other: Colour) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def grounds(theme: dict[str, Any]) -> dict[str, Colour]:
    return {
        f"{place} {name}": rgb(colours[f"{name}Color"])
        for place, colours in (("page", theme), ("sidebar", theme["sidebar"]))
        for name in ("background", "secondaryBackground")
    }


def test_the_formula_gives_what_wcag_gives() -> None:
    assert contrast(rgb("#000000"), rgb("#ffffff")) == pytest.approx(21)
    assert contrast(rgb("#ffffff"), rgb("#149488")) == pytest.approx(3.73, abs=0.01)


@pytest.mark.parametrize("name", ["light", "dark"])
def test_text_links_and_captions_are_readable_on_every_ground(name: str) -> None:
    theme = THEME[name]
    text = rgb(theme["textColor"])
    for place, ground in grounds(theme).items():
        assert contrast(text, ground) >= 7, place
        assert contrast(mixed(text, CAPTION, ground), ground) >= TEXT, place
    for place in ("backgroundColor", "secondaryBackgroundColor"):
        assert contrast(rgb(theme["linkColor"]), rgb(theme[place])) >= TEXT


@pytest.mark.parametrize("name", ["light", "dark"])
def test_buttons_chips_and_choices_are_readable(name: str) -> None:
    primary, ground = rgb(THEME[name]["primaryColor"]), rgb(THEME[name]["backgroundColor"])
    assert contrast(primary, rgb("#ffffff")) >= TEXT, "Streamlit's text on it is white in both themes"
    assert contrast(primary, ground) >= MARK, "radio buttons and switches"
    tinted = mixed(
        primary, 0.2, ground
    )  # behind the choice that is taken, whose text site.css makes the page's
    assert contrast(rgb(THEME[name]["textColor"]), tinted) >= TEXT


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("colour", [CANDIDATE, REFERENCE])
def test_the_lines_of_both_runs_stand_out(name: str, colour: str) -> None:
    assert contrast(rgb(colour), rgb(THEME[name]["backgroundColor"])) >= MARK
