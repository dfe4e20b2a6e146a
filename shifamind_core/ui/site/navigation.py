"""The pages: one question each, in the order in which a person asks them."""

from dataclasses import dataclass
from pathlib import Path

from shifamind_core.settings import PROJECT

PAGES_FOLDER = PROJECT / "pages"


@dataclass(frozen=True)
class PageEntry:
    """A page in the menu; `question` is its tooltip."""

    name: str
    title: str
    icon: str
    section: str
    question: str

    @property
    def path(self) -> Path:
        return PAGES_FOLDER / f"{self.name}.py"


PAGES = (
    PageEntry("overview", "Overview", ":material/home:", "Run", "What is loaded, and how large is the gap?"),
    PageEntry(
        "case",
        "The case",
        ":material/balance:",
        "Run",
        "One checkpoint, three GPUs, three scores: what is known?",
    ),
    PageEntry(
        "inference",
        "Inference",
        ":material/play_circle:",
        "Run",
        "Run the checkpoint under a chosen precision.",
    ),
    PageEntry(
        "storage",
        "Storage",
        ":material/database:",
        "Run",
        "What is kept here, and how much room does it take?",
    ),
    PageEntry(
        "thresholds",
        "Thresholds",
        ":material/tune:",
        "Compare",
        "How does F1 depend on the decision threshold?",
    ),
    PageEntry("codes", "Codes", ":material/format_list_numbered:", "Compare", "Which codes carry the gap?"),
    PageEntry(
        "differences",
        "Differences",
        ":material/difference:",
        "Compare",
        "How do the logits of two runs differ?",
    ),
    PageEntry("concepts", "Concepts", ":material/category:", "Compare", "Is the gap there before the codes?"),
    PageEntry("layers", "Layers", ":material/layers:", "Explain", "At which layer do two precisions part?"),
    PageEntry(
        "portability",
        "Portability",
        ":material/public:",
        "Explain",
        "Would another machine decide alike?",
    ),
    PageEntry("diagnosis", "Diagnosis", ":material/search_insights:", "Explain", "What caused the gap?"),
    PageEntry("report", "Report", ":material/download:", "Explain", "Everything in one page, or as CSV."),
)


def page_path(name: str) -> str:
    """The file of that page, as `st.page_link` and `st.switch_page` take it."""
    (entry,) = (entry for entry in PAGES if entry.name == name)
    return str(entry.path)


def present_pages() -> list[PageEntry]:
    """The pages whose files exist."""
    return [entry for entry in PAGES if entry.path.is_file()]
