"""The command `export optuna`."""

from pathlib import Path
from typing import Annotated

import typer

from search.commands.options import StoreOption, SweepArgument, open_store
from search.wording import plural

app = typer.Typer(help="Copy a stored sweep into the files of other tools.", no_args_is_help=True)


@app.callback()
def _several() -> None:
    """Keeps the name of the one command, as there may be more."""


@app.command()
def optuna(
    to: Annotated[Path, typer.Option("--to", help="The SQLite file to write; it must not exist.", metavar="FILE")],
    sweep: SweepArgument = None,
    store: StoreOption = None,
) -> int:
    """Write a sweep's cells as Optuna studies, for optuna-dashboard."""
    from search.optuna_studies import export

    results = open_store(store)
    counts = export(results, results.resolve(sweep), to)
    print(f"{plural(sum(counts.values()), 'trial')} of {plural(len(counts), 'cell')} in {to}")
    print(
        f"Look at them with: optuna-dashboard sqlite:///{to} (pip install optuna-dashboard). It asks nobody for a "
        "password, so keep it on 127.0.0.1. The file is a copy: nothing that is changed in it comes back to the store."
    )
    return 0
