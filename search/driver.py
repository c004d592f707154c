"""Runs a sweep, or goes on with one: all its studies at once on one Tuner, every event into the store."""

import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from search import cluster
from search.budgets import Budget
from search.checking import checks_beside
from search.control import Lease, clear_stop
from search.datasets import load_data
from search.errors import StoreError
from search.guard import Guard
from search.history import PastTrial
from search.provenance import sweep_row
from search.recorder import Recorder, TrialRecord
from search.resume import read_past
from search.schedulers import CellScheduler, GuardStopper
from search.schema import TABLES
from search.searchers import CellSearcher
from search.spec import SweepSpec, studies
from search.store import Store
from search.study_spec import StudySpec
from search.supervision import Announcer, Silence, Supervision
from search.workers import all_losses_told
from search.writer import StoreWriter
from trainables.checkpoint_places import CheckpointPlan
from trainables.places import below
from trainables.shares import Resources

WORKER_LOSSES = 3
"""How often a trial is restarted after its worker was lost, before it is given up as lost."""

LEASE_RENEWAL_SECONDS = 10.0

TUNE = {
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
"""Tune's own snapshots are of no use here, and cost the driver time that grows with the number of trials."""

OnChange = Callable[[Mapping[str, TrialRecord]], None]


@dataclass(frozen=True)
class Hooks:
    """Who follows a sweep.

    Attributes:
        on_name: hears the sweep's name in the store, once it is known.
        on_change: hears of every change of a trial.
        on_message: hears sentences for people: warnings, and why the sweep stops.
        on_lost: called from another thread where the cluster is lost for good; what it does not end, Ray's core does.
    """

    on_name: Callable[[str], None] = lambda name: None
    on_change: OnChange | None = None
    on_message: Callable[[str], None] = lambda sentence: None
    on_lost: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        sweep: the name under which it is in the store.
        counts: trials by status, those of earlier drivers included.
        planned: trials that it was to run.
        seconds: wall time of the search in this driver.
        kind: why it ended before its end: "stop", "budget" or "broken"; None where it did not, or was interrupted.
        reason: the same as a sentence.
        spent: what was spent, as a sentence.
        idle: whether there was nothing left to run.
        unwritten: why the last rows could not be stored; None where all are.
    """

    sweep: str
    counts: Mapping[str, int]
    planned: int
    seconds: float
    kind: str | None = None
    reason: str | None = None
    spent: str = ""
    idle: bool = False
    unwritten: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every trial ended for good, and the store knows it."""
        return self.left == 0 and self.unwritten is None

    @property
    def left(self) -> int:
        """Trials that a resume would run."""
        ended = (self.counts.get(status, 0) for status in ("finished", "pruned", "diverged", "failed", "lost"))
        return max(0, self.planned - sum(ended))

    @property
    def exit_code(self) -> int:
        """0 done, 3 done but some trials failed, 4 stopped by budget, 5 broken off, 130 stopped or interrupted."""
        if not self.complete:
            return 5 if self.unwritten is not None else {"budget": 4, "broken": 5}.get(self.kind or "", 130)
        return 3 if any(self.counts.get(status) for status in ("failed", "diverged", "lost")) else 0


def run(
    spec: SweepSpec,
    store: Store,
    *,
    address: str | None = None,
    insecure: bool = False,
    verbose: bool = False,
    hooks: Hooks = Hooks(),
) -> Outcome:
    """Runs the sweep to its end and returns how it ended; every result is in the store by then.

    A sweep whose name is taken in the store runs under the next free one ("name-2").

    Args:
        address: of a running Ray cluster; None starts one on this machine.
        insecure: joins a cluster on a network even where it lets anyone in.
        verbose: shows Ray's own output.

    Raises:
        DataError, ModelError, SpecError: something is wrong with the input; no trial was started and nothing stored.
        StoreError: the store cannot be written.
    """
    bundles = load_data(spec)
    cells = studies(spec)
    with (
        checks_beside(spec, cells, bundles) as verdict,
        cluster.connection(spec, address, verbose=verbose, insecure=insecure),
    ):
        verdict()
        spec = spec.model_copy(update={"name": store.claim(spec.name)})
        with _leased(store, spec.name) as lease:
            store.append("sweeps", [sweep_row(spec, bundles)])
            return _Drive(spec, cells, store, lease, bundles, hooks).through("start", "started", verbose=verbose)


def resume(
    store: Store,
    sweep: str,
    overrides: Sequence[str] = (),
    *,
    accept_changes: bool = False,
    address: str | None = None,
    insecure: bool = False,
    verbose: bool = False,
    hooks: Hooks = Hooks(),
) -> Outcome:
    """Goes on with a stored sweep, after whatever ended it, and returns how it ended.

    Trials that ended for good are given back to their studies and rungs. Those that ran, were stopped or were lost go
    on from their last checkpoints. The rest is run as it would have been. A sweep that is complete is left as it is.

    Args:
        overrides: "key=value" for what says how a sweep is run: resources, checkpoint, budget, watch, data.root.
        accept_changes: goes on even where code, libraries or data are not what they were.

    Raises:
        ResumeError: something that decides numbers has changed.
        SearchError: another driver runs the sweep.
        DataError, SpecError, StoreError: as for `run`.
    """
    past = read_past(store, sweep, overrides)
    if past.complete:
        counts = Counter(trial.status for trial in past.trials)
        return Outcome(past.spec.name, counts, sum(counts.values()), 0.0, idle=True)
    with _leased(store, past.spec.name) as lease:
        past = read_past(store, sweep, overrides)  # once more, now that nobody else writes
        bundles = load_data(past.spec)
        row = sweep_row(past.spec, bundles, after=past.started["started"])
        accepted = past.check_same(row, accept=accept_changes)
        with cluster.connection(past.spec, address, verbose=verbose, insecure=insecure):
            store.append("sweeps", [row])
            drive = _Drive(past.spec, past.cells, store, lease, bundles, hooks, past.trials)
            if accepted is not None:
                drive.announcer.event("accepted", accepted)
            ended = sum(trial.ended for trial in past.trials)
            said = f"resumed with {ended} trials ended, {len(past.trials) - ended} under way"
            return drive.through("resume", said, verbose=verbose)


@contextmanager
def _leased(store: Store, sweep: str) -> Iterator[Lease]:
    lease, over = Lease.take(store, sweep), threading.Event()

    def renew() -> None:
        while not over.wait(LEASE_RENEWAL_SECONDS):
            lease.renew()

    threading.Thread(target=renew, name="lease", daemon=True).start()
    try:
        clear_stop(store, sweep)
        yield lease
    finally:
        over.set()
        lease.release()


class _Drive:
    """One driver's run of a sweep, from the first suggestion to the last row."""

    def __init__(
        self,
        spec: SweepSpec,
        cells: Sequence[StudySpec],
        store: Store,
        lease: Lease,
        bundles: Mapping[str, Any],
        hooks: Hooks,
        past: Sequence[PastTrial] = (),
    ) -> None:
        hooks.on_name(spec.name)
        self.spec, self.store, self.bundles = spec, store, bundles
        self.budget = Budget(spec.budget, [cell.cell for cell in cells])
        for trial in past:
            self.budget.restore(trial.cell, trial.name, trial.gradient_evaluations, trial.device_seconds)
        self.guard = Guard(self.budget)
        self.unwritten: str | None = None
        self.checkpoints = checkpoint_folder(store, spec.name)
        self.searcher = CellSearcher(
            cells,
            spec.search.sampler,
            spec.search.seeds,
            spec.goal.mode,
            guard=self.guard,
            limit=cluster.Capacity(spec, cells).limit,
            shares=spec.resources.of,
            past=past,
        )
        self.scheduler = CellScheduler(
            spec.search.scheduler,
            spec.train.max_epochs,
            spec.goal.mode,
            guard=self.guard,
            every_epochs=spec.checkpoint.every_epochs,
            past=past,
        )
        self.writer = StoreWriter(store)
        last = max(store.table("events", spec.name)["at"].to_pylist(), default=None)
        self.announcer = Announcer(spec.name, self.writer, hooks.on_message, after=last)
        self.recorder = Recorder(
            self.writer,
            spec,
            {cell.cell: cell for cell in cells},
            {name: bundle.digest for name, bundle in bundles.items()},
            self.searcher.suggested,
            guard=self.guard,
            checkpoints=self.checkpoints,
            past=past,
            on_change=hooks.on_change,
            on_warning=self.announcer.warn,
        )
        self.supervision = Supervision(spec, store, lease, self.guard, self.recorder, self.announcer, hooks.on_lost)

    def through(self, kind: str, said: str, *, verbose: bool) -> Outcome:
        """Runs what is left of the sweep."""
        self.announcer.event(kind, said)
        start = time.monotonic()
        with ExitStack() as stack:
            stack.callback(self.searcher.close)
            stack.callback(self._finish)
            stack.enter_context(_quiet(verbose))
            stack.enter_context(all_losses_told())
            stack.enter_context(self.supervision)
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="recsweep-tune-", ignore_cleanup_errors=True)
            )
            self._tuner(folder).fit()
        outcome = self._outcome(time.monotonic() - start)
        self._tidy(outcome)
        return outcome

    def _finish(self) -> None:
        """Brings what is left to the store; what cannot be stored is in the checkpoints, or will be repeated."""
        self.recorder.on_experiment_end([])
        self._end_event()
        try:
            self.writer.close()
        except StoreError as error:
            self.unwritten = str(error)

    def _end_event(self) -> None:
        if self._outcome(0.0).left:
            kind = self.guard.kind or ("budget" if self.guard.refused else "interrupt")
            reason = self.guard.reason or next(iter(self.guard.refused.values()), "the sweep was interrupted")
            self.announcer.event(kind, reason)
        else:
            self.announcer.event("end", "all trials have ended")

    def _outcome(self, seconds: float) -> Outcome:
        guard = self.guard
        # A trial that earlier drivers gave up as lost is tried again; while it was not, it is as good as stopped.
        counts = Counter(
            "stopped" if record.past is not None and record.status == "lost" else record.status
            for record in self.recorder.records.values()
        )
        kind = guard.kind or ("budget" if guard.refused else None)
        reason = guard.reason or next(iter(guard.refused.values()), None)
        return Outcome(
            self.spec.name,
            counts,
            self.searcher.total_trials,
            seconds,
            kind,
            reason,
            self.budget.report(),
            unwritten=self.unwritten,
        )

    def _tidy(self, outcome: Outcome) -> None:
        """Merges the sweep's many small parts; where that fails they stay as they are, and as readable."""
        if outcome.unwritten is not None:
            return
        with suppress(StoreError):
            for table in TABLES:
                self.store.compact(table)

    def _tuner(self, folder: str) -> Any:
        for name, value in TUNE.items():
            os.environ.setdefault(name, value)
        from ray import tune

        from trainables.trainable import RecommenderTrainable

        wanted = self.spec.resources
        plan = CheckpointPlan(self.checkpoints, self.spec.checkpoint.every_epochs, self.spec.checkpoint.keep)
        trainable = tune.with_parameters(
            RecommenderTrainable, bundles=dict(self.bundles), resources=Resources(wanted.cpu, wanted.gpu), plan=plan
        )
        return tune.Tuner(
            tune.with_resources(trainable, _placement),
            tune_config=tune.TuneConfig(
                search_alg=self.searcher,
                scheduler=self.scheduler,
                num_samples=self.searcher.left,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name=self.spec.name,
                storage_path=folder,
                callbacks=[self.recorder, self.supervision, Silence()],
                verbose=0,
                stop=GuardStopper(self.guard),
                failure_config=tune.FailureConfig(max_failures=WORKER_LOSSES),
                # Trials keep their checkpoints themselves.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )


def _placement(config: Mapping[str, Any]) -> Any:
    return _place(*config["resources"])


@cache
def _place(cpu: int, gpu: float) -> Any:
    """One object for all trials of a share: Tune keeps it with every trial."""
    from ray.tune import PlacementGroupFactory

    return PlacementGroupFactory([{"CPU": cpu, "GPU": gpu} if gpu else {"CPU": cpu}])


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Silences Tune's own messages: results come from the store, and its hints (`Tuner.restore`) would mislead."""
    logger = logging.getLogger("ray.tune")
    level = logger.level
    if not verbose:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def checkpoint_folder(store: Store, sweep: str) -> str:
    """Beside the tables, where every node that shares the store finds them."""
    root = store.root if "://" in store.root else os.path.abspath(store.root)
    return below(root, f"checkpoints/{sweep}")


def _name(trial: Any) -> str:
    return str(trial.config["name"])
