"""Texts that are no notes are counted, and no note's words are shown."""

import pytest

from shifamind_core.artifacts.odd_texts import about_texts

NOTES = ["Chest pain.", "nan was seen in the chart", "None of the above", "NA 140, K 4.2", "a" * 5000, "n"]


@pytest.mark.parametrize("word", ["nan", "NaN", " nan\n", "None", "null", "<NA>", "N/A"])
def test_a_word_for_a_missing_text_is_counted_and_shown(word: str) -> None:
    (said,) = about_texts([*NOTES, word, "more", word])
    assert f"{word.strip()!r} and nothing else: 2 of 9, the first is number 7" in said


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\n", " " * 10_000])
def test_empty_notes_are_counted(text: str) -> None:
    (said,) = about_texts([text, *NOTES])
    assert said.startswith("Notes without a text: 1 of 7, the first is number 1;")


def test_sound_notes_need_no_word() -> None:
    assert about_texts(NOTES) == []
