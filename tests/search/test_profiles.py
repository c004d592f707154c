"""Performance profiles against their definition, task by task."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import compare
from search.profiles import ratios_to_cheapest
from search.report.comparison_figures import profile_charts

NewSweep = Callable[..., Any]
costs = st.one_of(st.integers(0, 20).map(float), st.just(math.inf))
tables = st.integers(1, 4).flatmap(
    lambda arms: st.lists(
        st.lists(costs, min_size=arms, max_size=arms).filter(lambda row: min(row) < math.inf), min_size=1
    )
)


@given(tables)
def test_a_ratio_is_how_many_times_the_cheapest_an_arm_costs(table: list[list[float]]) -> None:
    ratios = ratios_to_cheapest(np.array(table))
    for row, found in zip(table, ratios.tolist(), strict=True):
        for cost, ratio in zip(row, found, strict=True):
            if min(row) > 0:
                assert ratio == pytest.approx(cost / min(row))
            else:
                assert ratio == (1.0 if cost == 0 else math.inf)


def test_a_profile_is_the_share_of_tasks_within_so_many_times_the_cheapest(new_sweep: NewSweep) -> None:
    """On books sam costs 1.5 times descent, on films descent never comes near, on songs it costs four times sam."""
    writer = new_sweep(data={"names": ["books", "films", "songs"], "root": "/data"})
    scores = {"books": (0.3, 0.3), "films": (0.1, 0.3), "songs": (0.3, 0.3)}
    passes = {"books": (20, 30), "films": (20, 20), "songs": (80, 20)}
    for dataset in scores:
        for place, update in enumerate(("descent", "sam")):
            for _ in range(4):
                writer.trial(
                    f"{dataset}/vbpr/plain/{update}/adam", scores[dataset][place], passes=passes[dataset][place]
                )
    found = compare(writer.store, ["sample"])
    shares = found.profiles.set_index(["arm", "factor"])["share"].to_dict()
    assert shares == pytest.approx(
        {
            ("descent", 1.0): 1 / 3,
            ("descent", 1.5): 1 / 3,
            ("descent", 4.0): 2 / 3,
            ("sam", 1.0): 2 / 3,
            ("sam", 1.5): 1.0,
            ("sam", 4.0): 1.0,
        }
    )
    assert set(found.profiles["tasks"]) == {3}
    (drawn,) = profile_charts(found)
    assert "of the 3 tasks" in drawn.caption and "On no task" not in drawn.caption
    assert [look.name for look in drawn.legend] == ["descent", "sam"]


def test_a_task_that_lacks_an_arm_is_left_out_and_one_task_makes_no_profile(new_sweep: NewSweep) -> None:
    writer = new_sweep(data={"names": ["books", "films"], "root": "/data"})
    for dataset, updates in (("books", ("descent", "sam")), ("films", ("descent",))):
        for update in updates:
            writer.trial(f"{dataset}/vbpr/plain/{update}/adam", 0.2)
    found = compare(writer.store, ["sample"])
    assert found.profiles.empty and profile_charts(found) == []
    alone = found.answers[found.answers["task"] == "films/vbpr"]["answer"].tolist()
    assert alone == ["Only descent ran on this task, so there is nothing to compare it with."]
