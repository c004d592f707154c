"""What each arm of one task found and paid: the rows of a comparison's frames."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from search import tuning_cost
from search.arms import BASE_ARM, Arm, Task
from search.cost_to_target import cost_to_target
from search.errors import ComparisonError
from search.sensitivity import sensitivity
from search.tuning_cost import FloatArray, Mode

Row: TypeAlias = dict[str, object]

TARGET_SHARES = (0.5, 0.9, 1.0)
BEATS_BASE_BY = 0.005
CLOSE = 0.01
NEAR_BEST = f"within {CLOSE:.0%} of the best known"

_CURVE_POINTS = 241
_RANKING_METRICS = ("recall@", "ndcg@", "precision@", "map@")


@dataclass(frozen=True)
class Yardstick:
    """What the scores of one task are held against, in the metric's own direction.

    Attributes:
        base: score of the base arm's default configuration; its median where that one was not run (`base_source` says).
        base_cost: mean cost of one configuration of the base arm.
        tuned_base: best score of the base arm.
        reference: best score of all arms, of `reference_arm`.
        worst: worst score seen; what a failed configuration counts as.
        budget: the least that an arm with something to tune spent; every arm is read there.
    """

    base: float
    base_source: str
    base_cost: float
    tuned_base: float
    reference: float
    reference_arm: str
    worst: float
    budget: float

    @property
    def has_gain(self) -> bool:
        """Whether any arm found something better than the base score."""
        return self.reference != self.base


def measure(task: Task) -> Yardstick:
    """Return the task's yardstick.

    Raises:
        ComparisonError: no configuration of the base arm was evaluated to the end.
    """
    base_arm = task.arms.get(BASE_ARM)
    if base_arm is None or not np.isfinite(base_arm.scores).any():
        rule = f"the base arm `{BASE_ARM}` must have a scored trial to compare with"
        raise ComparisonError(
            f"task {task.name}: {rule}, but it has {'none' if base_arm is None else 'only failed ones'}"
        )
    best = {name: _best(arm.scores, task.mode) for name, arm in task.arms.items() if np.isfinite(arm.scores).any()}
    reference_arm = next(name for name in best if best[name] == _best(np.array(list(best.values())), task.mode))
    base, source = _base_score(base_arm)
    seen = np.concatenate([[base], *(arm.scores for arm in task.arms.values())])
    return Yardstick(
        base=base,
        base_source=source,
        base_cost=float(base_arm.costs.mean()),
        tuned_base=best[BASE_ARM],
        reference=best[reference_arm],
        reference_arm=reference_arm,
        worst=float(np.nanmin(seen) if task.mode == "max" else np.nanmax(seen)),
        budget=common_budget({name: arm.costs for name, arm in task.arms.items()}, task),
    )


def _best(scores: FloatArray, mode: Mode) -> float:
    return float(np.nanmax(scores) if mode == "max" else np.nanmin(scores))


def _base_score(arm: Arm) -> tuple[float, str]:
    if arm.default_score is not None:
        return arm.default_score, "its default configuration" if arm.tuned else "its only configuration"
    # Scores cut short are lower bounds; a median over them would make every gain look larger.
    known = arm.scores[arm.complete] if arm.complete.any() else arm.scores[np.isfinite(arm.scores)]
    return float(np.median(known)), f"the median of {known.size} configurations, as its default one was not run"


def common_budget(costs: Mapping[str, FloatArray], task: Task) -> float:
    """Return the least that an arm with something to tune spent, of each arm's `costs` in one unit."""
    totals = [float(costs[name].sum()) for name, arm in task.arms.items() if arm.tuned]
    # Without anything to tune there is no budget to share: every arm is read when it is done.
    return min(totals) if totals else max(float(each.sum()) for each in costs.values())


def affordable(arm: Arm, budget: float) -> int:
    """Return how many of the arm's configurations the budget buys at their mean cost, in 1..n."""
    return arm.trials if not arm.tuned else bought(budget, float(arm.costs.mean()), arm.trials)


def bought(budget: float, mean_cost: float, trials: int) -> int:
    """Return how many of `trials` configurations a budget buys: at least one, and all where they cost nothing."""
    if mean_cost == 0:
        return trials
    # Sums of the same costs in another order differ in their last bits.
    return max(1, min(trials, math.floor(budget / mean_cost + 1e-9)))


def filled_scores(arm: Arm, yardstick: Yardstick) -> FloatArray:
    """Return the arm's scores with failed configurations counted as the worst seen on the task."""
    return tuning_cost.fill_failed(arm.scores, yardstick.worst)


def task_row(task: Task, yardstick: Yardstick) -> Row:
    """Return the task's row of `Comparison.tasks`."""
    names = ("base", "base_source", "tuned_base", "reference", "reference_arm", "budget")
    shown = {name: getattr(yardstick, name) for name in names}
    return {"task": task.name, "metric": task.metric, "mode": task.mode, **shown}


def result_row(task: Task, arm: Arm, yardstick: Yardstick, curves: Sequence[Row]) -> Row:
    """Return the arm's row of `Comparison.results`; `curves` holds its own rows of `Comparison.curves`."""
    scores = filled_scores(arm, yardstick)
    trials = affordable(arm, yardstick.budget)
    expected = tuning_cost.expected_best(scores, trials, task.mode)
    turn = 1.0 if task.mode == "max" else -1.0
    return {
        "task": task.name,
        "arm": arm.name,
        "tuned": len(arm.tuned),
        "tuned_names": ", ".join(arm.tuned),
        "space_size": arm.space_size,
        "trials": arm.trials,
        "finished": arm.finished,
        "truncated": arm.truncated,
        "failed": arm.failed,
        "cost": float(arm.costs.sum()),
        "device_seconds": arm.device_seconds,
        "affordable": trials,
        "expected_best": expected,
        "gain": turn * (expected - yardstick.base) / abs(yardstick.base) if yardstick.base else None,
        "best": _best(scores, task.mode),
        "regret_area": _regret_area(yardstick, curves),
        **sensitivity(arm, scores, yardstick.base, task.mode),
    }


def _regret_area(yardstick: Yardstick, curves: Sequence[Row]) -> float | None:
    budgets = np.array([row["budget"] for row in curves], dtype=np.float64)
    values = np.array([row["value"] for row in curves], dtype=np.float64)
    ends = {"start": yardstick.base_cost, "end": yardstick.budget}
    return tuning_cost.area_under_regret(budgets, values, base=yardstick.base, reference=yardstick.reference, **ends)


def curve_rows(task: Task, arm: Arm, yardstick: Yardstick, *, permutations: int, seed: int) -> list[Row]:
    """Return the expected best score that budgets up to the arm's total buy; beyond it where none is left."""
    total = float(arm.costs.sum())
    longest = max(float(other.costs.sum()) for other in task.arms.values())
    end = longest if arm.exhausted else total
    grid = np.linspace(0.0, longest, _CURVE_POINTS)
    budgets = np.append(grid[grid < end], end)
    values = tuning_cost.expected_best_by_cost(
        filled_scores(arm, yardstick),
        arm.costs,
        budgets,
        before=yardstick.base,
        rng=_generator(seed, task, arm),
        permutations=permutations,
        mode=task.mode,
    )
    return [
        {
            "task": task.name,
            "arm": arm.name,
            "budget": float(budget),
            "value": float(value),
            "trusted": arm.exhausted or bool(3 * budget <= total),
        }
        for budget, value in zip(budgets, values, strict=True)
    ]


def _generator(seed: int, task: Task, arm: Arm) -> np.random.Generator:
    # One stream per arm and task, so that adding an arm does not move another one's curve.
    return np.random.default_rng([seed, zlib.crc32(f"{task.name}/{arm.name}".encode())])


def band_rows(task: Task, arm: Arm, yardstick: Yardstick, confidence: float) -> list[Row]:
    """Return the median best of 1..n configurations with its band."""
    support = (0.0, 1.0) if task.metric.startswith(_RANKING_METRICS) else (-math.inf, math.inf)
    scores = filled_scores(arm, yardstick)
    band = tuning_cost.median_band(scores, confidence=confidence, support=support, mode=task.mode)
    mean = float(arm.costs.mean())
    columns: Mapping[str, np.ndarray] = {
        "trials": band.trials,
        "budget": band.trials * mean,
        "median": band.median,
        "lower": band.lower,
        "upper": band.upper,
        "trusted": band.trusted,
    }
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"task": task.name, "arm": arm.name, **dict(zip(columns, row, strict=True))} for row in values]


def near_best(task: Task, yardstick: Yardstick) -> float:
    """Return the score that is CLOSE to the best known one of the task, as a share of it."""
    turn = 1.0 if task.mode == "max" else -1.0
    return yardstick.reference - turn * CLOSE * abs(yardstick.reference)


def target_rows(task: Task, arm: Arm, yardstick: Yardstick) -> list[Row]:
    """Return what each target costs the arm in expectation; without a known gain only a margin over the tuned base."""
    turn = 1.0 if task.mode == "max" else -1.0
    gain = yardstick.reference - yardstick.base
    targets = {
        f"{100 * share:g} % of the known gain": yardstick.reference - (1 - share) * gain for share in TARGET_SHARES
    }
    if not yardstick.has_gain:
        targets = {}
    margin = BEATS_BASE_BY * abs(yardstick.tuned_base)
    targets[NEAR_BEST] = near_best(task, yardstick)
    targets[f"tuned base {'+' if turn > 0 else '−'} {100 * BEATS_BASE_BY:g} %"] = yardstick.tuned_base + turn * margin
    scores = filled_scores(arm, yardstick)
    rows = []
    for name, target in targets.items():
        found = cost_to_target(scores, arm.costs, target, task.mode)
        rows.append(
            {
                "task": task.name,
                "arm": arm.name,
                "target": name,
                "score": target,
                "hits": found.hits,
                "candidates": found.candidates,
                "trials": found.trials,
                "cost": found.cost,
                "censored": found.censored,
            }
        )
    return rows
