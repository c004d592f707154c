"""The main figures of the protocols, from rows of the store's view `protocols` to one frame each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

BASE_UPDATE, BASE_OBJECTIVE = "descent", "plain"
"""What generalisation is compared with: the same data set, model and optimizer under this update and, where the sweep
has it, this objective, else the cell's own."""

CLEAN = "clean"
SHARPNESS = ("ascent_sharpness", "average_sharpness", "hessian_eigenvalue")

_CORRUPTION = ["cell", "trial", "subject", "phase", "level", "severity"]
_RUN = ["seed", "split_seed"]
_AXES = ["dataset", "model", "objective", "update", "optimizer"]


def robustness_table(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per cell, corruption, phase and level, in the order in which they were measured, clean rows apart.

    Columns: cell, trial, subject, phase, level, severity; seeds and draws (draws of each seed); clean and noisy (means
    of `metric` over seeds, and over seeds and draws); noisy_deviation (over seeds and draws, null for one);
    decrease = (clean - noisy) / clean, of those means (strategies.md §8; null where clean is 0); and one column
    "snr/<modality>" per modality, the mean ratio ‖x‖ / ‖noise‖. Seeds without a clean score are left out. A value that
    is NaN, of a training that diverged, makes its means NaN.

    Args:
        rows: of the view `protocols`; rows of other protocols are passed over.
        metric: a ranking metric such as "recall@20".
    """
    measured = rows[rows["protocol"] == "robustness"]
    scores = measured[(measured["metric"] == metric) & (measured["split"] == "valid")]
    clean = scores[scores["subject"] == CLEAN][["trial", "seed", "value"]].rename(columns={"value": "clean"})
    noisy = scores[scores["subject"] != CLEAN].merge(clean, on=["trial", "seed"])
    table: pd.DataFrame = _grouped(noisy, _CORRUPTION).agg(
        seeds=("seed", "nunique"),
        draws=("draw", "nunique"),
        noisy=("value", _mean),
        noisy_deviation=("value", _deviation),
    )
    once_a_seed = noisy.drop_duplicates([*_CORRUPTION, "seed"])
    table.insert(2, "clean", _grouped(once_a_seed, _CORRUPTION)["clean"].agg(_mean))
    table["decrease"] = (table["clean"] - table["noisy"]) / table["clean"].where(table["clean"] != 0)
    figures: pd.DataFrame = table.reset_index().merge(_signal_to_noise(measured), how="left", on=_CORRUPTION)
    return figures


def generalisation_table(rows: pd.DataFrame, trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per cell and way of varying: spread over seeds, and the paired difference to plain descent.

    Columns: cell, dataset, model, objective, update, optimizer, trial, subject ("both", "split" or "init"); runs; mean,
    deviation (null for one run), low, high, variation (deviation / mean); standard (the score on the standard split
    that the configuration was chosen by); base (the cell that is compared with, null for itself and where there is
    none), pairs (runs that both have, by seed and split seed), difference (mean over the pairs of this cell minus
    base) and difference_deviation.

    Args:
        rows: of the view `protocols`; rows of other protocols are passed over.
        trials: of the view `trials`, for the cells' axes.
        metric: a ranking metric such as "recall@20".
    """
    measured = rows[(rows["protocol"] == "generalisation") & (rows["metric"] == metric) & (rows["split"] == "valid")]
    table: pd.DataFrame = _grouped(measured, ["cell", "trial", "subject"]).agg(
        runs=("value", "size"),
        mean=("value", _mean),
        deviation=("value", _deviation),
        low=("value", "min"),
        high=("value", "max"),
    )
    table["variation"] = table["deviation"] / table["mean"].where(table["mean"] != 0)
    known = trials.drop_duplicates("trial").set_index("trial")[[*_AXES, "best_score"]]
    known = known.rename(columns={"best_score": "standard"})
    table = table.reset_index().join(known, on="trial")
    compared = [_difference(measured, table, row) for _, row in table.iterrows()]
    differences = pd.DataFrame(compared, columns=["base", "pairs", "difference", "difference_deviation"])
    order = ["cell", *_AXES, "trial", "subject", "runs", "mean", "deviation", "low", "high", "variation", "standard"]
    return pd.concat([table[order], differences], axis="columns")


def landscape_table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and sharpness scalar: how steep the loss is around the trained weights (strategies.md §10).

    Columns: cell, trial, subject ("ascent_sharpness", "average_sharpness" or "hessian_eigenvalue"), level, severity
    (radius or scale; null for the eigenvalue), seeds, mean (over seeds and draws), deviation (null for one value), low,
    high.

    Args:
        rows: of the view `protocols`; rows of other protocols and a landscape's grid are passed over.
    """
    measured = rows[(rows["protocol"] == "landscape") & rows["subject"].isin(SHARPNESS) & (rows["metric"] == "value")]
    table: pd.DataFrame = _grouped(measured, ["cell", "trial", "subject", "level", "severity"]).agg(
        seeds=("seed", "nunique"),
        mean=("value", _mean),
        deviation=("value", _deviation),
        low=("value", "min"),
        high=("value", "max"),
    )
    return table.reset_index()


def _grouped(rows: pd.DataFrame, columns: Sequence[str]) -> Any:
    return rows.groupby(list(columns), sort=False, dropna=False)


def _signal_to_noise(measured: pd.DataFrame) -> pd.DataFrame:
    """Mean ratio of each modality by corruption; a column per modality, by name."""
    ratios = measured[measured["metric"].str.startswith("snr/")]
    means: pd.DataFrame = _grouped(ratios, [*_CORRUPTION, "metric"])["value"].mean().reset_index()
    table = means[_CORRUPTION].drop_duplicates()
    for name in sorted(set(means["metric"])):
        of_one = means[means["metric"] == name].rename(columns={"value": name})
        table = table.merge(of_one[[*_CORRUPTION, name]], how="left", on=_CORRUPTION)
    return table


def _difference(measured: pd.DataFrame, table: pd.DataFrame, row: pd.Series) -> tuple[str | None, int, float, float]:
    """Base cell, pairs, mean difference and its deviation of one row of the table."""
    alike = table["update"] == BASE_UPDATE
    for axis in ("subject", "dataset", "model", "optimizer"):
        alike &= table[axis] == row[axis]
    candidates = [
        each
        for objective in (BASE_OBJECTIVE, row["objective"])
        for _, each in table[alike & (table["objective"] == objective)].iterrows()
    ]
    if not candidates or candidates[0]["cell"] == row["cell"]:
        return None, 0, np.nan, np.nan
    gaps = (_runs(measured, row) - _runs(measured, candidates[0])).dropna()
    return str(candidates[0]["cell"]), len(gaps), _mean(gaps), _deviation(gaps)


def _runs(measured: pd.DataFrame, row: pd.Series) -> pd.Series:
    """The values of one cell by seed and split seed."""
    chosen = measured[(measured["trial"] == row["trial"]) & (measured["subject"] == row["subject"])]
    values: pd.Series = chosen.set_index(_RUN)["value"]
    return values


def _mean(values: pd.Series) -> float:
    return float(values.mean(skipna=False)) if len(values) else np.nan


def _deviation(values: pd.Series) -> float:
    return float(values.std(ddof=1, skipna=False)) if len(values) > 1 else np.nan
