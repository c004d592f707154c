"""Schedulers of a sweep: one per cell, so that cells are never judged against each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ray.tune import Stopper
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from search.costs import device_seconds, spent_seconds
from search.guard import Guard
from search.history import PastTrial
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

CONTINUE, STOP = str(TrialScheduler.CONTINUE), str(TrialScheduler.STOP)


@dataclass(frozen=True)
class _Named:
    """A trial as a rung knows it: by the name that it keeps through every resume, where Tune's ids change."""

    trial_id: str


class CellScheduler(FIFOScheduler):  # type: ignore[misc]
    """Hands every event to the scheduler of the trial's cell; trials start in the order in which they came.

    Only validated epochs are shown to it, estimates among them, which all trials have at the same epochs. Neither
    failed nor diverged trials enter its rungs. Tune's own schedulers would put all cells into the same rungs, where a
    slow starter (a "+" form with half the steps) loses to another cell's trials instead of to its own. It also carries
    out the guard's orders, at checkpoints, and the trials' own limits of time.
    """

    def __init__(
        self,
        section: SchedulerSection,
        max_epochs: int,
        mode: str,
        *,
        guard: Guard | None = None,
        every_epochs: int = 1,
        past: Sequence[PastTrial] = (),
    ) -> None:
        """Begins with the rungs that past trials fill.

        Args:
            every_epochs: epochs between two checkpoints.
            past: trials of earlier drivers. Tune saves no scheduler: without them the rungs would be empty, and the
                next trials judged against nobody.
        """
        super().__init__()
        self._create = partial(SCHEDULERS[section.kind], section, max_epochs, mode)
        self._cells: dict[str, TrialScheduler] = {}
        self._guard = guard or Guard()
        self._every_epochs = every_epochs
        for trial in past:
            self._refill(trial)

    def _refill(self, trial: PastTrial) -> None:
        """Shows a past trial to its rungs.

        An unfinished one's last validation is left out: whether it stopped the trial is decided when it comes again.
        """
        scheduler, named = self._cell(trial.cell), _Named(trial.name)
        scheduler.on_trial_add(None, named)
        for epoch, score in trial.scores if trial.ended else trial.scores[:-1]:
            scheduler.on_trial_result(None, named, {"epoch": epoch, "score": score})
        scheduler.on_trial_remove(None, named)

    def _cell(self, cell: str) -> TrialScheduler:
        if cell not in self._cells:
            self._cells[cell] = self._create()
        return self._cells[cell]

    def _of(self, trial: Trial) -> tuple[TrialScheduler, _Named]:
        return self._cell(trial.config["cell"]), _Named(trial.config["name"])

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        scheduler, named = self._of(trial)
        scheduler.on_trial_add(tune_controller, named)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        scheduler, named = self._of(trial)
        scheduler.on_trial_error(tune_controller, named)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        scheduler, named = self._of(trial)
        scheduler.on_trial_remove(tune_controller, named)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        scheduler, named = self._of(trial)
        self._catch_up(scheduler, named, result)
        if result["validated"] and scheduler.on_trial_result(tune_controller, named, result) == STOP:
            return STOP
        return self._ordered(trial, result)

    def _catch_up(self, scheduler: TrialScheduler, named: _Named, result: Mapping[str, Any]) -> None:
        """Shows what an earlier driver saw and could not store; it let the trial go on."""
        for report in result.get("earlier", ()):
            if report["validated"]:
                scheduler.on_trial_result(None, named, report)

    def _ordered(self, trial: Trial, result: Mapping[str, Any]) -> str:
        """What the guard says, once it knows what the trial has cost."""
        name, cell = trial.config["name"], trial.config["cell"]
        self._charge(trial, result)
        if (over := self._guard.over(spent_seconds(result))) is not None:
            self._guard.ended[name] = ("pruned", over)
            return STOP
        due = result["epoch"] % self._every_epochs == 0
        if due and (reason := self._guard.against(cell, name)) is not None:
            self._guard.ended[name] = ("stopped", reason)
            return STOP
        return CONTINUE

    def _charge(self, trial: Trial, result: Mapping[str, Any]) -> None:
        passes, seconds = result.get("gradient_evaluations") or 0, device_seconds(result, trial.config["resources"])
        self._guard.charge(trial.config["cell"], trial.config["name"], passes, seconds)

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: Mapping[str, Any]) -> None:
        # Tune shows a trial's very last result here alone.
        self._charge(trial, result)
        scheduler, named = self._of(trial)
        self._catch_up(scheduler, named, result)
        if result.get("status") in ("finished", "running") and result.get("validated"):
            scheduler.on_trial_complete(tune_controller, named, dict(result))
        else:
            scheduler.on_trial_remove(tune_controller, named)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """The next trial in the order in which they came; those of closed cells are withdrawn before they begin."""
        if self._guard.kind is not None or self._guard.refused:
            for trial in [trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING]:
                name, cell = trial.config["name"], trial.config["cell"]
                if (reason := self._guard.against(cell, name)) is not None:
                    self._guard.ended[name] = ("stopped", reason)
                    tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)


class GuardStopper(Stopper):  # type: ignore[misc]
    """Ends all trials where the guard says at once."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._guard.at_once
