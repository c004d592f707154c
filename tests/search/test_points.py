"""Points that are known before a sweep starts."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.points import NumpySuggester, planned_points
from search.study_spec import StudySpec
from spaces.params import Choice, Fixed, Float, Int
from spaces.presets import MODELS, OBJECTIVES, OPTIMIZERS, UPDATES, preset_space
from spaces.space import SearchSpace

CELLS = st.tuples(*(st.sampled_from(sorted(rows)) for rows in (MODELS, OBJECTIVES, UPDATES, OPTIMIZERS)))
GROUPS = ("model", "objective", "update", "optimizer")
RANGES = SearchSpace({"a": Float(low=1e-3, high=1e2, log=True), "b": Int(low=1, high=5), "c": Fixed(value="x")})


def study(space, trials, names=("vbpr", "plain", "sam", "adam")):
    return StudySpec("synthetic", *names, space=space, trials=trials, base={})


def cell_study(names, preset, trials):
    space = preset_space(preset, **dict(zip(GROUPS, names, strict=True)), tune=GROUPS)
    return study(space, trials, names)


def frozen(points):
    return [tuple(sorted(point.items())) for point in points]


@settings(max_examples=60)
@given(CELLS, st.sampled_from(["paper", "extended"]), st.integers(0, 2**32 - 1))
def test_random_points_lie_in_the_space(names, preset, seed):
    spec = cell_study(names, preset, trials=12)
    for point in planned_points(spec, "random", seed):
        spec.space.check(point)
        assert {type(value) for value in point.values()} <= {float, int, str, bool}


@settings(max_examples=60)
@given(CELLS, st.sampled_from(["paper", "extended"]), st.integers(0, 99), st.integers(1, 12), st.integers(1, 12))
def test_a_shorter_sweep_tries_the_first_points_of_a_longer_one(names, preset, seed, length, more):
    shorter = planned_points(cell_study(names, preset, length), "random", seed)
    longer = planned_points(cell_study(names, preset, length + more), "random", seed)
    assert longer[: len(shorter)] == shorter


@settings(max_examples=60)
@given(CELLS, st.integers(0, 99), st.integers(1, 300))
def test_random_points_of_a_finite_space_are_distinct_and_as_many_as_there_can_be(names, seed, trials):
    spec = cell_study(names, "paper", trials)
    points = frozen(planned_points(spec, "random", seed))
    assert len(points) == len(set(points)) == min(trials, spec.space.size())


def test_all_points_of_a_finite_space_are_its_grid_in_another_order():
    spec = cell_study(("vbpr", "plain", "bsam_plus", "adam"), "paper", trials=10_000)
    points, grid = frozen(planned_points(spec, "random", 999)), frozen(spec.space.grid())
    assert points != grid
    assert sorted(points) == sorted(grid)


def test_every_order_of_a_finite_space_is_equally_likely():
    spec = study(SearchSpace({"a": Int(low=0, high=2)}), trials=3)
    orders = [tuple(point["a"] for point in planned_points(spec, "random", seed)) for seed in range(6000)]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    # 1000 expected each, standard deviation 29: the bound is five of them.
    assert all(855 < count < 1145 for count in counts)


def test_points_differ_between_seeds_and_between_cells():
    first = planned_points(study(RANGES, 3), "random", 1)
    assert first == planned_points(study(RANGES, 3), "random", 1)
    assert first != planned_points(study(RANGES, 3), "random", 2)
    assert first != planned_points(study(RANGES, 3, ("vbpr", "plain", "bsam", "adam")), "random", 1)


def test_no_two_points_of_a_cell_come_from_the_same_stream():
    points = planned_points(study(RANGES, 200), "random", 1)
    assert len({point["a"] for point in points}) == 200


def test_random_points_of_a_huge_finite_space_need_no_grid():
    spec = study(SearchSpace({"a": Int(low=1, high=10**15), "b": Int(low=1, high=10**15)}), trials=4)
    assert len(set(frozen(planned_points(spec, "random", 1)))) == 4


@pytest.mark.parametrize("trials", [1, 3, 64, 100])
def test_a_grid_is_tried_in_its_order(trials):
    spec = cell_study(("vbpr", "plain", "bsam_plus", "adam"), "paper", trials)
    assert planned_points(spec, "grid", 999) == list(spec.space.grid()[:trials])


def test_an_adaptive_sampler_has_no_planned_points():
    assert planned_points(study(RANGES, 3), "tpe", 999) is None


def uniformity(shares):
    """The Kolmogorov-Smirnov distance of values in [0, 1] from the uniform distribution."""
    ordered = np.sort(shares)
    count = len(ordered)
    return max(np.max(np.arange(1, count + 1) / count - ordered), np.max(ordered - np.arange(count) / count))


def test_numbers_are_spread_evenly_and_with_log_their_logarithms_are():
    space = SearchSpace({"plain": Float(low=-1, high=3), "log": Float(low=1e-4, high=1e-2, log=True)})
    points = [point for seed in range(40) for point in planned_points(study(space, 100), "random", seed)]
    plain = np.array([(point["plain"] + 1) / 4 for point in points])
    log = np.array([(math.log10(point["log"]) + 4) / 2 for point in points])
    # The distance exceeds 1.95 / sqrt(n) for one sequence in a thousand.
    assert uniformity(plain) < 1.95 / math.sqrt(4000)
    assert uniformity(log) < 1.95 / math.sqrt(4000)


def test_whole_numbers_and_choices_are_equally_likely():
    space = SearchSpace({"x": Float(low=0, high=1), "n": Int(low=1, high=4), "c": Choice(values=("js", "none"))})
    points = planned_points(study(space, 4000), "random", 999)
    assert all(850 < sum(point["n"] == n for point in points) < 1150 for n in (1, 2, 3, 4))
    assert 1840 < sum(point["c"] == "js" for point in points) < 2160


def test_a_log_int_favours_small_numbers_as_rounding_a_log_uniform_number_does():
    suggester = NumpySuggester(np.random.default_rng(0))
    draws = [suggester.suggest_int("n", 1, 8, log=True) for _ in range(8000)]
    for n in range(1, 9):
        expected = 8000 * math.log((n + 0.5) / (n - 0.5)) / math.log(8.5 / 0.5)
        assert abs(draws.count(n) - expected) < 5 * math.sqrt(expected)


@given(st.floats(1e-9, 1e9), st.floats(1 + 1e-12, 1e6), st.booleans(), st.integers(0, 99))
def test_a_number_never_leaves_its_range_by_rounding(low, ratio, log, seed):
    high = low * ratio
    suggester = NumpySuggester(np.random.default_rng(seed))
    assert all(low <= suggester.suggest_float("x", low, high, log=log) <= high for _ in range(20))


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 99))
def test_a_whole_number_never_leaves_its_range(low, width, seed):
    suggester = NumpySuggester(np.random.default_rng(seed))
    for log in (False, True):
        assert all(low <= suggester.suggest_int("x", low, low + width, log=log) <= low + width for _ in range(20))
