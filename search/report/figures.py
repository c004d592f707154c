"""The figures of a sweep's report: cost and learning curves. Every one draws validation scores only."""

import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.report.chart import REST, Chart, Series, chart, label, series, slug, translucent
from search.report.frames import SweepFrames

CURVES_SHOWN = 20
LOW, HIGH = 0.1, 0.9

_COSTS = {
    "gradient_evaluations": ("gradient evaluations", "gradient evaluations spent in the cell", 1.0),
    "device_seconds": ("device time", "device-hours spent in the cell", 3600.0),
}


def history_charts(frames: SweepFrames) -> list[Chart]:
    """Return, per data set, model and kind of cost, the best score so far of every arm against what it had spent."""
    return [
        _history_chart(frames, dataset, model, cost)
        for dataset, model in _tasks(frames, frames.scored)
        for cost in _COSTS
        if frames.trials[cost].notna().any()
    ]


def _history_chart(frames: SweepFrames, dataset: str, model: str, cost: str) -> Chart:
    name, axis, unit = _COSTS[cost]
    figure = go.Figure()
    looks = series(frames.arms)
    legend: list[Series] = []
    trials = frames.trials[(frames.trials["dataset"] == dataset) & (frames.trials["model"] == model)]
    for arm in frames.arms:
        steps = best_so_far(frames, trials[trials["arm"] == arm], cost)
        if steps.empty:
            continue
        legend.append(looks[arm])
        figure.add_scatter(
            x=(steps["spent"] / unit).tolist(),
            y=steps["best"].tolist(),
            mode="lines+markers",
            marker={"size": 4},
            line={**looks[arm].line, "shape": "hv"},
            name=label(arm),
            text=[label(trial) for trial in steps["trial"]],
            hovertemplate=f"%{{y:.4f}} after %{{x:,.4g}} {name}<br>%{{text}}",
        )
    figure.update_layout(xaxis_title=axis, yaxis_title=label(f"best {frames.metric} so far"))
    figure.update_xaxes(rangemode="tozero")
    caption = (
        "Best validation score so far, against what all trials of the cell that had ended by then cost, failed and "
        "pruned ones included. Each dot is an ended trial; only finished trials can set a new best."
    )
    identity = f"history-{slug(dataset)}-{slug(model)}-{slug(cost)}"
    return chart(identity, f"{dataset}, {model}: score against {name}", caption, figure, legend=legend)


def best_so_far(frames: SweepFrames, trials: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return ended trials in the order in which they ended, from the first one on with a score that counts.

    Columns: trial, spent (cumulative cost of all ended trials), best (best score of the finished ones).
    """
    ended = trials[trials["ended"].notna()].sort_values("ended", kind="stable")
    counts = ended["score"].where(ended["status"] == "finished")
    best = counts.cummax() if frames.better_is_larger else counts.cummin()
    steps = pd.DataFrame(
        {"trial": ended["trial"], "spent": ended[cost].astype(float).fillna(0.0).cumsum(), "best": best.ffill()}
    )
    return steps.dropna(subset=["best"])


def curve_charts(frames: SweepFrames) -> list[Chart]:
    """Return, per data set and model, the learning curves of the best trials before the spread of all trials."""
    known = frames.curves.merge(frames.trials[["trial", "dataset", "model"]], on="trial")
    return [
        _curve_chart(frames, dataset, model, known[(known["dataset"] == dataset) & (known["model"] == model)])
        for dataset, model in _tasks(frames, known)
    ]


def _curve_chart(frames: SweepFrames, dataset: str, model: str, curves: pd.DataFrame) -> Chart:
    figure = go.Figure()
    _add_quantiles(figure, curves)
    looks = series(frames.arms, width=1.3)
    best = frames.ranked(frames.trials[frames.trials["trial"].isin(curves["trial"])]).head(CURVES_SHOWN)
    for trial, arm in zip(best["trial"], best["arm"], strict=True):
        points = curves[curves["trial"] == trial]
        figure.add_scatter(
            x=points["epoch"].tolist(),
            y=points["value"].tolist(),
            mode="lines" if len(points) > 1 else "markers",
            line=looks[arm].line,
            marker={"color": looks[arm].colour},
            opacity=0.85,
            hovertemplate=f"%{{y:.4f}} in epoch %{{x}}<br>{label(str(trial))}<extra></extra>",
        )
    _add_median(figure, curves)
    figure.update_layout(xaxis_title="epoch", yaxis_title=label(f"validation {frames.metric}"))
    everyone = wording.plural(curves["trial"].nunique(), "trial")
    caption = (
        f"The {wording.plural(len(best), 'trial')} with the best scores. Grey: the {LOW:.0%} to {HIGH:.0%} quantiles "
        f"of all {everyone}, dotted their median; a trial leaves both when it ends, so the right end holds long ones."
    )
    legend = [looks[arm] for arm in frames.arms if (best["arm"] == arm).any()]
    identity = f"curves-{slug(dataset)}-{slug(model)}"
    return chart(identity, f"{dataset}, {model}: learning curves", caption, figure, legend=legend)


def _add_quantiles(figure: go.Figure, curves: pd.DataFrame) -> None:
    epochs = curves.groupby("epoch")["value"]
    low, high = epochs.quantile(LOW), epochs.quantile(HIGH)
    figure.add_scatter(
        x=[*low.index.tolist(), *high.index.tolist()[::-1]],
        y=[*low.tolist(), *high.tolist()[::-1]],
        fill="toself",
        fillcolor=translucent(REST, 0.22),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
    )


def _add_median(figure: go.Figure, curves: pd.DataFrame) -> None:
    median = curves.groupby("epoch")["value"].median()
    line = {"color": REST, "width": 3, "dash": "dot"}
    figure.add_scatter(x=median.index.tolist(), y=median.tolist(), mode="lines", line=line, name="median")


def _tasks(frames: SweepFrames, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs of data set and model that these rows have, in the order of the sweep file."""
    present = set(zip(rows["dataset"], rows["model"], strict=True))
    models = sorted({model for _, model in present})
    return [(dataset, model) for dataset in frames.data_sets for model in models if (dataset, model) in present]
