"""The loss landscape in the sweep's report: the training loss around each arm's weights, and how sharp it is there."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from search import wording
from search.protocol_tables import landscape_table
from search.report.frames import SweepFrames
from search.report.landscape_figures import landscape_panels
from search.report.measured import measurements, named, outdated, tasks
from search.report.section import Section
from search.report.tables import Column, Table

_MODES = {
    "filter_norm": "filter_norm, directions scaled to the weights row by row",
    "paper": "paper, directions of unit variance in every weight, as the paper writes them",
}
_SCALARS = {
    "ascent_sharpness": "rise along the gradient (radius ρ)",
    "average_sharpness": "mean rise under noise (σ relative to each row)",
    "hessian_eigenvalue": "largest eigenvalue of the Hessian",
}


def landscape_section(frames: SweepFrames) -> Section | None:
    """Return the section, or None where the store holds no measurement of the sweep's landscapes."""
    rows = measurements(frames, "landscape")
    points, scalars = named(frames, grid_points(rows)), landscape_table(rows)
    if points.empty and scalars.empty:
        return None
    tables = [_points_table(points)] if len(points) else []
    return Section(
        "landscape",
        "Loss landscape",
        [
            "The training loss around the trained weights of every cell's best configuration: the same training "
            "batches, negatives and random directions for all arms, dropout off.",
            "Sharpness depends on how a model's weights are scaled, so hold arms of one model against each other, "
            "never models; and a flat surface is no score: whether it generalises stands in the other sections.",
            *outdated(frames, rows),
        ],
        [*tables, *([_scalars_table(named(frames, scalars))] if len(scalars) else [])],
        [landscape_panels(frames, task, mode, described(mode), group) for task, mode, group in _groups(points)],
    )


def described(mode: str) -> str:
    """Return what a mode's directions are, in plain words; a name that is not known as it is."""
    return _MODES.get(mode, mode)


def grid_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean loss over the seeds at each point of the grids: cell, subject, point, x, y, seeds, loss.

    `y` is null throughout on a line. Points at which any seed's loss is missing or not finite are left out.
    """
    grid = rows[rows["subject"].isin(_MODES) & (rows["metric"] == "loss")]
    places = grid[np.isfinite(grid["value"].astype(float))].groupby(["cell", "subject", "point"], sort=False)
    points = places.agg(x=("x", "first"), y=("y", "first"), seeds=("seed", "nunique"), loss=("value", "mean"))
    points = points.reset_index()
    everyone = grid.groupby(["cell", "subject"])["seed"].nunique().rename("everyone")
    whole = points.join(everyone, on=["cell", "subject"])
    return whole[whole["seeds"] == whole["everyone"]].drop(columns="everyone").reset_index(drop=True)


def _groups(points: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for task, part in tasks(points):
        for mode, rows in part.groupby("subject", sort=False):
            yield task, str(mode), rows


def _points_table(points: pd.DataFrame) -> Table:
    columns = [Column("data set, model"), Column("directions"), Column("arm"), Column("seeds", "number")]
    columns += [Column("points", "number"), Column("loss at the weights", "number"), Column("lowest", "number")]
    columns += [Column("highest", "number"), Column("mean rise over the grid", "number")]
    rows = [
        [task, mode, str(arm), wording.count(part["seeds"].max()), wording.count(len(part)), *_summary(part)]
        for task, mode, group in _groups(points)
        for arm, part in group.groupby("arm", sort=False)
    ]
    return Table("The loss over each grid, the mean over seeds at each of its points", columns, rows)


def _summary(points: pd.DataFrame) -> list[str]:
    centre = points[(points["x"] == 0) & (points["y"].fillna(0) == 0)]["loss"]
    at_weights = float(centre.iloc[0]) if len(centre) else None
    rise = None if at_weights is None else float(points["loss"].mean()) - at_weights
    values = (at_weights, points["loss"].min(), points["loss"].max(), rise)
    return [wording.number(value if value is None else float(value)) for value in values]


def _scalars_table(table: pd.DataFrame) -> Table:
    columns = [Column("data set, model"), Column("sharpness"), Column("level"), Column("arm")]
    columns += [Column("seeds", "number"), Column("mean", "number"), Column("deviation", "number")]
    columns += [Column("range", "number")]
    rows = [
        [task, _SCALARS.get(str(subject), str(subject)), str(level) or wording.NONE, str(row["arm"]), *_spread(row)]
        for task, part in tasks(table)
        for (subject, level), group in part.groupby(["subject", "level"], sort=False)
        for _, row in group.iterrows()
    ]
    return Table("Sharpness at the trained weights; smaller is flatter", columns, rows)


def _spread(row: Mapping[str, object] | pd.Series) -> list[str]:
    number = wording.number
    return [
        number(row["seeds"]),
        number(row["mean"]),
        number(row["deviation"]),
        wording.NONE if row["low"] == row["high"] else f"{number(row['low'])} to {number(row['high'])}",
    ]
