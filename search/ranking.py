"""The arms' mean ranks over tasks at the common budget, where there are tasks enough to speak of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from search import wording
from search.arm_results import Row, Yardstick, affordable, filled_scores
from search.arms import Task
from search.significance import LEVEL, TASKS_FOR_MEAN_RANKS, mean_ranks
from search.tuning_cost import expected_best_weights, turned

COLUMNS = ("arm", "mean_rank", "tasks", "chi_square", "f", "p_value")
LEAST_ARMS = 3
FEW_TASKS = 10


def rank_rows(tasks: Sequence[Task], yardsticks: Mapping[str, Yardstick], arms: Sequence[str], seed: int) -> list[Row]:
    """Return each arm's mean rank by expected best at the common budget, with Friedman's test over the tasks.

    Only tasks that have all the arms count; with fewer than three, or with two arms, there are no rows.
    """
    whole = [task for task in tasks if set(arms) <= task.arms.keys()]
    if len(whole) < TASKS_FOR_MEAN_RANKS or len(arms) < LEAST_ARMS:
        return []
    scores = np.array([[_expected(task, yardsticks[task.name], arm) for arm in arms] for task in whole])
    found = mean_ranks(scores, np.random.default_rng(seed))
    test = {"tasks": len(whole), "chi_square": found.chi_square, "f": found.f, "p_value": found.p_value}
    return [{"arm": arm, "mean_rank": float(rank)} | test for arm, rank in zip(arms, found.ranks, strict=True)]


def _expected(task: Task, yardstick: Yardstick, name: str) -> float:
    arm = task.arms[name]
    scores = np.sort(turned(filled_scores(arm, yardstick), task.mode))
    return float(expected_best_weights(scores.size, affordable(arm, yardstick.budget)) @ scores)


def ranking_sentence(rows: Sequence[Row]) -> str | None:
    """Return in one sentence how the arms rank over tasks, or None where there is nothing to say."""
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: float(row["mean_rank"]))  # type: ignore[arg-type]
    ranks = wording.listing([f"{row['arm']} {row['mean_rank']:.1f}" for row in ordered])
    tasks, p_value = int(rows[0]["tasks"]), float(rows[0]["p_value"])  # type: ignore[call-overload, arg-type]
    found = "tells them apart" if p_value <= LEVEL else "cannot tell them apart"
    few = "; so few tasks show large differences only" if tasks < FEW_TASKS else ""
    return (
        f"Mean ranks over {tasks} tasks at this budget, 1 is best: {ranks}; Friedman's test {found} "
        f"(p = {p_value:.3f}, by permutation inside tasks){few}."
    )
