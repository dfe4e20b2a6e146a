"""How well something is shown, as a badge: a word and an icon, never the colour alone."""

from collections.abc import Mapping
from typing import Any

from shifamind_core.diagnosis.answer import Shown
from shifamind_core.diagnosis.findings import Status
from shifamind_core.diagnosis.hypotheses import Verdict
from shifamind_core.html_report.story import SHOWN_WORDS, STATUS_WORDS, VERDICT_WORDS
from shifamind_core.ui.text import safe_text

# Icon and colour of the badge beside the word: never the colour alone.
_STATUS: Mapping[Status | Verdict, tuple[str, str]] = {
    "confirmed": (":material/verified:", "green"),
    "likely": (":material/trending_up:", "blue"),
    "possible": (":material/help:", "orange"),
    "unlikely": (":material/trending_down:", "gray"),
    "ruled_out": (":material/block:", "gray"),
}
_VERDICTS: Mapping[str, tuple[str, str]] = {
    "identical": (":material/drag_handle:", "green"),
    "numerics": (":material/calculate:", "green"),
    "confirmed": (":material/verified:", "green"),
    "likely": (":material/trending_up:", "blue"),
    "unexplained": (":material/help:", "orange"),
    "ranked": (":material/format_list_numbered:", "blue"),
}
_SHOWN: Mapping[Shown, tuple[str, str]] = {
    "confirmed": (":material/verified:", "green"),
    "likely": (":material/trending_up:", "blue"),
    "possible": (":material/help:", "orange"),
    "open": (":material/help:", "gray"),
}


def status_badge(status: Status | Verdict) -> str:
    """The status as Markdown: icon, word, colour.

    >>> status_badge("ruled_out")
    ':gray-badge[:material/block: Ruled out]'
    """
    icon, colour = _STATUS[status]
    return f":{colour}-badge[{icon} {STATUS_WORDS[status]}]"


def verdict_badge(result: dict[str, Any]) -> str:
    """The replay's verdict as Markdown: icon, word, colour."""
    verdict = str(result.get("verdict"))
    icon, colour = _VERDICTS.get(verdict, (":material/help:", "gray"))
    return f":{colour}-badge[{icon} {VERDICT_WORDS.get(verdict, safe_text(verdict))}]"


def shown_badge(shown: Shown) -> str:
    """How well an answer is shown, as Markdown.

    >>> shown_badge("likely")
    ':blue-badge[:material/trending_up: Likely]'
    """
    icon, colour = _SHOWN[shown]
    return f":{colour}-badge[{icon} {SHOWN_WORDS[shown]}]"
