"""The tuning-cost comparison as a page of its own, and its tables, which the terminal shows too."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from search import wording
from search.comparison import COST_UNITS, Comparison
from search.report.comparison_figures import band_charts, curve_charts
from search.report.page import render_page, version, write_atomically
from search.report.tables import Column, Table


def write_comparison(comparison: Comparison, folder: str | Path) -> Path:
    """Return the path of `comparison.html`, written to `folder` with its numbers as CSV; each appears whole.

    Raises:
        StoreError: the folder cannot be written to.
    """
    curves, bands = curve_charts(comparison), band_charts(comparison)
    page = render_page(
        "comparison.html.j2",
        [*curves, *bands],
        title=f"Tuning cost: {wording.listing(comparison.arms)}",
        arms=wording.listing(comparison.arms),
        sweeps=wording.listing(comparison.sweeps),
        written=wording.moment(datetime.now(UTC)),
        version=version(),
        answers=comparison.answers,
        cheapest=cheapest_table(comparison),
        sentences=comparison.verdicts["sentence"].tolist(),
        budget=comparison.budget_statement,
        summary=comparison.summary,
        curves=curves,
        bands=bands,
        results=results_table(comparison),
        targets=targets_table(comparison),
        spaces=spaces_table(comparison),
        notes=comparison.notes,
        reading=list(_reading(comparison)),
        command=f"recsweep compare {' '.join(comparison.sweeps)} --arms {' '.join(comparison.arms)}",
    )
    target = Path(folder) / "comparison.html"
    write_atomically(target, page)
    for name in FRAMES:
        write_atomically(Path(folder) / "comparison" / f"{name}.csv", getattr(comparison, name).to_csv(index=False))
    return target


FRAMES = ("tasks", "results", "curves", "bands", "targets", "cheapest", "verdicts")
"""The frames of a comparison, each a CSV file beside its page with every number in full precision."""


def cheapest_table(comparison: Comparison) -> Table:
    """Return what coming within 1 % of the best known score costs each arm; the cheapest of each task is marked."""
    unit = COST_UNITS[comparison.cost]
    columns = [Column("task"), Column("arm"), Column("score to reach", "number")]
    columns += [Column("configurations that do", "number"), Column(f"expected {unit}", "number")]
    columns += [Column("80\u00a0%\u00a0interval", "number"), Column("cheapest of all arms", "number")]
    rows = [
        [
            *(str(row["task"]), str(row["arm"]), wording.score(row["score"])),
            f"{row['hits']} of {row['candidates']}",
            wording.count(row["cost"]) if np.isfinite(row["cost"]) else "not reached",
            f"{wording.count(row['low'])} to {wording.count(row['high'])}" if row["hits"] else wording.NONE,
            f"in {row['share']:.0%} of draws",
        ]
        for _, row in comparison.cheapest.iterrows()
    ]
    known = comparison.cheapest[np.isfinite(comparison.cheapest["cost"])]
    marked = frozenset(int(place) for place in known.groupby("task")["cost"].idxmin())
    return Table("Tuning to within 1\u00a0% of the best known score", columns, rows, marked)


def results_table(comparison: Comparison) -> Table:
    """Return what each arm reaches at the common budget, with harm and regret."""
    columns = [
        Column("task"),
        Column("arm"),
        Column("configurations that the budget buys", "number"),
        Column("expected best at the budget", "number"),
        Column("gain over base", "number"),
        Column("best found", "number"),
        Column("worse than base (95\u00a0%\u00a0interval)", "number"),
        Column("best over own default", "number"),
        Column("area under regret", "number"),
    ]
    rows = [
        [
            str(row["task"]),
            str(row["arm"]),
            f"{row['affordable']} of {row['trials']}",
            wording.score(row["expected_best"]),
            wording.NONE if wording.missing(row["gain"]) else wording.signed_share(row["gain"]),
            wording.score(row["best"]),
            _harm(row),
            wording.score(row["default_regret"]),
            wording.score(row["regret_area"]),
        ]
        for _, row in comparison.results.iterrows()
    ]
    return Table("At the common budget", columns, rows)


def _harm(row: pd.Series) -> str:
    if wording.missing(row["harm_rate"]):
        return "needs full trials"
    return f"{row['harm_rate']:.0%} ({row['harm_low']:.0%} to {row['harm_high']:.0%})"


def targets_table(comparison: Comparison) -> Table:
    """Return the expected cost to each target; "> all" where no configuration of the arm reached it."""
    unit = COST_UNITS[comparison.cost]
    names = list(dict.fromkeys(comparison.targets["target"]))
    columns = [Column("task"), Column("arm"), *(Column(name, "number") for name in names)]
    rows = []
    for (task, arm), found in comparison.targets.groupby(["task", "arm"], sort=False):
        by_name = {row["target"]: row for _, row in found.iterrows()}
        total = comparison.results.query("task == @task and arm == @arm")["cost"].iloc[0]
        cells = [_cost_to_target(by_name[name], total) if name in by_name else wording.NONE for name in names]
        rows.append([str(task), str(arm), *cells])
    return Table(f"Expected cost to reach a score, in {unit} (in configurations)", columns, rows)


def _cost_to_target(row: pd.Series, total: float) -> str:
    if row["censored"]:
        return f"> {wording.count(total)} (> {row['candidates']})"
    return f"{wording.count(row['cost'])} ({row['trials']:.1f})"


def spaces_table(comparison: Comparison) -> Table:
    """Return what was searched in each arm and what it cost in all."""
    unit = COST_UNITS[comparison.cost]
    columns = [Column("task"), Column("arm"), Column("tuned", "number"), Column("hyperparameters", "long")]
    columns += [Column("configurations in the space", "number"), Column("tried", "number")]
    columns += [
        Column("trials finished, cut short, failed", "number"),
        Column(unit, "number"),
        Column("device time", "number"),
    ]
    rows = [
        [
            str(row["task"]),
            str(row["arm"]),
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


def _reading(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the terms of the page with what they mean, and the base and reference of each task."""
    unit = COST_UNITS[comparison.cost]
    yield (
        "Expected best",
        f"mean of the best validation score over random orders of the arm's trials, at a budget in {unit}",
    )
    yield (
        "Dotted",
        "beyond a third of an arm's trials, where the estimate leans on a handful of them; never extrapolated",
    )
    yield (
        "Band",
        f"{comparison.confidence:.0%} band of the median best of k configurations, for all k at once, drawn at k times "
        "the arm's mean cost; it leaves the figure where the trials cannot bound it",
    )
    yield "Worse than base", "share of configurations with a score worse than the base score, with its Wilson interval"
    yield (
        "Best over own default",
        "how much the best configuration gains over the arm's default one, where that was run",
    )
    yield (
        "Area under regret",
        "mean share of the known gain that is still missing, over the logarithm of the budget; above 1 where the "
        "expected best is worse than the base",
    )
    for task in comparison.tasks.to_dict("records"):
        yield (
            f"Scores of {task['task']}",
            f"{task['metric']} ({'larger' if task['mode'] == 'max' else 'smaller'} is better); base "
            f"{wording.score(task['base'])} ({task['base_source']}), tuned base {wording.score(task['tuned_base'])}, "
            f"reference {wording.score(task['reference'])} (best of all arms, by {task['reference_arm']})",
        )
