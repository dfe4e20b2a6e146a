"""Names, notes and tags of runs are kept whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from shifamind_core.errors import ShifamindError
from shifamind_core.runs.labels import FILE, RunLabel, label_key, read_labels, say
from shifamind_core.runs.manifest import Manifest


def test_what_is_said_is_kept_and_what_is_emptied_is_gone(tmp_path: Path) -> None:
    assert read_labels(tmp_path) == {}
    say(tmp_path, ["one"], name="the A100", tags=("A100", "test"))
    say(tmp_path, ["one", "other"], archived=True)
    assert read_labels(tmp_path) == {
        "one": RunLabel("the A100", tags=("A100", "test"), archived=True),
        "other": RunLabel(archived=True),
    }
    say(tmp_path, ["other"], archived=False)
    assert set(read_labels(tmp_path)) == {"one"}


def test_two_who_write_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: say(tmp_path, [f"run {number}"], note="kept"), range(24)))
    assert len(read_labels(tmp_path)) == 24


@pytest.mark.parametrize("content", ["{", "[]", '{"runs": []}', '{"runs": {"a": {"name": 3}}}', "\udcff"])
def test_a_damaged_file_is_one_line_and_is_not_written_over(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, errors="surrogateescape")
    for act in (lambda: read_labels(tmp_path), lambda: say(tmp_path, ["a"], name="x")):
        with pytest.raises(ShifamindError, match="damaged"):
            act()
    assert (tmp_path / FILE).read_text(errors="surrogateescape") == content


def test_what_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShifamindError, match="61 characters; at most 60"):
        say(tmp_path, ["a"], name="x" * 61)
    with pytest.raises(ShifamindError, match="9 tags"):
        say(tmp_path, ["a"], tags=tuple("abcdefghi"))


def test_a_label_holds_for_a_run_computed_again_and_not_for_another_with_the_same_logits() -> None:
    run = Manifest(cache_key="k", created_at_utc="2026-01-01")
    assert label_key("d", run) == label_key("d", replace(run, created_at_utc="2026-02-02"))
    assert label_key("d", run) != label_key("d", replace(run, cache_key="other"))
