"""Commands that train a stored sweep's best configurations again: robustness, generalise, landscape, confirm."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from search.commands.options import (
    AddressOption,
    InsecureOption,
    Joining,
    StoreOption,
    SweepArgument,
    VerboseOption,
    console,
    open_store,
)
from search.errors import SearchError
from search.sections import ProtocolsSection
from search.spec import SweepSpec
from search.spec_errors import sentence
from search.wording import duration, plural
from trainables.protocols.config import GeneralisationConfig, LandscapeConfig, RobustnessConfig

if TYPE_CHECKING:
    from search.protocols.runner import ProtocolOutcome
    from search.store import Store

SomeSettings = TypeVar("SomeSettings", bound=BaseModel)

CellOption = Annotated[
    list[str] | None, typer.Option("--cell", help="Only this cell, as `best` names it; may be repeated.")
]
SeedsOption = Annotated[str | None, typer.Option("--seeds", help="Training seeds with commas between: 996,997.")]


def robustness(
    sweep: SweepArgument = None,
    store: StoreOption = None,
    cells: CellOption = None,
    seeds: SeedsOption = None,
    draws: Annotated[int | None, typer.Option(help="Noise draws of each corruption and level.")] = None,
    corruptions: Annotated[
        list[str] | None, typer.Option("--corruption", help="Only this corruption; may be repeated. Default: all.")
    ] = None,
    address: AddressOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Judge each cell's best configuration under corrupted features and embeddings."""
    results, name, spec = _stored(store, sweep)
    settings = _changed(
        spec.protocols.robustness or RobustnessConfig(),
        {"draws": ("--draws", draws), "corruptions": ("--corruption", corruptions or None)},
    )
    chosen = spec.protocols.model_copy(update={**_NOTHING, "robustness": settings})
    joining = Joining(address=address, insecure=insecure, verbose=verbose)
    return measure_and_print(results, name, chosen, joining, cells=cells, seeds=_seeds(seeds)).exit_code


def generalise(
    sweep: SweepArgument = None,
    store: StoreOption = None,
    cells: CellOption = None,
    seeds: SeedsOption = None,
    vary: Annotated[str | None, typer.Option(help="What the seeds change: both, split or init. Default: both.")] = None,
    address: AddressOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Train each cell's best configuration again over seeds and random splits, and compare with descent."""
    results, name, spec = _stored(store, sweep)
    settings = _changed(spec.protocols.generalisation or GeneralisationConfig(), {"vary": ("--vary", vary)})
    chosen = spec.protocols.model_copy(update={**_NOTHING, "generalisation": settings})
    joining = Joining(address=address, insecure=insecure, verbose=verbose)
    return measure_and_print(results, name, chosen, joining, cells=cells, seeds=_seeds(seeds)).exit_code


def landscape(
    sweep: SweepArgument = None,
    store: StoreOption = None,
    cells: CellOption = None,
    seeds: SeedsOption = None,
    address: AddressOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Measure the loss around each cell's best configuration once trained, and how sharp its minimum is."""
    results, name, spec = _stored(store, sweep)
    chosen = spec.protocols.model_copy(update={**_NOTHING, "landscape": spec.protocols.landscape or LandscapeConfig()})
    joining = Joining(address=address, insecure=insecure, verbose=verbose)
    return measure_and_print(results, name, chosen, joining, cells=cells, seeds=_seeds(seeds)).exit_code


def confirm(
    sweep: SweepArgument = None,
    store: StoreOption = None,
    cells: CellOption = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many fresh seeds.", min=1)] = 10,
    top: Annotated[int, typer.Option(help="Configurations of each cell, the best ones of the search.", min=1)] = 1,
    trials: Annotated[
        list[str] | None,
        typer.Option("--trial", help="This finished trial's configuration instead of the best ones; may be repeated."),
    ] = None,
    address: AddressOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Train each cell's best configuration on fresh seeds and open the test split for it, once for all."""
    from search.confirmation.runner import confirm as run
    from search.confirmation.terminal import print_confirmed
    from search.protocols.terminal import unit_line
    from search.report.confirmed import confirmed

    results = open_store(store)
    name = results.resolve(sweep)
    screen = console()
    screen.print(f"{name}: confirmation of the best configurations; this opens the test split", soft_wrap=True)
    outcome = run(
        results,
        name,
        seeds=seeds,
        cells=cells,
        top=top,
        trials=trials,
        address=address,
        insecure=insecure,
        verbose=verbose,
        on_unit=lambda end: screen.print(unit_line(end), highlight=False, markup=False, soft_wrap=True),
    )
    print_confirmed(screen, confirmed(results, name))
    _print_outcome(screen, results, outcome)
    return outcome.exit_code


_NOTHING: Mapping[str, None] = {"robustness": None, "generalisation": None, "landscape": None}


def _stored(store: str | None, sweep: str | None) -> tuple["Store", str, SweepSpec]:
    from search.history import stored_spec

    results = open_store(store)
    name = results.resolve(sweep)
    return results, name, stored_spec(results, name)


def _changed(settings: SomeSettings, options: Mapping[str, tuple[str, object]]) -> SomeSettings:
    """The settings with the values of the options that were given, checked like a sweep file's.

    Args:
        options: by field, the option's name and value; None where it was not given.
    """
    given = {field: value for field, (_, value) in options.items() if value is not None}
    raw: dict[str, Any] = {**settings.model_dump(), **given}
    try:
        return type(settings).model_validate(raw)
    except ValidationError as error:
        names = {field: option for field, (option, _) in options.items()}
        said = sentence(error, raw, type(settings), lambda key: "")
        key, _, rule = said.partition(": ")
        raise SearchError(f"{names.get(key.partition('[')[0], key)} {rule}") from None


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) < 2**32 for part in parts):
        raise SearchError(f"--seeds must be whole numbers from 0 with commas between, but got {text!r}")
    seeds = tuple(int(part) for part in parts)
    if len(set(seeds)) < len(seeds):
        raise SearchError(f"--seeds must name nothing twice, but got {text!r}")
    return seeds


def measure_and_print(
    store: "Store",
    sweep: str,
    protocols: ProtocolsSection,
    joining: Joining,
    *,
    cells: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> "ProtocolOutcome":
    """Runs the protocols with a line for every unit, then prints their main figures and how it ended."""
    from search.protocols.runner import run_protocols
    from search.protocols.terminal import print_figures, unit_line

    screen = console()
    screen.print(f"{sweep}: {' and '.join(protocols.given())} of the best configurations", soft_wrap=True)
    outcome = run_protocols(
        store,
        sweep,
        protocols,
        cells=cells,
        seeds=seeds,
        **joining,
        on_unit=lambda end: screen.print(unit_line(end), highlight=False, markup=False, soft_wrap=True),
    )
    print_figures(screen, store, sweep, tuple(protocols.given()), cells)
    _print_outcome(screen, store, outcome)
    return outcome


def _print_outcome(screen: Console, store: "Store", outcome: "ProtocolOutcome") -> None:
    counts = f"{outcome.done} measured, {outcome.stored} in the store already, {len(outcome.failed)} failed"
    screen.print(f"{outcome.sweep}: {plural(outcome.planned, 'unit')}, {counts}, in {duration(outcome.seconds)}")
    if outcome.interrupted:
        screen.print("Interrupted; what was measured is in the store, and the same command measures the rest.")
    else:
        screen.print(f"Next: recsweep report {outcome.sweep} --store {store.named}", soft_wrap=True)
