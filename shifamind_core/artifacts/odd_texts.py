"""Texts that are no notes: empty, or a word that stands for a missing one."""

from collections import Counter
from collections.abc import Sequence

# What pandas, NumPy, SQL and spreadsheets write where a text is missing and str() or a CSV file comes between.
MISSING = frozenset(("nan", "none", "null", "na", "n/a", "<na>", "#n/a", "nat", "missing", "undefined"))
LONGEST = 50  # characters, white space around the word counted


def about_texts(texts: Sequence[str]) -> list[str]:
    """A sentence on notes without a text, one on those that say that a text is missing; no note is shown."""
    words = [text.strip() if len(text) <= LONGEST or text.isspace() else None for text in texts]
    empty = [row for row, word in enumerate(words) if word == ""]
    missing = [row for row, word in enumerate(words) if word and word.lower() in MISSING]
    said = []
    if empty:
        said.append(f"Notes without a text: {_counted(empty, texts)}; what is scored there is an empty note.")
    if missing:
        shown = ", ".join(repr(word) for word, _ in Counter(words[row] for row in missing).most_common(3))
        said.append(
            f"Notes that say {shown} and nothing else: {_counted(missing, texts)}; a missing text was turned into a word, and "
            "that word is scored."
        )
    return said


def _counted(rows: Sequence[int], texts: Sequence[str]) -> str:
    return f"{len(rows):,} of {len(texts):,}, the first is number {rows[0] + 1:,}"
