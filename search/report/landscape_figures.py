"""Loss landscapes as figures: a contour map per arm in common colours, or one line per arm where there is one axis."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from search import wording
from search.report.chart import Chart, Panels, Scale, chart, label, series, slug
from search.report.frames import SweepFrames

# Dark is low: a minimum is a hole. Legible to colour-blind readers and in grey.
COLOURS = "Cividis"
CONTOURS = 12

# From which ratio of the highest to the lowest loss on colours are logarithmic.
LOG_FACTOR = 20


@dataclass(frozen=True)
class _Colours:
    """The colour scale that all maps of a figure share."""

    low: float
    high: float
    logarithmic: bool

    def place(self, loss: float | None) -> float | None:
        """Where a loss lies on the scale; nothing where there is none."""
        if loss is None or math.isnan(loss):
            return None
        # The colour of a logarithm needs no more digits; the loss itself goes along for the label.
        return round(math.log10(loss), 4) if self.logarithmic else loss

    @property
    def scale(self) -> Scale:
        """The scale as the page explains it."""
        middle = math.sqrt(self.low * self.high) if self.logarithmic else (self.low + self.high) / 2
        colours = sample_colorscale(COLOURS, [step / 8 for step in range(9)])
        title = "training loss" + (", logarithmic" if self.logarithmic else "")
        return Scale(title, colours, [wording.number(each) for each in (self.low, middle, self.high)])


def landscape_panels(frames: SweepFrames, task: str, mode: str, directions: str, points: pd.DataFrame) -> Panels:
    """Return the figure of one task and mode; `points` are named rows of `grid_points`."""
    identity, title = f"landscape-{slug(task)}-{slug(mode)}", f"{task}: {directions}"
    if points["y"].isna().all():
        return _line_panels(frames, identity, title, points)
    low, high = float(points["loss"].min()), float(points["loss"].max())
    colours = _Colours(low, high, low > 0 and high / low > LOG_FACTOR)
    arms = [arm for arm in frames.arms if (points["arm"] == arm).any()]
    charts = [_map(f"{identity}-{slug(arm)}", arm, points[points["arm"] == arm], colours) for arm in arms]
    caption = (
        "Colours and directions are the same in all maps of this figure. The cross is where the trained weights are; "
        "the axes count lengths of the two directions."
    )
    return Panels(identity, title, caption, charts, scale=colours.scale, narrow=True)


def _map(identity: str, arm: str, points: pd.DataFrame, colours: _Colours) -> Chart:
    grid = points.pivot(index="y", columns="x", values="loss")
    losses = [[float(value) for value in row] for row in grid.to_numpy()]
    places = [[colours.place(value) for value in row] for row in losses]
    ends = [colours.place(colours.low), colours.place(colours.high)]
    loss = "customdata" if colours.logarithmic else "z"
    figure = go.Figure()
    figure.add_contour(
        x=[float(x) for x in grid.columns],
        y=[float(y) for y in grid.index],
        z=places,
        customdata=_labels(losses) if colours.logarithmic else None,
        colorscale=COLOURS,
        zmin=ends[0],
        zmax=ends[1],
        autocontour=False,
        contours={"coloring": "heatmap", "start": ends[0], "end": ends[1], "size": _step(*ends)},
        line={"width": 0.6, "color": "rgba(255,255,255,.55)", "smoothing": 0.6},
        showscale=False,
        hovertemplate=f"loss %{{{loss}:.4g}}<br>at %{{x:.2g}}, %{{y:.2g}}<extra></extra>",
    )
    cross = {"symbol": "cross-thin", "size": 11, "line": {"width": 2.5, "color": "#FFFFFF"}}
    figure.add_scatter(x=[0], y=[0], mode="markers", marker=cross, hoverinfo="skip")
    figure.update_xaxes(showgrid=False, title_text="first direction", range=_range(grid.columns), nticks=6)
    figure.update_xaxes(constrain="domain")
    figure.update_yaxes(scaleanchor="x", constrain="domain")
    figure.update_yaxes(showgrid=False, title_text="second direction", range=_range(grid.index), nticks=6)
    return chart(identity, arm, "", figure, height=18)


def _labels(losses: list[list[float]]) -> list[list[float | None]]:
    return [[None if math.isnan(value) else value for value in row] for row in losses]


def _step(low: float | None, high: float | None) -> float:
    width = (high or 0.0) - (low or 0.0)
    return width / CONTOURS if width > 0 else 1.0


def _range(places: pd.Index) -> list[float]:
    return [float(np.min(places)), float(np.max(places))]


def _line_panels(frames: SweepFrames, identity: str, title: str, points: pd.DataFrame) -> Panels:
    looks, figure = series(frames.arms), go.Figure()
    arms = [arm for arm in frames.arms if (points["arm"] == arm).any()]
    for arm in arms:
        line = points[points["arm"] == arm].sort_values("x")
        figure.add_scatter(
            x=[float(x) for x in line["x"]],
            y=[float(loss) for loss in line["loss"]],
            mode="lines",
            line=looks[arm].line,
            name=label(arm),
            hovertemplate="%{y:.4g}",
        )
    figure.update_layout(xaxis_title="direction", yaxis_title="training loss")
    caption = "The trained weights lie at 0; the direction is the same for all arms, and the axis counts its length."
    return Panels(
        identity, title, caption, [chart(f"{identity}-line", title, "", figure)], [looks[arm] for arm in arms]
    )
