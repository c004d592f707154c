"""Whether the ranking of the arms hangs on what budgets are counted in: equal trials, passes, seconds, paper grids."""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from search.arm_results import Row, Yardstick, bought, common_budget, filled_scores
from search.arms import Arm, Task
from search.tuning_cost import FloatArray, IntArray, expected_best_weights, turned

DRAWS = 1000
PAPER_GRIDS = "paper_grids"
BUDGETS: Mapping[str, str] = {
    "trials": "equal trials",
    "gradient_evaluations": "equal gradient evaluations",
    "device_seconds": "equal device-seconds",
    PAPER_GRIDS: "each arm's published grid",
}


def equal_budget_rows(task: Task, arms: Sequence[str], yardstick: Yardstick, seed: int) -> list[Row]:
    """Return what every arm's expected best is at each of the equal budgets, and in how many draws it leads.

    A budget in a unit is the least that an arm with something to tune spent in it; one whose costs the store does not
    have is left out. A published grid is as many random configurations as it holds, whatever they cost.
    """
    present = [task.arms[arm] for arm in arms if arm in task.arms]
    picks = [_picks(task, arm, seed) for arm in present]
    return [
        row
        for budget in BUDGETS
        if (amounts := _amounts(task, budget)) is not None
        for row in _rows(task, present, picks, yardstick, budget, amounts)
    ]


def _picks(task: Task, arm: Arm, seed: int) -> IntArray:
    """Return which configurations each bootstrap sample holds; of a space that was tried whole, all of them."""
    if arm.exhausted:
        return np.tile(np.arange(arm.trials), (DRAWS, 1))
    # The same draws for every budget, so that two budgets differ by what they buy alone.
    rng = np.random.default_rng([seed, zlib.crc32(f"{task.name}/{arm.name}/equal".encode())])
    return rng.integers(0, arm.trials, size=(DRAWS, arm.trials))


def _amounts(task: Task, budget: str) -> dict[str, float] | None:
    """Return each arm's budget, in the unit or in configurations; None where an arm's costs are not known."""
    if budget == PAPER_GRIDS:
        return {name: float(arm.published) for name, arm in task.arms.items()}
    costs = {name: arm.prices[budget] for name, arm in task.arms.items()}
    if any(each.sum() == 0 for each in costs.values()):
        return None
    return dict.fromkeys(costs, common_budget(costs, task))


def _rows(
    task: Task,
    arms: Sequence[Arm],
    picks: Sequence[IntArray],
    yardstick: Yardstick,
    budget: str,
    amounts: Mapping[str, float],
) -> Iterator[Row]:
    scores = [turned(filled_scores(arm, yardstick), task.mode) for arm in arms]
    prices = [np.ones(arm.trials) if budget == PAPER_GRIDS else arm.prices[budget] for arm in arms]
    trials = [
        _configurations(arm, amounts[arm.name], float(each.mean())) for arm, each in zip(arms, prices, strict=True)
    ]
    expected = np.array([expected_best_weights(s.size, k) @ np.sort(s) for s, k in zip(scores, trials, strict=True)])
    redrawn = [_redrawn(*each, amounts[each[0].name]) for each in zip(arms, scores, prices, picks, strict=True)]
    leads = lead_shares(np.stack(redrawn))
    for place, arm in enumerate(arms):
        yield {
            "task": task.name,
            "arm": arm.name,
            "budget": budget,
            "amount": amounts[arm.name],
            "trials": trials[place],
            "capped": budget == PAPER_GRIDS and arm.trials < amounts[arm.name] and not arm.exhausted,
            "expected_best": float(turned([expected[place]], task.mode)[0]),
            "rank": 1 + int((expected > expected[place]).sum()),
            "leads": float(leads[place]),
        }


def _configurations(arm: Arm, amount: float, mean_cost: float) -> int:
    return bought(amount, mean_cost, arm.trials) if arm.tuned else arm.trials


def _redrawn(arm: Arm, scores: FloatArray, prices: FloatArray, picks: IntArray, amount: float) -> FloatArray:
    """Return the expected best of every bootstrap sample of the arm's configurations, [draws]."""
    means = prices[picks].mean(axis=1)
    trials = np.array([_configurations(arm, amount, mean) for mean in means.tolist()])
    ordered = np.sort(scores[picks], axis=1)
    expected = np.empty(len(picks))
    for k in np.unique(trials).tolist():
        drawn = trials == k
        expected[drawn] = ordered[drawn] @ expected_best_weights(arm.trials, k)
    return expected


def lead_shares(values: FloatArray) -> FloatArray:
    """Return how often each row has the largest value of its column; those that share it share the credit.

    Args:
        values: larger is better. [arms, draws]
    """
    leads = values == values.max(axis=0)
    return np.asarray((leads / leads.sum(axis=0)).mean(axis=1))
