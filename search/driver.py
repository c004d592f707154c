"""Runs a sweep: all its studies at once on one Tuner, every event into the store."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from search import cluster
from search.errors import StoreError
from search.preparation import check_configurations, load_data
from search.protocols.preparation import check_protocols
from search.provenance import sweep_row
from search.recorder import Recorder, TrialRecord
from search.schedulers import CellScheduler
from search.schema import TABLES
from search.searchers import CellSearcher
from search.spec import SweepSpec, studies
from search.store import Store

OnChange = Callable[[Mapping[str, TrialRecord]], None]

WORKER_LOSSES = 3
"""How often a trial is restarted after its worker was lost, before it is given up as lost."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        sweep: the name under which it is in the store.
        counts: trials by status.
        planned: trials that it was to run.
        seconds: wall time of the search.
    """

    sweep: str
    counts: Mapping[str, int]
    planned: int
    seconds: float

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before all trials had run."""
        return self.counts.get("stopped", 0) > 0 or sum(self.counts.values()) < self.planned

    @property
    def exit_code(self) -> int:
        """0 done, 3 done but some trials failed, 130 interrupted."""
        if self.interrupted:
            return 130
        return 3 if any(self.counts.get(status) for status in ("failed", "diverged", "lost")) else 0


def run(
    spec: SweepSpec,
    store: Store,
    *,
    address: str | None = None,
    verbose: bool = False,
    on_change: OnChange | None = None,
) -> Outcome:
    """Runs the sweep to its end and returns how it ended; every result is in the store by then.

    A sweep whose name is taken in the store runs under the next free one ("name-2").

    Raises:
        DataError, ModelError, SpecError: something is wrong with the input; nothing was started and nothing stored.
        StoreError: the store cannot be written.
    """
    bundles = load_data(spec)
    cells = studies(spec)
    check_configurations(cells, bundles, spec.search.seeds[0])
    check_protocols(spec, cells, bundles)
    with cluster.connection(spec, address, verbose=verbose) as resources:
        spec = spec.model_copy(update={"name": store.claim(spec.name)})
        store.append("sweeps", [sweep_row(spec, bundles)])
        searcher = CellSearcher(cells, spec.search.sampler, spec.search.seeds, spec.goal.mode)
        digests = {name: bundle.digest for name, bundle in bundles.items()}
        by_cell = {study.cell: study for study in cells}
        recorder = Recorder(store, spec, by_cell, digests, searcher.suggested, on_change)
        tuner = _tuner(spec, searcher, recorder, bundles, cluster.concurrency(spec, resources), store)
        start = time.monotonic()
        try:
            with _quiet(verbose):
                tuner.fit()
        finally:
            recorder.on_experiment_end([])
            searcher.close()
        _compact(store)
        counts = Counter(record.status for record in recorder.records.values())
        return Outcome(spec.name, counts, searcher.total_trials, time.monotonic() - start)


def _compact(store: Store) -> None:
    """Merges the many small parts of a sweep; where that fails the parts stay as they are, and as readable."""
    with suppress(StoreError):
        for table in TABLES:
            store.compact(table)


def _tuner(
    spec: SweepSpec,
    searcher: CellSearcher,
    recorder: Recorder,
    bundles: Mapping[str, Any],
    concurrency: int,
    store: Store,
) -> Any:
    from ray import tune

    from trainables.trainable import RecommenderTrainable, Resources

    wanted = Resources(spec.resources.cpu, spec.resources.gpu)
    trainable = tune.with_parameters(RecommenderTrainable, bundles=dict(bundles), resources=wanted)
    return tune.Tuner(
        tune.with_resources(trainable, {"CPU": wanted.cpu, "GPU": wanted.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=CellScheduler(spec.search.scheduler, spec.train.max_epochs, spec.goal.mode),
            num_samples=searcher.total_trials,
            max_concurrent_trials=concurrency,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=spec.name,
            storage_path=_checkpoint_folder(store),
            callbacks=[recorder],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=WORKER_LOSSES),
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=spec.checkpoint.keep,
                checkpoint_frequency=spec.checkpoint.every_epochs,
                checkpoint_at_end=False,
            ),
        ),
    )


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


def _checkpoint_folder(store: Store) -> str:
    """Beside the tables, where every node that shares the store finds them."""
    root = store.root if "://" in store.root else os.path.abspath(store.root)
    return f"{root.rstrip('/')}/checkpoints"


def _name(trial: Any) -> str:
    return str(trial.config["name"])
