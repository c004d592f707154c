"""The tuning-cost comparison as a page of its own."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from search import wording
from search.arms import BASE_ARM
from search.comparison import COST_UNITS, Comparison
from search.report.comparison_figures import band_charts, curve_charts, profile_charts
from search.report.comparison_tables import (
    cheapest_table,
    equal_budgets_table,
    results_table,
    sensitivity_table,
    spaces_table,
    targets_table,
    told_first,
    transfer_table,
)
from search.report.page import render_page, version, write_atomically


def write_comparison(comparison: Comparison, folder: str | Path) -> Path:
    """Return the path of `comparison.html`, written to `folder` with its numbers as CSV; each appears whole.

    Raises:
        StoreError: the folder cannot be written to.
    """
    charts = {"curves": curve_charts, "bands": band_charts, "profiles": profile_charts}
    drawn = {name: draw(comparison) for name, draw in charts.items()}
    page = render_page(
        "comparison.html.j2",
        [each for group in drawn.values() for each in group],
        title=f"Tuning cost: {wording.listing(comparison.arms)}",
        arms=wording.listing(comparison.arms),
        sweeps=wording.listing(comparison.sweeps),
        written=wording.moment(datetime.now(UTC)),
        version=version(),
        budget=comparison.budget_statement,
        summary=comparison.summary,
        ranking=comparison.ranking,
        answers=_answers(comparison),
        verdicts=told_first(comparison),
        band=_band(comparison),
        notes=comparison.notes,
        reading=list(_reading(comparison)),
        command=_command(comparison),
        **drawn,
        **{name: table(comparison) for name, table in _TABLES.items()},
    )
    target = Path(folder) / "comparison.html"
    write_atomically(target, page)
    for name in FRAMES:
        write_atomically(Path(folder) / "comparison" / f"{name}.csv", getattr(comparison, name).to_csv(index=False))
    return target


FRAMES = (
    *("tasks", "results", "equal_budgets", "curves", "bands", "targets", "cheapest", "profiles", "ranks", "transfer"),
    *("answers", "verdicts"),
)
"""The frames of a comparison, each a CSV file beside its page with every number in full precision."""

_TABLES = {
    "cheapest": cheapest_table,
    "equal": equal_budgets_table,
    "results": results_table,
    "sensitivity": sensitivity_table,
    "targets": targets_table,
    "transfer": transfer_table,
    "spaces": spaces_table,
}


def _answers(comparison: Comparison) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return per task the questions with their answers."""
    groups = comparison.answers.groupby("task", sort=False)
    return [(str(task), list(zip(rows["question"], rows["answer"], strict=True))) for task, rows in groups]


def _band(comparison: Comparison) -> str:
    return (
        f"Median best of k configurations at k times their mean cost, with its {comparison.confidence:.0%} band for "
        "all k at once. Where a band reaches the edge, the trials do not bound the score on that side."
    )


def _command(comparison: Comparison) -> str:
    arms = [f"--arms {arm}" for arm in comparison.arms if arm != BASE_ARM]
    return " ".join(("recsweep compare", *comparison.sweeps, *arms, f"--cost {comparison.cost}"))


def _reading(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the terms of the page with what they mean, and the base and reference of each task."""
    unit = COST_UNITS[comparison.cost]
    yield (
        "Expected best",
        f"mean of the best validation score over random orders of the arm's trials, at a budget in {unit}",
    )
    yield (
        "80\u00a0% interval",
        "of the expected cost, right at least that often however few configurations came so close (Clopper and "
        "Pearson's, of their share; mean costs and the best known score are taken as these trials have them)",
    )
    yield (
        "Draws",
        "every arm's trials drawn again with replacement: a lead that hangs on one trial is lost in more than a third "
        "of them, and an arm that never came so close cannot win one",
    )
    yield (
        "Equal budgets",
        "the least that an arm with something to tune spent in that unit, and as many configurations as it buys at an "
        "arm's mean cost; for published grids (the preset paper) as many as the arm's own holds of what the sweep "
        "tunes, but drawn from this sweep's space and never more than were tried",
    )
    yield (
        "Dotted",
        "beyond a third of an arm's trials, where the estimate leans on a handful of them; never extrapolated",
    )
    yield "Worse than base", "share of configurations with a score worse than the base score, with its Wilson interval"
    yield (
        "Nine in ten reach",
        "the score that 90 % of the arm's configurations reach or beat; failed ones count as the worst",
    )
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
