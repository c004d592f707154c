"""What an arm's best configuration of one data set costs on another, where the same configurations ran on both."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np

from search.arm_results import Row, Yardstick, filled_scores
from search.arms import Arm, Point, Task
from search.tuning_cost import Mode, turned

COLUMNS = ("setting", "arm", "source", "target", "shared", "regret", "relative")


def transfer_rows(tasks: Sequence[Task], yardsticks: Mapping[str, Yardstick], arms: Sequence[str]) -> list[Row]:
    """Return the transfer regret of every arm with something to tune, for every ordered pair of data sets.

    Only configurations that ended on both data sets count; with fewer than two the regret is None.
    """
    return [
        row
        for source, target in permutations(tasks, 2)
        if source.setting == target.setting
        for arm in arms
        if arm in source.arms and arm in target.arms and source.arms[arm].tuned
        for row in _rows(source, target, yardsticks, arm)
    ]


def _rows(source: Task, target: Task, yardsticks: Mapping[str, Yardstick], arm: str) -> Iterator[Row]:
    there = _scores_by_point(source.arms[arm], yardsticks[source.name], source.mode)
    here = _scores_by_point(target.arms[arm], yardsticks[target.name], target.mode)
    shared = there.keys() & here.keys()
    regret = transfer_regret(there, here)
    best = max((here[point] for point in shared), default=0.0)
    yield {
        "setting": source.setting,
        "arm": arm,
        "source": source.dataset,
        "target": target.dataset,
        "shared": len(shared),
        "regret": regret,
        "relative": None if regret is None or best == 0 else regret / abs(best),
    }


def _scores_by_point(arm: Arm, yardstick: Yardstick, mode: Mode) -> dict[Point, float]:
    scores = turned(filled_scores(arm, yardstick), mode)
    found: dict[Point, list[float]] = {}
    for point, score in zip(arm.points, scores.tolist(), strict=True):
        found.setdefault(point, []).append(score)
    return {point: float(np.mean(each)) for point, each in found.items()}


def transfer_regret(source: Mapping[Point, float], target: Mapping[Point, float]) -> float | None:
    """Return what the source's best configuration misses of the target's best score, over the configurations of both.

    Larger scores are better. Where several are the best of the source, their mean counts. None where the two share
    fewer than two configurations, for which there is nothing to choose.
    """
    shared = source.keys() & target.keys()
    if len(shared) < 2:
        return None
    best = max(source[point] for point in shared)
    carried = np.mean([target[point] for point in shared if source[point] == best])
    return float(max(target[point] for point in shared) - carried)


def transfer_note(rows: Sequence[Row]) -> str | None:
    """Return why nothing is known of what transfers between the data sets, or None where it is or there is but one."""
    if not rows or any(row["regret"] is not None for row in rows):
        return None
    return (
        "Whether the best configuration of one data set serves another is not known: no arm ran two configurations on "
        "both, as random points are drawn anew for each data set; a grid run whole on both would tell."
    )
