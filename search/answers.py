"""What a reader in a hurry asks: which arm is the cheapest to tune, how sure that is, and what it hangs on."""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from search import wording
from search.arm_results import CLOSE, Row, Yardstick, filled_scores, near_best
from search.arms import Arm, Task
from search.cost_to_target import cost_interval, cost_to_target, redrawn_costs_to_target
from search.equal_budgets import BUDGETS
from search.tuning_cost import FloatArray

DRAWS = 2000
CONFIDENCE = 0.8
BUDGET_SHARES = (0.25, 0.5, 1.0)
SURE = 0.95
BELOW = "none above the base score"
REMEDY = "the same sweep with space.tune=[] would tell, compared together with this one"

CHEAPEST, HOW_SURE, BUDGET, UNTUNED = "Cheapest to tune", "How sure", "Does the budget decide", "Without tuning"


def cheapest_rows(task: Task, arms: Sequence[str], yardstick: Yardstick, seed: int) -> list[Row]:
    """Return what coming near the best known score costs each arm, and how often each is the cheapest.

    Where no arm comes near in a bootstrap draw, none is the cheapest in it; of equal ones the earlier is. The best
    known score is that of the trials at hand and stays in every draw. Of a space that was tried whole the cost is
    known: it is the same in every draw and both ends of its interval.
    """
    target, rows, redrawn = near_best(task, yardstick), [], []
    present = [task.arms[arm] for arm in arms if arm in task.arms]
    for arm in present:
        scores = filled_scores(arm, yardstick)
        found = cost_to_target(scores, arm.costs, target, task.mode)
        cost = math.inf if found.cost is None else found.cost
        low, high = cost_interval(scores, arm.costs, target, confidence=CONFIDENCE, mode=task.mode)
        if arm.exhausted:
            low, high = cost, cost
        redrawn.append(np.full(DRAWS, cost) if arm.exhausted else _redrawn(task, arm, scores, target, seed))
        rows.append({"task": task.name, "arm": arm.name, "score": target, "cost": cost, "low": low, "high": high})
        rows[-1] |= {"hits": found.hits, "candidates": found.candidates}
    costs = np.stack(redrawn)  # [arms, draws]
    winner = np.where(np.isfinite(costs.min(axis=0)), costs.argmin(axis=0), -1)
    return [row | {"share": float((winner == place).mean())} for place, row in enumerate(rows)]


def _redrawn(task: Task, arm: Arm, scores: FloatArray, target: float, seed: int) -> FloatArray:
    rng = np.random.default_rng([seed, zlib.crc32(f"{task.name}/{arm.name}/cheapest".encode())])
    return redrawn_costs_to_target(scores, arm.costs, target, rng=rng, draws=DRAWS, mode=task.mode)


def answer_rows(
    task: Task,
    yardstick: Yardstick,
    cheapest: Sequence[Row],
    curves: pd.DataFrame,
    equal: Sequence[Row],
    unit: str,
) -> list[Row]:
    """Return the rows of `Comparison.answers` of one task: question and answer."""
    rows = [row for row in cheapest if row["task"] == task.name]
    if len(rows) == 1:
        alone = f"Only {rows[0]['arm']} ran on this task, so there is nothing to compare it with."
        return [{"task": task.name, "question": CHEAPEST, "answer": alone}]
    found = {
        CHEAPEST: _cheapest(rows, unit),
        HOW_SURE: _how_sure(rows, unit),
        BUDGET: " ".join(
            (
                _shares(task, yardstick, curves[curves["task"] == task.name]),
                *_equal([row for row in equal if row["task"] == task.name]),
            )
        ),
        UNTUNED: _untuned(task, yardstick),
    }
    return [{"task": task.name, "question": question, "answer": answer} for question, answer in found.items()]


def _cheapest(rows: Sequence[Row], unit: str) -> str:
    first, *others = _reached(rows)
    said = (
        f"{first['arm']} comes within {CLOSE:.0%} of the best known score ({wording.score(_number(first, 'score'))}) "
        f"at the least expected cost, {_cost(first, 'cost')} {unit}"
    )
    if others:
        parts = [f"{row['arm']} {_cost(row, 'cost')}" for row in others]
        said += f"; then {wording.listing(parts)}"
    never = [str(row["arm"]) for row in rows if not math.isfinite(_number(row, "cost"))]
    return f"{said}. Never so close: {wording.listing(never)}." if never else f"{said}."


def _how_sure(rows: Sequence[Row], unit: str) -> str:
    first, *_ = _reached(rows)
    share, rivals = _number(first, "share"), [row for row in rows if row is not first]
    close = [row for row in rivals if _number(row, "low") < _number(first, "high")]
    verdict = "Sure" if share >= SURE and not close else "Not sure" if share >= 0.5 else "Open"
    said = f"{verdict}: when the trials are drawn again, {wording.listing(list(_draws(first, rivals)))}"
    said += f". {first['hits']} of its {first['candidates']} configurations came so close; {_interval(first, unit)}."
    if close:
        arms = str(close[0]["arm"]) if len(close) == 1 else wording.plural(len(close), "other arm")
        said += f" By such intervals {arms} may be cheaper."
    return said


def _draws(first: Row, rivals: Sequence[Row]) -> Iterator[str]:
    """Yield how often the cheapest arm, the next and no arm at all win a draw, where that is not 0 %."""
    yield f"{first['arm']} is the cheapest in {_number(first, 'share'):.0%} of draws"
    second = max(rivals, key=lambda row: _number(row, "share"))
    if round(100 * _number(second, "share")) > 0:
        yield f"{second['arm']} in {_number(second, 'share'):.0%}"
    none = 1 - sum(_number(row, "share") for row in (first, *rivals))
    if round(100 * none) > 0:
        yield f"no arm comes so close in {none:.0%}"


def _interval(row: Row, unit: str) -> str:
    if row["low"] == row["high"]:
        return "its whole space was tried, so the cost is exact but for the luck of seeds"
    return f"the cost's {CONFIDENCE:.0%} interval is {_cost(row, 'low')} to {_cost(row, 'high')} {unit}"


def _shares(task: Task, yardstick: Yardstick, curves: pd.DataFrame) -> str:
    leads = [(share, *_leader(task, yardstick, curves, share * yardstick.budget)) for share in BUDGET_SHARES]
    if leads[0][1] is not None and len({leader for _, leader, _ in leads}) == 1:
        return f"{leads[0][1]} has the best expected score at a quarter, at a half and at all of the common budget."
    parts = [f"{share:.0%}: {f'{arm} ({wording.score(value)})' if arm else BELOW}" for share, arm, value in leads]
    return f"Best expected score by share of the common budget: {', '.join(parts)}."


def _leader(task: Task, yardstick: Yardstick, curves: pd.DataFrame, budget: float) -> tuple[str | None, float]:
    turn = 1.0 if task.mode == "max" else -1.0
    values = {
        str(arm): float(np.interp(budget, rows["budget"], rows["value"]))
        for arm, rows in curves.groupby("arm", sort=False)
    }
    leader = max(values, key=lambda arm: turn * values[arm])
    # An arm that has not finished a configuration yet has the base score, which is no lead.
    return (leader, values[leader]) if turn * (values[leader] - yardstick.base) > 0 else (None, yardstick.base)


def _equal(rows: Sequence[Row]) -> Iterator[str]:
    """Yield who leads at each equal budget, and which published grids were not tried in full."""
    led: dict[str, list[str]] = {}
    for budget in dict.fromkeys(str(row["budget"]) for row in rows):
        leader = next(str(row["arm"]) for row in rows if row["budget"] == budget and row["rank"] == 1)
        led.setdefault(leader, []).append(BUDGETS[budget])
    parts = [f"{arm} leads with {wording.listing(budgets)}" for arm, budgets in led.items()]
    yield f"By what is made equal, {'; '.join(parts)}."
    if capped := [f"{row['arm']} {row['trials']} of {_number(row, 'amount'):.0f}" for row in rows if row["capped"]]:
        yield f"Of larger published grids only so many configurations were tried: {wording.listing(capped)}."


def _untuned(task: Task, yardstick: Yardstick) -> str:
    turn = 1.0 if task.mode == "max" else -1.0
    known = {arm.name: arm.default_score for arm in task.arms.values() if arm.default_score is not None}
    random = {arm.name: float(filled_scores(arm, yardstick).mean()) for arm in task.arms.values() if arm.tuned}
    said = f"The defaults were not run ({REMEDY})"
    if known:
        parts = [
            f"{name} {wording.score(score)} ({wording.signed_score(turn * (score - yardstick.base))})"
            for name, score in sorted(known.items(), key=lambda each: -turn * each[1])
        ]
        said = f"At the defaults {wording.listing(parts)}, against the base score {wording.score(yardstick.base)}"
        if missing := len(task.arms) - len(known):
            said += f"; the defaults of {wording.plural(missing, 'arm')} were not run"
    if random:
        ranked = sorted(random.items(), key=lambda each: -turn * each[1])
        said += f". One random configuration: {wording.listing([f'{name} {wording.score(s)}' for name, s in ranked])}"
        said += " on average"
    return f"{said}."


def _reached(rows: Sequence[Row]) -> list[Row]:
    return sorted((row for row in rows if math.isfinite(_number(row, "cost"))), key=lambda row: _number(row, "cost"))


def _number(row: Mapping[str, object], name: str) -> float:
    return float(row[name])  # type: ignore[arg-type]


def _cost(row: Row, name: str) -> str:
    return wording.count(_number(row, name))
