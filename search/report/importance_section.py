"""The importance of tuned parameters in the sweep's report: PED-ANOVA per cell, with bootstrap intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.importance import CONFIDENCE, LEAST, RESAMPLES, TENTH_FROM, Importances, holds, importances
from search.report.best import rank_configurations
from search.report.chart import REST, Chart, Panels, chart, label, series, slug
from search.report.frames import SweepFrames
from search.report.searched import Spaces
from search.report.section import Section
from search.report.tables import Column, Table
from spaces.params import Choice, Fixed, Parameter

CELLS_DRAWN = 24

_METHOD = (
    "What decided whether a configuration was among the best of its cell? PED-ANOVA (Watanabe, Bansal and Hutter, "
    "2023) holds the density of the best configurations against that of all, parameter by parameter; a parameter's "
    "share is its part of the sum. Shares say nothing of how parameters act together, nor outside the range "
    "that was searched."
)
_RULE = (
    f"The best are the best tenth of at least {TENTH_FROM} finished configurations, else the best 30\u00a0% of at "
    f"least {LEAST}, so never fewer than five; below that no share is given. Seeds are averaged. Intervals are the "
    f"middle {CONFIDENCE:.0%} of {RESAMPLES} bootstrap resamples of the configurations: shares whose intervals overlap "
    "much are not told apart, and intervals lean upwards where the influence is small."
)


@dataclass(frozen=True)
class CellImportances:
    """The shares of one cell's parameters, and where the cell belongs."""

    cell: str
    task: str
    arm: str
    found: Importances


def importance_section(frames: SweepFrames, spaces: Spaces) -> Section | None:
    """Return the section, or None where nothing was tuned or no trial has finished."""
    if frames.params.empty or frames.scored.empty:
        return None
    if not spaces:
        unread = "This version of recsweep cannot read the stored specification, so it does not know what was searched."
        return Section("importances", "Importances", [_METHOD, unread], [])
    cells = dict.fromkeys(frames.trials["cell"].astype(str))
    several = [cell for cell in cells if len(spaces.get(cell, {})) > 1]
    found = [each for cell in several if (each := _cell(frames, cell, spaces[cell])) is not None]
    return Section(
        "importances",
        "Importances",
        [_METHOD, _RULE, *_left_out(frames, several, found), *_single(spaces, cells)],
        [_table(found)] if found else [],
        _panels(frames, found),
    )


def _cell(frames: SweepFrames, cell: str, space: Mapping[str, Parameter]) -> CellImportances | None:
    """The shares in one cell; None for too few configurations."""
    points = cell_points(frames, cell, space)
    losses = points["score"].to_numpy(dtype=np.float64) * (-1.0 if frames.better_is_larger else 1.0)
    values = {name: points[name].tolist() for name in space}
    # The same report has the same intervals whenever it is written.
    found = importances(space, values, losses, np.random.default_rng(0), over_grid=_exhausted(points, space))
    if found is None:
        return None
    row = frames.trials[frames.trials["cell"] == cell].iloc[0]
    return CellImportances(cell, f"{row['dataset']}, {row['model']}", str(row["arm"]), found)


def cell_points(frames: SweepFrames, cell: str, space: Mapping[str, Parameter]) -> pd.DataFrame:
    """Return a cell's candidates with their mean score and one column per parameter; incomplete ones are left out."""
    ranking = rank_configurations(frames, frames.scored[frames.scored["cell"] == cell])
    rows = frames.params[frames.params["trial"].isin([trials[0] for trials in ranking["trials"]])]
    values = rows.pivot(index="trial", columns="name", values="value").reindex(columns=list(space))
    points = ranking.assign(trial=[trials[0] for trials in ranking["trials"]]).join(values, on="trial")
    whole = [all(holds(space[name], row[name]) for name in space) for _, row in points.iterrows()]
    return points[np.array(whole, dtype=bool)]


def _exhausted(points: pd.DataFrame, space: Mapping[str, Parameter]) -> bool:
    sizes = [parameter.size() if isinstance(parameter, Choice | Fixed) else None for parameter in space.values()]
    known = [size for size in sizes if size is not None]
    return len(known) == len(sizes) and len(points.drop_duplicates(list(space))) >= int(np.prod(known))


def _left_out(frames: SweepFrames, several: Sequence[str], found: Sequence[CellImportances]) -> Iterator[str]:
    few = [cell for cell in several if cell not in {each.cell for each in found}]
    if few:
        counts = frames.scored[frames.scored["cell"].isin(few)].groupby("cell")["configuration"].nunique()
        most = int(counts.max()) if len(counts) else 0
        yield f"Too few trials, at the most {wording.plural(most, 'finished configuration')}: {_listing(few)}."


def _single(spaces: Spaces, cells: Mapping[str, None]) -> Iterator[str]:
    single = [cell for cell in cells if len(spaces.get(cell, {})) == 1]
    if single:
        yield f"Where one parameter alone was tuned there is nothing to share: {_listing(single)}."


def _listing(cells: Sequence[str], shown: int = 6) -> str:
    rest = len(cells) - shown
    return wording.listing([*cells[:shown], *([f"{rest} more"] if rest > 0 else [])])


def _table(cells: Sequence[CellImportances]) -> Table:
    columns = [Column("data set, model"), Column("arm"), Column("parameter"), Column("share", "number")]
    columns += [Column(f"{CONFIDENCE:.0%} interval", "number"), Column("best of", "number"), Column("held against")]
    rows = [
        [
            *(each.task, each.arm, each.found.names[at], wording.share(float(each.found.shares[at]))),
            f"{wording.share(float(each.found.low[at]))} to {wording.share(float(each.found.high[at]))}",
            f"{each.found.best} of {each.found.configurations}",
            "the whole grid" if each.found.over_grid else "all configurations",
        ]
        for each in cells
        for at in _order(each.found)
    ]
    return Table("Importance of the tuned parameters of each cell, the largest share first", columns, rows)


def _order(found: Importances) -> list[int]:
    return sorted(range(len(found.names)), key=lambda at: -found.shares[at])


def _panels(frames: SweepFrames, cells: Sequence[CellImportances]) -> list[Panels]:
    if not cells:
        return []
    looks = series(frames.arms)
    charts = [_chart(each, looks[each.arm].colour) for each in cells[:CELLS_DRAWN]]
    rest = len(cells) - len(charts)
    left_out = f" {wording.plural(rest, 'more cell')} stand in the table only." if rest > 0 else ""
    caption = f"The share of each parameter with its {CONFIDENCE:.0%} interval, a panel per cell.{left_out}"
    return [Panels("importances", "Share of each parameter", caption, charts, narrow=True)]


def _chart(each: CellImportances, colour: str) -> Chart:
    figure = go.Figure()
    order, found = _order(each.found)[::-1], each.found
    ends = {"array": [100 * (found.high[at] - found.shares[at]) for at in order]}
    ends |= {"arrayminus": [100 * (found.shares[at] - found.low[at]) for at in order]}
    figure.add_scatter(
        x=[100 * float(found.shares[at]) for at in order],
        y=list(range(len(order))),
        error_x={"type": "data", "symmetric": False, "color": REST, "thickness": 2, "width": 4, **ends},
        mode="markers",
        marker={"color": colour, "size": 10},
        text=[label(found.names[at]) for at in order],
        hovertemplate="%{text}: %{x:.1f} %<extra></extra>",
    )
    for row, at in enumerate(order):
        # Names stand above their bars: beside them the long ones would leave no room on a phone.
        name = label(found.names[at])
        place = {"x": 0, "y": row, "xanchor": "left", "yanchor": "bottom", "yshift": 7}
        figure.add_annotation(**place, text=name, showarrow=False, font_size=12, borderpad=1)
    figure.update_xaxes(range=[-3, 103], title="share in %", nticks=6)
    figure.update_yaxes(visible=False, range=[-0.5, len(order) - 0.1])
    title = f"{each.task}: {each.arm}"
    return chart(f"importances-{slug(each.cell)}", title, "", figure, height=4 + 2.8 * len(order))
