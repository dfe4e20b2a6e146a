"""Notes written otherwise on their way into another pipeline: line ends, Unicode forms, marks of what was taken out.

Whether that changes a token depends on the tokenizer and on the notes. Where it does not, only document ids differ.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

MARK = re.compile(r"\[\*\*.*?\*\*\]|_{3,}", re.DOTALL)
"""What stands for a name or a date taken out: `[**2101-3-4**]` in MIMIC-III, `___` in MIMIC-IV."""


@dataclass(frozen=True)
class Rewriting:
    """One way to write a text otherwise.

    Attributes
    ----------
    name : str
        After ``text=`` in an intervention's name.
    words : str
        How the text then stands there, for people: "the texts here …".
    culprit : str
        What writes it so, for people.
    apply : callable
        The text, written otherwise.
    """

    name: str
    words: str
    culprit: str
    apply: Callable[[str], str]


def _lines(text: str, end: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", end)


def _marked(mark: str) -> Callable[[str], str]:
    return lambda text: MARK.sub(mark, text)


def _normalised(form: str) -> Rewriting:
    return Rewriting(
        form.lower(),
        f"in Unicode's form {form}",
        f"a script that calls unicodedata.normalize('{form}', text)",
        lambda text: unicodedata.normalize(form, text),  # type: ignore[arg-type]
    )


WINDOWS = "a file written or read in text mode on another system"
SPACES = "a script that tidies white space"
BY_LINE = "a file of one line a note, or a script that replaces line ends"
MARKS = "a script that replaces the marks of what was taken out of the notes"
# Unicode's quotation marks and primes, hyphens, dashes and minus, and the ellipsis, as a keyboard has them.
PLAIN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′", "'"),
        **dict.fromkeys("“”„‟″", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        "…": "...",
    }
)
READ_WRONG = "a UTF-8 file read in another encoding"
REWRITINGS = (
    Rewriting("crlf", "with CRLF line ends", WINDOWS, lambda text: _lines(text, "\r\n")),
    Rewriting("lf", "with LF line ends", WINDOWS, lambda text: _lines(text, "\n")),
    Rewriting("line_ends_as_spaces", "with spaces for line ends", BY_LINE, lambda text: _lines(text, " ")),
    Rewriting("line_ends_deleted", "without line ends", BY_LINE, lambda text: _lines(text, "")),
    Rewriting("line_ends_escaped", "with \\n for line ends", BY_LINE, lambda text: _lines(text, "\\n")),
    Rewriting("stripped", "without space at either end", SPACES, str.strip),
    Rewriting("single_spaces", "with single spaces", SPACES, lambda text: " ".join(text.split())),
    Rewriting("final_line_end", "with a line end more", SPACES, lambda text: text + "\n"),
    *map(_normalised, ("NFC", "NFD", "NFKC", "NFKD")),
    Rewriting(
        "ascii",
        "without what is not ASCII",
        "a script that encodes to ASCII and ignores the rest",
        lambda text: text.encode("ascii", "ignore").decode(),
    ),
    Rewriting(
        "plain_punctuation",
        "with straight quotes, hyphens for dashes, and three dots for an ellipsis",
        "a script that replaces typographic punctuation by what a keyboard has",
        lambda text: text.translate(PLAIN),
    ),
    Rewriting("latin1", "as UTF-8 read as Latin-1", READ_WRONG, lambda text: text.encode().decode("latin-1")),
    Rewriting(
        "cp1252",
        "as UTF-8 read as Windows-1252",
        READ_WRONG,
        lambda text: text.encode().decode("cp1252", "replace"),
    ),
    Rewriting("marks_removed", "without ___ and [** **]", MARKS, _marked("")),
    Rewriting("marks_as_spaces", "with spaces for ___ and [** **]", MARKS, _marked(" ")),
    Rewriting("marks_as_underscores", "with ___ for [** **]", MARKS, _marked("___")),
    Rewriting("marks_as_brackets", "with [** **] for ___", MARKS, _marked("[** **]")),
)
