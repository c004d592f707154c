"""What earlier drivers of a sweep left in the store: its trials in the order in which they were drawn."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from search.errors import StoreError
from search.spec import SweepSpec
from search.store import Store
from trainables.early_validation import estimate_of

ENDED = ("finished", "pruned", "diverged", "failed")
"""Statuses of trials that ended for good; a running, stopped or lost one goes on at a resume."""


@dataclass(frozen=True)
class PastTrial:
    """One trial as the store shows it: its last attempt.

    Attributes:
        candidate: place of its point in the cell, from 0.
        flat: its configuration.
        attempt: how often it began.
        scores: (epoch, goal metric) of every validation that is stored, estimates among them, ascending.
        epochs: every epoch that is stored.
        started: when its last attempt began.
        row: all columns of `trials`.
    """

    name: str
    cell: str
    candidate: int
    flat: Mapping[str, Any]
    status: str
    attempt: int
    best_score: float | None
    gradient_evaluations: int
    device_seconds: float
    scores: tuple[tuple[int, float], ...]
    epochs: frozenset[int]
    started: datetime
    row: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        """Whether it ended for good."""
        return self.status in ENDED


def stored_spec(store: Store, sweep: str) -> SweepSpec:
    """The specification with which the sweep was last started or resumed."""
    return SweepSpec.model_validate_json(store.frame("sweeps", sweep).iloc[-1]["spec_json"])


def past_trials(store: Store, spec: SweepSpec) -> list[PastTrial]:
    """The trials of a sweep, by cell and candidate, those of one candidate in the order of the seeds.

    Raises:
        StoreError: the sweep was recorded by a version of recsweep that did not number its candidates.
    """
    metrics = store.frame("metrics", spec.name)
    scores, epochs = _scores(metrics, spec.goal.metric), _epochs(metrics)
    place = {seed: number for number, seed in enumerate(spec.search.seeds)}
    trials = [
        _past(row, scores.get(str(row["trial"]), ()), epochs.get(str(row["trial"]), frozenset()))
        for row in store.table("trials", spec.name).to_pylist()
    ]
    return sorted(trials, key=lambda trial: (trial.cell, trial.candidate, place.get(trial.flat["seed"], 0)))


def _past(row: Mapping[str, Any], scores: tuple[tuple[int, float], ...], epochs: frozenset[int]) -> PastTrial:
    if row["candidate"] is None:
        raise StoreError(
            f"sweep {row['sweep']} was recorded by an older recsweep that could not resume; launch it anew"
        )
    return PastTrial(
        name=row["trial"],
        cell=row["cell"],
        candidate=row["candidate"],
        flat=json.loads(row["config_json"]),
        status=row["status"],
        attempt=row["attempt"],
        best_score=row["best_score"],
        gradient_evaluations=row["gradient_evaluations"] or 0,
        device_seconds=row["device_seconds"] or 0.0,
        scores=scores,
        epochs=epochs,
        started=row["started"],
        row=row,
    )


def _scores(metrics: pd.DataFrame, goal: str) -> dict[str, tuple[tuple[int, float], ...]]:
    # An epoch has one of the two: what the scheduler and the sampler were shown at the time.
    judged = metrics["metric"].isin((goal, estimate_of(goal)))
    shown = metrics[(metrics["split"] == "valid") & judged].sort_values("epoch")
    return {
        str(trial): tuple(zip(rows["epoch"].astype(int).tolist(), rows["value"].astype(float).tolist(), strict=True))
        for trial, rows in shown.groupby("trial")
    }


def _epochs(metrics: pd.DataFrame) -> dict[str, frozenset[int]]:
    return {str(trial): frozenset(rows.astype(int).tolist()) for trial, rows in metrics.groupby("trial")["epoch"]}
