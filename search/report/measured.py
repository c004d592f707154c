"""The rows that a protocol left in the store, as the report shows them: the current ones, under the arms' names."""

from collections.abc import Iterator, Sequence

import pandas as pd

from search import wording
from search.report.best import best_configurations
from search.report.frames import SweepFrames


def measurements(frames: SweepFrames, protocol: str) -> pd.DataFrame:
    """Return the rows of one protocol, of every cell only those of the trial that was measured last."""
    rows = frames.protocols[frames.protocols["protocol"] == protocol]
    rows = rows[rows["cell"].isin(frames.trials["cell"])]
    if rows.empty:
        return rows
    last = rows.loc[rows.groupby("cell")["written"].idxmax()].set_index("cell")["trial"]
    return rows[rows["trial"] == rows["cell"].map(last)]


def named(frames: SweepFrames, table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of cells with the columns dataset, model and arm, in the report's order of arms."""
    cells = frames.trials.drop_duplicates("cell").set_index("cell")
    names = {column: table["cell"].map(cells[column]) for column in ("dataset", "model", "arm")}
    return table.assign(**names).sort_values(
        ["dataset", "model", "arm"],
        key=lambda column: column.map(frames.arms.index) if column.name == "arm" else column,
        kind="stable",
        ignore_index=True,
    )


def tasks(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield "data set, model" with its rows of a named table."""
    for (dataset, model), rows in table.groupby(["dataset", "model"], sort=False):
        yield f"{dataset}, {model}", rows


def ordered_levels(rows: pd.DataFrame) -> list[str]:
    """Return the labels of severity from mild to severe; labels without a number keep their order, at the end."""
    levels = rows.drop_duplicates("level").sort_values("severity", kind="stable")
    return [str(level) for level in levels["level"]]


def outdated(frames: SweepFrames, rows: pd.DataFrame) -> list[str]:
    """Return a sentence per cell whose measured configuration is no longer its best one."""
    best = best_configurations(frames).set_index("cell")
    measured = rows.drop_duplicates("cell")
    return [
        f"{cell}: measured is {trial}; since then {best.loc[cell, 'trial']} has become the cell's best configuration."
        for cell, trial in zip(measured["cell"], measured["trial"], strict=True)
        if cell in best.index
        and not wording.missing(best.loc[cell, "trial"])
        and trial not in _members(best.loc[cell, "trials"])
    ]


def _members(trials: object) -> Sequence[str]:
    return trials if isinstance(trials, tuple) else ()


def diverged(rows: pd.DataFrame, metric: str) -> list[str]:
    """Return a sentence per cell with runs whose goal metric is no number."""
    goal = rows[rows["metric"] == metric]
    bad = goal[~goal["value"].astype(float).abs().lt(float("inf"))]
    return [
        f"{cell}: {wording.plural(int(group['seed'].nunique()), 'training')} diverged or left no score; "
        "means over them are not given."
        for cell, group in bad.groupby("cell", sort=False)
    ]
