"""Commands for a sweep that runs somewhere: stop, logs."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.commands.options import InsecureOption, StoreOption, SubmitOption, SweepArgument, open_store
from search.errors import SearchError
from search.wording import plural

if TYPE_CHECKING:
    from search.store import Store

POLL_SECONDS = 2.0


def stop(
    sweep: Annotated[str, typer.Argument(help="Name of a sweep that runs.")],
    store: StoreOption = None,
    submit: SubmitOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has stopped.")] = False,
    insecure: InsecureOption = False,
) -> int:
    """Ask a running sweep to stop at its trials' next checkpoints; with --submit its job is ended within seconds."""
    from search import control

    if submit is not None:
        return _stop_job(submit, sweep, wait=wait, insecure=insecure)
    results = open_store(store)
    name = results.resolve(sweep)
    driver = control.driver_of(results, name)
    if driver is None:
        raise SearchError(f"a sweep must be running to be stopped, but nobody runs {name}")
    who = f"process {driver.pid} on host {driver.host}"
    if not driver.alive:
        raise SearchError(
            f"a sweep must be running to be stopped, but {who}, which ran {name}, is gone (last sign of life "
            f"{driver.age_seconds:.0f} s ago); recsweep resume {name} goes on with it"
        )
    control.request_stop(results, name)
    print(
        f"Asked {who} to stop {name}: it begins no trial any more, and running ones stop at their next checkpoint; "
        f"recsweep resume {name} goes on from there.",
        flush=True,
    )
    while wait and (driver := control.driver_of(results, name)) is not None and driver.alive:
        time.sleep(POLL_SECONDS)
    if wait:
        print(f"{name} has stopped." if driver is None else f"{who} is gone; {name} has stopped.")
    return 0


def _stop_job(address: str, sweep: str, *, wait: bool, insecure: bool) -> int:
    from search.cluster import jobs

    job = jobs.stop_job(address, sweep, insecure=insecure)
    print(
        f"Stopping job {job.id} of {job.sweep}: trials lose what they did since their last checkpoints; "
        "recsweep resume goes on from there.",
        flush=True,
    )
    while wait and (job := jobs.find_job(address, job.id, insecure=insecure)).runs:
        time.sleep(POLL_SECONDS)
    if wait:
        print(job)
    return 0


def logs(
    sweep: SweepArgument = None,
    store: StoreOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until nobody runs the sweep.")] = False,
    submit: SubmitOption = None,
    insecure: InsecureOption = False,
) -> int:
    """Print what happened in a sweep and how its trials ended; with --submit, what its job has printed."""
    from search import control

    if submit is not None:
        return _print_job(submit, sweep, follow=follow, insecure=insecure)
    results = open_store(store)
    name = results.resolve(sweep)
    printed: set[str] = set()
    while True:
        # Asked before the store is read, so that a driver's last rows are not missed.
        driver = control.driver_of(results, name) if follow else None
        for line in lines(results, name):
            if line not in printed:
                printed.add(line)
                print(line, flush=True)
        if driver is None or not driver.alive:
            return 0
        time.sleep(POLL_SECONDS)


def _print_job(address: str, sweep: str | None, *, follow: bool, insecure: bool) -> int:
    from search.cluster import jobs

    # By its id, as another one of the same name may be sent in between.
    job = jobs.find_job(address, sweep, insecure=insecure).id
    for text in jobs.job_logs(address, job, follow=follow, insecure=insecure):
        print(text, end="", flush=True)
    print(jobs.find_job(address, job, insecure=insecure))
    return 0


def lines(store: "Store", sweep: str) -> Iterator[str]:
    """Yield a sweep's events and its trials' ends in the order of their times, each as a line; times are UTC.

    Raises:
        StoreError: the store cannot be read.
    """
    events = [(row["at"], f"{row['kind']:<9} {row['text']}") for row in store.table("events", sweep).to_pylist()]
    trials = [(row["ended"], _trial(row)) for row in store.table("trials_all", sweep).to_pylist() if row["ended"]]
    for at, text in sorted([*events, *trials], key=_time):
        yield f"{at:%Y-%m-%d %H:%M:%S}Z {text}"


def _time(entry: tuple[datetime, str]) -> datetime:
    return entry[0]


def _trial(row: dict[str, Any]) -> str:
    score = "" if row["best_score"] is None else f", {row['metric']} {row['best_score']:.4f}"
    epochs = "" if row["epochs"] is None else f" after {plural(row['epochs'], 'epoch')}"
    error = "" if not row["error"] else f": {row['error'].strip().splitlines()[-1]}"
    return f"{row['status']:<9} {row['trial']}{epochs}{score}{error}"
