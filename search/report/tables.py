"""The tables of a sweep's report, as text that is ready to be escaped and set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from search import wording
from search.report.best import AXES, best_of_data_sets, describe_values, tuned_values
from search.report.confirmed import Confirmed, Pair
from search.report.frames import SweepFrames

ERRORS_SHOWN = 50

ENDINGS = ("finished", "pruned", "stopped", "diverged", "failed", "lost", "running")


@dataclass(frozen=True)
class Column:
    """A column's heading, with its unit, and what it holds: numbers, names that stay on a line, or longer text."""

    title: str
    kind: Literal["name", "number", "long"] = "name"


@dataclass(frozen=True)
class Table:
    """A table of plain text; `caption` says what it is.

    Attributes:
        rows: the first cell of each names what the row is about.
        marked: rows to stand out.
        links: for rows whose name leads somewhere, the address, already quoted as one.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    marked: frozenset[int] = frozenset()
    links: Mapping[int, str] = field(default_factory=dict)


def best_table(frames: SweepFrames, best: pd.DataFrame) -> Table:
    """Return the best configuration per cell; the best cell of each data set is marked."""
    axes = [axis for axis in ("dataset", *AXES) if axis in ("model", "update") or best[axis].nunique() > 1]
    winners = {row["cell"] for row in best_of_data_sets(frames, best).values()}
    marked = frozenset(place for place, cell in enumerate(best["cell"]) if cell in winners)
    columns = [
        *(Column("data set" if axis == "dataset" else axis) for axis in axes),
        Column(f"validation {frames.metric}", "number"),
        Column("seeds: deviation"),
        Column("best epoch", "number"),
        Column("candidates of trials", "number"),
        Column("gradient evaluations", "number"),
        Column("device time", "number"),
        Column("configuration", "long"),
        Column("trial"),
    ]
    rows = [[*(str(row[axis]) for axis in axes), *_best_cells(frames, row)] for _, row in best.iterrows()]
    return Table("Best configuration per cell; costs are those of all trials of the cell", columns, rows, marked)


def _best_cells(frames: SweepFrames, row: pd.Series) -> list[str]:
    if math.isnan(row["score"]):
        name, values, epoch = wording.NONE, "no trial finished with a score", wording.NONE
    else:
        name, values = str(row["trial"]), describe_values(tuned_values(frames, str(row["trial"])))
        epoch = wording.count(row["best_epoch"])
    return [
        wording.score(row["score"]),
        seed_spread(row),
        epoch,
        f"{row['candidates']} of {row['evaluated']}",
        wording.count(row["gradient_evaluations"]),
        wording.duration(row["device_seconds"]),
        values,
        name,
    ]


def seed_spread(row: pd.Series) -> str:
    """Return how far a best configuration's seeds lie apart: "3: ± 0.0021", or that there is one seed only."""
    if math.isnan(row["score"]):
        return wording.NONE
    seeds = len(row["seeds"])
    return "1: unknown" if seeds == 1 else f"{seeds}: ± {wording.score(row['seed_deviation'])}"


def endings_table(frames: SweepFrames) -> Table:
    """Return how the trials of each cell ended, with what those that yielded nothing cost."""
    present = [ending for ending in ENDINGS if (frames.trials["status"] == ending).any()]
    columns = [Column("cell"), *(Column(each, "number") for each in present)]
    columns += [Column("not validated", "number"), Column("gradient\u00a0evaluations without\u00a0candidate", "number")]
    rows = []
    for cell, trials in frames.trials.groupby("cell", sort=True):
        counts = trials["status"].value_counts()
        candidates = (trials["status"] == "finished") & trials["score"].notna()
        lost = trials.loc[~candidates, "gradient_evaluations"].astype(float).sum()
        unscored = int(((trials["status"] == "finished") & trials["score"].isna()).sum())
        endings = [wording.count(counts.get(each, 0)) for each in present]
        rows.append([str(cell), *endings, wording.count(unscored), wording.count(lost)])
    return Table("How the trials of each cell ended", columns, rows)


def errors_table(frames: SweepFrames) -> Table:
    """Return the trials that failed, diverged or were lost, in the order in which they started; at most 50."""
    bad = frames.trials[frames.trials["status"].isin(("failed", "diverged", "lost"))]
    columns = [
        Column("trial"),
        Column("ending"),
        Column("epochs", "number"),
        Column("tuned values", "long"),
        Column("error", "long"),
    ]
    rows = [
        [
            str(row["trial"]),
            str(row["status"]),
            wording.count(row["epochs"]),
            describe_values(tuned_values(frames, str(row["trial"]))),
            wording.NONE if wording.missing(row["error"]) else str(row["error"]),
        ]
        for _, row in bad.head(ERRORS_SHOWN).iterrows()
    ]
    left_out = f"; the first {ERRORS_SHOWN} of {len(bad)}" if len(bad) > ERRORS_SHOWN else ""
    return Table(f"Trials that failed, diverged or were lost{left_out}", columns, rows)


def confirmations_table(frames: SweepFrames) -> Table:
    """Return the confirmed configurations: mean of the goal metric over fresh seeds, and what selection flattered.

    The store's view `confirmations` has the other metrics, too. The optimism is the search-time score minus the
    confirmed validation mean, signed so that positive means that the search promised too much.
    """
    columns = [Column("trial"), Column("split"), Column("fresh seeds", "number")]
    columns += [Column("mean", "number"), Column("deviation", "number"), Column("range", "number")]
    columns += [Column("chosen from", "number"), Column("optimism of the search", "number")]
    # Validation first: it is what the search's own score is held against.
    goal = frames.confirmations[frames.confirmations["metric"] == frames.metric]
    ordered = goal.sort_values(["trial", "split"], ascending=[True, False])
    rows = [
        [str(trial), str(split), *_confirmation_cells(frames, str(trial), str(split), group)]
        for (trial, split), group in ordered.groupby(["trial", "split"], sort=False)
    ]
    return Table(f"{frames.metric} of chosen configurations, retrained on fresh seeds", columns, rows)


def pairs_table(found: Confirmed) -> Table:
    """Return the confirmed arms against the base arm, seed by seed on the test split; those told apart are marked."""
    columns = [Column("task"), Column("arm"), Column("base arm"), Column("fresh seeds", "number")]
    columns += [Column("difference on test", "number"), Column("relative", "number"), Column("95 % interval", "number")]
    columns += [Column("Cohen's d", "number"), Column("p, paired t test, Holm-corrected", "number")]
    columns += [Column("p, signed ranks", "number"), Column("seeds that 1 % takes", "number")]
    rows = [[pair.task, pair.arm, pair.base, f"{pair.seeds}", *_pair_cells(pair)] for pair in found.pairs]
    marked = frozenset(place for place, pair in enumerate(found.pairs) if pair.better is not None)
    return Table(f"{found.metric} of each arm minus that of the base arm, on test", columns, rows, marked)


def _pair_cells(pair: Pair) -> list[str]:
    p_values = [wording.NONE if math.isnan(p) else f"{p:.2g}" for p in (pair.p_holm, pair.p_signed_ranks)]
    needed = wording.count(pair.needed)
    if math.isnan(pair.difference):
        return [*[wording.NONE] * 4, *p_values, needed]
    ends = [wording.signed_score(end) for end in (pair.low, pair.high) if not math.isnan(end)]
    interval = " to ".join(ends) or wording.NONE
    gaps = [wording.signed_score(pair.difference), wording.signed_share(pair.relative), interval, f"{pair.effect:.2f}"]
    return [*gaps, *p_values, needed]


def _confirmation_cells(frames: SweepFrames, trial: str, split: str, rows: pd.DataFrame) -> list[str]:
    values = rows["value"].astype(float).dropna()
    failed = len(rows) - len(values)
    searched = frames.trials.loc[frames.trials["trial"] == trial, "score"]
    optimism = wording.NONE
    if split == "valid" and len(searched) and len(values):
        promised = float(searched.iloc[0]) - float(values.mean())
        optimism = wording.signed_score(promised if frames.better_is_larger else -promised)
    return [
        f"{len(values)}" + (f" ({failed} failed)" if failed else ""),
        wording.score(values.mean()),
        wording.score(values.std(ddof=1)),
        f"{wording.score(values.min())} to {wording.score(values.max())}" if len(values) else wording.NONE,
        wording.count(rows["candidates"].max()),
        optimism,
    ]
