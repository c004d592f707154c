"""Runs protocols on a stored sweep's best configurations: Ray tasks in, rows of the table `protocols` out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from search import cluster
from search.datasets import graph_cache_folder
from search.errors import StoreError
from search.protocols.task import Measured, measure
from search.protocols.units import Unit, make_units, missing_units, settings_digest
from search.report.frames import read_frames
from search.sections import ProtocolsSection
from search.spec import SweepSpec, studies
from search.store import Store
from search.study_spec import Cell
from trainables.config import TrialConfig
from trainables.data.bundle import DataBundle
from trainables.data.catalog import load
from trainables.shares import Resources

WORKER_LOSSES = 3
"""How often a unit is restarted after its worker was lost, before it is given up as failed."""


@dataclass(frozen=True)
class UnitEnd:
    """The end of one unit, for whoever follows the run.

    Attributes:
        number, total: its place among the units that are run.
        rows: how many went to the store.
        error: why it failed, as one sentence; None where it did not.
    """

    unit: Unit
    number: int
    total: int
    rows: int
    seconds: float
    error: str | None


@dataclass(frozen=True)
class ProtocolOutcome:
    """How the protocols of a sweep ended.

    Attributes:
        planned: units that there are.
        stored: those of them that were in the store before.
        done: those that were measured now.
        failed: those that failed, with their sentences.
        interrupted: whether the run was stopped before its end.
        seconds: wall time.
    """

    sweep: str
    planned: int
    stored: int
    done: int
    failed: tuple[UnitEnd, ...]
    interrupted: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 done, 3 done but some units failed, 130 interrupted."""
        return 130 if self.interrupted else 3 if self.failed else 0


OnUnit = Callable[[UnitEnd], None]
Row = dict[str, object]


def run_protocols(
    store: Store,
    sweep: str,
    protocols: ProtocolsSection,
    *,
    cells: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    address: str | None = None,
    insecure: bool = False,
    verbose: bool = False,
    on_unit: OnUnit | None = None,
) -> ProtocolOutcome:
    """Measures the best configuration of every cell; rows are in the store as each unit ends.

    Units whose rows the store shows already, under the same settings, are not run again. A unit that fails leaves the
    others alone. The numbers of a unit depend on nothing but its configuration, seeds and settings.

    Args:
        sweep: its name in the store.
        cells: only these; None for all that have a finished trial.
        seeds: training seeds of all protocols that are given; None for the sections' own, and where these leave it
            open those of the search.
        address: of a running Ray cluster; None starts one on this machine.
        insecure: joins a cluster on a network even where it lets anyone in.
        on_unit: hears of the end of every unit.

    Raises:
        StoreError: the sweep or a cell is unknown, or has no finished trial; the store cannot be read or written.
        DataError: the sweep's data cannot be loaded any more.
        SearchError: no cluster answers, or the data are not what they were.
    """
    frames = read_frames(store, sweep)
    spec = SweepSpec.model_validate(frames.spec)
    protocols = _with_seeds(protocols, seeds)
    units = make_units(frames, protocols, protocols.seeds or spec.search.seeds, cells)
    missing = missing_units(units, store.frame("protocols", sweep), store.frame("protocols_all", sweep))
    connect = partial(cluster.connection, spec, address, verbose=verbose, insecure=insecure)
    return run_units(store, spec, "protocols", units, missing, partial(_rows, sweep), connect, on_unit)


def run_units(
    store: Store,
    spec: SweepSpec,
    table: str,
    units: Sequence[Unit],
    missing: Sequence[Unit],
    rows: Callable[[Unit, Measured], list[Row]],
    connect: Callable[[], AbstractContextManager[None]],
    on_unit: OnUnit | None,
) -> ProtocolOutcome:
    """Runs the units that are missing and stores what they measured, each as it ends.

    Args:
        table: where the rows of a unit go.
        rows: what they are.
        connect: opens the connection to the cluster; with nothing missing it is not called.
    """
    start = time.monotonic()
    ends: list[UnitEnd] = []
    interrupted = False
    if missing:
        bundles = _load(missing)
        connected_before = cluster.connected()
        with connect():
            try:
                for unit, measured, seconds in _measured(missing, bundles, spec, cancel=connected_before):
                    found = rows(unit, measured)
                    store.append(table, found)
                    ends.append(UnitEnd(unit, len(ends) + 1, len(missing), len(found), seconds, measured.error))
                    if on_unit is not None:
                        on_unit(ends[-1])
            except KeyboardInterrupt:
                interrupted = True
        with suppress(StoreError):
            store.compact(table)
    failed = tuple(end for end in ends if end.error is not None)
    done, stored, seconds = len(ends) - len(failed), len(units) - len(missing), time.monotonic() - start
    return ProtocolOutcome(spec.name, len(units), stored, done, failed, interrupted, seconds)


def _with_seeds(protocols: ProtocolsSection, seeds: Sequence[int] | None) -> ProtocolsSection:
    if seeds is None:
        return protocols
    changes: dict[str, Any] = {"seeds": tuple(seeds)}
    if protocols.generalisation is not None:
        changes["generalisation"] = protocols.generalisation.model_copy(update={"seeds": tuple(seeds)})
    return protocols.model_copy(update=changes)


def _load(units: Sequence[Unit]) -> dict[str, DataBundle]:
    """Each data set of the units as the sweep saw it.

    Raises:
        DataError: a file is missing or breaks a rule.
        StoreError: a file is not what it was in the sweep.
    """
    bundles: dict[str, DataBundle] = {}
    for unit in units:
        if unit.dataset not in bundles and not unit.own_split:
            bundle = load(TrialConfig.from_flat(unit.flat).data, graph_cache_folder())
            if unit.data_digest not in (None, bundle.digest):
                rule = f"data set {unit.dataset} must be as it was in the sweep (digest {unit.data_digest})"
                raise StoreError(f"{rule}, but its digest is {bundle.digest}")
            bundles[unit.dataset] = bundle
    return bundles


def _measured(
    units: Sequence[Unit], bundles: dict[str, DataBundle], spec: SweepSpec, *, cancel: bool
) -> Iterator[tuple[Unit, Measured, float]]:
    """Runs the units on the connected cluster, as many at once as it holds; yields each as it ends, with seconds.

    Args:
        cancel: whether units that still run are to be cancelled at an interrupt. A connection that is closed ends them
            by itself, and Ray's core can abort this process where it is cancelling them just then; for the same reason
            none is cancelled by force.
    """
    import ray

    capacity = cluster.Capacity(spec, studies(spec))
    task = ray.remote(max_retries=WORKER_LOSSES)(measure)
    shared = {name: ray.put(bundle) for name, bundle in bundles.items()}
    waiting = list(reversed(units))
    running: dict[Any, tuple[Unit, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < capacity.limit():
                unit = waiting.pop()
                share = spec.resources.of(Cell(*unit.cell.split("/")))
                placed = task.options(num_cpus=share.cpu, num_gpus=share.gpu)
                bundle = None if unit.own_split else shared[unit.dataset]
                reference = placed.remote(unit, bundle, Resources(share.cpu, share.gpu))
                running[reference] = (unit, time.monotonic())
            (ended,), _ = ray.wait(list(running), num_returns=1)
            unit, begun = running.pop(ended)
            yield unit, _result(ray, ended), time.monotonic() - begun
    finally:
        for reference in running if cancel else ():
            ray.cancel(reference)


def _result(ray: Any, reference: Any) -> Measured:
    try:
        measured: Measured = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Measured(error=f"the worker was lost: {str(error).strip().splitlines()[0]}")
    if measured.error is not None:
        return replace(measured, error=" ".join(measured.error.split()))
    return measured if measured.measurements else Measured(error="nothing could be measured")


def _rows(sweep: str, unit: Unit, measured: Measured) -> list[Row]:
    return [_row(sweep, unit, measurement) for measurement in measured.measurements]


def _row(sweep: str, unit: Unit, measurement: dict[str, Any]) -> Row:
    return {
        "sweep": sweep,
        "trial": unit.trial,
        "cell": unit.cell,
        "protocol": unit.protocol,
        "settings": settings_digest(unit.settings),
        "seed": unit.seed,
        "split_seed": unit.split_seed,
        **measurement,
    }
