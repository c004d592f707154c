"""The best configuration of each cell, and the one-cell sweep that repeats it."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from search import candidates
from search.report.frames import Readable, SweepFrames, read_frames
from search.wording import number

AXES = ("model", "objective", "update", "optimizer")

# A sweep file's name has up to 64 characters; the store's, with "-2" for a second run, may have more.
_LONGEST_NAME = 59

_UNTUNED = "nothing was tuned"

RULE = (
    "Only finished trials with a score on the validation split are candidates; pruned, stopped, diverged and failed "
    "ones are not. A trial's score is its best epoch's, in full precision. Trials that differ only in their seed are "
    "one configuration, scored by the mean over its seeds; a configuration that finished with fewer seeds than another "
    "of its cell is no candidate. Of equal scores the configuration that started earlier wins. No test score was "
    "looked at."
)


def best(store: Readable, sweep: str) -> pd.DataFrame:
    """Return the best configuration per cell of a stored sweep, as `best_configurations` does.

    Raises:
        StoreError: the store does not hold the sweep.
    """
    return best_configurations(read_frames(store, sweep))


def best_configurations(frames: SweepFrames) -> pd.DataFrame:
    """Return one row per cell, in the order of the cells' names; `score` is null where no trial of the cell finished.

    Columns: cell, dataset and the axes; trial (the best configuration's first), trials (its trials, one per seed),
    seeds, score (mean over the seeds), seed_low, seed_high, seed_deviation (null for one seed), best_epoch, started,
    config_json; candidates (configurations it was chosen from), evaluated (trials of the cell), and what the whole cell
    cost: gradient_evaluations, device_seconds.
    """
    scored = dict(iter(frames.scored.groupby("cell")))
    nothing = frames.scored.head(0)
    rows = [
        _cell_row(frames, str(cell), trials, scored.get(cell, nothing))
        for cell, trials in frames.trials.groupby("cell", sort=True)
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    *("cell", "dataset", *AXES, "trial", "trials", "seeds", "score", "seed_low", "seed_high", "seed_deviation"),
    *("best_epoch", "started", "config_json", "candidates", "evaluated", "gradient_evaluations", "device_seconds"),
]


def _cell_row(frames: SweepFrames, cell: str, trials: pd.DataFrame, scored: pd.DataFrame) -> dict[str, object]:
    first = trials.iloc[0]
    row: dict[str, object] = {
        "cell": cell,
        **{axis: first[axis] for axis in ("dataset", *AXES)},
        "candidates": 0,
        "evaluated": len(trials),
        "gradient_evaluations": float(trials["gradient_evaluations"].astype(float).sum()),
        "device_seconds": float(trials["device_seconds"].astype(float).sum()),
        "score": math.nan,
    }
    ranking = rank_configurations(frames, scored)
    if ranking.empty:
        return row
    best = ranking.iloc[0]
    members = scored[scored["trial"].isin(best["trials"])]
    chosen = members.iloc[0]
    return {
        **row,
        "trial": chosen["trial"],
        "trials": best["trials"],
        "seeds": tuple(int(seed) for seed in members["seed"]),
        "score": float(best["score"]),
        "seed_low": float(members["score"].min()),
        "seed_high": float(members["score"].max()),
        "seed_deviation": float(members["score"].std(ddof=1)) if len(members) > 1 else math.nan,
        "best_epoch": chosen["best_epoch"],
        "started": chosen["started"],
        "config_json": chosen["config_json"],
        "candidates": len(ranking),
    }


def rank_configurations(frames: SweepFrames, scored: pd.DataFrame) -> pd.DataFrame:
    """Return the candidates among finished trials of one cell, best first, by the rule in `RULE`.

    Columns: configuration, score (mean over its seeds), seeds (how many), started, trials (names, earliest first).
    """
    return candidates.rank_configurations(scored, better_is_larger=frames.better_is_larger)


def best_of_data_sets(frames: SweepFrames, best: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the best cell's row per data set, in the sweep's order; data sets without a finished trial are left out.

    Scores of different data sets cannot be ranked against each other, so there is one winner for each.
    """
    known = best[best["score"].notna()]
    ranked = known.sort_values(["score", "started"], ascending=[not frames.better_is_larger, True], kind="stable")
    return {
        name: ranked[ranked["dataset"] == name].iloc[0]
        for name in frames.data_sets
        if (ranked["dataset"] == name).any()
    }


def tuned_values(frames: SweepFrames, trial: str) -> dict[str, object]:
    """Return the tuned hyperparameters of a trial by their full names."""
    rows = frames.params[frames.params["trial"] == trial]
    return {str(name): value for name, value in zip(rows["name"], rows["value"], strict=True)}


def describe_values(values: Mapping[str, object]) -> str:
    """Return tuned values as "rho = 0.1", one per line; full names where short ones clash."""
    leaves = [name.rpartition(".")[2] for name in values]
    shown = [leaf if leaves.count(leaf) == 1 else name for leaf, name in zip(leaves, values, strict=True)]
    return (
        ",\n".join(f"{name} = {number(value)}" for name, value in zip(shown, values.values(), strict=True)) or _UNTUNED
    )


def best_sweep(frames: SweepFrames, row: pd.Series) -> dict[str, Any]:
    """Return the sweep file that repeats the best configuration of one cell, as plain values for `yaml.safe_dump`.

    Args:
        row: a row of `best_configurations` with a score.
    """
    config = json.loads(row["config_json"])
    groups = tuple(f"{axis}." for axis in AXES)
    fixed = {key: value for key, value in config.items() if key.startswith(groups) and not key.endswith(".name")}
    spec = json.loads(json.dumps(frames.spec))
    return {
        "name": f"{frames.name[:_LONGEST_NAME]}-best",
        "data": {**spec["data"], "names": [row["dataset"]]},
        "axes": {axis: [row[axis]] for axis in AXES},
        "space": {"preset": "paper", "tune": [], "fix": fixed},
        "search": {"sampler": "grid", "trials": 1, "seeds": list(row["seeds"]), "scheduler": {"kind": "fifo"}},
        **{key: spec[key] for key in ("train", "goal", "resources") if key in spec},
    }
