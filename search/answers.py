"""What a reader in a hurry asks: which arm is the cheapest to tune, how sure that is, and what it hangs on."""

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from search import wording
from search.arm_results import NEAR_BEST, Row, Yardstick, filled_scores, near_best
from search.arms import Task
from search.tuning_cost import cost_to_target, redrawn_costs_to_target

DRAWS = 2000
INTERVAL = (0.1, 0.9)
BUDGET_SHARES = (0.25, 0.5, 1.0)
SURE = 0.95


def cheapest_rows(task: Task, arms: Sequence[str], yardstick: Yardstick, seed: int) -> list[Row]:
    """Return what coming near the best known score costs each arm, and how often each is the cheapest.

    Where no arm comes near in a bootstrap draw, none is the cheapest in it; of equal ones the earlier is. The best
    known score is that of the trials at hand and stays in every draw.
    """
    target, rows, redrawn = near_best(task, yardstick), [], []
    present = [task.arms[arm] for arm in arms if arm in task.arms]
    for arm in present:
        scores = filled_scores(arm, yardstick)
        found = cost_to_target(scores, arm.costs, target, task.mode)
        rng = np.random.default_rng([seed, zlib.crc32(f"{task.name}/{arm.name}/cheapest".encode())])
        redrawn.append(redrawn_costs_to_target(scores, arm.costs, target, rng=rng, draws=DRAWS, mode=task.mode))
        cost = math.inf if found.cost is None else found.cost
        low, high = np.quantile(redrawn[-1], INTERVAL, method="inverted_cdf").tolist()
        rows.append({"task": task.name, "arm": arm.name, "score": target, "cost": cost, "low": low, "high": high})
        rows[-1] |= {"hits": found.hits, "candidates": found.candidates}
    costs = np.stack(redrawn)  # [arms, draws]
    winner = np.where(np.isfinite(costs.min(axis=0)), costs.argmin(axis=0), -1)
    return [row | {"share": float((winner == place).mean())} for place, row in enumerate(rows)]


def answers(
    task: Task, yardstick: Yardstick, cheapest: Sequence[Row], curves: pd.DataFrame, unit: str
) -> Iterator[str]:
    """Yield one sentence per question: which arm is cheapest and how sure that is, the budget's part, and no tuning."""
    rows = [row for row in cheapest if row["task"] == task.name]
    yield f"{task.name}: {_cheapest(rows, unit)}"
    yield f"{task.name}: {_budgets(task, yardstick, curves[curves['task'] == task.name])}"
    yield f"{task.name}: {_untuned(task, yardstick)}"


def _cheapest(rows: Sequence[Row], unit: str) -> str:
    reached = sorted((row for row in rows if math.isfinite(_number(row, "cost"))), key=lambda row: _number(row, "cost"))
    first, *others = reached
    sure = _number(first, "share")
    interval = f"{_cost(first, 'low')} to {_cost(first, 'high')}"
    said = (
        f"{first['arm']} is the cheapest to tune to {NEAR_BEST}, at an expected {_cost(first, 'cost')} {unit} "
        f"(80 % interval {interval}; {first['hits']} of {first['candidates']} configurations come so close)"
    )
    if sure < SURE:
        said += f", but that is not sure: when the trials are drawn again, it is the cheapest in {sure:.0%} of draws"
    else:
        said += f", in {sure:.0%} of draws when the trials are drawn again"
    if others:
        said += f"; next {others[0]['arm']} with {_cost(others[0], 'cost')}"
    never = [str(row["arm"]) for row in rows if not math.isfinite(_number(row, "cost"))]
    return f"{said}. {wording.capitalised(wording.listing(never))} never came so close." if never else f"{said}."


def _budgets(task: Task, yardstick: Yardstick, curves: pd.DataFrame) -> str:
    turn = 1.0 if task.mode == "max" else -1.0
    leads = []
    for share in BUDGET_SHARES:
        values = {
            str(arm): float(np.interp(share * yardstick.budget, rows["budget"], rows["value"]))
            for arm, rows in curves.groupby("arm", sort=False)
        }
        leader = max(values, key=lambda arm: turn * values[arm])
        leads.append((share, leader, values[leader]))
    if len({leader for _, leader, _ in leads}) == 1:
        return f"{leads[0][1]} has the best expected score at a quarter, at a half and at all of the common budget."
    parts = [f"{leader} at {share:.0%} ({wording.score(value)})" for share, leader, value in leads]
    return f"which arm has the best expected score hangs on the budget: {wording.listing(parts)} of the common one."


def _untuned(task: Task, yardstick: Yardstick) -> str:
    turn = 1.0 if task.mode == "max" else -1.0
    known = {arm.name: arm.default_score for arm in task.arms.values() if arm.default_score is not None}
    if not known:
        return "what an arm is worth without any tuning is not known: no default configuration was run."
    parts = [
        f"{name} {wording.score(score)} ({wording.signed_score(turn * (score - yardstick.base))})"
        for name, score in sorted(known.items(), key=lambda each: -turn * each[1])
    ]
    missing = len(task.arms) - len(known)
    rest = f"; the defaults of {wording.plural(missing, 'arm')} were not run" if missing else ""
    base = wording.score(yardstick.base)
    return f"without any tuning, at the defaults: {wording.listing(parts)}, against the base score {base}{rest}."


def _number(row: Row, name: str) -> float:
    return float(row[name])  # type: ignore[arg-type]


def _cost(row: Row, name: str) -> str:
    return wording.count(_number(row, name))
