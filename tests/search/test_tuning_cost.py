"""Every estimator against a second computation from its definition: enumeration of subsets, orders or a closed form."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opda.nonparametric import EmpiricalDistribution
from scipy import integrate

from search import tuning_cost
from search.errors import ComparisonError
from search.tuning_cost import Mode

MODES: tuple[Mode, ...] = ("max", "min")
score_lists = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=7)
modes = st.sampled_from(MODES)


def best_of(values: tuple[float, ...] | list[float], mode: Mode) -> float:
    return max(values) if mode == "max" else min(values)


def mean_best_over_subsets(scores: list[float], k: int, mode: Mode) -> float:
    return float(np.mean([best_of(subset, mode) for subset in itertools.combinations(scores, k)]))


def mean_best_over_orders(scores: list[float], costs: list[float], budget: float, before: float, mode: Mode) -> float:
    found = []
    for order in itertools.permutations(range(len(scores))):
        spent, best, finished = 0.0, before, False
        for trial in order:
            spent += costs[trial]
            if spent > budget + 1e-9 * budget:
                break
            best = best_of([best, scores[trial]], mode) if finished else scores[trial]
            finished = True
        found.append(best)
    return float(np.mean(found))


@given(score_lists, modes)
def test_expected_best_is_the_mean_best_over_all_subsets_of_k(scores: list[float], mode: Mode) -> None:
    for k in range(1, len(scores) + 1):
        assert tuning_cost.expected_best(scores, k, mode) == pytest.approx(mean_best_over_subsets(scores, k, mode))


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_the_weights_are_those_of_the_definition(n: int) -> None:
    for k in range(1, n + 1):
        exact = [Fraction(math.comb(i - 1, k - 1), math.comb(n, k)) for i in range(1, n + 1)]
        assert tuning_cost.expected_best_weights(n, k) == pytest.approx([float(each) for each in exact])


@given(score_lists, modes)
def test_the_curve_holds_expected_best_for_every_k(scores: list[float], mode: Mode) -> None:
    curve = tuning_cost.expected_best_curve(scores, mode)
    assert curve == pytest.approx([tuning_cost.expected_best(scores, k + 1, mode) for k in range(len(scores))])


@given(score_lists)
def test_expected_best_never_gets_worse_with_more_trials(scores: list[float]) -> None:
    assert (np.diff(tuning_cost.expected_best_curve(scores)) >= -1e-12).all()


def test_expected_best_is_stable_where_binomial_coefficients_would_overflow() -> None:
    rng = np.random.default_rng(0)
    curve = tuning_cost.expected_best_curve(rng.random(3000))
    assert np.isfinite(curve).all()
    assert curve[0] == pytest.approx(0.5, abs=0.03)
    assert tuning_cost.expected_best_weights(3000, 1500).sum() == pytest.approx(1.0)


@given(score_lists, modes)
def test_the_plug_in_estimate_is_the_mean_best_over_draws_with_replacement(scores: list[float], mode: Mode) -> None:
    scores = scores[:4]
    for k in range(1, 4):
        draws = [best_of(draw, mode) for draw in itertools.product(scores, repeat=k)]
        assert tuning_cost.expected_best_plugin(scores, k, mode) == pytest.approx(np.mean(draws))


@pytest.mark.parametrize("k", [0, 4])
def test_expected_best_refuses_to_extrapolate(k: int) -> None:
    with pytest.raises(ComparisonError, match="1 <= k <= n"):
        tuning_cost.expected_best([0.1, 0.2, 0.3], k)


@pytest.mark.parametrize("scores", [[], [0.1, math.nan], [0.1, -math.inf]])
def test_scores_that_cannot_be_averaged_are_refused(scores: list[float]) -> None:
    with pytest.raises(ComparisonError, match="finite"):
        tuning_cost.expected_best(scores, 1)


def test_a_failed_trial_counts_as_the_worst_score() -> None:
    assert tuning_cost.fill_failed([0.2, math.nan, -math.inf], 0.05).tolist() == [0.2, 0.05, 0.05]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", range(1, 7))
def test_the_cost_curve_is_the_mean_over_all_orders(n: int, mode: Mode) -> None:
    rng = np.random.default_rng(n)
    scores, costs = rng.random(n).tolist(), rng.integers(0, 9, n).astype(float).tolist()
    budgets = [0.0, 1.0, sum(costs) / 2, sum(costs), 2 * sum(costs)]
    curve = tuning_cost.expected_best_by_cost(scores, costs, budgets, before=0.5, rng=rng, mode=mode)
    assert curve == pytest.approx([mean_best_over_orders(scores, costs, b, 0.5, mode) for b in budgets])


def test_with_equal_costs_the_cost_curve_is_expected_best() -> None:
    scores = [0.3, 0.1, 0.2, 0.25, 0.4, 0.05]
    curve = tuning_cost.expected_best_by_cost(
        scores, np.ones(6), np.arange(1, 7), before=0.0, rng=np.random.default_rng(0)
    )
    assert curve == pytest.approx(tuning_cost.expected_best_curve(scores))


def test_the_whole_budget_buys_the_best_score_in_whatever_order_it_is_summed() -> None:
    rng = np.random.default_rng(1)
    scores, costs = rng.random(40), rng.random(40) * 0.1
    curve = tuning_cost.expected_best_by_cost(scores, costs, [costs.sum()], before=0.0, rng=rng)
    assert curve == pytest.approx([scores.max()])


def test_sampled_orders_repeat_with_the_same_generator_and_approach_the_truth() -> None:
    scores, costs = np.arange(8) / 10, np.arange(1, 9).astype(float)
    exact = mean_best_over_orders(scores.tolist(), costs.tolist(), 12.0, 0.0, "max")
    first, second = (
        tuning_cost.expected_best_by_cost(
            scores, costs, [12.0], before=0.0, rng=np.random.default_rng(5), permutations=4000
        )
        for _ in range(2)
    )
    assert first == second
    assert first == pytest.approx([exact], abs=0.01)


@given(st.integers(1, 50), st.integers(0, 50))
def test_the_harm_rate_has_the_wilson_interval(n: int, harmful: int) -> None:
    harmful = min(harmful, n)
    result = tuning_cost.harm_rate([0.0] * harmful + [1.0] * (n - harmful), base=0.5)
    z, p = 1.959963984540054, harmful / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (result.rate, result.low, result.high) == pytest.approx((p, centre - half, centre + half), abs=1e-9)


def test_a_configuration_as_good_as_the_base_does_no_harm() -> None:
    assert tuning_cost.harm_rate([0.5, 0.5], base=0.5).harmful == 0
    assert tuning_cost.harm_rate([0.4, 0.6], base=0.5, mode="min").harmful == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_the_band_holds_the_median_and_widens_to_the_range_of_scores(n: int, mode: Mode) -> None:
    scores = np.random.default_rng(n).random(n)
    band = tuning_cost.median_band(scores, support=(0.0, 1.0), mode=mode)
    assert (band.lower <= band.median).all() and (band.median <= band.upper).all()
    assert band.trusted.tolist() == [k <= n / 3 for k in range(1, n + 1)]
    assert (band.upper[-1], band.lower[-1])[mode == "min"] == (1.0, 0.0)[mode == "min"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", [3, 5, 9, 17])
def test_the_band_is_what_opda_finds_on_the_scores_themselves(n: int, mode: Mode) -> None:
    """The code under test asks for the band of the ranks, and turns losses; opda knows losses by itself."""
    scores, ks = np.random.default_rng(n).normal(size=n), np.arange(1, n + 1)
    band = tuning_cost.median_band(scores, confidence=0.8, mode=mode)
    method = {"method": "ld_highest_density", "n_jobs": 1, "generator": np.random.default_rng(n)}
    low, point, high = EmpiricalDistribution.confidence_bands(scores, 0.8, a=-np.inf, b=np.inf, **method)
    curves = [cdf.quantile_tuning_curve(ks, q=0.5, minimize=mode == "min") for cdf in (high, point, low)]
    for found, expected in zip((band.lower, band.median, band.upper), curves, strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("n", [1, 2, 7, 20, 70])
def test_the_median_best_of_k_is_the_first_score_that_k_draws_stay_below_half_of_the_time(n: int) -> None:
    scores = np.sort(np.random.default_rng(n).normal(size=n))
    place = [next(i for i in range(1, n + 1) if (i / n) ** k >= 0.5 - 1e-12) for k in range(1, n + 1)]
    assert tuning_cost.median_band(scores).median.tolist() == scores[np.array(place) - 1].tolist()


def test_a_band_of_many_trials_is_that_of_dvoretzky_kiefer_and_wolfowitz() -> None:
    n, confidence = 300, 0.9
    scores = np.sort(np.random.default_rng(0).random(n))
    band = tuning_cost.median_band(scores, confidence=confidence, support=(0.0, 1.0))
    room = math.sqrt(math.log(2 / (1 - confidence)) / (2 * n))
    for k in (1, 3, 10):
        level = 0.5 ** (1 / k)
        low = scores[math.ceil(n * (level - room) - 1e-9) - 1]
        above = math.ceil(n * (level + room) - 1e-9)
        assert band.lower[k - 1] == low
        assert band.upper[k - 1] == (scores[above - 1] if above <= n else 1.0)


def test_the_band_of_a_loss_mirrors_that_of_its_negative() -> None:
    scores = np.random.default_rng(0).random(9)
    gain, loss = tuning_cost.median_band(scores), tuning_cost.median_band(-scores, mode="min")
    assert loss.median == pytest.approx(-gain.median)
    assert loss.lower.tolist() == (-gain.upper).tolist()


def test_tied_scores_do_not_break_the_band() -> None:
    band = tuning_cost.median_band([0.2] * 5 + [0.3] * 5, support=(0.0, 1.0))
    assert set(band.median) <= {0.2, 0.3}


def test_the_band_covers_the_true_median_curve_at_least_as_often_as_it_says() -> None:
    rng, ks = np.random.default_rng(3), np.arange(1, 7)
    truth = 0.5 ** (1 / ks)  # of the uniform distribution: F^-1(q) = q
    bands = [tuning_cost.median_band(rng.random(6), confidence=0.8, support=(0.0, 1.0)) for _ in range(200)]
    covered = [bool(((band.lower <= truth) & (truth <= band.upper)).all()) for band in bands]
    assert np.mean(covered) >= 0.75


def test_the_area_under_regret_is_its_integral_on_the_log_axis() -> None:
    budgets = np.geomspace(1, 100, 400)
    values = np.log(budgets) / np.log(100)
    area = tuning_cost.area_under_regret(budgets, values, base=0.0, reference=1.0, start=2.0, end=50.0)
    integral, _ = integrate.quad(lambda c: 1 - c / math.log(100), math.log(2), math.log(50))
    assert area == pytest.approx(integral / math.log(25), abs=1e-4)


def test_there_is_no_area_under_regret_without_a_gain_or_a_range() -> None:
    assert tuning_cost.area_under_regret([1, 2], [0, 1], base=1.0, reference=1.0, start=1.0, end=2.0) is None
    assert tuning_cost.area_under_regret([1, 2], [0, 1], base=0.0, reference=1.0, start=2.0, end=2.0) is None
