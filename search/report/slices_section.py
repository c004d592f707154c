"""Slices in the sweep's report: the score of every trial against one parameter at a time, and where the best lie."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.report.chart import Chart, Panels, chart, label, slug
from search.report.dots import add_dots, dots_legend, drawable
from search.report.frames import SweepFrames
from search.report.parallel import LOG_FACTOR
from search.report.searched import Spaces
from search.report.section import Section, query
from search.report.tables import Column, Table
from spaces.params import Choice, Fixed, Parameter

TASKS_DRAWN = 12
BEST_SHARE = 0.1
EDGE = 0.05
"""A value within this share of a range's length from its end lies at that end."""


def slices_section(frames: SweepFrames, best: pd.DataFrame, spaces: Spaces) -> Section | None:
    """Return the section, or None where no trial with tuned parameters has a score.

    Args:
        best: what `best_configurations` returned for the sweep.
    """
    points = scored_values(frames)
    if points.empty:
        return None
    drawn = [task for task in frames.tasks if len(frames.of_task(points, task))]
    rest = len(drawn) - TASKS_DRAWN
    left_out = [f"{wording.plural(rest, 'more pair')} of data set and model are not drawn."] if rest > 0 else []
    table = _table(frames, points, spaces, best.set_index("cell")["trial"])
    return Section(
        "slices",
        "Slices",
        [
            "The score of every trial against one parameter at a time, over all arms that tune it. A trend shows "
            "through however the other parameters lie; a cloud says that this one alone decides little.",
            *left_out,
            *_edges(table),
        ],
        [table] if table.rows else [],
        [_panels(frames, points, spaces, task) for task in drawn[:TASKS_DRAWN]],
        commands={"Every dot with its numbers": query("trials_wide", frames.name)},
    )


def scored_values(frames: SweepFrames) -> pd.DataFrame:
    """Return one row per tuned parameter and trial that has a score and neither failed nor diverged."""
    columns = ["trial", "cell", "dataset", "model", "arm", "status", "score"]
    return frames.params[["trial", "name", "value"]].merge(drawable(frames.trials)[columns], on="trial")


def _panels(frames: SweepFrames, points: pd.DataFrame, spaces: Spaces, task: tuple[str, str]) -> Panels:
    rows = frames.of_task(points, task)
    lowest, highest = float(rows["score"].min()), float(rows["score"].max())
    room = 0.05 * (highest - lowest) or 0.01
    charts = [
        _chart(frames, str(name), group, _ranges(spaces, group, str(name)), [lowest - room, highest + room])
        for name, group in rows.groupby("name", sort=True)
    ]
    caption = (
        "Each dot is a trial; hollow ones were ended early or go on. An axis is logarithmic where the parameter was "
        f"searched so, or where the values that were listed span more than a factor of {LOG_FACTOR}."
    )
    title = ", ".join(task)
    return Panels(f"slices-{slug(title)}", title, caption, charts, dots_legend(frames, rows), narrow=True)


def _ranges(spaces: Spaces, group: pd.DataFrame, name: str) -> list[Parameter]:
    cells = group["cell"].astype(str).unique()
    return [spaces[cell][name] for cell in cells if name in spaces.get(cell, {})]


def _chart(
    frames: SweepFrames, name: str, rows: pd.DataFrame, ranges: Sequence[Parameter], heights: Sequence[float]
) -> Chart:
    figure = go.Figure()
    if all(_is_number(value) for value in rows["value"]):
        _set_numbers(figure, [float(value) for value in rows["value"]], ranges)
    else:
        rows = rows.assign(value=[label(wording.number(value)) for value in rows["value"]])
        figure.update_xaxes(type="category", categoryorder="category ascending")
    add_dots(figure, frames, rows, "value", "%{y:.4f} at %{x}")
    figure.update_yaxes(range=list(heights), title=label(f"validation {frames.metric}"), nticks=5)
    figure.update_layout(hovermode="closest")
    identity = f"slice-{slug(str(rows['dataset'].iloc[0]))}-{slug(str(rows['model'].iloc[0]))}-{slug(name)}"
    return chart(identity, name, "", figure, height=15)


def _set_numbers(figure: go.Figure, values: Sequence[float], ranges: Sequence[Parameter]) -> None:
    """Sets the scale, and the range to what was searched, so that dots at an end of it are seen to be there."""
    ends = [float(end) for each in ranges if not isinstance(each, Choice | Fixed) for end in (each.low, each.high)]
    low, high = min([*values, *ends]), max([*values, *ends])
    if logarithmic(values, ranges):
        low, high = math.log10(low), math.log10(high)
        figure.update_xaxes(type="log", dtick=1 if high - low > 1.5 else None, exponentformat="power")
        # plotly sets powers a quarter larger than other ticks.
        figure.update_xaxes(tickfont_size=10)
    room = 0.04 * (high - low) or 0.5
    figure.update_xaxes(range=[low - room, high + room], nticks=5)


def logarithmic(values: Sequence[float], ranges: Sequence[Parameter]) -> bool:
    """Return whether numbers are drawn on a logarithmic axis: as they were searched, else by how far they spread."""
    if min(values) <= 0:
        return False
    scales = [each.log for each in ranges if not isinstance(each, Choice | Fixed)]
    return all(scales) if scales else max(values) / min(values) > LOG_FACTOR


def _table(frames: SweepFrames, points: pd.DataFrame, spaces: Spaces, best: pd.Series) -> Table:
    columns = [Column("data set, model"), Column("arm"), Column("parameter"), Column("searched", "long")]
    columns += [Column("best"), Column("best tenth"), Column("of trials", "number"), Column("the best lies")]
    finished = points[points["status"] == "finished"]
    rows = []
    for (cell, name), group in finished.groupby(["cell", "name"], sort=True):
        chosen = group[group["trial"] == best.get(cell)]
        if chosen.empty:
            continue
        first, value = group.iloc[0], chosen["value"].iloc[0]
        space = spaces.get(str(cell), {}).get(str(name))
        task = f"{first['dataset']}, {first['model']}"
        where = [wording.number(value), _best_tenth(frames, group), wording.count(len(group)), edge(space, value)]
        rows.append([task, str(first["arm"]), str(name), space.describe() if space else wording.NONE, *where])
    return Table("Where the best trials of each cell lie in what was searched", columns, rows)


def _best_tenth(frames: SweepFrames, rows: pd.DataFrame) -> str:
    top = rows.sort_values("score", ascending=not frames.better_is_larger, kind="stable")
    values = top["value"].head(math.ceil(BEST_SHARE * len(rows))).tolist()
    if not all(_is_number(value) for value in values):
        return ", ".join(sorted({wording.number(value) for value in values}))
    low, high = min(values), max(values)
    return wording.number(low) if low == high else f"{wording.number(low)} to {wording.number(high)}"


def edge(space: Parameter | None, value: object) -> str:
    """Return at which end of what was searched a value lies: of a range near it, of three or more numbers on it."""
    if space is None or isinstance(space, Fixed) or not isinstance(value, int | float):
        return wording.NONE
    if isinstance(space, Choice):
        numbers = [float(each) for each in space.values if isinstance(each, int | float) and _is_number(each)]
        if len(numbers) < len(space.values) or len(numbers) < 3:
            return wording.NONE
        low, high, place, room = min(numbers), max(numbers), float(value), 0.0
    else:
        scale = math.log if space.log else float
        low, high, place = scale(space.low), scale(space.high), scale(value)
        room = EDGE * (high - low)
    if place <= low + room:
        return "at the lower end"
    return "at the upper end" if place >= high - room else "inside"


def _edges(table: Table) -> Iterator[str]:
    known = [row[-1] for row in table.rows if row[-1] != wording.NONE]
    there = sum("end" in each for each in known)
    if there:
        yield (
            f"In {there} of {len(known)} rows of the table below the best value lies at an end of what was searched; a "
            "wider range may do better there."
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
