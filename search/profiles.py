"""Performance profiles (Dolan and Moré, Mathematical Programming 2002): on how many tasks an arm is nearly cheapest."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from search.arm_results import Row
from search.arms import Task
from search.tuning_cost import FloatArray

LEAST_TASKS = 2
COLUMNS = ("arm", "factor", "share", "tasks")


def profile_rows(tasks: Sequence[Task], arms: Sequence[str], cheapest: Sequence[Row]) -> list[Row]:
    """Return per arm and factor the share of tasks on which its cost is within `factor` times the cheapest arm's.

    Costs are those of coming near the best known score; where an arm never did, its cost is infinite. Only tasks that
    have all the arms count; with fewer than two of them there is no profile.
    """
    costs = {(row["task"], row["arm"]): row["cost"] for row in cheapest}
    whole = [task.name for task in tasks if set(arms) <= task.arms.keys()]
    if len(whole) < LEAST_TASKS:
        return []
    table = np.array([[costs[task, arm] for arm in arms] for task in whole], dtype=np.float64)
    return list(_rows(arms, ratios_to_cheapest(table)))


def ratios_to_cheapest(costs: FloatArray) -> FloatArray:
    """Return each cost divided by the least of its task, at least 1; infinite where the cost is.

    Args:
        costs: at least 0, and in every row one of them finite. [tasks, arms]
    """
    least = costs.min(axis=1, keepdims=True)
    # Where the cheapest costs nothing, everything else is infinitely dearer.
    free = np.where(costs == 0, 1.0, math.inf)
    return np.where(least > 0, costs / np.where(least > 0, least, 1.0), free)


def _rows(arms: Sequence[str], ratios: FloatArray) -> Iterator[Row]:
    factors = np.unique(ratios[np.isfinite(ratios)])
    for place, arm in enumerate(arms):
        for factor in factors.tolist():
            share = float((ratios[:, place] <= factor).mean())
            yield {"arm": arm, "factor": factor, "share": share, "tasks": len(ratios)}
