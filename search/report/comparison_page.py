"""The tuning-cost comparison as a page of its own."""

from datetime import UTC, datetime
from pathlib import Path

from search import wording
from search.arms import BASE_ARM
from search.comparison import Comparison
from search.report.comparison_figures import band_charts, curve_charts, profile_charts
from search.report.comparison_reading import terms
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
        reading=terms(comparison),
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
        f"Median best of k configurations at k times their mean cost, with its {comparison.confidence:.0%} band, which "
        "holds for all k at once at least that often. Where a band reaches the edge, the trials do not bound the score "
        "on that side."
    )


def _command(comparison: Comparison) -> str:
    arms = [f"--arms {arm}" for arm in comparison.arms if arm != BASE_ARM]
    return " ".join(("recsweep compare", *comparison.sweeps, *arms, f"--cost {comparison.cost}"))
