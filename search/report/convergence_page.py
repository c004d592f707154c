"""Convergence of several arms in one figure: as a page of its own, as a section of a sweep's report, and as a table."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.convergence_curves import SHARES, Convergence
from search.report.chart import Chart, Panels, Series, chart, label, series, slug, translucent
from search.report.page import render_page, version, write_atomically
from search.report.section import Section
from search.report.tables import Column, Table

POINTS_SHOWN = 300

_AXES: Mapping[str, str] = {
    "epoch": "epochs",
    "gradient_evaluations": "gradient evaluations",
    "train_seconds": "seconds of training",
}


def write_convergence(found: Convergence, folder: str | Path) -> Path:
    """Return the path of `convergence.html`, written to `folder`; it appears whole or not at all.

    Raises:
        StoreError: the folder cannot be written to.
    """
    section = convergence_section(found)
    page = render_page(
        "convergence.html.j2",
        section.charts,
        title=f"Convergence: {wording.listing(found.arms)}",
        arms=wording.listing(found.arms),
        sweeps=wording.listing(found.sweeps),
        written=wording.moment(datetime.now(UTC)),
        version=version(),
        section=section,
        runs=runs_table(found),
        command=" ".join(["recsweep convergence", *found.sweeps, *(f"--arms {arm}" for arm in found.arms)]),
    )
    target = Path(folder) / "convergence.html"
    write_atomically(target, page)
    return target


def convergence_section(found: Convergence) -> Section:
    """Return the figures, one per task, and the table of milestones."""
    return Section(
        "convergence",
        "Convergence",
        [
            "The best configuration of every arm: how its best validation score so far grows with epochs, with "
            "gradient evaluations and with seconds of training. An epoch does not cost the same under every strategy."
        ],
        [milestones_table(found)],
        [_panels(found, task) for _, task in found.tasks.iterrows()],
        found.notes,
    )


def milestones_table(found: Convergence) -> Table:
    """Return per task, arm and share of the arm's own best where that was first reached, the mean over the seeds."""
    columns = [Column("task"), Column("arm"), Column("seeds", "number"), Column("best score", "number")]
    columns += [Column("first at"), *(Column(heading, "number") for heading in _AXES.values())]
    rows = []
    for (task, arm), runs in found.runs.groupby(["task", "arm"], sort=False):
        mine = found.milestones[(found.milestones["task"] == task) & (found.milestones["arm"] == arm)]
        score = wording.with_deviation(runs["score"].mean(), runs["score"].std(ddof=1))
        for share in SHARES:
            reached = mine[mine["share"] == share]
            cells = [_mean_and_range(reached[axis], axis) for axis in _AXES]
            rows.append([str(task), str(arm), str(len(runs)), score, _named(share), *cells])
    caption = "Best score, and what it took to reach shares of an arm's own best"
    several = " (means, with ranges over seeds)" if found.runs.duplicated(["task", "arm"]).any() else ""
    return Table(f"{caption}{several}", columns, rows)


def runs_table(found: Convergence) -> Table:
    """Return the trials behind the curves."""
    columns = [Column("task"), Column("arm"), Column("seed", "number"), Column("best score", "number")]
    columns += [Column(heading, "number") for heading in _AXES.values()]
    columns += [Column("sweep"), Column("trial")]
    rows = [
        [
            *(str(row["task"]), str(row["arm"]), str(row["seed"]), wording.score(row["score"])),
            *(_cost(row[axis], axis) for axis in _AXES),
            *(str(row["sweep"]), str(row["trial"])),
        ]
        for _, row in found.runs.iterrows()
    ]
    return Table("The trials that are drawn, and where each ended", columns, rows)


def _named(share: float) -> str:
    return "its best" if share == 1 else f"{100 * share:g}\u00a0% of its best"


def _mean_and_range(values: pd.Series, axis: str) -> str:
    mean, low, high = (_cost(float(value), axis) for value in (values.mean(), values.min(), values.max()))
    return mean if low == high else f"{mean} ({low} to {high})"


def _cost(value: float, axis: str) -> str:
    return f"{value:.3g}" if axis == "train_seconds" and value < 100 else wording.count(value)


def _panels(found: Convergence, task: pd.Series) -> Panels:
    curves = found.curves[found.curves["task"] == task["task"]]
    arms = [arm for arm in found.arms if (curves["arm"] == arm).any()]
    looks = [look for name, look in series(found.arms).items() if name in arms]
    charts = [_chart(task, axis, curves[curves["axis"] == axis], looks) for axis in _AXES]
    several = found.runs[found.runs["task"] == task["task"]].duplicated(["task", "arm"]).any()
    over_seeds = "; lines are means over the seeds, bands their range" if several else ""
    caption = f"Each step is a new best, and the dot is where the last run ended{over_seeds}."
    return Panels(f"convergence-{slug(task['task'])}", str(task["task"]), caption, charts, looks, narrow=True)


def _chart(task: pd.Series, axis: str, curves: pd.DataFrame, looks: Sequence[Series]) -> Chart:
    figure = go.Figure()
    drawn = {look.name: _thinned(curves[curves["arm"] == look.name]) for look in looks}
    for look in looks:
        _add_band(figure, drawn[look.name], look)
    for look in looks:
        steps = drawn[look.name]
        figure.add_scatter(
            x=steps["x"].tolist(),
            y=steps["mean"].tolist(),
            mode="lines+markers",
            line={**look.line, "shape": "hv"},
            # A dot where the line ends.
            marker={"color": look.colour, "size": [0] * (len(steps) - 1) + [7], "line": {"width": 0}},
            name=label(look.name),
            hovertemplate=f"%{{y:.4f}} after %{{x:,.4g}} {_AXES[axis]}",
        )
    figure.update_layout(xaxis_title=_AXES[axis], yaxis_title=label(f"best {task['metric']} so far"))
    figure.update_xaxes(rangemode="tozero", nticks=6)
    return chart(f"convergence-{slug(task['task'])}-{axis.replace('_', '-')}", _AXES[axis], "", figure, height=20)


def _thinned(steps: pd.DataFrame) -> pd.DataFrame:
    """Return at most `POINTS_SHOWN` of the steps, evenly spread, the first and the last among them."""
    if len(steps) <= POINTS_SHOWN:
        return steps
    places = sorted({round(place * (len(steps) - 1) / (POINTS_SHOWN - 1)) for place in range(POINTS_SHOWN)})
    return steps.iloc[places]


def _add_band(figure: go.Figure, steps: pd.DataFrame, look: Series) -> None:
    if (steps["low"] == steps["high"]).all():
        return
    upper = {"x": steps["x"].tolist(), "y": steps["high"].tolist()}
    lower = {"x": steps["x"].tolist(), "y": steps["low"].tolist()}
    shared = {"mode": "lines", "hoverinfo": "skip", "line": {"width": 0, "shape": "hv"}}
    figure.add_scatter(**lower, **shared)
    figure.add_scatter(**upper, **shared, fill="tonexty", fillcolor=translucent(look.colour, 0.16))
