"""Which trials of a sweep can be its best: what makes two trials one configuration, and how configurations rank."""

import json

import pandas as pd

# Neither the seed nor the place of the data makes another configuration.
_NOT_CONFIGURATION = ("seed", "data.root")


def configuration(config_json: str) -> str:
    """Return a trial's configuration without its seed, as canonical JSON: equal for trials that differ in seed only."""
    config = json.loads(config_json)
    return json.dumps({key: value for key, value in config.items() if key not in _NOT_CONFIGURATION}, sort_keys=True)


def rank_configurations(scored: pd.DataFrame, *, better_is_larger: bool) -> pd.DataFrame:
    """Return the candidates among finished trials of one cell, best first; of equal ones the one that started earlier.

    A configuration that finished with fewer seeds than another is no candidate.

    Args:
        scored: finished trials with the columns trial, configuration, started and a finite score.

    Returns:
        configuration, score (mean over its seeds), seeds (how many), started, trials (names, in the order given).
    """
    groups = scored.groupby("configuration", sort=False)
    candidates: pd.DataFrame = groups.agg(
        score=("score", "mean"), seeds=("score", "size"), started=("started", "min"), trials=("trial", tuple)
    ).reset_index()
    complete = candidates[candidates["seeds"] == candidates["seeds"].max()]
    ranked: pd.DataFrame = complete.sort_values(
        ["score", "started"], ascending=[not better_is_larger, True], kind="stable"
    )
    return ranked
