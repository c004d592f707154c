"""Options that several commands share."""

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from search.store import Store

DEFAULT_STORE = "recsweep-store"

StoreOption = Annotated[
    str | None,
    typer.Option("--store", help=f"The result store. Default: $RECSWEEP_STORE, else ./{DEFAULT_STORE}.", metavar="DIR"),
]
SweepArgument = Annotated[str | None, typer.Argument(help="Name of a sweep in the store; default: the latest one.")]


def open_store(given: str | None, *, from_spec: str | None = None, create: bool = False) -> Store:
    """The store of a command: `--store`, else the sweep file's, else $RECSWEEP_STORE, else ./recsweep-store.

    Raises:
        StoreError: it is missing, or cannot be written where it must be.
    """
    return Store(given or from_spec or os.environ.get("RECSWEEP_STORE") or DEFAULT_STORE, create=create)


def console() -> Console:
    """A console as wide as the terminal, or wide enough for tables where the output is a pipe or a file."""
    return Console() if sys.stdout.isatty() else Console(width=160)
