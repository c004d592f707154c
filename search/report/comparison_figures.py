"""The figures of a comparison: what budgets buy in each arm, each arm's band beside the base arm's, and profiles."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.arms import BASE_ARM
from search.comparison import COST_UNITS, Comparison
from search.report.chart import REST, Chart, Series, chart, label, series, slug, translucent

BASE_WIDTH = 3.5


def curve_charts(comparison: Comparison) -> list[Chart]:
    """Return one figure per task: the expected best score of every arm against the budget."""
    return [_curve_chart(comparison, task) for _, task in comparison.tasks.iterrows()]


def band_charts(comparison: Comparison) -> list[Chart]:
    """Return one figure per task and arm: its median best score with its band, beside those of the base arm."""
    return [
        _band_chart(comparison, task, arm)
        for _, task in comparison.tasks.iterrows()
        for arm in _arms(comparison, task)
        if arm != BASE_ARM
    ]


def profile_charts(comparison: Comparison) -> list[Chart]:
    """Return the performance profiles as one figure, or none where there are too few tasks for them."""
    if comparison.profiles.empty:
        return []
    figure, looks = go.Figure(), _looks(comparison)
    last = max(2.0, 1.1 * float(comparison.profiles["factor"].max()))
    for arm, rows in comparison.profiles.groupby("arm", sort=False):
        figure.add_scatter(
            x=[*rows["factor"], last],
            y=[*rows["share"], rows["share"].iloc[-1]],
            mode="lines",
            line={**looks[str(arm)].line, "shape": "hv"},
            name=label(str(arm)),
            hovertemplate="%{y:.0%} within %{x:.3g} times",
        )
    figure.update_xaxes(title_text="cost, as a multiple of the cheapest arm's", type="log")
    figure.update_yaxes(title_text="share of tasks", range=[-0.03, 1.03], tickformat=".0%")
    tasks = int(comparison.profiles["tasks"].iloc[0])
    reached = comparison.profiles.groupby("arm", sort=False)["share"].max()
    never = wording.listing([str(arm) for arm in reached.index[reached == 0]])
    caption = (
        f"On which share of the {tasks} tasks an arm comes within 1 % of the best known score at no more than so many "
        "times the cheapest arm's expected cost. A line that ends below 100 % never does on the others."
        f"{f' On no task: {never}.' if never else ''}"
    )
    legend = [looks[arm] for arm in comparison.arms]
    return [chart("profiles-chart", "How nearly cheapest over tasks", caption, figure, legend=legend, height=20)]


def _curve_chart(comparison: Comparison, task: pd.Series) -> Chart:
    figure = go.Figure()
    looks, arms = _looks(comparison), _arms(comparison, task)
    parts = [_drawn_curve(comparison, task, arm) for arm in arms]
    for arm, curve in zip(arms, parts, strict=True):
        _add_line(figure, curve, "value", looks[arm])
    _add_marks(figure, task)
    _set_axes(figure, comparison, task, pd.concat(parts), "value")
    caption = (
        "Solid up to a third of the arm's trials, dotted beyond; each line starts at the mean cost of one "
        "configuration. Grey: the base score, and the common budget at which the arms are read."
    )
    title = f"{task['task']}: expected best score"
    return chart(f"curve-{slug(task['task'])}", title, caption, figure, legend=[looks[arm] for arm in arms], height=25)


def _band_chart(comparison: Comparison, task: pd.Series, arm: str) -> Chart:
    figure = go.Figure()
    looks, shown = _looks(comparison), [BASE_ARM, arm]
    rows = comparison.bands[comparison.bands["task"] == task["task"]]
    parts = [rows[rows["arm"] == name] for name in shown]
    for name, band in zip(shown, parts, strict=True):
        _add_band(figure, band, looks[name])
    for name, band in zip(shown, parts, strict=True):
        _add_line(figure, band, "median", looks[name])
    _add_marks(figure, task)
    _set_axes(figure, comparison, task, pd.concat(parts), "median")
    title = f"{task['task']}: {arm}"
    legend = [looks[name] for name in shown]
    return chart(f"band-{slug(task['task'])}-{slug(arm)}", title, "", figure, legend=legend, height=20)


def _looks(comparison: Comparison) -> dict[str, Series]:
    """Return how the arms are drawn, the base arm wider than the others."""
    looks = series(comparison.arms)
    return looks | {BASE_ARM: replace(looks[BASE_ARM], width=BASE_WIDTH)}


def _arms(comparison: Comparison, task: pd.Series) -> list[str]:
    present = set(comparison.curves.loc[comparison.curves["task"] == task["task"], "arm"])
    return [arm for arm in comparison.arms if arm in present]


def _drawn_curve(comparison: Comparison, task: pd.Series, arm: str) -> pd.DataFrame:
    """Return the curve from the mean cost of one configuration on; before that hardly any order has a trial to show."""
    rows = comparison.curves[(comparison.curves["task"] == task["task"]) & (comparison.curves["arm"] == arm)]
    results = comparison.results[(comparison.results["task"] == task["task"]) & (comparison.results["arm"] == arm)]
    first = float((results["cost"] / results["trials"]).iloc[0])
    drawn: pd.DataFrame = rows[rows["budget"] >= min(first, float(rows["budget"].max()))]
    return drawn


def _add_band(figure: go.Figure, band: pd.DataFrame, look: Series) -> None:
    figure.add_scatter(
        x=[*band["budget"], *band["budget"][::-1]],
        y=[*band["upper"], *band["lower"][::-1]],
        fill="toself",
        fillcolor=translucent(look.colour, 0.2),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
    )


def _add_line(figure: go.Figure, rows: pd.DataFrame, column: str, look: Series) -> None:
    # The bands are drawn point to point, so the medians inside them are too.
    shape = "hv" if column == "value" else "linear"
    trusted = rows[rows["trusted"]]
    # The dotted part starts where the solid one ends.
    rest = rows[rows["budget"] >= (trusted["budget"].max() if len(trusted) else 0)]
    for part, dash in ((rest, "dot"), (trusted, "solid")):
        figure.add_scatter(
            x=part["budget"].tolist(),
            y=part[column].tolist(),
            mode="lines+markers" if len(rows) == 1 else "lines",
            line={"color": look.colour, "width": look.width, "dash": dash, "shape": shape},
            name=label(look.name),
            hovertemplate="%{y:.4f} for %{x:,.0f}",
        )


def _add_marks(figure: go.Figure, task: pd.Series) -> None:
    line = {"color": REST, "width": 1.2, "dash": "dash"}
    base, budget = task["base"], task["budget"]
    figure.add_shape(type="line", xref="paper", x0=0, x1=1, y0=base, y1=base, line=line, layer="below")
    figure.add_shape(type="line", yref="paper", y0=0, y1=1, x0=budget, x1=budget, line=line, layer="below")
    figure.add_annotation(xref="paper", x=0, y=base, text="base", showarrow=False, xanchor="left", yanchor="bottom")
    figure.add_annotation(
        yref="paper", y=0, x=budget, text="common budget", showarrow=False, xanchor="right", yanchor="bottom"
    )


def _set_axes(figure: go.Figure, comparison: Comparison, task: pd.Series, rows: pd.DataFrame, column: str) -> None:
    """Sets both axes by the lines, not by the bands, whose ends may lie at the ends of the score's range."""
    values: Sequence[float] = [*rows[column], task["base"]]
    low, high = min(values), max(values)
    room = 0.1 * (high - low) or 0.01
    kind = "expected best" if column == "value" else "median best"
    figure.update_yaxes(range=[low - room, high + room], title_text=label(f"{kind} {task['metric']}"))
    figure.update_xaxes(title_text=COST_UNITS[comparison.cost], range=[0, 1.03 * rows["budget"].max()])
