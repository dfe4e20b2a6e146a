"""Foreign text on a page: file names, code names, exception messages.

Streamlit reads Markdown nearly everywhere, and `![](http://…)` in a file's name would make the browser call
that host. So foreign text goes to `st.text`, `st.code` or `st.dataframe`, or through `safe_text` first.
"""

import re

# Everything Markdown, Streamlit's own directives (`:red[…]`, `:material/…:`), HTML, LaTeX or a bare link
# could begin with. Backslash-escaping of ASCII punctuation is CommonMark's own rule.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&\"'/=@^])")
# Addresses become links even when escaped; a word joiner, which nobody sees, prevents it.
_ADDRESS = re.compile(r"(?i)(https?|ftp|www|\\@)")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


def safe_text(value: object, longest: int = 500) -> str:
    r"""The text in one line, with everything that Markdown could act on escaped.

    >>> print(safe_text("![x](h/b.png)"))
    \!\[x\]\(h\/b\.png\)
    """
    line = _SPECIAL.sub(r"\\\1", plain_text(value, longest))
    return _ADDRESS.sub("\\1\u2060", line)


def plain_text(value: object, longest: int = 500) -> str:
    """The text in one line without control characters, for places that do not read Markdown.

    >>> plain_text("two\\nlines")
    'two lines'
    """
    line = _BREAKS.sub(" ", str(value)).strip()
    return line if len(line) <= longest else line[: longest - 1] + "…"
