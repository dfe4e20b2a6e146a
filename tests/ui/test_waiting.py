"""A page that waits says so, and gives what was made or what went wrong."""

import time

from streamlit.testing.v1 import AppTest

from shifamind_core.ui.session import waiting


def slow_page() -> None:
    import time

    import streamlit as st

    from shifamind_core.errors import ShifamindError
    from shifamind_core.progress import counted
    from shifamind_core.ui.session.waiting import waited

    def work() -> int:
        total = 0
        for part in counted(range(3), 3):
            time.sleep(0.3)
            total += part
        return total

    def fail() -> None:
        raise ShifamindError("No labels.")

    st.write(f"made {waited('Adding', work)}")
    try:
        waited("Failing", fail)
    except ShifamindError as error:
        st.write(str(error))


def test_a_page_waits_for_what_is_made_and_its_bar_goes_away() -> None:
    app = AppTest.from_function(slow_page, default_timeout=20).run()
    assert not app.exception
    assert [one.value for one in app.markdown] == ["made 3", "No labels."]


def test_the_line_says_what_how_much_and_since_when(monkeypatch) -> None:
    lines: list[tuple[float, str]] = []

    class Line:
        def progress(self, share: float, text: str) -> None:
            lines.append((share, text))

        def empty(self) -> None:
            lines.append((-1, "gone"))

    def work() -> str:
        from shifamind_core.progress import steps

        done = []
        for part in steps(["notes", "codes"], str):
            time.sleep(0.5)
            done.append(part)
        return done[-1]

    monkeypatch.setattr(waiting.st, "empty", Line)
    assert waiting.waited("Looking", work) == "codes"
    assert lines[0] == (0, "Looking: notes · 0 % · 0 s") and lines[-1] == (-1, "gone")
    assert any(text.startswith("Looking: codes · 50 %") for _, text in lines)
