"""The searcher of a sweep: one Optuna study per cell behind Tune's one searcher."""

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.names import trial_name
from search.points import planned_points
from search.study import StudySpec
from spaces.params import Value

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class Candidate:
    """One point of a cell's space and the trials (one a seed) that evaluate it."""

    trial: optuna.Trial
    point: Mapping[str, Value]
    waiting: int
    reported: int = 0
    scores: list[float] = field(default_factory=list)
    worst: TrialState = TrialState.COMPLETE


class CellStudy:
    """One cell's Optuna study: hands out trial configurations and hears how they ended.

    Random and grid points are drawn beforehand from the cell's own streams (`search.points`), so they do not depend on
    the order in which trials end. With several seeds a point is told once, as the mean of its seeds.
    """

    def __init__(self, study: StudySpec, sampler: str, seeds: Sequence[int], mode: str) -> None:
        self.study = study
        self.spent = 0
        self.asked = 0
        self._seeds = tuple(seeds)
        points = planned_points(study, sampler, seeds[0])
        self.candidates = study.trials if points is None else len(points)
        self._queue: deque[tuple[Candidate, int]] = deque()
        self.optuna = optuna.create_study(
            study_name=study.cell,
            direction="maximize" if mode == "max" else "minimize",
            sampler=_sampler(sampler, f"{seeds[0]}/{study.cell}"),
        )
        for point in points or ():
            self.optuna.enqueue_trial(dict(point))

    @property
    def size(self) -> int:
        """Trials that the cell will run: its points times the seeds."""
        return self.candidates * len(self._seeds)

    @property
    def open(self) -> bool:
        """Whether there are trials left to hand out."""
        return self.asked < self.size

    def ask(self) -> tuple[Candidate, dict[str, Any]]:
        """The next trial: its candidate and its flat configuration."""
        if not self._queue:
            trial = self.optuna.ask()
            candidate = Candidate(trial, self.study.space.suggest(trial), waiting=len(self._seeds))
            self._queue.extend((candidate, seed) for seed in self._seeds)
        candidate, seed = self._queue.popleft()
        self.asked += 1
        return candidate, self.study.config(candidate.point, seed)

    def report(self, candidate: Candidate, epoch: int, score: float) -> None:
        """Passes a validation on to Optuna, where a point is one trial."""
        # A trial that was restarted after a lost worker runs the epochs since its checkpoint again.
        if len(self._seeds) == 1 and epoch > candidate.reported:
            candidate.trial.report(score, epoch)
            candidate.reported = epoch

    def end(self, candidate: Candidate, state: TrialState, score: float | None) -> None:
        """Takes note of one trial's end; the last seed's tells Optuna the truth about the point."""
        candidate.waiting -= 1
        if score is None:
            state = TrialState.FAIL
        else:
            candidate.scores.append(score)
        if state is not TrialState.COMPLETE and candidate.worst is not TrialState.FAIL:
            candidate.worst = state
        if candidate.waiting:
            return
        value = sum(candidate.scores) / len(candidate.scores) if candidate.worst is TrialState.COMPLETE else None
        self.optuna.tell(candidate.trial, value, state=candidate.worst)

    def close(self) -> None:
        """Marks what is still running as failed, so that nothing stays RUNNING."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.optuna.tell(trial.number, state=TrialState.FAIL)


class CellSearcher(Searcher):  # type: ignore[misc]
    """Serves the cell with the least cost spent so far, so that all cells advance together and no device idles.

    A trial that Tune ended while it called itself running was stopped by the scheduler, and is told as PRUNED with its
    intermediate values; a diverged, failed or lost one as FAIL; a finished one as COMPLETE with its best validation
    score. Tune's own OptunaSearch tells a pruned trial as complete and leaves a diverged one RUNNING.
    `suggested` holds when each trial was suggested, by its name.
    """

    def __init__(self, studies: Sequence[StudySpec], sampler: str, seeds: Sequence[int], mode: str) -> None:
        super().__init__(metric=None, mode=None)
        self.cells = {study.cell: CellStudy(study, sampler, seeds, mode) for study in studies}
        self._running: dict[str, tuple[CellStudy, Candidate]] = {}
        self._names: dict[str, int] = {}
        self.suggested: dict[str, datetime] = {}

    @property
    def total_trials(self) -> int:
        """Trials of the whole sweep."""
        return sum(cell.size for cell in self.cells.values())

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next trial's configuration: `name`, `cell` and the flat configuration under `trial`."""
        candidates = [cell for cell in self.cells.values() if cell.open]
        if not candidates:
            return str(Searcher.FINISHED)
        cell = min(candidates, key=lambda cell: (cell.spent, cell.asked))
        candidate, flat = cell.ask()
        self._running[trial_id] = (cell, candidate)
        name = self._unique(trial_name(flat))
        self.suggested[name] = datetime.now(UTC)
        return {"name": name, "cell": cell.study.cell, "trial": flat}

    def _unique(self, name: str) -> str:
        self._names[name] = self._names.get(name, 0) + 1
        return name if self._names[name] == 1 else f"{name}-{self._names[name]}"

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        cell, candidate = self._running[trial_id]
        if result["validated"]:
            cell.report(candidate, result["epoch"], result["score"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        cell, candidate = self._running.pop(trial_id)
        if error or result is None:
            cell.end(candidate, TrialState.FAIL, None)
            return
        cell.spent += result.get("gradient_evaluations", 0)
        if result["status"] == "running":
            if result["validated"]:
                cell.report(candidate, result["epoch"], result["score"])
            cell.end(candidate, TrialState.PRUNED, result["best_score"])
        elif result["status"] == "finished":
            cell.end(candidate, TrialState.COMPLETE, result["best_score"])
        else:
            cell.end(candidate, TrialState.FAIL, None)

    def close(self) -> None:
        """Ends every study."""
        for cell in self.cells.values():
            cell.close()

    def save(self, checkpoint_path: str) -> None:
        """Keeps nothing: the store leads, and a resumed sweep is rebuilt from it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore from; see `save`."""


def _sampler(name: str, stream: str) -> optuna.samplers.BaseSampler:
    seed = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=4).digest(), "little")
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)
