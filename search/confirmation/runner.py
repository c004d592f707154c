"""Runs confirmations: Ray tasks in, rows of the table `confirmations` out, the ledger of every opened test split."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import pandas as pd

from search import cluster
from search.confirmation.choices import choices, fresh_seeds, make_units
from search.control import driver_of
from search.errors import SearchError
from search.protocols.runner import OnUnit, ProtocolOutcome, Row, run_units
from search.protocols.task import Measured
from search.protocols.units import Unit
from search.report.frames import read_frames
from search.spec import SweepSpec
from search.store import Store

SEEDS = 10


def confirm(
    store: Store,
    sweep: str,
    *,
    seeds: int | Sequence[int] = SEEDS,
    cells: Sequence[str] | None = None,
    top: int = 1,
    trials: Sequence[str] | None = None,
    address: str | None = None,
    insecure: bool = False,
    verbose: bool = False,
    on_unit: OnUnit | None = None,
) -> ProtocolOutcome:
    """Retrains the best configuration of every cell on fresh seeds and judges it on validation and test.

    Opens the test split. Rows are in the store as each training ends; what is there already is not run again. A
    training depends on nothing but its configuration and seed.

    Args:
        sweep: its name in the store.
        seeds: how many fresh ones, or which; none that the search used.
        cells: only these; None for all that have a finished trial.
        top: configurations of each cell, by the search's score; with several, what a choice on test would claim shows.
        trials: the configurations of these finished trials instead of the best ones.
        address: of a running Ray cluster; None starts one on this machine.
        insecure: joins a cluster on a network even where it lets anyone in.
        on_unit: hears of the end of every training.

    Raises:
        StoreError: the sweep, a cell or a trial is unknown, or has not finished; the store cannot be read or written.
        DataError: the sweep's data cannot be loaded any more, or have no test row.
        SearchError: the sweep still runs, a seed is not fresh, no cluster answers, or the data are not what they were.
    """
    _check_ended(store, sweep)
    frames = read_frames(store, sweep)
    spec = SweepSpec.model_validate(frames.spec)
    chosen = choices(frames, cells, top, trials)
    units = make_units(frames, chosen, fresh_seeds(seeds, {int(seed) for seed in frames.trials["seed"]}))
    candidates = {choice.trial: choice.candidates for choice in chosen}
    missing = _missing(units, frames.confirmations)
    connect = partial(cluster.connection, spec, address, verbose=verbose, insecure=insecure)
    rows = partial(_rows, sweep, candidates)
    return run_units(store, spec, "confirmations", units, missing, rows, connect, on_unit)


def _check_ended(store: Store, sweep: str) -> None:
    driver = driver_of(store, sweep)
    if driver is not None and driver.alive:
        raise SearchError(
            f"a sweep must have ended to be confirmed, since its best may change, but process {driver.pid} on host "
            f"{driver.host} runs {sweep}"
        )


def _missing(units: Sequence[Unit], confirmations: pd.DataFrame) -> list[Unit]:
    """The units whose test rows the store does not hold."""
    test = confirmations[confirmations["split"] == "test"]
    known = {(str(trial), int(seed)) for trial, seed in zip(test["trial"], test["seed"], strict=True)}
    return [unit for unit in units if (unit.trial, unit.seed) not in known]


def _rows(sweep: str, candidates: Mapping[str, int], unit: Unit, measured: Measured) -> list[Row]:
    unsealed = datetime.now(UTC)
    return [
        {
            "sweep": sweep,
            "trial": unit.trial,
            "seed": unit.seed,
            "split": each["split"],
            "metric": each["metric"],
            "value": None if math.isnan(each["value"]) else each["value"],
            "candidates": candidates[unit.trial],
            "unsealed": unsealed if each["split"] == "test" else None,
            "host": measured.host,
        }
        for each in measured.measurements
    ]
