"""The searcher of a sweep: one Optuna study per cell behind Tune's one searcher."""

import hashlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.errors import StoreError
from search.guard import Guard
from search.history import PastTrial
from search.names import config_digest, trial_name
from search.points import planned_points
from search.sections import Share
from search.study_spec import StudySpec
from spaces.params import Value

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass
class Candidate:
    """One point of a cell's space and the trials (one a seed) that evaluate it.

    Attributes:
        index: its place in the cell, from 0.
        waiting: its trials that have not ended.
        reported: the last epoch that Optuna was told of.
        worst: how the least fortunate of its trials ended.
    """

    index: int
    trial: optuna.Trial
    point: Mapping[str, Value]
    waiting: int
    reported: int = 0
    scores: list[float] = field(default_factory=list)
    worst: TrialState = TrialState.COMPLETE


@dataclass(frozen=True)
class Proposal:
    """A trial to hand out: a candidate with one seed, and what an earlier driver knows of it."""

    candidate: Candidate
    seed: int
    past: PastTrial | None = None


class CellStudy:
    """One cell's Optuna study: hands out trial configurations and hears how they ended.

    Random and grid points are drawn beforehand from the cell's own streams (`search.points`), so they do not depend on
    the order in which trials end. An adaptive sampler draws every candidate from a stream of its own, too, made from
    (seed, cell, index): what it proposes depends on what it was told and on nothing else, and a study that is told the
    same again after a crash goes on with the same proposals. With several seeds a point is told once, as their mean.
    """

    def __init__(self, study: StudySpec, sampler: str, seeds: Sequence[int], mode: str) -> None:
        self.study = study
        self.spent = 0
        self.asked = 0
        self._sampler = sampler
        self._seeds = tuple(seeds)
        self._points = planned_points(study, sampler, seeds[0])
        self.candidates = study.trials if self._points is None else len(self._points)
        self._queue: deque[Proposal] = deque()
        self._begun = 0
        self.optuna = optuna.create_study(
            study_name=study.cell,
            direction="maximize" if mode == "max" else "minimize",
            sampler=optuna.samplers.RandomSampler(seed=0),  # replaced before every candidate
        )

    @property
    def size(self) -> int:
        """Trials that the cell will run: its points times the seeds."""
        return self.candidates * len(self._seeds)

    @property
    def open(self) -> bool:
        """Whether there are trials left to hand out."""
        return self.asked < self.size

    def restore(self, past: Sequence[PastTrial]) -> list[Proposal]:
        """Takes up where another driver left off and returns the trials that had begun and not ended.

        Candidates of which the store lost every trial are drawn again.

        Raises:
            StoreError: a stored trial is not one of this study.
        """
        known: dict[int, dict[int, PastTrial]] = {}
        for each in past:
            known.setdefault(each.candidate, {})[each.flat["seed"]] = each
        unfinished = []
        for index in range(1 + max(known, default=-1)):
            stored = known.get(index, {})
            candidate = self._begin(self._point(next(iter(stored.values()))) if stored else None)
            for seed in self._seeds:
                trial = stored.get(seed)
                if trial is None:
                    self._queue.append(Proposal(candidate, seed))
                    continue
                self.asked += 1
                if trial.ended:
                    self._replay(candidate, trial)
                else:
                    unfinished.append(Proposal(candidate, seed, trial))
        return unfinished

    def _point(self, stored: PastTrial) -> dict[str, Value]:
        point = {name: stored.flat.get(name) for name in self.study.space.parameters}
        config = self.study.config(point, stored.flat["seed"])  # type: ignore[arg-type]
        if config_digest(config) != config_digest(stored.flat):
            raise StoreError(f"trial {stored.name} must be one of the sweep's cell {self.study.cell}, but is not")
        return point  # type: ignore[return-value]

    def _replay(self, candidate: Candidate, trial: PastTrial) -> None:
        """Tells Optuna of a trial that had ended what it was told then."""
        for epoch, score in trial.scores:
            self.report(candidate, epoch, score)
        self.spent += trial.gradient_evaluations
        self.end(candidate, ENDS[trial.status], trial.best_score, judged=bool(trial.scores))

    def ask(self) -> Proposal:
        """The next trial."""
        if not self._queue:
            candidate = self._begin(None)
            self._queue.extend(Proposal(candidate, seed) for seed in self._seeds)
        self.asked += 1
        return self._queue.popleft()

    def _begin(self, point: Mapping[str, Value] | None) -> Candidate:
        """The next candidate: at the given point, else at the planned or proposed one."""
        index, self._begun = self._begun, self._begun + 1
        if self._points is not None:
            point = self._points[index] if point is None else point
        if point is None:
            self.optuna.sampler = _sampler(self._sampler, f"{self._seeds[0]}/{self.study.cell}/{index}")
        else:
            self.optuna.enqueue_trial(dict(point))
        trial = self.optuna.ask()
        return Candidate(index, trial, self.study.space.suggest(trial), waiting=len(self._seeds))

    def config(self, proposal: Proposal) -> dict[str, Any]:
        """The proposal's flat configuration."""
        return self.study.config(proposal.candidate.point, proposal.seed)

    def report(self, candidate: Candidate, epoch: int, score: float) -> None:
        """Passes a validation on to Optuna, where a point is one trial."""
        # A trial that was restarted after a lost worker runs the epochs since its checkpoint again.
        if len(self._seeds) == 1 and epoch > candidate.reported:
            candidate.trial.report(score, epoch)
            candidate.reported = epoch

    def end(self, candidate: Candidate, state: TrialState, score: float | None, *, judged: bool = False) -> None:
        """Takes note of one trial's end; the last seed's tells Optuna the truth about the point.

        Args:
            judged: whether the trial was validated, be it by an estimate, which is no score: a pruned one did not fail.
        """
        candidate.waiting -= 1
        if score is not None:
            candidate.scores.append(score)
        elif state is not TrialState.PRUNED or not judged:
            state = TrialState.FAIL
        if state is not TrialState.COMPLETE and candidate.worst is not TrialState.FAIL:
            candidate.worst = state
        if candidate.waiting:
            return
        # fsum: the mean does not depend on the order in which the seeds ended.
        mean = math.fsum(candidate.scores) / len(candidate.scores) if candidate.scores else None
        value = mean if candidate.worst is TrialState.COMPLETE else None
        self.optuna.tell(candidate.trial, value, state=candidate.worst)

    def close(self) -> None:
        """Marks what is still running as failed, so that nothing stays RUNNING."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.optuna.tell(trial.number, state=TrialState.FAIL)


ENDS = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
}
"""What Optuna is told of a trial that ended with this status."""


class CellSearcher(Searcher):  # type: ignore[misc]
    """Serves the cell with the least cost spent so far, so that all cells advance together and no device idles.

    A trial that Tune ended while it called itself running was stopped by the scheduler, and is told as PRUNED with its
    intermediate values; a diverged, failed or lost one as FAIL; a finished one as COMPLETE with its best validation
    score. Tune's own OptunaSearch tells a pruned trial as complete and leaves a diverged one RUNNING.
    `suggested` holds when each trial was suggested, by its name.
    """

    def __init__(
        self,
        studies: Sequence[StudySpec],
        sampler: str,
        seeds: Sequence[int],
        mode: str,
        *,
        guard: Guard | None = None,
        limit: Callable[[], float] = lambda: math.inf,
        shares: Callable[[StudySpec], Share] = lambda study: Share(1, 0),
        past: Sequence[PastTrial] = (),
    ) -> None:
        """Begins every study, or goes on with what is past.

        Args:
            guard: says which cells are closed.
            limit: how many trials may be under way at once; asked before every suggestion.
            shares: what a trial of a cell occupies.
            past: the trials of earlier drivers of this sweep.

        Raises:
            StoreError: a past trial is not one of the studies.
        """
        super().__init__(metric=None, mode=None)
        self.cells = {study.cell: CellStudy(study, sampler, seeds, mode) for study in studies}
        self._guard = guard or Guard()
        self._limit = limit
        self._shares = {study.cell: shares(study) for study in studies}
        self._running: dict[str, tuple[CellStudy, Candidate]] = {}
        self._seen: dict[str, int] = {}  # gradient evaluations of each trial that runs
        self._names: set[str] = set()
        self._unfinished: deque[tuple[CellStudy, Proposal]] = deque()
        self.suggested: dict[str, datetime] = {}
        self._restore(past)

    def _restore(self, past: Sequence[PastTrial]) -> None:
        unfinished = []
        for cell, study in self.cells.items():
            trials = [trial for trial in past if trial.cell == cell]
            unfinished += [(study, proposal) for proposal in study.restore(trials)]
            self._names.update(trial.name for trial in trials)
        # In the order in which they began, and before all others: one at a time they were the last to begin.
        self._unfinished.extend(sorted(unfinished, key=lambda each: _began(each[1])))

    @property
    def total_trials(self) -> int:
        """Trials of the whole sweep."""
        return sum(cell.size for cell in self.cells.values())

    @property
    def left(self) -> int:
        """Trials that are still to be handed out."""
        return len(self._unfinished) + sum(cell.size - cell.asked for cell in self.cells.values())

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's configuration: `name`, `cell`, `candidate`, `attempt` (how often it began before),
        `resources` and the flat configuration under `trial`; None where no more may be under way."""
        while self._unfinished and self._refused(*self._unfinished[0]):
            self._unfinished.popleft()  # it stays in the store as it is, for another resume
        open_cells = [cell for cell in self.cells.values() if cell.open and not self._refused(cell)]
        if not open_cells and not self._unfinished:
            return str(Searcher.FINISHED)
        if len(self._running) >= self._limit():
            return None
        if self._unfinished:
            return self._handed_out(trial_id, *self._unfinished.popleft())
        cell = min(open_cells, key=lambda cell: (cell.spent, cell.asked))
        return self._handed_out(trial_id, cell, cell.ask())

    def _refused(self, cell: CellStudy, proposal: Proposal | None = None) -> bool:
        name = None if proposal is None or proposal.past is None else proposal.past.name
        return self._guard.against(cell.study.cell, name) is not None

    def _handed_out(self, trial_id: str, cell: CellStudy, proposal: Proposal) -> dict[str, Any]:
        self._running[trial_id] = (cell, proposal.candidate)
        flat, past, share = cell.config(proposal), proposal.past, self._shares[cell.study.cell]
        name = self._unique(trial_name(flat)) if past is None else past.name
        self._guard.begin(cell.study.cell, name)
        self.suggested[name] = datetime.now(UTC)
        return {
            "name": name,
            "cell": cell.study.cell,
            "candidate": proposal.candidate.index,
            "attempt": 0 if past is None else past.attempt,
            "resources": (share.cpu, share.gpu),
            "trial": flat,
        }

    def _unique(self, name: str) -> str:
        later = (f"{name}-{number}" for number in itertools.count(2))
        free = next(each for each in itertools.chain([name], later) if each not in self._names)
        self._names.add(free)
        return free

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._seen[trial_id] = result.get("gradient_evaluations", 0)
        self._report(*self._running[trial_id], result)

    def _report(self, cell: CellStudy, candidate: Candidate, result: Mapping[str, Any]) -> None:
        for report in (*result.get("earlier", ()), result):
            if report["validated"]:
                cell.report(candidate, report["epoch"], report["score"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        cell, candidate = self._running.pop(trial_id)
        seen = self._seen.pop(trial_id, 0)
        if error or result is None or "status" not in result:
            cell.spent += seen
            cell.end(candidate, TrialState.FAIL, None)
            return
        cell.spent += result.get("gradient_evaluations", 0)
        self._report(cell, candidate, result)
        if result["status"] == "running":
            cell.end(candidate, TrialState.PRUNED, result["best_score"], judged=result.get("score") is not None)
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


def _began(proposal: Proposal) -> tuple[datetime, int]:
    assert proposal.past is not None
    return proposal.past.started, proposal.candidate.index


def _sampler(name: str, stream: str) -> optuna.samplers.BaseSampler:
    seed = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=4).digest(), "little")
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)
