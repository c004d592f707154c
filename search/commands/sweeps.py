"""Commands that run sweeps or say what one will cost: launch, resume, plan, status."""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
import yaml
from rich.console import Console
from rich.table import Column, Table

from search.commands import supervised
from search.commands.options import (
    AddressOption,
    InsecureOption,
    Joining,
    StoreOption,
    SubmitOption,
    SweepArgument,
    VerboseOption,
    console,
    open_store,
    store_place,
)
from search.commands.supervised import BROKEN, Tell
from search.errors import SearchError
from search.spec import SweepSpec, load
from search.wording import plural

if TYPE_CHECKING:
    from search.driver import Hooks, Outcome
    from search.plan import Count, Estimate, Plan, Prediction
    from search.store import Store

    Follow: TypeAlias = Callable[[SweepSpec], Hooks]

SpecArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a built-in sweep.", metavar="SWEEP")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the sweep, such as search.trials=8.", metavar="[KEY=VALUE]...")
]


def launch(
    sweep: SpecArgument,
    overrides: Overrides = None,
    store: StoreOption = None,
    address: AddressOption = None,
    submit: Annotated[
        str | None,
        typer.Option(help="Send the sweep to the cluster with this Jobs API address, and return.", metavar="URL"),
    ] = None,
    max_gpu_hours: Annotated[float | None, typer.Option(help="The same as budget.device_hours=HOURS.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done: the same as plan.")] = False,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Run a sweep to its end; every result goes to the store as it happens."""
    hours = [] if max_gpu_hours is None else [f"budget.device_hours={max_gpu_hours}"]
    spec = load(sweep, [*(overrides or ()), *hours])
    if dry_run:
        return _print_plan(spec)
    if submit is not None:
        return _submit(submit, spec, store_place(store, from_spec=spec.store), insecure=insecure)

    joining = Joining(address=address, insecure=insecure, verbose=verbose)

    def work(follow: "Follow") -> "Outcome":
        from search import driver

        results = open_store(store, from_spec=spec.store, create=True)
        return driver.run(spec, results, **joining, hooks=follow(spec))

    return _drive(work, lambda: open_store(store, from_spec=spec.store), joining)


def resume(
    sweep: Annotated[str, typer.Argument(help="Name of a sweep in the store.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes to resources, checkpoint, budget, watch or data.root.", metavar="[KEY=VALUE]..."),
    ] = None,
    store: StoreOption = None,
    address: AddressOption = None,
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Go on even if code, libraries or data have changed since.")
    ] = False,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Go on with a sweep after any interruption: nothing that ended is run again, what ran goes on."""
    joining = Joining(address=address, insecure=insecure, verbose=verbose)

    def work(follow: "Follow") -> "Outcome":
        from search import driver
        from search.resume import read_past

        results = open_store(store)
        past = read_past(results, sweep, overrides or ())
        return driver.resume(
            results,
            sweep,
            overrides or (),
            accept_changes=accept_changes,
            **joining,
            hooks=driver.Hooks() if past.complete else follow(past.spec),
        )

    return _drive(work, lambda: open_store(store), joining)


def _drive(work: "Callable[[Follow], Outcome]", results: Callable[[], "Store"], joining: Joining) -> int:
    """Runs a driver in a child process, with a live view, and says how it ended; then the sweep's protocols."""

    def child(tell: Tell) -> int:
        import pyarrow as pa

        from search.driver import Hooks
        from search.live import LiveView

        screen = console()
        # Of a process that writes small parts for days, other pools keep hundreds of megabytes.
        pa.set_memory_pool(pa.system_memory_pool())
        with ExitStack() as stack:

            def follow(spec: SweepSpec) -> "Hooks":
                view = stack.enter_context(LiveView(screen, spec))
                return Hooks(on_name=tell, on_change=view.update, on_message=view.say, on_lost=_leave)

            outcome = work(follow)
        return _told(outcome, results(), screen, joining)

    return supervised.in_child(child) if supervised.apart else child(lambda name: None)


def _leave() -> None:
    """Ends the process from any thread, where the cluster is lost and Tune waits for it."""
    print("recsweep: the sweep is broken off; recsweep resume goes on with it", file=sys.stderr, flush=True)
    os._exit(BROKEN)


def _told(outcome: "Outcome", results: "Store", screen: Console, joining: Joining) -> int:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcome.counts.items()))
    head = f"Sweep {outcome.sweep}: {counts or 'no trial ran'}"
    if outcome.idle:
        screen.print(f"{head}; it is complete, and nothing is left to search; store {results.named}", soft_wrap=True)
    else:
        screen.print(f"{head} in {_duration(outcome.seconds)}; store {results.named}", soft_wrap=True)
    if outcome.unwritten is not None:
        screen.print(
            f"Broken off: the last rows could not be stored ({outcome.unwritten}). Trials get them back from their "
            f"checkpoints: recsweep resume {outcome.sweep} --store {results.named} goes on.",
            soft_wrap=True,
        )
        return outcome.exit_code
    if not outcome.complete:
        why = f": {outcome.reason}" if outcome.reason else ""
        screen.print(
            f"{STOPPED.get(outcome.kind or '', 'Interrupted')} with {plural(outcome.left, 'trial')} to go{why}. "
            f"{outcome.spent}. Everything that was measured is in the store; "
            f"recsweep resume {outcome.sweep} --store {results.named} goes on.",
            soft_wrap=True,
        )
        return outcome.exit_code
    from search.history import stored_spec

    spec = stored_spec(results, outcome.sweep)
    if spec.protocols.given():
        return _measure(results, outcome.sweep, spec, outcome.exit_code, joining)
    if outcome.idle:
        return 0
    screen.print(f"Next: recsweep report {outcome.sweep} --store {results.named}", soft_wrap=True)
    return outcome.exit_code


STOPPED = {"budget": "Stopped by budget", "broken": "Broken off", "stop": "Stopped on request"}


def _submit(url: str, spec: SweepSpec, place: str, *, insecure: bool) -> int:
    from search.cluster import jobs

    job = jobs.submit(url, spec, place, insecure=insecure)
    console().print(
        f"Sent as job {job} to {url}; its store is {place}, as the cluster sees it. "
        f"Follow it with recsweep status or recsweep logs {spec.name} --submit {url}",
        soft_wrap=True,
    )
    return 0


def _measure(store: "Store", sweep: str, spec: SweepSpec, code: int, joining: Joining) -> int:
    """Runs the sweep file's protocols on what the search found; returns the exit code of both together."""
    from search.commands.protocols import measure_and_print
    from search.errors import StoreError

    try:
        measured = measure_and_print(store, sweep, spec.protocols, joining)
    except StoreError as error:
        if code == 0:
            raise
        # All trials failed, which the search has said; there is nothing to measure.
        console().print(f"The protocols were left out: {error}", soft_wrap=True)
        return code
    return measured.exit_code or code


def plan(sweep: SpecArgument, overrides: Overrides = None) -> int:
    """Say what a sweep will do and cost, before anything runs."""
    return _print_plan(load(sweep, overrides or ()))


def _print_plan(spec: SweepSpec) -> int:
    from search import preparation
    from search.datasets import load_data
    from search.plan import plan as make_plan
    from search.plan import predict
    from search.protocols.preparation import protocol_runs
    from search.spec import studies

    cells = studies(spec)
    bundles = load_data(spec)
    preparation.check_configurations(cells, bundles, spec.search.seeds[0])
    batches = preparation.batches_per_epoch(spec, bundles)
    runs = protocol_runs(spec, cells, bundles)
    planned = make_plan(spec, batches, preparation.gradient_evaluations, runs)
    concurrency = preparation.local_concurrency(spec)
    timings = preparation.probe(cells, bundles, spec.search.seeds[0], concurrency)
    prediction = predict(planned, timings, concurrency)
    screen = console()
    screen.print(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False), markup=False, highlight=False)
    screen.print(_plan_table(planned, prediction))
    total, length = _count(planned.gradient_evaluations), plural(planned.max_epochs, "epoch")
    screen.print(f"{plural(planned.trials, 'trial')}, {total} gradient evaluations at the full {length} each.")
    if planned.protocols:
        screen.print(_protocols_table(planned, prediction))
        total = _count(planned.protocol_gradient_evaluations)
        screen.print(
            f"{planned.protocol_trainings} trainings of the protocols, {total} gradient evaluations at full length."
        )
    if prediction.wall_s is not None:
        after = prediction.protocols_wall_s
        more = "" if after is None else f", then for the protocols' trainings {_between(after)}"
        screen.print(
            f"Predicted: {_between(preparation.with_startup(prediction.wall_s))}{more}, on this machine, "
            f"{prediction.concurrency} trials at once; early stopping and pruning make it shorter. "
            "From a probe of a few batches here, just now."
        )
    return 0


def _between(seconds: "Estimate") -> str:
    low, mid, high = (_duration(bound) for bound in (seconds.low, seconds.mid, seconds.high))
    return f"{mid} (between {low} and {high})"


def _plan_table(planned: "Plan", prediction: "Prediction") -> Table:
    table = Table(Column("cell", overflow="fold"), title=f"Plan of {planned.name} (digest {planned.digest[:12]})")
    for heading in ("trials", "tuned", "space", "gradient evaluations an epoch", "in all", "device time"):
        table.add_column(heading, justify="right")
    for cell in planned.cells:
        seconds = prediction.cells[cell.cell]
        taken = "no evidence" if seconds is None else _duration(seconds.mid)
        points = "continuous" if cell.space_size is None else str(cell.space_size)
        per_epoch, total = _count(cell.gradient_evaluations_per_epoch), _count(cell.gradient_evaluations)
        table.add_row(cell.cell, str(cell.trials), str(len(cell.tuned)), points, per_epoch, total, taken)
    return table


def _protocols_table(planned: "Plan", prediction: "Prediction") -> Table:
    table = Table(Column("cell", overflow="fold"), "protocol", title="After the search, of each best configuration")
    for heading in ("trainings", "gradient evaluations in all", "device time of the trainings"):
        table.add_column(heading, justify="right")
    for each, seconds in zip(planned.protocols, prediction.protocols, strict=True):
        taken = "no evidence" if seconds is None else _duration(seconds.mid)
        table.add_row(each.cell, each.protocol, str(each.trainings), _count(each.gradient_evaluations), taken)
    return table


def status(
    sweep: SweepArgument = None,
    store: StoreOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 2 seconds until the sweep ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    submit: SubmitOption = None,
    insecure: InsecureOption = False,
) -> int:
    """Show how far a sweep is: trials by state, best validation score and cost of every cell."""
    from search.progress import sweep_progress

    if submit is not None:
        return _print_job_status(submit, sweep, watch=watch, as_json=as_json, insecure=insecure)
    results = open_store(store)
    screen = console()
    while True:
        progress = sweep_progress(results, results.resolve(sweep))
        if as_json:
            print(json.dumps(progress.as_dict()))
        else:
            screen.print(progress.table())
        if not watch or progress.ended:
            return 0
        time.sleep(2)


def _print_job_status(address: str, sweep: str | None, *, watch: bool, as_json: bool, insecure: bool) -> int:
    from search.cluster import jobs

    if watch:
        raise SearchError("--watch must be without --submit, where every look takes seconds: use logs --follow")
    job = jobs.find_job(address, sweep, insecure=insecure)
    if as_json:
        # What the command printed before are warnings.
        print(jobs.job_status(address, job, "--json", insecure=insecure).splitlines()[-1])
        return 0
    print(job, flush=True)
    print(jobs.job_status(address, job, insecure=insecure))
    return 0


def _count(count: "Count") -> str:
    return f"{count.low:,}" if count.exact else f"{count.low:,} to {count.high:,}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
