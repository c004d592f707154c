"""What a report needs from the store, read once: the frames of one sweep, without a single test score."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import pandas as pd

from search.arms import BASE_ARM, arm_name
from search.candidates import configuration
from search.errors import StoreError
from search.tuning_cost import Mode


class Readable(Protocol):
    """The part of `search.store.Store` that reports use."""

    def frame(self, view: str, sweep: str | None = None) -> pd.DataFrame:
        """Return a view's rows of one sweep."""


@dataclass(frozen=True)
class SweepFrames:
    """One sweep as frames; columns as in the store.

    Attributes:
        spec: the resolved sweep file, as stored at the sweep's first start.
        sweeps: one row per start, oldest first.
        trials: one row per trial (last attempt), in the order in which they started; `score` is `best_score`,
            `configuration` is equal for trials that differ in their seed only, `arm` is what distinguishes the cells of
            one data set and model.
        params: tuned parameters only, one row per trial and name, with the value in `value`.
        curves: the goal metric on the validation split, one row per trial and epoch.
        confirmations: retrainings on fresh seeds; the only place in which a test score can stand.
        attempts: one row per attempt of a trial, those before its last one among them.
        events: starts, resumes, warnings and ends of the sweep's drivers, oldest first.
        protocols: what robustness, generalisation and landscape protocols measured, on validation and training data.
    """

    name: str
    spec: Mapping[str, Any]
    metric: str
    mode: Mode
    sweeps: pd.DataFrame
    trials: pd.DataFrame
    params: pd.DataFrame
    curves: pd.DataFrame
    confirmations: pd.DataFrame
    protocols: pd.DataFrame
    attempts: pd.DataFrame
    events: pd.DataFrame

    @property
    def better_is_larger(self) -> bool:
        """Whether the goal is to maximise."""
        return self.mode == "max"

    @cached_property
    def data_sets(self) -> list[str]:
        """The data sets that have trials, in the order of the sweep file."""
        present = sorted({str(name) for name in self.trials["dataset"]})
        return sorted(present, key=[*map(str, self.spec["data"]["names"]), *present].index)

    @cached_property
    def arms(self) -> list[str]:
        """The arms that have trials, plain descent first."""
        return sorted({str(arm) for arm in self.trials["arm"]}, key=lambda arm: (not arm.startswith(BASE_ARM), arm))

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The finished trials that were validated: the only candidates for the best."""
        return self.trials[(self.trials["status"] == "finished") & self.trials["score"].notna()]

    @cached_property
    def tasks(self) -> list[tuple[str, str]]:
        """The pairs of data set and model that have trials, in the order of the sweep file and of the alphabet."""
        present = set(zip(self.trials["dataset"], self.trials["model"], strict=True))
        models = sorted({str(model) for _, model in present})
        return [(dataset, model) for dataset in self.data_sets for model in models if (dataset, model) in present]

    @staticmethod
    def of_task(rows: pd.DataFrame, task: tuple[str, str]) -> pd.DataFrame:
        """Return the rows of one pair of data set and model."""
        dataset, model = task
        return rows[(rows["dataset"] == dataset) & (rows["model"] == model)]

    def ranked(self, trials: pd.DataFrame) -> pd.DataFrame:
        """Return trials with a score, best first; of equals the one that started earlier."""
        known = trials[trials["score"].notna()]
        return known.sort_values(["score", "started", "trial"], ascending=[not self.better_is_larger, True, True])


def read_frames(store: Readable, sweep: str) -> SweepFrames:
    """Return the frames of `sweep`.

    Raises:
        StoreError: the store holds no start of this sweep.
    """
    sweeps = store.frame("sweeps", sweep).sort_values("started", kind="stable").reset_index(drop=True)
    if sweeps.empty:
        raise StoreError(f"sweep {sweep!r} must have been started to be reported, but the store holds no start of it")
    spec, metric, mode = _goal(sweeps)
    return SweepFrames(
        name=sweep,
        spec=spec,
        metric=metric,
        mode=mode,
        sweeps=sweeps,
        trials=_trials(store.frame("trials", sweep)),
        params=_params(store.frame("params", sweep)),
        curves=_curves(store.frame("metrics", sweep), metric),
        confirmations=store.frame("confirmations", sweep),
        protocols=store.frame("protocols", sweep),
        attempts=store.frame("trials_all", sweep),
        events=store.frame("events", sweep).sort_values("at", kind="stable").reset_index(drop=True),
    )


def outlines(store: Readable) -> list[SweepFrames]:
    """Return the sweeps and trials of every sweep of the store, the last started first; all other frames are empty."""
    starts, trials = store.frame("sweeps"), store.frame("trials")
    nothing = pd.DataFrame()
    found = []
    for name, sweeps in starts.sort_values("started", kind="stable").groupby("sweep", sort=False):
        spec, metric, mode = _goal(sweeps)
        mine = _trials(trials[trials["sweep"] == name])
        others = (nothing,) * 6
        found.append(SweepFrames(str(name), spec, metric, mode, sweeps.reset_index(drop=True), mine, *others))
    return found[::-1]


def _goal(sweeps: pd.DataFrame) -> tuple[Mapping[str, Any], str, Mode]:
    """The specification at the first start, the goal metric and its direction."""
    spec = json.loads(sweeps["spec_json"].iloc[0])
    return spec, str(spec["goal"]["metric"]), "min" if str(spec["goal"]["mode"]) == "min" else "max"


def _trials(trials: pd.DataFrame) -> pd.DataFrame:
    ordered = trials.sort_values(["started", "trial"], kind="stable").reset_index(drop=True)
    return ordered.assign(
        score=_finite(ordered["best_score"]),
        configuration=[configuration(text) for text in ordered["config_json"]],
        arm=_arms(ordered),
    )


def _arms(trials: pd.DataFrame) -> list[str]:
    arms = [arm_name(o, u) for o, u in zip(trials["objective"], trials["update"], strict=True)]
    if trials["optimizer"].nunique() <= 1:
        return arms
    return [f"{arm}/{optimizer}" for arm, optimizer in zip(arms, trials["optimizer"], strict=True)]


def _params(params: pd.DataFrame) -> pd.DataFrame:
    tuned = params[params["tuned"].astype(bool) & (params["name"] != "seed")]
    value = tuned["number"].astype(object).where(tuned["number"].notna(), tuned["text"])
    return tuned.assign(value=value).sort_values(["trial", "name"], kind="stable").reset_index(drop=True)


def _curves(metrics: pd.DataFrame, metric: str) -> pd.DataFrame:
    chosen = metrics[(metrics["split"] == "valid") & (metrics["metric"] == metric)]
    chosen = chosen[_finite(chosen["value"]).notna()]
    return chosen.sort_values(["trial", "epoch"], kind="stable").reset_index(drop=True)


def _finite(values: pd.Series) -> pd.Series:
    return values.astype(float).replace([math.inf, -math.inf], math.nan)
