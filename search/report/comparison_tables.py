"""The tables of a comparison, for its page and for the terminal."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from search import wording
from search.arms import BASE_ARM
from search.comparison import COST_UNITS, Comparison
from search.equal_budgets import BUDGETS, DRAWS
from search.report.tables import Column, Table


def told_first(comparison: Comparison) -> tuple[list[str], list[str]]:
    """Return the verdicts on pairs that are told apart or have the base arm in them, and those on the other pairs."""
    verdicts = comparison.verdicts
    first = verdicts["winner"].notna() | (verdicts["first"] == BASE_ARM) | (verdicts["second"] == BASE_ARM)
    return verdicts.loc[first, "sentence"].tolist(), verdicts.loc[~first, "sentence"].tolist()


def cheapest_table(comparison: Comparison) -> Table:
    """Return what coming within 1 % of the best known score costs each arm, the cheapest first and marked."""
    unit = COST_UNITS[comparison.cost]
    columns = [*_heads(comparison), Column("configurations so close", "number"), Column(f"expected {unit}", "number")]
    columns += [Column("80\u00a0%\u00a0interval", "number"), Column("cheapest of all arms", "number")]
    order = {task: place for place, task in enumerate(comparison.tasks["task"])}
    ranked = comparison.cheapest.assign(place=comparison.cheapest["task"].map(order))
    ranked = ranked.sort_values(["place", "cost", "low"], kind="stable").reset_index(drop=True)
    rows = [
        [
            *_names(comparison, row),
            f"{row['hits']} of {row['candidates']}",
            wording.count(row["cost"]) if np.isfinite(row["cost"]) else "not reached",
            _cost_interval(row),
            f"in {row['share']:.0%} of draws",
        ]
        for _, row in ranked.iterrows()
    ]
    marked = frozenset(int(place) for place in ranked.index[~ranked.duplicated("task")])
    return Table("Tuning to within 1\u00a0% of the best known score", columns, rows, marked)


def _cost_interval(row: pd.Series) -> str:
    if row["low"] == row["high"]:
        return "exact" if np.isfinite(row["low"]) else "never"
    if np.isinf(row["high"]):
        return f"at least {wording.count(row['low'])}"
    return f"{wording.count(row['low'])} to {wording.count(row['high'])}"


def equal_budgets_table(comparison: Comparison) -> Table:
    """Return each arm's expected best at every equal budget, with its rank and how often it leads."""
    known = [budget for budget in BUDGETS if (comparison.equal_budgets["budget"] == budget).any()]
    columns = [*_heads(comparison), *(Column(BUDGETS[budget], "number") for budget in known)]
    rows = []
    for (task, arm), found in comparison.equal_budgets.groupby(["task", "arm"], sort=False):
        by_budget = {row["budget"]: row for _, row in found.iterrows()}
        cells = [_equal(by_budget[budget]) if budget in by_budget else wording.NONE for budget in known]
        rows.append([*_names(comparison, {"task": task, "arm": arm}), *cells])
    caption = (
        "Rank, expected best of how many configurations, and share of "
        f"{wording.count(DRAWS)} bootstrap draws in which the arm leads, by what is made equal"
    )
    return Table(caption, columns, rows)


def _equal(row: pd.Series) -> str:
    grid = f" (grid: {row['amount']:.0f})" if row["capped"] else ""
    return f"{row['rank']}. {wording.score(row['expected_best'])} of {row['trials']}{grid}, {row['leads']:.0%}"


def results_table(comparison: Comparison) -> Table:
    """Return what each arm reaches at the common budget."""
    columns = [
        *_heads(comparison),
        Column("configurations that the budget buys", "number"),
        Column("expected best at the budget", "number"),
        Column("gain over base", "number"),
        Column("best found", "number"),
        Column("area under regret", "number"),
    ]
    rows = [
        [
            *_names(comparison, row),
            f"{row['affordable']} of {row['trials']}",
            wording.score(row["expected_best"]),
            wording.NONE if wording.missing(row["gain"]) else wording.signed_share(row["gain"]),
            wording.score(row["best"]),
            wording.NONE if wording.missing(row["regret_area"]) else f"{row['regret_area']:.2f}",
        ]
        for _, row in comparison.results.iterrows()
    ]
    return Table("At the common budget", columns, rows)


def sensitivity_table(comparison: Comparison) -> Table:
    """Return how much each arm's score hangs on its hyperparameters, and what tuning adds to its defaults."""
    columns = [
        *_heads(comparison),
        Column("worse than base (95\u00a0%\u00a0interval)", "number"),
        Column("nine in ten reach", "number"),
        Column("interquartile range", "number"),
        Column("standard deviation", "number"),
        Column("best over own default", "number"),
    ]
    rows = [
        [
            *_names(comparison, row),
            _harm(row),
            *(wording.score(row[name]) for name in ("p10", "iqr", "deviation", "default_regret")),
        ]
        for _, row in comparison.results.iterrows()
    ]
    return Table("How much the score hangs on the configuration, over all that were tried", columns, rows)


def _harm(row: pd.Series) -> str:
    if wording.missing(row["harm_rate"]):
        return "needs full trials"
    return f"{row['harm_rate']:.0%} ({row['harm_low']:.0%} to {row['harm_high']:.0%})"


def targets_table(comparison: Comparison) -> Table:
    """Return the expected cost to each target; "> all" where no configuration of the arm reached it."""
    unit = COST_UNITS[comparison.cost]
    names = list(dict.fromkeys(comparison.targets["target"]))
    columns = [*_heads(comparison), *(Column(name, "number") for name in names)]
    rows = []
    for (task, arm), found in comparison.targets.groupby(["task", "arm"], sort=False):
        by_name = {row["target"]: row for _, row in found.iterrows()}
        total = comparison.results.query("task == @task and arm == @arm")["cost"].iloc[0]
        cells = [_cost_to_target(by_name[name], total) if name in by_name else wording.NONE for name in names]
        rows.append([*_names(comparison, {"task": task, "arm": arm}), *cells])
    return Table(f"Expected cost to reach a score, in {unit} (in configurations)", columns, rows)


def _cost_to_target(row: pd.Series, total: float) -> str:
    if row["censored"]:
        return f"> {wording.count(total)} (> {row['candidates']})"
    return f"{wording.count(row['cost'])} ({row['trials']:.1f})"


def transfer_table(comparison: Comparison) -> Table:
    """Return per arm what the best configuration of one data set misses on another, over all ordered pairs of them."""
    columns = [Column("setting"), Column("arm"), Column("pairs", "number"), Column("misses on average", "number")]
    columns += [Column("relative", "number"), Column("most, relative", "number"), Column("best of, used on")]
    known = comparison.transfer[comparison.transfer["regret"].notna()]
    rows = []
    for (setting, arm), pairs in known.groupby(["setting", "arm"], sort=False):
        worst = pairs.sort_values("regret", kind="stable").iloc[-1]
        cells = [wording.count(len(pairs)), wording.score(pairs["regret"].mean())]
        cells += [wording.share(pairs["relative"].mean()), wording.share(worst["relative"])]
        rows.append([str(setting), str(arm), *cells, f"{worst['source']}, {worst['target']}"])
    return Table("What the best configuration of one data set misses on another", columns, rows)


def spaces_table(comparison: Comparison) -> Table:
    """Return what was searched in each arm and what it cost in all."""
    columns = [*_heads(comparison), Column("tuned", "number"), Column("hyperparameters", "long")]
    columns += [Column("configurations in the space", "number"), Column("tried", "number")]
    columns += [
        Column("trials finished, cut short, failed", "number"),
        Column(COST_UNITS[comparison.cost], "number"),
        Column("device time", "number"),
    ]
    rows = [
        [
            *_names(comparison, row),
            str(row["tuned"]),
            str(row["tuned_names"]) or "none",
            "continuous" if wording.missing(row["space_size"]) else wording.count(row["space_size"]),
            wording.count(row["trials"]),
            f"{row['finished']}, {row['truncated']}, {row['failed']}",
            wording.count(row["cost"]),
            wording.duration(row["device_seconds"]),
        ]
        for _, row in comparison.results.iterrows()
    ]
    return Table("What was searched", columns, rows)


def _heads(comparison: Comparison) -> Sequence[Column]:
    return [Column("task"), Column("arm")] if len(comparison.tasks) > 1 else [Column("arm")]


def _names(comparison: Comparison, row: pd.Series | dict[str, object]) -> Sequence[str]:
    return [str(row["task"]), str(row["arm"])] if len(comparison.tasks) > 1 else [str(row["arm"])]
