"""How well something is shown, as a badge: a word and an icon, never the colour alone."""

from collections.abc import Mapping
from typing import Any

from shifamind_core.diagnosis.answer import Shown
from shifamind_core.diagnosis.findings import Status
from shifamind_core.diagnosis.hypotheses import Verdict
from shifamind_core.ui.text import safe_text

# Word, icon, colour of the badge: never the colour alone.
STATUS: dict[Status | Verdict, tuple[str, str, str]] = {
    "confirmed": ("Confirmed", ":material/verified:", "green"),
    "likely": ("Likely", ":material/trending_up:", "blue"),
    "possible": ("Possible", ":material/help:", "orange"),
    "unlikely": ("Unlikely", ":material/trending_down:", "gray"),
    "ruled_out": ("Ruled out", ":material/block:", "gray"),
}


VERDICTS = {
    "identical": ("green", ":material/drag_handle:", "Identical"),
    "numerics": ("green", ":material/calculate:", "Numerics"),
    "confirmed": ("green", ":material/verified:", "Reproduced"),
    "likely": ("blue", ":material/trending_up:", "Likely"),
    "unexplained": ("orange", ":material/help:", "Unexplained"),
    "ranked": ("blue", ":material/format_list_numbered:", "Nearest to the reported scores"),
}


# Word, icon, colour of the badge beside the sentence.
BADGES: Mapping[Shown, tuple[str, str, str]] = {
    "confirmed": ("Shown", ":material/verified:", "green"),
    "likely": ("Likely", ":material/trending_up:", "blue"),
    "possible": ("Possible", ":material/help:", "orange"),
    "open": ("Open", ":material/help:", "gray"),
}


def status_badge(status: Status | Verdict) -> str:
    """The status as Markdown: icon, word, colour.

    >>> status_badge("ruled_out")
    ':gray-badge[:material/block: Ruled out]'
    """
    word, icon, colour = STATUS[status]
    return f":{colour}-badge[{icon} {word}]"


def verdict_badge(result: dict[str, Any]) -> str:
    """The replay's verdict as Markdown: icon, word, colour."""
    colour, icon, word = VERDICTS.get(
        str(result.get("verdict")), ("gray", ":material/help:", safe_text(result.get("verdict")))
    )
    return f":{colour}-badge[{icon} {word}]"


def shown_badge(shown: Shown) -> str:
    """How well an answer is shown, as Markdown.

    >>> shown_badge("likely")
    ':blue-badge[:material/trending_up: Likely]'
    """
    word, icon, colour = BADGES[shown]
    return f":{colour}-badge[{icon} {word}]"
