"""Trials as dots: one colour per arm, filled where the trial finished and hollow where it did not."""

import pandas as pd
import plotly.graph_objects as go

from search.report.chart import REST, Series, label, series
from search.report.frames import SweepFrames

_HOLLOW = Series("pruned, stopped, lost or running", REST, mark="ring")


def drawable(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials with a score that means something: of those that failed or diverged it does not."""
    return trials[trials["score"].notna() & ~trials["status"].isin(("failed", "diverged"))]


def dots_legend(frames: SweepFrames, rows: pd.DataFrame) -> list[Series]:
    """Return what the dots of these trials look like."""
    looks = series(frames.arms)
    arms = [Series(arm, looks[arm].colour, mark="dot") for arm in frames.arms if (rows["arm"] == arm).any()]
    return [*arms, *([_HOLLOW] if (rows["status"] != "finished").any() else [])]


def add_dots(figure: go.Figure, frames: SweepFrames, rows: pd.DataFrame, column: str, hover: str) -> None:
    """Adds each trial's score over a column; one trace per arm and kind of ending, the filled dots on top.

    Args:
        hover: plotly's template of what stands in front of the trial's name.
    """
    looks = series(frames.arms)
    for finished, symbol in ((False, "circle-open"), (True, "circle")):
        for arm in frames.arms:
            part = rows[(rows["arm"] == arm) & ((rows["status"] == "finished") == finished)]
            if part.empty:
                continue
            figure.add_scatter(
                x=part[column].tolist(),
                y=part["score"].tolist(),
                mode="markers",
                marker={"color": looks[arm].colour, "size": 6, "symbol": symbol},
                opacity=0.75,
                text=[label(str(trial)) for trial in part["trial"]],
                hovertemplate=f"{hover}<br>%{{text}}<extra></extra>",
            )
