"""Robustness as figures: the score under corruption and the share that is lost, one line per arm over the levels."""

import math

import pandas as pd
import plotly.graph_objects as go

from search.report.chart import Chart, Panels, Series, chart, label, series, slug
from search.report.frames import SweepFrames
from search.report.measured import ordered_levels

# Arms at the same level stand side by side over so much of the way to the next level.
_DODGE = 0.3


def robustness_panels(
    frames: SweepFrames, task: str, key: tuple[str, str], corruption: str, rows: pd.DataFrame
) -> Panels:
    """Return the figure of one task and corruption.

    Args:
        key: the corruption's name and its phase, for the charts' ids.
        corruption: both in plain words.
        rows: those of `robustness_table`, named.
    """
    identity = "-".join(["robustness", *map(slug, (task, *key))])
    arms = [arm for arm in frames.arms if (rows["arm"] == arm).any()]
    looks = {name: look for name, look in series(frames.arms).items() if name in arms}
    charts = [_scores(frames, f"{identity}-score", rows, looks), _decreases(f"{identity}-decrease", rows, looks)]
    return Panels(identity, f"{task}: {corruption}", "", charts, list(looks.values()))


def _scores(frames: SweepFrames, identity: str, rows: pd.DataFrame, looks: dict[str, Series]) -> Chart:
    levels, figure = ordered_levels(rows), go.Figure()
    for (arm, look), shift in zip(looks.items(), _shifts(len(looks)), strict=True):
        line = rows[rows["arm"] == arm].set_index("level").reindex(levels)
        clean = float(rows.loc[rows["arm"] == arm, "clean"].iloc[0])
        deviations = [None, *(None if math.isnan(each) else float(each) for each in line["noisy_deviation"])]
        _add(figure, look, [clean, *line["noisy"]], shift, first=0, deviations=deviations)
        figure.data[-1].update(hovertemplate="%{y:.4f}<br>%{text}<extra></extra>")
    _set_levels(figure, ["clean", *levels], first=0)
    figure.update_layout(yaxis_title=label(f"validation {frames.metric}"))
    return chart(identity, "Score", "", figure, height=15)


def _decreases(identity: str, rows: pd.DataFrame, looks: dict[str, Series]) -> Chart:
    levels, figure = ordered_levels(rows), go.Figure()
    for (arm, look), shift in zip(looks.items(), _shifts(len(looks)), strict=True):
        line = rows[rows["arm"] == arm].set_index("level").reindex(levels)
        _add(figure, look, [100 * each for each in line["decrease"]], shift, first=1)
        figure.data[-1].update(hovertemplate="%{y:.1f} %<br>%{text}<extra></extra>")
    _set_levels(figure, levels, first=1)
    figure.update_layout(yaxis_title="Decr. in %")
    return chart(identity, "Decrease", "", figure, height=15)


def _add(
    figure: go.Figure,
    look: Series,
    values: list[float],
    shift: float,
    *,
    first: int,
    deviations: list[float | None] | None = None,
) -> None:
    figure.add_scatter(
        x=[place + shift for place in range(first, first + len(values))],
        y=[None if math.isnan(value) else float(value) for value in values],
        error_y=None if deviations is None else {"array": deviations, "thickness": 1.2, "width": 3},
        mode="lines+markers",
        line=look.line,
        marker={"size": 6, "color": look.colour},
        name=label(look.name),
        text=[label(look.name)] * len(values),
    )


def _shifts(arms: int) -> list[float]:
    return [0.0] if arms == 1 else [_DODGE * (place / (arms - 1) - 0.5) for place in range(arms)]


def _set_levels(figure: go.Figure, names: list[str], *, first: int) -> None:
    places = list(range(first, first + len(names)))
    figure.update_xaxes(
        tickvals=places,
        ticktext=[label(name) for name in names],
        range=[places[0] - 0.5, places[-1] + 0.5],
        title_text="level",
    )
