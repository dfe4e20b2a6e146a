"""Which replays are slow: on one architecture they run with all tests, on the other in `make bench`."""

import pytest

SLOW = ("dropout=on", "checkpoint=run_sibling", "max pooling")


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        asked = getattr(item, "callspec", None)
        if asked and asked.params.get("subject") == "concept_attention" and asked.params.get("name") in SLOW:
            item.add_marker("slow")
