"""Parallel coordinates of tuned parameters: one line per trial, down through one axis per parameter to the score.

Drawn with plain lines instead of plotly's own kind, which needs WebGL and compiles code, and so neither prints well nor
runs under a content-security policy that forbids `eval`. The axes lie across the page, so their names fit on a phone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.report.chart import BEST, MIDDLE, REST, Chart, Series, chart, label, slug
from search.report.frames import SweepFrames

FAMILIES_SHOWN = 12
TRIALS_SHOWN = 200
LOG_FACTOR = 50

# From which share of its cell's ranking a trial looks how; the last that applies is drawn last and lies on top.
_LOOKS = (
    (1.0, Series("the rest", REST, width=0.8)),
    (0.5, Series("better half of its cell", MIDDLE, width=1.1)),
    (0.1, Series("best tenth of its cell", BEST, width=2.0)),
)


@dataclass(frozen=True)
class Axis:
    """One axis: where each trial lies on it, in [0, 1], and its ticks as (place, text)."""

    name: str
    places: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def parallel_charts(frames: SweepFrames) -> list[Chart]:
    """Return one chart per family of cells: those of one data set that tune the same parameters, at least one."""
    return [_family_chart(frames, *family) for family in _families(frames)[:FAMILIES_SHOWN]]


def families_left_out(frames: SweepFrames) -> int:
    """Return how many families `parallel_charts` does not draw."""
    return max(0, len(_families(frames)) - FAMILIES_SHOWN)


def _families(frames: SweepFrames) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """Return the parameters and scored trials of each family, in the order in which the families first started."""
    if frames.params.empty:
        return []
    names = frames.params.groupby("trial")["name"].agg(tuple)
    ranked = frames.ranked(frames.trials[~frames.trials["status"].isin(("failed", "diverged"))])
    standing = ranked.groupby("cell").cumcount() / ranked.groupby("cell")["trial"].transform("size")
    rows = ranked.assign(family=ranked["trial"].map(names), standing=standing)
    groups = rows[rows["family"].notna()].groupby(["dataset", "family"], sort=False)
    families = [(tuple(group["family"].iloc[0]), group) for _, group in groups]
    return sorted(families, key=lambda family: family[1]["started"].min())


def _family_chart(frames: SweepFrames, names: tuple[str, ...], trials: pd.DataFrame) -> Chart:
    shown = trials.head(TRIALS_SHOWN)
    axes = _axes(frames, names, shown)
    dataset, arms = str(shown["dataset"].iloc[0]), wording.listing(sorted(set(shown["arm"])))
    caption = (
        "Each line is one trial with a score. An axis whose values span more than a factor of "
        f"{LOG_FACTOR} is logarithmic."
        + (f" Only the best {TRIALS_SHOWN} of {len(trials)} trials are drawn." if len(trials) > len(shown) else "")
    )
    return chart(
        f"parallel-{slug(dataset)}-{slug('-'.join([arms, *names]))}",
        f"{dataset}: tuned parameters of {arms}",
        caption,
        _draw(axes, shown["trial"].tolist(), shown["standing"].tolist()),
        legend=[look for _, look in reversed(_LOOKS)],
        height=0.5 + 5 * len(axes),
        framed=False,
    )


def _axes(frames: SweepFrames, names: tuple[str, ...], shown: pd.DataFrame) -> list[Axis]:
    rows = frames.params[frames.params["trial"].isin(shown["trial"])]
    values = rows.pivot(index="trial", columns="name", values="value").loc[shown["trial"]]
    parts = [axis for axis in ("model", "objective", "update", "optimizer") if shown[axis].nunique() > 1]
    cells = ["/".join(cell) for cell in zip(*(shown[part] for part in parts), strict=True)]
    axes = [_axis(", ".join(parts), cells)] if parts else []
    axes += [_axis(name, values[name].tolist()) for name in names]
    return [*axes, _axis(f"validation {frames.metric}", shown["score"].tolist(), linear=True)]


def _axis(name: str, values: Sequence[object], *, linear: bool = False) -> Axis:
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return _category_axis(name, [wording.number(value) for value in values])
    low, high = min(numbers), max(numbers)
    if low == high:
        return Axis(name, [0.5] * len(numbers), [(0.5, _tick(low))])
    logarithmic = not linear and low > 0 and high / low > LOG_FACTOR
    scale = math.log if logarithmic else float
    middle = math.sqrt(low * high) if logarithmic else (low + high) / 2
    places = [(scale(value) - scale(low)) / (scale(high) - scale(low)) for value in numbers]
    return Axis(name, places, [(0.0, _tick(low)), (0.5, _tick(middle)), (1.0, _tick(high))])


def _tick(value: float) -> str:
    return f"{value:.2g}" if 0 < abs(value) < 0.01 or abs(value) >= 1000 else f"{value:.3g}"


def _category_axis(name: str, texts: Sequence[str]) -> Axis:
    known = sorted(set(texts))
    place = {text: index / (len(known) - 1) if len(known) > 1 else 0.5 for index, text in enumerate(known)}
    return Axis(name, [place[text] for text in texts], [(place[text], text) for text in known])


def _draw(axes: Sequence[Axis], trials: Sequence[str], standings: Sequence[float]) -> go.Figure:
    figure = go.Figure()
    for place, (share, look) in enumerate(_LOOKS):
        below = _LOOKS[place + 1][0] if place + 1 < len(_LOOKS) else -1.0
        chosen = [trial for trial, standing in enumerate(standings) if below <= standing < share]
        _add_lines(figure, axes, [(trials[trial], trial) for trial in chosen], look)
    for position, axis in enumerate(axes):
        _add_axis(figure, position, axis)
    figure.update_xaxes(visible=False, range=[-0.01, 1.01])
    figure.update_yaxes(visible=False, range=[len(axes) - 0.6, -0.35])
    figure.update_layout(hovermode="closest")
    return figure


def _add_lines(figure: go.Figure, axes: Sequence[Axis], trials: Sequence[tuple[str, int]], look: Series) -> None:
    xs: list[float | None] = []
    ys: list[float | None] = []
    texts: list[str] = []
    for name, trial in trials:
        # None lifts the pen between two trials, so that all of a look are one trace.
        xs += [*(axis.places[trial] for axis in axes), None]
        ys += [*range(len(axes)), None]
        texts += [label(name)] * (len(axes) + 1)
    figure.add_scatter(x=xs, y=ys, text=texts, mode="lines", line=look.line, hoverinfo="text")


def _add_axis(figure: go.Figure, position: int, axis: Axis) -> None:
    line = {"color": REST, "width": 1}
    figure.add_shape(type="line", y0=position, y1=position, x0=0, x1=1, line=line, layer="below")
    texts = [(0.0, f"<b>{label(axis.name)}</b>", "left", "bottom")]
    for place, text in axis.ticks:
        anchor = "left" if place < 0.2 else "right" if place > 0.8 else "center"
        texts.append((place, label(text), anchor, "top"))
    for place, text, anchor, side in texts:
        shift = 3 if side == "bottom" else -3
        figure.add_annotation(
            x=place, y=position, text=text, showarrow=False, xanchor=anchor, yanchor=side, yshift=shift, borderpad=1
        )
