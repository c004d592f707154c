"""The tests that verdicts rest on, against enumeration and against their own promise under a true null hypothesis."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.significance import Duel, holm, permutation_p_value, signed_rank_p_value


def test_the_difference_is_that_of_the_expected_bests() -> None:
    duel = Duel(np.array([1.0, 2.0, 4.0]), np.array([0.0, 3.0]), first_trials=2, second_trials=2, scale=2.0)
    first = np.mean([max(pair) for pair in itertools.combinations([1.0, 2.0, 4.0], 2)])
    assert duel.difference == pytest.approx((first - 3.0) / 2)


def test_the_p_value_is_the_share_of_relabellings_that_separate_as_well() -> None:
    first, second = np.array([5.0, 6.0, 7.0, 8.0]), np.array([1.0, 2.0, 3.0, 4.0])
    duel = Duel(first, second, first_trials=2, second_trials=2)
    pool = np.concatenate([first, second])
    better = 0
    splits = list(itertools.combinations(range(8), 4))
    for chosen in splits:
        rest = [place for place in range(8) if place not in chosen]
        better += Duel(pool[list(chosen)], pool[rest], 2, 2).difference >= duel.difference - 1e-9
    p_value = permutation_p_value([duel], np.random.default_rng(0), permutations=20_000)
    assert p_value == pytest.approx(2 * better / len(splits), abs=0.01)


def test_two_trials_a_side_can_never_be_told_apart() -> None:
    duel = Duel(np.array([9.0, 9.1]), np.array([0.0, 0.1]), 2, 2)
    assert permutation_p_value([duel], np.random.default_rng(0), permutations=2000) > 0.3


@pytest.mark.parametrize("sizes", [(1, 1), (1, 5)])
def test_single_trials_and_ties_give_a_p_value_of_one_or_less(sizes: tuple[int, int]) -> None:
    duel = Duel(np.full(sizes[0], 0.5), np.full(sizes[1], 0.5), 1, 1)
    assert permutation_p_value([duel], np.random.default_rng(0), permutations=100) == 1.0


@pytest.mark.parametrize(("first_trials", "second_trials"), [(8, 8), (8, 4), (2, 2)])
def test_equal_arms_are_called_different_no_more_often_than_the_level_says(
    first_trials: int, second_trials: int
) -> None:
    rng = np.random.default_rng(11)
    rejected = [
        permutation_p_value([Duel(rng.normal(size=8), rng.normal(size=8), first_trials, second_trials)], rng, 400)
        <= 0.05
        for _ in range(300)
    ]
    assert np.mean(rejected) <= 0.09


def test_an_arm_that_is_only_cheaper_is_no_winner() -> None:
    rng = np.random.default_rng(5)
    rejected = [
        permutation_p_value([Duel(rng.normal(size=16), rng.normal(size=16), 16, 2)], rng, 300) <= 0.05
        for _ in range(100)
    ]
    assert np.mean(rejected) <= 0.1


def test_the_order_of_the_arms_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=9), rng.normal(size=7) + 1
    there = permutation_p_value([Duel(first, second, 3, 4)], np.random.default_rng(0), 5000)
    back = permutation_p_value([Duel(second, first, 4, 3)], np.random.default_rng(0), 5000)
    assert there == pytest.approx(back, abs=0.04)


def test_signed_ranks_of_six_tasks_that_agree_have_the_exact_p_value() -> None:
    assert signed_rank_p_value([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 2**6)


def test_tasks_without_any_difference_tell_nothing() -> None:
    assert signed_rank_p_value([0.0] * 6) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_multiplies_the_kth_smallest_by_what_is_left_and_never_decreases(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    running = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, p_values[place] * (len(p_values) - rank)))
        assert adjusted[place] == pytest.approx(running)
