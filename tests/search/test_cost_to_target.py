"""Costs to a target against enumeration of all orders, and their interval against the binomial distribution."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from search.cost_to_target import cost_interval, cost_to_target, redrawn_costs_to_target
from search.tuning_cost import Mode

modes = st.sampled_from(("max", "min"))


def best_of(values: list[float], mode: Mode) -> float:
    return max(values) if mode == "max" else min(values)


def first_hit_over_orders(scores: list[float], costs: list[float], target: float, mode: Mode) -> tuple[float, float]:
    trials, spent = [], []
    for order in itertools.permutations(range(len(scores))):
        reached = [scores[t] >= target if mode == "max" else scores[t] <= target for t in order]
        stop = reached.index(True) + 1
        trials.append(stop)
        spent.append(sum(costs[t] for t in order[:stop]))
    return float(np.mean(trials)), float(np.mean(spent))


class Picked:
    """A generator that picks what it is told to."""

    def __init__(self, picks: np.ndarray[Any, Any]) -> None:
        self.picks = picks

    def integers(self, low: int, high: int, size: tuple[int, int]) -> np.ndarray[Any, Any]:
        assert (low, high, size) == (0, self.picks.shape[1], self.picks.shape)
        return self.picks


@pytest.mark.parametrize("mode", ["max", "min"])
def test_every_draw_costs_what_its_trials_do(mode: Mode) -> None:
    rng = np.random.default_rng(3)
    scores, costs = rng.normal(size=9), rng.uniform(1, 5, size=9)
    target = float(np.quantile(scores, 0.8 if mode == "max" else 0.2))
    picks = rng.integers(0, 9, size=(200, 9))
    drawn = redrawn_costs_to_target(scores, costs, target, rng=Picked(picks), draws=200, mode=mode)  # type: ignore[arg-type]
    each = [cost_to_target(scores[pick], costs[pick], target, mode).cost for pick in picks]
    assert drawn == pytest.approx([math.inf if cost is None else cost for cost in each])
    assert math.inf in drawn, "some draws must miss, or the test shows nothing"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=6), st.integers(0, 5), modes)
def test_cost_to_target_is_the_mean_over_all_orders(trials: list[tuple[int, int]], goal: int, mode: Mode) -> None:
    scores, costs = [score / 10 for score, _ in trials], [float(cost) for _, cost in trials]
    result = cost_to_target(scores, costs, goal / 10, mode)
    if result.censored:
        assert result.trials is None and result.cost is None
        assert best_of(scores, mode) != goal / 10
    else:
        expected = first_hit_over_orders(scores, costs, goal / 10, mode)
        assert (result.trials, result.cost) == pytest.approx(expected)


def scores_with(hits: int, n: int) -> list[float]:
    return [1.0] * hits + [0.0] * (n - hits)


@given(st.integers(1, 40), st.integers(0, 40))
def test_the_interval_ends_where_as_few_or_as_many_hits_would_be_a_one_in_ten_chance(n: int, hits: int) -> None:
    hits = min(hits, n)
    low, high = cost_interval(scores_with(hits, n), [1.0] * n, 1.0)
    if hits < n:
        assert stats.binom.cdf(hits, n, 1 / low) == pytest.approx(0.1)
    else:
        assert low == 1
    if hits:
        assert stats.binom.sf(hits - 1, n, 1 / high) == pytest.approx(0.1)
    else:
        assert math.isinf(high)


@pytest.mark.parametrize("n", [4, 16, 32])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.3, 0.5, 0.9])
def test_the_interval_holds_the_true_cost_at_least_as_often_as_it_says(n: int, share: float) -> None:
    """Exactly, by summing over all numbers of hits: where a share p reaches the target, 1 / p trials are needed."""
    covered = 0.0
    for hits in range(n + 1):
        low, high = cost_interval(scores_with(hits, n), [1.0] * n, 1.0)
        covered += stats.binom.pmf(hits, n, share) * (low <= 1 / share <= high)
    assert covered >= 0.8


def test_a_bootstrap_would_not_hold_the_true_cost_where_hits_are_rare() -> None:
    """Why the interval is not taken from the bootstrap draws: it would hold in half of the cases where it says 80 %."""
    rng, held = np.random.default_rng(4), 0
    for _ in range(300):
        drawn = redrawn_costs_to_target(rng.uniform(size=16), np.ones(16), 0.95, rng=rng, draws=200)
        low, high = np.quantile(drawn, (0.1, 0.9), method="inverted_cdf")
        held += low <= 20 <= high
    assert 0.4 < held / 300 < 0.65


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=8), st.integers(0, 5), modes)
def test_the_interval_surrounds_the_expected_cost(trials: list[tuple[int, int]], goal: int, mode: Mode) -> None:
    scores, costs = [float(score) for score, _ in trials], [float(cost) for _, cost in trials]
    low, high = cost_interval(scores, costs, float(goal), mode=mode)
    found = cost_to_target(scores, costs, float(goal), mode)
    assert low <= high
    if found.cost is not None:
        assert low <= found.cost * (1 + 1e-12) and found.cost <= high * (1 + 1e-12)


def test_misses_and_hits_enter_the_interval_at_their_own_mean_costs() -> None:
    scores, costs = [1.0, 1.0, 0.0, 0.0], [10.0, 20.0, 3.0, 5.0]
    few, many = stats.beta.ppf(0.1, 2, 3), stats.beta.ppf(0.9, 3, 2)
    expected = [(1 / share - 1) * 4.0 + 15.0 for share in (many, few)]
    assert cost_interval(scores, costs, 1.0) == pytest.approx(expected)
