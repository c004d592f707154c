"""Schedulers of a sweep: one per cell, so that cells are never judged against each other."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from search.spec import SchedulerSection

SCHEDULERS: dict[str, Callable[[SchedulerSection, int, str], TrialScheduler]] = {
    "fifo": lambda section, max_epochs, mode: FIFOScheduler(),
    "asha": lambda section, max_epochs, mode: AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="score",
        mode=mode,
        max_t=max_epochs,
        grace_period=min(section.grace_epochs, max_epochs),
        reduction_factor=section.reduction,
    ),
}


class CellScheduler(FIFOScheduler):  # type: ignore[misc]
    """Hands every event to the scheduler of the trial's cell; trials start in the order in which they came.

    Only validated epochs are shown to it, and neither failed nor diverged trials enter its rungs. Tune's own schedulers
    would put all cells into the same rungs, where a slow starter (a "+" form with half the steps) loses to another
    cell's trials instead of to its own.
    """

    def __init__(self, section: SchedulerSection, max_epochs: int, mode: str) -> None:
        super().__init__()
        self._create = partial(SCHEDULERS[section.kind], section, max_epochs, mode)
        self._cells: dict[str, TrialScheduler] = {}

    def _of(self, trial: Trial) -> TrialScheduler:
        cell = trial.config["cell"]
        if cell not in self._cells:
            self._cells[cell] = self._create()
        return self._cells[cell]

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        self._of(trial).on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        self._of(trial).on_trial_remove(tune_controller, trial)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        if not result["validated"]:
            return str(TrialScheduler.CONTINUE)
        return str(self._of(trial).on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> None:
        if result.get("status") in ("finished", "running") and result.get("score") is not None:
            self._of(trial).on_trial_complete(tune_controller, trial, dict(result))
        else:
            self._of(trial).on_trial_remove(tune_controller, trial)
