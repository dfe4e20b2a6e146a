"""Choices that several pages offer in the same words."""

from typing import Any

CASINGS = {"auto": "Library's default", "true": "Lower-cased", "false": "Cased"}
KEEP: Any = {
    "persist_state": "session"
}  # what was chosen is there again when the person comes back to the page
KEEP_IN_ADDRESS: Any = KEEP | {
    "bind": "query-params"
}  # and when the page is loaded anew, or its address is shared
