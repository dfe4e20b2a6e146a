"""Who waits is told what is done and how much of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.diagnosis.diagnose import diagnose
from shifamind_core.diagnosis.matchers import LOOKS_FOR, MATCHERS
from shifamind_core.progress import counted, doing, steps, watched
from shifamind_core.runs.blocks import code_by_code, over_blocks
from shifamind_core.runs.run import Run


class Seen(list):
    def __call__(self, words: str, share: float) -> None:
        self.append((words, share))


def test_a_step_is_done_as_far_as_what_is_within_it():
    seen = Seen()
    with watched(seen):
        for _ in steps(["notes", "codes"], str.upper):
            for _ in counted("abcd", 4):
                pass
    assert [share for _, share in seen] == pytest.approx(
        [0, 0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8]
    )
    assert [words for words, _ in seen] == ["NOTES"] * 5 + ["CODES"] * 5


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_loops_within_loops_never_go_back(lengths):
    seen = Seen()

    def loop(rest):
        for _ in counted(range(rest[0]), rest[0]) if rest else ():
            loop(rest[1:])

    with watched(seen), doing("all of it", 0.2, 0.9):
        loop(lengths)
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and shares[0] == 0.2 and shares[-1] < 0.9
    assert {words for words, _ in seen} == {"all of it"}


def test_what_is_left_early_or_fails_is_left():
    seen = Seen()
    with watched(seen):
        for _ in counted("ab", 2):
            break
        with pytest.raises(ValueError), doing("what fails", 0, 1):
            raise ValueError
        for _ in counted("ab", 2):
            pass
    assert [share for _, share in seen] == [0, 0, 0, 0.5]


def test_blocks_and_groups_of_codes_are_told_and_come_as_they_are():
    matrix = np.arange(3_000_000, dtype=np.float32).reshape(-1, 3)
    seen, plain = Seen(), [float(block) for block in over_blocks(lambda rows: matrix[rows].sum(), matrix)]
    with watched(seen):
        assert [float(block) for block in over_blocks(lambda rows: matrix[rows].sum(), matrix)] == plain
        assert sum(len(group) for (group,) in code_by_code(matrix)) == 3
    assert len(seen) == len(plain) + 1


def test_a_diagnosis_says_what_it_looks_for_and_the_same_as_unwatched():
    random = np.random.default_rng(0)
    logits = random.normal(-1, 2, (60, 5)).astype(np.float32)
    pair = Run(logits), Run(logits + random.normal(0, 0.3, logits.shape).astype(np.float32))
    seen = Seen()
    with watched(seen):
        watched_diagnosis = diagnose(*pair).to_json()
    assert watched_diagnosis == diagnose(*pair).to_json()
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and shares[-1] < 1
    assert {LOOKS_FOR[match] for match in MATCHERS} <= {words for words, _ in seen}
