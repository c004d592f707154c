"""Score against cost in the sweep's report: every trial, and those that no other one beats in both."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.report.chart import REST, Chart, Panels, Series, chart, label, slug
from search.report.dots import add_dots, dots_legend, drawable
from search.report.frames import SweepFrames
from search.report.parallel import LOG_FACTOR
from search.report.section import Section
from search.report.tables import Column, Table
from search.tuning_cost import FloatArray

COSTS = {
    "gradient_evaluations": ("gradient evaluations", "gradient evaluations of the trial"),
    "device_seconds": ("device time", "device-seconds of the trial"),
}
_FRONT = Series("front: no finished trial is both cheaper and better", REST, width=1.5)


def pareto_section(frames: SweepFrames) -> Section | None:
    """Return the section, or None where no finished trial has a score and a cost."""
    fronts = {(task, cost): front_trials(frames, task, cost) for task in frames.tasks for cost in COSTS}
    drawn = [task for task in frames.tasks if any(len(fronts[task, cost]) for cost in COSTS)]
    if not drawn:
        return None
    return Section(
        "pareto",
        "Score against cost",
        [
            "What a single trial cost and what it reached. Trials on the front are the best that their cost buys: "
            "every finished trial that is better costs more. One run is a noisy witness of both."
        ],
        [_table(frames, {task: {cost: fronts[task, cost] for cost in COSTS} for task in drawn})],
        [_panels(frames, task) for task in drawn],
        commands={"What the arms reach at equal budget": f"recsweep compare {frames.name}"},
    )


def front_mask(costs: FloatArray, scores: FloatArray, *, better_is_larger: bool) -> npt.NDArray[np.bool_]:
    """Return who is beaten by nobody: no other is as good and as cheap, and better or cheaper. [n]

    Of trials that are equal in both all are on the front, or none.
    """
    if not len(costs):
        return np.zeros(0, dtype=np.bool_)
    values = scores if better_is_larger else -scores
    # Going up in cost, the better one first where costs are equal, whoever exceeds all before is on the front.
    order = np.lexsort((-values, costs))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(values[order])[:-1]])
    ahead = order[values[order] > before]
    known = set(zip(costs[ahead].tolist(), values[ahead].tolist(), strict=True))
    return np.array([pair in known for pair in zip(costs.tolist(), values.tolist(), strict=True)])


def front_trials(frames: SweepFrames, task: tuple[str, str], cost: str) -> pd.DataFrame:
    """Return the finished trials of a data set and model that are on its front, the cheapest first."""
    trials = frames.of_task(frames.scored, task)
    trials = trials[trials[cost].notna()]
    costs, scores = (trials[column].to_numpy(dtype=np.float64) for column in (cost, "score"))
    mask = front_mask(costs, scores, better_is_larger=frames.better_is_larger)
    return trials[mask].sort_values([cost, "started"], kind="stable")


def _table(frames: SweepFrames, fronts: dict[tuple[str, str], dict[str, pd.DataFrame]]) -> Table:
    columns = [Column("data set, model"), Column("trial"), Column("arm"), Column("on the front of score and")]
    columns += [Column(f"validation {frames.metric}", "number"), Column("gradient evaluations", "number")]
    columns += [Column("device time", "number"), Column("epochs", "number")]
    rows = [
        [
            *(", ".join(task), str(row["trial"]), str(row["arm"]), wording.listing(units)),
            wording.score(row["score"]),
            wording.count(row["gradient_evaluations"]),
            wording.duration(row["device_seconds"]),
            wording.count(row["epochs"]),
        ]
        for task, by_cost in fronts.items()
        for units, row in _merged(by_cost)
    ]
    return Table("The trials on the fronts, by their cost", columns, rows)


def _merged(fronts: dict[str, pd.DataFrame]) -> Iterator[tuple[Sequence[str], pd.Series]]:
    """Each trial of the fronts once, with the units of cost in which it is on one."""
    every = pd.concat(list(fronts.values())).drop_duplicates("trial")
    for _, row in every.sort_values(list(COSTS), kind="stable").iterrows():
        yield [COSTS[cost][0] for cost, front in fronts.items() if (front["trial"] == row["trial"]).any()], row


def _panels(frames: SweepFrames, task: tuple[str, str]) -> Panels:
    shown = drawable(frames.of_task(frames.trials, task))
    charts = [_chart(frames, task, cost, shown[shown[cost].notna()]) for cost in COSTS if shown[cost].notna().any()]
    caption = (
        "Each dot is a trial, with all that it cost until it ended. Trials that did not finish may lie beyond the "
        f"front; none of them can be chosen. Costs that span more than a factor of {LOG_FACTOR} are logarithmic."
    )
    title = ", ".join(task)
    return Panels(f"pareto-{slug(title)}", title, caption, charts, [*dots_legend(frames, shown), _FRONT])


def _chart(frames: SweepFrames, task: tuple[str, str], cost: str, rows: pd.DataFrame) -> Chart:
    figure = go.Figure()
    name, axis = COSTS[cost]
    front = front_trials(frames, task, cost)
    figure.add_scatter(
        x=front[cost].tolist(),
        y=front["score"].tolist(),
        mode="lines+markers",
        line={**_FRONT.line, "shape": "hv"},
        marker={"size": 12, "symbol": "circle-open", "color": REST, "line": {"width": 1.5}},
        hoverinfo="skip",
    )
    add_dots(figure, frames, rows, cost, "%{y:.4f} for %{x:,.4g}")
    lowest, highest = float(rows[cost].min()), float(rows[cost].max())
    if lowest > 0 and highest / lowest > LOG_FACTOR:
        figure.update_xaxes(type="log", dtick=1)
    else:
        figure.update_xaxes(rangemode="tozero")
    figure.update_layout(xaxis_title=axis, yaxis_title=label(f"validation {frames.metric}"), hovermode="closest")
    return chart(f"pareto-{slug(', '.join(task))}-{slug(cost)}", f"Score against {name}", "", figure, height=20)
