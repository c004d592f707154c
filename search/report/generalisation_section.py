"""Generalisation over seeds in the sweep's report: how far each arm's score hangs on its split and its seed."""

import math

import pandas as pd
import plotly.graph_objects as go

from search import wording
from search.arms import BASE_ARM
from search.protocol_tables import generalisation_table
from search.report.chart import Panels, Series, chart, label, series, slug, translucent
from search.report.frames import SweepFrames
from search.report.measured import diverged, measurements, named, outdated, tasks
from search.report.section import Section
from search.report.tables import Column, Table

_SUBJECTS = {
    "both": "random split and training seed vary together",
    "split": "only the random split varies",
    "init": "only the training seed varies",
}

# A density over fewer points would show the smoothing, not the points.
VIOLIN_FROM = 5


def generalisation_section(frames: SweepFrames) -> Section | None:
    """Return the section, or None where the store holds no such measurement of the sweep's goal metric."""
    rows = measurements(frames, "generalisation")
    rows = rows[(rows["metric"] == frames.metric) & (rows["split"] == "valid")]
    if rows.empty:
        return None
    runs = named(frames, rows)
    groups = [(task, str(subject), group) for task, part in tasks(runs) for subject, group in part.groupby("subject")]
    return Section(
        "generalisation",
        "Generalisation over seeds",
        [
            "The best configuration of every cell on several seeds; hyperparameters stay those that the sweep chose, "
            "and are never tuned again for a seed. Every score is one on validation interactions.",
            f"Runs with equal seeds share their split, their initial weights and their batches, so arms differ from "
            f"{BASE_ARM} run by run: the paired difference is sharper than two means side by side.",
            *outdated(frames, rows),
            *diverged(rows, frames.metric),
        ],
        [
            _spread_table(frames, named(frames, generalisation_table(rows, frames.trials, frames.metric)), runs),
            *(_seeds_table(frames, task, subject, group) for task, subject, group in groups),
        ],
        [_violins(frames, task, subject, group) for task, subject, group in groups],
    )


def _spread_table(frames: SweepFrames, table: pd.DataFrame, runs: pd.DataFrame) -> Table:
    places = [axis for axis in ("dataset", "model") if table[axis].nunique() > 1]
    columns = [
        *(Column("data set" if axis == "dataset" else axis) for axis in places),
        *(Column("varied"), Column("arm"), Column("runs", "number")),
        *(Column(frames.metric, "number"), Column("range", "number")),
        *(Column("CV", "number"), Column("on the standard split", "number")),
        *(Column("pairs", "number"), Column(f"difference to {BASE_ARM}", "number")),
        Column("range of differences", "number"),
    ]
    rows = [
        [
            *(str(row[axis]) for axis in places),
            {"both": "split and seed", "init": "seed"}.get(str(row["subject"]), str(row["subject"])),
            *(str(row["arm"]), wording.count(row["runs"]), wording.with_deviation(row["mean"], row["deviation"])),
            *(wording.span(row["low"], row["high"]), wording.share(row["variation"]), wording.score(row["standard"])),
            *_differences(runs, row),
        ]
        for _, row in table.iterrows()
    ]
    return Table(
        "Spread over runs and paired differences, as mean ± standard deviation; CV is deviation / mean", columns, rows
    )


def _differences(runs: pd.DataFrame, row: pd.Series) -> list[str]:
    if wording.missing(row["base"]) or not row["pairs"]:
        return [wording.NONE] * 3
    gaps = paired_differences(runs, str(row["cell"]), str(row["base"]), str(row["subject"]))
    deviation = row["difference_deviation"]
    spread = "" if wording.missing(deviation) else f" ± {wording.score(deviation)}"
    return [
        wording.count(row["pairs"]),
        f"{wording.signed_score(row['difference'])}{spread}",
        f"{wording.signed_score(gaps.min())} to {wording.signed_score(gaps.max())}",
    ]


def paired_differences(runs: pd.DataFrame, cell: str, base: str, subject: str) -> pd.Series:
    """Return the score of `cell` minus that of `base` by (seed, split seed), where both have one."""
    mine, theirs = (_scores(runs[(runs["cell"] == name) & (runs["subject"] == subject)]) for name in (cell, base))
    gaps: pd.Series = (mine - theirs).dropna()
    return gaps


def _scores(runs: pd.DataFrame) -> pd.Series:
    # A split that is given has no seed; -1 stands for it, as groups and indices lose what is missing.
    scores: pd.Series = runs.assign(split_seed=runs["split_seed"].fillna(-1)).set_index(["seed", "split_seed"])["value"]
    return scores


def _seeds_table(frames: SweepFrames, task: str, subject: str, runs: pd.DataFrame) -> Table:
    arms = [arm for arm in frames.arms if (runs["arm"] == arm).any()]
    by_arm = {arm: _scores(runs[runs["arm"] == arm]) for arm in arms}
    keys = sorted({key for scores in by_arm.values() for key in scores.index})
    columns = [Column("seed", "number"), Column("split seed", "number"), *(Column(arm, "number") for arm in arms)]
    rows = [
        [
            str(int(seed)),
            wording.NONE if split < 0 else str(int(split)),
            *(wording.score(by_arm[arm].get((seed, split))) for arm in arms),
        ]
        for seed, split in keys
    ]
    return Table(f"{task}, {_SUBJECTS.get(subject, subject)}: {frames.metric} run by run", columns, rows)


def _violins(frames: SweepFrames, task: str, subject: str, runs: pd.DataFrame) -> Panels:
    identity, figure = f"generalisation-{slug(task)}-{slug(subject)}", go.Figure()
    looks = series(frames.arms)
    arms = [arm for arm in frames.arms if (runs["arm"] == arm).any()]
    for place, arm in enumerate(arms):
        _add_runs(figure, looks[arm], place, runs[runs["arm"] == arm])
    figure.update_yaxes(
        tickvals=list(range(len(arms))),
        ticktext=[label(arm) for arm in arms],
        range=[len(arms) - 0.4, -0.6],
        showgrid=False,
    )
    figure.update_xaxes(title_text=label(f"validation {frames.metric}"))
    figure.update_layout(violinmode="overlay", hovermode="closest")
    few = (
        ""
        if runs.groupby("arm")["value"].size().min() >= VIOLIN_FROM
        else (f" With fewer than {VIOLIN_FROM} runs there are points only.")
    )
    caption = (
        "Each point is one run, each outline the estimated density of an arm's runs, the line in it their mean; the "
        f"outline ends at the outermost runs.{few}"
    )
    title = f"{task}: {_SUBJECTS.get(subject, subject)}"
    drawn = chart(f"{identity}-violins", title, "", figure, height=5 + 4.5 * len(arms))
    return Panels(identity, title, caption, [drawn])


def _add_runs(figure: go.Figure, look: Series, place: int, runs: pd.DataFrame) -> None:
    known = runs[[not math.isnan(value) for value in runs["value"]]]
    values = [float(value) for value in known["value"]]
    seeds = [_run_name(seed, split) for seed, split in zip(known["seed"], known["split_seed"], strict=True)]
    if len(values) < VIOLIN_FROM:
        figure.add_scatter(x=values, y=[place] * len(values), mode="markers", marker={"color": look.colour, "size": 7})
    else:
        figure.add_violin(
            x=values,
            y=[place] * len(values),
            orientation="h",
            width=0.9,
            points="all",
            pointpos=0,
            jitter=0.25,
            spanmode="hard",
            meanline={"visible": True},
            line={"color": look.colour, "width": 1.5},
            fillcolor=translucent(look.colour, 0.18),
            marker={"color": look.colour, "size": 5, "opacity": 0.85},
            hoveron="points",
        )
    figure.data[-1].update(
        name=label(look.name), text=[label(seed) for seed in seeds], hovertemplate="%{x:.4f}<br>%{text}"
    )


def _run_name(seed: float, split: float) -> str:
    return f"seed {seed:.0f}" + ("" if wording.missing(split) else f", split {split:.0f}")
