"""Stored sweeps as Optuna studies: for Optuna's plots, and for optuna-dashboard."""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from search.errors import StoreError
from search.history import PastTrial, past_trials, stored_spec
from search.spec import studies
from search.store import Store
from search.study_spec import StudySpec
from spaces.nearest import did_you_mean
from spaces.params import Value

optuna.logging.set_verbosity(optuna.logging.WARNING)

STATES: Mapping[str, TrialState] = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
    "lost": TrialState.FAIL,
    "stopped": TrialState.FAIL,
}
"""What a trial is to Optuna; one that runs is left out."""


def study(store: Store, sweep: str, cell: str | None = None) -> optuna.Study:
    """Return one cell of a stored sweep as a study in memory, with every trial that has ended.

    Each trial is one of Optuna's, also where several differ in their seed alone; `user_attrs` hold its name, seed,
    status, cost and error. Intermediate values are those of the goal metric on validation, with `early_validation`
    its estimates first.

    Args:
        cell: its name; None where the sweep has one only.

    Raises:
        StoreError: the sweep or the cell is unknown, or has to be named.
    """
    spec = stored_spec(store, store.resolve(sweep))
    cells = {each.cell: each for each in studies(spec)}
    if cell is None and len(cells) > 1:
        raise StoreError(f"a cell of sweep {spec.name} must be named: it has {', '.join(cells)}")
    name = next(iter(cells)) if cell is None else cell
    if name not in cells:
        raise StoreError(f"sweep {spec.name} has no cell {name!r}{did_you_mean(name, list(cells))}")
    created = optuna.create_study(study_name=name, direction=_direction(spec.goal.mode))
    created.add_trials(_trials(cells[name], past_trials(store, spec)))
    return created


def export(store: Store, sweep: str, target: Path) -> dict[str, int]:
    """Write a copy of a sweep's cells to a new SQLite file that optuna-dashboard reads; return trials by cell.

    The file appears whole or not at all.

    Raises:
        StoreError: the sweep is unknown, the file is there already, or it cannot be written.
    """
    if target.exists():
        raise StoreError(f"a copy must go to a new file, but {target} exists")
    if not target.parent.is_dir():
        raise StoreError(f"a copy must go into a folder that exists, but {target.parent} does not")
    spec = stored_spec(store, store.resolve(sweep))
    past = past_trials(store, spec)
    trials = {each.cell: _trials(each, past) for each in studies(spec)}
    temporary = target.absolute().with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
        for cell, found in trials.items():
            named = f"{spec.name}/{cell}"
            created = optuna.create_study(storage=storage, study_name=named, direction=_direction(spec.goal.mode))
            created.add_trials(found)
        storage.engine.dispose()
        temporary.rename(target)
    except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(f"the copy {target} cannot be written: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return {cell: len(found) for cell, found in trials.items()}


def _direction(mode: str) -> Literal["maximize", "minimize"]:
    return "maximize" if mode == "max" else "minimize"


def _trials(cell: StudySpec, past: Sequence[PastTrial]) -> list[FrozenTrial]:
    ended = [trial for trial in past if trial.cell == cell.cell and trial.status in STATES]
    return [_frozen(cell, trial) for trial in sorted(ended, key=lambda trial: (trial.started, trial.name))]


def _frozen(cell: StudySpec, trial: PastTrial) -> FrozenTrial:
    stored = _Stored(trial.flat)
    # What the sweep fixed is suggested, too, and nobody is asked for it.
    params = {name: value for name, value in cell.space.suggest(stored).items() if name in stored.distributions}
    state = STATES[trial.status]
    if state is TrialState.COMPLETE and trial.best_score is None:
        state = TrialState.FAIL
    frozen = create_trial(
        state=state,
        value=trial.best_score if state is TrialState.COMPLETE else None,
        params=params,
        distributions=stored.distributions,
        intermediate_values=dict(trial.scores),
        user_attrs={
            "trial": trial.name,
            "seed": trial.flat["seed"],
            "status": trial.status,
            "gradient_evaluations": trial.gradient_evaluations,
            "device_seconds": trial.device_seconds,
            **({"error": trial.row["error"]} if trial.row["error"] else {}),
        },
    )
    frozen.datetime_start = _local(trial.started)
    frozen.datetime_complete = _local(trial.row["ended"] or trial.started)
    return frozen


def _local(moment: datetime) -> datetime:
    """Optuna's times have no zone and are this machine's."""
    return moment.astimezone().replace(tzinfo=None)


class _Stored:
    """A Suggester that hands out a trial's own values, and keeps the ranges that it is asked with."""

    def __init__(self, flat: Mapping[str, Any]) -> None:
        self._flat = flat
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.distributions[name] = FloatDistribution(low, high, log=log)
        return float(self._flat[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.distributions[name] = IntDistribution(low, high, log=log)
        return int(self._flat[name])

    def suggest_categorical(self, name: str, choices: Sequence[Value | None]) -> Value | None:
        self.distributions[name] = CategoricalDistribution(choices)
        value: Value | None = self._flat[name]
        return next(choice for choice in choices if json.dumps(choice) == json.dumps(value))
