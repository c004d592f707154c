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


def dealt_out(duel: Duel) -> list[float]:
    """Return the difference for every way to deal the scores of a task out to its arms."""
    pool = np.concatenate([duel.first, duel.second])
    size, found = len(duel.first), []
    for chosen in itertools.combinations(range(len(pool)), size):
        rest = [place for place in range(len(pool)) if place not in chosen]
        best = [
            np.mean([max(subset) for subset in itertools.combinations(pool[list(places)], trials)])
            for places, trials in ((chosen, duel.first_trials), (rest, duel.second_trials))
        ]
        found.append(float(best[0] - best[1]) / duel.scale)
    return found


@pytest.mark.parametrize("first_trials", [1, 3])
def test_over_two_tasks_the_p_value_is_that_of_all_deals_with_the_head_start_moved_out(first_trials: int) -> None:
    """The first arm buys less or more than the second: where all deals favour the loser on average, they are moved."""
    rng = np.random.default_rng(1)
    duels = [
        Duel(rng.normal(size=4) + 0.8, rng.normal(size=3), first_trials, 2, scale=2.0),
        Duel(rng.normal(size=3) + 0.8, rng.normal(size=4), first_trials, 2, scale=0.5),
    ]
    null = np.array([(one + two) / 2 for one, two in itertools.product(*map(dealt_out, duels))])
    observed = np.mean([duel.difference for duel in duels])
    turned = null if observed >= 0 else -null
    moved = turned - min(turned.mean(), 0)
    expected = min(1.0, 2 * (moved >= abs(observed) - 1e-12).mean())
    assert permutation_p_value(duels, np.random.default_rng(0), 20_000) == pytest.approx(expected, abs=0.015)


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


@given(st.lists(st.integers(-30, 30).filter(bool), min_size=6, max_size=8, unique_by=abs))
def test_signed_ranks_have_the_p_value_of_all_assignments_of_signs(values: list[int]) -> None:
    ranks = [sorted(map(abs, values)).index(abs(value)) + 1 for value in values]
    centre = sum(ranks) / 2
    observed = abs(sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0) - centre)
    sums = [
        sum(rank for rank, plus in zip(ranks, signs, strict=True) if plus)
        for signs in itertools.product((False, True), repeat=len(ranks))
    ]
    expected = np.mean([abs(each - centre) >= observed for each in sums])
    assert signed_rank_p_value([value / 100 for value in values]) == pytest.approx(expected)
    assert signed_rank_p_value([0.0, *values]) == pytest.approx(expected), "tasks without a difference tell nothing"


def test_tasks_without_any_difference_tell_nothing() -> None:
    assert signed_rank_p_value([0.0] * 6) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_what_bonferronis_test_of_every_set_of_hypotheses_leaves(p_values: list[float]) -> None:
    """A hypothesis falls where every set of hypotheses that it is in does (Marcus, Peritz and Gabriel 1976)."""
    places = range(len(p_values))
    sets = [each for size in places for each in itertools.combinations(places, size + 1)]
    closed = [max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if place in s) for place in places]
    assert holm(p_values) == pytest.approx(closed)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_multiplies_multiplies_the_kth_smallest_by_what_is_left_and_never_decreases(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    running = 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        running = max(running, min(1.0, p_values[place] * (len(p_values) - rank)))
        assert adjusted[place] == pytest.approx(running)
