import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.analysis.neighbours import LEVEL, neighbours
from shifamind_core.analysis.row_matching import (
    constant_rows,
    equal_rows,
    match_repeated,
    match_rows,
    mostly_in_place,
    row_keys,
)
from simulation import planted

NOTES = planted.synthetic_run(600, seed=3).logits.astype(np.float64)
OTHERS = planted.synthetic_run(600, seed=3, notes=1).logits.astype(np.float64)


def noisy(matrix, size, seed=0):
    return matrix + size * matrix.std(axis=0) * np.random.default_rng(seed).standard_normal(matrix.shape)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12), st.lists(st.integers(0, 4), min_size=1, max_size=12)
)
def test_repeated_values_are_matched_kth_to_kth(first, second):
    rows, partners = match_repeated(np.array(first), np.array(second))
    expected = []
    for position, value in enumerate(first):
        places = [i for i, other in enumerate(second) if other == value]
        k = first[:position].count(value)
        if k < len(places):
            expected.append((position, places[k]))
    assert list(zip(rows.tolist(), partners.tolist(), strict=True)) == expected


@given(rows=st.permutations(range(60)), noise=st.sampled_from([0.0, 1e-3, 0.05]))
def test_every_row_is_found_again(rows, noise):
    match = match_rows(noisy(NOTES[:60], noise)[rows], NOTES[:60], in_order=True)
    assert match.partner.tolist() == list(rows)
    assert match.exact == (noise == 0 or rows == sorted(rows))


@given(kept=st.sets(st.integers(0, 59), min_size=30), noise=st.sampled_from([0.0, 1e-3]))
def test_rows_left_out_and_repeated_are_placed(kept, noise):
    rows = np.array(sorted(kept))
    padded = np.append(rows, rows[:5])
    match = match_rows(noisy(NOTES[:60], noise)[padded], NOTES[:60], in_order=False)
    assert match.target.tolist() == rows.tolist()
    assert match.repeats[0][len(rows) :].tolist() == [0, 1, 2, 3, 4]
    assert match.absent[0].tolist() == []
    assert match.absent[1].tolist() == sorted(set(range(60)) - kept)
    turned = match_rows(NOTES[:60], noisy(NOTES[:60], noise)[padded], in_order=False)
    assert (turned.repeats[1] >= 0).sum() == 5


@pytest.mark.parametrize("seed", range(5))
def test_strangers_are_not_found(seed):
    others = planted.synthetic_run(600, seed=3, notes=1 + seed).logits.astype(np.float64)
    assert neighbours(others, NOTES).found.mean() <= LEVEL
    assert not match_rows(others[:-3], NOTES, in_order=False).target.size
    stay = match_rows(others, NOTES, in_order=True)
    assert not stay.moved.any()


def test_the_chance_of_a_stranger_is_what_it_says():
    """Uniform for unrelated rows: so many below each level as the level says, within a factor of two."""
    chance = np.concatenate(
        [
            neighbours(planted.synthetic_run(600, seed=3, notes=seed).logits, NOTES).chance
            for seed in range(1, 9)
        ]
    )
    for level in (0.5, 0.2, 0.05):
        assert level / 2 < (chance <= level).mean() < level * 2


def test_noise_hides_no_block_that_moved():
    rows = planted.shifted(600, 300, 7)
    match = match_rows(noisy(NOTES, 0.9)[rows], NOTES, in_order=True)
    right = match.partner == rows
    assert right[300:590].mean() > 0.95


@pytest.mark.parametrize("size", [0.1, 0.5, 1.5])
def test_noise_alone_moves_no_row(size):
    assert not match_rows(noisy(NOTES, size), NOTES, in_order=True).moved.any()


def test_rows_on_one_side_of_many_planes_are_as_right_as_all_compared():
    many = planted.synthetic_run(3000, seed=3).logits.astype(np.float64)
    rows = np.random.default_rng(0).permutation(3000)
    assert np.array_equal(neighbours(noisy(many, 1e-3)[rows], many).nearest, rows)


def test_a_fill_is_no_note_but_a_run_without_scores_is_no_fill():
    filled = np.vstack([NOTES[:5], np.full((2, 50), -100.0)])
    assert constant_rows(filled).tolist() == [False] * 5 + [True] * 2
    assert not constant_rows(np.zeros((4, 3))).any()
    assert match_rows(filled, NOTES[:5], in_order=False).absent[0].tolist() == [5, 6]


def test_equal_rows_say_nothing_where_most_rows_are_alike():
    coarse = np.array([[1.0], [1.0], [1.0], [2.0]])
    assert equal_rows(coarse, coarse[::-1]).tolist() == [-1] * 4


def test_keys_meet_for_equal_rows_and_for_rows_in_another_order_of_columns():
    columns = np.random.default_rng(0).permutation(50)
    assert np.array_equal(row_keys(NOTES, ordered=False), row_keys(NOTES[:, columns], ordered=False))
    assert not np.intersect1d(row_keys(NOTES), row_keys(NOTES[:, columns])).size
    assert np.array_equal(row_keys(np.array([[0.0]])), row_keys(np.array([[-0.0]])))


def test_most_rows_lie_nearest_to_themselves_unless_they_are_others():
    assert mostly_in_place(noisy(NOTES, 0.5), NOTES)
    assert not mostly_in_place(OTHERS, NOTES)


def test_a_note_that_stands_twice_in_both_runs_repeats_nothing():
    twice = np.append(np.arange(100), [3, 4])
    rows = np.random.default_rng(0).permutation(102)
    match = match_rows(noisy(NOTES, 1e-3)[twice[rows]], NOTES[twice], in_order=False)
    assert np.array_equal(twice[match.partner], twice[rows])
    assert not [found for found in match.repeats if (found >= 0).any()]


@pytest.mark.parametrize("seed", range(3))
def test_of_copies_under_rounding_the_first_is_the_original(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = np.r_[0 : len(NOTES), 0:7]
    copied = NOTES[rows] + 1e-6 * random.standard_normal((len(rows), NOTES.shape[1]))
    found = match_rows(copied, NOTES, in_order=False)
    assert (found.partner[: len(NOTES)] == np.arange(len(NOTES))).all()
    assert (found.partner[len(NOTES) :] == -1).all()
    assert found.repeats[0][len(NOTES) :].tolist() == list(range(7))
