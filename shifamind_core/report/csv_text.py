"""A table as CSV that a spreadsheet cannot be made to execute and that reads back to the last bit."""

import csv
import io

import pandas as pd

# What Excel, LibreOffice and Google Sheets may take for the beginning of a formula (OWASP ASVS 5.0, 1.2.10;
# CWE-1236), the full-width forms of it included.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV, without its index.

    Floats are written as their shortest exact form (`repr`), so that every value reads back to the last bit
    (in pandas before 3.1 with ``float_precision="round_trip"``); what is not known is empty.
    Strings and headers that a spreadsheet would read as a formula get a leading apostrophe; numbers never do.

    >>> csv_text(pd.DataFrame({"run": ["=1+1"], "gap": [-0.1]})).splitlines()
    ['run,gap', "'=1+1,-0.1"]
    """
    text = io.StringIO(newline="")
    # Lines end in CR LF as RFC 4180 has it; only then does the writer also quote a cell that holds a CR, which
    # would otherwise begin a new row, and a formula in it.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_harmless(str(name)) for name in table.columns])
    writer.writerows(
        [_cell(value) for value in row] for row in table.astype(object).itertuples(index=False, name=None)
    )
    return text.getvalue()


def _cell(value: object) -> object:
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    return _harmless(value) if isinstance(value, str) else value


def _harmless(text: str) -> str:
    """The text, quoted with an apostrophe where its first visible character could begin a formula."""
    return "'" + text if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text
