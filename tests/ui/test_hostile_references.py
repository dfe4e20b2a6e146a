"""Files in `references/` that would hang or betray: every page stands, and says what it left alone."""

import os
import time

import pytest

from shifamind_core.artifacts import limited
from tests.support.dashboard import Dashboard


def shown(app: object) -> str:
    return repr(app)


def test_no_file_in_references_hangs_a_page_or_is_read_through_a_link(filled: Dashboard) -> None:
    references = filled.run_directory / "references"
    secret = filled.folder / "secret.csv"
    secret.write_text("patient Ypsilon,I10\n1,2\n")
    os.mkfifo(references / "a.csv")
    (references / "b.csv").symlink_to("/dev/zero")
    (references / "c.csv").symlink_to(secret)
    (references / "d.csv").symlink_to("missing.csv")
    began = time.monotonic()
    app = filled.open()
    assert time.monotonic() - began < 30
    assert not app.exception
    said = " ".join(one.value for one in (*app.warning, *app.error))
    for name in ("a.csv", "b.csv", "c.csv", "d.csv"):
        assert name.replace(".", "\\.") in said or name in said, said
    assert "Ypsilon" not in shown(app.main)
    assert any("cased" in one for one in app.selectbox(key="reference").options)


def test_what_was_refused_costs_its_time_once(filled: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    (filled.run_directory / "references" / "a.csv").write_text("A\nx\n")
    filled.open()

    def no_second_time(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(limited.SERVER, "start", no_second_time)
    app = filled.open("differences")
    assert not app.exception
