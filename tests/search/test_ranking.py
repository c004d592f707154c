"""Mean ranks and Friedman's test against scipy, the F distribution and enumeration."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from search import compare
from search.significance import mean_ranks

tables = st.tuples(st.integers(2, 6), st.integers(3, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 4).map(float), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@given(tables)
def test_the_statistics_are_friedmans_and_iman_and_davenports(table: list[list[float]]) -> None:
    scores = np.array(table)
    assume(any(len(set(row)) > 1 for row in table))
    found = mean_ranks(scores, np.random.default_rng(0), permutations=10)
    tasks, arms = scores.shape
    chi_square = float(stats.friedmanchisquare(*scores.T).statistic)
    assert found.chi_square == pytest.approx(chi_square)
    if chi_square < tasks * (arms - 1) - 1e-6:
        assert found.f == pytest.approx((tasks - 1) * chi_square / (tasks * (arms - 1) - chi_square))
    else:
        assert math.isinf(found.f)
    for arm in range(arms):
        ranks = [1 + sum(other > row[arm] for other in row) + (row.count(row[arm]) - 1) / 2 for row in table]
        assert found.ranks[arm] == pytest.approx(np.mean(ranks))


def test_the_p_value_is_the_share_of_all_deals_that_differ_as_much() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [3.0, 2.0, 1.0], [2.0, 3.0, 1.0]])
    observed = stats.friedmanchisquare(*scores.T).statistic
    as_far = [
        stats.friedmanchisquare(*np.array(deal).T).statistic >= observed - 1e-9
        for deal in itertools.product(itertools.permutations((1.0, 2.0, 3.0)), repeat=4)
    ]
    found = mean_ranks(scores, np.random.default_rng(0), permutations=20_000)
    assert found.p_value == pytest.approx(np.mean(as_far), abs=0.01)


def test_with_many_tasks_the_p_value_is_that_of_iman_and_davenports_f() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(40, 5)) + np.array([0.3, 0.1, 0.0, 0.0, 0.0])
    found = mean_ranks(scores, rng, permutations=20_000)
    assert found.p_value == pytest.approx(stats.f.sf(found.f, 4, 4 * 39), abs=0.01)


def test_arms_that_never_differ_have_a_p_value_of_one() -> None:
    found = mean_ranks(np.ones((4, 3)), np.random.default_rng(0), permutations=100)
    assert (found.p_value, found.chi_square, found.f) == (1.0, 0.0, 0.0)


def sweep_of(new_sweep: Callable[..., Any], datasets: int, updates: tuple[str, ...]) -> Any:
    names = [f"set{number}" for number in range(datasets)]
    writer = new_sweep(data={"names": names, "root": "/data"}, axes={"model": ["vbpr"], "update": list(updates)})
    for number, name in enumerate(names):
        for place, update in enumerate(updates):
            for trial in range(2):
                writer.trial(f"{name}/vbpr/plain/{update}/adam", 0.2 + 0.01 * place + 0.001 * trial + 0.1 * number)
    return compare(writer.store, ["sample"])


def test_four_tasks_that_agree_are_told_apart_and_called_few(new_sweep: Callable[..., Any]) -> None:
    found = sweep_of(new_sweep, 4, ("descent", "sam", "bsam"))
    assert found.ranks.set_index("arm")["mean_rank"].to_dict() == {"descent": 3.0, "sam": 2.0, "bsam": 1.0}
    assert set(found.ranks["tasks"]) == {4} and set(found.ranks["chi_square"]) == {8.0}
    # One deal in 6^3 agrees as well, of six that agree on whatever order.
    assert found.ranks["p_value"].iloc[0] == pytest.approx(1 / 216, abs=0.003)
    assert found.ranking is not None
    assert "1 is best: bsam 1.0, sam 2.0 and descent 3.0; Friedman's test tells them apart" in found.ranking
    assert found.ranking.endswith("; so few tasks show large differences only.")


@pytest.mark.parametrize(("datasets", "updates"), [(2, ("descent", "sam", "bsam")), (4, ("descent", "sam"))])
def test_with_two_tasks_or_two_arms_nothing_is_said(
    new_sweep: Callable[..., Any], datasets: int, updates: tuple[str, ...]
) -> None:
    found = sweep_of(new_sweep, datasets, updates)
    assert found.ranks.empty and found.ranking is None
